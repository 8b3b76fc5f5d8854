//! Sets a ring up with the best flags and features that the kernel has, found by trying them.
#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::IoUring;
use io_uring::types::Timespec;
use nohash_hasher::IntMap;

use super::datagrams::REGISTERED_MAX;
use super::provided::ProvidedBuffers;
use super::sqe::{DATAGRAM_GROUP, GROUP};
use super::{PinnedData, Uring};
use crate::buffers::{Pool, Region};
use crate::connect::ConnectAddresses;
use crate::datagram::{CONTROL_BYTES, DATAGRAM_BUFFER_BYTES, NAME_BYTES};
use crate::datagram_batch::message_header;
use crate::datagram_set::DatagramSet;
use crate::event::EngineConfig;
use crate::listener_set::ListenerSet;

/// The submission queue; when it is full, one more `enter` empties it.
const SUBMISSIONS: u32 = 512;
/// The completion queue; an overflow is handled, but ends multishot receives.
const COMPLETIONS: u32 = 4096;
/// The smallest submission queue tried, when locked memory is scarce.
const SUBMISSIONS_MIN: u32 = 64;
/// Receive buffers that the kernel gets initially.
const PROVIDED_FIRST: usize = 64;
/// Receive buffers for datagrams: the most of one turn. Few, so that they stay in the cache.
const DATAGRAM_BUFFERS: u16 = 64;
/// The smallest arena: more than a Unix socket with the smallest send buffer takes at once.
const ARENA_BYTES_MIN: usize = 64 * 1024;

/// How the kernel runs completion work, which decides io_uring's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskWork {
    /// SINGLE_ISSUER and DEFER_TASKRUN: completions run when the worker asks (6.1).
    Deferred,
    /// COOP_TASKRUN: completions run at the worker's next system call (5.19).
    Cooperative,
}

/// The features of this kernel's io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub task_work: TaskWork,
    /// IORING_SETUP_NO_SQARRAY (6.6).
    pub no_sqarray: bool,
    /// Multishot receive (6.0).
    pub multishot_recv: bool,
    /// A short send with MSG_WAITALL reports how much was sent (6.1). Only then can complete sends
    /// do without a completion.
    pub skip_success_sends: bool,
    /// Multishot receive of datagrams (6.0). Only tried for a ring with datagram sockets.
    pub multishot_recvmsg: bool,
    /// Sends with an address (6.2). Only tried for a ring with datagram sockets.
    pub send_to: bool,
    /// Entries of the submission queue.
    pub submissions: u32,
    /// Entries of the completion queue.
    pub completions: u32,
}

/// The step of the set-up that failed.
#[derive(Debug)]
pub enum SetupError {
    /// `io_uring_setup(2)`.
    Setup(io::Error),
    /// Neither task-work mode exists: the kernel is older than 5.19.
    TaskWork,
    /// Registering provided buffers (5.19).
    Buffers(io::Error),
    /// Memory, descriptors, or the first operation.
    Start(io::Error),
}

impl Uring {
    /// # Errors
    /// The step that failed.
    pub fn new(config: EngineConfig) -> Result<Uring, SetupError> {
        Uring::with(set_up(&SETUPS, SUBMISSIONS)?, config, true)
    }

    /// A minimal ring, to find the capabilities. The kernel frees its memory with a delay, and it
    /// must not be missing when the workers set up theirs.
    pub(crate) fn probe(config: EngineConfig) -> Result<Uring, SetupError> {
        Uring::with(set_up(&SETUPS, SUBMISSIONS_MIN)?, config, true)
    }

    /// Only what Linux 5.19 has, to test those paths on any later kernel.
    ///
    /// # Errors
    /// The step that failed.
    pub fn with_oldest_features(config: EngineConfig) -> Result<Uring, SetupError> {
        Uring::with(set_up(&SETUPS[SETUPS.len() - 1..], SUBMISSIONS)?, config, false)
    }

    fn with(
        (ring, task_work, no_sqarray): (IoUring, TaskWork, bool),
        config: EngineConfig,
        newer: bool,
    ) -> Result<Uring, SetupError> {
        let count = config.recv_buffers.next_power_of_two();
        let pool = Pool::new(count, config.recv_buffer_bytes).map_err(SetupError::Start)?;
        let buffers = register(&ring, GROUP, pool, PROVIDED_FIRST)?;
        let arena_bytes = config.arena_bytes.max(2 * config.send_buffer_bytes).max(ARENA_BYTES_MIN);
        let capabilities = Capabilities {
            task_work,
            no_sqarray,
            multishot_recv: false,
            skip_success_sends: false,
            multishot_recvmsg: false,
            send_to: false,
            submissions: ring.params().sq_entries(),
            completions: ring.params().cq_entries(),
        };
        let EngineConfig { limit, accepts_per_turn, waker, .. } = config;
        let listeners =
            ListenerSet::new(Arc::clone(&limit), waker.clone(), accepts_per_turn, false);
        let mut uring = Uring {
            ring: ManuallyDrop::new(ring),
            buffers: ManuallyDrop::new(buffers),
            datagram_buffers: ManuallyDrop::new(None),
            arena: Region::new(arena_bytes).map_err(SetupError::Start)?,
            arena_used: 0,
            send_buffer_bytes: config.send_buffer_bytes,
            pinned: ManuallyDrop::new(Box::new(PinnedData {
                tick: Timespec::new().sec(1),
                wake_count: 0,
                datagram_layout: datagram_layout(),
            })),
            waker,
            listeners,
            datagrams: DatagramSet::new().map_err(SetupError::Start)?,
            limit,
            closing: 0,
            sends: Vec::with_capacity(SUBMISSIONS as usize),
            owned: ManuallyDrop::new(IntMap::default()),
            connect_addresses: ConnectAddresses::default(),
            connecting: IntMap::default(),
            cqes: Vec::with_capacity(COMPLETIONS as usize / 8),
            cqes_spare: Vec::with_capacity(COMPLETIONS as usize / 8),
            dispatching: false,
            short_sends: Vec::new(),
            ready: Vec::new(),
            broken: None,
            capabilities,
        };
        if newer {
            uring.capabilities.multishot_recv =
                uring.try_multishot_recv().map_err(SetupError::Start)?;
            uring.capabilities.skip_success_sends =
                uring.try_send_skip_success().map_err(SetupError::Start)?;
        }
        uring.add(config.listeners, config.datagram_sockets).map_err(SetupError::Start)?;
        uring.arm_tick();
        uring.arm_wake();
        Ok(uring)
    }

    /// Finds out what the kernel has for datagrams, with the buffers that they are received into.
    pub(super) fn set_up_datagrams(&mut self) -> io::Result<()> {
        // Of the same age as the receive of datagrams.
        if !self.capabilities.multishot_recv {
            return Ok(());
        }
        let pool = Pool::new(DATAGRAM_BUFFERS, DATAGRAM_BUFFER_BYTES as u32)?;
        let buffers = register(&self.ring, DATAGRAM_GROUP, pool, DATAGRAM_BUFFERS.into());
        // If memory for them is refused, the sockets are polled.
        let Ok(buffers) = buffers else { return Ok(()) };
        // Likewise, replies do without registered sockets.
        let _ = self.ring.submitter().register_files_sparse(REGISTERED_MAX);
        *self.datagram_buffers = Some(buffers);
        self.try_datagrams()
    }
}

/// Makes the buffers of a pool known to the kernel.
fn register(
    ring: &IoUring,
    group: u16,
    pool: Rc<Pool>,
    target: usize,
) -> Result<ProvidedBuffers, SetupError> {
    let mut buffers = ProvidedBuffers::new(pool, target).map_err(SetupError::Start)?;
    // SAFETY: the engine drops them after the ring, or leaks them if the ring cannot be shown to be
    // idle. Until then no receive uses them.
    unsafe { buffers.register(&ring.submitter(), group) }.map_err(SetupError::Buffers)?;
    // The first receives are those of the probes.
    buffers.provide();
    Ok(buffers)
}

/// What a receive of datagrams reads: how much space a buffer has for name and control messages.
fn datagram_layout() -> libc::msghdr {
    let none = std::ptr::null_mut();
    let mut layout = message_header((none, NAME_BYTES as u32, none, CONTROL_BYTES), none.cast());
    layout.msg_iovlen = 0;
    layout
}

/// Combinations of task work and NO_SQARRAY, from the newest kernel to the oldest.
const SETUPS: [(TaskWork, bool); 3] =
    [(TaskWork::Deferred, true), (TaskWork::Deferred, false), (TaskWork::Cooperative, false)];

/// Tries the combinations in order.
fn set_up(
    ladder: &[(TaskWork, bool)],
    submissions_max: u32,
) -> Result<(IoUring, TaskWork, bool), SetupError> {
    for &(task_work, no_sqarray) in ladder {
        let mut submissions = submissions_max;
        loop {
            let mut builder = IoUring::builder();
            builder.setup_clamp().setup_submit_all();
            builder.setup_cqsize(submissions * (COMPLETIONS / SUBMISSIONS));
            match task_work {
                TaskWork::Deferred => builder.setup_single_issuer().setup_defer_taskrun(),
                TaskWork::Cooperative => builder.setup_coop_taskrun(),
            };
            if no_sqarray {
                builder.setup_no_sqarray();
            }
            match builder.build(submissions) {
                Ok(ring) => return Ok((ring, task_work, no_sqarray)),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINVAL) => break,
                    // Counted against RLIMIT_MEMLOCK: a smaller ring may fit.
                    Some(libc::ENOMEM) if submissions > SUBMISSIONS_MIN => submissions /= 2,
                    _ => return Err(SetupError::Setup(error)),
                },
            }
        }
    }
    Err(SetupError::TaskWork)
}

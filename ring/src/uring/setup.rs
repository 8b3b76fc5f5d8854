//! Sets a ring up with the best flags and features that the kernel has, found by trying them.
#![allow(unsafe_code)]

use std::io;
use std::mem::{self, ManuallyDrop};
use std::sync::Arc;

use io_uring::IoUring;
use io_uring::types::{BufRingEntry, Timespec};
use nohash_hasher::IntMap;

use super::sqe::{GROUP, recv_multishot, send_skip_success};
use super::{PinnedData, Uring};
use crate::buffers::{Pool, Region};
use crate::connect::ConnectAddresses;

use crate::event::EngineConfig;
use crate::listener_set::ListenerSet;
use crate::sys::Wait;
use crate::token::{Key, Operation, Token};

/// The submission queue; when it is full, one more `enter` empties it.
const SUBMISSIONS: u32 = 512;
/// The completion queue; an overflow is handled, but ends multishot receives.
const COMPLETIONS: u32 = 4096;
/// The smallest submission queue tried, when locked memory is scarce.
const SUBMISSIONS_MIN: u32 = 64;
/// Receive buffers that the kernel gets initially.
const PROVIDED_FIRST: usize = 64;
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
        let provided = Region::new(usize::from(count) * mem::size_of::<BufRingEntry>())
            .map_err(SetupError::Start)?;
        // SAFETY: `provided` is page aligned, `count` entries long, zeroed, and outlives the ring
        // (it is leaked if the ring cannot be shown to be idle).
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(provided.as_ptr() as u64, count, GROUP, 0)
                .map_err(SetupError::Buffers)?;
        }
        let arena_bytes = config.arena_bytes.max(2 * config.send_buffer_bytes).max(ARENA_BYTES_MIN);
        let capabilities = Capabilities {
            task_work,
            no_sqarray,
            multishot_recv: false,
            skip_success_sends: false,
            submissions: ring.params().sq_entries(),
            completions: ring.params().cq_entries(),
        };
        let EngineConfig { limit, accepts_per_turn, waker, .. } = config;
        let mut listeners =
            ListenerSet::new(Arc::clone(&limit), waker.clone(), accepts_per_turn, false);
        listeners.add(config.listeners).map_err(SetupError::Start)?;
        let mut uring = Uring {
            ring: ManuallyDrop::new(ring),
            pool: ManuallyDrop::new(pool),
            provided: ManuallyDrop::new(provided),
            provided_tail: 0,
            provided_count: 0,
            provided_target: PROVIDED_FIRST,
            arena: Region::new(arena_bytes).map_err(SetupError::Start)?,
            arena_used: 0,
            send_buffer_bytes: config.send_buffer_bytes,
            pinned: ManuallyDrop::new(Box::new(PinnedData {
                tick: Timespec::new().sec(1),
                wake_count: 0,
            })),
            waker,
            listeners,
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
        uring.provide_buffers();
        if newer {
            uring.capabilities.multishot_recv =
                uring.try_multishot_recv().map_err(SetupError::Start)?;
            uring.capabilities.skip_success_sends =
                uring.try_send_skip_success().map_err(SetupError::Start)?;
        }
        uring.arm_tick();
        uring.arm_wake();
        Ok(uring)
    }

    /// Whether the kernel has multishot receive (6.0): tried on a socket whose peer is closed; it
    /// must report the end of the stream.
    #[expect(clippy::disallowed_types, reason = "a probe of the kernel at start")]
    fn try_multishot_recv(&mut self) -> io::Result<bool> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        drop(theirs);
        let token = Token::new(Operation::Recv, Key::new(u32::MAX, 0));
        let fd = std::os::fd::AsRawFd::as_raw_fd(&ours);
        self.push(recv_multishot(fd).user_data(token.pack()));
        self.enter(Wait::UntilEvent)?;
        self.collect();
        let mut known = false;
        for (_, result, flags) in mem::take(&mut self.cqes) {
            known |= result == 0;
            // Returns the buffer, if the kernel used one.
            self.on_recv(token.key, result, flags);
        }
        self.ready.clear();
        Ok(known)
    }

    /// Whether a short send with MSG_WAITALL reports how much was sent: tried on a socket that
    /// takes less than it is given. Linux 5.19 and early 6.0 report EAGAIN instead; relying on that
    /// would send bytes twice.
    #[expect(clippy::disallowed_types, reason = "a probe of the kernel at start")]
    fn try_send_skip_success(&mut self) -> io::Result<bool> {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
        socket2::SockRef::from(&ours).set_send_buffer_size(1)?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&ours);
        let token = Token::indexed(Operation::SendArena, 0);
        let entry = send_skip_success(fd, self.arena.slice_mut(0), 0);
        self.push(entry.user_data(token.pack()));
        self.enter(Wait::No)?;
        self.collect();
        let sent = mem::take(&mut self.cqes).into_iter().find(|(bits, ..)| *bits == token.pack());
        Ok(sent.is_some_and(|(_, result, _)| result > 0))
    }
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

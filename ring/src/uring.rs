//! The io_uring engine, for Linux 5.19 and later.
//!
//! The kernel accesses memory that the compiler does not know about. This is sound because:
//! 1. Received bytes go to the pool's buffers; each is given to the kernel and taken back singly.
//! 2. [`Ring::send`] reads from the arena with MSG_DONTWAIT. Such a send is over when the `enter`
//!    that submitted it returns, and has a completion only if it was short. The arena is reused
//!    only after that `enter`, and the rest of a short send is copied out first.
//!    [`Ring::send_and_close`] is a system call of its own and keeps nothing.
//! 3. [`Ring::send_owned`] keeps its bytes in `owned` until their completion.
//! 4. The eventfd is read into `PinnedData`, which is boxed and lives as long as the ring.
//! 5. `connect_addresses` live as long as the ring; the kernel copies one when it starts a connect.
//! 6. Datagrams go to buffers of a second pool. The receive reads `PinnedData::datagram_layout`.
//! 7. A reply to a datagram is sent as in 2, and never short. Its bytes, address, control message
//!    and header are all in the arena, which is reused after the `enter` that submitted it.
//! 8. On drop, whatever the kernel may still write to is leaked, not freed.
#![allow(unsafe_code)]

mod accepting;
mod completions;
mod datagrams;
mod probes;
mod provided;
mod setup;
mod sqe;

use std::io;
use std::mem::{self, ManuallyDrop};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{EnterFlags, IoUring, opcode};
use nohash_hasher::IntMap;

use provided::ProvidedBuffers;
pub use setup::{Capabilities, SetupError, TaskWork};
use sqe::{
    POLL_FIRST, WaitLimit, cancel_poll, discard_unread, recv_multishot, recv_once, send_reported,
    send_skip_success,
};

use crate::buffers::{OwnedSend, Pool, Region};
use crate::connect::{ConnectAddresses, new_socket};
use crate::datagram::{Datagram, DatagramIndex};
use crate::datagram_set::DatagramSet;
use crate::event::{Connect, Event, ListenerIndex, RecvMode, Ring, Socket, Unsent, close_sockets};
use crate::limit::ConnectionLimit;
use crate::listener_set::ListenerSet;
use crate::sys::{self, Wait};
use crate::token::{Key, Operation, Token};
use crate::waker::Waker;

/// Memory that the kernel accesses for as long as the ring lives.
struct PinnedData {
    tick: Timespec,
    wake_count: u64,
    /// Bytes of the name and of the control messages in a buffer for a datagram.
    datagram_layout: libc::msghdr,
}

/// A send from the arena that the coming `enter` submits.
struct ArenaSend {
    key: Key,
    from: usize,
    len: usize,
}

/// The io_uring engine. Must be built on the thread that uses it.
pub struct Uring {
    ring: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<ProvidedBuffers>,
    /// With datagram sockets only.
    datagram_buffers: ManuallyDrop<Option<ProvidedBuffers>>,
    arena: Region,
    arena_used: usize,
    send_buffer_bytes: usize,
    pinned: ManuallyDrop<Box<PinnedData>>,
    waker: Waker,
    listeners: ListenerSet,
    datagrams: DatagramSet,
    limit: Arc<ConnectionLimit>,
    /// Connections that the coming `enter` closes; their places are released after it.
    closing: usize,
    sends: Vec<ArenaSend>,
    owned: ManuallyDrop<IntMap<Key, (i32, OwnedSend)>>,
    connect_addresses: ConnectAddresses,
    connecting: IntMap<Key, i32>,
    /// Collected completions: user data, result, flags.
    cqes: Vec<(u64, i32, u32)>,
    cqes_spare: Vec<(u64, i32, u32)>,
    /// Completions are being dispatched: a nested flush only collects.
    dispatching: bool,
    /// Short sends. They are delivered first: if received bytes came before them, the caller would
    /// send a new reply ahead of the rest of the last one.
    short_sends: Vec<Event>,
    ready: Vec<Event>,
    /// An `enter` outside of a turn has failed: the next turn returns the error.
    broken: Option<io::Error>,
    capabilities: Capabilities,
}

impl Uring {
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The receive buffers, for tests that account for them.
    pub fn pool(&self) -> &Rc<Pool> {
        self.buffers.pool()
    }

    fn has_events(&self) -> bool {
        !self.short_sends.is_empty() || !self.ready.is_empty()
    }

    /// Queues one entry, after a flush if the queue is full.
    fn push(&mut self, entry: Entry) {
        loop {
            // SAFETY: every entry pushed here points only to memory listed at the head of this
            // file, which outlives the operation as explained there.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.flush(Wait::No);
            if self.broken.is_some() {
                // The queue may stay full forever; the coming turn returns the error.
                return;
            }
        }
    }

    /// Submits what is queued and collects completions, waiting for one as `wait` says.
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let limit = match wait {
            Wait::AtMost(wait) => Some(Timespec::from(wait)),
            Wait::No | Wait::UntilEvent => None,
        };
        let mut want = u32::from(wait != Wait::No);
        loop {
            let queued = {
                let queue = self.ring.submission();
                if queue.cq_overflow() {
                    want = 0;
                }
                queue.len() as u32
            };
            let flags = EnterFlags::GETEVENTS;
            let submitter = self.ring.submitter();
            let result = match &limit {
                // SAFETY: no argument is passed; flags and counts are plain.
                None => unsafe {
                    submitter.enter::<libc::sigset_t>(queued, want, flags.bits(), None)
                },
                Some(limit) => {
                    let limit = WaitLimit::new(limit);
                    let flags = (flags | EnterFlags::EXT_ARG).bits();
                    // SAFETY: the flag says what the argument is; it and the time that it
                    // points to are live and only read during the call.
                    unsafe { submitter.enter(queued, want, flags, Some(&limit)) }
                }
            };
            match result {
                // Not all were taken: without SUBMIT_ALL, or for lack of memory. Try again.
                Ok(taken) if (taken as u32) < queued => want = 0,
                Ok(_) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // The wait timed out; what was queued has been submitted before it.
                    Some(libc::ETIME) => return Ok(()),
                    // The completion queue must be emptied before more can be submitted.
                    Some(libc::EBUSY | libc::EAGAIN) => {
                        self.collect();
                        want = 0;
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// Moves completions out of the ring before any is dispatched.
    fn collect(&mut self) {
        for completion in self.ring.completion() {
            self.cqes.push((completion.user_data(), completion.result(), completion.flags()));
        }
    }

    fn turn_waiting(&mut self, events: &mut Vec<Event>, wait: Wait) -> io::Result<()> {
        self.listeners.begin_turn();
        loop {
            // Closed by this iteration's end: the replies to their last datagrams leave before.
            let closing_datagrams = self.datagrams.take_closing();
            self.arm_datagrams();
            // Other engines may wait for the places of connections that this `enter` closes.
            let awaited = self.closing > 0 && self.limit.is_nearly_reached();
            let waiting = self.listeners.has_readable() || self.datagrams.has_work();
            let quiet = !self.has_events() && !waiting && closing_datagrams.is_empty();
            let sleep = quiet && !awaited && self.broken.is_none();
            if sleep {
                // Released slightly before the close: harmless when far from the limit.
                self.limit.release(mem::take(&mut self.closing));
            }
            self.flush(if sleep { wait } else { Wait::No });
            self.arena_used = 0;
            self.unregister_datagrams(&closing_datagrams);
            self.datagrams.close(closing_datagrams, &mut self.ready);
            self.receive_datagrams_polled();
            self.accept_some();
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            let waited = sleep && wait != Wait::UntilEvent;
            if self.has_events() || waited || wait == Wait::No {
                break;
            }
        }
        events.append(&mut self.short_sends);
        events.append(&mut self.ready);
        Ok(())
    }

    /// One `enter` and the dispatch of its completions: when this returns, all sends from the arena
    /// are over.
    fn flush(&mut self, wait: Wait) {
        // Buffers that were dropped since: this `enter` may find bytes for them.
        self.buffers.provide();
        if let Some(buffers) = &mut *self.datagram_buffers {
            buffers.set_target(self.datagrams.per_turn(buffers.pool().count().into()));
            buffers.provide();
        }
        match self.enter(wait) {
            Ok(()) => self.limit.release(mem::take(&mut self.closing)),
            Err(error) => {
                self.broken.get_or_insert(error);
            }
        }
        self.collect();
        while self.ring.submission().cq_overflow() && self.broken.is_none() {
            if let Err(error) = self.enter(Wait::No) {
                self.broken.get_or_insert(error);
            }
            self.collect();
        }
        if self.dispatching {
            // A flush during dispatch, because the queue was full: its completions are dispatched
            // after the present ones, so that those of a connection stay in order.
            return;
        }
        self.dispatching = true;
        self.finish_arena_sends();
        while !self.cqes.is_empty() {
            let mut batch = mem::replace(&mut self.cqes, mem::take(&mut self.cqes_spare));
            for (user_data, result, flags) in batch.drain(..) {
                self.on_completion(user_data, result, flags);
            }
            self.cqes_spare = batch;
        }
        self.dispatching = false;
    }

    /// Copies out the rests of short arena sends.
    fn finish_arena_sends(&mut self) {
        if self.sends.is_empty() {
            return;
        }
        for at in 0..self.cqes.len() {
            let (user_data, result, _) = self.cqes[at];
            if let Some(Token { operation: Operation::SendArena, key }) = Token::unpack(user_data) {
                self.on_arena_send(key.slot() as usize, result);
            }
        }
        self.sends.clear();
    }

    fn push_owned(&mut self, key: Key) {
        let Some((fd, send)) = self.owned.get(&key) else { return };
        let rest = send.rest();
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        // Without MSG_WAITALL: then the completion reports how much was sent.
        let entry = opcode::Send::new(Fd(*fd), rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(Token::new(Operation::SendOwned, key).pack());
        self.push(entry);
    }

    /// Drops bytes that have arrived since the last receive, which would turn the coming close into
    /// a RST. Mostly there are none, and the completion is EAGAIN.
    fn push_discard(&mut self, fd: i32) {
        let entry = discard_unread(fd).user_data(Token::indexed(Operation::Close, 0).pack());
        self.push(entry);
    }

    fn push_close(&mut self, fd: i32) {
        self.closing += 1;
        let entry = opcode::Close::new(Fd(fd))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Token::indexed(Operation::Close, 0).pack());
        self.push(entry);
    }

    fn queue_arena_send(&mut self, key: Key, fd: i32, len: usize) {
        debug_assert!(len <= self.send_buffer_bytes && !self.owned.contains_key(&key));
        // A flush between the submission and its record in `sends` would drop the record: make room
        // first.
        if self.ring.submission().is_full() {
            self.flush(Wait::No);
        }
        let from = self.arena_used;
        let index = self.sends.len() as u32;
        let bytes = &self.arena.slice_mut(from)[..len];
        let entry = if self.capabilities.skip_success_sends {
            send_skip_success(fd, bytes)
        } else {
            send_reported(fd, bytes)
        };
        let token = Token::indexed(Operation::SendArena, index);
        self.sends.push(ArenaSend { key, from, len });
        self.push(entry.user_data(token.pack()));
        self.arena_used += len;
    }

    fn arm_tick(&mut self) {
        let entry = opcode::Timeout::new(&raw const self.pinned.tick)
            .build()
            .user_data(Token::indexed(Operation::Tick, 0).pack());
        self.push(entry);
    }

    fn arm_wake(&mut self) {
        let into = (&raw mut self.pinned.wake_count).cast::<u8>();
        let entry = opcode::Read::new(Fd(self.waker.raw()), into, 8)
            .build()
            .user_data(Token::indexed(Operation::Wake, 0).pack());
        self.push(entry);
    }
}

impl Ring for Uring {
    fn accept(&mut self, listener: ListenerIndex) {
        if self.listeners.arm(listener) {
            self.watch_listener(listener);
        }
    }

    fn finish_accepting(&mut self, listener: ListenerIndex) {
        self.listeners.finish(listener);
        if self.listeners.get(listener).watched {
            // While the kernel polls the socket, closing the descriptor would not close it.
            self.push(cancel_poll(listener));
        } else {
            self.listeners.on_readable(listener);
        }
    }

    fn recv(&mut self, key: Key, socket: &Socket, mode: RecvMode) {
        let entry = match mode {
            RecvMode::Multishot if self.capabilities.multishot_recv => recv_multishot(socket.raw()),
            RecvMode::Multishot | RecvMode::Once => {
                recv_once(socket.raw(), POLL_FIRST, self.pool().size())
            }
            RecvMode::Immediate => recv_once(socket.raw(), 0, self.pool().size()),
        };
        self.push(entry.user_data(Token::new(Operation::Recv, key).pack()));
    }

    fn cancel_recv(&mut self, key: Key) {
        let target = Token::new(Operation::Recv, key).pack();
        let entry = opcode::AsyncCancel::new(target)
            .build()
            .user_data(Token::new(Operation::CancelRecv, key).pack());
        self.push(entry);
    }

    fn send_buffer(&mut self) -> &mut [u8] {
        if self.arena.len() - self.arena_used < self.send_buffer_bytes {
            // All sends queued so far are over after this, so the whole arena is free.
            self.flush(Wait::No);
            self.arena_used = 0;
        }
        &mut self.arena.slice_mut(self.arena_used)[..self.send_buffer_bytes]
    }

    fn send(&mut self, key: Key, socket: &Socket, len: usize) {
        self.queue_arena_send(key, socket.raw(), len);
    }

    fn send_and_close(&mut self, socket: Socket, len: usize) -> Result<(), Unsent> {
        // By a system call of its own: whether all was sent is known at once, and no turn has to
        // come between the send and the close.
        let bytes = &self.arena.slice_mut(self.arena_used)[..len];
        match sys::send_now(socket.raw(), bytes, true) {
            None => {
                self.push_discard(socket.raw());
                self.push_close(socket.raw());
                Ok(())
            }
            Some(rest) => Err(Unsent { socket, rest }),
        }
    }

    fn send_owned(&mut self, key: Key, socket: &Socket, bytes: Box<[u8]>) {
        let before = self.owned.insert(key, (socket.raw(), OwnedSend::new(bytes)));
        debug_assert!(before.is_none(), "two owned sends of one connection");
        self.push_owned(key);
    }

    fn set_rcvlowat(&mut self, socket: &Socket, bytes: u32) {
        sys::set_rcvlowat(socket.raw(), bytes);
    }

    fn unsent_bytes(&self, key: Key, socket: &Socket) -> usize {
        let owned = self.owned.get(&key).map_or(0, |(_, send)| send.rest().len());
        owned + sys::unsent_bytes(socket.raw())
    }

    fn unread_bytes(&self, socket: &Socket) -> usize {
        sys::unread_bytes(socket.raw())
    }

    fn shutdown(&mut self, socket: &Socket, how: Shutdown) {
        sys::shutdown(socket.raw(), how);
    }

    fn close(&mut self, socket: Socket) {
        self.push_close(socket.raw());
    }

    fn reset(&mut self, socket: Socket) {
        sys::set_linger_zero(socket.raw());
        self.push_close(socket.raw());
    }

    fn receive_datagrams(&mut self, socket: DatagramIndex) {
        // The coming turn arms it.
        self.datagrams.start(socket);
    }

    fn finish_datagrams(&mut self, socket: DatagramIndex) {
        self.finish_receiving(socket);
    }

    fn datagram_buffer(&mut self) -> &mut [u8] {
        self.reply_buffer()
    }

    fn send_datagram(&mut self, to: &Datagram, len: usize) {
        self.queue_reply(to, len);
    }

    fn turn(&mut self, events: &mut Vec<Event>, wait: bool) -> io::Result<()> {
        self.turn_waiting(events, wait.into())
    }
}

impl Connect for Uring {
    fn connect(&mut self, key: Key, from: Option<IpAddr>, to: SocketAddr) {
        let fd = match new_socket(from, to, false) {
            Ok(fd) => fd,
            Err(errno) => return self.ready.push(Event::Connected { key, result: Err(errno) }),
        };
        let before = self.connecting.insert(key, fd);
        debug_assert!(before.is_none(), "one connection is asked for twice");
        let target = self.connect_addresses.get_or_add(to);
        let entry = opcode::Connect::new(Fd(fd), target.as_ptr().cast(), target.len())
            .build()
            .user_data(Token::new(Operation::Connect, key).pack());
        self.push(entry);
    }

    fn cancel_connect(&mut self, key: Key) {
        let target = Token::new(Operation::Connect, key).pack();
        let entry = opcode::AsyncCancel::new(target)
            .build()
            .user_data(Token::new(Operation::CancelConnect, key).pack());
        self.push(entry);
    }

    fn turn_within(&mut self, events: &mut Vec<Event>, wait: Duration) -> io::Result<()> {
        self.turn_waiting(events, Wait::AtMost(wait))
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // First submit what is queued, above all closes; after the cancellation nothing may be
        // submitted. Then cancel everything and collect once. What the kernel still holds is
        // leaked, because the teardown of a ring goes on after its descriptor is closed.
        self.flush(Wait::No);
        self.flush(Wait::No);
        let cancelled = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        // The registered sockets: else they stay open until the ring is torn down.
        let _ = self.ring.submitter().unregister_files();
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument is passed; nothing is submitted.
        let reaped = unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, flags, None) };
        self.collect();
        for (user_data, result, flags) in mem::take(&mut self.cqes) {
            self.on_completion(user_data, result, flags);
        }
        close_sockets(&mut self.short_sends);
        close_sockets(&mut self.ready);
        self.connecting.drain().for_each(|(_, fd)| sys::close(fd));
        let idle = cancelled.is_ok()
            && reaped.is_ok()
            && self.broken.is_none()
            && self.owned.is_empty()
            && !self.ring.submission().cq_overflow();
        // SAFETY: each field is dropped at most once, here, and not used afterwards; the ring's
        // descriptor goes first, then the memory that the kernel was given.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            if idle {
                ManuallyDrop::drop(&mut self.pinned);
                ManuallyDrop::drop(&mut self.owned);
                ManuallyDrop::drop(&mut self.buffers);
                ManuallyDrop::drop(&mut self.datagram_buffers);
            }
        }
    }
}

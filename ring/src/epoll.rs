//! The epoll engine: for kernels before 5.19, and where io_uring is not available.
//!
//! It implements the same trait by readiness instead of completion. An armed receive is a note in
//! the slot's state; it is tried at once for a connection that was just accepted (its bytes have
//! arrived, see [`crate::Listener`]) and whenever the edge-triggered epoll reports the socket. A
//! connection that is answered and closed at once never enters the epoll set.

mod datagrams;

use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::CreateFlags;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::buffers::{OwnedSend, Pool};
use crate::connect::new_socket;
use crate::datagram::{Datagram, DatagramIndex};
use crate::datagram_batch::SendBatch;
use crate::datagram_set::DatagramSet;
use crate::event::{
    AcceptEnd, Connect, EngineConfig, Event, ListenerIndex, RecvEnd, RecvMode, Ring, Socket,
    Unsent, close_sockets,
};
use crate::limit::ConnectionLimit;
use crate::listener_set::{AcceptState, ListenerSet, WatchChange};
use crate::sys::{self, Wait};
use crate::token::{Key, Operation, Token};
use crate::waker::Waker;

/// The most readiness reports taken in one `epoll_wait`.
const REPORTS: usize = 512;

const BOTH_EDGES: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
const IN: u32 = libc::EPOLLIN as u32;
const CONNECTED: u32 = (libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP) as u32;
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
const ENDS: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// The state of the connection in a slot.
#[derive(Default)]
struct EpollSlot {
    generation: u32,
    fd: i32,
    /// Whether `fd` is in the epoll set.
    watched: bool,
    armed: Option<RecvMode>,
    /// Whether a read may find bytes or the end: set by an edge, cleared by a short read.
    readable: bool,
    /// Whether the end was reported, perhaps by the same edge as bytes.
    ended: bool,
    owned: Option<OwnedSend>,
    /// The connection is being established, and the engine owns `fd`.
    connecting: bool,
}

pub struct Epoll {
    epoll: OwnedFd,
    timer: File,
    waker: Waker,
    pool: Rc<Pool>,
    reply: Box<[u8]>,
    listeners: ListenerSet,
    datagrams: DatagramSet,
    datagram_replies: SendBatch,
    limit: Arc<ConnectionLimit>,
    slots: Vec<EpollSlot>,
    /// Armed receives to try in the coming turn.
    tries: Vec<Key>,
    reports: Vec<libc::epoll_event>,
    ready: Vec<Event>,
}

impl Epoll {
    /// # Errors
    /// No descriptor or memory is left.
    pub fn new(config: EngineConfig) -> io::Result<Epoll> {
        let epoll = rustix::event::epoll::create(CreateFlags::CLOEXEC)?;
        let timer = second_timer()?;
        let watch = |fd: i32, operation: Operation| {
            let token = Token::indexed(operation, 0).pack();
            sys::epoll_control(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, IN, token)
        };
        watch(timer.as_raw_fd(), Operation::Tick)?;
        watch(config.waker.raw(), Operation::Wake)?;
        let EngineConfig { limit, accepts_per_turn, waker, .. } = config;
        let mut listeners =
            ListenerSet::new(Arc::clone(&limit), waker.clone(), accepts_per_turn, true);
        listeners.add(config.listeners)?;
        let mut datagrams = DatagramSet::new()?;
        datagrams.add(config.datagram_sockets, false);
        Ok(Epoll {
            timer: File::from(timer),
            waker,
            pool: Pool::new(config.recv_buffers, config.recv_buffer_bytes)?,
            reply: vec![0; config.send_buffer_bytes].into_boxed_slice(),
            listeners,
            datagrams,
            datagram_replies: SendBatch::new(),
            limit,
            slots: Vec::new(),
            tries: Vec::new(),
            reports: vec![libc::epoll_event { events: 0, u64: 0 }; REPORTS],
            ready: Vec::new(),
            epoll,
        })
    }

    /// The receive buffers, for tests that account for them.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// The state of a connection's slot, reset if it belonged to an earlier connection.
    fn slot(&mut self, key: Key, socket: &Socket) -> &mut EpollSlot {
        let at = key.slot() as usize;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, EpollSlot::default);
        }
        let slot = &mut self.slots[at];
        if slot.generation != key.generation() || slot.fd != socket.raw() {
            debug_assert!(slot.owned.is_none(), "a slot was reused before its send ended");
            *slot = EpollSlot {
                generation: key.generation(),
                fd: socket.raw(),
                readable: true,
                ..EpollSlot::default()
            };
        }
        slot
    }

    /// The state for `key`, unless the slot belongs to another connection now.
    fn known(&mut self, key: Key) -> Option<&mut EpollSlot> {
        let slot = self.slots.get_mut(key.slot() as usize)?;
        (slot.generation == key.generation()).then_some(slot)
    }

    /// Adds a connection to the epoll set once; the first report has its present state.
    fn watch(&mut self, key: Key) {
        let epoll = self.epoll.as_raw_fd();
        let Some(slot) = self.known(key) else { return };
        if slot.watched {
            return;
        }
        slot.watched = true;
        let token = Token::new(Operation::Recv, key).pack();
        let fd = slot.fd;
        if let Err(errno) = sys::epoll_control(epoll, libc::EPOLL_CTL_ADD, fd, BOTH_EDGES, token) {
            // The kernel has no memory for the watch: the connection cannot be served.
            slot.watched = false;
            let (armed, owned) = (slot.armed.take(), slot.owned.take());
            let connecting = mem::take(&mut slot.connecting);
            if connecting {
                sys::close(fd);
                self.ready.push(Event::Connected { key, result: Err(errno) });
            }
            if armed.is_some() {
                self.ready.push(Event::RecvEnded { key, end: RecvEnd::Error(errno) });
            }
            if owned.is_some() {
                self.ready.push(Event::Sent { key, result: Err(errno) });
            }
        }
    }

    /// One read for an armed receive.
    fn try_recv(&mut self, key: Key) {
        let pool = Rc::clone(&self.pool);
        let Some(slot) = self.known(key) else { return };
        let Some(mode) = slot.armed else { return };
        let Some(mut buffer) = pool.take() else {
            slot.armed = None;
            self.ready.push(Event::RecvEnded { key, end: RecvEnd::NoBuffers });
            return;
        };
        let end = match sys::recv(slot.fd, &mut buffer) {
            Ok(0) => RecvEnd::Eof,
            Ok(len) => {
                buffer.truncate(len);
                // A short read has emptied the socket, and new bytes make a new edge. An end that
                // was reported together with these bytes makes none.
                slot.readable = buffer.is_full() || slot.ended || !slot.watched;
                let more = mode == RecvMode::Multishot;
                if !more {
                    slot.armed = None;
                }
                if more && slot.readable && slot.watched {
                    self.tries.push(key);
                }
                self.ready.push(Event::Received { key, buffer, more });
                if more {
                    self.watch(key);
                }
                return;
            }
            Err(Errno::INTR) => return self.tries.push(key),
            Err(Errno::AGAIN) => {
                slot.readable = false;
                return self.watch(key);
            }
            Err(errno) => RecvEnd::Error(errno),
        };
        slot.armed = None;
        self.ready.push(Event::RecvEnded { key, end });
    }

    /// Continues an owned send.
    fn try_send(&mut self, key: Key) {
        let Some(slot) = self.known(key) else { return };
        let Some(send) = &mut slot.owned else { return };
        let result = loop {
            match sys::send(slot.fd, send.rest(), false) {
                Ok(sent) if send.advance(sent) => break Ok(()),
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return self.watch(key),
                Err(errno) => break Err(errno),
            }
        };
        slot.owned = None;
        self.ready.push(Event::Sent { key, result });
    }

    /// The socket of a pending connect is ready, or not yet.
    fn on_connect_ready(&mut self, key: Key, events: u32) {
        let Some(slot) = self.known(key).filter(|_| events & CONNECTED != 0) else { return };
        slot.connecting = false;
        slot.readable = events & IN != 0;
        slot.ended = events & ENDS != 0;
        let socket = Socket::from_raw(slot.fd);
        let result = match sys::take_error(socket.raw()) {
            Ok(()) if self.limit.acquire() => Ok(socket),
            result => {
                sys::close(socket.raw());
                Err(result.err().unwrap_or(Errno::MFILE))
            }
        };
        self.ready.push(Event::Connected { key, result });
    }

    /// Accepts from readable listeners as far as the bound of this turn allows.
    fn accept_some(&mut self) {
        while let Some((index, then)) = self.listeners.accept_next(&mut self.ready) {
            if then == WatchChange::Unwatch {
                self.unwatch_listener(index);
            }
        }
    }

    fn unwatch_listener(&mut self, index: ListenerIndex) {
        let epoll = self.epoll.as_raw_fd();
        let entry = self.listeners.get(index);
        if let Some(listener) = entry.listener.as_ref().filter(|_| mem::take(&mut entry.watched)) {
            let _ = sys::epoll_control(epoll, libc::EPOLL_CTL_DEL, listener.raw(), 0, 0);
        }
    }

    /// Closes a connection and releases its place.
    fn close_counted(&mut self, fd: i32) {
        sys::close(fd);
        self.limit.release(1);
    }

    fn turn_waiting(&mut self, events: &mut Vec<Event>, wait: Wait) -> io::Result<()> {
        self.listeners.begin_turn();
        loop {
            self.send_replies();
            for key in mem::take(&mut self.tries) {
                self.try_recv(key);
            }
            let quiet = self.ready.is_empty() && self.tries.is_empty();
            let waiting = self.listeners.has_readable() || self.datagrams.has_work();
            let sleep = quiet && !waiting;
            let bound = if sleep { wait } else { Wait::No };
            let mut reports = mem::take(&mut self.reports);
            let count = match sys::epoll_wait(self.epoll.as_raw_fd(), &mut reports, bound) {
                Ok(count) => count,
                Err(Errno::INTR) => 0,
                Err(errno) => return Err(errno.into()),
            };
            for report in &reports[..count] {
                let (events, token) = (report.events, report.u64);
                self.on_report(events, token);
            }
            self.reports = reports;
            self.receive_datagrams_readable();
            self.accept_some();
            if !self.ready.is_empty() || bound == wait && wait != Wait::UntilEvent {
                break;
            }
        }
        events.append(&mut self.ready);
        Ok(())
    }

    fn on_report(&mut self, events: u32, token: u64) {
        let Some(token) = Token::unpack(token) else { return };
        match token.operation {
            Operation::Tick => {
                let _ = self.timer.read(&mut [0; 8]);
                self.ready.push(Event::Tick);
                self.datagrams.on_tick();
                self.watch_datagrams();
            }
            Operation::Wake => {
                self.waker.clear();
                self.ready.push(Event::Wake);
            }
            Operation::Accept => {
                self.datagrams.on_connection();
                self.listeners.on_readable(token.key.slot() as ListenerIndex);
            }
            Operation::PollDatagrams => {
                self.datagrams.on_readable(token.key.slot() as DatagramIndex);
            }
            _ => {
                self.datagrams.on_connection();
                let Some(slot) = self.known(token.key) else { return };
                if slot.connecting {
                    return self.on_connect_ready(token.key, events);
                }
                let sending = slot.owned.is_some();
                let unreadable = events & !(libc::EPOLLOUT as u32) == 0;
                if !unreadable {
                    slot.readable = true;
                    slot.ended |= events & ENDS != 0;
                }
                if sending {
                    self.try_send(token.key);
                }
                if !unreadable {
                    self.try_recv(token.key);
                }
            }
        }
    }
}

impl Ring for Epoll {
    fn accept(&mut self, listener: ListenerIndex) {
        if !self.listeners.arm(listener) {
            return;
        }
        let epoll = self.epoll.as_raw_fd();
        let entry = self.listeners.get(listener);
        let Some(socket) = &entry.listener else { return };
        let token = Token::indexed(Operation::Accept, listener.into()).pack();
        // EPOLLEXCLUSIVE: a connection wakes one of the listeners that share the socket, not all.
        let events = if socket.is_shared() { IN | EXCLUSIVE } else { IN };
        match sys::epoll_control(epoll, libc::EPOLL_CTL_ADD, socket.raw(), events, token) {
            Ok(()) => entry.watched = true,
            Err(errno) => {
                entry.accepting = AcceptState::Idle;
                let cause = AcceptEnd::from_errno(errno);
                self.ready.push(Event::AcceptEnded { listener, cause });
            }
        }
    }

    fn finish_accepting(&mut self, listener: ListenerIndex) {
        self.unwatch_listener(listener);
        self.listeners.finish(listener);
        self.listeners.on_readable(listener);
    }

    fn recv(&mut self, key: Key, socket: &Socket, mode: RecvMode) {
        let slot = self.slot(key, socket);
        debug_assert!(slot.armed.is_none(), "two receives of one connection");
        slot.armed = Some(mode);
        if slot.watched || mode == RecvMode::Immediate {
            if slot.readable {
                self.tries.push(key);
            }
        } else {
            // If bytes have arrived already, the first report comes at once.
            slot.readable = false;
            self.watch(key);
        }
    }

    fn cancel_recv(&mut self, key: Key) {
        let Some(slot) = self.known(key) else { return };
        if slot.armed.take().is_some() {
            self.ready.push(Event::RecvEnded { key, end: RecvEnd::Cancelled });
        }
    }

    fn send_buffer(&mut self) -> &mut [u8] {
        &mut self.reply
    }

    fn send(&mut self, key: Key, socket: &Socket, len: usize) {
        if let Some(rest) = sys::send_now(socket.raw(), &self.reply[..len], false) {
            self.ready.push(Event::SendIncomplete { key, rest });
        }
    }

    fn send_and_close(&mut self, socket: Socket, len: usize) -> Result<(), Unsent> {
        match sys::send_now(socket.raw(), &self.reply[..len], true) {
            None => {
                // The response leaves together with the FIN. Without this, bytes that arrive
                // between the next two calls would drop it.
                sys::shutdown(socket.raw(), Shutdown::Write);
                sys::discard_unread(socket.raw());
                self.close(socket);
                Ok(())
            }
            Some(rest) => Err(Unsent { socket, rest }),
        }
    }

    fn send_owned(&mut self, key: Key, socket: &Socket, bytes: Box<[u8]>) {
        let slot = self.slot(key, socket);
        debug_assert!(slot.owned.is_none(), "two owned sends of one connection");
        slot.owned = Some(OwnedSend::new(bytes));
        self.try_send(key);
    }

    fn set_rcvlowat(&mut self, socket: &Socket, bytes: u32) {
        sys::set_rcvlowat(socket.raw(), bytes);
    }

    fn unsent_bytes(&self, key: Key, socket: &Socket) -> usize {
        let slot = self.slots.get(key.slot() as usize);
        let slot = slot.filter(|slot| slot.generation == key.generation());
        let owned = slot.and_then(|slot| slot.owned.as_ref());
        owned.map_or(0, |send| send.rest().len()) + sys::unsent_bytes(socket.raw())
    }

    fn unread_bytes(&self, socket: &Socket) -> usize {
        sys::unread_bytes(socket.raw())
    }

    fn shutdown(&mut self, socket: &Socket, how: Shutdown) {
        sys::shutdown(socket.raw(), how);
    }

    fn close(&mut self, socket: Socket) {
        self.close_counted(socket.raw());
    }

    fn reset(&mut self, socket: Socket) {
        sys::set_linger_zero(socket.raw());
        self.close_counted(socket.raw());
    }

    fn receive_datagrams(&mut self, socket: DatagramIndex) {
        self.datagrams.start(socket);
        self.watch_datagrams();
    }

    fn finish_datagrams(&mut self, socket: DatagramIndex) {
        self.unwatch_datagrams(socket);
    }

    fn datagram_buffer(&mut self) -> &mut [u8] {
        self.datagram_replies.buffer(&mut self.ready)
    }

    fn send_datagram(&mut self, to: &Datagram, len: usize) {
        self.collect_reply(to, len);
    }

    fn turn(&mut self, events: &mut Vec<Event>, wait: bool) -> io::Result<()> {
        self.turn_waiting(events, wait.into())
    }
}

impl Connect for Epoll {
    fn connect(&mut self, key: Key, from: Option<IpAddr>, to: SocketAddr) {
        let begun = new_socket(from, to, true).and_then(|fd| match sys::connect(fd, to) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Socket::from_raw(fd)),
            Err(errno) => {
                sys::close(fd);
                Err(errno)
            }
        });
        match begun {
            Ok(socket) => {
                self.slot(key, &socket).connecting = true;
                self.watch(key);
            }
            Err(errno) => self.ready.push(Event::Connected { key, result: Err(errno) }),
        }
    }

    fn cancel_connect(&mut self, key: Key) {
        let Some(slot) = self.known(key).filter(|slot| slot.connecting) else { return };
        slot.connecting = false;
        sys::close(slot.fd);
        self.ready.push(Event::Connected { key, result: Err(Errno::CANCELED) });
    }

    fn turn_within(&mut self, events: &mut Vec<Event>, wait: Duration) -> io::Result<()> {
        self.turn_waiting(events, Wait::AtMost(wait))
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        self.datagram_replies.send(&mut self.ready);
        close_sockets(&mut self.ready);
        let connecting = self.slots.iter().filter(|slot| slot.connecting);
        connecting.for_each(|slot| sys::close(slot.fd));
    }
}

/// A timer that becomes readable every second.
fn second_timer() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    let times = Itimerspec { it_interval: second, it_value: second };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    Ok(timer)
}

//! What a ring can be asked, and what it answers: the vocabulary shared by the engines.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::buffers::RecvBuf;
use crate::limit::ConnectionLimit;
use crate::listener::Listener;
use crate::sys;
use crate::token::Key;
use crate::waker::Waker;

/// A connected socket's descriptor. It has no `Drop`: the only ways to end it are
/// [`Ring::close`], [`Ring::reset`] and [`Ring::send_and_close`], which take it by value.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a socket that is not closed leaks its descriptor"]
pub struct Socket(i32);

impl Socket {
    /// Wraps a descriptor that nothing else owns.
    pub fn from_raw(fd: i32) -> Socket {
        Socket(fd)
    }

    /// The descriptor, still owned by `self`.
    pub fn raw(&self) -> i32 {
        self.0
    }

    /// Our own address on this connection.
    ///
    /// # Errors
    /// The connection is gone, or has no IP address.
    pub fn local_address(&self) -> Result<SocketAddr, Errno> {
        sys::local_address(self.0)
    }
}

/// Index of a listening socket, in the order in which they were given to the engine.
pub type ListenerIndex = u16;

/// When the next bytes of a connection are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvMode {
    /// Probably there already (a connection that was just accepted): one receive, tried
    /// at once. It always ends with its first event.
    Immediate,
    /// Some time later, and no more after them: one receive that ends with its first event.
    Once,
    /// Some time later (a connection kept alive): a receive that may deliver many events
    /// and stays armed until one comes with `more == false`.
    Multishot,
}

/// Why a receive ended without bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvEnd {
    /// The peer closed its side.
    Eof,
    /// Every receive buffer is checked out; the bytes wait in the socket. Ask again.
    NoBuffers,
    /// [`Ring::cancel_recv`] took effect.
    Cancelled,
    /// The socket failed with this errno.
    Error(Errno),
}

/// Why a listener no longer accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptEnd {
    /// As many connections are open as may be ([`crate::ConnectionLimit`]), and some wait in the
    /// kernel's queue. [`Event::Wake`] comes when one is closed, of this engine or another: ask
    /// again then.
    LimitReached {
        /// Connections that wait.
        waiting: u32,
    },
    /// [`Ring::finish_accepting`] took effect: the listener is closed.
    Finished,
    /// No descriptor or memory is left (EMFILE, ENFILE, ENOBUFS, ENOMEM): ask again once
    /// one is free. The connection waits in the kernel's queue.
    Exhausted(Errno),
    /// Any other errno.
    Error(Errno),
}

impl AcceptEnd {
    /// What an errno of accepting means.
    pub(crate) fn from_errno(errno: Errno) -> AcceptEnd {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                AcceptEnd::Exhausted(errno)
            }
            errno => AcceptEnd::Error(errno),
        }
    }
}

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted. The listener accepts on until [`Event::AcceptEnded`].
    Accepted {
        /// The listener it arrived on.
        listener: ListenerIndex,
        /// The connection.
        socket: Socket,
        /// The other side's address; a Unix socket has none.
        peer: Option<SocketAddr>,
    },
    /// The listener no longer accepts.
    AcceptEnded {
        /// The listener.
        listener: ListenerIndex,
        /// Why.
        cause: AcceptEnd,
    },
    /// Bytes arrived (at least one).
    Received {
        /// The connection, as named when the receive was queued.
        key: Key,
        /// The bytes.
        buffer: RecvBuf,
        /// Whether the receive is still armed.
        more: bool,
    },
    /// A receive ended without bytes; it is no longer armed.
    RecvEnded {
        /// The connection, as named when the receive was queued.
        key: Key,
        /// Why.
        end: RecvEnd,
    },
    /// A [`Ring::send`] or [`Ring::send_and_close`] did not go out whole.
    SendIncomplete {
        /// The connection, as named when the send was queued.
        key: Key,
        /// The bytes that are still to be sent ([`Ring::send_owned`]), or the errno of a
        /// socket that takes no more.
        rest: Result<Box<[u8]>, Errno>,
        /// The socket, returned unclosed, if it had been given to `send_and_close`.
        socket: Option<Socket>,
    },
    /// A [`Ring::send_owned`] ended: all bytes are out, or the socket failed with this
    /// errno.
    Sent {
        /// The connection, as named when the send was queued.
        key: Key,
        /// How it ended.
        result: Result<(), Errno>,
    },
    /// A [`Connect::connect`] ended: the connection, or the errno of why there is none
    /// (ECANCELED after [`Connect::cancel_connect`]).
    Connected {
        /// The connection, as named when it was asked for.
        key: Key,
        /// How it ended.
        result: Result<Socket, Errno>,
    },
    /// One second has passed, about.
    Tick,
    /// Some thread called [`crate::Waker::wake`].
    Wake,
}

/// Closes the sockets of events that nobody will see.
pub(crate) fn close_sockets(events: &mut Vec<Event>) {
    for event in events.drain(..) {
        match event {
            Event::Accepted { socket, .. }
            | Event::SendIncomplete { socket: Some(socket), .. }
            | Event::Connected { result: Ok(socket), .. } => sys::close(socket.raw()),
            _ => {}
        }
    }
}

/// What an engine is built from.
#[derive(Debug)]
pub struct EngineConfig {
    /// The listening sockets; [`ListenerIndex`] counts them from 0.
    pub listeners: Vec<Listener>,
    /// What [`Event::Wake`] is reported for.
    pub waker: Waker,
    /// Connections that this engine and all others with the same limit may hold together.
    pub limit: Arc<ConnectionLimit>,
    /// Connections that are accepted in one turn at most, from all listeners together.
    pub accepts_per_turn: usize,
    /// Bytes that [`Ring::send_buffer`] offers at least.
    pub send_buffer_bytes: usize,
    /// Bytes of the arena that replies are sent from; at least twice `send_buffer_bytes` is taken.
    pub arena_bytes: usize,
    /// Receive buffers, rounded up to a power of two; at most 32768.
    pub recv_buffers: u16,
    /// Bytes of one receive buffer.
    pub recv_buffer_bytes: u32,
}

/// An engine: queues operations, submits them once a turn, harvests what completed.
///
/// All operations are asynchronous and none fails by itself: whatever goes wrong arrives
/// as an [`Event`].
pub trait Ring {
    /// Starts (or starts again, after [`Event::AcceptEnded`]) to accept on a listener: a bounded
    /// number of connections a turn, and none beyond the limit that the engine was built with.
    fn accept(&mut self, listener: ListenerIndex);

    /// Stops accepting for good: what is queued in the kernel at this moment is accepted and
    /// delivered, as far as the limit of connections allows, then the listener is closed. Ends
    /// with [`AcceptEnd::Finished`].
    fn finish_accepting(&mut self, listener: ListenerIndex);

    /// Receives. At most one receive of a connection may be armed.
    fn recv(&mut self, key: Key, socket: &Socket, mode: RecvMode);

    /// Ends an armed receive. It may still deliver events before its last one.
    fn cancel_recv(&mut self, key: Key);

    /// Space for the next reply, at least as long as the engine was built for. Its
    /// content does not survive the `send` that follows or the turn.
    fn send_buffer(&mut self) -> &mut [u8];

    /// Sends the first `len` bytes of [`Ring::send_buffer`]. Nothing is heard of it if
    /// they go out whole; otherwise one [`Event::SendIncomplete`] at the end of this turn.
    fn send(&mut self, key: Key, socket: &Socket, len: usize);

    /// The same, for the last bytes of a connection: the FIN goes with them. No receive may be
    /// armed; what has arrived meanwhile is dropped, lest the FIN becomes a RST. If they do not go
    /// out whole, the socket comes back, unclosed, with [`Event::SendIncomplete`]; otherwise
    /// nothing is heard of it again.
    fn send_and_close(&mut self, key: Key, socket: Socket, len: usize);

    /// Sends bytes that may wait for the peer to read. Ends with [`Event::Sent`].
    fn send_owned(&mut self, key: Key, socket: &Socket, bytes: Box<[u8]>);

    /// Has receives that are queued from now on wait until so many bytes have arrived, at
    /// once, or the end (SO_RCVLOWAT, socket(7)). It is a hint: [`RecvMode::Immediate`] does not wait,
    /// and bytes that are there already count. 1 is what sockets begin with.
    fn set_rcvlowat(&mut self, socket: &Socket, bytes: u32);

    /// Bytes of this connection that its client has not taken: what a [`Ring::send_owned`] holds,
    /// and what the kernel has sent without an acknowledgement, or not yet (SIOCOUTQ, tcp(7)). A
    /// FIN on its way counts as one byte. Of a socket that has failed, there are none.
    fn unsent_bytes(&self, key: Key, socket: &Socket) -> usize;

    /// Bytes of the client's that wait to be received (SIOCINQ, tcp(7)).
    fn unread_bytes(&self, socket: &Socket) -> usize;

    /// Shuts a connection down, at once: what was queued for sending in this turn must
    /// have been submitted by an earlier turn.
    fn shutdown(&mut self, socket: &Socket, how: Shutdown);

    /// Closes. Nothing may be armed on the socket.
    fn close(&mut self, socket: Socket);

    /// Closes with RST, for timeouts and abuse. Nothing may be armed on the socket.
    fn reset(&mut self, socket: Socket);

    /// Submits what was queued, waits for at least one event if `wait`, and appends what
    /// happened to `events`. New connections come last: who is connected does not wait for them.
    ///
    /// Of any one connection, [`Event::SendIncomplete`] comes before [`Event::Received`]: who
    /// has seen no short send by then may send again.
    ///
    /// # Errors
    /// Only when the engine itself has broken (completions lost, the ring refused): the
    /// caller cannot go on.
    fn turn(&mut self, events: &mut Vec<Event>, wait: bool) -> io::Result<()>;
}

/// What an engine does for those who connect to others, besides.
pub trait Connect: Ring {
    /// Connects to `to`, from the address `from` if one is given and else from the one that
    /// the kernel chooses. Ends with [`Event::Connected`]. An engine remembers each `to` for
    /// its life: there should be few.
    fn connect(&mut self, key: Key, from: Option<IpAddr>, to: SocketAddr);

    /// Gives up connecting. Ends with [`Event::Connected`], which may yet be a connection.
    fn cancel_connect(&mut self, key: Key);

    /// The same as [`Ring::turn`], but waits no longer than `wait`: nothing may have happened
    /// by then. It may wait less.
    ///
    /// # Errors
    /// As for [`Ring::turn`].
    fn turn_within(&mut self, events: &mut Vec<Event>, wait: Duration) -> io::Result<()>;
}

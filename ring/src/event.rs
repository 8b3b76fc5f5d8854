//! The interface of the engines: what can be asked of a ring, and the events it reports.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::buffers::RecvBuf;
use crate::datagram::{Datagram, DatagramIndex};
use crate::datagram_socket::DatagramSocket;
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
    /// Nothing else may own the descriptor.
    pub fn from_raw(fd: i32) -> Socket {
        Socket(fd)
    }

    /// The descriptor, still owned by `self`.
    pub fn raw(&self) -> i32 {
        self.0
    }

    /// The local address of this connection.
    ///
    /// # Errors
    /// The connection is gone, or has no IP address.
    pub fn local_address(&self) -> Result<SocketAddr, Errno> {
        sys::local_address(self.0)
    }
}

/// Index of a listening socket, in the order in which the engine got them.
pub type ListenerIndex = u16;

/// When the next bytes of a connection are expected; chooses the cheapest kind of receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvMode {
    /// Probably now (a connection that was just accepted): one receive, tried at once. It ends with
    /// its first event.
    Immediate,
    /// Later, and only once: one receive that ends with its first event.
    Once,
    /// Later and repeatedly (keep-alive): a receive that may deliver many events and stays armed
    /// until one has `more == false`.
    Multishot,
}

/// Why a receive ended without bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvEnd {
    /// The peer closed its side.
    Eof,
    /// Every receive buffer is in use; the bytes stay in the socket. Receive again.
    NoBuffers,
    /// [`Ring::cancel_recv`] took effect.
    Cancelled,
    Error(Errno),
}

/// Why a listener stopped accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptEnd {
    /// The limit of open connections ([`crate::ConnectionLimit`]) is reached, and connections wait
    /// in the kernel's queue. [`Event::Wake`] comes when one is closed, by this engine or another:
    /// accept again then.
    LimitReached {
        /// The length of the kernel's queue.
        waiting: u32,
    },
    /// [`Ring::finish_accepting`] took effect: the listener is closed.
    Finished,
    /// No descriptor or memory is left (EMFILE, ENFILE, ENOBUFS, ENOMEM). The connection stays in
    /// the kernel's queue: accept again once something is freed.
    Exhausted(Errno),
    /// Any other error.
    Error(Errno),
}

impl AcceptEnd {
    /// The meaning of an error of `accept`.
    pub(crate) fn from_errno(errno: Errno) -> AcceptEnd {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                AcceptEnd::Exhausted(errno)
            }
            errno => AcceptEnd::Error(errno),
        }
    }
}

/// The bytes still to be sent ([`Ring::send_owned`]), or why the socket takes no more.
pub type UnsentRest = Result<Box<[u8]>, Errno>;

/// A [`Ring::send_and_close`] that did not send everything. The socket is still open.
#[derive(Debug)]
pub struct Unsent {
    pub socket: Socket,
    pub rest: UnsentRest,
}

/// One thing that happened. A `key` is the one given when the operation was queued.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted. The listener goes on until [`Event::AcceptEnded`].
    Accepted {
        listener: ListenerIndex,
        socket: Socket,
        /// The client's address; `None` on a Unix socket.
        peer: Option<SocketAddr>,
    },
    /// The listener accepts no more.
    AcceptEnded { listener: ListenerIndex, cause: AcceptEnd },
    /// At least one byte arrived.
    Received {
        key: Key,
        buffer: RecvBuf,
        /// Whether the receive is still armed.
        more: bool,
    },
    /// A receive ended without bytes; it is no longer armed.
    RecvEnded { key: Key, end: RecvEnd },
    /// A [`Ring::send`] did not send everything.
    SendIncomplete { key: Key, rest: UnsentRest },
    /// A [`Ring::send_owned`] ended: everything was sent, or the socket failed.
    Sent { key: Key, result: Result<(), Errno> },
    /// A [`Connect::connect`] ended; after [`Connect::cancel_connect`] with ECANCELED.
    Connected { key: Key, result: Result<Socket, Errno> },
    /// A datagram arrived. The socket goes on receiving.
    Datagram(Datagram),
    /// A [`Ring::send_datagram`] failed: the reply is lost.
    DatagramUnsent { socket: DatagramIndex, errno: Errno },
    /// [`Ring::finish_datagrams`] took effect: the socket is closed.
    DatagramsFinished { socket: DatagramIndex },
    /// About one second has passed since the last tick.
    Tick,
    /// A thread called [`crate::Waker::wake`].
    Wake,
}

/// Closes the sockets in events that will not be delivered.
pub(crate) fn close_sockets(events: &mut Vec<Event>) {
    for event in events.drain(..) {
        match event {
            Event::Accepted { socket, .. } | Event::Connected { result: Ok(socket), .. } => {
                sys::close(socket.raw())
            }
            _ => {}
        }
    }
}

/// What an engine is built from.
#[derive(Debug)]
pub struct EngineConfig {
    /// The listening sockets; [`ListenerIndex`] counts them from 0.
    pub listeners: Vec<Listener>,
    /// The sockets for datagrams; [`DatagramIndex`] counts them from 0.
    pub datagram_sockets: Vec<DatagramSocket>,
    /// Wakes this engine: see [`Event::Wake`].
    pub waker: Waker,
    /// The limit of open connections, shared with other engines.
    pub limit: Arc<ConnectionLimit>,
    /// The most connections accepted in one turn, from all listeners together.
    pub accepts_per_turn: usize,
    /// The least length of [`Ring::send_buffer`].
    pub send_buffer_bytes: usize,
    /// The size of the arena that send buffers are cut from; at least twice `send_buffer_bytes`.
    pub arena_bytes: usize,
    /// The number of receive buffers, rounded up to a power of two; at most 32768.
    pub recv_buffers: u16,
    /// The size of one receive buffer.
    pub recv_buffer_bytes: u32,
}

/// An engine: it queues operations, submits them once a turn, and collects their completions.
///
/// No operation fails at once: every failure arrives as an [`Event`].
pub trait Ring {
    /// Starts to accept on a listener, also after [`Event::AcceptEnded`]: a bounded number of
    /// connections a turn, and none beyond [`EngineConfig::limit`].
    fn accept(&mut self, listener: ListenerIndex);

    /// Stops accepting for good: the connections in the kernel's queue at this moment are accepted,
    /// as far as the limit allows, then the listener is closed. Ends with [`AcceptEnd::Finished`].
    fn finish_accepting(&mut self, listener: ListenerIndex);

    /// Receives. At most one receive of a connection may be armed at a time.
    fn recv(&mut self, key: Key, socket: &Socket, mode: RecvMode);

    /// Cancels an armed receive. It may still deliver events before its last one.
    fn cancel_recv(&mut self, key: Key);

    /// Space for the next reply, at least [`EngineConfig::send_buffer_bytes`] long. Its content is
    /// lost with the next `send` or turn.
    fn send_buffer(&mut self) -> &mut [u8];

    /// Sends the first `len` bytes of [`Ring::send_buffer`]. If all of them are sent there is no
    /// event; otherwise one [`Event::SendIncomplete`] at the end of this turn.
    fn send(&mut self, key: Key, socket: &Socket, len: usize);

    /// The same for the last bytes of a connection, which are sent at once. No receive may be
    /// armed, and no [`Ring::send`] of this turn may be ahead of them. The coming turn closes the
    /// socket, and the FIN goes with the bytes. Unread bytes are dropped before it, because closing
    /// would otherwise send RST.
    ///
    /// # Errors
    /// The bytes are not all sent.
    fn send_and_close(&mut self, socket: Socket, len: usize) -> Result<(), Unsent>;

    /// Sends bytes, waiting for the client to read them. Ends with [`Event::Sent`].
    fn send_owned(&mut self, key: Key, socket: &Socket, bytes: Box<[u8]>);

    /// Makes receives that are queued from now on wait for so many bytes or the end of the stream
    /// (SO_RCVLOWAT, socket(7); initially 1). A hint: [`RecvMode::Immediate`] does not wait, and
    /// bytes that have arrived count.
    fn set_rcvlowat(&mut self, socket: &Socket, bytes: u32);

    /// Bytes that the client has not acknowledged: those that a [`Ring::send_owned`] holds, and
    /// those in the kernel's send queue (SIOCOUTQ, tcp(7)), where a FIN counts as one. 0 for a
    /// socket that has failed.
    fn unsent_bytes(&self, key: Key, socket: &Socket) -> usize;

    /// Received bytes that wait in the kernel (SIOCINQ, tcp(7)).
    fn unread_bytes(&self, socket: &Socket) -> usize;

    /// Shuts the connection down at once. What was queued for sending must have been submitted by
    /// an earlier turn. An armed receive and an owned send end with their usual events.
    fn shutdown(&mut self, socket: &Socket, how: Shutdown);

    /// Closes. Nothing may be armed on the socket.
    fn close(&mut self, socket: Socket);

    /// Closes with RST: for timeouts and abuse. Nothing may be armed on the socket.
    fn reset(&mut self, socket: Socket);

    /// Starts to receive datagrams on a socket, which goes on until [`Ring::finish_datagrams`]. A
    /// turn delivers a bounded number of them.
    fn receive_datagrams(&mut self, socket: DatagramIndex);

    /// Stops receiving for good: the datagrams in the kernel's queue at this moment are delivered,
    /// then the socket is closed. Ends with [`Event::DatagramsFinished`]. Replies can be sent until
    /// then.
    fn finish_datagrams(&mut self, socket: DatagramIndex);

    /// Space for the next reply to a datagram, [`REPLY_BYTES_MAX`](crate::REPLY_BYTES_MAX) long.
    /// Its content is lost with the next `send`, `send_datagram` or turn.
    fn datagram_buffer(&mut self) -> &mut [u8];

    /// Sends the first `len` bytes of [`Ring::datagram_buffer`] to the sender of a datagram, from
    /// the address that it was sent to, at the latest with the next turn. If that fails there is
    /// one [`Event::DatagramUnsent`].
    fn send_datagram(&mut self, to: &Datagram, len: usize);

    /// Submits what was queued, waits for at least one event if `wait`, and appends the events. New
    /// connections come last, so that established ones do not wait for them.
    ///
    /// For each connection, [`Event::SendIncomplete`] comes before [`Event::Received`]: when bytes
    /// arrive without one, the previous send was complete and the next may be queued.
    ///
    /// # Errors
    /// The engine itself has failed (completions lost, the ring refused): it cannot be used
    /// further.
    fn turn(&mut self, events: &mut Vec<Event>, wait: bool) -> io::Result<()>;
}

/// The client side of an engine, which the load tester needs.
pub trait Connect: Ring {
    /// Connects to `to`, from the address `from` or else from one that the kernel chooses. Ends
    /// with [`Event::Connected`]. An engine keeps every `to` for its lifetime: there should be few.
    fn connect(&mut self, key: Key, from: Option<IpAddr>, to: SocketAddr);

    /// Cancels a connect. It ends with [`Event::Connected`], which may still be a success.
    fn cancel_connect(&mut self, key: Key);

    /// [`Ring::turn`], but waits at most `wait`, perhaps less, and may return without an event.
    ///
    /// # Errors
    /// As for [`Ring::turn`].
    fn turn_within(&mut self, events: &mut Vec<Event>, wait: Duration) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::Event;

    /// Events of connections are moved about by the hundred: those of datagrams make none larger.
    #[test]
    fn an_event_is_small() {
        assert!(size_of::<Event>() <= 40, "{}", size_of::<Event>());
    }
}

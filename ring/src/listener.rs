//! Listening sockets, with the options that make short connections cheap.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys;

/// Connections that may wait to be accepted, per worker: as many as the kernel can be told to
/// let wait, so that `net.core.somaxconn` decides (4096 by default since Linux 5.4).
pub(crate) const BACKLOG: i32 = 65_535;

/// How long the kernel holds a connection back until its first bytes are there. HTTP
/// clients speak first, so an accepted connection can be read at once, and one that never
/// speaks costs a request socket instead of a connection.
const DEFER_ACCEPT: Duration = Duration::from_secs(5);

/// A listening socket: one of a group of ours that shares an address with SO_REUSEPORT, or one
/// of several over the same socket, or somebody else's that is lent to us.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    queue: QueueOwner,
}

/// Whose the queue is that a listener accepts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueOwner {
    /// This listener's alone: it ends with it.
    Own,
    /// That of several listeners of this process: it ends with the last of them.
    Shared,
    /// Of somebody who goes on to listen when we do not; lent to one listener.
    Inherited,
    /// The same, lent to several: each accepts from it.
    InheritedShared,
}

impl Listener {
    /// Binds `count` listeners to one address, so that the kernel spreads connections over
    /// them, and tells the address (its port is new if `address` had port 0).
    ///
    /// SO_REUSEPORT would let a second program of the same user join the group unnoticed
    /// and take half of all connections; a trial bind without it finds such a program.
    ///
    /// # Errors
    /// Whatever socket, bind or listen fail with; `AddrInUse` if anyone listens there.
    pub fn bind_group(
        address: SocketAddr,
        count: usize,
    ) -> io::Result<(SocketAddr, Vec<Listener>)> {
        let trial = unbound(address)?;
        trial.bind(&SockAddr::from(address))?;
        let bound = trial.local_addr()?.as_socket().unwrap_or(address);
        let listeners: io::Result<Vec<Listener>> =
            (0..count).map(|_| Listener::bind_shared(bound)).collect();
        // Kept until now, so that a port the kernel chose is not chosen for another's trial
        // in between. It does not listen, so it is in nobody's way.
        drop(trial);
        Ok((bound, listeners?))
    }

    fn bind_shared(address: SocketAddr) -> io::Result<Listener> {
        let socket = unbound(address)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(address))?;
        defer_accept(&socket);
        socket.listen(BACKLOG)?;
        save_acknowledgement(&socket);
        Ok(Listener { fd: OwnedFd::from(socket), queue: QueueOwner::Own })
    }

    /// A listener over a socket that listens already and was passed to this process; `shared` if
    /// other listeners of this process are over the same one. It is never drained: what waits in
    /// its queue is served by whichever process listens there next.
    ///
    /// # Errors
    /// When the descriptor is no socket.
    pub fn inherited(socket: OwnedFd, shared: bool) -> io::Result<Listener> {
        let socket = Socket::from(socket);
        let is_unix = socket.domain()? == Domain::UNIX;
        if !is_unix {
            socket.set_tcp_nodelay(true)?;
        }
        // A mark of the queue, not of the descriptor: left by an engine, it would have a listener
        // that is to block report "nothing there" instead.
        socket.set_nonblocking(false)?;
        if !is_unix {
            defer_accept(&socket);
            save_acknowledgement(&socket);
        }
        let queue = if shared { QueueOwner::InheritedShared } else { QueueOwner::Inherited };
        Ok(Listener { fd: OwnedFd::from(socket), queue })
    }

    /// Listens on a bound Unix socket with `count` listeners, which share it: there is no
    /// SO_REUSEPORT among Unix sockets.
    pub fn listen_unix(socket: OwnedFd, count: usize) -> io::Result<Vec<Listener>> {
        let socket = Socket::from(socket);
        socket.listen(BACKLOG)?;
        let queue = if count > 1 { QueueOwner::Shared } else { QueueOwner::Own };
        let clones = (0..count).map(|_| Ok(Listener { fd: socket.try_clone()?.into(), queue }));
        clones.collect()
    }

    /// Whether others, of this process or of one before it, may wait at the same queue.
    pub(crate) fn shares_queue(&self) -> bool {
        self.queue != QueueOwner::Own
    }

    /// Whether the queue is somebody else's, who goes on to listen there.
    pub(crate) fn is_inherited(&self) -> bool {
        matches!(self.queue, QueueOwner::Inherited | QueueOwner::InheritedShared)
    }

    /// Whether other listeners of this process accept from the same queue.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.queue, QueueOwner::Shared | QueueOwner::InheritedShared)
    }

    /// The socket, for who does without an engine. It blocks.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, true)?)
    }

    pub(crate) fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Connections that wait to be accepted; if the kernel does not say, `otherwise`.
    pub(crate) fn waiting(&self, otherwise: u32) -> u32 {
        sys::connections_waiting(self.raw()).unwrap_or(otherwise)
    }
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Old connections in TIME_WAIT must not keep a restarted tracker from its port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] are two listeners here, so that each client's family is plain.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

// Both options below only save packets, and accepted sockets inherit them: a kernel that knows
// them not serves all the same.

fn defer_accept(socket: &Socket) {
    let seconds = DEFER_ACCEPT.as_secs() as i32;
    let fd = socket.as_raw_fd();
    let _ = sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds);
}

/// Has the request acknowledged by the answer. After listen, which resets it.
fn save_acknowledgement(socket: &Socket) {
    let _ = sys::set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0);
}

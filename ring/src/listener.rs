//! Where to listen, and listening sockets with the options that make short connections cheap.

use std::fmt;
use std::io;
use std::net::{AddrParseError, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys;

/// The queue of connections to accept: as long as the kernel allows, so that `net.core.somaxconn`
/// decides (4096 by default since Linux 5.4).
pub(crate) const BACKLOG: i32 = 65_535;

/// How long the kernel holds a connection back until its first bytes arrive (TCP_DEFER_ACCEPT). A
/// client of HTTP or TLS sends first, so an accepted connection can be read at once, and a client
/// that sends nothing costs a request socket instead of a connection.
const DEFER_ACCEPT: Duration = Duration::from_secs(5);

/// A listening socket: one of a SO_REUSEPORT group on one address, one of several descriptors of
/// the same socket, or an inherited one.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    queue: QueueOwner,
}

/// Who shares the queue that a listener accepts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueOwner {
    /// Only this listener: the queue ends with it.
    Own,
    /// Several listeners of this process: the queue ends with the last of them.
    Shared,
    /// Another process, which keeps listening after this one.
    Inherited,
    /// Another process, and several listeners of this one.
    InheritedShared,
}

impl Listener {
    /// Binds `count` listeners to one address, among which the kernel distributes connections.
    /// Returns them with the address, whose port the kernel has chosen if it was 0.
    ///
    /// With SO_REUSEPORT a second program of the same user could join the group unnoticed and take
    /// half of the connections. A trial bind without it detects such a program.
    ///
    /// # Errors
    /// Those of socket, bind and listen; `AddrInUse` if any program listens there.
    pub fn bind_group(
        address: SocketAddr,
        count: usize,
    ) -> io::Result<(SocketAddr, Vec<Listener>)> {
        let trial = unbound(address)?;
        trial.bind(&SockAddr::from(address))?;
        let bound = trial.local_addr()?.as_socket().unwrap_or(address);
        let listeners: io::Result<Vec<Listener>> =
            (0..count).map(|_| Listener::bind_shared(bound)).collect();
        // Kept until now, so that nobody else gets the port that the kernel chose. It does not
        // listen, so it takes no connections.
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

    /// A listener over an inherited listening socket; `shared` if this process has several over the
    /// same one. It is never drained: the next process to listen there accepts what is queued.
    ///
    /// # Errors
    /// The descriptor is not a socket.
    pub fn inherited(socket: OwnedFd, shared: bool) -> io::Result<Listener> {
        let socket = Socket::from(socket);
        let is_unix = socket.domain()? == Domain::UNIX;
        if !is_unix {
            socket.set_tcp_nodelay(true)?;
        }
        // The flag belongs to the socket, not to the descriptor: an earlier process may have left
        // it set, and a listener without an engine must block.
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

    /// Whether other listeners, of this process or another, accept from the same queue.
    pub(crate) fn shares_queue(&self) -> bool {
        self.queue != QueueOwner::Own
    }

    /// Whether another process keeps the queue when this one stops listening.
    pub(crate) fn is_inherited(&self) -> bool {
        matches!(self.queue, QueueOwner::Inherited | QueueOwner::InheritedShared)
    }

    /// Whether other listeners of this process accept from the same queue.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.queue, QueueOwner::Shared | QueueOwner::InheritedShared)
    }

    /// The socket, which blocks, for use without an engine.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, true)?)
    }

    pub(crate) fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The length of the queue of connections; `otherwise` if the kernel does not report it.
    pub(crate) fn waiting(&self, otherwise: u32) -> u32 {
        sys::connections_waiting(self.raw()).unwrap_or(otherwise)
    }
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Old connections in TIME_WAIT must not keep the port from a restarted tracker.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] are separate listeners, so IPv6 sockets have no IPv4-mapped clients.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

// Accepted sockets inherit both options below. They only save packets, so failures are ignored.

fn defer_accept(socket: &Socket) {
    let seconds = DEFER_ACCEPT.as_secs() as i32;
    let fd = socket.as_raw_fd();
    let _ = sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds);
}

/// Delays the acknowledgement of a request until its response. `listen` resets it: to be set after.
fn save_acknowledgement(socket: &Socket) {
    let _ = sys::set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0);
}

/// The prefix of a Unix socket's path.
const UNIX: &str = "unix:";

/// An address to accept connections on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl ListenAddress {
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }

    pub fn is_unix(&self) -> bool {
        matches!(self, ListenAddress::Unix(_))
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> ListenAddress {
        ListenAddress::Tcp(address)
    }
}

impl FromStr for ListenAddress {
    type Err = AddrParseError;

    /// Parses an IP address with a port, or `unix:` and any path.
    fn from_str(text: &str) -> Result<ListenAddress, AddrParseError> {
        match text.strip_prefix(UNIX) {
            Some(path) => Ok(ListenAddress::Unix(PathBuf::from(path))),
            None => text.parse().map(ListenAddress::Tcp),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

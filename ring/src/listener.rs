//! Listening sockets, with the options that make short connections cheap.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::event::{self, Event, ListenerIndex};
use crate::sys;

/// Connections that may wait to be accepted, per worker: as many as the kernel can be told to
/// let wait, so that `net.core.somaxconn` decides (4096 by default since Linux 5.4).
const BACKLOG: i32 = 65_535;

/// How long the kernel holds a connection back until its first bytes are there. HTTP
/// clients speak first, so an accepted connection can be read at once, and one that never
/// speaks costs a request socket instead of a connection.
const DEFER_ACCEPT: Duration = Duration::from_secs(5);

/// A listening TCP socket, one of a group that shares an address with SO_REUSEPORT.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
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
        let seconds = DEFER_ACCEPT.as_secs() as i32;
        // Both options below only save packets, and accepted sockets inherit them: a kernel
        // that knows them not serves all the same.
        let fd = socket.as_raw_fd();
        let _ = sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds);
        socket.listen(BACKLOG)?;
        // After listen, which resets it: the request is then acknowledged by the answer.
        let _ = sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0);
        Ok(Listener { fd: OwnedFd::from(socket) })
    }

    pub(crate) fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    pub(crate) fn into_raw(self) -> i32 {
        self.fd.into_raw_fd()
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

/// Accepts all that a listener has queued, then closes it.
pub(crate) fn drain(
    listener: Listener,
    index: ListenerIndex,
    nonblocking: bool,
    ready: &mut Vec<Event>,
) {
    let fd = listener.into_raw();
    let _ = sys::set_nonblocking(fd);
    loop {
        match sys::accept(fd, nonblocking) {
            Ok((socket, Some(peer))) => {
                let socket = event::Socket::from_raw(socket);
                ready.push(Event::Accepted { listener: index, socket, peer });
            }
            Ok((socket, None)) => sys::close(socket),
            Err(libc::ECONNABORTED | libc::EINTR) => {}
            Err(_) => break,
        }
    }
    sys::close(fd);
}

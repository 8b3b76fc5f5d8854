//! Sockets for datagrams, bound and ready for an engine.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys;

/// Bytes of received datagrams that a socket is to hold: some 10,000 requests, whose bookkeeping
/// counts 832 bytes each.
pub const DATAGRAM_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// A bound UDP socket.
#[derive(Debug)]
pub struct DatagramSocket {
    fd: OwnedFd,
    address: SocketAddr,
    is_inherited: bool,
}

impl DatagramSocket {
    /// Binds `count` sockets to one address, among which the kernel spreads the clients by their
    /// addresses (SO_REUSEPORT). Port 0 leaves the choice to the kernel.
    ///
    /// # Errors
    /// The address cannot be bound, or another program has it.
    pub fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<DatagramSocket>> {
        // Without SO_REUSEPORT, so that it fails if another program has the address.
        let trial = unbound(address)?;
        trial.bind(&SockAddr::from(address))?;
        let bound = trial.local_addr()?.as_socket().unwrap_or(address);
        drop(trial);
        (0..count).map(|_| DatagramSocket::bind_shared(bound)).collect()
    }

    fn bind_shared(address: SocketAddr) -> io::Result<DatagramSocket> {
        let socket = unbound(address)?;
        socket.set_reuse_port(true)?;
        // Before the bind: a datagram that arrives in between would lack it.
        ask_for_addresses(&socket, address)?;
        send_whole(&socket, address)?;
        grow_queue(&socket);
        socket.bind(&SockAddr::from(address))?;
        Ok(DatagramSocket { fd: socket.into(), address, is_inherited: false })
    }

    /// Over a bound socket that was inherited. Its queue stays with the process that passed it.
    ///
    /// # Errors
    /// The descriptor is not an IP socket.
    pub fn inherited(socket: OwnedFd) -> io::Result<DatagramSocket> {
        let socket = Socket::from(socket);
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or(io::ErrorKind::Unsupported)?;
        ask_for_addresses(&socket, address)?;
        send_whole(&socket, address)?;
        ignore_errors(&socket, address)?;
        grow_queue(&socket);
        Ok(DatagramSocket { fd: socket.into(), address, is_inherited: true })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of received datagrams that it holds (SO_RCVBUF, socket(7)), as they were asked for:
    /// half of what the kernel says, which doubles it for its bookkeeping.
    ///
    /// # Errors
    /// None on Linux.
    pub fn queue_bytes(&self) -> io::Result<usize> {
        Ok(socket2::SockRef::from(&self.fd).recv_buffer_size()? / 2)
    }

    /// Whether replies must name the address that they leave from.
    pub(crate) fn is_wildcard(&self) -> bool {
        is_wildcard(self.address)
    }

    /// Whether another process keeps the queue when this one stops receiving.
    pub(crate) fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    pub(crate) fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `0.0.0.0`, also as an IPv6 socket has it, or `[::]`.
fn is_wildcard(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_unspecified()
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] are separate sockets, so IPv6 sockets have no IPv4-mapped clients.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A socket that is bound to all addresses must answer from the one that was asked: a connected
/// client receives nothing from another one.
fn ask_for_addresses(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if !is_wildcard(address) {
        return Ok(());
    }
    let (level, option) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    Ok(sys::set_option(socket.as_raw_fd(), level, option, 1)?)
}

/// No router may fragment a reply by IPv4, as none does by IPv6: a reply is lost with any of its
/// fragments, and who forges one forges the peers in it. What routers say of smaller packets is not
/// believed, since they do not sign it (IP_PMTUDISC_PROBE, ip(7)). The kernel then saves the
/// identification that fragments would need.
fn send_whole(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.ip().to_canonical().is_ipv6() {
        return Ok(());
    }
    let (level, option) = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
    Ok(sys::set_option(socket.as_raw_fd(), level, option, libc::IP_PMTUDISC_PROBE)?)
}

/// Nobody reads the queue of errors that other hosts report (IP_RECVERR, ip(7)), and while there
/// are any the socket would be ready all the time.
fn ignore_errors(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    if address.is_ipv6() {
        sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 0)?;
    }
    Ok(sys::set_option(fd, libc::IPPROTO_IP, libc::IP_RECVERR, 0)?)
}

/// Asks for [`DATAGRAM_QUEUE_BYTES`]: beyond net.core.rmem_max with CAP_NET_ADMIN only. The caller
/// compares [`DatagramSocket::queue_bytes`].
pub(crate) fn grow_queue(socket: &Socket) {
    // A service manager may have given a socket more than this process may: it would be taken away.
    if socket.recv_buffer_size().is_ok_and(|bytes| bytes / 2 >= DATAGRAM_QUEUE_BYTES) {
        return;
    }
    let bytes = DATAGRAM_QUEUE_BYTES as i32;
    let fd = socket.as_raw_fd();
    if sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_err() {
        let _ = sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes);
    }
}

//! System calls on sockets. A descriptor is passed as a number because the engine's caller owns it;
//! a wrong number yields an errno, never undefined behaviour.
#![allow(unsafe_code)]

use std::mem::{self, MaybeUninit};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::time::Duration;

use crate::datagram_socket::DATAGRAM_QUEUE_BYTES;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, sockopt};

/// How long a call may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    AtMost(Duration),
    UntilEvent,
}

impl From<bool> for Wait {
    fn from(wait: bool) -> Wait {
        if wait { Wait::UntilEvent } else { Wait::No }
    }
}

/// The descriptor for the length of one call.
fn borrow<'a>(fd: i32) -> Result<BorrowedFd<'a>, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1. It is used for one system call, in which the caller's socket stays open.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// `-1` to the errno of the call that just failed, anything else to a value.
pub(crate) fn checked(result: libc::c_int) -> Result<i32, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// `accept4(2)`: the connection, close-on-exec, and its peer's address; a Unix socket has none.
pub(crate) fn accept(listener: i32, nonblocking: bool) -> Result<(i32, Option<SocketAddr>), Errno> {
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, nonblocking);
    let (socket, peer) = net::acceptfrom_with(borrow(listener)?, flags)?;
    let peer = peer.ok_or(Errno::CONNABORTED)?;
    let peer = ip_address(peer).map_err(|_| Errno::CONNABORTED)?;
    Ok((socket.into_raw_fd(), peer))
}

/// `getsockname(2)` of an IP socket.
pub(crate) fn local_address(fd: i32) -> Result<SocketAddr, Errno> {
    ip_address(net::getsockname(borrow(fd)?)?)?.ok_or(Errno::AFNOSUPPORT)
}

/// `None` for a Unix socket only: its clients are trusted, so an address of any other family must
/// not look like one.
fn ip_address(address: SocketAddrAny) -> Result<Option<SocketAddr>, Errno> {
    match address.address_family() {
        AddressFamily::UNIX => Ok(None),
        _ => SocketAddr::try_from(address).map(Some),
    }
}

/// `close(2)`. The descriptor is gone even if it fails.
pub(crate) fn close(fd: i32) {
    // SAFETY: takes no pointers; the caller gives up the descriptor.
    unsafe { libc::close(fd) };
}

/// `connect(2)`; INPROGRESS is no failure for a non-blocking socket.
pub(crate) fn connect(fd: i32, to: SocketAddr) -> Result<(), Errno> {
    net::connect(borrow(fd)?, &to)
}

/// The error that a connection has failed with (SO_ERROR), which this clears.
pub(crate) fn take_error(fd: i32) -> Result<(), Errno> {
    sockopt::socket_error(borrow(fd)?)?
}

/// Connections that wait at a listening TCP socket. (The kernel reports their number in the field
/// of TCP_INFO that counts the unacknowledged segments of a connection.)
pub(crate) fn connections_waiting(listener: i32) -> Result<u32, Errno> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    let into = info.as_mut_ptr().cast();
    // SAFETY: `info` and `length` are valid for writes and describe each other.
    checked(unsafe {
        libc::getsockopt(listener, libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut length)
    })?;
    // SAFETY: plain numbers, zeroed where the kernel did not write.
    Ok(unsafe { info.assume_init() }.tcpi_unacked)
}

/// Whether a socket is readable now, by `poll(2)`: whether a connection waits at a listening one.
pub(crate) fn is_readable(fd: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, valid for the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

/// `shutdown(2)`. Fails only if the connection is gone already.
pub(crate) fn shutdown(fd: i32, how: Shutdown) {
    let how = match how {
        Shutdown::Read => net::Shutdown::Read,
        Shutdown::Write => net::Shutdown::Write,
        Shutdown::Both => net::Shutdown::Both,
    };
    let _ = borrow(fd).and_then(|fd| net::shutdown(fd, how));
}

/// Sets how many bytes make the socket readable (SO_RCVLOWAT). If that fails, fewer do.
pub(crate) fn set_rcvlowat(fd: i32, bytes: u32) {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes);
}

/// Makes the coming `close` send RST and discard what is unsent (SO_LINGER).
pub(crate) fn set_linger_zero(fd: i32) {
    let _ = borrow(fd).and_then(|fd| sockopt::set_socket_linger(fd, Some(Duration::ZERO)));
}

/// Sets an integer socket option.
pub(crate) fn set_option(fd: i32, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    let length = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `value`, which the kernel only reads.
    checked(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) })?;
    Ok(())
}

/// `send(2)` without blocking and without SIGPIPE; `more` corks the last segment.
pub(crate) fn send(fd: i32, bytes: &[u8], more: bool) -> Result<usize, Errno> {
    let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    flags.set(SendFlags::MORE, more);
    net::send(borrow(fd)?, bytes, flags)
}

/// The same; what is left to send, or why the socket takes no more, unless everything was sent.
pub(crate) fn send_now(fd: i32, bytes: &[u8], more: bool) -> Option<Result<Box<[u8]>, Errno>> {
    match send(fd, bytes, more) {
        Ok(sent) if sent == bytes.len() => None,
        Ok(sent) => Some(Ok(bytes[sent..].into())),
        Err(Errno::AGAIN | Errno::INTR) => Some(Ok(bytes.into())),
        Err(errno) => Some(Err(errno)),
    }
}

/// `recv(2)` without blocking.
pub(crate) fn recv(fd: i32, into: &mut [u8]) -> Result<usize, Errno> {
    net::recv(borrow(fd)?, into, RecvFlags::DONTWAIT).map(|(bytes, _)| bytes)
}

/// Bytes in a socket's send queue, the FIN counted as one: what the peer has not acknowledged
/// (SIOCOUTQ, tcp(7); the number is that of TIOCOUTQ), or, of a Unix socket, has not read. 0 for a
/// socket that has failed.
pub(crate) fn unsent_bytes(fd: i32) -> usize {
    queue_bytes(fd, libc::TIOCOUTQ)
}

/// Bytes that have arrived and not been received (SIOCINQ, tcp(7); the number is that of FIONREAD).
pub(crate) fn unread_bytes(fd: i32) -> usize {
    queue_bytes(fd, libc::FIONREAD)
}

fn queue_bytes(fd: i32, request: libc::Ioctl) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one int, to `bytes`, which is valid for the call.
    let result = unsafe { libc::ioctl(fd, request, &raw mut bytes) };
    if result < 0 { 0 } else { usize::try_from(bytes).unwrap_or(0) }
}

/// Bytes that the datagrams in a socket's queue count against its SO_RCVBUF: those of their
/// bookkeeping too (SO_MEMINFO, Linux 4.12).
pub(crate) fn queued_bytes(fd: i32) -> usize {
    // Its first number is the one (`linux/sock_diag.h`).
    let mut numbers = [0_u32; 16];
    let mut length = mem::size_of_val(&numbers) as libc::socklen_t;
    let into = numbers.as_mut_ptr().cast();
    // SAFETY: `numbers` and `length` are valid for writes and describe each other.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, into, &raw mut length) };
    if result < 0 { 2 * DATAGRAM_QUEUE_BYTES } else { numbers[0] as usize }
}

/// The most bytes that are dropped before a close; a client that sent more may get a RST.
pub(crate) const DISCARDED_BYTES_MAX: usize = 64 * 1024;

/// Drops what has arrived and not been received: closing a socket with unread bytes sends RST and
/// drops what is still to be sent.
pub(crate) fn discard_unread(fd: i32) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: nothing is written: with MSG_TRUNC TCP drops the bytes without a copy (tcp(7)), and
    // any other socket fails at the null pointer (EFAULT).
    unsafe { libc::recv(fd, std::ptr::null_mut(), DISCARDED_BYTES_MAX, flags) };
}

/// `epoll_ctl(2)`.
pub(crate) fn epoll_control(
    epoll: i32,
    operation: i32,
    fd: i32,
    events: u32,
    token: u64,
) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: `event` is valid for the call.
    checked(unsafe { libc::epoll_ctl(epoll, operation, fd, &raw mut event) })?;
    Ok(())
}

/// `epoll_wait(2)`; fills `events` from its front and returns how many.
pub(crate) fn epoll_wait(
    epoll: i32,
    events: &mut [libc::epoll_event],
    wait: Wait,
) -> Result<usize, Errno> {
    let capacity = i32::try_from(events.len()).unwrap_or(i32::MAX);
    let timeout_ms = match wait {
        Wait::No => 0,
        Wait::UntilEvent => -1,
        Wait::AtMost(wait) => match epoll_pwait2(epoll, events, capacity, wait) {
            // Linux before 5.11 has milliseconds only.
            Err(Errno::NOSYS) => i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            result => return result,
        },
    };
    // SAFETY: pointer and capacity describe `events`, writable for the call.
    let count =
        checked(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), capacity, timeout_ms) })?;
    Ok(count as usize)
}

/// `epoll_pwait2(2)`, whose timeout has nanoseconds.
fn epoll_pwait2(
    epoll: i32,
    events: &mut [libc::epoll_event],
    capacity: i32,
    wait: Duration,
) -> Result<usize, Errno> {
    let timeout = timespec(wait);
    // SAFETY: pointer and capacity describe `events`, writable for the call; `timeout` is only
    // read; no signal mask is given.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll,
            events.as_mut_ptr(),
            capacity,
            &raw const timeout,
            std::ptr::null::<libc::sigset_t>(),
            0_usize,
        )
    };
    usize::try_from(count).map_err(|_| last_errno())
}

/// A duration as the kernel takes it.
pub(crate) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(duration.subsec_nanos() as i32),
    }
}

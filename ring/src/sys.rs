//! The few system calls on sockets that have no safe wrapper elsewhere: plain numbers in,
//! plain results out. Descriptors are passed as numbers because their owner is the
//! engine's caller; a wrong number yields an errno, never undefined behaviour.
#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use socket2::SockAddr;

use crate::event::Wait;

/// The errno of the call that just failed.
fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// `-1` to an errno, anything else to a value.
fn checked(result: libc::c_int) -> Result<i32, i32> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// `accept4(2)`: the connection, close-on-exec and non-blocking as asked, and its peer's address,
/// which a Unix socket has none of.
pub(crate) fn accept(listener: i32, nonblocking: bool) -> Result<(i32, Option<SocketAddr>), i32> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let flags = libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: `storage` and `length` are valid for writes and describe each other.
    let fd = checked(unsafe {
        libc::accept4(listener, storage.as_mut_ptr().cast(), &mut length, flags)
    })?;
    // SAFETY: zeroed storage is a valid `sockaddr_storage`, whatever the kernel wrote.
    match socket_address(&unsafe { storage.assume_init() }) {
        Ok(peer) => Ok((fd, peer)),
        Err(_) => {
            close(fd);
            Err(libc::ECONNABORTED)
        }
    }
}

/// `getsockname(2)`.
pub(crate) fn local_address(fd: i32) -> Result<SocketAddr, i32> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `storage` and `length` are valid for writes and describe each other.
    checked(unsafe { libc::getsockname(fd, storage.as_mut_ptr().cast(), &raw mut length) })?;
    // SAFETY: zeroed storage is a valid `sockaddr_storage`, whatever the kernel wrote.
    socket_address(&unsafe { storage.assume_init() })?.ok_or(libc::EAFNOSUPPORT)
}

/// None only for a Unix socket, whose clients are trusted: nobody else may look like one.
fn socket_address(storage: &libc::sockaddr_storage) -> Result<Option<SocketAddr>, i32> {
    let storage: *const libc::sockaddr_storage = storage;
    // SAFETY: `storage` points to a valid `sockaddr_storage`, which is large and aligned
    // enough for every family's address; the family says which one it holds.
    unsafe {
        match i32::from((*storage).ss_family) {
            libc::AF_INET => {
                let address = &*storage.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                Ok(Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into()))
            }
            libc::AF_INET6 => {
                let address = &*storage.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                let port = u16::from_be(address.sin6_port);
                Ok(Some(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into()))
            }
            libc::AF_UNIX => Ok(None),
            _ => Err(libc::EAFNOSUPPORT),
        }
    }
}

/// `close(2)`. Errors are of no use to anyone: the descriptor is gone either way.
pub(crate) fn close(fd: i32) {
    // SAFETY: takes no pointers; the caller gives up the descriptor.
    unsafe { libc::close(fd) };
}

/// `connect(2)`; EINPROGRESS is no failure for a non-blocking socket.
pub(crate) fn connect(fd: i32, to: SocketAddr) -> Result<(), i32> {
    let to = SockAddr::from(to);
    // SAFETY: the pointer and length describe `to`, which the kernel only reads.
    checked(unsafe { libc::connect(fd, to.as_ptr().cast(), to.len()) })?;
    Ok(())
}

/// The errno that a connection has failed with (SO_ERROR), or 0.
pub(crate) fn take_error(fd: i32) -> i32 {
    let mut error: libc::c_int = 0;
    let mut length = mem::size_of::<libc::c_int>() as libc::socklen_t;
    let into = (&raw mut error).cast();
    // SAFETY: `error` and `length` are valid for writes and describe each other.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, into, &raw mut length) };
    checked(result).map_or_else(|errno| errno, |_| error)
}

/// Connections that wait at a listening TCP socket. (TCP_INFO of one has their number where that
/// of a connection has its unacknowledged segments.)
pub(crate) fn connections_waiting(listener: i32) -> Result<u32, i32> {
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

/// `shutdown(2)`. Fails only where the connection is gone already.
pub(crate) fn shutdown(fd: i32, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes no pointers.
    unsafe { libc::shutdown(fd, how) };
}

/// Sets how many bytes make the socket readable. If it fails, fewer do.
pub(crate) fn set_rcvlowat(fd: i32, bytes: u32) {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes);
}

/// Makes the coming `close` send RST and discard what is unsent.
pub(crate) fn set_linger_zero(fd: i32) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the pointer and length describe `linger`, which the kernel only reads.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            mem::size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}

/// Sets an integer socket option.
pub(crate) fn set_option(fd: i32, level: i32, name: i32, value: i32) -> Result<(), i32> {
    // SAFETY: the pointer and length describe `value`, which the kernel only reads.
    checked(unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (&raw const value).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// `send(2)` without blocking and without SIGPIPE; `more` corks the last segment.
pub(crate) fn send(fd: i32, bytes: &[u8], more: bool) -> Result<usize, i32> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    // SAFETY: the pointer and length describe `bytes`, which the kernel only reads.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| errno())
}

/// `recv(2)` without blocking.
pub(crate) fn recv(fd: i32, into: &mut [u8]) -> Result<usize, i32> {
    // SAFETY: the pointer and length describe `into`, writable for the call.
    let got = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    usize::try_from(got).map_err(|_| errno())
}

/// Bytes in a socket's send queue, the FIN counted as one: what the other side has not acknowledged
/// (SIOCOUTQ, tcp(7); the number is that of TIOCOUTQ), or of a Unix socket, what it has not read.
/// None of a socket that has failed.
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

/// Bytes that are dropped before a close at most: more is no stray word.
pub(crate) const DISCARDED_BYTES_MAX: usize = 64 * 1024;

/// Drops what has arrived and not been received: closing a socket with unread bytes
/// sends RST and drops what is still to be sent.
pub(crate) fn discard_unread(fd: i32) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: nothing is written: with MSG_TRUNC TCP drops the bytes without a copy (tcp(7)), and
    // any other socket fails at the null pointer (EFAULT).
    unsafe { libc::recv(fd, std::ptr::null_mut(), DISCARDED_BYTES_MAX, flags) };
}

/// A counter that can be waited for: `eventfd(2)`, non-blocking or not.
pub(crate) fn eventfd(nonblocking: bool) -> io::Result<OwnedFd> {
    let flags = libc::EFD_CLOEXEC | if nonblocking { libc::EFD_NONBLOCK } else { 0 };
    // SAFETY: takes no pointers.
    owned(unsafe { libc::eventfd(0, flags) })
}

/// A timer that is readable about once a second, from now on.
pub(crate) fn second_timer() -> io::Result<OwnedFd> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: takes no pointers.
    let timer = owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
    let second = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    let times = libc::itimerspec { it_interval: second, it_value: second };
    // SAFETY: `times` is read during the call; no old value is asked for.
    let result = unsafe {
        libc::timerfd_settime(
            std::os::fd::AsRawFd::as_raw_fd(&timer),
            0,
            &raw const times,
            std::ptr::null_mut(),
        )
    };
    checked(result).map_err(io::Error::from_raw_os_error)?;
    Ok(timer)
}

/// `epoll_create1(2)`.
pub(crate) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// `epoll_ctl(2)`.
pub(crate) fn epoll_control(
    epoll: i32,
    operation: i32,
    fd: i32,
    events: u32,
    token: u64,
) -> Result<(), i32> {
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: `event` is valid for the call.
    checked(unsafe { libc::epoll_ctl(epoll, operation, fd, &raw mut event) })?;
    Ok(())
}

/// `epoll_wait(2)`; fills `events` from its front and says how many.
pub(crate) fn epoll_wait(
    epoll: i32,
    events: &mut [libc::epoll_event],
    wait: Wait,
) -> Result<usize, i32> {
    let capacity = i32::try_from(events.len()).unwrap_or(i32::MAX);
    let timeout_ms = match wait {
        Wait::No => 0,
        Wait::UntilEvent => -1,
        Wait::AtMost(wait) => match epoll_wait_exactly(epoll, events, capacity, wait) {
            // Before Linux 5.11 there are milliseconds only.
            Err(libc::ENOSYS) => i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            result => return result,
        },
    };
    // SAFETY: pointer and capacity describe `events`, writable for the call.
    let count =
        checked(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), capacity, timeout_ms) })?;
    Ok(count as usize)
}

/// `epoll_pwait2(2)`, which waits to the nanosecond.
fn epoll_wait_exactly(
    epoll: i32,
    events: &mut [libc::epoll_event],
    capacity: i32,
    wait: Duration,
) -> Result<usize, i32> {
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
    usize::try_from(count).map_err(|_| errno())
}

/// A duration as the kernel takes it.
pub(crate) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(duration.subsec_nanos() as i32),
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    let fd = checked(fd).map_err(io::Error::from_raw_os_error)?;
    // SAFETY: the kernel just made this descriptor for us, nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a descriptor non-blocking.
pub(crate) fn set_nonblocking(fd: i32) -> Result<(), i32> {
    // SAFETY: takes no pointers.
    let flags = checked(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: takes no pointers.
    checked(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

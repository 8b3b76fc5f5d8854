//! Submission queue entries, without their user data.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, Timespec};

use crate::datagram::DatagramIndex;
use crate::event::ListenerIndex;
use crate::sys::DISCARDED_BYTES_MAX;
use crate::token::{Operation, Token};

pub(super) const GROUP: u16 = 0;
pub(super) const DATAGRAM_GROUP: u16 = 1;
/// IORING_RECVSEND_POLL_FIRST: do not try before the socket is ready (5.19).
pub(super) const POLL_FIRST: u16 = 1;
/// IORING_RECV_MULTISHOT (6.0).
const MULTISHOT: u16 = 2;
pub(super) const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// `struct io_uring_getevents_arg`: how long an `enter` may wait (5.11).
#[repr(C)]
pub(super) struct WaitLimit {
    signals: u64,
    signals_bytes: u32,
    min_wait_us: u32,
    time: u64,
}

impl WaitLimit {
    /// The result is valid only while `time` stays in place.
    pub(super) fn new(time: &Timespec) -> WaitLimit {
        let time = std::ptr::from_ref(time) as u64;
        WaitLimit { signals: 0, signals_bytes: 0, min_wait_us: 0, time }
    }
}

/// A send without a completion if everything is sent.
pub(super) fn send_skip_success(fd: i32, bytes: &[u8]) -> Entry {
    // MSG_WAITALL makes a short send a failure, which is not skipped.
    opcode::Send::new(Fd(fd), bytes.as_ptr(), bytes.len() as u32)
        .flags(SEND_FLAGS | libc::MSG_WAITALL)
        .build()
        .flags(Flags::SKIP_SUCCESS)
}

/// A send whose completion always reports how much was sent.
pub(super) fn send_reported(fd: i32, bytes: &[u8]) -> Entry {
    opcode::Send::new(Fd(fd), bytes.as_ptr(), bytes.len() as u32).flags(SEND_FLAGS).build()
}

/// A receive that drops what has arrived: with MSG_TRUNC TCP writes nothing to the buffer (tcp(7)),
/// and any other socket fails at the null address (EFAULT).
pub(super) fn discard_unread(fd: i32) -> Entry {
    opcode::Recv::new(Fd(fd), std::ptr::null_mut(), DISCARDED_BYTES_MAX as u32)
        .flags(libc::MSG_DONTWAIT | libc::MSG_TRUNC)
        .build()
        .flags(Flags::SKIP_SUCCESS)
}

pub(super) fn recv_once(fd: i32, priority: u16, size: u32) -> Entry {
    opcode::Recv::new(Fd(fd), std::ptr::null_mut(), size)
        .ioprio(priority)
        .buf_group(GROUP)
        .build()
        .flags(Flags::BUFFER_SELECT)
}

pub(super) fn recv_multishot(fd: i32) -> Entry {
    // Not RecvMulti of the crate, which takes no POLL_FIRST. The length must be 0.
    opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0)
        .ioprio(MULTISHOT | POLL_FIRST)
        .buf_group(GROUP)
        .build()
        .flags(Flags::BUFFER_SELECT)
}

/// Completes once when a connection waits at a listener. Polling and accepting in two steps bounds
/// the number of connections: a multishot accept takes all that wait, and all that come later.
pub(super) fn poll_listener(fd: i32, is_shared: bool, listener: ListenerIndex) -> Entry {
    // EPOLLEXCLUSIVE: a connection wakes one of the listeners that share the socket, not all.
    let exclusive = if is_shared { libc::EPOLLEXCLUSIVE } else { 0 };
    opcode::PollAdd::new(Fd(fd), (libc::EPOLLIN | exclusive) as u32)
        .build()
        .user_data(Token::indexed(Operation::Accept, listener.into()).pack())
}

pub(super) fn cancel_poll(listener: ListenerIndex) -> Entry {
    opcode::AsyncCancel::new(Token::indexed(Operation::Accept, listener.into()).pack())
        .build()
        .user_data(Token::indexed(Operation::CancelAccept, listener.into()).pack())
}

/// A receive of datagrams that stays armed (6.0). Not with POLL_FIRST: when it is armed again,
/// there mostly are datagrams.
pub(super) fn recv_datagrams(fd: i32, layout: *const libc::msghdr, socket: DatagramIndex) -> Entry {
    opcode::RecvMsgMulti::new(Fd(fd), layout, DATAGRAM_GROUP)
        .build()
        .user_data(Token::indexed(Operation::RecvDatagrams, socket.into()).pack())
}

/// Completes once when a datagram waits at a socket.
pub(super) fn poll_datagrams(fd: i32, is_shared: bool, socket: DatagramIndex) -> Entry {
    // EPOLLEXCLUSIVE: a datagram wakes one of the rings that share the socket, not all.
    let exclusive = if is_shared { libc::EPOLLEXCLUSIVE } else { 0 };
    opcode::PollAdd::new(Fd(fd), (libc::EPOLLIN | exclusive) as u32)
        .build()
        .user_data(Token::indexed(Operation::PollDatagrams, socket.into()).pack())
}

/// Ends what `operation` has armed.
pub(super) fn cancel_datagrams(operation: Operation, socket: DatagramIndex) -> Entry {
    opcode::AsyncCancel::new(Token::indexed(operation, socket.into()).pack())
        .build()
        .user_data(Token::indexed(Operation::CancelDatagrams, socket.into()).pack())
}

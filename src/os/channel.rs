//! Messages between this process and its file broker, each with a descriptor if need be: a pair of
//! sockets that keep messages apart (SOCK_SEQPACKET).

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout as Direction, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::clock::Clock;

/// The shortest timeout: to the kernel, zero means none.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// One end, over a descriptor that it owns or borrows.
#[derive(Debug)]
pub(super) struct Channel<F = OwnedFd> {
    fd: F,
    clock: Clock,
    /// On `clock`.
    deadline: Cell<Option<Duration>>,
}

impl Channel {
    /// One end, and the socket of the other.
    pub(super) fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Channel::over(ours), theirs))
    }
}

impl<F: AsFd> Channel<F> {
    /// The end over one of the sockets of a pair.
    pub(super) fn over(fd: F) -> Channel<F> {
        Channel { fd, clock: Clock::start(), deadline: Cell::default() }
    }

    /// Everything that is sent and received after this fails once `timeout` is over.
    pub(super) fn set_timeout(&self, timeout: Duration) {
        self.deadline.set(Some(self.clock.now() + timeout));
    }

    /// Applies what is left of the timeout to the socket.
    fn limit(&self, direction: Direction) -> io::Result<()> {
        let left = match self.deadline.get().map(|it| it.saturating_sub(self.clock.now())) {
            Some(Duration::ZERO) => return Err(Errno::AGAIN.into()),
            left => left.map(|left| left.max(TIMEOUT_MIN)),
        };
        Ok(set_socket_timeout(&self.fd, direction, left)?)
    }

    /// Sends a message, which must not be empty, and a duplicate of an open file with it.
    ///
    /// # Errors
    /// The other end is closed; `WouldBlock` if the timeout is over.
    pub(super) fn send(&self, message: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.limit(Direction::Send)?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&files));
        }
        let message = [IoSlice::new(message)];
        retry_on_intr(|| sendmsg(&self.fd, &message, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Waits for a message: its length, 0 if the other end is closed, and the file that came with
    /// it. The length may exceed that of `into`; the rest is lost.
    ///
    /// # Errors
    /// `WouldBlock` if the timeout is over, or whatever `recvmsg` fails with.
    pub(super) fn receive(&self, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        self.limit(Direction::Recv)?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(into)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::TRUNC;
        let message = retry_on_intr(|| recvmsg(&self.fd, &mut into, &mut control, flags))?;
        let file = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        Ok((message.bytes, file))
    }
}

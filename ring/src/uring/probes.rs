//! Features of the kernel that only a trial shows.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use io_uring::types::Fd;
use io_uring::{cqueue, opcode};

use super::Uring;
use super::sqe::{SEND_FLAGS, cancel_datagrams, recv_datagrams, recv_multishot, send_skip_success};
use crate::datagram::{DatagramIndex, PAYLOAD_AT};
use crate::sys::Wait;
use crate::token::{Key, Operation, Token};

/// The index of a socket that the caller does not know.
const PROBED: DatagramIndex = DatagramIndex::MAX;

impl Uring {
    /// Whether the kernel has multishot receive (6.0): tried on a socket whose peer is closed; it
    /// must report the end of the stream.
    #[expect(clippy::disallowed_types, reason = "a probe of the kernel at start")]
    pub(super) fn try_multishot_recv(&mut self) -> io::Result<bool> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        drop(theirs);
        let token = Token::new(Operation::Recv, Key::new(u32::MAX, 0));
        let fd = ours.as_raw_fd();
        self.push(recv_multishot(fd).user_data(token.pack()));
        self.enter(Wait::UntilEvent)?;
        self.collect();
        let mut known = false;
        for (_, result, flags) in mem::take(&mut self.cqes) {
            known |= result == 0;
            // Returns the buffer, if the kernel used one.
            self.on_recv(token.key, result, flags);
        }
        self.ready.clear();
        Ok(known)
    }

    /// Whether a short send with MSG_WAITALL reports how much was sent: tried on a socket that
    /// takes less than it is given. Linux 5.19 and early 6.0 report EAGAIN instead; relying on that
    /// would send bytes twice.
    #[expect(clippy::disallowed_types, reason = "a probe of the kernel at start")]
    pub(super) fn try_send_skip_success(&mut self) -> io::Result<bool> {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
        socket2::SockRef::from(&ours).set_send_buffer_size(1)?;
        let fd = ours.as_raw_fd();
        let token = Token::indexed(Operation::SendArena, 0);
        let entry = send_skip_success(fd, self.arena.slice_mut(0));
        self.push(entry.user_data(token.pack()));
        self.enter(Wait::No)?;
        self.collect();
        let sent = mem::take(&mut self.cqes).into_iter().find(|(bits, ..)| *bits == token.pack());
        Ok(sent.is_some_and(|(_, result, _)| result > 0))
    }

    /// Whether the kernel has multishot receive of datagrams (6.0): an empty datagram must arrive,
    /// and end it. Whether it sends to an address without a message (6.2): nobody has the address,
    /// but the kernel must look.
    #[expect(clippy::disallowed_types, reason = "a probe of the kernel at start")]
    pub(super) fn try_datagrams(&mut self) -> io::Result<()> {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair()?;
        theirs.send(&[])?;
        let fd = ours.as_raw_fd();
        let sent = Token::indexed(Operation::SendDatagram, PROBED.into()).pack();
        let received = Token::indexed(Operation::RecvDatagrams, PROBED.into()).pack();
        let name = self.arena.slice_mut(0);
        name[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
        let text = b"\0annulus, a trial";
        name[2..2 + text.len()].copy_from_slice(text);
        let entry = opcode::Send::new(Fd(fd), name.as_ptr(), 0)
            .flags(SEND_FLAGS)
            .dest_addr(name.as_ptr().cast())
            .dest_addr_len((2 + text.len()) as u32);
        self.push(entry.build().user_data(sent));
        self.push(recv_datagrams(fd, &raw const self.pinned.datagram_layout, PROBED));
        let mut armed = true;
        while armed {
            self.enter(Wait::UntilEvent)?;
            self.collect();
            for (user_data, result, flags) in mem::take(&mut self.cqes) {
                if user_data == sent {
                    self.capabilities.send_to = -result != libc::EINVAL;
                    continue;
                } else if user_data != received {
                    self.on_completion(user_data, result, flags);
                    continue;
                }
                self.capabilities.multishot_recvmsg |= result == PAYLOAD_AT as i32;
                armed = cqueue::more(flags);
                if let Some(buffers) = &mut *self.datagram_buffers {
                    // SAFETY: this completion is from a receive that names their group.
                    drop(unsafe { buffers.take_back(result, flags) });
                }
                if armed {
                    self.push(cancel_datagrams(Operation::RecvDatagrams, PROBED));
                }
            }
        }
        Ok(())
    }
}

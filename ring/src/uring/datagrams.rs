//! Datagrams: a receive that stays armed, or a poll where the kernel has none; and replies.
#![allow(unsafe_code)]

use std::mem;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fd;
use io_uring::{cqueue, opcode};
use rustix::io::Errno;

use super::Uring;
use super::sqe::{SEND_FLAGS, cancel_datagrams, poll_datagrams, recv_datagrams};
use crate::datagram::{
    CONTROL_BYTES, Datagram, DatagramIndex, NAME_BYTES, PAYLOAD_AT, REPLY_BYTES_MAX,
};
use crate::datagram_batch::{ReplyRoute, message_header};
use crate::event::Event;
use crate::sys::Wait;
use crate::token::{Operation, Token};

/// What a reply in the arena begins with, for the kernel.
#[repr(C)]
struct ReplyHeader {
    message: libc::msghdr,
    piece: libc::iovec,
    control: [u8; CONTROL_BYTES],
    name: [u8; NAME_BYTES],
}

const REPLY_HEADER_BYTES: usize = mem::size_of::<ReplyHeader>();

/// Sockets that are registered with the ring, the first ones: more than a tracker has.
pub(super) const REGISTERED_MAX: u32 = 64;

impl Uring {
    /// Arms what is to receive and does not: after its end, a lack of buffers, or a pause.
    pub(super) fn arm_datagrams(&mut self) {
        let (mut passed, mut first) = (0, None);
        while let Some(index) = self.datagrams.next_unarmed(&mut passed) {
            let entry = self.datagrams.get(index);
            let Some(socket) = &entry.socket else { continue };
            let submission = if entry.is_polled {
                poll_datagrams(socket.raw(), socket.is_inherited(), index)
            } else if self.datagram_buffers.as_ref().is_none_or(|all| all.is_exhausted()) {
                // The caller holds them all. It would end at once.
                continue;
            } else {
                recv_datagrams(socket.raw(), &raw const self.pinned.datagram_layout, index)
            };
            entry.armed = true;
            first.get_or_insert(index);
            self.push(submission);
        }
        if let Some(first) = first {
            self.datagrams.arm_last(first);
        }
    }

    pub(super) fn finish_receiving(&mut self, index: DatagramIndex) {
        if !self.datagrams.finish(index) {
            return;
        }
        let entry = self.datagrams.get(index);
        let operation =
            if entry.is_polled { Operation::PollDatagrams } else { Operation::RecvDatagrams };
        if entry.armed {
            // While the kernel holds the socket, closing the descriptor would not close it.
            self.push(cancel_datagrams(operation, index));
        } else {
            self.datagrams.on_disarmed(index);
        }
    }

    /// A poll has completed: the socket is readable, or the poll was cancelled to close it.
    pub(super) fn on_datagrams_polled(&mut self, index: u32, result: i32) {
        let index = index as DatagramIndex;
        self.datagrams.on_disarmed(index);
        if result < 0 {
            self.datagrams.get(index).on_error();
        } else {
            self.datagrams.on_readable(index);
        }
    }

    /// One datagram, or the end of the receive. It ends after an empty datagram, without buffers,
    /// when the completion queue overflows, and with any error: it is armed again by the next turn.
    pub(super) fn on_datagram(&mut self, index: u32, result: i32, flags: u32) {
        let index = index as DatagramIndex;
        let Some(buffers) = &mut *self.datagram_buffers else { return };
        // SAFETY: this completion is from a receive that names the group of these buffers.
        let buffer = unsafe { buffers.take_back(result, flags) };
        if result >= PAYLOAD_AT as i32
            && let Some(buffer) = buffer
        {
            self.ready.push(Event::Datagram(Datagram::received(buffer, index)));
        }
        if cqueue::more(flags) {
            return;
        }
        let entry = self.datagrams.get(index);
        if result < 0 && !matches!(-result, libc::ENOBUFS | libc::ECANCELED) {
            entry.on_error();
        }
        self.datagrams.on_disarmed(index);
    }

    /// Receives from polled sockets, and from those that are to be closed.
    pub(super) fn receive_datagrams_polled(&mut self) {
        self.datagrams.begin_pass();
        // A socket that is empty is polled again by `arm_datagrams`.
        while self.datagrams.receive_next(&mut self.ready).is_some() {}
    }

    /// Registers sockets with the ring: then a reply does without looking up its descriptor, and
    /// without counting its use. Where the kernel refuses, each reply names the descriptor.
    pub(super) fn register_datagrams(&mut self) {
        let submitter = self.ring.submitter();
        for (index, entry) in (0..REGISTERED_MAX).zip(self.datagrams.iter_mut()) {
            if let Some(socket) = entry.socket.as_ref().filter(|_| !entry.is_registered) {
                let registered = submitter.register_files_update(index, &[socket.raw()]);
                entry.is_registered = registered.is_ok();
            }
        }
    }

    /// Before sockets are closed, which they would not be while they are registered.
    pub(super) fn unregister_datagrams(&mut self, closing: &[DatagramIndex]) {
        for &index in closing {
            if mem::take(&mut self.datagrams.get(index).is_registered) {
                let removed = self.ring.submitter().register_files_update(index.into(), &[-1]);
                debug_assert!(removed.is_ok(), "{removed:?}");
            }
        }
    }

    /// Where the next reply begins in the arena.
    fn reply_at(&self) -> usize {
        self.arena_used.next_multiple_of(mem::align_of::<ReplyHeader>())
    }

    pub(super) fn reply_buffer(&mut self) -> &mut [u8] {
        if self.arena.len() < self.reply_at() + REPLY_HEADER_BYTES + REPLY_BYTES_MAX {
            // All sends queued so far are over after this, so the whole arena is free.
            self.flush(Wait::No);
            self.arena_used = 0;
        }
        let at = self.reply_at() + REPLY_HEADER_BYTES;
        &mut self.arena.slice_mut(at)[..REPLY_BYTES_MAX]
    }

    /// A reply is sent whole or not at all, so that a completion is always a failure.
    pub(super) fn queue_reply(&mut self, to: &Datagram, len: usize) {
        let socket = to.socket();
        let Some((fd, is_wildcard)) = self.datagrams.target(socket) else {
            return self.ready.push(Event::DatagramUnsent { socket, errno: Errno::BADF });
        };
        // A registered socket is named by its index.
        let (fd, flags) = match self.datagrams.get(socket).is_registered {
            true => (socket.into(), Flags::SKIP_SUCCESS | Flags::FIXED_FILE),
            false => (fd, Flags::SKIP_SUCCESS),
        };
        let at = self.reply_at();
        let space = &mut self.arena.slice_mut(at)[..REPLY_HEADER_BYTES + len];
        let entry = if self.capabilities.send_to && !is_wildcard {
            send_to(fd, space, to)
        } else {
            send_message(fd, space, &ReplyRoute::back(to, is_wildcard))
        };
        let token = Token::indexed(Operation::SendDatagram, socket.into());
        self.arena_used = at + REPLY_HEADER_BYTES + len;
        self.push(entry.flags(flags).user_data(token.pack()));
    }
}

/// A send with an address (6.2), which is cheaper than a message.
fn send_to(fd: i32, space: &mut [u8], to: &Datagram) -> Entry {
    let (header, reply) = space.split_at_mut(REPLY_HEADER_BYTES);
    let sender = to.name();
    let name = &mut header[REPLY_HEADER_BYTES - NAME_BYTES..][..sender.len()];
    name.copy_from_slice(sender);
    opcode::Send::new(Fd(fd), reply.as_ptr(), reply.len() as u32)
        .flags(SEND_FLAGS)
        .dest_addr(name.as_ptr().cast())
        .dest_addr_len(name.len() as u32)
        .build()
}

/// A send with an address, and with the address that it leaves from.
fn send_message(fd: i32, space: &mut [u8], route: &ReplyRoute) -> Entry {
    let (header, reply) = space.split_at_mut(REPLY_HEADER_BYTES);
    let piece = libc::iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: reply.len() };
    let header = header.as_mut_ptr().cast::<ReplyHeader>();
    debug_assert!(header.is_aligned());
    // SAFETY: `header` has the size of a `ReplyHeader` and, being at a multiple of its alignment in
    // a page-aligned arena, its alignment; nothing else refers to it.
    let header = unsafe {
        let message = mem::zeroed();
        header.write(ReplyHeader { message, piece, control: route.control, name: route.name });
        &mut *header
    };
    let (name, control) = (header.name.as_mut_ptr(), header.control.as_mut_ptr());
    let parts = (name.cast(), route.name_len, control.cast(), route.control_len);
    header.message = message_header(parts, &raw mut header.piece);
    opcode::SendMsg::new(Fd(fd), &raw const header.message).flags(SEND_FLAGS as u32).build()
}

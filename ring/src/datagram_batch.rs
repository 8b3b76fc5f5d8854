//! Datagrams many at a time, by `recvmmsg(2)` and `sendmmsg(2)`.
#![allow(unsafe_code)]

use std::mem;
use std::ptr;
use std::rc::Rc;

use rustix::io::Errno;

use crate::buffers::{Pool, RecvBuf};
use crate::datagram::{
    CONTROL_AT, CONTROL_BYTES, Datagram, DatagramIndex, NAME_AT, NAME_BYTES, PAYLOAD_AT,
    REPLY_BYTES_MAX, write_asked, write_header,
};
use crate::event::Event;
use crate::sys;

/// The most datagrams of one system call.
pub(crate) const BATCH_MAX: usize = 64;

/// The memory of a receive; empty between the calls.
#[derive(Default)]
pub(crate) struct RecvBatch {
    buffers: Vec<RecvBuf>,
    pieces: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl RecvBatch {
    /// Receives at most `most` datagrams, as far as there are buffers, without waiting; returns how
    /// many. Fewer than that: the socket was empty.
    pub(crate) fn receive(
        &mut self,
        (socket, fd): (DatagramIndex, i32),
        pool: &Rc<Pool>,
        most: usize,
        ready: &mut Vec<Event>,
    ) -> Result<usize, Errno> {
        let most = most.min(BATCH_MAX);
        self.buffers.extend(std::iter::from_fn(|| pool.take()).take(most));
        self.describe_buffers();
        let messages = self.messages.as_mut_ptr();
        let count = self.messages.len() as libc::c_uint;
        // SAFETY: `messages` are `count` headers. The memory that they point to is that of
        // `buffers` and `pieces`, which nobody else accesses during the call.
        let received =
            unsafe { libc::recvmmsg(fd, messages, count, libc::MSG_DONTWAIT, ptr::null_mut()) };
        let received = sys::checked(received).map(|count| count as usize);
        let filled = self.buffers.drain(..).zip(&self.messages);
        for (mut buffer, message) in filled.take(received.unwrap_or(0)) {
            let header = &message.msg_hdr;
            let lens = [header.msg_namelen, header.msg_controllen as u32, message.msg_len];
            write_header(&mut buffer, [lens[0], lens[1], lens[2], header.msg_flags as u32]);
            buffer.truncate(PAYLOAD_AT + message.msg_len as usize);
            ready.push(Event::Datagram(Datagram::received(buffer, socket)));
        }
        received
    }

    /// One message for each buffer, in the layout of [`crate::datagram`].
    fn describe_buffers(&mut self) {
        self.pieces.clear();
        self.messages.clear();
        self.pieces.extend(self.buffers.iter_mut().map(|buffer| {
            let payload = &mut buffer[PAYLOAD_AT..];
            libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() }
        }));
        for (buffer, piece) in self.buffers.iter_mut().zip(&mut self.pieces) {
            let name = buffer[NAME_AT..CONTROL_AT].as_mut_ptr().cast();
            let control = buffer[CONTROL_AT..PAYLOAD_AT].as_mut_ptr().cast();
            let parts = (name, NAME_BYTES as u32, control, CONTROL_BYTES);
            let msg_hdr = message_header(parts, piece);
            self.messages.push(libc::mmsghdr { msg_hdr, msg_len: 0 });
        }
    }
}

/// A header of one piece: name and control messages with their lengths.
pub(crate) fn message_header(
    (name, name_len, control, control_len): (*mut libc::c_void, u32, *mut libc::c_void, usize),
    piece: *mut libc::iovec,
) -> libc::msghdr {
    // SAFETY: plain numbers and pointers, for which zero is valid. (The C library has padding in
    // it, so that it cannot be written as a literal everywhere.)
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = name;
    header.msg_namelen = name_len;
    header.msg_iov = piece;
    header.msg_iovlen = 1;
    header.msg_control = if control_len > 0 { control } else { ptr::null_mut() };
    header.msg_controllen = control_len as _;
    header
}

/// Where a reply goes, and from which address.
pub(crate) struct ReplyRoute {
    pub(crate) name: [u8; NAME_BYTES],
    pub(crate) name_len: u32,
    pub(crate) control: [u8; CONTROL_BYTES],
    pub(crate) control_len: usize,
}

impl ReplyRoute {
    /// Back to the sender of a datagram. With `names_source` the reply leaves from the address
    /// asked; without it the socket has only one.
    pub(crate) fn back(to: &Datagram, names_source: bool) -> ReplyRoute {
        let (mut name, mut control) = ([0; NAME_BYTES], [0; CONTROL_BYTES]);
        let sender = to.name();
        name[..sender.len()].copy_from_slice(sender);
        let asked = to.asked().filter(|_| names_source);
        let control_len = asked.map_or(0, |asked| write_asked(&mut control, asked));
        ReplyRoute { name, name_len: sender.len() as u32, control, control_len }
    }
}

/// Replies of one socket that wait to be sent together.
pub(crate) struct SendBatch {
    bytes: Box<[u8]>,
    used: usize,
    socket: DatagramIndex,
    fd: i32,
    /// Each with its place in `bytes`.
    replies: Vec<(ReplyRoute, usize, usize)>,
    pieces: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

/// Bytes of replies that are collected: those of 46 peers of IPv4 have 296 each.
const BATCH_BYTES: usize = 64 * 1024;

impl SendBatch {
    pub(crate) fn new() -> SendBatch {
        SendBatch {
            bytes: Box::default(),
            used: 0,
            socket: 0,
            fd: -1,
            replies: Vec::new(),
            pieces: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// Space for a reply, [`REPLY_BYTES_MAX`] long.
    pub(crate) fn buffer(&mut self, ready: &mut Vec<Event>) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = vec![0; BATCH_BYTES].into_boxed_slice();
        }
        if self.replies.len() == BATCH_MAX || self.bytes.len() - self.used < REPLY_BYTES_MAX {
            self.send(ready);
        }
        &mut self.bytes[self.used..self.used + REPLY_BYTES_MAX]
    }

    /// Adds a reply: the first `len` bytes of [`SendBatch::buffer`].
    pub(crate) fn add(
        &mut self,
        (socket, fd): (DatagramIndex, i32),
        route: ReplyRoute,
        len: usize,
        ready: &mut Vec<Event>,
    ) {
        let from = self.used;
        if !self.replies.is_empty() && self.fd != fd {
            self.send(ready);
            // Sending has freed all bytes before the new ones, which stay where they are.
        }
        (self.socket, self.fd) = (socket, fd);
        self.replies.push((route, from, len));
        self.used = from + len;
    }

    /// Sends all replies. One that fails is reported, and those after it are sent.
    pub(crate) fn send(&mut self, ready: &mut Vec<Event>) {
        self.describe_replies();
        let mut from = 0;
        while let rest @ [_, ..] = &mut self.messages[from..] {
            let (messages, count) = (rest.as_mut_ptr(), rest.len() as libc::c_uint);
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: `messages` are `count` headers. They point to memory of `bytes`, `replies`
            // and `pieces`, which the kernel only reads.
            let sent = unsafe { libc::sendmmsg(self.fd, messages, count, flags) };
            match sys::checked(sent) {
                Ok(sent @ 1..) => from += sent as usize,
                Err(Errno::INTR) => {}
                failed => {
                    // The first of the rest failed.
                    let (socket, errno) = (self.socket, failed.err().unwrap_or(Errno::IO));
                    ready.push(Event::DatagramUnsent { socket, errno });
                    from += 1;
                }
            }
        }
        self.messages.clear();
        self.replies.clear();
        self.used = 0;
    }

    fn describe_replies(&mut self) {
        self.pieces.clear();
        self.pieces.extend(self.replies.iter().map(|&(_, from, len)| {
            let reply = &mut self.bytes[from..from + len];
            libc::iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: len }
        }));
        for ((route, ..), piece) in self.replies.iter_mut().zip(&mut self.pieces) {
            let (name, control) = (route.name.as_mut_ptr(), route.control.as_mut_ptr());
            let parts = (name.cast(), route.name_len, control.cast(), route.control_len);
            let msg_hdr = message_header(parts, piece);
            self.messages.push(libc::mmsghdr { msg_hdr, msg_len: 0 });
        }
    }
}

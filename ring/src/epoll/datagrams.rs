//! Datagrams: received and sent many at a time.

use std::os::fd::AsRawFd;

use rustix::io::Errno;

use super::{EXCLUSIVE, Epoll, IN};
use crate::datagram::{Datagram, DatagramIndex};
use crate::datagram_batch::ReplyRoute;
use crate::event::Event;
use crate::sys;
use crate::token::{Operation, Token};

/// Each new datagram is one report; a socket that was not emptied is remembered by the set.
const IN_EDGE: u32 = IN | libc::EPOLLET as u32;

impl Epoll {
    /// Watches the sockets that are to receive and are not watched.
    pub(super) fn watch_datagrams(&mut self) {
        let epoll = self.epoll.as_raw_fd();
        let mut passed = 0;
        while let Some(index) = self.datagrams.next_unarmed(&mut passed) {
            let entry = self.datagrams.get(index);
            let Some(socket) = &entry.socket else { continue };
            let token = Token::indexed(Operation::PollDatagrams, index.into()).pack();
            // EPOLLEXCLUSIVE: a datagram wakes one of the engines that share the socket, not all.
            let events = if socket.is_inherited() { IN_EDGE | EXCLUSIVE } else { IN_EDGE };
            let added = sys::epoll_control(epoll, libc::EPOLL_CTL_ADD, socket.raw(), events, token);
            // Without memory for it, the next tick tries again.
            entry.armed = added.is_ok();
        }
    }

    pub(super) fn unwatch_datagrams(&mut self, index: DatagramIndex) {
        if !self.datagrams.finish(index) {
            return;
        }
        let entry = self.datagrams.get(index);
        if let Some(socket) = entry.socket.as_ref().filter(|_| entry.armed) {
            let epoll = self.epoll.as_raw_fd();
            let _ = sys::epoll_control(epoll, libc::EPOLL_CTL_DEL, socket.raw(), 0, 0);
        }
        self.datagrams.on_disarmed(index);
    }

    pub(super) fn receive_datagrams_readable(&mut self) {
        self.datagrams.begin_pass();
        // A socket that is empty is reported when the next datagram arrives.
        while self.datagrams.receive_next(&mut self.ready).is_some() {}
    }

    pub(super) fn collect_reply(&mut self, to: &Datagram, len: usize) {
        let socket = to.socket();
        let Some((fd, is_wildcard)) = self.datagrams.target(socket) else {
            return self.ready.push(Event::DatagramUnsent { socket, errno: Errno::BADF });
        };
        let route = ReplyRoute::back(to, is_wildcard);
        self.datagram_replies.add((socket, fd), route, len, &mut self.ready);
    }

    /// Sends the replies since the last turn, and closes the sockets that wait for that.
    pub(super) fn send_replies(&mut self) {
        self.datagram_replies.send(&mut self.ready);
        let closing = self.datagrams.take_closing();
        self.datagrams.close(closing, &mut self.ready);
    }
}

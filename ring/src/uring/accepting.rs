//! Polling of listeners, and accepting from them.

use std::io;

use rustix::io::Errno;

use super::Uring;
use super::sqe::poll_listener;
use crate::datagram_socket::DatagramSocket;
use crate::event::{AcceptEnd, Event, ListenerIndex};
use crate::listener::Listener;
use crate::listener_set::{AcceptState, WatchChange};

impl Uring {
    /// Adds sockets; their indices follow those of the existing ones.
    ///
    /// # Errors
    /// A descriptor is not open.
    pub fn add(
        &mut self,
        listeners: Vec<Listener>,
        datagram_sockets: Vec<DatagramSocket>,
    ) -> io::Result<()> {
        self.listeners.add(listeners)?;
        if !datagram_sockets.is_empty() && self.datagram_buffers.is_none() {
            self.set_up_datagrams()?;
        }
        self.datagrams.add(datagram_sockets, self.capabilities.multishot_recvmsg);
        self.register_datagrams();
        Ok(())
    }

    /// Polls a listener, unless it is polled already.
    pub(super) fn watch_listener(&mut self, index: ListenerIndex) {
        let entry = self.listeners.get(index);
        let Some(listener) = entry.listener.as_ref().filter(|_| !entry.watched) else { return };
        let poll = poll_listener(listener.raw(), listener.is_shared(), index);
        entry.watched = true;
        self.push(poll);
    }

    /// The poll of a listener has completed: it is readable, or the poll was cancelled to close it.
    pub(super) fn on_listener_polled(&mut self, index: u32, result: i32) {
        let index = index as ListenerIndex;
        let entry = self.listeners.get(index);
        entry.watched = false;
        if result < 0 && entry.accepting == AcceptState::Active {
            entry.accepting = AcceptState::Idle;
            let cause = AcceptEnd::from_errno(Errno::from_raw_os_error(-result));
            self.ready.push(Event::AcceptEnded { listener: index, cause });
        } else {
            self.listeners.on_readable(index);
        }
    }

    /// Accepts from readable listeners as far as the bound of this turn allows.
    pub(super) fn accept_some(&mut self) {
        while let Some((index, change)) = self.listeners.accept_next(&mut self.ready) {
            // Unwatch: a poll that is already queued does no harm.
            if change == WatchChange::Watch {
                self.watch_listener(index);
            }
        }
    }

    /// Checks shared queues once a second without a poll. The kernel wakes only one of the pollers
    /// of such a queue. That one may be about to stop, or belong to a killed process whose ring is
    /// still being torn down: then the connection would wait for the next one to arrive.
    pub(super) fn accept_from_shared_queues(&mut self) {
        for index in self.listeners.shared_queues() {
            self.listeners.on_readable(index);
        }
    }
}

//! Listeners: when they are polled, and when they are accepted from.

use std::io;

use rustix::io::Errno;

use super::Uring;
use super::sqe::poll_listener;
use crate::event::{AcceptEnd, Event, ListenerIndex};
use crate::listener::Listener;
use crate::listener_set::{AcceptState, WatchChange};

impl Uring {
    /// Takes listeners beside those it was built with, counted on from them.
    ///
    /// # Errors
    /// When one is not open.
    pub fn add(&mut self, listeners: Vec<Listener>) -> io::Result<()> {
        self.listeners.add(listeners)
    }

    /// Asks the kernel to tell when a connection waits, unless it has been asked.
    pub(super) fn watch_listener(&mut self, index: ListenerIndex) {
        let entry = self.listeners.get(index);
        let Some(listener) = entry.listener.as_ref().filter(|_| !entry.watched) else { return };
        let poll = poll_listener(listener.raw(), listener.is_shared(), index);
        entry.watched = true;
        self.push(poll);
    }

    /// The poll of a listener has ended: it is readable, or the poll was cancelled to close it.
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

    /// Accepts what waits at readable listeners, as far as this turn may.
    pub(super) fn accept_some(&mut self) {
        while let Some((index, change)) = self.listeners.accept_next(&mut self.ready) {
            // A poll that was made before it was known that there is no room harms nobody.
            if change == WatchChange::Watch {
                self.watch_listener(index);
            }
        }
    }

    /// Looks into the queues that others wait at too. The kernel wakes one of those that wait
    /// there; that one may be about to stop, or be what is left of a killed process whose ring the
    /// kernel takes apart in its own time, and then nobody hears of the connection until the next
    /// one comes.
    pub(super) fn accept_from_shared_queues(&mut self) {
        for index in self.listeners.shared_queues() {
            self.listeners.on_readable(index);
        }
    }
}

//! A worker's listeners: which accept, which wait, and for what.

use std::mem;

use annulus_ring::{AcceptEnd, ListenerIndex, Ring};

use crate::log::WarningLimiter;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Accepting.
    Open,
    /// Not accepting, for as many connections are open as may be: to be opened when the ring wakes
    /// the worker because one is closed.
    Shut,
    /// Failed for want of descriptors or memory: to be opened when some may be free.
    Waiting,
    /// Asked to finish.
    Finishing,
    /// Closed for good.
    Finished,
}

/// All listeners of one worker.
pub(super) struct Listeners {
    doors: Vec<Door>,
    /// Whether one may be shut, or waiting.
    blocked: bool,
    /// Whether a connection has gone in this turn.
    freed: bool,
    exhausted: WarningLimiter,
    failed: WarningLimiter,
}

impl Listeners {
    pub(super) fn new(listeners: ListenerIndex) -> Listeners {
        Listeners {
            doors: vec![Door::Shut; usize::from(listeners)],
            blocked: true,
            freed: false,
            exhausted: WarningLimiter::default(),
            failed: WarningLimiter::default(),
        }
    }

    /// A connection is gone.
    pub(super) fn freed(&mut self) {
        self.freed = true;
    }

    /// Opens what [`Listeners::freed`] may have made possible.
    pub(super) fn open_freed(&mut self, ring: &mut impl Ring) {
        if mem::take(&mut self.freed) {
            self.open_those(ring, |door| door == Door::Waiting);
        }
    }

    /// Opens whatever is not open: something may have changed.
    pub(super) fn open(&mut self, ring: &mut impl Ring) {
        self.open_those(ring, |door| matches!(door, Door::Shut | Door::Waiting));
    }

    fn open_those(&mut self, ring: &mut impl Ring, are_meant: impl Fn(Door) -> bool) {
        if !self.blocked {
            return;
        }
        self.blocked = false;
        for (listener, door) in self.doors.iter_mut().enumerate() {
            if are_meant(*door) {
                *door = Door::Open;
                ring.accept(listener as ListenerIndex);
            }
            self.blocked |= matches!(door, Door::Shut | Door::Waiting);
        }
    }

    /// No connection is accepted any more, after those that wait in the kernel.
    pub(super) fn finish(&mut self, ring: &mut impl Ring) {
        for (listener, door) in self.doors.iter_mut().enumerate() {
            if !matches!(door, Door::Finishing | Door::Finished) {
                *door = Door::Finishing;
                ring.finish_accepting(listener as ListenerIndex);
            }
        }
    }

    /// Whether all are closed for good.
    pub(super) fn closed(&self) -> bool {
        self.doors.iter().all(|&door| door == Door::Finished)
    }

    /// A listener stopped accepting.
    pub(super) fn ended(&mut self, listener: ListenerIndex, cause: AcceptEnd, now_s: u32) {
        let door = &mut self.doors[usize::from(listener)];
        if cause == AcceptEnd::Finished {
            *door = Door::Finished;
            return;
        }
        if matches!(door, Door::Finishing | Door::Finished) {
            return;
        }
        self.blocked = true;
        *door = match cause {
            AcceptEnd::Exhausted(errno) => {
                let error = std::io::Error::from(errno);
                self.exhausted.warning(
                    now_s,
                    format_args!(
                        "cannot accept connections: {error}; waiting until one is closed \
                         (raise the limit of open files, or lower connections.max)"
                    ),
                );
                Door::Waiting
            }
            AcceptEnd::Error(errno) => {
                let error = std::io::Error::from(errno);
                self.failed.warning(now_s, format_args!("accepting failed: {error}; trying again"));
                Door::Waiting
            }
            AcceptEnd::LimitReached { .. } | AcceptEnd::Finished => Door::Shut,
        };
    }
}

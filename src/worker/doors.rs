//! A worker's listeners: which accept, which wait, and for what.

use std::mem;

use annulus_ring::{AcceptEnd, ListenerIndex, Ring};

use crate::log::Limited;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Accepting.
    Open,
    /// Asked to stop, for there are too many connections.
    Shutting,
    /// Not accepting: to be opened when there is room.
    Shut,
    /// Failed for want of descriptors or memory: to be opened when some may be free.
    Waiting,
    /// Asked to finish.
    Finishing,
    /// Closed for good.
    Finished,
}

/// All listeners of one worker.
pub(super) struct Doors {
    doors: Vec<Door>,
    /// Whether connections are below their bound.
    room: bool,
    /// Whether a connection has gone in this turn.
    freed: bool,
    exhausted: Limited,
    failed: Limited,
}

impl Doors {
    pub(super) fn new(listeners: ListenerIndex) -> Doors {
        Doors {
            doors: vec![Door::Shut; usize::from(listeners)],
            room: false,
            freed: false,
            exhausted: Limited::default(),
            failed: Limited::default(),
        }
    }

    /// A connection is gone, and there is room for another.
    pub(super) fn freed(&mut self) {
        self.freed = true;
    }

    /// Opens what [`Doors::freed`] made room for: at the end of a turn, so that the closes
    /// of that turn come before the accepts in the queue of submissions.
    pub(super) fn open_freed(&mut self, ring: &mut impl Ring) {
        if mem::take(&mut self.freed) {
            self.open(ring);
        }
    }

    /// There is room for connections: opens whatever is not open.
    pub(super) fn open(&mut self, ring: &mut impl Ring) {
        self.room = true;
        for (listener, door) in self.doors.iter_mut().enumerate() {
            if matches!(door, Door::Shut | Door::Waiting) {
                *door = Door::Open;
                ring.accept(listener as ListenerIndex);
            }
        }
    }

    /// There is no room for another connection; says whether there was.
    pub(super) fn shut(&mut self, ring: &mut impl Ring) -> bool {
        let had_room = mem::take(&mut self.room);
        for (listener, door) in self.doors.iter_mut().enumerate() {
            if *door == Door::Open {
                *door = Door::Shutting;
                ring.stop_accepting(listener as ListenerIndex);
            }
        }
        had_room
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
    pub(super) fn ended(
        &mut self,
        ring: &mut impl Ring,
        listener: ListenerIndex,
        cause: AcceptEnd,
        now_s: u32,
    ) {
        let door = &mut self.doors[usize::from(listener)];
        if cause == AcceptEnd::Finished {
            *door = Door::Finished;
            return;
        }
        if matches!(door, Door::Finishing | Door::Finished) {
            return;
        }
        *door = match cause {
            AcceptEnd::Exhausted(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
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
                let error = std::io::Error::from_raw_os_error(errno);
                self.failed.warning(now_s, format_args!("accepting failed: {error}; trying again"));
                Door::Waiting
            }
            AcceptEnd::Retired | AcceptEnd::Stopped | AcceptEnd::Finished if self.room => {
                ring.accept(listener);
                Door::Open
            }
            AcceptEnd::Retired | AcceptEnd::Stopped | AcceptEnd::Finished => Door::Shut,
        };
    }
}

//! The listeners of one engine: which of them accept, how many at a time, and up to which limit.
//!
//! An engine tells when a listener has become readable, and has what waits there accepted at the
//! end of its turn, after everything that happened to connections.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::event::{AcceptEnd, Event, ListenerIndex, Socket};
use crate::limit::ConnectionLimit;
use crate::listener::{BACKLOG, Listener};
use crate::sys;
use crate::waker::Waker;

/// What a listener is being asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptState {
    Idle,
    Active,
    /// To accept what had completed its handshake when it was asked, so many connections, for
    /// closing would reset them; then to close.
    Draining {
        left: usize,
    },
}

/// One listener.
pub(crate) struct ListenerEntry {
    pub(crate) listener: Option<Listener>,
    pub(crate) accepting: AcceptState,
    /// Whether the kernel has been asked to tell when it is readable.
    pub(crate) watched: bool,
    /// Whether it is in the queue of readable ones.
    queued: bool,
    /// Connections to accept before the kernel is asked again whether there are more. One at
    /// first: to find the queue empty costs almost as much as to accept.
    batch: usize,
    /// The turn in which it was last accepted from.
    accepted_turn: u64,
}

/// What an engine has to do about a listener that was accepted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchChange {
    /// To watch it, if it does not.
    Watch,
    /// To watch it no longer, if it does.
    Unwatch,
}

/// Why accepting stopped.
enum AcceptStop {
    QueueEmpty,
    BatchDone,
    LimitReached { waiting: u32 },
    Failed(Errno),
}

/// All listeners of one engine.
pub(crate) struct ListenerSet {
    all: Vec<ListenerEntry>,
    readable: VecDeque<ListenerIndex>,
    limit: Arc<ConnectionLimit>,
    waker: Waker,
    accepts_per_turn: usize,
    /// Connections that may still be accepted in this turn.
    left: usize,
    turn: u64,
    /// Whether connections are to be non-blocking.
    nonblocking: bool,
}

impl ListenerSet {
    pub(crate) fn new(
        limit: Arc<ConnectionLimit>,
        waker: Waker,
        accepts_per_turn: usize,
        nonblocking: bool,
    ) -> ListenerSet {
        ListenerSet {
            all: Vec::new(),
            readable: VecDeque::new(),
            limit,
            waker,
            accepts_per_turn,
            left: accepts_per_turn,
            turn: 1,
            nonblocking,
        }
    }

    /// Takes more listeners.
    pub(crate) fn add(&mut self, listeners: Vec<Listener>) -> io::Result<()> {
        for listener in listeners {
            listener.set_nonblocking()?;
            self.all.push(ListenerEntry {
                listener: Some(listener),
                accepting: AcceptState::Idle,
                watched: false,
                queued: false,
                batch: 1,
                accepted_turn: 0,
            });
        }
        Ok(())
    }

    pub(crate) fn get(&mut self, index: ListenerIndex) -> &mut ListenerEntry {
        &mut self.all[usize::from(index)]
    }

    /// The listeners that accept and that others may accept from as well.
    pub(crate) fn shared_queues(&self) -> Vec<ListenerIndex> {
        let is_meant = |listening: &ListenerEntry| {
            let shared_queues = listening.listener.as_ref().is_some_and(Listener::shares_queue);
            shared_queues && listening.accepting == AcceptState::Active
        };
        let all = self.all.iter().enumerate().filter(|(_, listening)| is_meant(listening));
        all.map(|(index, _)| index as ListenerIndex).collect()
    }

    /// Has a listener accept until it finishes or fails; whether it did not already.
    pub(crate) fn arm(&mut self, index: ListenerIndex) -> bool {
        let entry = self.get(index);
        let idle = entry.accepting == AcceptState::Idle && entry.listener.is_some();
        if idle {
            entry.accepting = AcceptState::Active;
        }
        idle
    }

    /// Has a listener accept what waits at this moment, and then close. The engine says that it is
    /// readable as soon as it does not watch it.
    pub(crate) fn finish(&mut self, index: ListenerIndex) {
        let entry = self.get(index);
        let left = match &entry.listener {
            // What waits there is for whoever listens next.
            Some(listener) if !listener.is_inherited() => listener.waiting(BACKLOG as u32) as usize,
            _ => 0,
        };
        entry.accepting = AcceptState::Draining { left };
        entry.batch = usize::MAX;
    }

    /// Connections wait at a listener, or may.
    pub(crate) fn on_readable(&mut self, index: ListenerIndex) {
        let (turn, most) = (self.turn, self.accepts_per_turn);
        let entry = self.get(index);
        if entry.accepting == AcceptState::Idle || entry.queued {
            return;
        }
        entry.queued = true;
        if entry.accepted_turn + 1 >= turn {
            // More have come at once than were taken.
            entry.batch = entry.batch.saturating_mul(4).min(most);
        }
        self.readable.push_back(index);
    }

    /// Whether there is something to accept.
    pub(crate) fn has_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// A new turn begins, in which as many connections may be accepted as in the last.
    pub(crate) fn begin_turn(&mut self) {
        self.turn += 1;
        self.left = self.accepts_per_turn;
    }

    /// Accepts from the next of the readable listeners, and says what is to be done about it;
    /// `None` if there is none, or enough was accepted in this turn.
    pub(crate) fn accept_next(
        &mut self,
        ready: &mut Vec<Event>,
    ) -> Option<(ListenerIndex, WatchChange)> {
        while self.left > 0 {
            let index = self.readable.pop_front()?;
            let entry = &mut self.all[usize::from(index)];
            entry.queued = false;
            if entry.accepting == AcceptState::Idle {
                continue;
            }
            let mut batch = entry.batch.min(self.left);
            if let AcceptState::Draining { left } = entry.accepting {
                batch = batch.min(left);
            }
            let (accepted, stop) = self.accept_up_to(index, batch, ready);
            self.left -= accepted.min(self.left);
            let enough = self.left == 0;
            let entry = &mut self.all[usize::from(index)];
            entry.accepted_turn = self.turn;
            if let AcceptState::Draining { left } = &mut entry.accepting {
                *left -= accepted;
                if *left == 0 || !matches!(stop, AcceptStop::BatchDone) {
                    entry.listener = None;
                    entry.accepting = AcceptState::Idle;
                    let cause = AcceptEnd::Finished;
                    ready.push(Event::AcceptEnded { listener: index, cause });
                } else {
                    self.on_readable(index);
                }
                continue;
            }
            let cause = match stop {
                AcceptStop::QueueEmpty => {
                    entry.batch = accepted.max(1);
                    return Some((index, WatchChange::Watch));
                }
                // It need not be asked whether there are more: the next turn tries.
                AcceptStop::BatchDone if enough => {
                    self.on_readable(index);
                    continue;
                }
                AcceptStop::BatchDone => return Some((index, WatchChange::Watch)),
                AcceptStop::LimitReached { waiting } => AcceptEnd::LimitReached { waiting },
                AcceptStop::Failed(errno) => AcceptEnd::from_errno(errno),
            };
            entry.accepting = AcceptState::Idle;
            ready.push(Event::AcceptEnded { listener: index, cause });
            return Some((index, WatchChange::Unwatch));
        }
        None
    }

    /// Accepts at most `batch` connections; how many, and why no more.
    fn accept_up_to(
        &self,
        index: ListenerIndex,
        batch: usize,
        ready: &mut Vec<Event>,
    ) -> (usize, AcceptStop) {
        let Some(listener) = &self.all[usize::from(index)].listener else {
            return (0, AcceptStop::QueueEmpty);
        };
        for accepted in 0..batch {
            // Near the limit no place is taken in vain: it would be missing elsewhere.
            if self.limit.is_nearly_reached() && listener.waiting(1) == 0 {
                return (accepted, AcceptStop::QueueEmpty);
            }
            if !self.limit.acquire_or_wait(&self.waker) {
                return match listener.waiting(1) {
                    0 => (accepted, AcceptStop::QueueEmpty),
                    waiting => (accepted, AcceptStop::LimitReached { waiting }),
                };
            }
            let errno = match sys::accept(listener.raw(), self.nonblocking) {
                Ok((socket, peer)) => {
                    let socket = Socket::from_raw(socket);
                    ready.push(Event::Accepted { listener: index, socket, peer });
                    continue;
                }
                Err(errno) => errno,
            };
            self.limit.release(1);
            match errno {
                Errno::CONNABORTED | Errno::INTR => {}
                Errno::AGAIN => return (accepted, AcceptStop::QueueEmpty),
                errno => return (accepted, AcceptStop::Failed(errno)),
            }
        }
        (batch, AcceptStop::BatchDone)
    }
}

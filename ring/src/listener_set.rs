//! The listeners of one engine: which of them accept, how many connections at a time, and within
//! which limit.
//!
//! The engine reports readable listeners, and accepts from them at the end of its turn, after
//! everything else that happened.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;

use rustix::io::Errno;

use crate::event::{AcceptEnd, Event, ListenerIndex, Socket};
use crate::limit::ConnectionLimit;
use crate::listener::{BACKLOG, Listener};
use crate::sys;
use crate::waker::Waker;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptState {
    Idle,
    Active,
    /// To accept the connections that waited when it was asked, `left` of them, because closing
    /// would reset them; then to close.
    Draining {
        left: usize,
    },
}

pub(crate) struct ListenerEntry {
    pub(crate) listener: Option<Listener>,
    pub(crate) accepting: AcceptState,
    /// Whether the engine polls it.
    pub(crate) watched: bool,
    /// Whether it is in `readable`.
    queued: bool,
}

/// How the engine's polling of a listener has to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchChange {
    /// Poll it, unless it is polled already.
    Watch,
    /// Stop polling it.
    Unwatch,
}

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
    /// Connections that may still be accepted this turn.
    left: usize,
    /// Whether accepted sockets are non-blocking.
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
            nonblocking,
        }
    }

    pub(crate) fn add(&mut self, listeners: Vec<Listener>) -> io::Result<()> {
        for listener in listeners {
            listener.set_nonblocking()?;
            self.all.push(ListenerEntry {
                listener: Some(listener),
                accepting: AcceptState::Idle,
                watched: false,
                queued: false,
            });
        }
        Ok(())
    }

    pub(crate) fn get(&mut self, index: ListenerIndex) -> &mut ListenerEntry {
        &mut self.all[usize::from(index)]
    }

    /// The accepting listeners whose queue is shared.
    pub(crate) fn shared_queues(&self) -> Vec<ListenerIndex> {
        let is_meant = |listening: &ListenerEntry| {
            let shared_queues = listening.listener.as_ref().is_some_and(Listener::shares_queue);
            shared_queues && listening.accepting == AcceptState::Active
        };
        let all = self.all.iter().enumerate().filter(|(_, listening)| is_meant(listening));
        all.map(|(index, _)| index as ListenerIndex).collect()
    }

    /// Starts accepting; returns whether the listener did not accept already.
    pub(crate) fn arm(&mut self, index: ListenerIndex) -> bool {
        let entry = self.get(index);
        let idle = entry.accepting == AcceptState::Idle && entry.listener.is_some();
        if idle {
            entry.accepting = AcceptState::Active;
        }
        idle
    }

    /// Makes a listener accept what waits now and then close. The engine then stops polling it and
    /// reports it as readable.
    pub(crate) fn finish(&mut self, index: ListenerIndex) {
        let entry = self.get(index);
        let left = match &entry.listener {
            // The next process accepts what waits there.
            Some(listener) if !listener.is_inherited() => listener.waiting(BACKLOG as u32) as usize,
            _ => 0,
        };
        entry.accepting = AcceptState::Draining { left };
    }

    /// Connections may wait at a listener.
    pub(crate) fn on_readable(&mut self, index: ListenerIndex) {
        let entry = self.get(index);
        if entry.accepting != AcceptState::Idle && !mem::replace(&mut entry.queued, true) {
            self.readable.push_back(index);
        }
    }

    pub(crate) fn has_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    pub(crate) fn begin_turn(&mut self) {
        self.left = self.accepts_per_turn;
    }

    /// Accepts from the next readable listener; returns how its polling changes. `None` if no
    /// listener is readable, or the turn's bound is reached.
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
            let batch = match entry.accepting {
                AcceptState::Draining { left } => left.min(self.left),
                _ => self.left,
            };
            let (accepted, stop) = self.accept_up_to(index, batch, ready);
            self.left -= accepted.min(self.left);
            let enough = self.left == 0;
            let entry = &mut self.all[usize::from(index)];
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
                // No poll: the next turn tries again.
                AcceptStop::BatchDone if enough => {
                    self.on_readable(index);
                    continue;
                }
                AcceptStop::BatchDone | AcceptStop::QueueEmpty => {
                    return Some((index, WatchChange::Watch));
                }
                AcceptStop::LimitReached { waiting } => AcceptEnd::LimitReached { waiting },
                AcceptStop::Failed(errno) => AcceptEnd::from_errno(errno),
            };
            entry.accepting = AcceptState::Idle;
            ready.push(Event::AcceptEnded { listener: index, cause });
            return Some((index, WatchChange::Unwatch));
        }
        None
    }

    /// Accepts up to `batch` of the connections that wait now; returns how many, and why it
    /// stopped. The kernel is asked beforehand how many wait: an `accept` that finds the queue
    /// empty costs as much as one that succeeds.
    fn accept_up_to(
        &self,
        index: ListenerIndex,
        batch: usize,
        ready: &mut Vec<Event>,
    ) -> (usize, AcceptStop) {
        let Some(listener) = &self.all[usize::from(index)].listener else {
            return (0, AcceptStop::QueueEmpty);
        };
        let waiting = sys::connections_waiting(listener.raw()).ok();
        let batch = waiting.map_or(batch, |waiting| batch.min(waiting as usize));
        for accepted in 0..batch {
            // A Unix socket does not tell the number.
            if waiting.is_none() && !sys::is_readable(listener.raw()) {
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
        (batch, if batch == 0 { AcceptStop::QueueEmpty } else { AcceptStop::BatchDone })
    }
}

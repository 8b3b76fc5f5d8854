//! Room for new connections when as many are open as may be: the longest idle ones are closed for
//! them, whichever worker they are with.

use std::mem;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use annulus_ring::{ConnectionLimit, Key, Ring, Waker};

use super::Worker;
use super::close::overdue;
use super::eviction_lists::EvictionList;
use super::progress::ONLY_FIN;
use super::slot::Phase;
use crate::connection::Connection;
use crate::limits::{EVICTIONS_PER_TURN_MAX, UNANSWERED_SHARE};
use crate::log::WarningLimiter;
use crate::metrics::labels::{AcceptPause, WaitingFor};

/// Connections that are looked at for one that can be closed at once.
const LINGERING_LOOKS: usize = 8;

/// Stands for the first to go of a worker that has no connection to be closed.
const NEVER: u32 = u32::MAX;

/// Marks the second of one whose request or handshake is not coming: it goes after all idle ones.
const UNANSWERED: u32 = 1 << 31;

/// What the workers tell each other about their connections.
#[derive(Debug)]
pub struct EvictionCoordinator {
    limit: Arc<ConnectionLimit>,
    seats: Vec<WorkerEntry>,
    /// Connections that are being closed to make room.
    leaving: AtomicUsize,
    /// One line for all workers.
    full: Mutex<WarningLimiter>,
}

/// One worker, as the others see it: on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct WorkerEntry {
    /// The one that is alone needs none.
    waker: Option<Waker>,
    /// Which of its connections is to be closed first, about: [`Worker::first_to_go`].
    first_to_go: AtomicU32,
    /// Connections that others ask it to close.
    asked: AtomicU32,
}

impl WorkerEntry {
    fn new(waker: Option<Waker>) -> WorkerEntry {
        WorkerEntry { waker, first_to_go: AtomicU32::new(NEVER), asked: AtomicU32::new(0) }
    }

    /// How many connections it is asked to close since it looked last.
    fn take_asked(&self) -> u32 {
        // Seldom any: a load without a write leaves the cache line where it is.
        if self.asked.load(Ordering::Relaxed) == 0 {
            0
        } else {
            self.asked.swap(0, Ordering::Relaxed)
        }
    }
}

impl EvictionCoordinator {
    /// For workers that are woken by these, in their order.
    pub fn new(limit: Arc<ConnectionLimit>, wakers: &[Waker]) -> EvictionCoordinator {
        let seats = wakers.iter().map(|waker| WorkerEntry::new(Some(waker.clone()))).collect();
        EvictionCoordinator { limit, seats, leaving: AtomicUsize::new(0), full: Mutex::default() }
    }

    /// For one worker.
    pub fn alone(limit: Arc<ConnectionLimit>) -> EvictionCoordinator {
        let seats = vec![WorkerEntry::new(None)];
        EvictionCoordinator { limit, seats, leaving: AtomicUsize::new(0), full: Mutex::default() }
    }

    /// How many connections there may be, and are.
    pub fn limit(&self) -> &Arc<ConnectionLimit> {
        &self.limit
    }

    /// Says in the log that connections wait for others to be closed.
    fn warn(&self, now_s: u32) {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.warning(
            now_s,
            format_args!(
                "{} connections are open, as many as may be, and others wait: closing the longest \
                 idle ones (raise connections.max or the limit of open files, or lower \
                 connections.idle_timeout)",
                self.limit.max()
            ),
        );
    }

    /// The worker beside `own` with the connection that is to be closed before those of all others,
    /// and which that is, if one may be closed at `now_s`.
    fn first_to_go_beside(&self, own: usize, now_s: u32) -> Option<(usize, u32)> {
        let others = self.seats.iter().enumerate().filter(|&(index, _)| index != own);
        let first = |(index, seat): (usize, &WorkerEntry)| {
            (index, seat.first_to_go.load(Ordering::Relaxed))
        };
        others
            .map(first)
            .min_by_key(|&(_, first)| first)
            .filter(|&(_, first)| first <= UNANSWERED | now_s)
    }

    /// Asks a worker to close so many connections.
    fn ask(&self, worker: usize, connections: u32) {
        let seat = &self.seats[worker];
        seat.asked.fetch_max(connections, Ordering::Relaxed);
        if let Some(waker) = &seat.waker {
            waker.wake();
        }
    }

    /// A connection that was closed to make room is gone.
    pub(super) fn evicted_is_gone(&self) {
        self.leaving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<R: Ring> Worker<R> {
    /// Connections wait at a listener, and as many are open as may be.
    pub(super) fn on_full(&mut self, waiting: u32) {
        self.newcomers = self.newcomers.saturating_add(waiting);
        if !mem::replace(&mut self.full, true) {
            self.note_pause(AcceptPause::ConnectionLimit);
        }
        self.room.warn(self.now_s);
    }

    /// Closes connections for those that wait here, and for as many as other workers ask for; has
    /// another worker close them if it has longer idle ones.
    pub(super) fn make_room(&mut self) {
        let newcomers = mem::take(&mut self.newcomers);
        let asked = self.room.seats[self.seat].take_asked();
        if newcomers > 0 || asked > 0 {
            self.evict_for(newcomers, asked);
        }
        // Who asks goes by what was told last, and may ask in vain for ever if that is not so.
        if self.order.take_changed() || asked > 0 {
            let first = self.first_to_go();
            let told = &self.room.seats[self.seat].first_to_go;
            if told.load(Ordering::Relaxed) != first {
                told.store(first, Ordering::Relaxed);
            }
        }
    }

    fn evict_for(&mut self, newcomers: u32, mut asked: u32) {
        let leaving = self.room.leaving.load(Ordering::Relaxed);
        let mut missing = newcomers.saturating_sub(u32::try_from(leaving).unwrap_or(u32::MAX));
        for _ in 0..EVICTIONS_PER_TURN_MAX {
            if missing == 0 && asked == 0 {
                break;
            }
            let first = self.first_to_go();
            let other = self.room.first_to_go_beside(self.seat, self.now_s).filter(|_| missing > 0);
            // Who was asked in vain may have none that can be closed.
            let own_first = self.asked_others || other.is_none_or(|(_, others)| first <= others);
            if own_first && self.evict() {
                missing = missing.saturating_sub(1);
                asked = asked.saturating_sub(1);
            } else if let Some((other, _)) = other {
                self.room.ask(other, missing);
                self.asked_others = true;
                missing = 0;
            } else {
                break;
            }
        }
    }

    /// Which connection is to be closed first, less than that of another worker if it goes before
    /// that: 0 if one is over, else since when the longest idle one is idle, else from when on one
    /// that is not answered may be closed, with a mark.
    fn first_to_go(&self) -> u32 {
        if self.order.first(EvictionList::Lingering).is_some()
            && self.lingering_tried_s != self.now_s
        {
            return 0;
        }
        let first = |list| self.slots.get(self.order.first(list)? as usize);
        if let Some(slot) = first(EvictionList::Idle) {
            return slot.connection.deadline_s().saturating_sub(self.settings.timeouts.idle_s);
        }
        first(EvictionList::Unanswered).map_or(NEVER, |slot| {
            UNANSWERED | self.evictable_from_s(&slot.connection, overdue(&slot.connection))
        })
    }

    /// Closes a connection that has had its last answer, and whose client has taken it but does not
    /// close. Whether there was one.
    fn close_lingering(&mut self) -> bool {
        for _ in 0..LINGERING_LOOKS {
            let Some(index) = self.order.first(EvictionList::Lingering) else { break };
            let Some(slot) = self.slots.get(index as usize) else { break };
            let key = slot.key(index as usize);
            if slot.phase != Phase::Lingering || slot.evicted {
                self.order.remove(index);
            } else if self.unsent(key) > ONLY_FIN || self.ring.unread_bytes(&slot.socket) > 0 {
                self.lingering_tried_s = self.now_s;
                self.order.append(index, EvictionList::Lingering);
            } else {
                self.order.remove(index);
                self.room.leaving.fetch_add(1, Ordering::Relaxed);
                self.slots[index as usize].evicted = true;
                self.end(key, false);
                return true;
            }
        }
        false
    }

    /// Closes a connection that is over, or else the longest idle one; if there is none, the one
    /// whose request or handshake is not coming for longest, unless that is not long. Whether there
    /// was one.
    fn evict(&mut self) -> bool {
        let turn = self.turn;
        if self.close_lingering() {
            return true;
        }
        for list in [EvictionList::Idle, EvictionList::Unanswered] {
            for _ in 0..EVICTIONS_PER_TURN_MAX {
                let Some(index) = self.order.first(list) else { break };
                let Some(slot) = self.slots.get_mut(index as usize) else { break };
                let key = slot.key(index as usize);
                let waits_for = overdue(&slot.connection);
                if slot.phase != Phase::Serving || slot.sending || slot.queued || slot.ended {
                    // It comes back to the end of a list when it waits for its client again.
                    slot.listed_idle = false;
                    self.order.remove(index);
                } else if (list == EvictionList::Idle) != (waits_for == WaitingFor::Idle) {
                    // It has begun a request since, or ended it.
                    slot.listed_idle = list == EvictionList::Unanswered;
                    let other = if list == EvictionList::Idle {
                        EvictionList::Unanswered
                    } else {
                        EvictionList::Idle
                    };
                    self.order.append(index, other);
                } else if slot.sent_turn == turn
                    || self.evictable_from_s(&self.slots[index as usize].connection, waits_for)
                        > self.now_s
                {
                    break;
                } else if self.unsent(key) > 0 {
                    // It is busy with its last answer.
                    self.order.append(index, list);
                } else {
                    self.order.remove(index);
                    self.close_for_another(key, waits_for);
                    return true;
                }
            }
        }
        false
    }

    /// From when on a connection has had the time that is left to it when others wait: all but the
    /// idle ones have a share of what they have else.
    fn evictable_from_s(&self, connection: &Connection, waits_for: WaitingFor) -> u32 {
        let timeouts = &self.settings.timeouts;
        let allowed_s = match waits_for {
            WaitingFor::Handshake => timeouts.handshake_s,
            WaitingFor::Header => timeouts.header_s,
            WaitingFor::Idle | WaitingFor::Send => return 0,
        };
        connection.deadline_s().saturating_sub(allowed_s - allowed_s / UNANSWERED_SHARE)
    }

    fn close_for_another(&mut self, key: Key, waits_for: WaitingFor) {
        // One that had sent more when it was closed may be listed anew, and counts once.
        if !mem::replace(&mut self.slots[key.slot() as usize].evicted, true) {
            self.counters.evicted.add(waits_for);
            self.room.leaving.fetch_add(1, Ordering::Relaxed);
        }
        match waits_for {
            WaitingFor::Idle => self.part_from(key),
            _ => self.give_up(key),
        }
    }
}

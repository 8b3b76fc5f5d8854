//! Making room at the limit of connections: the longest idle ones are closed for new ones,
//! whichever worker they belong to.

use std::mem;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use annulus_ring::{ConnectionLimit, Key, Ring, Waker};

use super::Worker;
use super::eviction_lists::{EvictionList, EvictionLists};
use super::slot::{Phase, Slot};
use super::timeouts::{ONLY_FIN, waits_for};
use crate::connection::Connection;
use crate::limits::{EVICTIONS_PER_TURN_MAX, UNANSWERED_SHARE};
use crate::log::WarningLimiter;
use crate::metrics::labels::{AcceptPause, WaitingFor};

/// Lingering connections that are examined for one that can be closed at once.
const LINGERING_EXAMINED_MAX: usize = 8;

/// The rank of a worker without a connection to evict.
const NO_CANDIDATE: u32 = u32::MAX;

/// Marks the rank of a connection without a response: those come after all idle ones.
const UNANSWERED: u32 = 1 << 31;

/// What the workers know of each other's connections.
#[derive(Debug)]
pub struct EvictionCoordinator {
    limit: Arc<ConnectionLimit>,
    workers: Vec<EvictionStatus>,
    /// Connections that are being evicted.
    in_progress: AtomicUsize,
    warning: Mutex<WarningLimiter>,
}

/// What one worker tells the others, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct EvictionStatus {
    /// `None` if there is only one worker.
    waker: Option<Waker>,
    /// [`Worker::eviction_rank`] of its next candidate, when it last changed.
    rank: AtomicU32,
    /// Connections that others ask it to evict.
    requested: AtomicU32,
}

impl EvictionStatus {
    fn new(waker: Option<Waker>) -> EvictionStatus {
        EvictionStatus { waker, rank: AtomicU32::new(NO_CANDIDATE), requested: AtomicU32::new(0) }
    }

    fn take_requested(&self) -> u32 {
        // Mostly zero: a load does not take the cache line from other cores.
        if self.requested.load(Ordering::Relaxed) == 0 {
            0
        } else {
            self.requested.swap(0, Ordering::Relaxed)
        }
    }
}

impl EvictionCoordinator {
    /// For workers with these wakers, by number.
    pub fn new(limit: Arc<ConnectionLimit>, wakers: &[Waker]) -> EvictionCoordinator {
        let workers = wakers.iter().map(|waker| EvictionStatus::new(Some(waker.clone())));
        EvictionCoordinator { workers: workers.collect(), ..Self::alone(limit) }
    }

    /// For a single worker.
    pub fn alone(limit: Arc<ConnectionLimit>) -> EvictionCoordinator {
        EvictionCoordinator {
            limit,
            workers: vec![EvictionStatus::new(None)],
            in_progress: AtomicUsize::new(0),
            warning: Mutex::default(),
        }
    }

    pub fn limit(&self) -> &Arc<ConnectionLimit> {
        &self.limit
    }

    fn warn(&self, now_s: u32) {
        let mut warning = self.warning.lock().unwrap_or_else(PoisonError::into_inner);
        warning.warning(
            now_s,
            format_args!(
                "{} connections are open, as many as may be, and others wait: closing the longest \
                 idle ones (raise connections.max or the limit of open files, or lower \
                 connections.idle_timeout)",
                self.limit.max()
            ),
        );
    }

    /// The worker other than `own` with the first candidate of all, and its rank, if that may be
    /// evicted at `now_s`.
    fn first_elsewhere(&self, own: usize, now_s: u32) -> Option<(usize, u32)> {
        let ranks = self.workers.iter().map(|worker| worker.rank.load(Ordering::Relaxed));
        let others = ranks.enumerate().filter(|&(index, _)| index != own);
        let first = others.min_by_key(|&(_, rank)| rank)?;
        (first.1 <= UNANSWERED | now_s).then_some(first)
    }

    fn request(&self, worker: usize, connections: u32) {
        let worker = &self.workers[worker];
        worker.requested.fetch_max(connections, Ordering::Relaxed);
        if let Some(waker) = &worker.waker {
            waker.wake();
        }
    }
}

/// One worker's part of it.
pub(super) struct Eviction {
    coordinator: Arc<EvictionCoordinator>,
    /// The number of this worker.
    index: usize,
    pub(super) lists: EvictionLists,
    /// Nearly as many connections are open as are allowed, with all workers.
    pub(super) near_limit: bool,
    /// Accepting has stopped at the limit, and nothing was accepted since.
    at_limit: bool,
    /// Another worker was asked to evict, and nothing was accepted since.
    asked_others: bool,
    /// The last second in which no lingering connection could be closed at once.
    lingering_busy_s: u32,
    /// Connections that wait to be accepted, found in this turn.
    waiting: u32,
}

impl Eviction {
    pub(super) fn new(coordinator: Arc<EvictionCoordinator>, index: usize) -> Eviction {
        Eviction {
            coordinator,
            index,
            lists: EvictionLists::new(),
            near_limit: false,
            at_limit: false,
            asked_others: false,
            lingering_busy_s: 0,
            waiting: 0,
        }
    }

    pub(super) fn begin_turn(&mut self) {
        self.near_limit = self.coordinator.limit.is_nearly_reached();
    }

    pub(super) fn on_accepted(&mut self) {
        (self.at_limit, self.asked_others) = (false, false);
    }

    pub(super) fn on_removed(&mut self, slot: u32, evicted: bool) {
        self.lists.remove(slot);
        if evicted {
            self.coordinator.in_progress.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn count_evicted(&self) {
        self.coordinator.in_progress.fetch_add(1, Ordering::Relaxed);
    }
}

impl<R: Ring> Worker<R> {
    /// `waiting` connections cannot be accepted at the limit.
    pub(super) fn on_limit_reached(&mut self, waiting: u32) {
        self.eviction.waiting = self.eviction.waiting.saturating_add(waiting);
        if !mem::replace(&mut self.eviction.at_limit, true) {
            self.count_pause(AcceptPause::ConnectionLimit);
        }
        self.eviction.coordinator.warn(self.now_s);
    }

    /// Evicts for the connections that wait here and elsewhere, or asks another worker to do so if
    /// it has longer idle ones.
    pub(super) fn make_room(&mut self) {
        let waiting = mem::take(&mut self.eviction.waiting);
        let requested = self.own_status().take_requested();
        if waiting > 0 || requested > 0 {
            self.evict_for(waiting, requested);
        }
        // A worker that was asked in vain must correct its rank, or it would be asked for ever.
        if self.eviction.lists.take_changed() || requested > 0 {
            let rank = self.eviction_rank();
            let published = &self.own_status().rank;
            if published.load(Ordering::Relaxed) != rank {
                published.store(rank, Ordering::Relaxed);
            }
        }
    }

    fn own_status(&self) -> &EvictionStatus {
        &self.eviction.coordinator.workers[self.eviction.index]
    }

    fn evict_for(&mut self, waiting: u32, mut requested: u32) {
        let in_progress = self.eviction.coordinator.in_progress.load(Ordering::Relaxed);
        let mut missing = waiting.saturating_sub(u32::try_from(in_progress).unwrap_or(u32::MAX));
        for _ in 0..EVICTIONS_PER_TURN_MAX {
            if missing == 0 && requested == 0 {
                break;
            }
            let rank = self.eviction_rank();
            let Eviction { coordinator, index, .. } = &self.eviction;
            let other = coordinator.first_elsewhere(*index, self.now_s).filter(|_| missing > 0);
            // A worker that was asked in vain may have none that can be closed.
            let own_first =
                self.eviction.asked_others || other.is_none_or(|(_, other)| rank <= other);
            if own_first && self.evict_one() {
                missing = missing.saturating_sub(1);
                requested = requested.saturating_sub(1);
            } else if let Some((other, _)) = other {
                self.eviction.coordinator.request(other, missing);
                self.eviction.asked_others = true;
                missing = 0;
            } else {
                break;
            }
        }
    }

    /// The order of the worker's next candidate among those of all workers: 0 for a lingering
    /// connection, then the second since when one is idle, then with a mark the second from which
    /// an unanswered one may be evicted.
    fn eviction_rank(&self) -> u32 {
        let lists = &self.eviction.lists;
        let lingering_examined = self.eviction.lingering_busy_s == self.now_s;
        if lists.first(EvictionList::Lingering).is_some() && !lingering_examined {
            return 0;
        }
        if let Some((_, slot)) = self.first_of(EvictionList::Idle) {
            return slot.connection.deadline_s().saturating_sub(self.config.timeouts.idle_s);
        }
        self.first_of(EvictionList::Unanswered).map_or(NO_CANDIDATE, |(_, slot)| {
            UNANSWERED | self.evictable_from_s(&slot.connection, waits_for(&slot.connection))
        })
    }

    fn first_of(&self, list: EvictionList) -> Option<(Key, &Slot)> {
        self.slots.at(self.eviction.lists.first(list)?)
    }

    /// Evicts a lingering connection, or else the longest idle one, or else the one whose request
    /// or handshake is overdue for longest. Whether there was one.
    fn evict_one(&mut self) -> bool {
        self.evict_lingering()
            || self.evict_from(EvictionList::Idle)
            || self.evict_from(EvictionList::Unanswered)
    }

    /// Closes a lingering connection whose client has acknowledged everything.
    fn evict_lingering(&mut self) -> bool {
        for _ in 0..LINGERING_EXAMINED_MAX {
            let Some((key, slot)) = self.first_of(EvictionList::Lingering) else { break };
            if slot.phase != Phase::Lingering || slot.evicted {
                self.eviction.lists.remove(key.slot());
            } else if self.unsent_bytes(key) > ONLY_FIN || self.ring.unread_bytes(&slot.socket) > 0
            {
                self.eviction.lingering_busy_s = self.now_s;
                self.eviction.lists.append(key.slot(), EvictionList::Lingering);
            } else {
                self.eviction.lists.remove(key.slot());
                self.eviction.count_evicted();
                self.slots[key].evicted = true;
                self.close(key, false);
                return true;
            }
        }
        false
    }

    fn evict_from(&mut self, list: EvictionList) -> bool {
        for _ in 0..EVICTIONS_PER_TURN_MAX {
            let Some((key, slot)) = self.first_of(list) else { break };
            let waits_for = waits_for(&slot.connection);
            let busy = slot.send_pending || slot.scheduled || slot.peer_closed;
            if slot.phase != Phase::Serving || busy {
                // It comes back to the end of a list when it waits for its client again.
                self.slots[key].listed_idle = false;
                self.eviction.lists.remove(key.slot());
            } else if (list == EvictionList::Idle) != (waits_for == WaitingFor::Idle) {
                // It has begun or ended a request since it was listed.
                let is_idle = list == EvictionList::Unanswered;
                let other = if is_idle { EvictionList::Idle } else { EvictionList::Unanswered };
                self.slots[key].listed_idle = is_idle;
                self.eviction.lists.append(key.slot(), other);
            } else if slot.sent_turn == self.turn
                || self.evictable_from_s(&slot.connection, waits_for) > self.now_s
            {
                break;
            } else if self.unsent_bytes(key) > 0 {
                // Its client is still reading the last response.
                self.eviction.lists.append(key.slot(), list);
            } else {
                self.eviction.lists.remove(key.slot());
                self.evict(key, waits_for);
                return true;
            }
        }
        false
    }

    /// From when on a connection may be evicted: while others wait, a client has only a share of
    /// the time for its handshake or its first request.
    fn evictable_from_s(&self, connection: &Connection, waits_for: WaitingFor) -> u32 {
        let timeouts = &self.config.timeouts;
        let allowed_s = match waits_for {
            WaitingFor::Handshake => timeouts.handshake_s,
            WaitingFor::Header => timeouts.header_s,
            WaitingFor::Idle | WaitingFor::Send => return 0,
        };
        connection.deadline_s().saturating_sub(allowed_s - allowed_s / UNANSWERED_SHARE)
    }

    fn evict(&mut self, key: Key, waits_for: WaitingFor) {
        // A connection that had sent more when it was closed is listed again, but counts once.
        if !mem::replace(&mut self.slots[key].evicted, true) {
            self.counters.evicted.add(waits_for);
            self.eviction.count_evicted();
        }
        match waits_for {
            WaitingFor::Idle => self.close_when_received(key),
            _ => self.abort(key),
        }
    }
}

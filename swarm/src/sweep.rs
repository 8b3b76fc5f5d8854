//! Expiry in slices: each worker visits its part of the shards once in a sweep period, a small
//! amount of work at a time, so that no request waits for it. The sweep also removes torrents that
//! are not to be kept; when their list changes, one round is made without waiting for its schedule.

use std::mem;

use super::InfoHash;
use super::shard::{Removed, SweepCursor, SweepSlice};
use super::table::{SHARDS, Swarms};
use super::time::Budget;

/// The work of one slice in stamps checked: 8192 stamps of one swarm, 50 peers removed from a large
/// one, 512 torrents visited, or 128 removed. Measured at ten million peers, any of these takes
/// less than a tenth of a millisecond.
const SLICE: u32 = 8192;

/// The cost of locking a shard, in stamps checked.
const SHARD_COST: u32 = 32;

/// One worker's part of the sweep, and its progress.
#[derive(Debug)]
pub struct Sweep {
    worker: usize,
    workers: usize,
    /// The second of the first slice, from which the schedule counts.
    started_s: Option<u32>,
    /// Shards done since then, without those of full rounds.
    done: u64,
    /// Shards left in a full round, which ignores the schedule.
    full_round_left: u64,
    /// The next shard, as a number within this part.
    next: usize,
    /// Where in that shard to go on, if it is partly done.
    cursor: Option<SweepCursor>,
}

/// Whether a worker's sweep is on schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepStatus {
    /// Nothing is due before the next second.
    Idle,
    /// More is due: call again in this turn of the loop or a later one.
    Pending,
}

impl Sweep {
    /// The part of one of `workers` workers, numbered from 0. Together they must call
    /// [`Swarms::sweep`] for all parts.
    pub fn new(worker: usize, workers: usize) -> Sweep {
        Sweep {
            worker,
            workers: workers.max(1),
            started_s: None,
            done: 0,
            full_round_left: 0,
            next: 0,
            cursor: None,
        }
    }

    /// Visits everything once without waiting for the schedule, from the next slice on: for a
    /// change of the torrents that are kept.
    pub fn start_full_round(&mut self) {
        self.full_round_left = self.shards();
        // The visited part of the shard at hand was judged by the old list.
        self.cursor = None;
    }

    fn shards(&self) -> u64 {
        SHARDS.saturating_sub(self.worker).div_ceil(self.workers) as u64
    }

    /// Whether a shard is due at second `now`.
    fn is_due(&mut self, now: u32, period_s: u32) -> bool {
        let shards = self.shards();
        let elapsed_s = now.saturating_sub(*self.started_s.get_or_insert(now));
        let due = u64::from(elapsed_s) * shards / u64::from(period_s);
        // After a long pause one round makes up for all missed ones.
        let missed_rounds = due.saturating_sub(self.done).checked_div(shards).unwrap_or(0);
        self.done += missed_rounds.saturating_sub(1) * shards;
        self.full_round_left > 0 || self.done < due
    }

    fn advance(&mut self) {
        self.next = (self.next + 1) % self.shards() as usize;
        match self.full_round_left.checked_sub(1) {
            Some(left) => self.full_round_left = left,
            None => self.done += 1,
        }
    }
}

impl Swarms {
    /// One slice of expiry, if one is due at second `now`: removes peers whose last announce is
    /// longer ago than the timeout, all peers of torrents for which `keep` is false, and torrents
    /// without peers. It does at most a tenth of a millisecond of work, under one lock at a time,
    /// besides at most 512 calls of `keep`. To be called at least once a second.
    pub fn sweep(
        &self,
        part: &mut Sweep,
        now: u32,
        keep: impl Fn(&InfoHash) -> bool,
    ) -> SweepStatus {
        let mut slice = SweepSlice {
            expired: self.ticks.expired(now),
            keep,
            secret: &self.secret,
            budget: Budget::new(SLICE),
            removed: Removed::default(),
        };
        while part.is_due(now, self.ticks.sweep_period_s()) {
            if slice.budget.is_spent() {
                return SweepStatus::Pending;
            }
            slice.budget.spend(SHARD_COST);
            let number = part.worker + part.next * part.workers;
            let mut shard = self.lock(number);
            let mut cursor = part.cursor.take().unwrap_or_else(|| shard.sweep_start());
            let done = shard.sweep(&mut cursor, &mut slice);
            self.unconfirmed.set(number, shard.unconfirmed());
            drop(shard);
            self.subtract_removed(&mem::take(&mut slice.removed));
            if done {
                part.advance();
            } else {
                part.cursor = Some(cursor);
            }
        }
        SweepStatus::Idle
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;
    use crate::SwarmConfig;

    #[test]
    fn the_parts_make_up_the_whole() {
        for workers in [1, 2, 3, 64, SHARDS, SHARDS + 5] {
            let parts = (0..workers).map(|worker| Sweep::new(worker, workers).shards());
            assert_eq!(parts.sum::<u64>(), SHARDS as u64);
        }
        // A worker without a part has nothing to do.
        let mut part = Sweep::new(SHARDS, SHARDS + 1);
        let config = SwarmConfig {
            torrents_max: 1,
            peers_max: 1,
            peers_per_torrent_max: 1,
            peers_per_address_max: 0,
            peer_timeout_s: 4000,
        };
        let swarms = Swarms::new(config, RandomState::new());
        for now in [0, 100_000] {
            assert_eq!(swarms.sweep(&mut part, now, |_| true), SweepStatus::Idle);
        }
    }
}

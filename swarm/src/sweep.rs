//! Expiry in slices: each worker goes over its part of the shards once in a sweep period, a
//! small piece of work at a time, so that nobody ever waits for it. Torrents that are not to be
//! kept go with it; when that is not to take a period, one round is made without a pause.

use super::InfoHash;
use super::shard::{Removed, SweepCursor};
use super::table::{SHARDS, Swarms};
use super::time::Budget;

/// How much one slice does, in stamps looked at: 8192 stamps of one swarm, 50 peers taken out of
/// a large one, 512 torrents visited, or 128 taken out. Measured at ten million peers, any of it
/// takes less than a tenth of a millisecond.
const SLICE: u32 = 8192;

/// What a slice pays for a look into a shard, in stamps looked at.
const SHARD_COST: u32 = 32;

/// Where one worker's part of the sweep is.
#[derive(Debug)]
pub struct Sweep {
    worker: usize,
    workers: usize,
    /// The second of the first slice, from which the pace is reckoned.
    started_s: Option<u32>,
    /// Shards done since then, but for those done in a hurry.
    done: u64,
    /// Shards to be done in a hurry, whatever the pace.
    full_round_left: u64,
    /// The next shard, as a number within this part.
    next: usize,
    /// Where in that shard to go on, if it is half done.
    cursor: Option<SweepCursor>,
}

/// Whether a worker's sweep is where it should be by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepStatus {
    /// Nothing is to be done before the next second.
    Idle,
    /// More is due: to be called again in this turn or a later one.
    Pending,
}

impl Sweep {
    /// The part of the sweep of one of `workers` workers, which are numbered from 0. Together they
    /// must call [`Swarms::sweep`] for all parts.
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

    /// From the next slice on goes over everything once without a pause: to be called when other
    /// torrents than before are to be kept.
    pub fn start_full_round(&mut self) {
        self.full_round_left = self.shards();
        // The part that is behind has been judged as before.
        self.cursor = None;
    }

    /// Shards in this part.
    fn shards(&self) -> u64 {
        SHARDS.saturating_sub(self.worker).div_ceil(self.workers) as u64
    }

    /// Whether a shard is to be done by second `now`.
    fn is_due(&mut self, now: u32, period_s: u32) -> bool {
        let shards = self.shards();
        let elapsed_s = now.saturating_sub(*self.started_s.get_or_insert(now));
        let due = u64::from(elapsed_s) * shards / u64::from(period_s);
        // After a long silence one round makes up for all that were missed.
        let missed_rounds = due.saturating_sub(self.done).checked_div(shards).unwrap_or(0);
        self.done += missed_rounds.saturating_sub(1) * shards;
        self.full_round_left > 0 || self.done < due
    }

    /// The shard at hand is done.
    fn advance(&mut self) {
        self.next = (self.next + 1) % self.shards() as usize;
        match self.full_round_left.checked_sub(1) {
            Some(left) => self.full_round_left = left,
            None => self.done += 1,
        }
    }
}

impl Swarms {
    /// One slice of expiry, if one is due at second `now`: takes out peers that have been silent
    /// for the timeout, all peers of torrents that are not to `keep`, and torrents without peers.
    /// At most a tenth of a millisecond of work under one lock after another, beside 512 calls of
    /// `keep`; to be called at least once a second.
    pub fn sweep(
        &self,
        part: &mut Sweep,
        now: u32,
        keep: impl Fn(&InfoHash) -> bool,
    ) -> SweepStatus {
        let ticks = self.ticks();
        let expired = ticks.expired(now);
        let mut budget = Budget::of(SLICE);
        while part.is_due(now, ticks.sweep_period_s()) {
            if budget.is_spent() {
                return SweepStatus::Pending;
            }
            budget.spend(SHARD_COST);
            let number = part.worker + part.next * part.workers;
            let mut removed = Removed::default();
            let mut shard = self.lock(number);
            let mut cursor = part.cursor.take().unwrap_or_else(|| shard.cursor());
            let done =
                shard.sweep(&mut cursor, expired, &keep, self.secret(), &mut budget, &mut removed);
            self.unconfirmed().set(number, shard.unconfirmed());
            drop(shard);
            self.note(&removed);
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
    use crate::{AnnounceRequest, CompactAddr, PeerEvent, Random, Sample, SwarmConfig, Totals};

    const TIMEOUT_S: u32 = 4000;
    const PERIOD_S: u32 = TIMEOUT_S / 4;

    fn swarms() -> Swarms {
        let config = SwarmConfig {
            torrents_max: 100_000,
            peers_max: 100_000,
            peers_per_torrent_max: 100_000,
            peers_per_address_max: 0,
            peer_timeout_s: TIMEOUT_S,
        };
        Swarms::new(config, RandomState::new())
    }

    /// `peers` announces at second 0, by turns to so many torrents.
    fn announce(swarms: &Swarms, torrents: u32, peers: u32) {
        let (mut random, mut sample) = (Random::seeded(0), Sample::with_capacity(0));
        for n in 0..peers {
            let mut info_hash = [0; 20];
            info_hash[..4].copy_from_slice(&(n % torrents).to_be_bytes());
            let [a, b, c, d] = n.to_be_bytes();
            let request = AnnounceRequest {
                info_hash,
                peer: CompactAddr::V4([a, b, c, d, 0, 1]),
                seeder: n % 2 == 0,
                event: PeerEvent::None,
                numwant: 0,
            };
            swarms.announce(&request, 0, &mut random, &mut sample);
        }
    }

    /// Slices until nothing is due any more.
    fn finish(swarms: &Swarms, part: &mut Sweep, now: u32) -> u32 {
        let mut slices = 1;
        while swarms.sweep(part, now, |_| true) == SweepStatus::Pending {
            slices += 1;
        }
        slices
    }

    #[test]
    fn the_parts_make_up_the_whole() {
        for workers in [1, 2, 3, 64, SHARDS, SHARDS + 5] {
            let parts = (0..workers).map(|worker| Sweep::new(worker, workers).shards());
            assert_eq!(parts.sum::<u64>(), SHARDS as u64);
        }
        // A worker without a part has nothing to do.
        let mut part = Sweep::new(SHARDS, SHARDS + 1);
        assert_eq!(swarms().sweep(&mut part, 0, |_| true), SweepStatus::Idle);
        assert_eq!(swarms().sweep(&mut part, 100_000, |_| true), SweepStatus::Idle);
    }

    #[test]
    fn the_work_is_spread_over_the_period() {
        let swarms = swarms();
        announce(&swarms, 40_000, 40_000);
        let mut part = Sweep::new(0, 1);
        let start_s = 2 * TIMEOUT_S;
        assert_eq!(swarms.sweep(&mut part, start_s, |_| true), SweepStatus::Idle);
        for quarter in 1..=4 {
            for now in (start_s + PERIOD_S / 4 * (quarter - 1)..).take(PERIOD_S as usize / 4) {
                let before = swarms.totals().peers;
                finish(&swarms, &mut part, now + 1);
                let gone = before - swarms.totals().peers;
                assert!(gone < 150, "{gone} in one of {PERIOD_S} seconds");
            }
            let left = swarms.totals().peers.abs_diff(40_000 - 10_000 * u64::from(quarter));
            assert!(left < 1000, "{left} off after quarter {quarter}");
        }
        assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
    }

    #[test]
    fn after_a_long_silence_one_or_two_rounds_do() {
        let swarms = swarms();
        announce(&swarms, 10, 10);
        let mut part = Sweep::new(0, 2);
        let mut other = Sweep::new(1, 2);
        for part in [&mut part, &mut other] {
            finish(&swarms, part, 0);
            let slices = finish(&swarms, part, 2 * TIMEOUT_S);
            // A shard costs SHARD_COST of the budget even if it is empty.
            assert!(slices < 2 * SHARDS as u32 / 2 * SHARD_COST / SLICE + 10, "{slices}");
        }
        assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
    }

    #[test]
    fn a_slice_of_a_large_swarm_is_a_small_part_of_it() {
        let swarms = swarms();
        announce(&swarms, 1, 50_000);
        let mut part = Sweep::new(0, 1);
        finish(&swarms, &mut part, 0);
        let slices = finish(&swarms, &mut part, PERIOD_S);
        assert!(slices > 50_000 / SLICE, "{slices} to look at all");
        assert_eq!(swarms.totals().peers, 50_000);
        let mut left = 50_000;
        while swarms.sweep(&mut part, 2 * TIMEOUT_S, |_| true) == SweepStatus::Pending {
            let now_left = swarms.totals().peers;
            assert!(left - now_left <= 128, "{} taken out in one slice", left - now_left);
            left = now_left;
        }
        assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
    }

    #[test]
    fn a_hurried_round_takes_out_what_is_not_kept_in_small_slices() {
        let swarms = swarms();
        announce(&swarms, 40_000, 40_000);
        let keep = |info_hash: &InfoHash| info_hash[3].is_multiple_of(2);
        let mut parts = [Sweep::new(0, 2), Sweep::new(1, 2)];
        for part in &mut parts {
            // Not by itself: nothing is due in the first second.
            assert_eq!(swarms.sweep(part, 0, keep), SweepStatus::Idle);
            part.start_full_round();
            loop {
                let before = swarms.totals().torrents;
                let swept = swarms.sweep(part, 0, keep);
                let gone = before - swarms.totals().torrents;
                assert!(gone <= 129, "{gone} taken out in one slice");
                if swept == SweepStatus::Idle {
                    break;
                }
            }
        }
        assert_eq!(swarms.totals(), Totals { torrents: 20_000, peers: 20_000 });
    }

    #[test]
    fn a_hurried_round_begun_anew_judges_everything_anew() {
        let swarms = swarms();
        announce(&swarms, 40_000, 40_000);
        announce(&swarms, 1, 20_000);
        let mut part = Sweep::new(0, 1);
        part.start_full_round();
        for _ in 0..20 {
            assert_eq!(swarms.sweep(&mut part, 0, |_| true), SweepStatus::Pending);
        }
        part.start_full_round();
        while swarms.sweep(&mut part, 0, |_| false) == SweepStatus::Pending {}
        assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
    }

    #[test]
    fn a_hurry_every_second_leaves_expiry_its_pace() {
        let swarms = swarms();
        announce(&swarms, 1000, 1000);
        let mut part = Sweep::new(0, 1);
        finish(&swarms, &mut part, 0);
        for now in 2 * TIMEOUT_S..2 * TIMEOUT_S + 40 {
            // The round is never finished.
            part.start_full_round();
            assert_eq!(swarms.sweep(&mut part, now, |_| true), SweepStatus::Pending);
        }
        assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
    }

    #[test]
    fn a_sweep_between_whose_slices_peers_come_and_go_takes_out_the_rest() {
        let swarms = swarms();
        announce(&swarms, 1, 3000);
        let (mut random, mut sample) = (Random::seeded(0), Sample::with_capacity(0));
        let mut part = Sweep::new(0, 1);
        finish(&swarms, &mut part, 0);
        let now = 2 * TIMEOUT_S;
        let mut slice: u8 = 0;
        while swarms.sweep(&mut part, now, |_| true) == SweepStatus::Pending {
            // A new peer, and one of the old ones that leaves, by turns of either kind.
            for (peer, event) in [
                ([9, 9, 9, slice, 0, 1], PeerEvent::None),
                ([0, 0, 2, slice, 0, 1], PeerEvent::Stopped),
            ] {
                let peer = CompactAddr::V4(peer);
                let seeder = slice.is_multiple_of(2);
                let a = AnnounceRequest { info_hash: [0; 20], peer, seeder, event, numwant: 0 };
                swarms.announce(&a, now, &mut random, &mut sample);
            }
            slice += 1;
        }
        // One round may leave what a new seeder has pushed out of its way.
        finish(&swarms, &mut part, now + PERIOD_S);
        assert_eq!(swarms.totals().peers, u64::from(slice));
    }
}

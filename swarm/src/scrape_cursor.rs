//! A walk over all torrents in the order of their info hashes, in small steps and in little
//! memory.
//!
//! The tables have another order, which only the secret explains. So the walk goes in rounds: each
//! looks at every torrent and keeps those of the next range of info hashes, to be given out before
//! the next round. A range is as wide as is due to the number of torrents; where that brings too
//! many, for info hashes are chosen by strangers, it is cut at its end.

use std::collections::BTreeMap;

use super::slices::Slices;
use super::table::Swarms;
use super::{Counts, InfoHash};

/// Torrents that are kept at most, some 3 MB. A round over ten million takes about a tenth of a
/// second, and they take 350 rounds; a walk that is given up frees what is kept in one go, in less
/// than a millisecond.
const KEPT_MAX: usize = 1 << 15;

/// Torrents that one step looks at, at most: a tenth of a millisecond, and thrice that if all of
/// them are kept.
const VISITS_PER_STEP: usize = 1024;

/// Torrents that are looked at under one lock, at most.
const VISITS_PER_LOCK: usize = 128;

/// Where a walk is; it begins with the default.
#[derive(Debug)]
pub struct ScrapeCursor {
    kept_max: usize,
    /// Of the range at hand, in order.
    kept: BTreeMap<InfoHash, Counts>,
    /// The range: all above `after`, if there is such, up to `to`.
    after: Option<InfoHash>,
    to: InfoHash,
    /// There was a round.
    begun: bool,
    /// Where the round goes on.
    slices: Slices,
    /// Found under a lock, and not yet kept.
    found: Vec<(InfoHash, Counts)>,
}

impl Default for ScrapeCursor {
    fn default() -> ScrapeCursor {
        ScrapeCursor::keeping(KEPT_MAX)
    }
}

/// The last of all info hashes.
const LAST: InfoHash = [0xff; 20];

impl ScrapeCursor {
    fn keeping(kept_max: usize) -> ScrapeCursor {
        ScrapeCursor {
            kept_max,
            kept: BTreeMap::new(),
            after: None,
            to: [0; 20],
            begun: false,
            slices: Slices::COMPLETE,
            found: Vec::with_capacity(VISITS_PER_LOCK),
        }
    }

    /// Begins the round for the next range, of which as many as are to be kept can be expected;
    /// whether there is one.
    fn begin_round(&mut self, torrents: u64) -> bool {
        if self.begun {
            if self.to == LAST {
                return false;
            }
            self.after = Some(self.to);
        }
        self.begun = true;
        // An eighth less, so that it is seldom more.
        let expected = (self.kept_max - self.kept_max / 8) as u64;
        let width = match torrents <= expected {
            true => u64::MAX,
            false => (u64::MAX / torrents).saturating_mul(expected).max(1),
        };
        let from = self.after.map_or(0, |after| leading(&after));
        self.to = LAST;
        self.to[..8].copy_from_slice(&from.saturating_add(width).to_be_bytes());
        self.slices = Slices::default();
        true
    }

    /// Keeps what was found.
    fn keep_found(&mut self) {
        for (info_hash, counts) in self.found.drain(..) {
            if info_hash > self.to {
                continue;
            }
            self.kept.insert(info_hash, counts);
            if self.kept.len() > self.kept_max {
                self.kept.pop_last();
                if let Some((&last, _)) = self.kept.last_key_value() {
                    self.to = last;
                }
            }
        }
    }
}

impl Swarms {
    /// One step of a walk over all torrents: appends up to `max` of them, possibly none, and says
    /// whether there may be more. Their info hashes rise from each to the next. A torrent that is
    /// there during the whole walk is among them.
    pub fn walk(
        &self,
        walk: &mut ScrapeCursor,
        max: usize,
        out: &mut Vec<(InfoHash, Counts)>,
    ) -> bool {
        if walk.slices.is_complete() {
            out.extend((0..max).map_while(|_| walk.kept.pop_first()));
            return !walk.kept.is_empty() || walk.begin_round(self.totals().torrents);
        }
        let mut visits = VISITS_PER_STEP;
        while visits > 0 && !walk.slices.is_complete() {
            let ScrapeCursor { slices, found, after, to, .. } = walk;
            self.look_at_slice(slices, VISITS_PER_LOCK, &mut visits, |torrent| {
                let info_hash = torrent.info_hash;
                if info_hash <= *to && after.is_none_or(|after| info_hash > after) {
                    found.push((info_hash, torrent.counts()));
                }
            });
            walk.keep_found();
        }
        true
    }
}

/// The first 64 bits.
fn leading(info_hash: &InfoHash) -> u64 {
    info_hash.iter().take(8).fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::RandomState;

    use super::*;
    use crate::{AnnounceRequest, CompactAddr, Event, Random, Sample, SwarmConfig};

    fn swarms() -> Swarms {
        let settings = SwarmConfig {
            torrents_max: 100_000,
            peers_max: 100_000,
            peers_per_torrent_max: 10,
            peers_per_address_max: 0,
            peer_timeout_s: 100,
        };
        Swarms::new(settings, RandomState::new())
    }

    fn announce(swarms: &Swarms, info_hash: InfoHash, event: Event) {
        let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(0));
        let peer = CompactAddr::V4([10, 0, 0, 1, 0, 80]);
        let a = AnnounceRequest { info_hash, peer, seeder: true, event, want: 0 };
        swarms.announce(&a, 0, &mut random, &mut sample);
    }

    /// A thousand and more info hashes: as they usually are, or as close as can be.
    fn info_hashes(spread: bool) -> BTreeSet<InfoHash> {
        let mut random = Random::seeded(7);
        let mut all: BTreeSet<InfoHash> = (0..1300_u32)
            .map(|n| {
                let mut info_hash = [0x5a; 20];
                let number = if spread { random.below(u32::MAX) } else { n };
                let at = if spread { 0 } else { 16 };
                info_hash[at..at + 4].copy_from_slice(&number.to_be_bytes());
                info_hash
            })
            .collect();
        all.extend([[0; 20], LAST, [[0xff; 8].as_slice(), &[0; 12]].concat().try_into().unwrap()]);
        all
    }

    #[test]
    fn every_torrent_comes_once_and_in_order() {
        for spread in [true, false] {
            let swarms = swarms();
            let all = info_hashes(spread);
            all.iter().for_each(|&info_hash| announce(&swarms, info_hash, Event::Completed));
            for (kept_max, max) in [(KEPT_MAX, 256), (1, 1), (10, 3), (100, 100), (1303, 5)] {
                let mut walk = ScrapeCursor::keeping(kept_max);
                let (mut found, mut more) = (Vec::new(), true);
                while more {
                    let before = found.len();
                    more = swarms.walk(&mut walk, max, &mut found);
                    assert!(found.len() - before <= max && walk.kept.len() <= kept_max);
                }
                assert!(!swarms.walk(&mut walk, max, &mut found));
                let counts = Counts { complete: 1, incomplete: 0, downloaded: 1 };
                assert!(found.iter().all(|(_, found)| *found == counts));
                assert!(found.iter().map(|(info_hash, _)| info_hash).eq(&all), "{kept_max}");
            }
        }
    }

    #[test]
    fn nothing_comes_of_nothing() {
        let (mut walk, mut found) = (ScrapeCursor::default(), Vec::new());
        while swarms().walk(&mut walk, 10, &mut found) {}
        assert!(found.is_empty());
    }

    #[test]
    fn what_stays_comes_whatever_else_comes_and_goes() {
        let swarms = swarms();
        let all = info_hashes(true);
        all.iter().for_each(|&info_hash| announce(&swarms, info_hash, Event::None));
        let (stay, go): (Vec<InfoHash>, Vec<InfoHash>) =
            all.into_iter().partition(|info_hash| info_hash[3].is_multiple_of(2));
        let mut walk = ScrapeCursor::keeping(40);
        let (mut found, mut step) = (Vec::new(), 0);
        while swarms.walk(&mut walk, 7, &mut found) {
            // One leaves, so that another has its row; one that was gone is back.
            announce(&swarms, go[step % go.len()], Event::Stopped);
            announce(&swarms, go[(step + go.len() / 2) % go.len()], Event::None);
            step += 1;
        }
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b));
        let found: BTreeSet<InfoHash> = found.into_iter().map(|(info_hash, _)| info_hash).collect();
        assert!(stay.iter().all(|info_hash| found.contains(info_hash)));
        assert!(go.iter().any(|info_hash| found.contains(info_hash)));
    }
}

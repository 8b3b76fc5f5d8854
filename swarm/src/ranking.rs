//! The largest torrents, found by one scan of all in small steps and in little memory.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::scan::ScanCursor;
use super::table::Swarms;
use super::{InfoHash, TorrentCounts};

/// The max torrents that one step visits.
const VISITS_PER_STEP: usize = 1024;

/// The max torrents visited under one lock: fewer than in a worker's scan, because the thread that
/// ranks has a lower priority and may be preempted while it holds the lock.
const VISITS_PER_LOCK: usize = 32;

/// The order of a ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankBy {
    /// [`TorrentCounts::incomplete`].
    Leechers,
    /// [`TorrentCounts::complete`].
    Seeders,
    /// [`TorrentCounts::downloaded`].
    Downloads,
}

impl RankBy {
    /// In the order of their discriminants.
    pub const ALL: [RankBy; 3] = [RankBy::Leechers, RankBy::Seeders, RankBy::Downloads];

    fn value(self, counts: &TorrentCounts) -> u32 {
        match self {
            RankBy::Leechers => counts.incomplete,
            RankBy::Seeders => counts.complete,
            RankBy::Downloads => counts.downloaded,
        }
    }
}

/// The largest torrents by each [`RankBy`] of those scanned so far.
#[derive(Debug)]
pub struct Ranking {
    lists: [TopList; RankBy::ALL.len()],
    /// Torrents visited.
    seen: u64,
    scan: ScanCursor,
    /// Torrents of the present slice that may rank; they are ranked after the lock is released.
    found: Vec<(InfoHash, TorrentCounts)>,
}

impl Ranking {
    /// Finds up to `max` torrents by each order.
    pub fn new(max: usize) -> Ranking {
        Ranking {
            lists: RankBy::ALL.map(|measure| TopList::new(measure, max)),
            seen: 0,
            scan: ScanCursor::default(),
            found: Vec::with_capacity(VISITS_PER_LOCK),
        }
    }

    /// The largest first; of equal ones the one with the lower info hash is first.
    pub fn top(&self, by: RankBy) -> impl Iterator<Item = (InfoHash, TorrentCounts)> {
        self.lists[by as usize].iter()
    }

    pub fn scanned(&self) -> u64 {
        self.seen
    }
}

/// The largest torrents by one order.
#[derive(Debug)]
struct TopList {
    measure: RankBy,
    max: usize,
    order: BTreeSet<(Reverse<u32>, InfoHash)>,
    /// The last in `order`, once it has `max` entries.
    last: Option<(Reverse<u32>, InfoHash)>,
    /// The counts of those in `order`: a torrent that moves to another row may be visited twice.
    counts: HashMap<InfoHash, TorrentCounts>,
}

impl TopList {
    fn new(measure: RankBy, max: usize) -> TopList {
        TopList { measure, max, order: BTreeSet::new(), last: None, counts: HashMap::new() }
    }

    fn key(&self, info_hash: &InfoHash, counts: &TorrentCounts) -> (Reverse<u32>, InfoHash) {
        (Reverse(self.measure.value(counts)), *info_hash)
    }

    /// Whether a torrent belongs to the largest ones so far.
    fn qualifies(&self, info_hash: &InfoHash, counts: &TorrentCounts) -> bool {
        self.last.is_none_or(|last| self.key(info_hash, counts) < last)
    }

    fn add(&mut self, info_hash: &InfoHash, counts: &TorrentCounts) {
        if let Some(before) = self.counts.insert(*info_hash, *counts) {
            self.order.remove(&self.key(info_hash, &before));
        }
        self.order.insert(self.key(info_hash, counts));
        if self.order.len() > self.max
            && let Some((_, info_hash)) = self.order.pop_last()
        {
            self.counts.remove(&info_hash);
        }
        if self.order.len() == self.max {
            self.last = self.order.last().copied();
        }
    }

    fn iter(&self) -> impl Iterator<Item = (InfoHash, TorrentCounts)> {
        self.order.iter().map(|(_, info_hash)| (*info_hash, self.counts[info_hash]))
    }
}

impl Swarms {
    /// One step of the scan that ranks all torrents for which `served` is true; returns whether it
    /// goes on. A torrent that exists during the whole scan is ranked, by its counts at some
    /// moment.
    pub fn rank(&self, ranking: &mut Ranking, served: impl Fn(&InfoHash) -> bool) -> bool {
        let mut visits = VISITS_PER_STEP;
        let Ranking { lists, seen, scan, found } = ranking;
        while visits > 0 && !scan.is_complete() {
            self.scan_slice(scan, VISITS_PER_LOCK, &mut visits, |torrent| {
                let (info_hash, counts) = (torrent.info_hash, torrent.counts());
                if lists.iter().any(|list| list.qualifies(&info_hash, &counts)) {
                    found.push((info_hash, counts));
                }
                *seen += 1;
            });
            for (info_hash, counts) in found.drain(..).filter(|(hash, _)| served(hash)) {
                let lists = lists.iter_mut().filter(|list| list.qualifies(&info_hash, &counts));
                lists.for_each(|list| list.add(&info_hash, &counts));
            }
        }
        !scan.is_complete()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::RandomState;

    use quickcheck::quickcheck;

    use super::*;
    use crate::scan::SHARD_COST;
    use crate::table::SHARDS;
    use crate::{AnnounceRequest, CompactAddr, PeerEvent, Random, Sample, SwarmConfig};

    fn swarms() -> Swarms {
        let config = SwarmConfig {
            torrents_max: 100_000,
            peers_max: 100_000,
            peers_per_torrent_max: 1000,
            peers_per_address_max: 0,
            peer_timeout_s: 100,
        };
        Swarms::new(config, RandomState::new())
    }

    fn announce(swarms: &Swarms, info_hash: InfoHash, port: u16, seeder: bool, event: PeerEvent) {
        let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(0));
        let peer = CompactAddr::new([10, 0, 0, 1].into(), port);
        let a =
            AnnounceRequest { info_hash, peer, seeder, event, numwant: 0, own_family_only: false };
        swarms.announce(&a, 0, &mut random, &mut sample);
    }

    fn info_hash(number: u16) -> InfoHash {
        let mut info_hash = [0x5a; 20];
        info_hash[..2].copy_from_slice(&number.to_le_bytes());
        info_hash
    }

    /// The expected [`Ranking::top`].
    fn sorted(
        all: &BTreeMap<InfoHash, TorrentCounts>,
        by: RankBy,
        max: usize,
    ) -> Vec<(InfoHash, TorrentCounts)> {
        let mut all: Vec<(InfoHash, TorrentCounts)> =
            all.iter().map(|(it, counts)| (*it, *counts)).collect();
        all.sort_by_key(|(_, counts)| Reverse(by.value(counts)));
        all.truncate(max);
        all
    }

    quickcheck! {
        /// The peers: the torrent of each, whether it is a seeder, and whether it has just
        /// completed.
        fn the_largest_are_the_first_of_all_sorted(peers: Vec<(u8, bool, bool)>, max: u8) -> bool {
            let swarms = swarms();
            let mut all: BTreeMap<InfoHash, TorrentCounts> = BTreeMap::new();
            for (&(torrent, seeder, completes), port) in peers.iter().zip(1..) {
                let info_hash = info_hash(u16::from(torrent % 32));
                announce(&swarms, info_hash, port, false, PeerEvent::None);
                let counts = all.entry(info_hash).or_default();
                if !seeder {
                    counts.incomplete += 1;
                    continue;
                }
                let event = if completes { PeerEvent::Completed } else { PeerEvent::None };
                announce(&swarms, info_hash, port, true, event);
                counts.complete += 1;
                counts.downloaded += u32::from(completes);
            }
            let served = |info_hash: &InfoHash| !info_hash[0].is_multiple_of(5);
            [true, false].into_iter().all(|listed| {
                let serves = |info_hash: &InfoHash| !listed || served(info_hash);
                let mut ranking = Ranking::new(usize::from(max));
                while swarms.rank(&mut ranking, serves) {}
                let mut all = all.clone();
                let seen = all.len() as u64;
                all.retain(|info_hash, _| serves(info_hash));
                ranking.scanned() == seen && RankBy::ALL.into_iter().all(|by| {
                    let found: Vec<_> = ranking.top(by).collect();
                    found == sorted(&all, by, usize::from(max))
                })
            })
        }
    }

    #[test]
    fn steps_are_bounded_and_nothing_is_missed() {
        let swarms = swarms();
        for number in 0..5000 {
            announce(&swarms, info_hash(number), 1, number % 3 == 0, PeerEvent::None);
        }
        let mut ranking = Ranking::new(7);
        let mut steps = 1;
        while swarms.rank(&mut ranking, |_| true) {
            let before = ranking.scanned();
            steps += 1;
            assert!(ranking.scanned() - before <= VISITS_PER_STEP as u64);
        }
        assert_eq!(ranking.scanned(), 5000);
        assert!(steps >= (5000 + SHARDS * SHARD_COST) / VISITS_PER_STEP, "{steps}");
        assert!(!swarms.rank(&mut ranking, |_| true));
        assert_eq!(ranking.scanned(), 5000);
    }

    #[test]
    fn a_torrent_is_ranked_once_while_others_come_and_go() {
        let swarms = swarms();
        // About ten in a shard; one moves when another leaves.
        for number in 0..20_000 {
            announce(&swarms, info_hash(number), 1, false, PeerEvent::None);
        }
        let large = [3, 9000, 19_999];
        for (number, peers) in large.into_iter().zip([9, 8, 7]) {
            for port in 2..peers {
                announce(&swarms, info_hash(number), port, false, PeerEvent::None);
            }
        }
        let mut ranking = Ranking::new(large.len());
        let mut step = 0;
        while swarms.rank(&mut ranking, |_| true) {
            for number in (0..20_000).skip(step % 97).step_by(97) {
                if !large.contains(&number) {
                    let event = if step % 2 == 0 { PeerEvent::Stopped } else { PeerEvent::None };
                    announce(&swarms, info_hash(number), 1, false, event);
                }
            }
            step += 1;
        }
        let found: Vec<InfoHash> = ranking.top(RankBy::Leechers).map(|(it, _)| it).collect();
        assert_eq!(found, large.map(info_hash));
    }
}

//! One of the many tables that the torrents are spread over, and what happens to one torrent of
//! it while it is locked.

use std::hash::RandomState;

use hashbrown::HashTable;

use super::chunked_vec::{ChunkedVec, ConstDefault};
use super::peers::{Peers, RowsLeft};
use super::time::{Budget, ExpiredStamps};
use super::{InfoHash, Random, SwarmStats, TorrentCounts, keyed_hash};

/// Torrents of one shard: row numbers have 16 bits, of which an eighth stays free so that the
/// index is never crowded. 2048 shards hold 117 million, which would be 8 GB.
pub(super) const TORRENTS_PER_SHARD_MAX: usize = 0x1_0000 / 8 * 7;

/// Torrents in a block of the store: less than one block a shard is unused, and its slot in the
/// list of blocks is half a byte a torrent.
const BLOCK: usize = 16;

/// What a slice of the sweep pays for a visit to a torrent, in stamps looked at: most cost two
/// cache misses.
const VISIT_COST: u32 = 16;

/// What it pays for taking a torrent out, its heap block included.
const TORRENT_REMOVAL_COST: u32 = 48;

/// Torrents of a shard up to which those with one peer that has announced once are counted, to
/// draw one.
const COUNTED_MAX: usize = 128;

/// Torrents that are looked at in a larger shard, to find such a one.
const DRAWS_MAX: usize = 64;

/// A torrent that somebody has announced.
#[derive(Debug)]
pub(super) struct Torrent {
    pub(super) info_hash: InfoHash,
    pub(super) downloaded: u32,
    pub(super) peers: Peers,
}

const _: () = assert!(size_of::<Torrent>() == 56);

impl ConstDefault for Torrent {
    const DEFAULT: Self = Torrent { info_hash: [0; 20], downloaded: 0, peers: Peers::EMPTY };
}

impl Torrent {
    pub(super) fn counts(&self) -> TorrentCounts {
        self.peers.counts(self.downloaded)
    }
}

/// The row of a torrent and 16 bits of the hash of its info hash. So the index grows without a
/// look at a torrent or a hash computed, and a search sees the right torrent only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IndexEntry {
    row: u16,
    hash: u16,
}

impl IndexEntry {
    fn new(hash: u64, row: usize) -> IndexEntry {
        IndexEntry { row: row as u16, hash: hash as u16 }
    }

    fn row(self) -> usize {
        usize::from(self.row)
    }

    /// hashbrown wants its bits at both ends.
    fn spread(&self) -> u64 {
        spread(u64::from(self.hash))
    }
}

fn spread(hash: u64) -> u64 {
    (hash & 0xffff) * 0x0001_0000_0000_0001
}

/// See the module. The shard is chosen by the highest bits of the keyed hash of the info hash;
/// `hash` is that hash everywhere, and only its lowest 16 bits matter here.
#[derive(Debug)]
pub(super) struct Shard {
    index: HashTable<IndexEntry>,
    torrents: ChunkedVec<Torrent, BLOCK>,
    /// Of this shard; peers are entered by [`Swarms`](super::Swarms), which knows of them first.
    pub(super) stats: SwarmStats,
    /// Torrents with one peer that has announced once.
    unconfirmed: u32,
}

/// Where in a shard a sweep goes on.
#[derive(Debug)]
pub(super) struct SweepCursor {
    /// Before which row.
    end: usize,
    /// The torrent that was left half done, and what of it was left. If another thread has moved
    /// it meanwhile, it is found again at a lower row, or in the next round.
    inside: Option<(InfoHash, RowsLeft)>,
}

/// What a slice of a sweep took out.
#[derive(Debug, Default)]
pub(super) struct Removed {
    pub(super) torrents: u64,
    pub(super) peers: u64,
}

impl Shard {
    pub(super) const fn new() -> Shard {
        Shard {
            index: HashTable::new(),
            torrents: ChunkedVec::new(),
            stats: SwarmStats::ZERO,
            unconfirmed: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.torrents.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= TORRENTS_PER_SHARD_MAX
    }

    /// The row of a torrent.
    pub(super) fn find(&self, hash: u64, info_hash: &InfoHash) -> Option<usize> {
        let is_it = |slot: &IndexEntry| {
            slot.hash == hash as u16 && self.torrents[slot.row()].info_hash == *info_hash
        };
        self.index.find(spread(hash), is_it).map(|slot| slot.row())
    }

    pub(super) fn torrent(&self, row: usize) -> &Torrent {
        &self.torrents[row]
    }

    pub(super) fn torrent_mut(&mut self, row: usize) -> &mut Torrent {
        &mut self.torrents[row]
    }

    /// A torrent, and the census that a change of its peers has to be entered in.
    pub(super) fn torrent_and_stats(&mut self, row: usize) -> (&mut Torrent, &mut SwarmStats) {
        (&mut self.torrents[row], &mut self.stats)
    }

    /// Adds a torrent that is not here yet, to a shard that is not full; says at which row.
    pub(super) fn insert(&mut self, hash: u64, info_hash: InfoHash) -> usize {
        let row = self.len();
        self.torrents.push(Torrent { info_hash, ..Torrent::DEFAULT });
        self.stats.torrents += 1;
        self.index.insert_unique(spread(hash), IndexEntry::new(hash, row), IndexEntry::spread);
        row
    }

    /// Torrents with one peer that has announced once.
    pub(super) fn unconfirmed(&self) -> u32 {
        self.unconfirmed
    }

    /// The torrent at `row`, which is new, has got its peer.
    pub(super) fn mark_unconfirmed(&mut self, row: usize) {
        self.torrents[row].peers.set_unconfirmed(true);
        self.unconfirmed += 1;
    }

    /// The torrent at `row`, which had one peer that had announced once, has had more since.
    pub(super) fn mark_confirmed(&mut self, row: usize) {
        self.torrents[row].peers.set_unconfirmed(false);
        self.unconfirmed -= 1;
    }

    /// The row of a torrent with one peer that has announced once, each as likely as any other;
    /// none if there is none, or there are so few in a large shard that none was found.
    pub(super) fn pick_unconfirmed(&self, random: &mut Random) -> Option<usize> {
        let is_unconfirmed = |row: &usize| self.torrents[*row].peers.is_unconfirmed();
        if self.unconfirmed == 0 {
            None
        } else if self.len() <= COUNTED_MAX {
            let number = random.below(self.unconfirmed);
            (0..self.len()).filter(is_unconfirmed).nth(number as usize)
        } else {
            (0..DRAWS_MAX).map(|_| random.below(self.len() as u32) as usize).find(is_unconfirmed)
        }
    }

    /// Takes out the torrent at `row`; the last one takes its row.
    pub(super) fn remove(&mut self, row: usize, secret: &RandomState) {
        if self.torrents[row].peers.is_unconfirmed() {
            self.mark_confirmed(row);
        }
        let hash = keyed_hash(secret, &self.torrents[row].info_hash);
        let slot = IndexEntry::new(hash, row);
        if let Ok(entry) = self.index.find_entry(spread(hash), |known| *known == slot) {
            entry.remove();
        }
        let last = self.len() - 1;
        if row != last {
            let hash = keyed_hash(secret, &self.torrents[last].info_hash);
            let moved = IndexEntry::new(hash, last);
            if let Some(known) = self.index.find_mut(spread(hash), |known| *known == moved) {
                known.row = row as u16;
            }
        }
        self.torrents.swap_remove(row);
        self.stats.torrents -= 1;
        debug_assert_eq!(self.index.len(), self.torrents.len());
    }

    /// Where a sweep begins: at the end, because a removal moves the last torrent down.
    pub(super) fn cursor(&self) -> SweepCursor {
        SweepCursor { end: self.len(), inside: None }
    }

    /// Takes out expired peers, all peers of torrents that are not to `keep`, and empty torrents,
    /// from `cursor` on, until done or the budget is spent; says whether it is done.
    pub(super) fn sweep(
        &mut self,
        cursor: &mut SweepCursor,
        expired: ExpiredStamps,
        keep: impl Fn(&InfoHash) -> bool,
        secret: &RandomState,
        budget: &mut Budget,
        removed: &mut Removed,
    ) -> bool {
        cursor.end = cursor.end.min(self.len());
        while cursor.end > 0 {
            if budget.is_spent() {
                return false;
            }
            budget.spend(VISIT_COST);
            let row = cursor.end - 1;
            let torrent = &mut self.torrents[row];
            let left = match cursor.inside.take() {
                Some((info_hash, left)) if info_hash == torrent.info_hash => left,
                _ => torrent.peers.rows_left(),
            };
            let kept = keep(&torrent.info_hash);
            let expired = if kept { expired } else { ExpiredStamps::ALL };
            let (len_before, before) = (torrent.peers.len(), torrent.peers.peer_counts());
            let left = torrent.peers.expire(left, expired, budget);
            let after = torrent.peers.len();
            if after < len_before {
                removed.peers += (len_before - after) as u64;
                self.stats.shrink(before, torrent.peers.peer_counts());
            }
            if !left.is_none() {
                cursor.inside = Some((torrent.info_hash, left));
                return false;
            }
            if after == 0 {
                self.remove(row, secret);
                removed.torrents += 1;
                budget.spend(TORRENT_REMOVAL_COST);
            }
            cursor.end = row;
        }
        self.shrink_index();
        true
    }

    fn shrink_index(&mut self) {
        if self.index.len() * 4 <= self.index.capacity() {
            self.index.shrink_to(self.index.len() * 2, IndexEntry::spread);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::address_policy::AddressPolicy;
    use crate::time::Ticks;
    use crate::{CompactAddr, Random};

    fn info_hash(n: u16) -> InfoHash {
        let mut info_hash = [5; 20];
        info_hash[..2].copy_from_slice(&n.to_be_bytes());
        info_hash
    }

    fn insert(shard: &mut Shard, n: u16, peers: u16, secret: &RandomState) {
        let row = shard.insert(keyed_hash(secret, &info_hash(n)), info_hash(n));
        for peer in 0..peers {
            let [high, low] = peer.to_be_bytes();
            let peer = CompactAddr::V4([1, 2, high, low, 0, 1]);
            let (torrent, stats) = shard.torrent_and_stats(row);
            let policy = Arc::new(AddressPolicy::new(secret.clone(), 0));
            torrent.peers.add(&peer, false, 0, &policy);
            stats.add_peer(&peer, false);
        }
    }

    fn find(shard: &Shard, n: u16, secret: &RandomState) -> Option<usize> {
        shard.find(keyed_hash(secret, &info_hash(n)), &info_hash(n))
    }

    #[test]
    fn every_torrent_is_found_while_others_come_and_go() {
        let secret = RandomState::new();
        let mut shard = Shard::new();
        let mut random = Random::seeded(11);
        let mut model: BTreeMap<u16, u32> = BTreeMap::new();
        for step in 0..6000_u32 {
            // Waves of up to some thousand torrents.
            let n = random.below(3000) as u16;
            match find(&shard, n, &secret) {
                Some(row) if step / 1500 % 2 == 1 => {
                    assert_eq!(model.remove(&n), Some(shard.torrent(row).downloaded));
                    shard.remove(row, &secret);
                }
                None if step / 1500 % 2 == 0 => {
                    assert_eq!(model.insert(n, step), None);
                    let row = shard.insert(keyed_hash(&secret, &info_hash(n)), info_hash(n));
                    shard.torrent_mut(row).downloaded = step;
                }
                found => assert_eq!(found.is_some(), model.contains_key(&n)),
            }
            assert_eq!(shard.len(), model.len());
            if step % 50 == 0 {
                for n in 0..3000 {
                    let row = find(&shard, n, &secret);
                    let downloaded = row.map(|row| shard.torrent(row).downloaded);
                    assert_eq!(downloaded, model.get(&n).copied(), "{n} at step {step}");
                }
            }
        }
    }

    #[test]
    fn a_place_inside_a_torrent_means_nothing_in_another() {
        let secret = RandomState::new();
        let mut shard = Shard::new();
        for (n, peers) in [(1, 300), (2, 10), (3, 300)] {
            insert(&mut shard, n, peers, &secret);
        }
        let expired = Ticks::new(50).expired(100);
        let mut cursor = shard.cursor();
        let mut removed = Removed::default();
        let mut sweep = |shard: &mut Shard, units: u32| {
            shard.sweep(
                &mut cursor,
                expired,
                |_| true,
                &secret,
                &mut Budget::of(units),
                &mut removed,
            )
        };
        // Of the third torrent nearly all has been seen when it goes, and another has its row.
        while shard.torrent(2).peers.len() > 30 {
            assert!(!sweep(&mut shard, 100));
        }
        let rest = shard.torrent(2).peers.len() as u64;
        shard.remove(2, &secret);
        insert(&mut shard, 4, 100, &secret);
        assert!(sweep(&mut shard, u32::MAX));
        assert_eq!(shard.len(), 0, "left behind: {:?}", shard.torrents);
        assert_eq!((removed.torrents, removed.peers), (3, 300 + 10 + 100 + (300 - rest)));
    }

    #[test]
    fn an_emptied_shard_gives_its_memory_back() {
        let secret = RandomState::new();
        let mut shard = Shard::new();
        (0..2000).for_each(|n| insert(&mut shard, n, 1, &secret));
        assert!(shard.index.capacity() >= 2000);
        let mut cursor = shard.cursor();
        let expired = Ticks::new(50).expired(100);
        let (mut budget, mut removed) = (Budget::of(u32::MAX), Removed::default());
        assert!(shard.sweep(&mut cursor, expired, |_| true, &secret, &mut budget, &mut removed));
        assert_eq!((shard.len(), shard.index.capacity()), (0, 0));
    }
}

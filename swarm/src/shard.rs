//! One of the tables that the torrents are spread over; each is behind a lock.

use std::hash::RandomState;

use super::chunked_vec::{ChunkedVec, ConstDefault};
use super::peers::{Peers, RowsLeft};
use super::time::{Budget, ExpiredStamps};
use super::torrent_index::{ENTRIES_MAX, TorrentIndex};
use super::{InfoHash, Random, SwarmStats, TorrentCounts, keyed_hash};

/// Row numbers have 16 bits, of which an eighth stays unused so that the index is never crowded.
/// 2048 shards hold 117 million torrents, about 8 GB.
pub(super) const TORRENTS_PER_SHARD_MAX: usize = ENTRIES_MAX;

/// Torrents in a block of the store: at most one block a shard is partly unused, and its pointer
/// costs half a byte a torrent.
const BLOCK: usize = 16;

/// The cost of visiting a torrent in a sweep, in stamps checked: most take two cache misses.
const VISIT_COST: u32 = 16;

/// The cost of removing a torrent and its heap block, in stamps checked.
const TORRENT_REMOVAL_COST: u32 = 48;

/// To draw an unconfirmed torrent, a shard of up to this many torrents is scanned.
const SCANNED_MAX: usize = 128;

/// To draw an unconfirmed torrent from a larger shard, this many random rows are probed.
const PROBES_MAX: usize = 64;

/// A torrent and its peers.
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

/// A table of torrents. A `hash` is the keyed hash of an info hash: its highest bits have chosen
/// the shard, and only its lowest 16 matter here.
#[derive(Debug)]
pub(super) struct Shard {
    index: TorrentIndex,
    torrents: ChunkedVec<Torrent, BLOCK>,
    /// [`Swarms`](super::Swarms) counts the peers here, the shard itself the torrents.
    pub(super) stats: SwarmStats,
    unconfirmed: u32,
}

/// Where in a shard a sweep goes on.
#[derive(Debug)]
pub(super) struct SweepCursor {
    /// The sweep goes on before this row.
    end: usize,
    /// The torrent that was left half done, and its rows left to visit. If another thread has moved
    /// the torrent, the sweep meets it again at a lower row, or in its next round.
    inside: Option<(InfoHash, RowsLeft)>,
}

/// What a slice of the sweep removes, and what it has removed.
pub(super) struct SweepSlice<'a, K: Fn(&InfoHash) -> bool> {
    pub(super) expired: ExpiredStamps,
    /// Torrents for which this is false are removed with all their peers.
    pub(super) keep: K,
    pub(super) secret: &'a RandomState,
    pub(super) budget: Budget,
    pub(super) removed: Removed,
}

/// What a slice of the sweep has removed.
#[derive(Debug, Default)]
pub(super) struct Removed {
    pub(super) torrents: u64,
    pub(super) peers: u64,
}

impl Shard {
    pub(super) fn new() -> Shard {
        Shard {
            index: TorrentIndex::default(),
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

    pub(super) fn find(&self, hash: u64, info_hash: &InfoHash) -> Option<usize> {
        self.index.find(hash as u16, |row| self.torrents[row].info_hash == *info_hash)
    }

    /// Has the slot of the index fetched at which a search begins.
    pub(super) fn prefetch_slot(&self, hash: u64) {
        self.index.prefetch(hash as u16);
    }

    /// The row of a torrent with the same bits of hash, probably the right one; has the pointer to
    /// its block fetched.
    pub(super) fn prefetch_block(&self, hash: u64) -> Option<usize> {
        let row = self.index.find(hash as u16, |_| true)?;
        self.torrents.prefetch_block(row);
        Some(row)
    }

    /// Has a torrent fetched, if there is one at `row` still.
    pub(super) fn prefetch_torrent(&self, row: usize) {
        self.torrents.prefetch(row);
    }

    /// The peers of the torrent at `row`, if there is one still.
    pub(super) fn peers(&self, row: usize) -> Option<&Peers> {
        (row < self.len()).then(|| &self.torrents[row].peers)
    }

    pub(super) fn torrent(&self, row: usize) -> &Torrent {
        &self.torrents[row]
    }

    pub(super) fn torrent_mut(&mut self, row: usize) -> &mut Torrent {
        &mut self.torrents[row]
    }

    /// A torrent, and the counts to update when its peers change.
    pub(super) fn torrent_and_stats(&mut self, row: usize) -> (&mut Torrent, &mut SwarmStats) {
        (&mut self.torrents[row], &mut self.stats)
    }

    /// Adds a torrent that is not in this shard, which is not full; returns its row.
    pub(super) fn insert(&mut self, hash: u64, info_hash: InfoHash) -> usize {
        let row = self.len();
        self.torrents.push(Torrent { info_hash, ..Torrent::DEFAULT });
        self.stats.torrents += 1;
        self.index.insert(hash as u16, row);
        row
    }

    /// The number of unconfirmed torrents: one peer, which has announced once.
    pub(super) fn unconfirmed(&self) -> u32 {
        self.unconfirmed
    }

    /// The torrent at `row`, which is new, has got its first peer.
    pub(super) fn mark_unconfirmed(&mut self, row: usize) {
        self.torrents[row].peers.set_unconfirmed(true);
        self.unconfirmed += 1;
    }

    /// The torrent at `row`, which was unconfirmed, has been announced again.
    pub(super) fn mark_confirmed(&mut self, row: usize) {
        self.torrents[row].peers.set_unconfirmed(false);
        self.unconfirmed -= 1;
    }

    /// The row of a random unconfirmed torrent. `None` if there is none, or if a large shard has so
    /// few that no probe hits one.
    pub(super) fn pick_unconfirmed(&self, random: &mut Random) -> Option<usize> {
        let is_unconfirmed = |row: &usize| self.torrents[*row].peers.is_unconfirmed();
        if self.unconfirmed == 0 {
            None
        } else if self.len() <= SCANNED_MAX {
            let number = random.below(self.unconfirmed);
            (0..self.len()).filter(is_unconfirmed).nth(number as usize)
        } else {
            (0..PROBES_MAX).map(|_| random.below(self.len() as u32) as usize).find(is_unconfirmed)
        }
    }

    /// Removes the torrent at `row`; the last torrent moves to that row.
    pub(super) fn remove(&mut self, row: usize, secret: &RandomState) {
        if self.torrents[row].peers.is_unconfirmed() {
            self.mark_confirmed(row);
        }
        let hash_of = |row: usize| keyed_hash(secret, &self.torrents[row].info_hash) as u16;
        self.index.remove(hash_of(row), row);
        let last = self.len() - 1;
        if row != last {
            self.index.renumber(hash_of(last), last, row);
        }
        self.torrents.swap_remove(row);
        self.stats.torrents -= 1;
        debug_assert_eq!(self.index.len(), self.torrents.len());
    }

    /// Where a sweep begins: at the end, because a removal moves the last torrent to a lower row.
    pub(super) fn sweep_start(&self) -> SweepCursor {
        SweepCursor { end: self.len(), inside: None }
    }

    /// Removes expired peers, all peers of torrents that are not kept, and empty torrents, from
    /// `cursor` on, until done or the budget is spent; returns whether it is done.
    pub(super) fn sweep<K: Fn(&InfoHash) -> bool>(
        &mut self,
        cursor: &mut SweepCursor,
        slice: &mut SweepSlice<'_, K>,
    ) -> bool {
        cursor.end = cursor.end.min(self.len());
        while cursor.end > 0 {
            if slice.budget.is_spent() {
                return false;
            }
            slice.budget.spend(VISIT_COST);
            let row = cursor.end - 1;
            let torrent = &mut self.torrents[row];
            let left = match cursor.inside.take() {
                Some((info_hash, left)) if info_hash == torrent.info_hash => left,
                _ => torrent.peers.rows_left(),
            };
            let kept = (slice.keep)(&torrent.info_hash);
            let expired = if kept { slice.expired } else { ExpiredStamps::ALL };
            let (len_before, before) = (torrent.peers.len(), torrent.peers.peer_counts());
            let left = torrent.peers.expire(left, expired, &mut slice.budget);
            let after = torrent.peers.len();
            if after < len_before {
                slice.removed.peers += (len_before - after) as u64;
                self.stats.subtract_peers(before, torrent.peers.peer_counts());
            }
            if !left.is_none() {
                cursor.inside = Some((torrent.info_hash, left));
                return false;
            }
            if after == 0 {
                self.remove(row, slice.secret);
                slice.removed.torrents += 1;
                slice.budget.spend(TORRENT_REMOVAL_COST);
            }
            cursor.end = row;
        }
        self.index.shrink();
        true
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
            // Waves of up to a few thousand torrents.
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
    fn a_cursor_inside_a_torrent_means_nothing_in_another() {
        let secret = RandomState::new();
        let mut shard = Shard::new();
        for (n, peers) in [(1, 300), (2, 10), (3, 300)] {
            insert(&mut shard, n, peers, &secret);
        }
        let mut cursor = shard.sweep_start();
        let mut slice = slice(&secret);
        // The third torrent is nearly finished when it is removed, and another has its row.
        while shard.torrent(2).peers.len() > 30 {
            slice.budget = Budget::new(100);
            assert!(!shard.sweep(&mut cursor, &mut slice));
        }
        let rest = shard.torrent(2).peers.len() as u64;
        shard.remove(2, &secret);
        insert(&mut shard, 4, 100, &secret);
        slice.budget = Budget::new(u32::MAX);
        assert!(shard.sweep(&mut cursor, &mut slice));
        assert_eq!(shard.len(), 0, "left behind: {:?}", shard.torrents);
        let Removed { torrents, peers } = slice.removed;
        assert_eq!((torrents, peers), (3, 300 + 10 + 100 + (300 - rest)));
    }

    #[test]
    fn an_emptied_shard_releases_its_memory() {
        let secret = RandomState::new();
        let mut shard = Shard::new();
        (0..2000).for_each(|n| insert(&mut shard, n, 1, &secret));
        assert!(shard.index.capacity() >= 2000);
        let mut cursor = shard.sweep_start();
        assert!(shard.sweep(&mut cursor, &mut slice(&secret)));
        assert_eq!((shard.len(), shard.index.capacity()), (0, 0));
    }

    /// A slice without end that removes every peer of [`insert`].
    fn slice(secret: &RandomState) -> SweepSlice<'_, fn(&InfoHash) -> bool> {
        SweepSlice {
            expired: Ticks::new(50).expired(100),
            keep: |_| true,
            secret,
            budget: Budget::new(u32::MAX),
            removed: Removed::default(),
        }
    }
}

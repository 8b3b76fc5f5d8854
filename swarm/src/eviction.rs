//! Which torrent is removed for a new one when the tables are full.
//!
//! Anybody can fill the tables with announces of made-up torrents that nobody else asks for. Such a
//! torrent is *unconfirmed*: it has one peer, which has announced once. Real torrents are soon
//! announced again. So when the tables are full, a new torrent replaces an unconfirmed one, drawn
//! at random with equal probability. Most made-up torrents are replaced by others, and a real one
//! that was removed comes back with its peer's next announce.
//!
//! Every shard counts its unconfirmed torrents. One is drawn by choosing a shard with a probability
//! proportional to its count, then a torrent in it: by scanning a small shard, or by probing random
//! rows of a large one. A torrent whose only announce reported a completed download is unconfirmed
//! too, otherwise that report would protect made-up torrents.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};

use super::shard::Shard;
use super::table::{Swarms, shard_of};
use super::{CapacityError, InfoHash, Random};

/// Shards tried for one eviction. One usually suffices; another thread may have taken its
/// unconfirmed torrents, or there may be too few of them in a large shard to hit one.
const SHARDS_TRIED_MAX: usize = 2;

/// Unconfirmed torrents of each shard. Written under the shard's lock and read without, so a count
/// may be slightly stale.
#[derive(Debug)]
pub(super) struct UnconfirmedCounts(Box<[AtomicU32]>);

impl UnconfirmedCounts {
    pub(super) fn new(shards: usize) -> UnconfirmedCounts {
        UnconfirmedCounts((0..shards).map(|_| AtomicU32::new(0)).collect())
    }

    pub(super) fn set(&self, shard: usize, count: u32) {
        self.0[shard].store(count, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn of(&self, shard: usize) -> u32 {
        self.0[shard].load(Ordering::Relaxed)
    }

    fn counts(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// A random shard, weighted by its count; none if all counts are 0.
    pub(super) fn draw(&self, random: &mut Random) -> Option<usize> {
        let mut number = random.below(self.counts().sum());
        self.counts().position(|count| {
            let is_here = number < count;
            number = number.saturating_sub(count);
            is_here
        })
    }
}

impl Swarms {
    /// Removes an unconfirmed torrent for one that is new, and locks the shard of the new one. It
    /// is to be created with its first peer, both counted already; or it has been created by
    /// another thread meanwhile and is at the row.
    pub(super) fn evict_for(
        &self,
        hash: u64,
        info_hash: &InfoHash,
        random: &mut Random,
    ) -> Result<(MutexGuard<'_, Shard>, Option<usize>), CapacityError> {
        if !self.evict_unconfirmed(random) {
            return Err(CapacityError::Torrents);
        }
        let shard = self.lock(shard_of(hash));
        let row = shard.find(hash, info_hash);
        if row.is_none() && !shard.is_full() {
            return Ok((shard, None));
        }
        self.torrents.subtract(1);
        self.peers.subtract(1);
        if row.is_some() { Ok((shard, row)) } else { Err(CapacityError::Torrents) }
    }

    /// Removes a random unconfirmed torrent; returns whether one was found. The torrent and its
    /// peer stay counted in the totals: the caller puts others in their place.
    ///
    /// Reads the count of each shard and visits at most 256 torrents.
    fn evict_unconfirmed(&self, random: &mut Random) -> bool {
        (0..SHARDS_TRIED_MAX).any(|_| {
            let Some(number) = self.unconfirmed.draw(random) else { return false };
            let mut shard = self.lock(number);
            let Some(row) = shard.pick_unconfirmed(random) else { return false };
            let (torrent, stats) = shard.torrent_and_stats(row);
            stats.subtract_peers(torrent.peers.peer_counts(), Default::default());
            shard.remove(row, &self.secret);
            self.unconfirmed.set(number, shard.unconfirmed());
            true
        })
    }
}

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

use std::sync::atomic::{AtomicU32, Ordering};

use super::Random;

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

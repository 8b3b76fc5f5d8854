//! Which torrent goes for another when there is no room.
//!
//! Anybody can announce torrents that nobody else will ever ask for, and fill the tables with
//! them. What shows them is that each has one peer, which has announced once: a torrent that
//! somebody is interested in is soon announced again. So when there are as many torrents as may
//! be, a new one takes the place of one of those, drawn at random, each as likely as any other: of
//! made-up torrents most are replaced by others of their kind, and a real one that was hit is back
//! with its peer's next announce.
//!
//! Every shard knows how many it has. To draw one is a draw among the shards by these numbers, and
//! then one within the shard: a count through a small one, some random looks into a large one.
//! What was completed by the only announce goes too, else that would be the way to stay.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Random;
use super::table::{SHARDS, Swarms};

/// Shards that are looked into for one torrent. There is more than one only because other threads
/// may have taken what was there, or because few of a large shard's torrents are such.
const SHARDS_TRIED_MAX: usize = 2;

/// How many torrents of each shard have one peer that has announced once. It is written under the
/// shard's lock and read without, so that it may be behind by a moment.
#[derive(Debug)]
pub(super) struct UnconfirmedCounts(Box<[AtomicU32]>);

impl UnconfirmedCounts {
    pub(super) fn new() -> UnconfirmedCounts {
        UnconfirmedCounts((0..SHARDS).map(|_| AtomicU32::new(0)).collect())
    }

    pub(super) fn set(&self, shard: usize, count: u32) {
        self.0[shard].store(count, Ordering::Relaxed);
    }

    /// What a shard has.
    #[cfg(test)]
    pub(super) fn of(&self, shard: usize) -> u32 {
        self.0[shard].load(Ordering::Relaxed)
    }

    fn counts(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// A shard, each the likelier the more it has; none if there are none.
    fn draw(&self, random: &mut Random) -> Option<usize> {
        let mut number = random.below(self.counts().sum());
        self.counts().position(|count| {
            let is_here = number < count;
            number = number.saturating_sub(count);
            is_here
        })
    }
}

impl Swarms {
    /// Takes out a torrent with one peer that has announced once, each as likely as any other;
    /// whether there was one. The torrent and its peer stay counted: they are the caller's now.
    ///
    /// It costs a look at the number of each shard, and at 256 torrents at most.
    pub(super) fn evict_unconfirmed(&self, random: &mut Random) -> bool {
        (0..SHARDS_TRIED_MAX).any(|_| {
            let Some(number) = self.unconfirmed().draw(random) else { return false };
            let mut shard = self.lock(number);
            let Some(row) = shard.pick_unconfirmed(random) else { return false };
            let (torrent, stats) = shard.torrent_and_stats(row);
            stats.shrink(torrent.peers.peer_counts(), Default::default());
            shard.remove(row, self.secret());
            self.unconfirmed().set(number, shard.unconfirmed());
            true
        })
    }
}

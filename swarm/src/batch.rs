//! Announces and scrapes that are known before their turn: the memory that they will need is
//! fetched for all of them at once.
//!
//! An announce into large tables waits for memory five times or more, each time for an address that
//! it has just read. Here the chains of a batch are walked side by side: each step is taken for all
//! announces before any takes the next, so that they wait together.

use super::peers::Peers;
use super::shard::Shard;
use super::table::{SHARDS, Swarms, shard_of};
use super::{CompactAddr, InfoHash, keyed_hash};

/// The most requests of a batch: what they need fits into a core's own cache.
pub const BATCH_MAX: usize = 32;

/// Announces and torrents of scrapes to come, at most [`BATCH_MAX`].
#[derive(Debug)]
pub struct AnnounceBatch {
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    info_hash: InfoHash,
    peer: Option<CompactAddr>,
    /// A scrape, which needs no peers.
    counts_only: bool,
    /// Of the info hash.
    hash: u64,
    /// Of the peer.
    peer_hash: u64,
    /// The torrent's row, unless another has the same 16 bits of hash.
    row: usize,
    /// There is nothing more to fetch.
    done: bool,
}

/// A step of the chain: reads what the steps before have fetched, and has the next fetched. Returns
/// whether there is more.
type Step = fn(&Shard, &mut Item) -> bool;

const STEPS: [Step; 7] = [
    |shard, item| {
        shard.prefetch_slot(item.hash);
        true
    },
    |shard, item| {
        let row = shard.prefetch_block(item.hash);
        item.row = row.unwrap_or_default();
        row.is_some()
    },
    |shard, item| {
        shard.prefetch_torrent(item.row);
        true
    },
    |shard, item| match shard.peers(item.row) {
        Some(peers) if item.counts_only => peers.prefetch_counts(),
        Some(peers) => peers.prefetch(),
        None => false,
    },
    |shard, item| shard.peers(item.row).is_some_and(Peers::prefetch_families),
    |shard, item| {
        let (Some(peers), Some(peer)) = (shard.peers(item.row), &item.peer) else { return false };
        let hash = peers.prefetch_table(peer);
        item.peer_hash = hash.unwrap_or_default();
        hash.is_some()
    },
    |shard, item| {
        let (Some(peers), Some(peer)) = (shard.peers(item.row), &item.peer) else { return false };
        peers.prefetch_row(peer, item.peer_hash);
        false
    },
];

impl AnnounceBatch {
    pub fn new() -> AnnounceBatch {
        AnnounceBatch { items: Vec::with_capacity(BATCH_MAX) }
    }

    /// Adds an announce, unless the batch is full. Without its peer, less is fetched.
    pub fn push(&mut self, info_hash: InfoHash, peer: Option<CompactAddr>) {
        self.push_item(info_hash, peer, false);
    }

    /// Adds a torrent of a scrape, unless the batch is full.
    pub fn push_scrape(&mut self, info_hash: InfoHash) {
        self.push_item(info_hash, None, true);
    }

    fn push_item(&mut self, info_hash: InfoHash, peer: Option<CompactAddr>, counts_only: bool) {
        if self.items.len() < BATCH_MAX {
            let (hash, peer_hash, row, done) = (0, 0, 0, false);
            self.items.push(Item { info_hash, peer, counts_only, hash, peer_hash, row, done });
        }
    }
}

impl Default for AnnounceBatch {
    fn default() -> Self {
        AnnounceBatch::new()
    }
}

impl Swarms {
    /// Has the memory fetched that the requests of a batch will need, and empties the batch. This
    /// is a hint, which changes no answer: it passes over torrents whose shard another thread has
    /// locked. In tables that the processor's caches hold, it costs more than it saves.
    pub fn prefetch(&self, batch: &mut AnnounceBatch) {
        for item in &mut batch.items {
            item.hash = keyed_hash(&self.secret, &item.info_hash);
        }
        for step in STEPS {
            let (mut number, mut shard) = (SHARDS, None);
            for item in batch.items.iter_mut().filter(|item| !item.done) {
                // Announces to a popular torrent often follow each other: one lock does for them.
                if shard_of(item.hash) != number {
                    number = shard_of(item.hash);
                    drop(shard);
                    shard = self.try_lock(number);
                }
                item.done = !shard.as_ref().is_some_and(|shard| step(shard, item));
            }
        }
        batch.items.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;
    use crate::{AnnounceRequest, PeerEvent, Random, Sample, SwarmConfig};

    /// A thread that waited for a lock that it holds itself would wait for ever.
    #[test]
    fn prefetching_waits_for_no_lock() {
        let config = SwarmConfig {
            torrents_max: 10,
            peers_max: 10,
            peers_per_torrent_max: 10,
            peers_per_address_max: 0,
            peer_timeout_s: 100,
        };
        let swarms = Swarms::new(config, RandomState::new());
        let peer = CompactAddr::V4([1; 6]);
        let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(0));
        let mut batch = AnnounceBatch::new();
        for torrent in 0..10 {
            let info_hash = [torrent; 20];
            let request = AnnounceRequest {
                info_hash,
                peer,
                seeder: false,
                event: PeerEvent::None,
                numwant: 0,
                own_family_only: false,
            };
            swarms.announce(&request, 0, &mut random, &mut sample);
            batch.push(info_hash, Some(peer));
        }
        let held = swarms.lock(shard_of(keyed_hash(&swarms.secret, &[3; 20])));
        swarms.prefetch(&mut batch);
        drop(held);
        assert_eq!(batch.items.len(), 0);
    }

    #[test]
    fn a_batch_takes_no_more_than_fit() {
        let mut batch = AnnounceBatch::new();
        (0..100).for_each(|torrent| batch.push([torrent; 20], None));
        assert_eq!(batch.items.len(), BATCH_MAX);
    }
}

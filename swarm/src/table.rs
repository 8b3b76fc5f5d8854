//! The sharded table of all torrents.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;

use super::address_policy::AddressPolicy;
use super::capacity::BoundedCount;
use super::eviction::UnconfirmedCounts;
use super::lock::{LockObserver, ShardGuard, ShardLock};
use super::shard::{Removed, TORRENTS_PER_SHARD_MAX};
use super::time::Ticks;
use super::{InfoHash, SwarmConfig, SwarmStats, TorrentCounts, Totals, keyed_hash};
use crate::TORRENTS_MAX;

/// With 2048 shards two workers want the same one in about one announce of fifty thousand, and an
/// announce grows at most a 2048th of the whole. More shards would waste memory: the last block of
/// each is partly empty.
const SHARD_BITS: u32 = 11;

pub(super) const SHARDS: usize = 1 << SHARD_BITS;

const _: () = assert!(TORRENTS_MAX <= SHARDS * TORRENTS_PER_SHARD_MAX / 8 * 7);

/// The swarms of all torrents, shared by all workers. Every method holds at most one lock at a
/// time, for a bounded amount of work.
#[derive(Debug)]
pub struct Swarms {
    shards: Box<[ShardLock]>,
    pub(super) torrents: BoundedCount,
    pub(super) peers: BoundedCount,
    observer: Option<Box<dyn LockObserver>>,
    pub(super) unconfirmed: UnconfirmedCounts,
    pub(super) config: SwarmConfig,
    pub(super) ticks: Ticks,
    pub(super) addresses: Arc<AddressPolicy>,
    pub(super) secret: RandomState,
}

impl Swarms {
    /// Empty tables. Anybody who knows `secret` can choose keys that make them slow: it must be
    /// random and stay in the process.
    pub fn new(config: SwarmConfig, secret: RandomState) -> Swarms {
        // Row numbers have 32 bits, and the two highest values are reserved.
        let peers_per_torrent_max = config.peers_per_torrent_max.min(u32::MAX - 2);
        Swarms {
            shards: (0..SHARDS).map(|_| ShardLock::new()).collect(),
            torrents: BoundedCount::new(config.torrents_max),
            peers: BoundedCount::new(config.peers_max),
            observer: None,
            unconfirmed: UnconfirmedCounts::new(SHARDS),
            config: SwarmConfig { peers_per_torrent_max, ..config },
            ticks: Ticks::new(config.peer_timeout_s),
            addresses: Arc::new(AddressPolicy::new(secret.clone(), config.peers_per_address_max)),
            secret,
        }
    }

    /// Exempts the addresses for which `exempt` is true from `peers_per_address_max`. Call it
    /// before the first announce. `exempt` is called often and must always give the same result for
    /// an address.
    pub fn with_exemption(self, exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Swarms {
        let addresses = AddressPolicy::new(self.secret.clone(), self.config.peers_per_address_max);
        Swarms { addresses: Arc::new(addresses.with_exemption(Box::new(exempt))), ..self }
    }

    /// Has `observer` watch the locks.
    pub fn with_lock_observer(self, observer: Box<dyn LockObserver>) -> Swarms {
        Swarms { observer: Some(observer), ..self }
    }

    /// The counts of a torrent.
    pub fn scrape(&self, info_hash: &InfoHash) -> TorrentCounts {
        let hash = keyed_hash(&self.secret, info_hash);
        let shard = self.lock(shard_of(hash));
        let row = shard.find(hash, info_hash);
        row.map_or_else(TorrentCounts::default, |row| shard.torrent(row).counts())
    }

    /// The number of torrents and peers at this moment. It reads some hundred cache lines that
    /// other threads write.
    pub fn totals(&self) -> Totals {
        Totals { torrents: self.torrents.count(), peers: self.peers.count() }
    }

    /// The sum over all shards. It takes about a tenth of a millisecond, and each lock only for as
    /// long as it takes to copy six numbers.
    pub fn stats(&self) -> SwarmStats {
        let mut sum = SwarmStats::default();
        (0..SHARDS).for_each(|shard| sum += self.lock(shard).stats);
        sum
    }

    /// [`ShardLock::lock`].
    pub(super) fn lock(&self, shard: usize) -> ShardGuard<'_> {
        self.shards[shard].lock(self.observer.as_deref())
    }

    /// [`ShardLock::try_lock`].
    pub(super) fn try_lock(&self, shard: usize) -> Option<ShardGuard<'_>> {
        self.shards[shard].try_lock(self.observer.as_deref())
    }

    /// Subtracts what a sweep has removed from the totals.
    pub(super) fn subtract_removed(&self, removed: &Removed) {
        self.torrents.subtract(removed.torrents);
        self.peers.subtract(removed.peers);
    }
}

/// The highest bits of the hash number the shard; the shard's index uses the lowest.
pub(super) fn shard_of(hash: u64) -> usize {
    (hash >> (u64::BITS - SHARD_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{AnnounceRequest, CompactAddr, PeerEvent, Random, Sample, Sweep, SweepStatus};

    const CONFIG: SwarmConfig = SwarmConfig {
        torrents_max: 1000,
        peers_max: 5000,
        peers_per_torrent_max: 300,
        peers_per_address_max: 0,
        peer_timeout_s: 100,
    };

    fn info_hash(n: u32) -> InfoHash {
        let mut info_hash = [7; 20];
        info_hash[..4].copy_from_slice(&n.to_be_bytes());
        info_hash
    }

    /// The counts by visiting everything.
    fn counted(swarms: &Swarms) -> SwarmStats {
        let mut all = SwarmStats::default();
        for shard in 0..SHARDS {
            let shard = swarms.lock(shard);
            all.torrents += shard.len() as u64;
            for row in 0..shard.len() {
                let [v4, v6] = shard.torrent(row).peers.peer_counts();
                all.v4 += v4;
                all.v6 += v6;
            }
        }
        all
    }

    /// The unconfirmed torrents by visiting everything, which every shard's own count matches.
    fn count_singles(swarms: &Swarms) -> u32 {
        let all = (0..SHARDS).map(|number| {
            let shard = swarms.lock(number);
            let is_unconfirmed = |row: &usize| shard.torrent(*row).peers.is_unconfirmed();
            let counted = (0..shard.len()).filter(is_unconfirmed).count() as u32;
            assert_eq!((shard.unconfirmed(), swarms.unconfirmed.of(number)), (counted, counted));
            counted
        });
        all.sum()
    }

    #[test]
    fn the_stats_are_what_counting_gives() {
        let config = SwarmConfig { torrents_max: 25, peers_max: 150, ..CONFIG };
        let swarms = Swarms::new(config, RandomState::new());
        let (mut random, mut sample) = (Random::seeded(5), Sample::with_capacity(0));
        let mut sweep = Sweep::new(0, 1);
        let (mut completed, mut seen) = (0, SwarmStats::default());
        for now in 0..5000 {
            let number = random.below(20) as u8;
            let v6 = random.below(3) == 0;
            let peer = match v6 {
                true => CompactAddr::V6([number; 18]),
                false => CompactAddr::V4([number; 6]),
            };
            let event = match random.below(4) {
                0 => PeerEvent::Stopped,
                1 => PeerEvent::Completed,
                _ => PeerEvent::None,
            };
            let seeder = random.below(2) == 0;
            let info_hash = info_hash(random.below(30));
            let a = AnnounceRequest {
                info_hash,
                peer,
                seeder,
                event,
                numwant: 0,
                own_family_only: false,
            };
            let before = swarms.scrape(&info_hash);
            let after = swarms.announce(&a, now / 10, &mut random, &mut sample);
            completed += u64::from(after.downloaded.saturating_sub(before.downloaded));
            // Many expire at once.
            if now % 1000 == 999 {
                for later in 0..40 {
                    while swarms.sweep(&mut sweep, now / 10 + later, |_| true)
                        == SweepStatus::Pending
                    {}
                }
            }
            let stats = swarms.stats();
            assert_eq!(stats, SwarmStats { completed, ..counted(&swarms) }, "{now}: {a:?}");
            count_singles(&swarms);
            let Totals { torrents, peers } = swarms.totals();
            let SwarmStats { v4, v6, .. } = stats;
            assert_eq!(stats.torrents, torrents);
            assert_eq!(v4.seeders + v4.leechers + v6.seeders + v6.leechers, peers);
            seen.v4.seeders |= v4.seeders;
            seen.v6.leechers |= v6.leechers;
        }
        assert!(seen.v4.seeders > 10 && seen.v6.leechers > 10 && completed > 10);
    }

    /// The shard of each of a thousand info hashes.
    fn places(swarms: &Swarms) -> Vec<usize> {
        (0..1000).map(|n| shard_of(keyed_hash(&swarms.secret, &info_hash(n)))).collect()
    }

    #[test]
    fn the_secret_decides_the_shard_of_an_info_hash() {
        let secret = RandomState::new();
        let a = Swarms::new(CONFIG, secret.clone());
        let b = Swarms::new(CONFIG, RandomState::new());
        assert_eq!(places(&a), places(&Swarms::new(CONFIG, secret)));
        let same = places(&a).iter().zip(&places(&b)).filter(|(a, b)| a == b).count();
        assert!(same < 20, "{same} of 1000 in the same of {SHARDS} shards under another secret");
        let used: BTreeSet<usize> = places(&a).into_iter().collect();
        assert!(used.len() > 700, "{} of {SHARDS} shards used by 1000", used.len());
    }
}

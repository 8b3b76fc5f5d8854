//! All torrents, in shards, and the operations on them that the outside sees.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::address_policy::AddressPolicy;
use super::eviction::UnconfirmedCounts;
use super::shard::{Removed, Shard, TORRENTS_PER_SHARD_MAX, Torrent};
use super::time::Ticks;
use super::{
    AnnounceRequest, CapacityError, InfoHash, PeerEvent, Random, Replaced, Sample, SwarmConfig,
    SwarmStats, TorrentCounts, Totals, keyed_hash,
};
use crate::TORRENTS_MAX;

/// Bits of the number of a shard. With 2048 shards two workers want the same one in about one
/// announce of fifty thousand, and what an announce may have to grow is a 2048th of the whole. More
/// would leave more blocks half empty: the last of every shard is.
const SHARD_BITS: u32 = 11;

/// How many shards there are.
pub(super) const SHARDS: usize = 1 << SHARD_BITS;

const _: () = assert!(TORRENTS_MAX <= SHARDS * TORRENTS_PER_SHARD_MAX / 8 * 7);

/// A lock and what it protects, on cache lines of its own; two, because processors fetch them in
/// pairs.
#[repr(align(128))]
#[derive(Debug)]
struct CacheAligned(Mutex<Shard>);

const _: () = assert!(size_of::<CacheAligned>() == 128);

/// A counter on cache lines of its own.
#[repr(align(128))]
#[derive(Debug)]
struct AlignedCounter(AtomicU64);

impl AlignedCounter {
    const fn new() -> AlignedCounter {
        AlignedCounter(AtomicU64::new(0))
    }

    /// Adds one, unless there are `max` already; says whether it did.
    fn add_below(&self, max: u64) -> bool {
        let more = |count| (count < max).then_some(count + 1);
        // The counters order nothing: whatever they count is behind a lock.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn subtract(&self, count: u64) {
        if count > 0 {
            self.0.fetch_sub(count, Ordering::Relaxed);
        }
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The swarms of all torrents, for all workers at once. Every method takes at most one lock at
/// a time and holds it for a bounded piece of work.
#[derive(Debug)]
pub struct Swarms {
    shards: Box<[CacheAligned]>,
    torrents: AlignedCounter,
    peers: AlignedCounter,
    waits: AlignedCounter,
    unconfirmed: UnconfirmedCounts,
    config: SwarmConfig,
    ticks: Ticks,
    addresses: Arc<AddressPolicy>,
    secret: RandomState,
}

impl Swarms {
    /// Empty tables. Whoever knows `secret` can make them slow: it is drawn at random when the
    /// process starts, and told to nobody.
    pub fn new(config: SwarmConfig, secret: RandomState) -> Swarms {
        // Row numbers have 32 bits, of which the highest two values mean something else.
        let peers_per_torrent_max = config.peers_per_torrent_max.min(u32::MAX - 2);
        Swarms {
            shards: (0..SHARDS).map(|_| CacheAligned(Mutex::new(Shard::new()))).collect(),
            torrents: AlignedCounter::new(),
            peers: AlignedCounter::new(),
            waits: AlignedCounter::new(),
            unconfirmed: UnconfirmedCounts::new(),
            config: SwarmConfig { peers_per_torrent_max, ..config },
            ticks: Ticks::new(config.peer_timeout_s),
            addresses: Arc::new(AddressPolicy::new(secret.clone(), config.peers_per_address_max)),
            secret,
        }
    }

    /// The same, but addresses of which `exempt` is true may have any number of endpoints in a
    /// torrent. To be called before the first announce; it is asked often, and its answer for an
    /// address does not change.
    pub fn with_exemption(self, exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Swarms {
        let addresses = AddressPolicy::new(self.secret.clone(), self.config.peers_per_address_max);
        Swarms { addresses: Arc::new(addresses.with_exemption(Box::new(exempt))), ..self }
    }

    /// Takes one announce at second `now`: fills `sample` with the peers to answer with, and
    /// gives the counts as they are after it. If there was no room for the peer, `sample` says so.
    ///
    /// A `Stopped` peer is told of no others, and for a torrent that is not known nothing is
    /// created. A `Completed` counts only if it makes the peer a seeder that was none before, and
    /// the peer is stored: repeated, it counts once.
    pub fn announce(
        &self,
        request: &AnnounceRequest,
        now: u32,
        random: &mut Random,
        sample: &mut Sample,
    ) -> TorrentCounts {
        sample.clear();
        let hash = keyed_hash(&self.secret, &request.info_hash);
        let mut shard = self.lock(shard_of(hash));
        let row = shard.find(hash, &request.info_hash);
        if request.event == PeerEvent::Stopped {
            return row.map_or_else(TorrentCounts::default, |row| {
                self.remove_peer(&mut shard, row, request)
            });
        }
        let stamp = self.ticks.stamp(now);
        if let Some(row) = row {
            return self.announce_known(&mut shard, row, request, stamp, random, sample);
        }
        match self.reserve_torrent(&shard) {
            Ok(()) => self.create_torrent(&mut shard, hash, request, stamp),
            Err(CapacityError::Torrents) => {
                drop(shard);
                self.create_by_eviction(hash, request, stamp, random, sample)
            }
            Err(full) => {
                sample.set_capacity_error(full);
                TorrentCounts::default()
            }
        }
    }

    /// What is known of a torrent.
    pub fn scrape(&self, info_hash: &InfoHash) -> TorrentCounts {
        let hash = keyed_hash(&self.secret, info_hash);
        let shard = self.lock(shard_of(hash));
        let row = shard.find(hash, info_hash);
        row.map_or_else(TorrentCounts::default, |row| shard.torrent(row).counts())
    }

    /// How much there is at this moment.
    pub fn totals(&self) -> Totals {
        Totals { torrents: self.torrents.count(), peers: self.peers.count() }
    }

    /// How often since the start somebody found a shard locked by somebody else.
    pub fn lock_waits(&self) -> u64 {
        self.waits.count()
    }

    /// What there is of everything, one shard after another: it takes about a tenth of a
    /// millisecond, and meanwhile nobody waits for longer than it takes to copy six numbers.
    pub fn stats(&self) -> SwarmStats {
        let mut sum = SwarmStats::default();
        (0..SHARDS).for_each(|shard| sum += self.lock(shard).stats);
        sum
    }

    /// A peer comes to the torrent at `row`, or is there.
    fn announce_known(
        &self,
        shard: &mut Shard,
        row: usize,
        request: &AnnounceRequest,
        stamp: u8,
        random: &mut Random,
        sample: &mut Sample,
    ) -> TorrentCounts {
        let was_single = shard.torrent(row).peers.is_unconfirmed();
        let stored = self.store(shard, row, request, stamp);
        // Even if there was no room for a second peer: it asked for the torrent.
        if was_single {
            self.mark_confirmed(shard, row);
        }
        let torrent = shard.torrent(row);
        let AnnounceRequest { peer, seeder, event, numwant, .. } = request;
        let is_seeding = *seeder && *event != PeerEvent::Magnet;
        let at = stored.map(|stored| stored.at).ok();
        sample.fill(&torrent.peers, peer, at, is_seeding, *numwant, random);
        match stored {
            Ok(StoredPeer { replaced: true, .. }) => sample.set_replaced(Replaced::Peer),
            Ok(_) => {}
            Err(full) => sample.set_capacity_error(full),
        }
        torrent.counts()
    }

    /// As [`Shard::mark_confirmed`].
    fn mark_confirmed(&self, shard: &mut Shard, row: usize) {
        shard.mark_confirmed(row);
        let hash = keyed_hash(&self.secret, &shard.torrent(row).info_hash);
        self.unconfirmed.set(shard_of(hash), shard.unconfirmed());
    }

    /// A peer leaves the torrent at `row`, or was not in it.
    fn remove_peer(
        &self,
        shard: &mut Shard,
        row: usize,
        request: &AnnounceRequest,
    ) -> TorrentCounts {
        let torrent = shard.torrent_mut(row);
        let was_single = torrent.peers.is_unconfirmed();
        let removed = torrent.peers.remove(&request.peer);
        let counts = torrent.counts();
        if let Some(was_seeder) = removed {
            self.peers.subtract(1);
            shard.stats.remove_peer(&request.peer, was_seeder);
            if was_single {
                self.mark_confirmed(shard, row);
            }
        }
        // With a count of downloads the torrent stays until the sweep comes by: peers often
        // leave and come back.
        if counts == TorrentCounts::default() {
            shard.remove(row, &self.secret);
            self.torrents.subtract(1);
        }
        counts
    }

    /// Counts a torrent of a shard and its first peer, if there is room for both.
    fn reserve_torrent(&self, shard: &Shard) -> Result<(), CapacityError> {
        if self.config.peers_per_torrent_max == 0 {
            return Err(CapacityError::PeersPerTorrent);
        }
        if shard.is_full() || !self.torrents.add_below(self.config.torrents_max) {
            return Err(CapacityError::Torrents);
        }
        if !self.peers.add_below(self.config.peers_max) {
            self.torrents.subtract(1);
            return Err(CapacityError::Peers);
        }
        Ok(())
    }

    /// A torrent with its first peer, which are counted already.
    fn create_torrent(
        &self,
        shard: &mut Shard,
        hash: u64,
        request: &AnnounceRequest,
        stamp: u8,
    ) -> TorrentCounts {
        let row = shard.insert(hash, request.info_hash);
        let torrent = shard.torrent_mut(row);
        torrent.peers.add(&request.peer, request.seeder, stamp, &self.addresses);
        torrent.downloaded = u32::from(completes(request, false));
        let counts = torrent.counts();
        shard.stats.add_peer(&request.peer, request.seeder);
        shard.stats.completed += u64::from(counts.downloaded);
        shard.mark_unconfirmed(row);
        self.unconfirmed.set(shard_of(hash), shard.unconfirmed());
        counts
    }

    /// A torrent with its first peer, for which another has to go, if there is one to go.
    fn create_by_eviction(
        &self,
        hash: u64,
        request: &AnnounceRequest,
        stamp: u8,
        random: &mut Random,
        sample: &mut Sample,
    ) -> TorrentCounts {
        if !self.evict_unconfirmed(random) {
            sample.set_capacity_error(CapacityError::Torrents);
            return TorrentCounts::default();
        }
        let mut shard = self.lock(shard_of(hash));
        let row = shard.find(hash, &request.info_hash);
        if row.is_none() && !shard.is_full() {
            sample.set_replaced(Replaced::Torrent);
            return self.create_torrent(&mut shard, hash, request, stamp);
        }
        // Another thread was faster, or the shard has no room.
        self.torrents.subtract(1);
        self.peers.subtract(1);
        if let Some(row) = row {
            return self.announce_known(&mut shard, row, request, stamp, random, sample);
        }
        sample.set_capacity_error(CapacityError::Torrents);
        TorrentCounts::default()
    }

    /// Stores what a peer says of itself, unless it is new and there is no room.
    fn store(
        &self,
        shard: &mut Shard,
        row: usize,
        request: &AnnounceRequest,
        stamp: u8,
    ) -> Result<StoredPeer, CapacityError> {
        let AnnounceRequest { peer, seeder, .. } = request;
        let (torrent, stats) = shard.torrent_and_stats(row);
        let (was_seeder, stored) = match torrent.peers.refresh(peer, *seeder, stamp) {
            Some((was_seeder, at)) => {
                if was_seeder != *seeder {
                    stats.remove_peer(peer, was_seeder);
                    stats.add_peer(peer, *seeder);
                }
                (was_seeder, StoredPeer { at, replaced: false })
            }
            None => (false, self.add(torrent, stats, request, stamp)?),
        };
        if completes(request, was_seeder) {
            torrent.downloaded = torrent.downloaded.saturating_add(1);
            stats.completed += 1;
        }
        Ok(stored)
    }

    /// Adds a peer to a torrent that it is not in: in the place of another of its address, if
    /// that has as many as it may, else if there is room.
    fn add(
        &self,
        torrent: &mut Torrent,
        stats: &mut SwarmStats,
        request: &AnnounceRequest,
        stamp: u8,
    ) -> Result<StoredPeer, CapacityError> {
        let AnnounceRequest { peer, seeder, .. } = request;
        let peers = &mut torrent.peers;
        let limit = self.addresses.limit_of(peer);
        let same_address = limit.and_then(|_| peers.same_address(peer, &self.addresses, stamp));
        let same_address = same_address.unwrap_or_default();
        let is_over = limit.is_some_and(|limit| same_address.count >= limit);
        let replaced =
            if is_over { peers.replace(same_address.oldest, peer, *seeder, stamp) } else { None };
        let at = match replaced {
            Some((was_seeder, at)) => {
                stats.remove_peer(peer, was_seeder);
                at
            }
            None => {
                if peers.len() >= self.config.peers_per_torrent_max as usize {
                    return Err(CapacityError::PeersPerTorrent);
                }
                if !self.peers.add_below(self.config.peers_max) {
                    return Err(CapacityError::Peers);
                }
                peers.add(peer, *seeder, stamp, &self.addresses)
            }
        };
        stats.add_peer(peer, *seeder);
        if same_address.count > 0 {
            peers.set_latest(peer, at);
        }
        Ok(StoredPeer { at, replaced: replaced.is_some() })
    }

    /// Locks a shard. A thread that panicked while it held the lock has left the shard in some
    /// state that is safe to use, and one torrent may be wrong; to go on serves everybody else.
    pub(super) fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[shard].0;
        match shard.try_lock() {
            Ok(shard) => shard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waits.add();
                shard.lock().unwrap_or_else(PoisonError::into_inner)
            }
        }
    }

    pub(super) fn ticks(&self) -> Ticks {
        self.ticks
    }

    pub(super) fn unconfirmed(&self) -> &UnconfirmedCounts {
        &self.unconfirmed
    }

    pub(super) fn secret(&self) -> &RandomState {
        &self.secret
    }

    /// Notes what a sweep has taken out.
    pub(super) fn note(&self, removed: &Removed) {
        self.torrents.subtract(removed.torrents);
        self.peers.subtract(removed.peers);
    }
}

/// A peer is stored.
#[derive(Clone, Copy, Debug)]
struct StoredPeer {
    /// Its row among those of its family.
    at: usize,
    /// It has the place of another of its address.
    replaced: bool,
}

fn completes(request: &AnnounceRequest, was_seeder: bool) -> bool {
    request.event == PeerEvent::Completed && request.seeder && !was_seeder
}

/// The highest bits of the hash; the shard itself uses the lowest.
fn shard_of(hash: u64) -> usize {
    (hash >> (u64::BITS - SHARD_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::{CompactAddr, ScrapeCursor, Sweep, SweepStatus};

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

    fn request(torrent: u32, peer: u16, event: PeerEvent) -> AnnounceRequest {
        let [high, low] = peer.to_be_bytes();
        AnnounceRequest {
            info_hash: info_hash(torrent),
            peer: CompactAddr::V4([10, 0, high, low, 0, 80]),
            seeder: event == PeerEvent::Completed,
            event,
            numwant: 30,
        }
    }

    /// What is counted one by one, to compare with the census.
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

    /// Torrents with one peer that has announced once, counted one by one; every shard knows its
    /// own.
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
    fn the_census_is_what_counting_gives() {
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
            let a = AnnounceRequest { info_hash, peer, seeder, event, numwant: 0 };
            let before = swarms.scrape(&info_hash);
            let after = swarms.announce(&a, now / 10, &mut random, &mut sample);
            completed += u64::from(after.downloaded.saturating_sub(before.downloaded));
            // Nobody announces while many expire.
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

    /// Which shard has each of a thousand info hashes.
    fn places(swarms: &Swarms) -> Vec<usize> {
        (0..1000).map(|n| shard_of(keyed_hash(&swarms.secret, &info_hash(n)))).collect()
    }

    #[test]
    fn nobody_can_foresee_where_an_info_hash_goes() {
        let secret = RandomState::new();
        let a = Swarms::new(CONFIG, secret.clone());
        let b = Swarms::new(CONFIG, RandomState::new());
        assert_eq!(places(&a), places(&Swarms::new(CONFIG, secret)));
        let same = places(&a).iter().zip(&places(&b)).filter(|(a, b)| a == b).count();
        assert!(same < 20, "{same} of 1000 in the same of {SHARDS} shards under another secret");
        let used: BTreeSet<usize> = places(&a).into_iter().collect();
        assert!(used.len() > 700, "{} of {SHARDS} shards used by 1000", used.len());
    }

    #[test]
    fn who_has_to_wait_is_counted() {
        let swarms = Swarms::new(CONFIG, RandomState::new());
        let shard = shard_of(keyed_hash(&swarms.secret, &info_hash(1)));
        let held = swarms.lock(shard);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| swarms.scrape(&info_hash(1)));
            while swarms.lock_waits() == 0 {
                thread::yield_now();
            }
            drop(held);
            waiting.join().expect("it is let in");
        });
        swarms.scrape(&info_hash(1));
        assert_eq!(swarms.lock_waits(), 1);
    }

    #[test]
    fn workers_at_once_end_in_right_totals() {
        const WORKERS: usize = 4;
        let swarms = Arc::new(Swarms::new(CONFIG, RandomState::new()));
        let work = |worker: usize| {
            let swarms = Arc::clone(&swarms);
            move || {
                let mut random = Random::seeded(worker as u64);
                let mut sample = Sample::with_capacity(50);
                let mut part = Sweep::new(worker, WORKERS);
                for step in 0..60_000_u32 {
                    // Peers of the same torrents, but none of another worker's.
                    let peer = random.below(700) as u16 * WORKERS as u16 + worker as u16;
                    let torrent = random.below(1 + random.clone().below(40));
                    let event = match random.below(8) {
                        0..3 => PeerEvent::Stopped,
                        3 => PeerEvent::Completed,
                        _ => PeerEvent::None,
                    };
                    let a = request(torrent, peer, event);
                    let now = step / 200;
                    let counts = swarms.announce(&a, now, &mut random, &mut sample);
                    assert!(counts.complete + counts.incomplete <= CONFIG.peers_per_torrent_max);
                    assert!(swarms.totals().peers <= CONFIG.peers_max);
                    swarms.sweep(&mut part, now, |_| true);
                }
                part
            }
        };
        let threads: Vec<_> = (0..WORKERS).map(|worker| thread::spawn(work(worker))).collect();
        let mut parts: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("no worker panics")).collect();

        let (mut cursor, mut all) = (ScrapeCursor::default(), Vec::new());
        while swarms.scrape_chunk(&mut cursor, 100, &mut all) {}
        let sum = |counts: &TorrentCounts| u64::from(counts.complete + counts.incomplete);
        let peers = all.iter().map(|(_, counts)| sum(counts)).sum();
        assert_eq!(swarms.totals(), Totals { torrents: all.len() as u64, peers });
        assert!(peers > 1000, "{peers}");

        for part in &mut parts {
            while swarms.sweep(part, 450, |_| true) == SweepStatus::Pending {}
        }
        assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
    }
}

//! Which torrent a new one replaces when the tables are full: an unconfirmed one (one peer, which
//! has announced once), each with the same probability.

use std::hash::RandomState;
use std::sync::Arc;
use std::thread;

use annulus_swarm::{
    AnnounceRequest, CapacityError, CompactAddr, InfoHash, PeerEvent, Random, Replaced, Sample,
    ScrapeCursor, SwarmConfig, Swarms, Sweep, SweepStatus, TorrentCounts, Totals,
};

struct EvictionWorld {
    swarms: Swarms,
    random: Random,
    sample: Sample,
}

fn config(torrents_max: u64) -> SwarmConfig {
    SwarmConfig {
        torrents_max,
        peers_max: u64::MAX,
        peers_per_torrent_max: u32::MAX,
        peers_per_address_max: 16,
        peer_timeout_s: 1000,
    }
}

fn info_hash(torrent: u32) -> InfoHash {
    let mut info_hash = [3; 20];
    info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
    info_hash
}

/// An announce; the torrents alternate between the address families.
fn request(torrent: u32, peer: u8, event: PeerEvent) -> AnnounceRequest {
    let peer = match torrent.is_multiple_of(2) {
        true => CompactAddr::V4([203, 0, 113, peer, 1, 1]),
        false => CompactAddr::V6([0x20, 1, 0xd, 0xb8, 0, 0, 0, peer, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]),
    };
    let info_hash = info_hash(torrent);
    AnnounceRequest {
        info_hash,
        peer,
        seeder: event == PeerEvent::Completed,
        event,
        numwant: 10,
        own_family_only: false,
    }
}

impl EvictionWorld {
    fn new(torrents_max: u64, secret: &RandomState, seed: u64) -> EvictionWorld {
        EvictionWorld {
            swarms: Swarms::new(config(torrents_max), secret.clone()),
            random: Random::seeded(seed),
            sample: Sample::with_capacity(10),
        }
    }

    fn announce(&mut self, torrent: u32, peer: u8, event: PeerEvent) -> TorrentCounts {
        let a = request(torrent, peer, event);
        self.swarms.announce(&a, 1, &mut self.random, &mut self.sample)
    }

    /// A torrent whose peer has announced twice.
    fn establish(&mut self, torrent: u32) {
        self.announce(torrent, 1, PeerEvent::None);
        self.announce(torrent, 1, PeerEvent::None);
    }

    fn is_known(&self, torrent: u32) -> bool {
        self.swarms.scrape(&info_hash(torrent)) != TorrentCounts::default()
    }
}

#[test]
fn a_new_torrent_takes_the_place_of_one_that_was_announced_once() {
    let mut world = EvictionWorld::new(4, &RandomState::new(), 1);
    world.establish(0);
    world.announce(1, 1, PeerEvent::None);
    world.announce(1, 2, PeerEvent::None);
    world.announce(2, 1, PeerEvent::None);
    // Its completed download does not protect it, or made-up torrents would report one.
    world.announce(3, 1, PeerEvent::Completed);
    for torrent in [4, 5] {
        let counts = world.announce(torrent, 1, PeerEvent::None);
        assert_eq!(counts.incomplete, 1);
        assert_eq!(
            (world.sample.replaced(), world.sample.capacity_error()),
            (Some(Replaced::Torrent), None)
        );
        assert!(world.is_known(torrent));
        assert_eq!(world.swarms.totals(), Totals { torrents: 4, peers: 5 });
        world.announce(torrent, 1, PeerEvent::None);
        assert_eq!(world.sample.replaced(), None);
    }
    assert!(world.is_known(0) && world.is_known(1) && !world.is_known(2) && !world.is_known(3));
    // No unconfirmed torrent is left.
    world.announce(6, 1, PeerEvent::None);
    assert_eq!(
        (world.sample.replaced(), world.sample.capacity_error()),
        (None, Some(CapacityError::Torrents))
    );
    assert!(!world.is_known(6));
    // A peer that leaves and comes back has announced more than once, and so has a torrent with
    // one of two peers left.
    world.announce(1, 2, PeerEvent::Stopped);
    world.announce(6, 1, PeerEvent::None);
    assert_eq!(world.sample.capacity_error(), Some(CapacityError::Torrents));
    // `Stopped` from an address that is not in the torrent does not confirm it.
    world.announce(0, 1, PeerEvent::Stopped);
    world.announce(7, 1, PeerEvent::None);
    world.announce(7, 9, PeerEvent::Stopped);
    world.announce(8, 1, PeerEvent::None);
    assert_eq!(world.sample.replaced(), Some(Replaced::Torrent));
    assert!(!world.is_known(7) && world.is_known(8));
    let stats = world.swarms.stats();
    assert_eq!((stats.torrents, stats.completed), (4, 1));
    let peers = stats.v4.seeders + stats.v4.leechers + stats.v6.seeders + stats.v6.leechers;
    assert_eq!(peers, world.swarms.totals().peers);
}

/// Whether a chi-square statistic fits a uniform distribution: within six standard deviations.
fn is_uniform(statistic: f64, freedom: f64) -> bool {
    (statistic - freedom).abs() < 6.0 * (2.0 * freedom).sqrt() + 6.0
}

#[test]
fn every_unconfirmed_torrent_is_equally_likely() {
    // Few torrents, each in its own shard; and several in a shard, some of them confirmed.
    for (unconfirmed, new_torrents, rounds) in [(10, 1, 4000), (10, 4, 1000), (3000, 1000, 50)] {
        let secret = RandomState::new();
        let mut gone = vec![0.0; unconfirmed as usize];
        let established = unconfirmed / 2;
        for round in 0..rounds {
            let mut world =
                EvictionWorld::new(u64::from(unconfirmed + established), &secret, round);
            (0..unconfirmed).for_each(|torrent| {
                world.announce(torrent, 1, PeerEvent::None);
            });
            (unconfirmed..unconfirmed + established).for_each(|torrent| world.establish(torrent));
            let first = unconfirmed + established;
            (first..first + new_torrents).for_each(|torrent| world.establish(torrent));
            for torrent in 0..unconfirmed {
                gone[torrent as usize] += f64::from(u8::from(!world.is_known(torrent)));
            }
            assert!((unconfirmed..first + new_torrents).all(|torrent| world.is_known(torrent)));
        }
        assert_eq!(gone.iter().sum::<f64>(), rounds as f64 * f64::from(new_torrents));
        let chance = f64::from(new_torrents) / f64::from(unconfirmed);
        let expected = rounds as f64 * chance;
        let squares = gone.iter().map(|count| (count - expected).powi(2));
        let freedom = f64::from(unconfirmed - 1);
        let statistic =
            squares.sum::<f64>() / (expected * (1.0 - chance)) * freedom / f64::from(unconfirmed);
        assert!(
            is_uniform(statistic, freedom),
            "{unconfirmed} {new_torrents}: {statistic} of {freedom}"
        );
    }
}

/// So many torrents that a shard is probed, not scanned.
#[test]
fn every_unconfirmed_torrent_is_equally_likely_in_a_large_table() {
    const UNCONFIRMED: u32 = 400_000;
    const NEW_TORRENTS: u32 = 100_000;
    const GROUPS: u32 = 40;
    let mut world = EvictionWorld::new(u64::from(UNCONFIRMED), &RandomState::new(), 5);
    (0..UNCONFIRMED).for_each(|torrent| {
        world.announce(torrent, 1, PeerEvent::None);
    });
    (UNCONFIRMED..UNCONFIRMED + NEW_TORRENTS).for_each(|torrent| world.establish(torrent));
    assert!((UNCONFIRMED..UNCONFIRMED + NEW_TORRENTS).all(|torrent| world.is_known(torrent)));
    let expected = f64::from(NEW_TORRENTS / GROUPS);
    let statistic: f64 = (0..GROUPS)
        .map(|group| {
            let torrents = group * (UNCONFIRMED / GROUPS)..(group + 1) * (UNCONFIRMED / GROUPS);
            let gone = torrents.filter(|&torrent| !world.is_known(torrent)).count() as f64;
            (gone - expected).powi(2) / (expected * 0.75)
        })
        .sum();
    assert!(is_uniform(statistic, f64::from(GROUPS - 1)), "{statistic}");
}

/// The tables are full of made-up torrents and more keep coming: a real one is mostly still there
/// when its peer announces again, and then it stays.
#[test]
fn made_up_torrents_replace_one_another() {
    let mut world = EvictionWorld::new(10_000, &RandomState::new(), 6);
    (0..4000).for_each(|torrent| world.establish(torrent));
    let mut made_up = 100_000..;
    let mut announce_made_up = |world: &mut EvictionWorld, count: usize| {
        made_up.by_ref().take(count).for_each(|torrent| {
            world.announce(torrent, 1, PeerEvent::Completed);
        });
    };
    announce_made_up(&mut world, 6000);
    let mut kept = 0;
    for torrent in 4000..4200 {
        world.announce(torrent, 1, PeerEvent::None);
        // There are 6000 unconfirmed torrents.
        announce_made_up(&mut world, 100);
        kept += u32::from(world.is_known(torrent));
        world.establish(torrent);
    }
    assert!(kept > 180, "{kept} of 200");
    assert!((0..4200).all(|torrent| world.is_known(torrent)));
    assert_eq!(world.swarms.totals().torrents, 10_000);
}

#[test]
fn concurrent_threads_keep_the_totals_right() {
    const THREADS: u32 = 4;
    let swarms = Arc::new(Swarms::new(config(300), RandomState::new()));
    let work = |thread: u32| {
        let swarms = Arc::clone(&swarms);
        move || {
            let mut random = Random::seeded(u64::from(thread));
            let mut sample = Sample::with_capacity(10);
            let mut replaced = 0;
            for _ in 0..60_000 {
                // The threads often use the same torrent.
                let torrent = random.below(700);
                let event = if random.below(8) == 0 { PeerEvent::Stopped } else { PeerEvent::None };
                let a = request(torrent, thread as u8, event);
                swarms.announce(&a, 1, &mut random, &mut sample);
                replaced += u32::from(sample.replaced().is_some());
                assert!(swarms.totals().torrents <= 300);
            }
            replaced
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|thread| thread::spawn(work(thread))).collect();
    let replaced: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(replaced > 0);
    let (mut cursor, mut all) = (ScrapeCursor::default(), Vec::new());
    while swarms.scrape_chunk(&mut cursor, 100, &mut all) {}
    let peers = all.iter().map(|(_, counts)| u64::from(counts.complete + counts.incomplete)).sum();
    assert_eq!(swarms.totals(), Totals { torrents: all.len() as u64, peers });
    assert_eq!(swarms.stats().torrents, all.len() as u64);
    let mut part = Sweep::new(0, 1);
    for now in [1, 1500] {
        while swarms.sweep(&mut part, now, |_| true) == SweepStatus::Pending {}
    }
    assert_eq!(swarms.totals(), Totals { torrents: 0, peers: 0 });
}

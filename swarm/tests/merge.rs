//! Merging what other processes know: entries in any order, and records of their announces.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::RandomState;
use std::thread;

use annulus_swarm::{
    Ages, Applied, CapacityError, CompactAddr, Entries, InfoHash, PeerEvent, PeerUpdate, Random,
    Replaced, Restored, SwarmConfig, Swarms, Sweep, SweepStatus, Totals, UpdateOrder,
};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use support::{
    History, ModelEntry, Step, TIMEOUT_S, World, config, contents, decode, encode, endpoint,
    info_hash, restore, snapshot,
};

/// Ages of entries that are read in the second in which they were written.
fn present(swarms: &Swarms, now: u32) -> Ages {
    Ages { tick_s: swarms.tick_s(), phase_s: swarms.tick_phase_s(now), elapsed_s: 0 }
}

/// Nodes that have heard different announces of the same peers, and the order in which their
/// entries are merged.
#[derive(Clone, Debug)]
struct Nodes {
    histories: Vec<History>,
    order: Vec<usize>,
}

impl Arbitrary for Nodes {
    fn arbitrary(g: &mut Gen) -> Nodes {
        let histories: Vec<History> = (0..3).map(|_| History::arbitrary(g)).collect();
        // Each at least once.
        let mut order: Vec<usize> = (0..3).chain((0..3).map(|_| usize::arbitrary(g) % 3)).collect();
        (0..order.len()).for_each(|at| order.swap(at, usize::arbitrary(g) % 6));
        Nodes { histories, order }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Nodes>> {
        let order = self.order.clone();
        let all = self.histories.shrink().filter(|histories| histories.len() == 3);
        Box::new(all.map(move |histories| Nodes { histories, order: order.clone() }))
    }
}

/// What nodes know of a peer.
#[derive(Default)]
struct KnownKinds {
    /// The age of its last announce.
    age: u8,
    /// Whether it is a seeder by an announce of that tick, and of the one before.
    seeder: bool,
    seeder_before: bool,
}

/// All that nodes know of a torrent: its downloads and its peers.
type Known = (u32, BTreeMap<Vec<u8>, KnownKinds>);

fn union(worlds: &[World]) -> BTreeMap<InfoHash, Known> {
    let mut union: BTreeMap<InfoHash, Known> = BTreeMap::new();
    let all = || worlds.iter().flat_map(World::contents);
    for (info_hash, entry) in all() {
        let (downloaded, peers) = union.entry(info_hash).or_default();
        *downloaded = entry.downloaded.max(*downloaded);
        for peer in entry.peers {
            let unknown = KnownKinds { age: u8::MAX, ..KnownKinds::default() };
            let known = peers.entry(peer.address).or_insert(unknown);
            known.age = known.age.min(peer.age);
        }
    }
    for (info_hash, entry) in all() {
        let Some((_, peers)) = union.get_mut(&info_hash) else { continue };
        for peer in entry.peers.iter().filter(|peer| peer.seeder) {
            let Some(known) = peers.get_mut(&peer.address) else { continue };
            known.seeder |= peer.age == known.age;
            known.seeder_before |= peer.age == known.age + 1;
        }
    }
    union
}

/// Every peer has its latest time, and is a seeder if it was one then. If it was one in the tick
/// before, it may be one still, depending on the order.
fn assert_merged(contents: &BTreeMap<InfoHash, ModelEntry>, expected: &BTreeMap<InfoHash, Known>) {
    assert!(contents.keys().eq(expected.keys()));
    for (found, (downloaded, peers)) in contents.values().zip(expected.values()) {
        assert_eq!(found.downloaded, *downloaded);
        assert_eq!(found.peers.len(), peers.len());
        for peer in &found.peers {
            let known = &peers[&peer.address];
            assert_eq!(peer.age, known.age, "{peer:?}");
            assert!(peer.seeder || !known.seeder, "{peer:?}");
            assert!(!peer.seeder || known.seeder || known.seeder_before, "{peer:?}");
        }
    }
}

fn merges_in_any_order(nodes: Nodes) {
    // Bounds depend on what comes first.
    let config = SwarmConfig { peers_per_address_max: 0, ..config() };
    let mut worlds: Vec<World> = Vec::new();
    for history in &nodes.histories {
        let mut world = World::new(config, &RandomState::new(), 1003);
        history.steps.iter().for_each(|step| world.run(step));
        worlds.push(world);
    }
    let now = worlds.iter().map(|world| world.now).max().unwrap_or(0);
    for world in &mut worlds {
        while world.now < now {
            world.run(&Step::Wait { seconds: (now - world.now).min(TIMEOUT_S) });
        }
    }
    let expected = union(&worlds);
    let ages = present(&worlds[0].swarms, now);
    let written: Vec<Vec<u8>> =
        worlds.iter().map(|world| snapshot(&world.swarms, now, None)).collect();
    // One of the nodes merges all, and another that had nothing.
    for merged in [worlds.swap_remove(0), World::new(config, &RandomState::new(), now)] {
        for &node in &nodes.order {
            restore(&merged.swarms, &written[node], &ages, now);
        }
        assert_merged(&merged.contents(), &expected);
        check_counts(&merged.swarms, now);
        let again = restore(&merged.swarms, &written[nodes.order[0]], &ages, now);
        assert_eq!(again, Restored::default());
    }
}

/// All counts are what counting gives; returns the number of peers of each torrent.
fn check_counts(swarms: &Swarms, now: u32) -> Vec<usize> {
    let contents = contents(swarms, now);
    let mut totals = Totals { torrents: 0, peers: 0 };
    let mut by_kind = [0; 4];
    for (info_hash, entry) in &contents {
        totals.torrents += 1;
        totals.peers += entry.peers.len() as u64;
        let mut addresses = BTreeSet::new();
        for peer in &entry.peers {
            by_kind[usize::from(peer.address.len() == 18) * 2 + usize::from(peer.seeder)] += 1;
            assert!(addresses.insert(peer.address.clone()), "a peer twice");
        }
        let counts = swarms.scrape(info_hash);
        let seeders = entry.peers.iter().filter(|peer| peer.seeder).count();
        assert_eq!((counts.complete as usize, counts.downloaded), (seeders, entry.downloaded));
        assert_eq!(counts.incomplete as usize, entry.peers.len() - seeders);
    }
    assert_eq!(swarms.totals(), totals);
    let stats = swarms.stats();
    assert_eq!(stats.torrents, totals.torrents);
    let counted = [stats.v4.leechers, stats.v4.seeders, stats.v6.leechers, stats.v6.seeders];
    assert_eq!(counted, by_kind);
    contents.values().map(|entry| entry.peers.len()).collect()
}

#[test]
fn entries_merge_in_any_order_and_twice() {
    QuickCheck::new().tests(80).quickcheck(merges_in_any_order as fn(Nodes));
}

/// Entries with the bounds of the tables that merge them, from several threads at once.
#[derive(Clone, Debug)]
struct Bounded {
    entries: Vec<ModelEntry>,
    torrents_max: u64,
    peers_max: u64,
    peers_per_torrent_max: u32,
    peers_per_address_max: u32,
}

impl Arbitrary for Bounded {
    fn arbitrary(g: &mut Gen) -> Bounded {
        Bounded {
            entries: (0..6).map(|_| ModelEntry::arbitrary(g)).collect(),
            torrents_max: *g.choose(&[0, 1, 2, 100]).unwrap(),
            peers_max: *g.choose(&[0, 1, 5, 200, 100_000]).unwrap(),
            peers_per_torrent_max: *g.choose(&[0, 1, 4, 150, 100_000]).unwrap(),
            peers_per_address_max: *g.choose(&[0, 1, 3, 16]).unwrap(),
        }
    }
}

fn all_bounds_hold(bounded: Bounded) {
    const NOW: u32 = 7;
    let Bounded { torrents_max, peers_max, peers_per_torrent_max, peers_per_address_max, .. } =
        bounded;
    let config = SwarmConfig {
        torrents_max,
        peers_max,
        peers_per_torrent_max,
        peers_per_address_max,
        peer_timeout_s: TIMEOUT_S,
    };
    let swarms = Swarms::new(config, RandomState::new());
    let bytes = encode(&bounded.entries);
    let ages = present(&swarms, NOW);
    let counts = thread::scope(|scope| {
        let restore = || restore(&swarms, &bytes, &ages, NOW);
        let threads = [scope.spawn(restore), scope.spawn(restore)];
        threads.map(|thread| thread.join().expect("no thread panics"))
    });
    let of_torrents = check_counts(&swarms, NOW);
    let totals = swarms.totals();
    assert!(totals.torrents <= torrents_max && totals.peers <= peers_max);
    assert!(of_torrents.iter().all(|&peers| peers <= peers_per_torrent_max as usize));
    for entry in contents(&swarms, NOW).values() {
        let mut of_address: BTreeMap<&[u8], u32> = BTreeMap::new();
        for peer in &entry.peers {
            let prefix = if peer.address.len() == 6 { 4 } else { 8 };
            *of_address.entry(&peer.address[..prefix]).or_default() += 1;
        }
        let most = of_address.values().max().copied().unwrap_or(0);
        assert!(peers_per_address_max == 0 || most <= peers_per_address_max, "{most}");
    }
    let lifetime = 25;
    let fresh =
        |entry: &ModelEntry| entry.peers.iter().filter(|peer| peer.age <= lifetime).count() as u64;
    let read: u64 = bounded.entries.iter().map(|entry| entry.peers.len() as u64).sum();
    let fresh: u64 = bounded.entries.iter().map(fresh).sum();
    assert_eq!([counts[0].expired, counts[1].expired], [read - fresh; 2]);
    if torrents_max == 100 && peers_max == 100_000 && peers_per_torrent_max == 100_000 {
        let limited = counts.iter().map(|counts| counts.refused).sum::<u64>();
        assert!(peers_per_address_max > 0 || limited == 0, "{limited} refused");
    }
}

#[test]
fn all_bounds_hold_whatever_is_merged() {
    QuickCheck::new().tests(150).quickcheck(all_bounds_hold as fn(Bounded));
}

/// While entries are merged, peers announce: what they say last stays.
#[test]
fn entries_do_not_undo_an_announce() {
    const PEERS: u16 = 700;
    let secret = RandomState::new();
    let config = SwarmConfig { peers_per_address_max: 0, ..config() };
    let mut old = World::new(config, &secret, 1000);
    for number in 0..PEERS {
        for torrent in 0..4 {
            old.announce(torrent, endpoint(number % 3 == 0, number), true, PeerEvent::None);
        }
    }
    let written = snapshot(&old.swarms, old.now, None);
    let ages = Ages { elapsed_s: 30, ..present(&old.swarms, old.now) };
    let new = Swarms::new(config, secret);
    thread::scope(|scope| {
        let restore = || restore(&new, &written, &ages, 30);
        scope.spawn(restore);
        scope.spawn(restore);
        scope.spawn(|| {
            let (mut random, mut sample) =
                (Random::seeded(1), annulus_swarm::Sample::with_capacity(0));
            for number in 0..PEERS {
                let a = annulus_swarm::AnnounceRequest {
                    info_hash: info_hash(number % 4),
                    peer: endpoint(number % 3 == 0, number),
                    seeder: false,
                    event: PeerEvent::None,
                    numwant: 0,
                    own_family_only: false,
                };
                new.announce(&a, 30, &mut random, &mut sample);
            }
        });
    });
    check_counts(&new, 30);
    for (torrent, entry) in (0..4).zip(contents(&new, 30).values()) {
        assert_eq!(entry.peers.len(), usize::from(PEERS));
        let announced: HashSet<CompactAddr> = (0..PEERS)
            .filter(|number| number % 4 == torrent)
            .map(|number| endpoint(number % 3 == 0, number))
            .collect();
        for peer in &entry.peers {
            let is_announced = announced.contains(&peer.compact());
            assert_eq!((peer.age == 0, peer.seeder), (is_announced, !is_announced), "{peer:?}");
        }
    }
}

#[test]
fn a_peer_that_is_not_admitted_is_left_out() {
    let mut old = World::new(config(), &RandomState::new(), 500);
    for number in 0..300 {
        old.announce(1, endpoint(false, 2 + 4 * number), false, PeerEvent::None);
        old.now += 1;
    }
    let bytes = snapshot(&old.swarms, old.now, None);
    let ages = Ages { elapsed_s: 11, ..present(&old.swarms, old.now) };
    let new = Swarms::new(config(), RandomState::new());
    let entry = Entries::new(&bytes).next().expect("one").expect("valid");
    let mut asked = 0;
    let restored = new.restore(&entry, &ages, 3, |peer, age_s| {
        let number = (0..300).find(|number| endpoint(false, 2 + 4 * number) == *peer);
        let number = number.expect("one of them");
        let exact_s = 300 - u32::from(number) + 11;
        assert!((exact_s..exact_s + new.tick_s()).contains(&age_s), "{age_s} for {exact_s}");
        asked += 1;
        number % 2 == 0
    });
    assert_eq!(restored.refused, asked / 2);
    assert_eq!((restored.stored, restored.expired), (asked - asked / 2, 300 - asked));
    assert!(asked > 150 && new.totals().peers == restored.stored);
}

/// A torrent that was announced once is replaced when the tables are full, here as there.
#[test]
fn an_unconfirmed_torrent_stays_unconfirmed() {
    let small = SwarmConfig { torrents_max: 4, ..config() };
    let mut old = World::new(small, &RandomState::new(), 100);
    for torrent in 0..4 {
        old.announce(torrent, endpoint(torrent % 2 == 0, 1), true, PeerEvent::Completed);
    }
    old.announce(0, endpoint(true, 1), true, PeerEvent::None);
    old.announce(1, endpoint(true, 1), true, PeerEvent::None);
    let bytes = snapshot(&old.swarms, old.now, None);
    let ages = present(&old.swarms, old.now);
    let mut new = World::new(small, &RandomState::new(), 100);
    // Twice is the same announce.
    restore(&new.swarms, &bytes, &ages, 100);
    restore(&new.swarms, &bytes, &ages, 100);
    assert_eq!(new.contents(), old.contents());
    for torrent in [10, 11, 12] {
        new.announce(torrent, endpoint(false, 1), false, PeerEvent::None);
        new.announce(torrent, endpoint(false, 1), false, PeerEvent::None);
    }
    let known: Vec<InfoHash> = new.contents().into_keys().collect();
    assert_eq!(known, [0, 1, 10, 11].map(info_hash));
    // It has been announced again at another node.
    old.now += 10;
    old.announce(2, endpoint(true, 1), true, PeerEvent::None);
    let bytes = snapshot(&old.swarms, old.now, None);
    let new = World::new(small, &RandomState::new(), 110);
    let unconfirmed =
        |world: &World| world.contents().into_values().filter(|entry| entry.unconfirmed).count();
    restore(&new.swarms, &snapshot(&old.swarms, 100, Some(0)), &ages, 110);
    restore(&new.swarms, &bytes, &present(&old.swarms, 110), 110);
    assert_eq!((unconfirmed(&old), unconfirmed(&new)), (1, 1));
}

/// What became of an update, as an announce reports it.
fn reported(world: &World, event: PeerEvent, was_known: bool) -> Applied {
    match (world.sample.replaced(), world.sample.capacity_error()) {
        (Some(replaced), _) => Applied::Replaced(replaced),
        (_, Some(error)) => Applied::Refused(error),
        _ if event != PeerEvent::Stopped => Applied::Stored,
        _ if was_known => Applied::Removed,
        _ => Applied::Unknown,
    }
}

#[derive(Clone, Debug)]
struct Records {
    history: History,
    torrents_max: u64,
    peers_max: u64,
    peers_per_torrent_max: u32,
    delay_s: u32,
}

impl Arbitrary for Records {
    fn arbitrary(g: &mut Gen) -> Records {
        Records {
            history: History::arbitrary(g),
            torrents_max: *g.choose(&[1, 3, 100]).unwrap(),
            peers_max: *g.choose(&[3, 100, 100_000]).unwrap(),
            peers_per_torrent_max: *g.choose(&[0, 1, 4, 150, 100_000, 100_000]).unwrap(),
            delay_s: *g.choose(&[0, 0, 1, 7, 8, 33, 160]).unwrap(),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Records>> {
        let whole = self.clone();
        Box::new(self.history.shrink().map(move |history| Records { history, ..whole.clone() }))
    }
}

/// A node that applies the records of another, with a delay, knows what the other knows.
fn a_record_is_an_announce(records: Records) {
    let Records { torrents_max, peers_max, peers_per_torrent_max, delay_s, .. } = records;
    let config = SwarmConfig { torrents_max, peers_max, peers_per_torrent_max, ..config() };
    let secret = RandomState::new();
    let mut teller = World::new(config, &secret, 1003);
    let mut hearer = World::new(config, &secret, 1003 + delay_s);
    for step in &records.history.steps {
        let &Step::Announce { torrent, v6, first, count, seeder, event } = step else {
            // Shorter than what stamps can tell, and nothing is removed.
            teller.now += 9;
            hearer.now += 9;
            continue;
        };
        for number in first..first + count {
            let peer = endpoint(v6, number);
            let before = teller.swarms.totals().peers;
            teller.announce(torrent, peer, seeder, event);
            let was_known = teller.swarms.totals().peers < before;
            let update = PeerUpdate {
                info_hash: info_hash(torrent),
                peer,
                seeder,
                event,
                age_s: delay_s,
                order: UpdateOrder::InOrder,
            };
            let applied = hearer.swarms.apply(&update, hearer.now, &mut hearer.random);
            assert_eq!(applied, reported(&teller, event, was_known), "{update:?}");
        }
        let heard = hearer.swarms.stats();
        assert_eq!(heard, teller.swarms.stats());
    }
    teller.now += delay_s;
    teller.assert_same(&hearer);
    for world in [&mut teller, &mut hearer] {
        world.run(&Step::Wait { seconds: TIMEOUT_S / 2 });
    }
    teller.assert_same(&hearer);
}

#[test]
fn applying_a_record_is_announcing() {
    QuickCheck::new().tests(150).quickcheck(a_record_is_an_announce as fn(Records));
}

struct UpdateWorld {
    swarms: Swarms,
    random: Random,
    now: u32,
}

impl UpdateWorld {
    /// Ticks are 8 seconds.
    fn new(peers_per_address_max: u32) -> UpdateWorld {
        let config = SwarmConfig { peers_per_address_max, ..config() };
        let swarms = Swarms::new(config, RandomState::new());
        UpdateWorld { swarms, random: Random::seeded(1), now: 807 }
    }

    fn apply(
        &mut self,
        (port, seeder): (u16, bool),
        event: PeerEvent,
        age_s: u32,
        order: UpdateOrder,
    ) -> Applied {
        let peer = CompactAddr::new([192, 0, 2, 1].into(), port);
        let update = PeerUpdate { info_hash: info_hash(1), peer, seeder, event, age_s, order };
        self.swarms.apply(&update, self.now, &mut self.random)
    }

    /// Ports, seeders and ages.
    fn peers(&self) -> Vec<(u16, bool, u8)> {
        let entries = decode(&snapshot(&self.swarms, self.now, None));
        let peers = entries.into_iter().flat_map(|entry| entry.peers);
        let port = |address: &[u8]| u16::from_be_bytes([address[4], address[5]]);
        let mut peers: Vec<_> =
            peers.map(|peer| (port(&peer.address), peer.seeder, peer.age)).collect();
        peers.sort_unstable();
        peers
    }
}

#[test]
fn the_latest_record_counts() {
    use PeerEvent::{Completed, None, Stopped};
    use UpdateOrder::{InOrder, Late};
    let mut world = UpdateWorld::new(0);
    assert_eq!(world.apply((1, false), Stopped, 0, InOrder), Applied::Unknown);
    assert_eq!(world.apply((1, false), None, 20, InOrder), Applied::Stored);
    assert_eq!(world.apply((1, false), Stopped, 0, InOrder), Applied::Removed);
    assert_eq!(world.swarms.totals(), Totals { torrents: 0, peers: 0 });
    // Within a tick the last writer wins; a late record makes only seeders.
    assert_eq!(world.apply((1, true), None, 7, InOrder), Applied::Stored);
    assert_eq!(world.apply((1, false), None, 0, InOrder), Applied::Stored);
    assert_eq!(world.apply((1, true), None, 7, Late), Applied::Stored);
    assert_eq!(world.apply((1, false), None, 0, Late), Applied::Stale);
    assert_eq!(world.peers(), [(1, true, 0)]);
    // An earlier tick changes nothing.
    for (event, seeder) in [(None, false), (Completed, true), (Stopped, false)] {
        for order in [InOrder, Late] {
            assert_eq!(world.apply((1, seeder), event, 8, order), Applied::Stale);
        }
    }
    assert_eq!(world.apply((1, false), Stopped, 0, Late), Applied::Stale);
    assert_eq!(world.peers(), [(1, true, 0)]);
    world.now += 17;
    assert_eq!(world.apply((1, false), None, 8, Late), Applied::Stored);
    assert_eq!(world.peers(), [(1, false, 1)]);
    assert_eq!(world.apply((1, true), Completed, 24, InOrder), Applied::Stale);
    assert_eq!(world.swarms.scrape(&info_hash(1)).downloaded, 0);
    for _ in 0..2 {
        assert_eq!(world.apply((1, true), Completed, 0, InOrder), Applied::Stored);
        assert_eq!(world.swarms.scrape(&info_hash(1)).downloaded, 1);
    }
    assert_eq!(world.apply((1, false), Stopped, 0, Late), Applied::Stale);
    world.now += 8;
    assert_eq!(world.apply((1, false), Stopped, 0, Late), Applied::Removed);
    assert_eq!(world.peers(), []);
    // It is remembered for its downloads.
    assert_eq!(world.swarms.totals(), Totals { torrents: 1, peers: 0 });
}

#[test]
fn a_record_keeps_a_peer_no_longer_than_its_announce() {
    let mut world = UpdateWorld::new(0);
    for (port, age_s) in [(1, 0), (2, 60), (3, 180)] {
        let applied = world.apply((port, false), PeerEvent::None, age_s, UpdateOrder::InOrder);
        assert_eq!(applied, Applied::Stored);
    }
    let old = world.apply((4, false), PeerEvent::None, TIMEOUT_S + 16, UpdateOrder::InOrder);
    assert_eq!(old, Applied::Stale);
    let mut sweep = Sweep::new(0, 1);
    for (seconds, left) in [(20, 3), (16, 2), (104, 2), (16, 1), (44, 1), (16, 0)] {
        world.now += seconds;
        sweep.start_full_round();
        while world.swarms.sweep(&mut sweep, world.now, |_| true) == SweepStatus::Pending {}
        assert_eq!(world.peers().len(), left, "{}", world.now);
    }
}

#[test]
fn an_older_record_replaces_no_later_peer_of_its_address() {
    use UpdateOrder::{InOrder, Late};
    let mut world = UpdateWorld::new(2);
    assert_eq!(world.apply((1, false), PeerEvent::None, 20, InOrder), Applied::Stored);
    assert_eq!(world.apply((2, false), PeerEvent::None, 20, InOrder), Applied::Stored);
    assert_eq!(world.apply((3, false), PeerEvent::None, 20, Late), Applied::Stale);
    assert_eq!(world.apply((3, false), PeerEvent::None, 28, InOrder), Applied::Stale);
    // The later of the same tick, then that of a later tick.
    let replaced = Applied::Replaced(Replaced::Peer);
    assert_eq!(world.apply((3, false), PeerEvent::None, 20, InOrder), replaced);
    assert_eq!(world.peers().iter().map(|peer| peer.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(world.apply((4, false), PeerEvent::None, 10, Late), replaced);
    assert_eq!(world.peers().iter().map(|peer| peer.0).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(world.swarms.totals(), Totals { torrents: 1, peers: 2 });
}

#[test]
fn a_record_is_refused_where_an_announce_is() {
    let config = SwarmConfig { torrents_max: 1, peers_max: 2, ..config() };
    let swarms = Swarms::new(config, RandomState::new());
    let mut random = Random::seeded(1);
    let mut apply = |torrent: u16, number: u16| {
        let update = PeerUpdate {
            info_hash: info_hash(torrent),
            peer: endpoint(true, number),
            seeder: false,
            event: PeerEvent::None,
            age_s: 0,
            order: UpdateOrder::Late,
        };
        swarms.apply(&update, 50, &mut random)
    };
    assert_eq!(apply(1, 2), Applied::Stored);
    assert_eq!(apply(2, 2), Applied::Replaced(Replaced::Torrent));
    assert_eq!(apply(2, 3), Applied::Stored);
    assert_eq!(apply(1, 2), Applied::Refused(CapacityError::Torrents));
    assert_eq!(apply(2, 6), Applied::Refused(CapacityError::Peers));
    assert_eq!(swarms.totals(), Totals { torrents: 1, peers: 2 });
}

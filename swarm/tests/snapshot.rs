//! Writing the swarms and reading them elsewhere: nothing is lost, invented or made younger.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annulus_swarm::{
    Ages, AnnounceRequest, CompactAddr, ENTRY_BYTES_MAX, Entries, InfoHash, PeerEvent, Random,
    Sample, SnapshotCursor, SwarmConfig, Swarms,
};
use quickcheck::{Arbitrary, Gen, QuickCheck, quickcheck};
use support::{
    History, ModelEntry, ModelPeer, Step, World, config, decode, encode, info_hash, restore,
    snapshot,
};

/// What another process reads, after `elapsed_s` and at its second `now`.
#[derive(Clone, Debug)]
struct Restart {
    before: History,
    elapsed_s: u32,
    now: u32,
    after: History,
}

impl Arbitrary for Restart {
    fn arbitrary(g: &mut Gen) -> Restart {
        Restart {
            before: History::arbitrary(g),
            elapsed_s: *g.choose(&[0, 1, 3, 8, 50, 190, 230, 600]).unwrap(),
            now: *g.choose(&[0, 0, 1, 5, 77]).unwrap(),
            after: History::arbitrary(g),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Restart>> {
        let whole = self.clone();
        let before = self.before.shrink().map(move |before| Restart { before, ..whole.clone() });
        let whole = self.clone();
        let after = self.after.shrink().map(move |after| Restart { after, ..whole.clone() });
        Box::new(before.chain(after))
    }
}

/// A process that has read the swarms answers, replaces and expires as the one that wrote them.
fn goes_on_as_before(restart: Restart) {
    let secret = RandomState::new();
    let mut old = World::new(config(), &secret, 1003);
    restart.before.steps.iter().for_each(|step| old.run(step));
    let written = snapshot(&old.swarms, old.now, None);
    let ages = Ages {
        tick_s: old.swarms.tick_s(),
        phase_s: old.swarms.tick_phase_s(old.now),
        elapsed_s: restart.elapsed_s,
    };
    let mut new = World::new(config(), &secret, restart.now);
    new.swarms.align_ticks(&ages, new.now);
    let restored = restore(&new.swarms, &written, &ages, new.now);
    assert_eq!((restored.updated, restored.refused), (0, 0));
    assert_eq!(restored.stored, new.swarms.totals().peers);
    // Both lose what has expired.
    old.run(&Step::Wait { seconds: restart.elapsed_s });
    new.run(&Step::Wait { seconds: 0 });
    old.assert_same(&new);
    for step in &restart.after.steps {
        old.run(step);
        new.run(step);
        old.assert_same(&new);
        assert_eq!(old.swarms.tick_phase_s(old.now), new.swarms.tick_phase_s(new.now));
    }
}

#[test]
fn a_restored_process_goes_on_as_the_one_that_wrote() {
    QuickCheck::new().tests(150).quickcheck(goes_on_as_before as fn(Restart));
}

/// A process with another timeout, and so with other ticks, rounds ages up by less than both ticks.
#[test]
fn ages_in_other_ticks_are_rounded_up() {
    let mut found = 0;
    for (old_timeout_s, new_timeout_s) in [(200, 2700), (2700, 200), (2700, 2600), (25, 100)] {
        for elapsed_s in [0, 1, 57] {
            let secret = RandomState::new();
            let timeout = |peer_timeout_s| SwarmConfig { peer_timeout_s, ..config() };
            let mut old = World::new(timeout(old_timeout_s), &secret, 12_345);
            // Some have expired, by less than stamps can tell.
            let announced: Vec<u32> = (0..60).map(|n| n * n * old_timeout_s / 1000).collect();
            let end = announced[59];
            for (number, &at) in (0..).zip(&announced) {
                old.now = 12_345 + at;
                old.announce(1, CompactAddr::V4([1, 2, 3, number, 0, 1]), false, PeerEvent::None);
            }
            let ages = Ages {
                tick_s: old.swarms.tick_s(),
                phase_s: old.swarms.tick_phase_s(old.now),
                elapsed_s,
            };
            let now = 31;
            let mut new = World::new(timeout(new_timeout_s), &secret, now);
            new.swarms.align_ticks(&ages, now);
            let written = snapshot(&old.swarms, old.now, None);
            restore(&new.swarms, &written, &ages, now);
            let entries = decode(&snapshot(&new.swarms, now, None));
            let (tick_s, phase_s) = (new.swarms.tick_s(), new.swarms.tick_phase_s(now));
            for peer in entries.iter().flat_map(|entry| &entry.peers) {
                let age_s = end - announced[usize::from(peer.address[3])] + elapsed_s;
                let ticks = |age_s: u32| age_s.saturating_sub(phase_s).div_ceil(tick_s);
                let most = ticks(age_s + old.swarms.tick_s() - 1);
                let age = u32::from(peer.age);
                assert!((ticks(age_s)..=most).contains(&age), "{age_s} s: {age}, {most} at most");
                found += 1;
            }
        }
    }
    assert!(found > 100, "{found}");
}

/// Torrents and peers that are only known by entries.
#[derive(Clone, Debug)]
struct WrittenEntries(Vec<ModelEntry>);

impl Arbitrary for WrittenEntries {
    fn arbitrary(g: &mut Gen) -> WrittenEntries {
        WrittenEntries((0..usize::arbitrary(g) % 4).map(|_| ModelEntry::arbitrary(g)).collect())
    }
}

quickcheck! {
    fn entries_are_read_as_they_are_written(written: WrittenEntries) -> bool {
        let bytes = encode(&written.0);
        let read: Result<Vec<_>, _> = Entries::new(&bytes).collect();
        let read = read.expect("valid");
        read.len() == written.0.len() && read.iter().zip(&written.0).all(|(read, written)| {
            let peers = read.peers().zip(&written.peers);
            read.info_hash == written.info_hash
                && read.downloaded == written.downloaded
                && read.unconfirmed == written.unconfirmed
                && read.peer_count() == written.peers.len()
                && peers.into_iter().all(|(read, written)| {
                    read.peer == written.compact()
                        && read.seeder == written.seeder
                        && read.age_ticks == written.age
                })
        })
    }

    /// An error tells where; what came before it is right, and nothing comes after it.
    fn damaged_entries_do_no_harm(written: WrittenEntries, changes: Vec<(usize, u8)>, cut: usize)
        -> bool
    {
        let mut bytes = encode(&written.0);
        for (at, value) in changes {
            let at = at % bytes.len().max(1);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = value);
        }
        bytes.truncate(cut % (bytes.len() + 1));
        let swarms = Swarms::new(config(), RandomState::new());
        let ages = Ages { tick_s: 8, phase_s: 3, elapsed_s: 5 };
        let mut entries = Entries::new(&bytes);
        let mut stored = 0;
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => stored += swarms.restore(&entry, &ages, 9, |_, _| true).stored,
                Err(error) => {
                    assert!(error.at <= bytes.len(), "{error} of {}", bytes.len());
                    assert!(entries.next().is_none());
                }
            }
        }
        // Those that were replaced by others of their address count as stored too.
        swarms.totals().peers <= stored
    }

    fn garbage_is_no_harm(bytes: Vec<u8>) -> bool {
        Entries::new(&bytes).count() <= bytes.len() / 32 + 1
    }
}

/// A distinct IPv4 or IPv6 address for each number.
fn numbered(v6: bool, number: u32) -> CompactAddr {
    let [a, b, c, d] = number.to_be_bytes();
    match v6 {
        false => CompactAddr::V4([10, b, c, d, 1, a]),
        true => CompactAddr::V6([0xfd, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 1, 1]),
    }
}

/// How many entries a snapshot has, and the peers in them; a peer may be in several.
fn written(bytes: &[u8]) -> (usize, HashMap<CompactAddr, bool>) {
    let entries = decode(bytes);
    let peers = entries.iter().flat_map(|entry| &entry.peers);
    (entries.len(), peers.map(|peer| (peer.compact(), peer.seeder)).collect())
}

#[test]
fn a_large_swarm_is_written_in_pieces() {
    for (seeders, leechers) in [(0, 30_000), (30_000, 0), (9000, 9000), (4000, 400)] {
        let mut world = World::new(config(), &RandomState::new(), 100);
        for number in 0..seeders + leechers {
            let v6 = number % 3 == 0;
            world.announce(1, numbered(v6, number), number < seeders, PeerEvent::None);
        }
        let bytes = snapshot(&world.swarms, 100, None);
        let (entries, peers) = written(&bytes);
        assert!(entries > 1 && entries < bytes.len() / ENTRY_BYTES_MAX * 2 + 4, "{entries}");
        assert_eq!(
            decode(&bytes).iter().map(|entry| entry.peers.len()).sum::<usize>(),
            peers.len()
        );
        for number in 0..seeders + leechers {
            let seeder = peers.get(&numbered(number % 3 == 0, number));
            assert_eq!(seeder, Some(&(number < seeders)), "{number}");
        }
        let ages = Ages { tick_s: 8, phase_s: 4, elapsed_s: 0 };
        let read = World::new(config(), &RandomState::new(), 100);
        restore(&read.swarms, &bytes, &ages, 100);
        assert_eq!(read.swarms.stats(), world.swarms.stats());
    }
}

/// Peers come, complete and leave between the steps of a walk: those that stay are all written, and
/// those that complete as seeders or leechers.
#[test]
fn no_peer_that_stays_is_missed_while_others_move() {
    for v6 in [false, true] {
        for seed in 0..6 {
            let mut world = World::new(config(), &RandomState::new(), 100);
            let mut random = Random::seeded(seed);
            let peers = 20_000;
            for number in 0..peers {
                world.announce(1, numbered(v6, number), number % 4 == 0, PeerEvent::None);
            }
            let mut left = HashSet::new();
            let (mut cursor, mut bytes, mut next) = (SnapshotCursor::default(), Vec::new(), peers);
            // Each time another kind of change is the most frequent one.
            while world.swarms.snapshot(&mut cursor, 100, ENTRY_BYTES_MAX, &mut bytes) {
                // Most calls have nothing to write.
                let changes = if cursor.peers() > 0 { 400 } else { 0 };
                for _ in 0..changes {
                    let number = random.below(peers);
                    let peer = numbered(v6, number);
                    let kind = random.below(8).min(3 + seed as u32 % 3);
                    match if kind < 3 { kind } else { seed as u32 % 3 } {
                        0 => {
                            left.insert(peer);
                            world.announce(1, peer, false, PeerEvent::Stopped);
                        }
                        1 if !left.contains(&peer) => {
                            world.announce(1, peer, true, PeerEvent::Completed);
                        }
                        _ => {
                            let seeder = random.below(2) == 0;
                            world.announce(1, numbered(v6, next), seeder, PeerEvent::None);
                            next += 1;
                        }
                    }
                }
            }
            assert!(next > peers && left.len() > 100, "{next} {}", left.len());
            let (entries, found) = written(&bytes);
            assert!(entries > 5, "{entries}");
            let stayed = (0..peers).map(|number| numbered(v6, number));
            let missed = stayed.filter(|peer| !left.contains(peer) && !found.contains_key(peer));
            assert_eq!(missed.count(), 0, "seed {seed}");
        }
    }
}

/// Threads announce while the swarms are written: peers and torrents that stay are in it.
#[test]
fn nothing_that_stays_is_missed_while_threads_announce() {
    const TORRENTS: u32 = 3000;
    const PEERS: u32 = 20_000;
    let swarms = Swarms::new(
        SwarmConfig { torrents_max: 100_000, peer_timeout_s: 2700, ..config() },
        RandomState::new(),
    );
    let announce = |torrent: u32, peer: CompactAddr, event: PeerEvent, random: &mut Random| {
        let seeder = random.below(3) == 0;
        let request = AnnounceRequest {
            info_hash: info_hash(torrent as u16),
            peer,
            seeder,
            event,
            numwant: 5,
            own_family_only: false,
        };
        swarms.announce(&request, 5, random, &mut Sample::with_capacity(5));
    };
    // One large swarm, many small ones.
    let torrent_of = |number: u32| if number.is_multiple_of(2) { 0 } else { number % TORRENTS };
    let peer_of = |number: u32| numbered(number.is_multiple_of(5), number);
    let mut random = Random::seeded(3);
    for number in 0..PEERS {
        announce(torrent_of(number), peer_of(number), PeerEvent::None, &mut random);
    }
    let done = AtomicBool::new(false);
    let bytes = thread::scope(|scope| {
        for thread in 0..2 {
            let (announce, done) = (&announce, &done);
            scope.spawn(move || {
                let mut random = Random::seeded(thread);
                while !done.load(Ordering::Relaxed) {
                    let number = random.below(PEERS);
                    let torrent = torrent_of(number);
                    // Some come and leave, in torrents of their own too.
                    let passing = peer_of(PEERS + random.below(500));
                    let event =
                        if random.below(2) == 0 { PeerEvent::Stopped } else { PeerEvent::None };
                    announce(torrent + random.below(2) * TORRENTS, passing, event, &mut random);
                    if number % 2 == 1 {
                        announce(torrent, peer_of(number), PeerEvent::None, &mut random);
                    }
                }
            });
        }
        let rounds = (0..10).map(|_| {
            let (mut cursor, mut bytes) = (SnapshotCursor::default(), Vec::new());
            while swarms.snapshot(&mut cursor, 5, 256 * 1024, &mut bytes) {}
            bytes
        });
        let rounds: Vec<Vec<u8>> = rounds.collect();
        done.store(true, Ordering::Relaxed);
        rounds
    });
    for bytes in bytes {
        let mut found: HashMap<InfoHash, HashSet<CompactAddr>> = HashMap::new();
        for entry in decode(&bytes) {
            let peers = entry.peers.iter().map(|peer| peer.compact());
            found.entry(entry.info_hash).or_default().extend(peers);
        }
        for number in 0..PEERS {
            let torrent = info_hash(torrent_of(number) as u16);
            let of_torrent = found.get(&torrent).expect("every torrent");
            assert!(of_torrent.contains(&peer_of(number)), "{number}");
        }
    }
}

#[test]
fn only_what_changed_since_is_written() {
    // Ticks are 8 seconds.
    let mut world = World::new(config(), &RandomState::new(), 0);
    for torrent in 0..20 {
        for second in (0..160).step_by(5) {
            // Every other torrent is older.
            let v6 = second % 2 == 0;
            world.now = second + 40 * u32::from(torrent % 2 == 0);
            let peer = numbered(v6, second * if torrent == 4 { 2 } else { 1 });
            world.announce(torrent, peer, second % 3 == 0, PeerEvent::None);
        }
    }
    for number in 1000..7000 {
        world.now = (number / 50) + 60;
        world.announce(100, numbered(false, number), number % 3 == 0, PeerEvent::None);
    }
    let now = 203;
    world.now = now;
    let all = decode(&snapshot(&world.swarms, now, None));
    let mut before = 0;
    for since_s in [0, 1, 4, 11, 12, 30, 60, 90, 203, 1000] {
        let max = u64::from(since_s).saturating_sub(3).div_ceil(8);
        let mut expected = BTreeMap::new();
        for peer in all.iter().flat_map(|entry| entry.peers.iter().map(|it| (entry.info_hash, it)))
        {
            let (info_hash, peer) = peer;
            if u64::from(peer.age) <= max {
                expected.insert((info_hash, peer.address.clone()), (peer.seeder, peer.age));
            }
        }
        let written = decode(&snapshot(&world.swarms, now, Some(since_s)));
        assert!(written.iter().all(|entry| !entry.peers.is_empty()));
        let found: BTreeMap<_, _> = written
            .iter()
            .flat_map(|entry| entry.peers.iter().map(|peer| (entry.info_hash, peer)))
            .map(|(hash, peer)| ((hash, peer.address.clone()), (peer.seeder, peer.age)))
            .collect();
        assert_eq!(found.len(), expected.len(), "{since_s}");
        assert!(found == expected, "{since_s}");
        assert!(found.len() >= before);
        before = found.len();
    }
    assert_eq!(before, all.iter().map(|entry| entry.peers.len()).sum::<usize>());
}

#[test]
fn damage_is_reported_with_its_place() {
    let peer = ModelPeer { address: vec![9; 6], seeder: true, age: 3, order: None };
    let entry = |peers: Vec<ModelPeer>| {
        encode(&[ModelEntry { info_hash: info_hash(1), downloaded: 0, unconfirmed: false, peers }])
    };
    let shared = ModelPeer { order: Some(0), ..peer.clone() };
    let v6 = ModelPeer { address: vec![9; 18], ..peer.clone() };
    let whole = entry(vec![peer.clone(), shared, v6]);
    let length = whole.len();
    assert_eq!(Entries::new(&whole).count(), 1);
    // The second order, the first of three peers, and bits that no entry has.
    for (at, value, place) in [
        (31, 0x80, 24),
        (25, 0x80, 24),
        (27, 0, 32 + 12),
        (29, 0x80, 32 + 12 + 2 + 1 + 18),
        (32 + 12, 0x83, usize::MAX),
        (32 + 12 + 1, 3, 32 + 12),
        (32 + 12 + 2, 0x01, 32 + 12 + 2),
    ] {
        let mut bytes = whole.clone();
        bytes[at] = value;
        let error = Entries::new(&bytes).find_map(Result::err);
        assert_eq!(error.map_or(usize::MAX, |error| error.at), place, "byte {at}");
    }
    for cut in 1..length {
        let mut twice = whole.clone();
        twice.extend(&whole[..cut]);
        let read: Vec<_> = Entries::new(&twice).collect();
        let [Ok(_), Err(error)] = &read[..] else { panic!("{read:?}") };
        assert!((length..=length + cut).contains(&error.at), "{error}");
    }
    let mut mapped = vec![0; 18];
    mapped[10..12].fill(0xff);
    let bytes = entry(vec![ModelPeer { address: mapped, ..peer }]);
    let read: Vec<_> = Entries::new(&bytes).collect();
    assert!(matches!(&read[..], [Err(error)] if error.at == 32), "{read:?}");
}

//! Writing the swarms and reading them elsewhere: nothing is lost, invented or made younger.

mod support;

use std::hash::RandomState;

use annulus_swarm::{Ages, CompactAddr, Entries, PeerEvent, SwarmConfig, Swarms};
use quickcheck::{Arbitrary, Gen, QuickCheck, quickcheck};
use support::{History, ModelEntry, Step, World, config, decode, encode, restore, snapshot};

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
            let (known, mut found) = (&announced, 0);
            for peer in entries.iter().flat_map(|entry| &entry.peers) {
                let age_s = end - known[usize::from(peer.address[3])] + elapsed_s;
                let ticks = |age_s: u32| age_s.saturating_sub(phase_s).div_ceil(tick_s);
                let most = ticks(age_s + old.swarms.tick_s() - 1);
                let age = u32::from(peer.age);
                assert!((ticks(age_s)..=most).contains(&age), "{age_s} s: {age}, {most} at most");
                found += 1;
            }
            assert!(found > 5, "{found} of {old_timeout_s} in {new_timeout_s}");
        }
    }
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

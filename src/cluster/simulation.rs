//! Nodes in a network in memory that loses, repeats, reorders and damages frames, and cuts nodes
//! off; they are killed and come back with and without their state. After some quiet time all
//! swarms must be equal, peer by peer, to those of a model that hears every announce.
//!
//! A schedule is a seed and a list of faults; quickcheck prints a failing one, shrunk.

mod network;
mod schedule;

use std::collections::{HashMap, HashSet};

use annulus_swarm::{CompactAddr, InfoHash, PeerEvent, Random};
use quickcheck::{QuickCheck, TestResult};

use network::{SimulatedNetwork, TIMEOUT_S};
use schedule::{FaultKind, Schedule};

use super::PeerRecord;

const TORRENTS: u32 = 12;
const PEERS: u32 = 40;

/// Two announces of a peer at two nodes are so far apart: in one tick of the swarms nobody can tell
/// which was the later.
const APART_MS: u64 = (2 * (TIMEOUT_S / 25 + 1) + 5) as u64 * 1000;

/// A seeder becomes a leecher again, which hardly ever happens, not before so long: ages are
/// rounded up, and while it is unclear which announce was the later, it stays a seeder.
const SEEDS_MS: u64 = (5 * (TIMEOUT_S / 25 + 1)) as u64 * 1000;

/// When announces and faults begin, when faults end, and how long after that all must be equal.
const BEGINNING_MS: u64 = 10_000;
const FAULTY_MS: u64 = 150_000;
const QUIET_MS: u64 = 150_000;

type PeerKey = (InfoHash, CompactAddr);

/// The last announce of a peer.
#[derive(Clone, Copy, Debug)]
struct LastTold {
    at_ms: u64,
    node: usize,
    /// Whether it is a seeder, `None` if it has stopped.
    seeder: Option<bool>,
    /// When it was last a seeder.
    seeded_ms: Option<u64>,
    /// It may be known to a node only that has lost its memory.
    forgotten: bool,
}

/// What all nodes should know.
#[derive(Default)]
struct ClusterModel {
    peers: HashMap<PeerKey, LastTold>,
    completed: HashMap<InfoHash, u32>,
}

impl ClusterModel {
    /// The next announce, at a node that is up, if the one that was drawn is unambiguous.
    fn draw(
        &mut self,
        random: &mut Random,
        nodes: &[usize],
        now_ms: u64,
    ) -> Option<(usize, PeerRecord)> {
        let &node = nodes.get(random.below(nodes.len() as u32) as usize)?;
        let info_hash = [random.below(TORRENTS) as u8 + 1; 20];
        let number = random.below(PEERS) as u8;
        let peer = match number % 4 {
            0 => CompactAddr::V6([0x20 + number; 18]),
            _ => CompactAddr::V4([9, 9, 9, number, 1, 1]),
        };
        let last = self.peers.get(&(info_hash, peer)).copied();
        let is_seeder = last.and_then(|last| last.seeder) == Some(true);
        let event = match random.below(10) {
            0 | 1 => PeerEvent::Stopped,
            2 if !is_seeder => PeerEvent::Completed,
            _ => PeerEvent::None,
        };
        let mut seeder = event == PeerEvent::Completed || random.below(3) == 0;
        if let Some(last) = last {
            let is_near = now_ms - last.at_ms < APART_MS;
            if is_near && last.node != node {
                return None;
            }
            seeder |= last.seeded_ms.is_some_and(|seeded_ms| now_ms - seeded_ms < SEEDS_MS);
        }
        if event == PeerEvent::Completed {
            *self.completed.entry(info_hash).or_default() += 1;
        }
        let stopped = event == PeerEvent::Stopped;
        let seeded_ms =
            if seeder && !stopped { Some(now_ms) } else { last.and_then(|last| last.seeded_ms) };
        self.peers.insert(
            (info_hash, peer),
            LastTold {
                at_ms: now_ms,
                node,
                seeder: (!stopped).then_some(seeder),
                seeded_ms,
                forgotten: false,
            },
        );
        Some((node, PeerRecord { info_hash, peer, seeder, event }))
    }

    /// A node loses what it alone knew: what it was told since then.
    fn forget(&mut self, node: usize, since_ms: u64) {
        for last in self.peers.values_mut() {
            last.forgotten |= last.node == node && last.at_ms >= since_ms;
        }
    }

    /// How the swarms of a node differ from those that all should have.
    fn differences(&self, swarms: &HashMap<PeerKey, bool>) -> Vec<String> {
        let keys: HashSet<_> = self.peers.keys().chain(swarms.keys()).collect();
        keys.into_iter()
            .filter_map(|key| {
                let last = self.peers.get(key)?;
                let found = swarms.get(key).copied();
                (found != last.seeder && !last.forgotten)
                    .then(|| format!("{:?} of {}: {found:?}, not {last:?}", key.1, key.0[0]))
            })
            .collect()
    }
}

/// Runs a schedule; returns what is wrong at its end.
fn run(schedule: &Schedule) -> Result<(), String> {
    let mut random = Random::seeded(schedule.seed);
    let mut network = SimulatedNetwork::new(schedule.nodes(), &mut random);
    let mut model = ClusterModel::default();
    let mut faults = schedule.timed(BEGINNING_MS, FAULTY_MS).into_iter().peekable();
    while network.now_ms() < FAULTY_MS + QUIET_MS {
        let now_ms = network.now_ms();
        while let Some((_, fault)) = faults.next_if(|&(at_ms, _)| at_ms <= now_ms) {
            if let Some((node, since_ms)) = network.begin(fault) {
                model.forget(node, since_ms);
            }
        }
        if now_ms < BEGINNING_MS {
            // All come up, and find each other.
        } else if now_ms < FAULTY_MS {
            let serving = network.serving();
            if let Some((node, record)) = model.draw(&mut random, &serving, now_ms) {
                network.announce(node, &record);
            }
        } else {
            network.end_faults();
        }
        network.step();
    }
    let mut wrong = Vec::new();
    for node in 0..network.len() {
        let differences = model.differences(&network.peers_of(node));
        if let Some(first) = differences.first() {
            wrong.push(format!("node {node}: {} differences: {first}", differences.len()));
        }
        if !network.is_whole(node) {
            wrong.push(format!("node {node} still lacks something"));
        }
    }
    for (info_hash, &completed) in &model.completed {
        for node in 0..network.len() {
            let downloaded = network.downloaded(node, info_hash);
            if schedule.counts_downloads() && downloaded != completed {
                wrong.push(format!("node {node}: {downloaded} downloads, not {completed}"));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[test]
fn without_faults_all_nodes_are_equal() {
    let schedule = Schedule { seed: 1, node_count: 4, faults: Vec::new() };
    assert_eq!(run(&schedule), Ok(()));
}

#[test]
fn whatever_happens_all_nodes_are_equal_in_the_end() {
    fn holds(schedule: Schedule) -> TestResult {
        match run(&schedule) {
            Ok(()) => TestResult::passed(),
            Err(wrong) => TestResult::error(wrong),
        }
    }
    QuickCheck::new().tests(12).quickcheck(holds as fn(Schedule) -> TestResult);
}

/// Each fault by itself, for every seed of some.
#[test]
fn after_each_kind_of_fault_all_nodes_are_equal() {
    for kind in FaultKind::ALL {
        for seed in 0..2 {
            let schedule = Schedule::repeating(seed, kind);
            assert_eq!(run(&schedule), Ok(()), "{schedule:?}");
        }
    }
}

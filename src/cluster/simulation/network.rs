//! Nodes, the server between them, and what goes wrong.

use std::collections::{HashMap, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use annulus_swarm::{
    Ages, AnnounceRequest, Entries, InfoHash, Random, Sample, SnapshotCursor, SwarmConfig, Swarms,
};

use super::PeerKey;
use super::schedule::{Fault, FaultKind};
use crate::cluster::{Destination, NodeHalves, NodeId, NodeParts, NodeTime, PeerRecord};

/// Of the swarms; nobody's time is over before a run is.
pub(super) const TIMEOUT_S: u32 = 500;

const STEP_MS: u64 = 20;

/// Frames take so long if nothing is wrong.
const DELAY_MS: u64 = 5;

/// What a node told less than so long before it is killed may be unknown to all others.
const REPAIR_MS: u64 = 60_000;

struct SimulatedNode {
    halves: NodeHalves,
    swarms: Arc<Swarms>,
    id: NodeId,
    /// When its process started.
    start_ms: u64,
    /// The error of its wall clock.
    clock_error_ms: i64,
    outbox: Vec<u8>,
    connected: bool,
    /// Since when it is connected.
    connected_ms: u64,
    /// Messages on their way to it.
    inbox: VecDeque<(u64, Vec<u8>)>,
}

/// A state file.
struct SavedState {
    bytes: Vec<u8>,
    ages: Ages,
    written_ms: u64,
    /// Whether the node lacked nothing.
    whole: bool,
}

/// Where a node is.
enum NodePlace {
    Up(Box<SimulatedNode>),
    /// Comes back then, with this state.
    Down {
        until_ms: u64,
        state: Option<SavedState>,
    },
}

/// What goes wrong for a node until then.
#[derive(Clone, Copy)]
struct NodeTrouble {
    kind: FaultKind,
    node: usize,
    until_ms: u64,
}

pub(super) struct SimulatedNetwork {
    places: Vec<NodePlace>,
    now_ms: u64,
    random: Random,
    troubles: Vec<NodeTrouble>,
    sample: Sample,
}

impl SimulatedNode {
    fn start(random: &mut Random, start_ms: u64, state: Option<SavedState>) -> SimulatedNode {
        let config = SwarmConfig {
            torrents_max: 10_000,
            peers_max: 100_000,
            peers_per_torrent_max: 10_000,
            peers_per_address_max: 0,
            peer_timeout_s: TIMEOUT_S,
        };
        let swarms = Swarms::new(config, RandomState::new());
        let mut state_age_s = None;
        if let Some(state) = state {
            let elapsed_s = ((start_ms - state.written_ms) / 1000 + 1) as u32;
            let ages = Ages { elapsed_s, ..state.ages };
            for entry in Entries::new(&state.bytes) {
                swarms.restore(&entry.expect("own state"), &ages, 0, |_, _| true);
            }
            state_age_s = state.whole.then_some(elapsed_s);
        }
        let (swarms, id) = (Arc::new(swarms), NodeId(random.bits() | 1));
        let clock_error_ms = i64::from(random.below(7_200_000)) - 3_600_000;
        let parts = NodeParts {
            swarms: Arc::clone(&swarms),
            id,
            seed: random.bits(),
            peer_timeout_s: TIMEOUT_S,
            state_age_s,
            start: NodeTime { since_start: Duration::ZERO, unix_ms: 0 },
        };
        SimulatedNode {
            halves: NodeHalves::new(parts),
            swarms,
            id,
            start_ms,
            clock_error_ms,
            outbox: Vec::new(),
            connected: false,
            connected_ms: start_ms,
            inbox: VecDeque::new(),
        }
    }

    fn time(&self, now_ms: u64) -> NodeTime {
        let unix_ms = (1_700_000_000_000 + now_ms).wrapping_add_signed(self.clock_error_ms);
        NodeTime { since_start: Duration::from_millis(now_ms - self.start_ms), unix_ms }
    }

    fn now_s(&self, now_ms: u64) -> u32 {
        ((now_ms - self.start_ms) / 1000) as u32
    }

    fn connect(&mut self, connected: bool, now_ms: u64) {
        let now = self.time(now_ms);
        if connected {
            self.halves.subscriber.on_subscribed(now);
            self.halves.publisher.on_connected(now);
            self.connected_ms = now_ms;
        } else {
            self.halves.subscriber.on_disconnected(now);
            self.halves.publisher.on_disconnected();
            self.inbox.clear();
        }
        self.connected = connected;
    }

    /// Sends what it has to send.
    fn publish(&mut self, now_ms: u64) -> Vec<(Destination, Vec<u8>)> {
        let (now, mut sent) = (self.time(now_ms), Vec::new());
        let connected = self.connected;
        let mut send = |to: Destination, frame: &[u8]| {
            assert!(connected, "a frame without a connection");
            sent.push((to, frame.to_vec()));
        };
        let publisher = &mut self.halves.publisher;
        publisher.add_records(&std::mem::take(&mut self.outbox), now, &mut send);
        publisher.flush(now, &mut send);
        for _ in 0..20 {
            if !publisher.step(now, &mut send) {
                break;
            }
        }
        sent
    }

    /// Takes what has come.
    fn receive(&mut self, now_ms: u64) {
        let now = self.time(now_ms);
        while let Some((_, frame)) = self.inbox.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) {
            self.halves.subscriber.receive(&frame, now, &mut |_| true);
        }
        self.halves.subscriber.tick(now);
    }

    /// All that it knows, as a state file has it.
    fn state(&self, now_ms: u64) -> SavedState {
        let (mut bytes, mut cursor) = (Vec::new(), SnapshotCursor::default());
        let now_s = self.now_s(now_ms);
        while self.swarms.snapshot(&mut cursor, now_s, usize::MAX, &mut bytes) {}
        let (tick_s, phase_s) = (self.swarms.tick_s(), self.swarms.tick_phase_s(now_s));
        let ages = Ages { tick_s, phase_s, elapsed_s: 0 };
        SavedState { bytes, ages, written_ms: now_ms, whole: self.halves.status.is_whole() }
    }
}

impl SimulatedNetwork {
    pub(super) fn new(nodes: usize, random: &mut Random) -> SimulatedNetwork {
        let mut random = Random::seeded(random.bits());
        let place = |_| {
            let until_ms = u64::from(random.below(5000));
            NodePlace::Down { until_ms, state: None }
        };
        SimulatedNetwork {
            places: (0..nodes).map(place).collect(),
            now_ms: 0,
            random,
            troubles: Vec::new(),
            sample: Sample::with_capacity(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn node(&self, number: usize) -> &SimulatedNode {
        match &self.places[number] {
            NodePlace::Up(node) => node,
            NodePlace::Down { .. } => panic!("node {number} is down"),
        }
    }

    /// The nodes that clients reach.
    pub(super) fn serving(&self) -> Vec<usize> {
        let is_up = |&number: &usize| matches!(self.places[number], NodePlace::Up(_));
        (0..self.len()).filter(is_up).collect()
    }

    /// A client announces itself to a node.
    pub(super) fn announce(&mut self, number: usize, record: &PeerRecord) {
        let NodePlace::Up(node) = &mut self.places[number] else { return };
        let &PeerRecord { info_hash, peer, seeder, event } = record;
        let request =
            AnnounceRequest { info_hash, peer, seeder, event, numwant: 0, own_family_only: false };
        let now_s = node.now_s(self.now_ms);
        node.swarms.announce(&request, now_s, &mut self.random, &mut self.sample);
        PeerRecord::of(&request).encode(&mut node.outbox);
    }

    /// Begins a fault. Returns a node that has lost what it alone knew, and since when.
    pub(super) fn begin(&mut self, fault: Fault) -> Option<(usize, u64)> {
        let number = usize::from(fault.node) % self.len();
        let until_ms = self.now_ms + u64::from(fault.seconds) * 1000;
        let NodePlace::Up(node) = &mut self.places[number] else { return None };
        match fault.kind {
            FaultKind::KillKeeping | FaultKind::KillLosing => {
                let keeps = fault.kind == FaultKind::KillKeeping;
                let state = keeps.then(|| node.state(self.now_ms));
                // Others may never have heard of what it told while something was wrong.
                let troubled = self.troubles.iter().any(|trouble| trouble.until_ms > self.now_ms);
                let since_ms = if !node.connected || troubled {
                    0
                } else {
                    self.now_ms.max(REPAIR_MS) - REPAIR_MS
                };
                self.places[number] = NodePlace::Down { until_ms, state };
                Some((number, since_ms))
            }
            FaultKind::Overflow => {
                node.outbox.clear();
                let now = node.time(self.now_ms);
                node.halves.publisher.note_dropped(now);
                None
            }
            kind => {
                self.troubles.push(NodeTrouble { kind, node: number, until_ms });
                None
            }
        }
    }

    /// Nothing is wrong any more.
    pub(super) fn end_faults(&mut self) {
        self.troubles.clear();
        for place in &mut self.places {
            if let NodePlace::Down { until_ms, .. } = place {
                *until_ms = (*until_ms).min(self.now_ms);
            }
        }
    }

    /// A step of time for all.
    pub(super) fn step(&mut self) {
        self.now_ms += STEP_MS;
        let now_ms = self.now_ms;
        self.troubles.retain(|trouble| trouble.until_ms > now_ms);
        for number in 0..self.len() {
            if let NodePlace::Down { until_ms, state } = &mut self.places[number]
                && *until_ms <= now_ms
            {
                let node = SimulatedNode::start(&mut self.random, now_ms, state.take());
                self.places[number] = NodePlace::Up(Box::new(node));
            }
            let reachable = !self.suffers(number, FaultKind::Cut) && !self.server_is_gone();
            let NodePlace::Up(node) = &mut self.places[number] else { continue };
            if node.connected != reachable {
                node.connect(reachable, now_ms);
            }
            node.receive(now_ms);
            let (from, sent) = (node.id, node.publish(now_ms));
            for (to, frame) in sent {
                self.deliver(from, to, &frame);
            }
        }
    }

    fn suffers(&self, number: usize, kind: FaultKind) -> bool {
        self.troubles.iter().any(|trouble| trouble.node == number && trouble.kind == kind)
    }

    fn server_is_gone(&self) -> bool {
        self.troubles.iter().any(|trouble| trouble.kind == FaultKind::ServerGone)
    }

    /// The server passes a frame on to all that it is for.
    fn deliver(&mut self, from: NodeId, to: Destination, frame: &[u8]) {
        for number in 0..self.len() {
            let [loses, repeats, reorders, damages, delays] = [
                FaultKind::Loss,
                FaultKind::Repetition,
                FaultKind::Disorder,
                FaultKind::Damage,
                FaultKind::Slowness,
            ]
            .map(|kind| self.suffers(number, kind));
            let NodePlace::Up(node) = &mut self.places[number] else { continue };
            let is_for = match to {
                Destination::All => true,
                Destination::Node(id) => id == node.id,
            };
            let random = &mut self.random;
            // A node's own frames come back unharmed: without them it would connect again.
            let harmed = node.id != from;
            if !is_for || !node.connected || (harmed && loses && random.below(5) == 0) {
                continue;
            }
            let copies = if harmed && repeats { 1 + random.below(2) } else { 1 };
            for _ in 0..copies {
                let mut bytes = frame.to_vec();
                if harmed && damages && random.below(5) == 0 {
                    let at = random.below(bytes.len() as u32) as usize;
                    bytes[at] ^= 1 << random.below(8);
                }
                let extra_ms = if delays { 2500 } else { 0 };
                let mut at_ms = self.now_ms + DELAY_MS + extra_ms;
                if harmed && reorders {
                    at_ms += u64::from(random.below(1000));
                } else if let Some(&(last_ms, _)) = node.inbox.back() {
                    at_ms = at_ms.max(last_ms);
                }
                let place = node.inbox.partition_point(|&(other_ms, _)| other_ms <= at_ms);
                node.inbox.insert(place, (at_ms, bytes));
            }
        }
    }

    pub(super) fn is_whole(&self, number: usize) -> bool {
        self.node(number).halves.status.is_whole()
    }

    /// The peers of a node, and whether they are seeders.
    pub(super) fn peers_of(&self, number: usize) -> HashMap<PeerKey, bool> {
        let state = self.node(number).state(self.now_ms);
        let entries = Entries::new(&state.bytes).map(|entry| entry.expect("own state"));
        entries
            .flat_map(|entry| {
                let peers: Vec<_> = entry.peers().collect();
                peers.into_iter().map(move |peer| ((entry.info_hash, peer.peer), peer.seeder))
            })
            .collect()
    }

    pub(super) fn downloaded(&self, number: usize, info_hash: &InfoHash) -> u32 {
        self.node(number).swarms.scrape(info_hash).downloaded
    }
}

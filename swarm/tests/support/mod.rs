//! Histories of announces, and a second implementation of the format of entries.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use annulus_swarm::{
    Ages, AnnounceRequest, CompactAddr, ENTRY_BYTES_MAX, Entries, InfoHash, PeerEvent, Random,
    Restored, Sample, SnapshotCursor, SwarmConfig, Swarms, Sweep, SweepStatus, TorrentCounts,
};
use quickcheck::{Arbitrary, Gen};

pub(crate) const TIMEOUT_S: u32 = 200;

pub(crate) fn config() -> SwarmConfig {
    SwarmConfig {
        torrents_max: 1000,
        peers_max: 100_000,
        peers_per_torrent_max: 100_000,
        peers_per_address_max: 3,
        peer_timeout_s: TIMEOUT_S,
    }
}

pub(crate) fn info_hash(torrent: u16) -> InfoHash {
    let mut info_hash = [0x42; 20];
    info_hash[..2].copy_from_slice(&torrent.to_be_bytes());
    info_hash
}

fn one_of<T: Copy>(g: &mut Gen, choices: &[T]) -> T {
    *g.choose(choices).expect("some choice")
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Announce {
        torrent: u16,
        v6: bool,
        first: u16,
        count: u16,
        seeder: bool,
        event: PeerEvent,
    },
    /// Time passes, and everything that has expired is removed.
    Wait {
        seconds: u32,
    },
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Step {
        if u8::arbitrary(g) < 60 {
            return Step::Wait { seconds: one_of(g, &[0, 1, 2, 7, 8, 30, 52, 110, 200, 260]) };
        }
        let event = one_of(
            g,
            &[PeerEvent::None, PeerEvent::None, PeerEvent::Completed, PeerEvent::Stopped],
        );
        Step::Announce {
            torrent: one_of(g, &[0, 0, 1, 2, 3, 4]),
            v6: bool::arbitrary(g),
            first: one_of(g, &[0, 1, 2, 3, 5, 50, 120, 160]),
            count: one_of(g, &[1, 1, 1, 1, 2, 4, 60, 150]),
            seeder: event == PeerEvent::Completed || bool::arbitrary(g),
            event,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) steps: Vec<Step>,
}

impl Arbitrary for History {
    fn arbitrary(g: &mut Gen) -> History {
        let steps = usize::arbitrary(g) % 30;
        History { steps: (0..steps).map(|_| Step::arbitrary(g)).collect() }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = History>> {
        Box::new(self.steps.shrink().map(|steps| History { steps }))
    }
}

/// Endpoints of one address, of a private one, or of an address of its own. IPv6 addresses of one
/// /64 differ.
pub(crate) fn endpoint(v6: bool, number: u16) -> CompactAddr {
    let address = match number % 4 {
        0 => 1,
        1 => 2,
        _ => 100 + number,
    };
    let ip = match (v6, address) {
        (false, 2) => IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2)),
        (false, address) => IpAddr::V4(Ipv4Addr::from_bits(
            Ipv4Addr::new(198, 18, 0, 0).to_bits() + u32::from(address),
        )),
        (true, address) => {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, address, 0, 0, 0, number / 2))
        }
    };
    CompactAddr::new(ip, 7000 + number)
}

/// Swarms with a clock.
pub(crate) struct World {
    pub(crate) swarms: Swarms,
    pub(crate) now: u32,
    pub(crate) random: Random,
    pub(crate) sample: Sample,
    sweep: Sweep,
}

impl World {
    pub(crate) fn new(config: SwarmConfig, secret: &RandomState, now: u32) -> World {
        World {
            swarms: Swarms::new(config, secret.clone()),
            now,
            random: Random::seeded(1),
            sample: Sample::with_capacity(0),
            sweep: Sweep::new(0, 1),
        }
    }

    pub(crate) fn run(&mut self, step: &Step) {
        match *step {
            Step::Announce { torrent, v6, first, count, seeder, event } => {
                for number in first..first + count {
                    self.announce(torrent, endpoint(v6, number), seeder, event);
                }
            }
            Step::Wait { seconds } => {
                self.now += seconds;
                self.sweep.start_full_round();
                while self.swarms.sweep(&mut self.sweep, self.now, |_| true) == SweepStatus::Pending
                {
                }
            }
        }
    }

    pub(crate) fn announce(
        &mut self,
        torrent: u16,
        peer: CompactAddr,
        seeder: bool,
        event: PeerEvent,
    ) -> TorrentCounts {
        let a = AnnounceRequest {
            info_hash: info_hash(torrent),
            peer,
            seeder,
            event,
            numwant: 0,
            own_family_only: false,
        };
        self.swarms.announce(&a, self.now, &mut self.random, &mut self.sample)
    }

    /// Both have the same torrents and peers, with the same ages and orders.
    pub(crate) fn assert_same(&self, other: &World) {
        let (own, others) = (self.contents(), other.contents());
        assert_eq!(own.keys().collect::<Vec<_>>(), others.keys().collect::<Vec<_>>());
        for ((torrent, own), others) in own.iter().zip(others.values()) {
            let head =
                |entry: &ModelEntry| (entry.downloaded, entry.unconfirmed, entry.peers.len());
            assert_eq!(head(own), head(others), "{torrent:?}");
            for (own, others) in own.peers.iter().zip(&others.peers) {
                assert_eq!(own, others, "{torrent:?}");
            }
        }
        assert_eq!(self.swarms.totals(), other.swarms.totals());
        let (own, others) = (self.swarms.stats(), other.swarms.stats());
        assert_eq!((own.torrents, own.v4, own.v6), (others.torrents, others.v4, others.v6));
    }

    pub(crate) fn contents(&self) -> BTreeMap<InfoHash, ModelEntry> {
        contents(&self.swarms, self.now)
    }
}

/// All torrents, the peers of each sorted.
pub(crate) fn contents(swarms: &Swarms, now: u32) -> BTreeMap<InfoHash, ModelEntry> {
    let mut contents = BTreeMap::new();
    for mut entry in decode(&snapshot(swarms, now, None)) {
        entry.peers.sort_by_key(|peer| peer.address.clone());
        assert_eq!(contents.insert(entry.info_hash, entry), None, "nothing is written twice");
    }
    contents
}

/// All entries, written in steps of a few bytes.
pub(crate) fn snapshot(swarms: &Swarms, now: u32, since_s: Option<u32>) -> Vec<u8> {
    let mut cursor = since_s.map_or_else(SnapshotCursor::default, SnapshotCursor::since);
    let mut all = Vec::new();
    loop {
        let before = all.len();
        let more = swarms.snapshot(&mut cursor, now, ENTRY_BYTES_MAX, &mut all);
        assert!(all.len() - before <= ENTRY_BYTES_MAX);
        if !more {
            let entries = decode(&all);
            assert_eq!(cursor.entries(), entries.len() as u64);
            let peers = entries.iter().map(|entry| entry.peers.len() as u64);
            assert_eq!(cursor.peers(), peers.sum::<u64>());
            return all;
        }
    }
}

/// Reads all entries.
pub(crate) fn restore(swarms: &Swarms, entries: &[u8], ages: &Ages, now: u32) -> Restored {
    let mut restored = Restored::default();
    for entry in Entries::new(entries) {
        restored += swarms.restore(&entry.expect("valid"), ages, now, |_, _| true);
    }
    restored
}

/// A peer of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelPeer {
    /// 6 or 18 bytes.
    pub(crate) address: Vec<u8>,
    pub(crate) seeder: bool,
    pub(crate) age: u8,
    pub(crate) order: Option<u8>,
}

impl ModelPeer {
    pub(crate) fn compact(&self) -> CompactAddr {
        match self.address.len() {
            6 => CompactAddr::V4(self.address[..].try_into().unwrap()),
            _ => CompactAddr::V6(self.address[..].try_into().unwrap()),
        }
    }
}

/// An entry; the peers are in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelEntry {
    pub(crate) info_hash: InfoHash,
    pub(crate) downloaded: u32,
    pub(crate) unconfirmed: bool,
    pub(crate) peers: Vec<ModelPeer>,
}

impl Arbitrary for ModelEntry {
    fn arbitrary(g: &mut Gen) -> ModelEntry {
        let mut peers = Vec::new();
        for bytes in [6, 18] {
            let shared = bool::arbitrary(g);
            for seeder in [true, false] {
                let count = one_of(g, &[0, 0, 1, 1, 2, 3, 7, 130, 300]);
                peers.extend((0..count).map(|_| ModelPeer {
                    address: (0..bytes).map(|_| u8::arbitrary(g) % 5 + 60).collect(),
                    seeder,
                    age: u8::arbitrary(g) % 128,
                    order: (shared && bool::arbitrary(g)).then(|| u8::arbitrary(g) % 16),
                }));
            }
        }
        ModelEntry {
            info_hash: info_hash(u16::arbitrary(g) % 3),
            downloaded: u32::arbitrary(g),
            unconfirmed: peers.len() == 1 && bool::arbitrary(g),
            peers,
        }
    }
}

/// Decodes entries as the table in `swarm/src/entry.rs` has it.
pub(crate) fn decode(mut bytes: &[u8]) -> Vec<ModelEntry> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let mut take = |count: usize| {
            let (taken, rest) = bytes.split_at(count);
            bytes = rest;
            taken
        };
        let info_hash = take(20).try_into().unwrap();
        let downloaded = u32::from_le_bytes(take(4).try_into().unwrap());
        let counts: Vec<u16> =
            (0..4).map(|_| u16::from_le_bytes(take(2).try_into().unwrap())).collect();
        let mut peers = Vec::new();
        for (bytes, counts, ordered) in
            [(6, &counts[..2], counts[1]), (18, &counts[2..], counts[2])]
        {
            let [seeders, leechers] =
                [counts[0], counts[1]].map(|count| usize::from(count & 0x7fff));
            let count = seeders + leechers;
            let addresses = take(count * bytes).to_vec();
            let ages = take(count).to_vec();
            let orders = take(if ordered >> 15 == 1 { count.div_ceil(2) } else { 0 }).to_vec();
            let order = |at: usize| orders.get(at / 2).map_or(0, |pair| pair >> (at % 2 * 4) & 15);
            for (at, address) in addresses.chunks(bytes).enumerate() {
                peers.push(ModelPeer {
                    address: address.to_vec(),
                    seeder: at < seeders,
                    age: ages[at] & 0x7f,
                    order: (ages[at] >> 7 == 1).then(|| order(at)),
                });
            }
        }
        entries.push(ModelEntry {
            info_hash,
            downloaded,
            unconfirmed: counts[0] >> 15 == 1,
            peers,
        });
    }
    entries
}

pub(crate) fn encode(entries: &[ModelEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend(entry.info_hash);
        bytes.extend(entry.downloaded.to_le_bytes());
        let of = |length: usize| {
            let peers = entry.peers.iter().filter(move |peer| peer.address.len() == length);
            peers.collect::<Vec<_>>()
        };
        let families = [of(6), of(18)];
        let seeders = |peers: &[&ModelPeer]| peers.iter().filter(|peer| peer.seeder).count() as u16;
        let shared = families.each_ref().map(|peers| peers.iter().any(|peer| peer.order.is_some()));
        let flags = [entry.unconfirmed, shared[0], shared[1], false];
        let counts = families.iter().flat_map(|peers| {
            let seeders = seeders(peers);
            [seeders, peers.len() as u16 - seeders]
        });
        for (count, flag) in counts.zip(flags) {
            bytes.extend((count | u16::from(flag) << 15).to_le_bytes());
        }
        for (peers, shared) in families.iter().zip(shared) {
            peers.iter().for_each(|peer| bytes.extend(&peer.address));
            bytes.extend(peers.iter().map(|peer| peer.age | u8::from(peer.order.is_some()) << 7));
            if shared {
                let order = |peer: &&ModelPeer| peer.order.unwrap_or(0);
                bytes.extend(
                    peers.chunks(2).map(|two| order(&two[0]) | two.get(1).map_or(0, order) << 4),
                );
            }
        }
    }
    bytes
}

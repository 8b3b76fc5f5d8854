//! Frames of other nodes, in any order, to a node with real swarms: nothing is stored that an
//! announce could not store, memory has its bounds, and what the node sends is well-formed.
//!
//! The input is a list of steps. Most frames get the header and checksum that belong to them: the
//! fuzzer finds neither by itself.
#![no_main]

use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use annulus::addresses::is_unreachable;
use annulus::cluster::frame::{FRAME_BYTES_MAX, Payload, decode};
use annulus::cluster::{Destination, NodeHalves, NodeId, NodeParts, NodeTime, PeerRecord};
use annulus::limits::CLUSTER_NODES_MAX;
use annulus_swarm::{CompactAddr, Entries, PeerEvent, SnapshotCursor, SwarmConfig, Swarms};
use libfuzzer_sys::fuzz_target;

const OWN: NodeId = NodeId(1);
const TORRENTS_MAX: u64 = 8;
const PEERS_MAX: u64 = 40;
const PEERS_PER_TORRENT_MAX: u32 = 20;

/// Torrents whose info hash begins with it are not served.
const DENIED: u8 = 0xff;

/// Takes bytes off the input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from(self.byte()?) << 8 | u64::from(self.byte()?))
    }

    /// Some bytes; their number comes first.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.byte()?).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(bytes)
    }

    /// A frame with a true checksum.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let (kind, node) = (self.byte()? % 10, u64::from(self.byte()?) % 80);
        let huge = self.byte()?;
        // Numbers with high bits too, up to the largest that is allowed and one more.
        let grow = |number: u64, bit: u8| {
            if huge >> bit & 1 == 1 { (1 << 53) - 32_768 + number } else { number }
        };
        let numbers = [grow(self.number()?, 0), grow(self.number()?, 1), grow(self.number()?, 2)];
        let payload = self.bytes()?;
        let mut bytes = b"ANNC\0\0\0\0\x01".to_vec();
        bytes.extend_from_slice(&[kind, 0, 0]);
        bytes.extend_from_slice(&node.to_le_bytes());
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(payload);
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        Some(bytes)
    }
}

/// A node, and what it should keep to.
struct FuzzedNode {
    halves: NodeHalves,
    swarms: Arc<Swarms>,
    now_ms: u64,
    connected: bool,
    /// The stream that it takes, if any: its frames are hard to guess.
    stream: Option<[u8; 8]>,
}

impl FuzzedNode {
    fn now(&self) -> NodeTime {
        let since_start = Duration::from_millis(self.now_ms);
        NodeTime { since_start, unix_ms: 1_700_000_000_000 }
    }

    fn receive(&mut self, frame: &[u8]) {
        let now = self.now();
        let own = self.halves.subscriber.receive(frame, now, &mut |hash| hash[0] != DENIED);
        assert_eq!(own, decode(frame).is_ok_and(|frame| frame.node == OWN));
    }

    fn step(&mut self) {
        let (now, connected, mut stream) = (self.now(), self.connected, self.stream);
        self.halves.subscriber.tick(now);
        self.halves.publisher.step(now, &mut |to, frame| {
            assert!(connected, "a frame without a connection");
            check_sent(to, frame);
            if let Ok(frame) = decode(frame)
                && let Payload::Take(take) = frame.payload
            {
                stream = Some(take.stream.to_le_bytes());
            }
        });
        self.stream = stream;
    }

    fn connect(&mut self, connected: bool) {
        let now = self.now();
        if connected == self.connected {
            return;
        }
        self.connected = connected;
        if connected {
            self.halves.subscriber.on_subscribed(now);
            self.halves.publisher.on_connected(now);
        } else {
            self.halves.subscriber.on_disconnected(now);
            self.halves.publisher.on_disconnected();
        }
    }

    /// An announce to this node.
    fn publish(&mut self, byte: u8) {
        let peer = CompactAddr::V4([9, 9, 9, byte, 1, 1]);
        let event = if byte & 1 == 0 { PeerEvent::None } else { PeerEvent::Stopped };
        let mut records = Vec::new();
        PeerRecord { info_hash: [byte & 6; 20], peer, seeder: false, event }.encode(&mut records);
        let (now, connected) = (self.now(), self.connected);
        let mut send = |to: Destination, frame: &[u8]| {
            assert!(connected, "a frame without a connection");
            check_sent(to, frame);
        };
        self.halves.publisher.add_records(&records, now, &mut send);
        self.halves.publisher.flush(now, &mut send);
    }

    fn check(&self) {
        let totals = self.swarms.totals();
        assert!(totals.torrents <= TORRENTS_MAX && totals.peers <= PEERS_MAX);
        assert!(self.halves.status.nodes().len() <= CLUSTER_NODES_MAX);
        let (mut bytes, mut cursor) = (Vec::new(), SnapshotCursor::default());
        let now_s = (self.now_ms / 1000) as u32;
        while self.swarms.snapshot(&mut cursor, now_s, usize::MAX, &mut bytes) {}
        for entry in Entries::new(&bytes) {
            let entry = entry.expect("own entries are well-formed");
            assert_ne!(entry.info_hash[0], DENIED, "a torrent that is not served");
            assert!(entry.peer_count() <= PEERS_PER_TORRENT_MAX as usize);
            for peer in entry.peers() {
                let (ip, port): (std::net::IpAddr, [u8; 2]) = match peer.peer {
                    CompactAddr::V4([a, b, c, d, port @ ..]) => ([a, b, c, d].into(), port),
                    CompactAddr::V6(address) => {
                        let (ip, port) = address.split_first_chunk::<16>().expect("18 bytes");
                        ((*ip).into(), [port[0], port[1]])
                    }
                };
                assert!(!is_unreachable(ip) && port != [0, 0], "nobody is at {ip} {port:?}");
            }
        }
    }
}

fn check_sent(to: Destination, frame: &[u8]) {
    assert!(frame.len() <= FRAME_BYTES_MAX);
    let frame = decode(frame).expect("own frames are well-formed");
    assert_eq!(frame.node, OWN);
    assert_ne!(to, Destination::Node(OWN), "a frame to itself");
}

fuzz_target!(|bytes: &[u8]| {
    let config = SwarmConfig {
        torrents_max: TORRENTS_MAX,
        peers_max: PEERS_MAX,
        peers_per_torrent_max: PEERS_PER_TORRENT_MAX,
        peers_per_address_max: 0,
        peer_timeout_s: 200,
    };
    let swarms = Arc::new(Swarms::new(config, RandomState::new()));
    let start = NodeTime { since_start: Duration::ZERO, unix_ms: 0 };
    let parts = NodeParts {
        swarms: Arc::clone(&swarms),
        id: OWN,
        seed: 1,
        peer_timeout_s: 200,
        state_age_s: None,
        start,
    };
    let halves = NodeHalves::new(parts);
    let mut world = FuzzedNode { halves, swarms, now_ms: 0, connected: false, stream: None };
    let mut input = Input(bytes);
    while let Some(step) = input.byte() {
        match step % 8 {
            0 => world.connect(input.byte().is_some_and(|byte| byte & 1 == 1)),
            1 => {
                let Some(raw) = input.bytes() else { break };
                world.receive(raw);
            }
            2 => world.publish(input.byte().unwrap_or_default()),
            3 => {
                world.now_ms += u64::from(input.byte().unwrap_or_default()) * 20;
                world.step();
            }
            4 => {
                // A part of the stream that is taken, if there is one.
                let Some(mut frame) = input.frame() else { break };
                if let (Some(stream), Some(place)) = (world.stream, frame.get_mut(44..52)) {
                    place.copy_from_slice(&stream);
                    let crc = crc32c::crc32c(&frame[8..]);
                    frame[4..8].copy_from_slice(&crc.to_le_bytes());
                }
                world.receive(&frame);
            }
            _ => {
                let Some(frame) = input.frame() else { break };
                world.receive(&frame);
            }
        }
    }
    world.step();
    world.check();
});

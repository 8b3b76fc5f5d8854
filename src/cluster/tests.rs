//! One node, and frames that are made by hand.

use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use annulus_swarm::{
    AnnounceRequest, CompactAddr, InfoHash, PeerEvent, Random, Sample, SnapshotCursor, SwarmConfig,
    Swarms,
};

use super::frame::{
    self, NodeSummary, PAYLOAD_BYTES_MAX, Payload, StreamedState, StreamedStops, Take, Want, decode,
};
use super::record::{PeerRecord, PeerRecords};
use super::{Destination, NodeHalves, NodeId, NodeParts, NodeTime};
use crate::limits::{CLUSTER_NODES_MAX, CLUSTER_STREAM_WINDOW, CLUSTER_WARMING_S};
use crate::metrics::labels::{FrameLoss, FrameRefusal, RecordOutcome};

const OWN: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

const SUMMARY: NodeSummary =
    NodeSummary { peers: 5, whole: true, stops_reach_s: 1000, dropped_age_s: 0 };

fn time(ms: u64) -> NodeTime {
    NodeTime { since_start: Duration::from_millis(ms), unix_ms: 1_700_000_000_000 + ms }
}

fn swarms(torrents_max: u64, peers_per_torrent_max: u32) -> Arc<Swarms> {
    let config = SwarmConfig {
        torrents_max,
        peers_max: 1_000_000,
        peers_per_torrent_max,
        peers_per_address_max: 0,
        peer_timeout_s: 2700,
    };
    Arc::new(Swarms::new(config, RandomState::new()))
}

fn node(swarms: &Arc<Swarms>) -> NodeHalves {
    NodeHalves::new(NodeParts {
        swarms: Arc::clone(swarms),
        id: OWN,
        seed: 1,
        peer_timeout_s: 2700,
        state_age_s: None,
        start: time(0),
    })
}

fn connect(node: &mut NodeHalves, ms: u64) {
    node.subscriber.on_subscribed(time(ms));
    node.publisher.on_connected(time(ms));
}

/// A frame of another node, whose clock shows the same.
fn frame(from: NodeId, sequence: u64, ms: u64, payload: &Payload<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(from, sequence, time(ms), payload, &mut bytes);
    bytes
}

fn receive(node: &mut NodeHalves, from: NodeId, sequence: u64, ms: u64, payload: &Payload<'_>) {
    let bytes = frame(from, sequence, ms, payload);
    assert!(!node.subscriber.receive(&bytes, time(ms), &mut |_| true));
}

/// What the node sends at a time.
fn sent(node: &mut NodeHalves, ms: u64) -> Vec<(Destination, Vec<u8>)> {
    let mut sent = Vec::new();
    node.subscriber.tick(time(ms));
    let mut send = |to: Destination, frame: &[u8]| sent.push((to, frame.to_vec()));
    while node.publisher.step(time(ms), &mut send) {}
    sent
}

fn v4(number: u32) -> CompactAddr {
    let [_, a, b, c] = number.to_be_bytes();
    CompactAddr::V4([9, a, b, c, 0x1a, 0xe1])
}

fn record(info_hash: InfoHash, peer: CompactAddr, event: PeerEvent) -> PeerRecord {
    PeerRecord { info_hash, peer, seeder: false, event }
}

fn encode(records: &[PeerRecord]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|record| record.encode(&mut bytes));
    bytes
}

fn tell(node: &mut NodeHalves, sequence: u64, ms: u64, records: &[PeerRecord]) {
    let bytes = encode(records);
    let payload = Payload::Records { bytes: &bytes, count: records.len() as u64 };
    receive(node, OTHER, sequence, ms, &payload);
}

fn outcomes(node: &NodeHalves, outcome: RecordOutcome) -> u64 {
    node.status.subscriber.records.sum(|key| key == outcome)
}

fn losses(node: &NodeHalves, loss: FrameLoss) -> u64 {
    node.status.subscriber.frames_lost.sum(|key| key == loss)
}

fn refusals(node: &NodeHalves, refusal: FrameRefusal) -> u64 {
    node.status.subscriber.frames_refused.sum(|key| key == refusal)
}

#[test]
fn an_ipv4_address_as_ipv6_is_refused() {
    let swarms = swarms(10, 10);
    let mut node = node(&swarms);
    connect(&mut node, 0);
    let mut mapped = [0; 18];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 9, 9, 9, 9, 1, 1]);
    tell(&mut node, 0, 10, &[record([1; 20], CompactAddr::V6(mapped), PeerEvent::None)]);
    assert_eq!(outcomes(&node, RecordOutcome::Unreachable), 1);
    assert_eq!(swarms.totals().peers, 0, "a state with it could not be read");
}

/// Peers that nobody can reach.
fn unreachable() -> [CompactAddr; 4] {
    let mut link_local = [0; 18];
    (link_local[0], link_local[1], link_local[17]) = (0xfe, 0x80, 1);
    [
        CompactAddr::V4([0, 1, 2, 3, 1, 1]),
        CompactAddr::V4([9, 9, 9, 9, 0, 0]),
        CompactAddr::V6(link_local),
        CompactAddr::V6([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]),
    ]
}

#[test]
fn records_obey_the_access_list_addresses_and_bounds() {
    let swarms = swarms(1, 3);
    let mut node = node(&swarms);
    connect(&mut node, 0);
    let mut records: Vec<_> =
        unreachable().map(|peer| record([1; 20], peer, PeerEvent::None)).to_vec();
    records.extend((0..5).map(|number| record([1; 20], v4(number), PeerEvent::None)));
    records.extend((0..2).map(|number| record([2; 20], v4(number), PeerEvent::None)));
    records.push(record([9; 20], v4(1), PeerEvent::None));
    let bytes = encode(&records);
    let payload = Payload::Records { bytes: &bytes, count: records.len() as u64 };
    let bytes = frame(OTHER, 0, 10, &payload);
    node.subscriber.receive(&bytes, time(10), &mut |info_hash| info_hash[0] != 9);
    assert_eq!(outcomes(&node, RecordOutcome::Unreachable), 4);
    assert_eq!(outcomes(&node, RecordOutcome::Stored), 3);
    assert_eq!(outcomes(&node, RecordOutcome::Full), 2 + 2);
    assert_eq!(outcomes(&node, RecordOutcome::TorrentNotServed), 1);
    assert_eq!((swarms.totals().torrents, swarms.totals().peers), (1, 3));
}

/// Entries of swarms with some peers of two torrents.
fn entries(peers: impl Iterator<Item = CompactAddr> + Clone) -> (Vec<u8>, u32) {
    let swarms = swarms(10, 100_000);
    let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(0));
    for info_hash in [[1; 20], [9; 20]] {
        for peer in peers.clone() {
            let event = PeerEvent::None;
            let request = AnnounceRequest {
                info_hash,
                peer,
                seeder: false,
                event,
                numwant: 0,
                own_family_only: false,
            };
            swarms.announce(&request, 0, &mut random, &mut sample);
        }
    }
    let (mut bytes, mut cursor) = (Vec::new(), SnapshotCursor::default());
    while swarms.snapshot(&mut cursor, 0, PAYLOAD_BYTES_MAX, &mut bytes) {}
    (bytes, swarms.tick_s())
}

/// Lets the node join from another; returns the stream that it takes.
fn take(node: &mut NodeHalves, from: NodeId, ms: u64) -> (u64, u64) {
    let mut ms = ms;
    let take_of = |frames: &[(Destination, Vec<u8>)]| {
        frames.iter().find_map(|(to, frame)| match decode(frame).expect("own").payload {
            Payload::Take(Take { stream, .. }) if *to == Destination::Node(from) => Some(stream),
            _ => None,
        })
    };
    for _ in 0..200 {
        receive(node, from, 0, ms, &Payload::Hello(SUMMARY));
        receive(node, from, 0, ms, &Payload::Offer(SUMMARY));
        if let Some(stream) = take_of(&sent(node, ms)) {
            return (stream, ms);
        }
        ms += 100;
    }
    panic!("it takes no offer");
}

fn part(stream: u64, part: u32, last: bool, (entries, tick_s): (&[u8], u32)) -> Payload<'_> {
    let phase_s = 0;
    Payload::State(StreamedState { stream, part, last, whole: true, tick_s, phase_s, entries })
}

#[test]
fn states_obey_the_access_list_addresses_and_bounds() {
    let swarms = swarms(10, 6);
    let mut node = node(&swarms);
    connect(&mut node, 0);
    let (stream, ms) = take(&mut node, OTHER, 0);
    let (entries, tick_s) = entries(unreachable().into_iter().chain((0..10).map(v4)));
    let state = frame(OTHER, 0, ms, &part(stream, 0, true, (&entries, tick_s)));
    node.subscriber.receive(&state, time(ms), &mut |info_hash| info_hash[0] != 9);
    let count = |outcome| node.status.subscriber.state_peers.sum(|key| key == outcome);
    assert_eq!(count(RecordOutcome::Unreachable), 4);
    assert_eq!(count(RecordOutcome::Stored), 6);
    assert_eq!(count(RecordOutcome::Full), 4);
    assert_eq!(count(RecordOutcome::TorrentNotServed), 14);
    assert_eq!((swarms.totals().torrents, swarms.totals().peers), (1, 6));
    assert!(node.status.is_whole());
}

#[test]
fn a_stream_brings_back_nobody_who_has_stopped() {
    let swarms = swarms(10, 100);
    let mut node = node(&swarms);
    connect(&mut node, 0);
    let (stream, ms) = take(&mut node, OTHER, 0);
    let (entries, tick_s) = entries((0..4).map(v4));
    // The others have heard of one stop each: this node, a third one, and the streamer.
    node.publisher.add_records(
        &encode(&[record([1; 20], v4(0), PeerEvent::Stopped)]),
        time(ms),
        &mut |_, _| {},
    );
    tell(&mut node, 0, ms, &[record([1; 20], v4(1), PeerEvent::Stopped)]);
    let mut stops = Vec::new();
    super::record::encode_key(4, &[1; 20], &v4(2), &mut stops);
    stops.extend_from_slice(&[0; 4]);
    stops.extend_from_slice(&OTHER.0.to_le_bytes());
    stops.extend_from_slice(&ms.to_le_bytes());
    let stops = Payload::Stops(StreamedStops { stream, part: 0, stops: &stops });
    receive(&mut node, OTHER, 1, ms, &stops);
    receive(&mut node, OTHER, 1, ms, &part(stream, 1, true, (&entries, tick_s)));
    assert_eq!(swarms.scrape(&[1; 20]).incomplete, 1);
    assert_eq!(swarms.scrape(&[9; 20]).incomplete, 4);
    let stopped = node.status.subscriber.state_peers.sum(|key| key == RecordOutcome::Stopped);
    assert_eq!(stopped, 3);
}

#[test]
fn records_out_of_order_are_counted_and_asked_for() {
    let swarms = swarms(10, 100);
    let mut node = node(&swarms);
    connect(&mut node, 0);
    let peer = |number| [record([1; 20], v4(number), PeerEvent::None)];
    tell(&mut node, 0, 100, &peer(0));
    tell(&mut node, 0, 110, &peer(0));
    tell(&mut node, 3, 120, &peer(3));
    tell(&mut node, 1, 130, &peer(1));
    tell(&mut node, 1, 140, &peer(1));
    assert_eq!(losses(&node, FrameLoss::Lost), 2);
    assert_eq!(losses(&node, FrameLoss::Late), 1);
    assert_eq!(losses(&node, FrameLoss::Duplicate), 2);
    assert_eq!(swarms.totals().peers, 3);
    let asks = |node: &mut NodeHalves, ms| {
        sent(node, ms).iter().any(|(_, frame)| match decode(frame).expect("own").payload {
            Payload::Want(Want { target, .. }) => target == Some(OTHER),
            _ => false,
        })
    };
    // It has to join first: nobody has anything to offer.
    let mut asked = (150..10_000).step_by(50).filter(|&ms| {
        receive(&mut node, OTHER, 4, ms, &Payload::Hello(NodeSummary { peers: 0, ..SUMMARY }));
        asks(&mut node, ms)
    });
    assert!(asked.next().is_some(), "it asks the node for what it has lost");
}

#[test]
fn absurd_numbers_do_no_harm() {
    let swarms = swarms(10, 100);
    let mut node = node(&swarms);
    connect(&mut node, 0);
    let largest = (1 << 53) - 1;
    let hello = Payload::Hello(NodeSummary {
        peers: largest,
        whole: true,
        stops_reach_s: u32::MAX,
        dropped_age_s: u32::MAX,
    });
    for (number, sequence) in [(0, 5), (1, largest), (2, 0), (3, largest)] {
        let bytes = frame(OTHER, sequence, largest, &hello);
        node.subscriber.receive(&bytes, time(number * 100), &mut |_| true);
    }
    let take = Payload::Take(Take { stream: 1, age_s: u32::MAX, stops_age_s: u32::MAX });
    receive(&mut node, OTHER, largest, 500, &take);
    receive(&mut node, OTHER, largest, 600, &Payload::Want(Want { target: None, age_s: 0 }));
    for ms in (700..100_000).step_by(100) {
        sent(&mut node, ms);
    }
    assert!(!node.status.is_warming());
}

#[test]
fn there_is_a_bounded_number_of_nodes() {
    let mut node = node(&swarms(10, 100));
    connect(&mut node, 0);
    let hello = Payload::Hello(NodeSummary { peers: 0, ..SUMMARY });
    for number in 0..CLUSTER_NODES_MAX as u64 + 10 {
        receive(&mut node, NodeId(100 + number), 0, 1000 + number, &hello);
    }
    sent(&mut node, 2000);
    assert_eq!(node.status.nodes().len(), CLUSTER_NODES_MAX);
    assert_eq!(refusals(&node, FrameRefusal::Nodes), 10);
    // Those that are gone make room for new ones.
    receive(&mut node, NodeId(5000), 0, 15_000, &hello);
    assert_eq!(refusals(&node, FrameRefusal::Nodes), 10);
    sent(&mut node, 1_000_000);
    assert_eq!(node.status.nodes().len(), 0, "they are forgotten in the end");
}

#[test]
fn a_node_is_warming_until_it_is_whole_or_has_waited() {
    let mut alone = node(&swarms(10, 100));
    connect(&mut alone, 0);
    (0..2900).step_by(100).for_each(|ms| drop(sent(&mut alone, ms)));
    assert!(alone.status.is_warming());
    (2900..4000).step_by(100).for_each(|ms| drop(sent(&mut alone, ms)));
    assert!(!alone.status.is_warming() && alone.status.is_whole());
    // Another node has peers, and does not offer them.
    let mut waiting = node(&swarms(10, 100));
    connect(&mut waiting, 0);
    let end = u64::from(CLUSTER_WARMING_S) * 1000;
    for ms in (0..end).step_by(100) {
        receive(&mut waiting, OTHER, 0, ms, &Payload::Hello(SUMMARY));
        sent(&mut waiting, ms);
        assert!(waiting.status.is_warming(), "{ms}");
    }
    sent(&mut waiting, end);
    assert!(!waiting.status.is_warming() && !waiting.status.is_whole());
}

#[test]
fn another_streamer_is_taken_when_one_dies() {
    let swarms = swarms(10, 100);
    let mut node = node(&swarms);
    connect(&mut node, 0);
    let (entries, tick_s) = entries((0..4).map(v4));
    let (stream, ms) = take(&mut node, OTHER, 0);
    receive(&mut node, OTHER, 0, ms, &part(stream, 0, false, (&[], tick_s)));
    // It falls silent in the middle, and so do its offers.
    let third = NodeId(3);
    let (stream, ms) = take(&mut node, third, ms + 100);
    assert_eq!(node.status.subscriber.joins_failed.get(), 1);
    receive(&mut node, OTHER, 0, ms, &part(stream, 0, true, (&entries, tick_s)));
    assert_eq!(swarms.totals().peers, 0, "a part of a stream that another sends");
    receive(&mut node, third, 0, ms, &part(stream, 0, true, (&entries, tick_s)));
    assert_eq!(swarms.totals().peers, 8);
    assert_eq!(node.status.subscriber.joins.get(), 1);
}

#[test]
fn a_stream_waits_for_its_joiner() {
    let swarms = swarms(100_000, 100_000);
    let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(0));
    for number in 0..500_000_u32 {
        let mut info_hash = [1; 20];
        info_hash[..4].copy_from_slice(&(number / 20).to_be_bytes());
        let (peer, event) = (v4(number), PeerEvent::None);
        let request = AnnounceRequest {
            info_hash,
            peer,
            seeder: false,
            event,
            numwant: 0,
            own_family_only: false,
        };
        swarms.announce(&request, 0, &mut random, &mut sample);
    }
    let mut node = node(&swarms);
    connect(&mut node, 0);
    let take = Payload::Take(Take { stream: 7, age_s: u32::MAX, stops_age_s: u32::MAX });
    receive(&mut node, OTHER, 0, 100, &take);
    let (mut parts, mut last, mut ms) = (0, false, 100);
    let mut count = |node: &mut NodeHalves, until: u64| {
        while ms < until {
            for (to, frame) in sent(node, ms) {
                if let Payload::State(part) = decode(&frame).expect("own").payload {
                    assert_eq!((to, part.part, part.stream), (Destination::Node(OTHER), parts, 7));
                    parts += 1;
                    last |= part.last;
                }
            }
            ms += 50;
        }
        (parts, last)
    };
    assert_eq!(count(&mut node, 3000), (CLUSTER_STREAM_WINDOW, false));
    let more = |parts, over| Payload::More(frame::More { stream: 7, parts, over });
    receive(&mut node, OTHER, 0, 3000, &more(10, false));
    assert_eq!(count(&mut node, 6000), (CLUSTER_STREAM_WINDOW + 10, false));
    let (mut all, mut done, mut until) = (CLUSTER_STREAM_WINDOW + 10, false, 6000);
    while !done && until < 20_000 {
        receive(&mut node, OTHER, 0, until, &more(all, false));
        until += 1000;
        (all, done) = count(&mut node, until);
    }
    assert!(done && all > CLUSTER_STREAM_WINDOW + 10);
    receive(&mut node, OTHER, 0, until, &more(all, true));
    sent(&mut node, until);
    let counters = &node.status.publisher;
    assert_eq!((counters.streams_sent.get(), counters.streams.get()), (1, 0));
    // Another joiner says nothing any more.
    receive(&mut node, OTHER, 0, until, &take);
    sent(&mut node, until);
    assert_eq!(node.status.publisher.streams.get(), 1);
    sent(&mut node, until + 11_000);
    let counters = &node.status.publisher;
    assert_eq!((counters.streams_cut.get(), counters.streams.get()), (1, 0));
}

#[test]
fn records_that_are_not_sent_use_up_their_numbers() {
    let mut node = node(&swarms(10, 100));
    let records = encode(&[record([1; 20], v4(1), PeerEvent::None)]);
    let publish = |node: &mut NodeHalves, ms| {
        let mut frames = Vec::new();
        let mut send = |_: Destination, frame: &[u8]| frames.push(frame.to_vec());
        node.publisher.add_records(&records, time(ms), &mut send);
        node.publisher.flush(time(ms), &mut send);
        frames
    };
    assert!(publish(&mut node, 10).is_empty());
    node.publisher.note_dropped(time(15));
    node.publisher.on_connected(time(20));
    let frames = publish(&mut node, 30);
    let sent = decode(&frames[0]).expect("own");
    assert_eq!((frames.len(), sent.sequence), (1, 2));
    let Payload::Records { bytes, count: 1 } = sent.payload else { panic!("{sent:?}") };
    assert_eq!(PeerRecords::new(bytes).count(), 1);
    let counters = &node.status.publisher;
    assert_eq!((counters.records_dropped.get(), counters.records_sent.get()), (1, 1));
    // Its own frames tell a node that its connection works, and nothing else.
    assert!(node.subscriber.receive(&frames[0], time(40), &mut |_| true));
    assert_eq!(node.status.subscriber.frames_received.get(), 0);
}

//! The half of a node that speaks.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use annulus_swarm::{PeerEvent, PeerUpdate, Random, UpdateOrder};

use super::frame::{self, NodeSummary, PAYLOAD_BYTES_MAX, Payload};
use super::record::{PeerRecord, PeerRecords, RECORD_BYTES_MAX};
use super::requests::NodeRequest;
use super::stops::{Moment, Stop};
use super::streams::{OutgoingStreams, SentEnd};
use super::{CHUNK_RECORDS, Destination, NodeId, NodeTime, SendFrame, SharedNode};
use crate::limits::CLUSTER_NODES_MAX;

const HELLO_MS: i64 = 1000;

/// How long others are told that records have been dropped.
const DROPPED_MS: i64 = 30_000;

/// Requests of the subscriber that are looked at in one step.
const REQUESTS_PER_STEP: usize = 64;

/// Makes the frames that a node sends. One thread owns it.
pub struct NodePublisher {
    shared: Arc<SharedNode>,
    requests: Receiver<NodeRequest>,
    connected: bool,
    /// The number of the next frame of records.
    sequence: u64,
    /// Records that wait for the next frame.
    pending: Vec<u8>,
    pending_records: u64,
    /// The frame that is sent.
    frame: Vec<u8>,
    /// Since when records have been dropped, and when the last one was.
    dropped_ms: Option<(i64, i64)>,
    hello_due_ms: i64,
    offers: Vec<(NodeId, i64)>,
    streams: OutgoingStreams,
    random: Random,
    chunk: Vec<PeerRecord>,
    /// Own peers that have stopped, while streams are taken.
    stopped: Vec<PeerRecord>,
}

impl NodePublisher {
    pub(super) fn new(
        shared: Arc<SharedNode>,
        requests: Receiver<NodeRequest>,
        random: Random,
    ) -> NodePublisher {
        NodePublisher {
            shared,
            requests,
            connected: false,
            sequence: 0,
            pending: Vec::with_capacity(PAYLOAD_BYTES_MAX),
            pending_records: 0,
            frame: Vec::with_capacity(frame::FRAME_BYTES_MAX),
            dropped_ms: None,
            hello_due_ms: 0,
            offers: Vec::new(),
            streams: OutgoingStreams::new(),
            random,
            chunk: Vec::with_capacity(CHUNK_RECORDS),
            stopped: Vec::new(),
        }
    }

    /// There is a connection: frames reach the others from now on.
    pub fn on_connected(&mut self, now: NodeTime) {
        self.connected = true;
        if self.dropped_ms.is_some() {
            self.remember_drop(now);
        }
        self.hello_due_ms = i64::MIN;
    }

    /// There is none: records use up sequence numbers, so that the others notice, and are dropped.
    /// What this node remembers of peers that stop, it remembers.
    pub fn on_disconnected(&mut self) {
        self.connected = false;
        self.offers.clear();
        while self.requests.try_recv().is_ok() {}
        let cut = self.streams.end_all();
        self.shared.status.publisher.streams_cut.add(cut as u64);
    }

    /// Takes a worker's buffer of records. Frames that are full are sent; the rest waits for more,
    /// or for [`NodePublisher::flush`].
    pub fn add_records(&mut self, records: &[u8], now: NodeTime, send: &mut SendFrame<'_>) {
        let mut rest = PeerRecords::new(records);
        loop {
            let before = rest.rest();
            let room = (PAYLOAD_BYTES_MAX - self.pending.len()) / RECORD_BYTES_MAX;
            self.chunk.clear();
            self.chunk.extend(rest.by_ref().take(room.min(CHUNK_RECORDS)));
            let taken = before.len() - rest.rest().len();
            if taken == 0 {
                debug_assert!(before.is_empty(), "a worker's buffer has whole records");
                break;
            }
            self.remember_stops(now);
            self.pending.extend_from_slice(&before[..taken]);
            self.pending_records += self.chunk.len() as u64;
            if PAYLOAD_BYTES_MAX - self.pending.len() < RECORD_BYTES_MAX {
                self.flush(now, send);
            }
        }
        self.repeat_stops(now);
    }

    /// Sends the records that wait, if there are any.
    pub fn flush(&mut self, now: NodeTime, send: &mut SendFrame<'_>) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.pending);
        let count = std::mem::take(&mut self.pending_records);
        if self.connected {
            self.send(Destination::All, &Payload::Records { bytes: &bytes, count }, now, send);
            self.shared.status.publisher.records_sent.add(count);
        } else {
            self.shared.status.publisher.records_dropped.add(count);
            self.remember_drop(now);
        }
        self.sequence += 1;
        self.pending = bytes;
        self.pending.clear();
    }

    /// Workers have dropped records for lack of room: the others will ask for what they lack.
    pub fn note_dropped(&mut self, now: NodeTime) {
        self.sequence += 1;
        self.remember_drop(now);
    }

    fn remember_drop(&mut self, now: NodeTime) {
        let now_ms = now.ms();
        let (first_ms, _) = self.dropped_ms.unwrap_or((now_ms, now_ms));
        self.dropped_ms = Some((first_ms, now_ms));
    }

    /// Sends what else is due: `hello` each second, what the subscriber has left, and one frame of
    /// a stream. Returns whether there is more to send at once. Call it at least every 50 ms.
    pub fn step(&mut self, now: NodeTime, send: &mut SendFrame<'_>) -> bool {
        if !self.connected {
            return false;
        }
        for _ in 0..REQUESTS_PER_STEP {
            let Ok(request) = self.requests.try_recv() else { break };
            self.handle(request, now, send);
        }
        let now_ms = now.ms();
        if now_ms >= self.hello_due_ms {
            self.hello_due_ms = now_ms + HELLO_MS;
            self.dropped_ms = self.dropped_ms.filter(|&(_, last_ms)| now_ms - last_ms < DROPPED_MS);
            let hello = Payload::Hello(self.summary(now_ms));
            self.send(Destination::All, &hello, now, send);
        }
        self.make_offers(now, send);
        let cut = self.streams.end_silent(now_ms);
        self.shared.status.publisher.streams_cut.add(cut as u64);
        self.step_streams(now, send)
    }

    fn handle(&mut self, request: NodeRequest, now: NodeTime, send: &mut SendFrame<'_>) {
        let counters = &self.shared.status.publisher;
        match request {
            NodeRequest::Send { to, payload } => self.send(to, &payload, now, send),
            NodeRequest::Offer { to, due_ms } => {
                self.offers.retain(|&(node, _)| node != to);
                if self.offers.len() < CLUSTER_NODES_MAX {
                    self.offers.push((to, due_ms));
                }
            }
            NodeRequest::Stream { to, take, sent_ms } => {
                let period = self.shared.status.whole_period();
                if !self.streams.begin(to, take, (sent_ms, now.ms()), period) {
                    counters.streams_refused.add(1);
                }
            }
            NodeRequest::More { from, more } => match self.streams.more(from, more, now.ms()) {
                Some(SentEnd::Whole) => counters.streams_sent.add(1),
                Some(SentEnd::Cut) => counters.streams_cut.add(1),
                None => {}
            },
        }
    }

    /// Makes the offers that are due, if there is room for a stream.
    fn make_offers(&mut self, now: NodeTime, send: &mut SendFrame<'_>) {
        let now_ms = now.ms();
        while let Some(number) = self.offers.iter().position(|&(_, due_ms)| due_ms <= now_ms) {
            let (to, _) = self.offers.swap_remove(number);
            if self.streams.has_room_for(to) {
                let offer = Payload::Offer(self.summary(now_ms));
                self.send(Destination::Node(to), &offer, now, send);
            }
        }
    }

    fn step_streams(&mut self, now: NodeTime, send: &mut SendFrame<'_>) -> bool {
        let NodePublisher { shared, streams, frame, sequence, .. } = self;
        let more = streams.step(shared, now.ms(), &mut |(to, part)| {
            frame::encode(shared.id, *sequence, now, &part, frame);
            shared.count_sent(frame);
            send(Destination::Node(to), frame);
        });
        shared.status.publisher.streams.set(streams.len() as u64);
        more
    }

    fn summary(&self, now_ms: i64) -> NodeSummary {
        let reach_ms = now_ms - self.shared.stops().reach_ms(now_ms);
        NodeSummary {
            peers: self.shared.swarms.totals().peers,
            whole: self.shared.status.is_whole(),
            stops_reach_s: u32::try_from(reach_ms / 1000).unwrap_or(0),
            dropped_age_s: self.dropped_ms.map_or(0, |(first_ms, _)| {
                u32::try_from((now_ms - first_ms) / 1000 + 1).unwrap_or(u32::MAX)
            }),
        }
    }

    fn send(
        &mut self,
        to: Destination,
        payload: &Payload<'_>,
        now: NodeTime,
        send: &mut SendFrame<'_>,
    ) {
        frame::encode(self.shared.id, self.sequence, now, payload, &mut self.frame);
        self.shared.count_sent(&self.frame);
        send(to, &self.frame);
    }

    /// Remembers who of the records at hand has stopped, and who has come back.
    fn remember_stops(&mut self, now: NodeTime) {
        let repeats = self.shared.has_taken(now);
        let (at_ms, node) = (now.ms(), self.shared.id);
        let moment = Moment { at_ms, node, node_ms: at_ms };
        let mut stops = self.shared.stops();
        for record in &self.chunk {
            let &PeerRecord { info_hash, peer, event, .. } = record;
            let stopped = event == PeerEvent::Stopped;
            stops.note(Stop { info_hash, peer, stopped, moment });
            if stopped && repeats {
                self.stopped.push(*record);
            }
        }
    }

    /// A stream may have brought back a peer after a worker has processed its stop, and before the
    /// stop was remembered here: removes it again.
    fn repeat_stops(&mut self, now: NodeTime) {
        for record in self.stopped.drain(..) {
            let PeerRecord { info_hash, peer, seeder, event } = record;
            if self.shared.stops().find(&info_hash, &peer).is_some_and(|stop| stop.stopped) {
                let (age_s, order) = (0, UpdateOrder::InOrder);
                let update = PeerUpdate { info_hash, peer, seeder, event, age_s, order };
                self.shared.swarms.apply(&update, now.seconds(), &mut self.random);
            }
        }
    }
}

//! The half of a node that listens.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use annulus_swarm::{Random, UpdateOrder};

use super::applying::{Applier, FrameArrival};
use super::frame::{self, Frame, NodeSummary, Payload, Want};
use super::joining::{ALWAYS_MS, Joining, PartPlace, StreamEnd};
use super::nodes::{Hearing, KnownNodes, SequencePlace, TURN_UP_MS};
use super::requests::NodeRequest;
use super::status::JoinReport;
use super::{NodeId, NodeTime, ServesTorrent, SharedNode};
use crate::limits::CLUSTER_WARMING_S;
use crate::metrics::labels::{FrameLoss, FrameRefusal};

/// Nodes answer a question for any of them at different times, up to so much later: most of them
/// need not.
const OFFER_MS_MAX: u32 = 200;

/// How often what operators see is brought up to date.
const STATUS_MS: i64 = 1000;

/// Takes the frames that a node receives. One thread owns it.
pub struct NodeSubscriber {
    shared: Arc<SharedNode>,
    requests: SyncSender<NodeRequest>,
    random: Random,
    applier: Applier,
    nodes: KnownNodes,
    joining: Joining,
    start_ms: i64,
    /// Since when it hears everything, if it does.
    subscribed_ms: Option<i64>,
    /// What happened before then is known, but for what is lacked.
    known_ms: i64,
    status_due_ms: i64,
}

impl NodeSubscriber {
    pub(super) fn new(
        shared: Arc<SharedNode>,
        requests: SyncSender<NodeRequest>,
        mut random: Random,
        (start, state_age_s): (NodeTime, Option<u32>),
    ) -> NodeSubscriber {
        let start_ms = start.ms();
        let applier = Applier::new(Arc::clone(&shared), Random::seeded(random.bits()));
        let known_ms = state_age_s.map_or(ALWAYS_MS, |age_s| start_ms - i64::from(age_s) * 1000);
        NodeSubscriber {
            shared,
            requests,
            random,
            applier,
            nodes: KnownNodes::default(),
            joining: Joining::new(),
            start_ms,
            subscribed_ms: None,
            known_ms,
            status_due_ms: start_ms,
        }
    }

    /// The node hears both channels: [`Destination::All`](super::Destination) and its own. It asks
    /// for what it lacks.
    pub fn on_subscribed(&mut self, now: NodeTime) {
        self.subscribed_ms = Some(now.ms());
        self.joining.join(self.known_ms, now.ms());
        self.tick(now);
    }

    /// The node hears nothing any more.
    pub fn on_disconnected(&mut self, now: NodeTime) {
        self.subscribed_ms = None;
        self.joining.interrupt();
        self.show(now);
    }

    /// Takes a frame as it came, which may be anything. Returns whether it is one of this node's
    /// own, which shows that the connection works.
    pub fn receive(&mut self, bytes: &[u8], now: NodeTime, serves: &mut ServesTorrent<'_>) -> bool {
        let decoded = frame::decode(bytes);
        if decoded.is_ok_and(|frame| frame.node == self.shared.id) {
            self.advance(now);
            return true;
        }
        let counters = &self.shared.status.subscriber;
        counters.frames_received.add(1);
        counters.bytes_received.add(bytes.len() as u64);
        let understood = decoded.and_then(|frame| self.receive_other(&frame, now, serves));
        if let Err(refusal) = understood {
            self.shared.status.subscriber.frames_refused.add(refusal);
        }
        self.show(now);
        false
    }

    /// Does what is due. Call it at least every 100 ms, subscribed or not.
    pub fn tick(&mut self, now: NodeTime) {
        if self.subscribed_ms.is_some() {
            let request = self.joining.tick(&self.nodes, now.ms(), &mut self.random);
            self.ask(request);
        }
        self.show(now);
        if now.ms() >= self.status_due_ms {
            self.status_due_ms = now.ms() + STATUS_MS;
            self.nodes.forget_silent(now.ms());
            self.shared.status.set_nodes(self.nodes.seen());
            let (bytes, reach_ms) = {
                let stops = self.shared.stops();
                (stops.allocated_bytes(), now.ms() - stops.reach_ms(now.ms()))
            };
            self.shared.status.stops_bytes.set(bytes as u64);
            self.shared.status.stops_reach_s.set(u64::try_from(reach_ms / 1000).unwrap_or(0));
        }
    }

    /// A frame of another node.
    fn receive_other(
        &mut self,
        frame: &Frame<'_>,
        now: NodeTime,
        serves: &mut ServesTorrent<'_>,
    ) -> Result<(), FrameRefusal> {
        if let Payload::State(part) = frame.payload
            && !Applier::are_entries(part.entries)
        {
            return Err(FrameRefusal::Payload);
        }
        let listening_ms = self.subscribed_ms.unwrap_or(now.ms());
        let hearing = self.nodes.hear(frame, listening_ms, now).ok_or(FrameRefusal::Nodes)?;
        self.advance(now);
        self.notice_gap(frame.node, &hearing, now);
        let (node, node_ms) = (frame.node, frame.sent_ms);
        let arrival = FrameArrival { now, node, node_ms, delay_ms: hearing.delay_ms };
        match frame.payload {
            Payload::Records { bytes, count } => {
                let delay = Duration::from_millis(hearing.delay_ms.unsigned_abs());
                self.shared.status.subscriber.delay.observe(delay, count);
                match hearing.place {
                    SequencePlace::Next | SequencePlace::AfterGap(_) => {
                        self.applier.records(bytes, UpdateOrder::InOrder, arrival, serves);
                    }
                    SequencePlace::Late => {
                        self.applier.records(bytes, UpdateOrder::Late, arrival, serves);
                    }
                    SequencePlace::Duplicate => {}
                }
            }
            Payload::Hello(summary) => self.greet(frame.node, summary, now),
            Payload::Want(want) => self.consider(frame.node, want, now),
            Payload::Offer(summary) => self.joining.offer(frame.node, summary, now.ms()),
            Payload::Take(take) => {
                let sent_ms = now.ms() - hearing.delay_ms;
                self.ask(Some(NodeRequest::Stream { to: frame.node, take, sent_ms }));
            }
            Payload::More(more) => self.ask(Some(NodeRequest::More { from: frame.node, more })),
            Payload::State(part) => {
                if self.is_next((frame.node, part.stream), part.part, now) {
                    self.applier.state(&part, arrival, serves);
                    self.shared.note_taken(now);
                    let last = part.last.then_some(part.whole);
                    let request = self.joining.applied(last, now.ms());
                    self.ask(request);
                }
            }
            Payload::Stops(part) => {
                if self.is_next((frame.node, part.stream), part.part, now) {
                    self.applier.stops(&part, arrival);
                    let request = self.joining.applied(None, now.ms());
                    self.ask(request);
                }
            }
        }
        Ok(())
    }

    /// Something has come: until now nothing was missed but what is lacked.
    fn advance(&mut self, now: NodeTime) {
        if self.subscribed_ms.is_some() {
            self.known_ms = now.ms();
        }
    }

    /// Counts what is out of order, and asks for what is lost.
    fn notice_gap(&mut self, node: NodeId, hearing: &Hearing, now: NodeTime) {
        let counters = &self.shared.status.subscriber.frames_lost;
        match hearing.place {
            SequencePlace::Next => {}
            SequencePlace::AfterGap(skipped) => counters.add_many(FrameLoss::Lost, skipped),
            SequencePlace::Late => counters.add(FrameLoss::Late),
            SequencePlace::Duplicate => counters.add(FrameLoss::Duplicate),
        }
        if let Some(since_ms) = hearing.gap_since_ms {
            self.joining.miss(node, since_ms, now.ms());
        }
    }

    /// A node says hello, for the first time or again.
    fn greet(&mut self, node: NodeId, summary: NodeSummary, now: NodeTime) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        if known.summary.replace(summary).is_some() {
            return;
        }
        // What it dropped before its sequence was known here.
        if summary.dropped_age_s > 0 {
            let since_ms = now.ms() - i64::from(summary.dropped_age_s) * 1000;
            self.joining.miss(node, since_ms, now.ms());
        }
        // One that turns up with far more peers than are known here has a state of its own: from a
        // file, or from a part of the cluster that was cut off.
        let own = self.shared.swarms.totals().peers;
        let turns_up = self.subscribed_ms.is_some_and(|since| now.ms() - since >= TURN_UP_MS);
        if turns_up && summary.peers > own + own / 8 + 64 {
            self.joining.miss(node, ALWAYS_MS, now.ms());
        }
    }

    /// A node lacks something: offers it.
    fn consider(&mut self, node: NodeId, want: Want, now: NodeTime) {
        let due_ms = match want.target {
            Some(target) if target == self.shared.id => now.ms(),
            None if self.shared.swarms.totals().peers > 0 => {
                now.ms() + i64::from(self.random.below(OFFER_MS_MAX))
            }
            _ => return,
        };
        self.ask(Some(NodeRequest::Offer { to: node, due_ms }));
    }

    /// Whether a part of a stream is the one to be applied now.
    fn is_next(&mut self, stream: (NodeId, u64), part: u32, now: NodeTime) -> bool {
        let (place, request) = self.joining.place(stream, part, now.ms());
        self.ask(request);
        place == PartPlace::Next
    }

    /// Leaves a request for the publisher. If there is no room, what it is for is tried again
    /// later.
    fn ask(&mut self, request: Option<NodeRequest>) {
        if let Some(request) = request
            && self.requests.try_send(request).is_err()
        {
            self.shared.status.subscriber.requests_dropped.add(1);
        }
    }

    /// Shows the present state to the publisher and to operators.
    fn show(&mut self, now: NodeTime) {
        let counters = &self.shared.status.subscriber;
        let end = self.joining.take_end();
        match end {
            Some(StreamEnd::Whole { from, took_ms, stops_since_ms }) => {
                counters.joins.add(1);
                self.shared.status.note_join(JoinReport { from, took_ms });
                if let Some(since_ms) = stops_since_ms {
                    self.shared.stops().extend_reach(since_ms);
                }
            }
            Some(StreamEnd::Failed) => counters.joins_failed.add(1),
            None => {}
        }
        let is_whole = self.subscribed_ms.is_some() && self.joining.is_whole();
        let has_waited = now.ms() - self.start_ms >= i64::from(CLUSTER_WARMING_S) * 1000;
        let is_warm = is_whole || matches!(end, Some(StreamEnd::Whole { .. })) || has_waited;
        self.shared.status.set_state(is_whole, is_warm);
    }
}

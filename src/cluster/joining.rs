//! What a node lacks, and how it gets it: it asks, takes one of the offers, and gets a stream.

use annulus_swarm::Random;

use super::frame::{More, NodeSummary, Payload, Take, Want};
use super::nodes::KnownNodes;
use super::requests::NodeRequest;
use super::{Destination, NodeId};
use crate::limits::CLUSTER_NODES_MAX;

/// A node that lacks everything asks for what happened since then.
pub(super) const ALWAYS_MS: i64 = -(1 << 50);

/// Frames that come late may close a gap, and more gaps may follow.
const SETTLE_MS: i64 = 300;

/// A question is repeated after so long.
const REPEAT_MS: i64 = 1000;

/// After so long without an offer there is none.
const OFFERS_MS: i64 = 3000;

/// After the first offer others have so long to make a better one.
const CHOICE_MS: i64 = 500;

/// A stream has ended if nothing came of it for so long.
const SILENCE_MS: i64 = 5000;

/// A node that was not heard for so long may be gone.
const ABSENCE_MS: i64 = 10_000;

/// The longest pause before another try.
const PAUSE_MS_MAX: i64 = 30_000;

/// Parts of a stream after which the streamer is told that they have come.
const PARTS_PER_MORE: u32 = 8;

/// After a stream from a node that itself was not whole, another one is taken, so often.
const SECOND_LOOKS: u32 = 2;

/// The pause before it.
const SECOND_LOOK_MS: i64 = 10_000;

/// Something that happened in the cluster and did not become known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lack {
    /// The node that knows. `None`: probably any does.
    from: Option<NodeId>,
    since_ms: i64,
    /// The same of stops.
    stops_since_ms: i64,
    /// When it was last noticed: streams that begin later have it.
    noted_ms: i64,
    due_ms: i64,
    tries: u32,
    kind: LackKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LackKind {
    /// The node has just come, or come back.
    Join,
    /// Frames have been lost.
    Gap,
    /// The node joined from one that was not whole.
    SecondLook,
    /// Frames of a node have been lost that is gone. The others were asked: what only it knows, it
    /// tells if it comes back.
    Absent,
}

#[derive(Clone, Debug)]
struct Asking {
    lack: Lack,
    began_ms: i64,
    asked_ms: i64,
    first_offer_ms: i64,
    offers: Vec<(NodeId, NodeSummary)>,
}

#[derive(Clone, Copy, Debug)]
struct Taking {
    lack: Lack,
    from: NodeId,
    stream: u64,
    next_part: u32,
    told_parts: u32,
    began_ms: i64,
    heard_ms: i64,
    /// Since when the streamer knows all stops.
    stops_since_ms: i64,
}

#[derive(Clone, Debug)]
enum JoinPhase {
    Idle,
    Asking(Asking),
    Taking(Taking),
}

/// What a part of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartPlace {
    Next,
    /// It came already, or is of no stream that was taken.
    Foreign,
    /// Parts before it are lost: the stream is given up.
    AfterGap,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    Whole {
        from: NodeId,
        took_ms: i64,
        /// Since when all stops are known because of it.
        stops_since_ms: Option<i64>,
    },
    Failed,
}

/// What a node lacks, and the one stream that it takes at a time.
pub(super) struct Joining {
    lacks: Vec<Lack>,
    phase: JoinPhase,
    /// The streamer that failed last: another is taken, if there is one.
    avoided: Option<NodeId>,
    /// No stream for a gap before then: a node that loses much must not keep others busy.
    gaps_from_ms: i64,
    second_looks: u32,
    has_joined: bool,
    ended: Option<StreamEnd>,
}

impl Joining {
    pub(super) fn new() -> Joining {
        Joining {
            lacks: Vec::new(),
            phase: JoinPhase::Idle,
            avoided: None,
            gaps_from_ms: 0,
            second_looks: SECOND_LOOKS,
            has_joined: false,
            ended: None,
        }
    }

    /// Whether nothing is lacked.
    pub(super) fn is_whole(&self) -> bool {
        let is_lack = |lack: &Lack| lack.kind < LackKind::SecondLook;
        let at_hand = match &self.phase {
            JoinPhase::Idle => None,
            JoinPhase::Asking(asking) => Some(&asking.lack),
            JoinPhase::Taking(taking) => Some(&taking.lack),
        };
        !self.lacks.iter().chain(at_hand).any(is_lack)
    }

    /// How a stream ended since the last call.
    pub(super) fn take_end(&mut self) -> Option<StreamEnd> {
        self.ended.take()
    }

    /// The node has come, or come back: it lacks what happened since then.
    pub(super) fn join(&mut self, since_ms: i64, now_ms: i64) {
        self.interrupt();
        // A process that has just started remembers no stops, even if it has a state.
        let stops_since_ms = if self.has_joined { since_ms } else { ALWAYS_MS };
        self.has_joined = true;
        self.add(Lack {
            from: None,
            since_ms,
            stops_since_ms,
            noted_ms: now_ms,
            due_ms: now_ms,
            tries: 0,
            kind: LackKind::Join,
        });
    }

    /// Frames of a node have not come since then.
    pub(super) fn miss(&mut self, from: NodeId, since_ms: i64, now_ms: i64) {
        self.add(Lack {
            from: Some(from),
            since_ms,
            stops_since_ms: since_ms,
            noted_ms: now_ms,
            due_ms: now_ms + SETTLE_MS,
            tries: 0,
            kind: LackKind::Gap,
        });
    }

    /// The connection is gone: what is lacked is asked for when it is back.
    pub(super) fn interrupt(&mut self) {
        match std::mem::replace(&mut self.phase, JoinPhase::Idle) {
            JoinPhase::Idle => {}
            JoinPhase::Asking(asking) => self.add(asking.lack),
            JoinPhase::Taking(taking) => {
                self.ended = Some(StreamEnd::Failed);
                self.add(taking.lack);
            }
        }
    }

    /// A node offers its state.
    pub(super) fn offer(&mut self, from: NodeId, summary: NodeSummary, now_ms: i64) {
        let JoinPhase::Asking(asking) = &mut self.phase else { return };
        let is_asked = asking.lack.from.is_none_or(|target| target == from);
        let is_known = asking.offers.iter().any(|&(node, _)| node == from);
        if is_asked && !is_known && asking.offers.len() < CLUSTER_NODES_MAX {
            if asking.offers.is_empty() {
                asking.first_offer_ms = now_ms;
            }
            asking.offers.push((from, summary));
        }
    }

    /// What a part is that has come. It is applied if it is [`PartPlace::Next`], and then reported
    /// to [`Joining::applied`].
    pub(super) fn place(
        &mut self,
        (from, stream): (NodeId, u64),
        part: u32,
        now_ms: i64,
    ) -> (PartPlace, Option<NodeRequest>) {
        let JoinPhase::Taking(taking) = &mut self.phase else { return (PartPlace::Foreign, None) };
        if (taking.from, taking.stream) != (from, stream) || part < taking.next_part {
            return (PartPlace::Foreign, None);
        }
        taking.heard_ms = now_ms;
        if part == taking.next_part {
            return (PartPlace::Next, None);
        }
        (PartPlace::AfterGap, self.fail(now_ms))
    }

    /// The next part has been applied. `last`: it was the last one, and whether the streamer was
    /// whole then.
    pub(super) fn applied(&mut self, last: Option<bool>, now_ms: i64) -> Option<NodeRequest> {
        let JoinPhase::Taking(taking) = &mut self.phase else { return None };
        taking.next_part = taking.next_part.saturating_add(1);
        if last.is_none() && taking.next_part - taking.told_parts < PARTS_PER_MORE {
            return None;
        }
        taking.told_parts = taking.next_part;
        let taking = *taking;
        if let Some(streamer_whole) = last {
            self.finish(&taking, streamer_whole, now_ms);
        }
        Some(taking.more(last.is_some()))
    }

    /// Does what is due.
    pub(super) fn tick(
        &mut self,
        nodes: &KnownNodes,
        now_ms: i64,
        random: &mut Random,
    ) -> Option<NodeRequest> {
        match &mut self.phase {
            JoinPhase::Idle => self.ask(nodes, now_ms),
            JoinPhase::Taking(taking) if now_ms - taking.heard_ms >= SILENCE_MS => {
                self.fail(now_ms)
            }
            JoinPhase::Taking(_) => None,
            JoinPhase::Asking(asking) => {
                let waits_until = match asking.lack.from {
                    Some(_) => asking.first_offer_ms,
                    None => asking.first_offer_ms + CHOICE_MS,
                };
                if !asking.offers.is_empty() && now_ms >= waits_until {
                    return self.take(now_ms, random);
                }
                if asking.offers.is_empty() && now_ms - asking.began_ms >= OFFERS_MS {
                    self.give_up(nodes, now_ms);
                    return None;
                }
                if now_ms - asking.asked_ms >= REPEAT_MS {
                    asking.asked_ms = now_ms;
                    return Some(asking.lack.want(now_ms));
                }
                None
            }
        }
    }

    /// Asks for the most important lack that is due.
    fn ask(&mut self, nodes: &KnownNodes, now_ms: i64) -> Option<NodeRequest> {
        let gaps_from_ms = self.gaps_from_ms;
        let is_heard = |lack: &Lack, since_ms: i64| {
            nodes.heard_since(since_ms).any(|node| Some(node.id) == lack.from)
        };
        self.lacks.retain(|lack| lack.kind != LackKind::Absent || is_heard(lack, i64::MIN));
        let is_due = |lack: &Lack| {
            lack.due_ms <= now_ms
                && (lack.kind == LackKind::Join || gaps_from_ms <= now_ms)
                && (lack.kind != LackKind::Absent || is_heard(lack, now_ms - SILENCE_MS))
        };
        let due = self.lacks.iter().enumerate().filter(|(_, lack)| is_due(lack));
        let (number, _) = due.min_by_key(|(_, lack)| (lack.kind, lack.due_ms))?;
        let lack = self.lacks.swap_remove(number);
        self.phase = JoinPhase::Asking(Asking {
            lack,
            began_ms: now_ms,
            asked_ms: now_ms,
            first_offer_ms: now_ms,
            offers: Vec::new(),
        });
        Some(lack.want(now_ms))
    }

    /// Takes the best offer.
    fn take(&mut self, now_ms: i64, random: &mut Random) -> Option<NodeRequest> {
        let JoinPhase::Asking(asking) = &self.phase else { return None };
        let lack = asking.lack;
        let needed_s = age_s(lack.since_ms, now_ms);
        let (from, summary) = *asking.offers.iter().max_by_key(|&&(node, summary)| {
            let remembers = summary.stops_reach_s >= needed_s;
            // What nobody remembers to have stopped lives on, what is lacked otherwise comes later.
            (self.avoided != Some(node), remembers, summary.whole, summary.peers)
        })?;
        let taking = Taking {
            lack,
            from,
            stream: random.bits(),
            next_part: 0,
            told_parts: 0,
            began_ms: now_ms,
            heard_ms: now_ms,
            stops_since_ms: now_ms - i64::from(summary.stops_reach_s) * 1000,
        };
        self.phase = JoinPhase::Taking(taking);
        let stops_age_s = age_s(lack.stops_since_ms, now_ms);
        let take = Take { stream: taking.stream, age_s: needed_s, stops_age_s };
        Some(NodeRequest::send(Destination::Node(from), Payload::Take(take)))
    }

    /// Nobody offers anything.
    fn give_up(&mut self, nodes: &KnownNodes, now_ms: i64) {
        let JoinPhase::Asking(asking) = std::mem::replace(&mut self.phase, JoinPhase::Idle) else {
            return;
        };
        let lack = asking.lack;
        match lack.from {
            Some(target) => {
                if nodes.heard_since(now_ms - ABSENCE_MS).any(|node| node.id == target) {
                    self.retry(lack, now_ms);
                    return;
                }
                if lack.kind != LackKind::Absent {
                    self.retry(Lack { from: None, ..lack }, now_ms);
                }
                self.add(Lack { kind: LackKind::Absent, due_ms: now_ms + REPEAT_MS, ..lack });
            }
            None => {
                let has_peers =
                    |summary: Option<NodeSummary>| summary.is_none_or(|summary| summary.peers > 0);
                // Alone, or among nodes that are as empty: there is nothing to be had.
                if nodes.heard_since(now_ms - SILENCE_MS).any(|node| has_peers(node.summary)) {
                    self.retry(lack, now_ms);
                }
            }
        }
    }

    /// The stream has ended too early.
    fn fail(&mut self, now_ms: i64) -> Option<NodeRequest> {
        let JoinPhase::Taking(taking) = self.phase else { return None };
        self.phase = JoinPhase::Idle;
        self.ended = Some(StreamEnd::Failed);
        self.avoided = Some(taking.from);
        self.retry(taking.lack, now_ms);
        Some(taking.more(true))
    }

    fn finish(&mut self, taking: &Taking, streamer_whole: bool, now_ms: i64) {
        self.phase = JoinPhase::Idle;
        let stops_since_ms = taking.stops_since_ms.max(taking.lack.stops_since_ms);
        self.ended = Some(StreamEnd::Whole {
            from: taking.from,
            took_ms: now_ms - taking.began_ms,
            stops_since_ms: taking.lack.from.is_none().then_some(stops_since_ms),
        });
        self.avoided = None;
        let has = |lack: &Lack| {
            lack.noted_ms < taking.began_ms
                && lack.since_ms >= taking.lack.since_ms
                && lack.stops_since_ms >= taking.lack.stops_since_ms
                && (lack.from == Some(taking.from)
                    || (lack.from.is_none() && taking.lack.from.is_none()))
        };
        self.lacks.retain(|lack| !has(lack));
        self.gaps_from_ms = now_ms + ((now_ms - taking.began_ms) * 4).min(PAUSE_MS_MAX);
        if taking.lack.from.is_none() && !streamer_whole && self.second_looks > 0 {
            self.second_looks -= 1;
            let due_ms = now_ms + SECOND_LOOK_MS;
            let kind = LackKind::SecondLook;
            self.add(Lack { noted_ms: now_ms, due_ms, tries: 0, kind, ..taking.lack });
        }
    }

    /// Puts a lack off.
    fn retry(&mut self, mut lack: Lack, now_ms: i64) {
        lack.tries = lack.tries.saturating_add(1);
        let pause_ms = (250 << lack.tries.min(16)).min(PAUSE_MS_MAX);
        lack.due_ms = now_ms + pause_ms;
        self.add(lack);
    }

    /// Notes a lack, together with what is lacked already from the same node.
    fn add(&mut self, lack: Lack) {
        // There are not many more lacks than nodes: those of forgotten ones are tried soon.
        let has_room = self.lacks.len() <= 2 * CLUSTER_NODES_MAX;
        match self.lacks.iter_mut().find(|known| known.from == lack.from) {
            Some(known) => {
                known.since_ms = known.since_ms.min(lack.since_ms);
                known.stops_since_ms = known.stops_since_ms.min(lack.stops_since_ms);
                known.noted_ms = known.noted_ms.max(lack.noted_ms);
                known.due_ms = known.due_ms.min(lack.due_ms);
                known.kind = known.kind.min(lack.kind);
                known.tries = known.tries.min(lack.tries);
            }
            None if has_room => self.lacks.push(lack),
            None => {}
        }
    }
}

impl Lack {
    fn want(&self, now_ms: i64) -> NodeRequest {
        let want = Want { target: self.from, age_s: age_s(self.since_ms, now_ms) };
        NodeRequest::send(Destination::All, Payload::Want(want))
    }
}

/// Rounded up, and something more, because clocks are compared only roughly.
fn age_s(since_ms: i64, now_ms: i64) -> u32 {
    u32::try_from((now_ms - since_ms) / 1000 + 3).unwrap_or(u32::MAX)
}

impl Taking {
    fn more(&self, over: bool) -> NodeRequest {
        let more = More { stream: self.stream, parts: self.next_part, over };
        NodeRequest::send(Destination::Node(self.from), Payload::More(more))
    }
}

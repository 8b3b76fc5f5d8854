//! The other nodes: which of their frames have come, and how long those took.

use super::frame::{Frame, NodeSummary, Payload};
use super::joining::ALWAYS_MS;
use super::status::NodeSeen;
use super::{NodeId, NodeTime, seconds};
use crate::limits::CLUSTER_NODES_MAX;

/// A node is forgotten after it has been silent for so long.
const FORGET_MS: i64 = 15 * 60 * 1000;

/// A node that is first heard so long after this one began to listen was there already, or is new:
/// each says hello every second.
pub(super) const TURN_UP_MS: i64 = 5000;

/// If there are too many nodes, one that has been silent for so long makes room for a new one.
const SILENT_MS: i64 = 10_000;

/// The smallest difference of two clocks is that of the last one or two of these periods: clocks
/// drift apart by some ten milliseconds in it.
const DIFFERENCE_PERIOD_MS: i64 = 60_000;

/// Frames before the next one of which it is known whether they came.
const WINDOW: u64 = 128;

/// What a frame of records is in the sequence of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SequencePlace {
    /// The next one.
    Next,
    /// A later one: so many have not come.
    AfterGap(u64),
    /// One that had not come.
    Late,
    /// One that came already, or is too old to tell.
    Duplicate,
}

/// Which frames of records of a node have come.
#[derive(Clone, Copy, Debug)]
struct SequenceWindow {
    next: u64,
    /// Bit `n`: whether frame `next - 1 - n` has come.
    came: u128,
}

impl SequenceWindow {
    /// None before `next` is missed.
    fn starting(next: u64) -> SequenceWindow {
        SequenceWindow { next, came: u128::MAX }
    }

    fn place(&mut self, sequence: u64) -> SequencePlace {
        if let Some(skipped) = sequence.checked_sub(self.next) {
            self.skip_to(sequence + 1);
            self.came |= 1;
            return if skipped == 0 {
                SequencePlace::Next
            } else {
                SequencePlace::AfterGap(skipped)
            };
        }
        let back = self.next - 1 - sequence;
        let bit = if back < WINDOW { 1 << back } else { 0 };
        if bit == 0 || self.came & bit != 0 {
            return SequencePlace::Duplicate;
        }
        self.came |= bit;
        SequencePlace::Late
    }

    /// No frame before `next` will come in order any more; returns how many have not.
    fn skip_to(&mut self, next: u64) -> u64 {
        let skipped = next.saturating_sub(self.next);
        if skipped > 0 {
            let shift = u32::try_from(skipped).unwrap_or(u32::MAX);
            self.came = self.came.checked_shl(shift).unwrap_or(0);
            self.next = next;
        }
        skipped
    }
}

/// The smallest difference between this node's clock and another's.
#[derive(Clone, Copy, Debug)]
struct ClockDifference {
    period_began_ms: i64,
    smallest: i64,
    /// Of the period before.
    before: i64,
}

impl ClockDifference {
    fn new(now_ms: i64, difference: i64) -> ClockDifference {
        ClockDifference { period_began_ms: now_ms, smallest: difference, before: difference }
    }

    /// Takes in a difference; returns by how much it exceeds the smallest.
    fn excess(&mut self, now_ms: i64, difference: i64) -> i64 {
        let periods = (now_ms - self.period_began_ms) / DIFFERENCE_PERIOD_MS;
        if periods > 0 {
            self.before = if periods == 1 { self.smallest } else { difference };
            self.smallest = difference;
            self.period_began_ms = now_ms;
        }
        self.smallest = self.smallest.min(difference);
        difference - self.smallest.min(self.before)
    }
}

/// Another node.
#[derive(Clone, Debug)]
pub(super) struct KnownNode {
    pub(super) id: NodeId,
    since_ms: i64,
    pub(super) heard_ms: i64,
    /// Everything that it sent before then has come, or has been asked for.
    pub(super) complete_ms: i64,
    sequence: SequenceWindow,
    difference: ClockDifference,
    pub(super) summary: Option<NodeSummary>,
    records: u64,
    frames_lost: u64,
    delay_ms: i64,
    clock_ahead_ms: i64,
}

/// What a frame tells of its node beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hearing {
    /// Milliseconds that it took beyond the least that frames of its node take.
    pub(super) delay_ms: i64,
    pub(super) place: SequencePlace,
    /// Frames of records skipped since this time have not come.
    pub(super) gap_since_ms: Option<i64>,
}

impl KnownNode {
    fn new(frame: &Frame<'_>, now_ms: i64, next: u64) -> KnownNode {
        KnownNode {
            id: frame.node,
            since_ms: now_ms,
            heard_ms: now_ms,
            complete_ms: now_ms,
            sequence: SequenceWindow::starting(next),
            difference: ClockDifference::new(now_ms, now_ms - frame.sent_ms),
            summary: None,
            records: 0,
            frames_lost: 0,
            delay_ms: 0,
            clock_ahead_ms: 0,
        }
    }

    fn hear(&mut self, frame: &Frame<'_>, now_ms: i64, unix_ms: i64) -> Hearing {
        let delay_ms = self.difference.excess(now_ms, now_ms - frame.sent_ms);
        self.heard_ms = now_ms;
        self.clock_ahead_ms = frame.unix_ms.saturating_sub(unix_ms - delay_ms);
        let place = match frame.payload {
            Payload::Records { count, .. } => {
                self.delay_ms = delay_ms;
                self.records += count;
                self.sequence.place(frame.sequence)
            }
            // Nothing is out of order about other frames, but they tell the sequence so far.
            _ => match self.sequence.skip_to(frame.sequence) {
                0 => SequencePlace::Next,
                skipped => SequencePlace::AfterGap(skipped),
            },
        };
        let before_ms = self.complete_ms;
        if let SequencePlace::Next | SequencePlace::AfterGap(_) = place {
            self.complete_ms = self.complete_ms.max(now_ms - delay_ms);
        }
        let gap_since_ms = match place {
            SequencePlace::AfterGap(skipped) => {
                self.frames_lost = self.frames_lost.saturating_add(skipped);
                Some(before_ms)
            }
            _ => None,
        };
        Hearing { delay_ms, place, gap_since_ms }
    }

    fn seen(&self) -> NodeSeen {
        NodeSeen {
            id: self.id,
            heard_s: seconds(self.heard_ms),
            since_s: seconds(self.since_ms),
            peers: self.summary.map_or(0, |summary| summary.peers),
            whole: self.summary.is_some_and(|summary| summary.whole),
            records: self.records,
            frames_lost: self.frames_lost,
            delay_ms: u32::try_from(self.delay_ms).unwrap_or(u32::MAX),
            clock_ahead_ms: self.clock_ahead_ms,
        }
    }
}

/// The other nodes that were heard, at most [`CLUSTER_NODES_MAX`].
#[derive(Default)]
pub(super) struct KnownNodes {
    /// In the order in which they were first heard.
    nodes: Vec<KnownNode>,
}

impl KnownNodes {
    /// Takes note of a frame. `None` if there are too many nodes.
    ///
    /// `listening_ms` is since when this node has heard everything. Of a node that has started
    /// since then all frames should have come.
    pub(super) fn hear(
        &mut self,
        frame: &Frame<'_>,
        listening_ms: i64,
        now: NodeTime,
    ) -> Option<Hearing> {
        let (now_ms, unix_ms) = (now.ms(), i64::try_from(now.unix_ms).unwrap_or(i64::MAX));
        if let Some(node) = self.nodes.iter_mut().find(|node| node.id == frame.node) {
            return Some(node.hear(frame, now_ms, unix_ms));
        }
        if self.nodes.len() >= CLUSTER_NODES_MAX {
            let (oldest, node) =
                self.nodes.iter().enumerate().min_by_key(|(_, node)| node.heard_ms)?;
            if now_ms - node.heard_ms < SILENT_MS {
                return None;
            }
            self.nodes.remove(oldest);
        }
        let is_young = frame.sent_ms < now_ms - listening_ms;
        let mut node = KnownNode::new(frame, now_ms, if is_young { 0 } else { frame.sequence });
        if is_young {
            node.complete_ms = now_ms - frame.sent_ms;
        }
        let mut hearing = node.hear(frame, now_ms, unix_ms);
        self.nodes.push(node);
        // One that comes back after it was cut off, or forgotten, has gone on alone.
        if !is_young && frame.sequence > 0 && now_ms - listening_ms >= TURN_UP_MS {
            hearing.gap_since_ms = Some(ALWAYS_MS);
        }
        Some(hearing)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut KnownNode> {
        self.nodes.iter_mut().find(|node| node.id == id)
    }

    /// Those that were heard since `since_ms`.
    pub(super) fn heard_since(&self, since_ms: i64) -> impl Iterator<Item = &KnownNode> {
        self.nodes.iter().filter(move |node| node.heard_ms >= since_ms)
    }

    pub(super) fn forget_silent(&mut self, now_ms: i64) {
        self.nodes.retain(|node| now_ms - node.heard_ms < FORGET_MS);
    }

    pub(super) fn seen(&self) -> impl Iterator<Item = NodeSeen> {
        self.nodes.iter().map(KnownNode::seen)
    }
}

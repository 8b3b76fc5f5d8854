//! What operators see of the cluster: counters, the state, the nodes.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::NodeId;
use crate::metrics::counter::{CounterKey, CounterVec, Metric};
use crate::metrics::histogram::Histogram;
use crate::metrics::labels::{FrameLoss, FrameRefusal, RecordOutcome};

/// Written by the publisher's thread only.
#[derive(Default)]
pub struct PublisherCounters {
    /// Frames handed over to be sent, of all kinds.
    pub frames_sent: Metric,
    /// Their bytes.
    pub bytes_sent: Metric,
    /// Records in them.
    pub records_sent: Metric,
    /// Records that were not sent because there was no connection.
    pub records_dropped: Metric,
    /// States streamed to other nodes until they had all.
    pub streams_sent: Metric,
    /// States that other nodes no longer took.
    pub streams_cut: Metric,
    /// States that other nodes took while there were too many already.
    pub streams_refused: Metric,
    /// States that are being streamed: a gauge.
    pub streams: Metric,
}

/// Written by the subscriber's thread only.
#[derive(Default)]
pub struct SubscriberCounters {
    /// Frames of other nodes, with those that were refused.
    pub frames_received: Metric,
    /// Their bytes.
    pub bytes_received: Metric,
    /// Frames that were refused.
    pub frames_refused: CounterVec<FrameRefusal, { FrameRefusal::COUNT }>,
    /// Frames of records out of order.
    pub frames_lost: CounterVec<FrameLoss, { FrameLoss::COUNT }>,
    /// Records of other nodes, by what became of them.
    pub records: CounterVec<RecordOutcome, { RecordOutcome::COUNT }>,
    /// Peers in states that were received, by what became of them; peers that were known already
    /// are not counted.
    pub state_peers: CounterVec<RecordOutcome, { RecordOutcome::COUNT }>,
    /// States received whole.
    pub joins: Metric,
    /// States that ended early.
    pub joins_failed: Metric,
    /// Frames that were to be sent, and requests of other nodes, that found no room.
    pub requests_dropped: Metric,
    /// From the sending of a frame of records to its arrival, beyond the shortest such time of the
    /// last two minutes.
    pub delay: Histogram,
}

/// What is known of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    pub id: NodeId,
    /// When it was last heard, in seconds of [`NodeTime::since_start`](super::NodeTime).
    pub heard_s: u32,
    /// When it was first heard, likewise.
    pub since_s: u32,
    /// Peers in its swarms.
    pub peers: u64,
    /// Whether it says that it lacks nothing.
    pub whole: bool,
    /// Records received from it.
    pub records: u64,
    /// Frames of records that never came from it, or came late.
    pub frames_lost: u64,
    /// The delay of its last frame of records in milliseconds.
    pub delay_ms: u32,
    /// By how many milliseconds its wall clock is ahead of this node's, about.
    pub clock_ahead_ms: i64,
}

/// A state that was received whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinReport {
    pub from: NodeId,
    /// Milliseconds from its first part to its last.
    pub took_ms: i64,
}

/// What the node's threads tell others about the cluster.
#[derive(Default)]
pub struct ClusterStatus {
    pub publisher: PublisherCounters,
    pub subscriber: SubscriberCounters,
    /// Bytes allocated for the memory of stopped peers.
    pub stops_bytes: Metric,
    /// How many seconds back that memory reaches.
    pub stops_reach_s: Metric,
    warmed: AtomicBool,
    whole: AtomicBool,
    /// How often `whole` has changed.
    changes: AtomicU32,
    nodes: Mutex<Vec<NodeSeen>>,
    /// The last one that was not logged yet.
    join: Mutex<Option<JoinReport>>,
}

impl ClusterStatus {
    /// Whether the node should not get clients yet: it has started less than a minute ago and
    /// does not have the others' state.
    pub fn is_warming(&self) -> bool {
        !self.warmed.load(Ordering::Relaxed)
    }

    /// Whether the node has been told everything that it knows it lacks.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    pub(super) fn set_nodes(&self, nodes: impl Iterator<Item = NodeSeen>) {
        let mut seen = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clear();
        seen.extend(nodes);
    }

    pub(super) fn set_state(&self, is_whole: bool, is_warm: bool) {
        if self.whole.swap(is_whole, Ordering::Relaxed) != is_whole {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        self.warmed.fetch_or(is_warm, Ordering::Relaxed);
    }

    /// If the node is whole, a number that is another whenever it becomes whole again.
    pub(super) fn whole_period(&self) -> Option<u32> {
        self.is_whole().then(|| self.changes.load(Ordering::Relaxed))
    }

    pub(super) fn note_join(&self, report: JoinReport) {
        *self.join.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    /// The last state that was received whole, once.
    pub fn take_join(&self) -> Option<JoinReport> {
        self.join.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The other nodes, the one that was heard first at the beginning.
    pub fn nodes(&self) -> Vec<NodeSeen> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! Several trackers with the same swarms: what a node tells the others, and what it makes of what
//! they tell it. Only `link`, which connects it to them, does I/O, reads a clock and starts
//! threads.
//!
//! A node is one process. It has two halves, each for a thread of its own:
//!
//! - [`NodePublisher`] makes frames of the workers' records, says `hello` each second, and streams
//!   the state to nodes that ask for it.
//! - [`NodeSubscriber`] takes the frames of all nodes, applies their records to the swarms, notices
//!   what it has missed, and asks for it.
//!
//! They share the swarms, the memory of stopped peers (`stops.rs`) and [`ClusterStatus`], whose
//! locks are held for microseconds, and a queue of bounded length in which the subscriber leaves
//! what the publisher is to send. Frames are in `frame.rs`, records in `record.rs`;
//! `docs/cluster-protocol.md` is the protocol as a whole.

mod applying;
pub mod frame;
mod joining;
mod link;
mod nodes;
mod publisher;
pub mod record;
mod requests;
#[cfg(test)]
mod simulation;
pub mod status;
mod stops;
mod streams;
mod subscriber;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use annulus_swarm::{InfoHash, Random, SnapshotCursor, Swarms};

use crate::clock::whole_seconds;
use crate::limits::{CLUSTER_REQUESTS_MAX, CLUSTER_STOPS_MAX};
use stops::StopMemory;

pub use link::{
    ClusterLink, ClusterView, LinkParts, LinkStatus, LoadedServers, OutboxSlot, PubSubServers,
    WorkerOutbox, node_time,
};
pub use publisher::NodePublisher;
pub use record::PeerRecord;
pub use status::ClusterStatus;
pub use subscriber::NodeSubscriber;

/// The random number by which the others know a process. A restarted tracker is another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who is to get a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    All,
    Node(NodeId),
}

impl Destination {
    /// The channel to publish to, if `channel` is that of the cluster.
    pub fn channel(self, channel: &str) -> String {
        match self {
            Destination::All => channel.to_owned(),
            Destination::Node(id) => format!("{channel}:{id}"),
        }
    }
}

/// The present time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeTime {
    /// Monotonic, as the workers' time is: the swarms count its seconds.
    pub since_start: Duration,
    /// By the wall clock, in milliseconds since 1970. Nothing depends on it: other nodes show how
    /// far it is off.
    pub unix_ms: u64,
}

impl NodeTime {
    fn ms(self) -> i64 {
        i64::try_from(self.since_start.as_millis()).unwrap_or(i64::MAX)
    }

    fn seconds(self) -> u32 {
        whole_seconds(self.since_start)
    }
}

/// Whole seconds of milliseconds; none of a negative number.
fn seconds(ms: i64) -> u32 {
    u32::try_from(ms.max(0) / 1000).unwrap_or(u32::MAX)
}

/// Takes a frame to publish, at most [`frame::FRAME_BYTES_MAX`] long.
pub type SendFrame<'a> = dyn FnMut(Destination, &[u8]) + 'a;

/// Whether a torrent is served: records and streams obey the access list as announces do.
pub type ServesTorrent<'a> = dyn FnMut(&InfoHash) -> bool + 'a;

/// What a node is made of.
pub struct NodeParts {
    pub swarms: Arc<Swarms>,
    pub id: NodeId,
    /// Of the random delays and choices.
    pub seed: u64,
    /// [`SwarmConfig::peer_timeout_s`](annulus_swarm::SwarmConfig::peer_timeout_s).
    pub peer_timeout_s: u32,
    /// How many seconds ago the state was written that the swarms began with. `None` if they began
    /// empty, or if it was not written by a node that was whole ([`ClusterStatus::is_whole`]).
    pub state_age_s: Option<u32>,
    /// Now.
    pub start: NodeTime,
}

/// Both halves of a node, and what is known of the cluster.
pub struct NodeHalves {
    pub publisher: NodePublisher,
    pub subscriber: NodeSubscriber,
    pub status: Arc<ClusterStatus>,
}

impl NodeHalves {
    pub fn new(parts: NodeParts) -> NodeHalves {
        let (requests, receiver) = mpsc::sync_channel(CLUSTER_REQUESTS_MAX);
        // As long as a peer can live after its last announce (`SwarmConfig::peer_timeout_s`).
        let life_ms = i64::from(parts.peer_timeout_s) * 1350 + 10_000;
        let status = Arc::new(ClusterStatus::default());
        let shared = Arc::new(SharedNode {
            swarms: parts.swarms,
            id: parts.id,
            life_ms,
            status: Arc::clone(&status),
            stops: Mutex::new(StopMemory::new(CLUSTER_STOPS_MAX, life_ms, parts.start.ms())),
            taken_ms: AtomicI64::new(i64::MIN),
        });
        let mut random = Random::seeded(parts.seed);
        let mut fork = || Random::seeded(random.bits());
        let beginning = (parts.start, parts.state_age_s);
        NodeHalves {
            publisher: NodePublisher::new(Arc::clone(&shared), receiver, fork()),
            subscriber: NodeSubscriber::new(shared, requests, fork(), beginning),
            status,
        }
    }
}

/// Records that are looked up in the memory of stops under one lock.
const CHUNK_RECORDS: usize = 64;

/// The longest time from an announce to the remembering of its record, if its worker is slow.
const HANDOVER_MS: i64 = 5000;

/// What both halves use.
struct SharedNode {
    swarms: Arc<Swarms>,
    id: NodeId,
    /// A peer lives no longer after its last announce.
    life_ms: i64,
    status: Arc<ClusterStatus>,
    stops: Mutex<StopMemory>,
    /// When a part of a stream was applied last, in milliseconds since the start.
    taken_ms: AtomicI64,
}

impl SharedNode {
    /// Locks the memory of stops. No other lock may be taken meanwhile.
    fn stops(&self) -> MutexGuard<'_, StopMemory> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part of a stream has been applied.
    fn note_taken(&self, now: NodeTime) {
        self.taken_ms.store(now.ms(), Ordering::Relaxed);
    }

    /// Whether a stream may have brought back a peer whose stop a worker has processed, but not
    /// handed over yet.
    fn has_taken(&self, now: NodeTime) -> bool {
        now.ms().saturating_sub(self.taken_ms.load(Ordering::Relaxed)) < HANDOVER_MS
    }

    /// A walk over the peers that announced since a time, and some more: those that came by a
    /// stream seem to be older by up to a tick.
    fn cursor_since(&self, since_ms: i64, now_ms: i64) -> SnapshotCursor {
        let age_ms = now_ms - since_ms + 2 * i64::from(self.swarms.tick_s()) * 1000;
        match u32::try_from(age_ms / 1000 + 1) {
            Ok(age_s) if age_ms < self.life_ms => SnapshotCursor::since(age_s),
            _ => SnapshotCursor::default(),
        }
    }

    /// Counts a frame that the publisher sends.
    fn count_sent(&self, frame: &[u8]) {
        self.status.publisher.frames_sent.add(1);
        self.status.publisher.bytes_sent.add(frame.len() as u64);
    }
}

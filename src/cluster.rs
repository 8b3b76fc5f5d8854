//! Several trackers with the same swarms: what a node tells the others, and what it makes of what
//! they tell it. Only `link`, which connects it to them, does I/O, reads a clock and starts threads.
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

pub mod frame;
mod link;
mod publisher;
pub mod record;
pub mod status;
mod subscriber;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use annulus_swarm::Swarms;

pub use link::{
    ClusterLink, LinkParts, LinkStatus, LoadedServers, OutboxSlot, PubSubServers, WorkerOutbox,
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

/// Takes a frame to publish, at most [`frame::FRAME_BYTES_MAX`] long.
pub type SendFrame<'a> = dyn FnMut(Destination, &[u8]) + 'a;

/// Whether a torrent is served: records and streams obey the access list as announces do.
pub type ServesTorrent<'a> = dyn FnMut(&annulus_swarm::InfoHash) -> bool + 'a;

/// What a node is made of.
pub struct NodeParts {
    pub swarms: Arc<Swarms>,
    pub id: NodeId,
    /// Of the random delays and choices.
    pub seed: u64,
    /// [`SwarmConfig::peer_timeout_s`](annulus_swarm::SwarmConfig::peer_timeout_s).
    pub peer_timeout_s: u32,
    /// How many seconds ago the state was written that the swarms began with. `None` if they began
    /// empty.
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
    pub fn new(_parts: NodeParts) -> NodeHalves {
        NodeHalves {
            publisher: NodePublisher {},
            subscriber: NodeSubscriber {},
            status: Arc::default(),
        }
    }
}

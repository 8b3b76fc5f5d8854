//! What the subscriber asks the publisher to do.

use super::frame::{More, Payload, Take};
use super::{Destination, NodeId};

/// It waits in a queue of [`CLUSTER_REQUESTS_MAX`](crate::limits::CLUSTER_REQUESTS_MAX).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeRequest {
    /// Send this.
    Send { to: Destination, payload: Payload<'static> },
    /// Offer the state to a node, at that time.
    Offer { to: NodeId, due_ms: i64 },
    /// A node has taken the offer. It was sent at `sent_ms` of this node's clock, or before.
    Stream { to: NodeId, take: Take, sent_ms: i64 },
    /// A node has got parts of a stream.
    More { from: NodeId, more: More },
}

impl NodeRequest {
    pub(super) fn send(to: Destination, payload: Payload<'static>) -> NodeRequest {
        NodeRequest::Send { to, payload }
    }
}

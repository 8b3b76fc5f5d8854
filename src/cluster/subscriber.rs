//! The half of a node that listens.

use super::{NodeTime, ServesTorrent};

/// Takes the frames that a node receives. One thread owns it.
pub struct NodeSubscriber {}

impl NodeSubscriber {
    /// The node hears both channels: [`Destination::All`](super::Destination) and its own. It asks
    /// for what it lacks.
    pub fn on_subscribed(&mut self, _now: NodeTime) {}

    /// The node hears nothing any more.
    pub fn on_disconnected(&mut self, _now: NodeTime) {}

    /// Takes a frame as it came, which may be anything. Returns whether it is one of this node's
    /// own, which shows that the connection works.
    pub fn receive(
        &mut self,
        _frame: &[u8],
        _now: NodeTime,
        _serves: &mut ServesTorrent<'_>,
    ) -> bool {
        false
    }

    /// Does what is due. Call it at least every 100 ms, subscribed or not.
    pub fn tick(&mut self, _now: NodeTime) {}
}

//! The half of a node that speaks.

use super::{NodeTime, SendFrame};

/// Makes the frames that a node sends. One thread owns it.
pub struct NodePublisher {}

impl NodePublisher {
    /// There is a connection: frames reach the others from now on.
    pub fn on_connected(&mut self) {}

    /// There is none: records use up sequence numbers, so that the others notice, and are dropped.
    pub fn on_disconnected(&mut self) {}

    /// Takes a worker's buffer of records. Frames that are full are sent; the rest waits for more,
    /// or for [`NodePublisher::flush`].
    pub fn add_records(&mut self, _records: &[u8], _now: NodeTime, _send: &mut SendFrame<'_>) {}

    /// Sends the records that wait, if there are any.
    pub fn flush(&mut self, _now: NodeTime, _send: &mut SendFrame<'_>) {}

    /// Workers have dropped records for lack of room: the others will ask for what they lack.
    pub fn note_dropped(&mut self) {}

    /// Sends what else is due: `hello` each second, what the subscriber has left, and one frame of
    /// a stream. Returns whether there is more to send at once. Call it at least every 50 ms.
    pub fn step(&mut self, _now: NodeTime, _send: &mut SendFrame<'_>) -> bool {
        false
    }
}

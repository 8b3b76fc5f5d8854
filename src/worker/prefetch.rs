//! Looking ahead at the requests of a turn, so that the memory that they need from the swarms is
//! fetched for many at once.

use annulus_ring::{Event, Ring};

use super::Worker;

impl<R: Ring> Worker<R> {
    /// Looks at events that come next, if it pays. Neither what they are answered nor their order
    /// depends on it.
    pub(super) fn look_ahead(&mut self, coming: &[Event]) {
        if coming.len() < 2 || !self.server.has_peers(self.config.prefetch_peers_min) {
            return;
        }
        for event in coming {
            match event {
                Event::Datagram(datagram) if !datagram.is_truncated() => {
                    if let Some(from) = datagram.from() {
                        self.server.expect_datagram(from, datagram.payload());
                    }
                }
                Event::Received { key, buffer, .. } => {
                    if let Some(slot) = self.slots.get_mut(*key) {
                        self.server.expect_plaintext(slot.connection.peer(), buffer);
                    }
                }
                _ => {}
            }
        }
        self.server.prefetch();
    }
}

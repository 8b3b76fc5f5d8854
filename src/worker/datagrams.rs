//! Datagrams: each is a request by itself, answered at once from the address that it was sent to.

use annulus_ring::{Datagram, DatagramIndex, Ring};

use super::Worker;
use crate::metrics::labels::DatagramDrop;

impl<R: Ring> Worker<R> {
    /// Starts to receive on all sockets.
    pub(super) fn receive_datagrams(&mut self) {
        for socket in 0..self.config.datagram_sockets {
            self.ring.receive_datagrams(socket);
        }
        self.datagram_sockets_open = self.config.datagram_sockets;
    }

    pub(super) fn on_datagram(&mut self, datagram: &Datagram) {
        let request = datagram.payload();
        self.counters.bytes_received.add(request.len() as u64);
        let out = self.ring.datagram_buffer();
        let answered = match datagram.from() {
            _ if datagram.is_truncated() => Err(DatagramDrop::Truncated),
            None => Err(DatagramDrop::Source),
            Some(from) => self.server.answer_datagram(from, request, out),
        };
        match answered {
            Ok(len) => {
                self.counters.bytes_sent.add(len as u64);
                self.ring.send_datagram(datagram, len);
            }
            Err(drop) => self.counters.datagrams_dropped.add(drop),
        }
    }

    pub(super) fn on_datagram_unsent(&self) {
        self.counters.datagrams_dropped.add(DatagramDrop::Unsent);
    }

    /// For a shutdown: what has arrived by now is answered.
    pub(super) fn finish_datagrams(&mut self) {
        for socket in 0..self.config.datagram_sockets {
            self.ring.finish_datagrams(socket);
        }
    }

    pub(super) fn on_datagrams_finished(&mut self, _socket: DatagramIndex) {
        self.datagram_sockets_open -= 1;
    }
}

//! Closing connections, such that no response is lost and no slot is freed too early.

use std::net::Shutdown;

use annulus_ring::{Key, RecvMode, Ring, Socket, Unsent};

use super::Worker;
use super::eviction_lists::EvictionList;
use super::slot::Phase;
use crate::connection::{Action, Progress, RequestError};
use crate::limits::{LINGER_S, UNACKED_AT_CLOSE_MAX};
use crate::tls::HandshakeState;

impl<R: Ring> Worker<R> {
    /// Sends the last response of a connection, and closes it if the response goes out whole.
    pub(super) fn send_and_close(&mut self, key: Key, written: usize) {
        let socket = self.slots[key].take_socket();
        match self.ring.send_and_close(socket, written) {
            Ok(()) => {
                let _given_to_the_ring = self.remove(key);
            }
            Err(Unsent { socket, rest }) => {
                let slot = &mut self.slots[key];
                slot.socket = socket;
                slot.phase = Phase::Flushing;
                self.on_send_incomplete(key, rest);
            }
        }
    }

    /// Shuts down our side after the last response, and receives what the client may still send:
    /// otherwise the kernel answers that with RST, which can destroy the response (RFC 9112
    /// section 9.6).
    pub(super) fn linger(&mut self, key: Key) {
        let slot = &mut self.slots[key];
        slot.phase = Phase::Lingering;
        self.ring.shutdown(&slot.socket, Shutdown::Write);
        self.eviction.lists.append(key.slot(), EvictionList::Lingering);
        self.track_progress(key, LINGER_S);
        self.receive(key, RecvMode::Multishot);
    }

    /// Closes a connection, now or when its last operation in the kernel ends.
    pub(super) fn close(&mut self, key: Key, reset: bool) {
        self.slots[key].phase = Phase::Closing { reset };
        self.end_stream(key);
        self.drop_buffered(key);
        let slot = &self.slots[key];
        if slot.recv_pending || slot.send_pending {
            self.ring.shutdown(&slot.socket, Shutdown::Both);
            self.set_deadline(key, LINGER_S);
        } else {
            self.close_if_idle(key);
        }
    }

    /// Closes a connection in [`Phase::Closing`] if nothing of it is in the kernel.
    pub(super) fn close_if_idle(&mut self, key: Key) {
        let slot = &self.slots[key];
        let Phase::Closing { reset } = slot.phase else { return };
        if slot.recv_pending || slot.send_pending {
            return;
        }
        let socket = self.remove(key);
        if reset {
            self.ring.reset(socket);
        } else {
            self.ring.close(socket);
        }
    }

    /// Removes a connection, whose socket the caller closes.
    fn remove(&mut self, key: Key) -> Socket {
        self.end_stream(key);
        let slot = self.slots.remove(key);
        self.buffered_bytes -= slot.buffered_bytes();
        if slot.connection.handshake() == Some(HandshakeState::InProgress) {
            self.counters.handshakes_failed.add(1);
        }
        self.timers.remove(key.slot());
        self.eviction.on_removed(key.slot(), slot.evicted);
        self.listeners.on_connection_closed();
        self.server.release(slot.connection.into_permit());
        slot.socket
    }

    /// Closes a connection whose client has closed its side, with an error for a request that it
    /// left unfinished.
    pub(super) fn finish_after_eof(&mut self, key: Key) {
        let is_acked = self.is_nearly_acked(key);
        let written = self.write_last(key, Some(RequestError::Truncated));
        self.finish(key, written, is_acked);
    }

    /// Closes a connection whose client is out of time, with an error for an unfinished request.
    pub(super) fn abort(&mut self, key: Key) {
        match self.write_last(key, Some(RequestError::Timeout)) {
            0 => self.close(key, false),
            written => {
                let next = Action::Close { unread: true };
                self.apply(key, Progress { written, next });
            }
        }
    }

    /// Closes an idle connection, after the ring has returned what it may have received.
    pub(super) fn close_when_received(&mut self, key: Key) {
        let slot = &self.slots[key];
        if slot.recv_pending {
            // When the receive has ended, `resume` goes on.
            self.ring.cancel_recv(key);
        } else if !slot.scheduled {
            self.close_idle(key);
        }
    }

    /// Closes an idle connection, unless it has sent more. No receive may be pending.
    fn close_idle(&mut self, key: Key) {
        if self.ring.unread_bytes(&self.slots[key].socket) > 0 {
            return self.receive(key, RecvMode::Immediate);
        }
        let is_acked = self.is_nearly_acked(key);
        let written = self.write_last(key, None);
        self.finish(key, written, is_acked);
    }

    /// Writes what a connection ends with: close_notify, and before it an `error` for an unfinished
    /// request.
    fn write_last(&mut self, key: Key, error: Option<RequestError>) -> usize {
        let out = self.ring.send_buffer();
        let slot = &mut self.slots[key];
        let before = slot.buffered_bytes();
        let written = match error {
            Some(error) => {
                slot.connection.abort(error, &mut self.server, &mut self.tls_buffers, out)
            }
            None => slot.connection.close_notify(out),
        };
        self.update_buffered(key, before);
        written
    }

    fn finish(&mut self, key: Key, written: usize, is_acked: bool) {
        if !is_acked {
            self.apply(key, Progress { written, next: Action::Close { unread: true } });
        } else if written > 0 && !self.slots[key].recv_pending {
            self.counters.bytes_sent.add(written as u64);
            self.send_and_close(key, written);
        } else {
            self.close(key, false);
        }
    }

    /// Whether so few bytes of a connection are not acknowledged that closing it loses none.
    pub(super) fn is_nearly_acked(&self, key: Key) -> bool {
        let slot = &self.slots[key];
        slot.sent_turn == 0 || self.ring.unsent_bytes(key, &slot.socket) <= UNACKED_AT_CLOSE_MAX
    }
}

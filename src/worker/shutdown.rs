//! The end of a worker: every request that has arrived is answered, as far as there is time.

use annulus_ring::{Key, Ring};

use super::Worker;
use super::slot::Phase;
use super::timeouts::{ONLY_FIN, waits_for};
use crate::limits::{LINGER_S, SHUTDOWN_ERRORS_S};
use crate::metrics::labels::WaitingFor;

impl<R: Ring> Worker<R> {
    /// Accepts no more. Every connection closes with the response to the last request that has
    /// arrived by now, those between two requests at once.
    pub(super) fn begin_shutdown(&mut self) {
        self.shutdown_at_s = Some(self.now_s.saturating_add(self.config.shutdown_s));
        self.listeners.drain(&mut self.ring);
        self.finish_datagrams();
        self.slots.keys().into_iter().for_each(|key| self.note_unread(key));
        self.close_all_idle();
    }

    /// Notes how much of a client has arrived and is not received.
    pub(super) fn note_unread(&mut self, key: Key) {
        let slot = &mut self.slots[key];
        if slot.phase == Phase::Serving {
            let unread = self.ring.unread_bytes(&slot.socket);
            slot.unread_at_stop = u32::try_from(unread).unwrap_or(u32::MAX);
        }
    }

    /// Goes on with a shutdown, once a second.
    pub(super) fn continue_shutdown(&mut self) {
        match self.shutdown_at_s {
            None => {}
            Some(_) if !self.is_shutdown_overdue() => self.close_all_idle(),
            Some(at_s) => self.close_all(self.now_s - at_s < SHUTDOWN_ERRORS_S),
        }
    }

    pub(super) fn is_shutdown_overdue(&self) -> bool {
        self.shutdown_at_s.is_some_and(|at_s| self.now_s >= at_s)
    }

    /// Closes every connection. If there is time for `errors`, clients in the middle of a request
    /// get one. The kernel goes on to send what it has; a full scrape is reset, for its end would
    /// look like that of a whole one.
    fn close_all(&mut self, errors: bool) {
        for key in self.slots.keys() {
            let slot = &self.slots[key];
            match slot.phase {
                Phase::Serving if errors && !slot.send_pending => self.expire(key),
                Phase::Streaming | Phase::Closing { .. } => self.close(key, true),
                _ => self.close(key, false),
            }
        }
    }

    /// Closes the connections that wait between two requests, except those whose last response may
    /// yet prove short, and the lingering ones whose clients have everything.
    fn close_all_idle(&mut self) {
        for key in self.slots.keys() {
            let slot = &self.slots[key];
            if slot.sent_turn != self.turn && self.may_close_idle(key) {
                self.close_when_received(key);
            } else if slot.phase == Phase::Lingering
                && self.unsent_bytes(key) <= ONLY_FIN
                && self.ring.unread_bytes(&slot.socket) == 0
            {
                self.close(key, false);
            }
        }
    }

    /// Whether a connection is idle and may be closed for it, by a shutdown or to make room. At a
    /// shutdown a new client has a moment to send its first request.
    pub(super) fn may_close_idle(&self, key: Key) -> bool {
        let slot = &self.slots[key];
        if slot.evicted {
            return slot.is_idle();
        }
        let Some(at_s) = self.shutdown_at_s else { return false };
        let connection = &slot.connection;
        let began_s = at_s.saturating_sub(self.config.shutdown_s);
        let timeouts = &self.config.timeouts;
        let allowed_s = match waits_for(connection) {
            WaitingFor::Handshake => timeouts.handshake_s,
            _ => timeouts.header_s,
        };
        let waits_since_s = connection.deadline_s().saturating_sub(allowed_s);
        let has_had_time = connection.has_answered()
            || self.now_s >= began_s.min(waits_since_s).saturating_add(LINGER_S);
        slot.is_idle() && has_had_time
    }
}

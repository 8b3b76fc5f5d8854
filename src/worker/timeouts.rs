//! Deadlines of connections: for their clients to send, and to acknowledge what they are sent.
//!
//! While a response waits for its client, its deadline moves as long as bytes are acknowledged.
//! The kernel is asked for that ([`Ring::unsent_bytes`]) once a second, and only about connections
//! whose responses have not gone out whole, or that linger.

use std::mem;

use annulus_ring::{Key, Ring};

use super::Worker;
use super::slot::{Phase, UNSENT_UNKNOWN};
use crate::connection::{Connection, deadline_after};
use crate::limits::{DEADLINES_PER_TURN_MAX, LINGER_S, PROGRESS_CHECK_S, SEND_BYTES_PER_S_MIN};
use crate::metrics::labels::WaitingFor;
use crate::tls::HandshakeState;

/// What is left at most when all responses are acknowledged: the FIN counts as one byte.
pub(super) const ONLY_FIN: u32 = 1;

impl<R: Ring> Worker<R> {
    pub(super) fn set_deadline(&mut self, key: Key, after_s: u32) {
        let slot = &mut self.slots[key];
        slot.deadline_s = deadline_after(self.now_s, after_s);
        self.timers.set(key.slot(), slot.deadline_s);
    }

    /// Once a second.
    pub(super) fn on_tick(&mut self) {
        self.timers.advance(self.now_s, &mut self.due);
        self.sweeping = true;
        self.listeners.accept_all(&mut self.ring);
        self.continue_shutdown();
    }

    /// Looks at connections whose timer is over.
    pub(super) fn check_deadlines(&mut self) {
        for _ in 0..DEADLINES_PER_TURN_MAX {
            let Some(index) = self.due.pop() else { break };
            let Some((key, slot)) = self.slots.at(index) else { continue };
            if slot.tracks_progress() {
                self.check_progress(key);
            } else if slot.deadline_s > self.now_s {
                self.timers.set(index, slot.deadline_s);
            } else {
                self.expire(key);
            }
        }
    }

    /// The deadline of a connection is over.
    pub(super) fn expire(&mut self, key: Key) {
        let turn = self.turn;
        let slot = &mut self.slots[key];
        match slot.phase {
            Phase::Serving if slot.scheduled || slot.sent_turn == turn => {
                self.set_deadline(key, 1);
            }
            // Fewer bytes than wake the worker may have come: they are received now.
            Phase::Serving if slot.rcvlowat > 1 => {
                let soon_s = self.now_s.saturating_add(1);
                slot.rcvlowat = 1;
                self.ring.set_rcvlowat(&slot.socket, 1);
                slot.deadline_s = slot.connection.deadline_s().max(soon_s);
                self.timers.set(key.slot(), slot.deadline_s);
            }
            Phase::Serving if !slot.send_pending => {
                let waits_for = waits_for(&slot.connection);
                let may_extend = waits_for == WaitingFor::Idle && !self.is_shutdown_overdue();
                if !(may_extend && self.extend_while_reading(key)) {
                    self.counters.timeouts.add(waits_for);
                    self.abort(key);
                }
            }
            // It is in a queue.
            Phase::Streaming | Phase::Flushing if !slot.send_pending => self.set_deadline(key, 1),
            Phase::Lingering if slot.unsent_bytes <= ONLY_FIN => self.close(key, false),
            phase => {
                if !matches!(phase, Phase::Closing { .. }) {
                    self.counters.timeouts.add(WaitingFor::Send);
                }
                self.close(key, true);
            }
        }
    }

    /// Extends the time of an idle client that was still reading the last response: its idle time
    /// begins when it has everything. A client that reads nothing is reset. Whether either was
    /// done.
    fn extend_while_reading(&mut self, key: Key) -> bool {
        let unsent = self.unsent_bytes(key);
        let before = mem::replace(&mut self.slots[key].unsent_bytes, unsent);
        match before {
            UNSENT_UNKNOWN if unsent == 0 => return false,
            _ if unsent == 0 => {
                self.slots[key].unsent_bytes = UNSENT_UNKNOWN;
                self.set_deadline(key, self.config.timeouts.idle_s);
            }
            _ if before == UNSENT_UNKNOWN || self.has_progressed(before, unsent) => {
                self.set_deadline(key, self.config.send_s);
            }
            _ => {
                self.counters.timeouts.add(WaitingFor::Send);
                self.close(key, true);
            }
        }
        true
    }

    /// Gives a client `after_s` seconds to acknowledge what it was sent, extended as it does.
    pub(super) fn track_progress(&mut self, key: Key, after_s: u32) {
        self.slots[key].unsent_bytes = UNSENT_UNKNOWN;
        self.set_deadline(key, after_s);
        self.timers.set(key.slot(), self.now_s.saturating_add(PROGRESS_CHECK_S));
    }

    /// Bytes that a client has not acknowledged.
    pub(super) fn unsent_bytes(&self, key: Key) -> u32 {
        let unsent = self.ring.unsent_bytes(key, &self.slots[key].socket);
        u32::try_from(unsent).unwrap_or(UNSENT_UNKNOWN).min(UNSENT_UNKNOWN - 1)
    }

    /// Whether enough was acknowledged since the last look.
    fn has_progressed(&self, before: u32, unsent: u32) -> bool {
        let least = self.config.send_s.saturating_mul(SEND_BYTES_PER_S_MIN);
        before.saturating_sub(unsent) >= least
    }

    /// Extends the deadline of a connection whose client acknowledges what it was sent, and
    /// expires it otherwise.
    fn check_progress(&mut self, key: Key) {
        let (now_s, send_s) = (self.now_s, self.config.send_s);
        let unsent = self.unsent_bytes(key);
        let before = self.slots[key].unsent_bytes;
        let all = unsent <= ONLY_FIN;
        let progressed = (all && before > ONLY_FIN) || self.has_progressed(before, unsent);
        let slot = &mut self.slots[key];
        if all && slot.peer_closed && slot.phase == Phase::Lingering {
            return self.close(key, false);
        }
        if before == UNSENT_UNKNOWN {
            slot.unsent_bytes = unsent;
            if !all {
                slot.deadline_s = slot.deadline_s.max(now_s.saturating_add(send_s));
            }
        } else if progressed {
            slot.unsent_bytes = unsent;
            slot.deadline_s = deadline_after(now_s, if all { LINGER_S } else { send_s });
        }
        if slot.deadline_s > now_s {
            self.timers.set(key.slot(), now_s.saturating_add(PROGRESS_CHECK_S));
        } else {
            self.expire(key);
        }
    }
}

/// What a connection waits for from its client, if not for it to read.
pub(super) fn waits_for(connection: &Connection) -> WaitingFor {
    if connection.handshake() == Some(HandshakeState::InProgress) {
        WaitingFor::Handshake
    } else if connection.has_answered() && connection.pending_bytes() == 0 {
        WaitingFor::Idle
    } else {
        WaitingFor::Header
    }
}

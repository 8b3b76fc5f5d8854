//! Whether clients take what they are sent: the deadline of an answer moves as long as they do.
//!
//! The kernel says what is left ([`Ring::unsent_bytes`]). It is asked once a second, and only about
//! connections whose answers have not gone out whole or that linger.

use annulus_ring::{Key, Ring};

use super::Worker;
use super::slot::Phase;
use crate::connection::deadline_after;
use crate::limits::{LINGER_S, PROGRESS_LOOK_S, SEND_BYTES_PER_S_MIN};

/// No look was taken yet.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// What is left when all answers are acknowledged, but the FIN may not be.
pub(super) const ONLY_FIN: u32 = 1;

impl<R: Ring> Worker<R> {
    /// Gives a client time to take what it was sent, from now on and whenever it takes some.
    pub(super) fn watch(&mut self, key: Key, after_s: u32) {
        self.slots[key.slot() as usize].unsent = UNKNOWN;
        self.set_deadline(key, after_s);
        self.wheel.set(key.slot(), self.now_s.saturating_add(PROGRESS_LOOK_S));
    }

    /// Bytes that a client has not taken yet.
    pub(super) fn unsent(&self, key: Key) -> u32 {
        let slot = &self.slots[key.slot() as usize];
        let unsent = self.ring.unsent_bytes(key, &slot.socket);
        u32::try_from(unsent).unwrap_or(UNKNOWN).min(UNKNOWN - 1)
    }

    /// Whether what is left now is enough less than at the last look.
    pub(super) fn has_progressed(&self, before: u32, unsent: u32) -> bool {
        let least = self.settings.send_s.saturating_mul(SEND_BYTES_PER_S_MIN);
        before.saturating_sub(unsent) >= least
    }

    /// Looks how far a client has come with what it was sent; it is over if that is nowhere.
    pub(super) fn look(&mut self, key: Key) {
        let (now_s, send_s) = (self.now_s, self.settings.send_s);
        let unsent = self.unsent(key);
        let before = self.slots[key.slot() as usize].unsent;
        let all = unsent <= ONLY_FIN;
        let progressed = (all && before > ONLY_FIN) || self.has_progressed(before, unsent);
        let slot = &mut self.slots[key.slot() as usize];
        if all && slot.ended && slot.phase == Phase::Lingering {
            return self.end(key, false);
        }
        if before == UNKNOWN {
            slot.unsent = unsent;
            if !all {
                slot.deadline_s = slot.deadline_s.max(now_s.saturating_add(send_s));
            }
        } else if progressed {
            slot.unsent = unsent;
            slot.deadline_s = deadline_after(now_s, if all { LINGER_S } else { send_s });
        }
        if slot.deadline_s > now_s {
            self.wheel.set(key.slot(), now_s.saturating_add(PROGRESS_LOOK_S));
        } else {
            self.expire(key);
        }
    }
}

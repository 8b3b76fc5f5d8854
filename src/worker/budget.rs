//! What one turn of the loop may do: of everything that clients can have it do there is a bound,
//! and what is beyond it waits for the next turn, in the order in which it came.

use annulus_ring::{Event, Ring};

use super::Worker;
use crate::limits::{
    DEADLINES_PER_TURN_MAX, EVENTS_SORTED_MIN, HANDSHAKES_PER_TURN_MAX, REQUESTS_PER_TURN_MAX,
};

impl<R: Ring> Worker<R> {
    /// Whether as many requests were answered in this turn as may be.
    pub(super) fn has_no_time(&self) -> bool {
        self.server.answered().wrapping_sub(self.answered_before) >= REQUESTS_PER_TURN_MAX
    }

    /// Whether the costly steps of handshakes have to wait: others do, or there were enough.
    pub(super) fn has_no_time_for_handshakes(&self) -> bool {
        self.handshakes >= HANDSHAKES_PER_TURN_MAX || !self.handshake_queue.is_empty()
    }

    /// Goes on with the connections that could not in the last turn.
    pub(super) fn go_on_with_queued(&mut self) {
        // Those that are queued anew have had their share of this turn.
        for _ in 0..self.queue.len() {
            if self.has_no_time() {
                break;
            }
            let Some(key) = self.queue.pop_front() else { break };
            if let Some(slot) = self.slot(key) {
                slot.queued = false;
                self.go_on(key);
            }
        }
    }

    /// Goes on with handshakes, the longest waiting first. Some do in every turn: requests can use
    /// up one turn after the other.
    pub(super) fn shake_hands(&mut self) {
        for gone_on in 0..self.handshake_queue.len() {
            let has_had_share = gone_on >= HANDSHAKES_PER_TURN_MAX as usize;
            if self.handshakes >= HANDSHAKES_PER_TURN_MAX || has_had_share && self.has_no_time() {
                break;
            }
            let Some(key) = self.handshake_queue.pop_front() else { break };
            if let Some(slot) = self.slot(key) {
                slot.queued = false;
                self.go_on(key);
            }
        }
    }

    /// Has the events of new connections come after those of connections that have been answered:
    /// these are few, and have waited while the new ones were accepted.
    pub(super) fn sort_newcomers_last(&mut self, events: &mut Vec<Event>) {
        if events.len() < EVENTS_SORTED_MIN {
            return;
        }
        let mut late = std::mem::take(&mut self.late_events);
        let is_late = |event: &mut Event| match event {
            Event::Received { key, .. } | Event::RecvEnded { key, .. } => {
                self.slot(*key).is_some_and(|slot| !slot.connection.has_answered())
            }
            Event::Accepted { .. } | Event::AcceptEnded { .. } => true,
            _ => false,
        };
        late.extend(events.extract_if(.., is_late));
        events.append(&mut late);
        self.late_events = late;
    }

    /// Sees to the connections whose time may be over.
    pub(super) fn look_at_deadlines(&mut self) {
        for _ in 0..DEADLINES_PER_TURN_MAX {
            let Some(index) = self.due.pop() else { break };
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let key = slot.key(index as usize);
            if slot.is_watched() {
                self.look(key);
            } else if slot.deadline_s > self.now_s {
                self.wheel.set(index, slot.deadline_s);
            } else {
                self.expire(key);
            }
        }
    }
}

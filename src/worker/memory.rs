//! What connections hold of the process's memory, and what becomes of them when it is too much.
//!
//! Counted is what is allocated for bytes that a connection has sent and that are not answered
//! yet, be it an unfinished head or record or requests that wait, and for the rest of an answer
//! that it does not read. A connection with none of that holds nothing.

use std::cmp::Reverse;

use annulus_ring::{Key, Ring};

use super::Worker;
use super::slot::Phase;
use crate::limits::{BUFFERED_BYTES_AFTER, BUFFERED_BYTES_MAX};
use crate::metrics::labels::Rejection;

impl<R: Ring> Worker<R> {
    /// Counts what a connection holds now, and no more what it held `before`.
    pub(super) fn recount(&mut self, key: Key, before: usize) {
        let held = self.slots[key.slot() as usize].held_bytes();
        self.kept = self.kept + held - before;
    }

    /// Has an ending connection hold no more than it must: what is still being sent is freed as
    /// soon as the kernel lets go of it.
    pub(super) fn forget(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        self.kept -= slot.held_bytes();
        slot.connection.forget_pending();
        slot.owned = 0;
    }

    /// Where all together hold too much, resets those that hold most. Others, whose request or
    /// record has only come in pieces, are never reached unless most of them hold as much.
    pub(super) fn reset_largest(&mut self) {
        if self.kept <= BUFFERED_BYTES_MAX {
            return;
        }
        let largest = |slot: &super::Slot| {
            // Of long answers there are few at a time, and the bound is theirs.
            let over = matches!(slot.phase, Phase::Streaming | Phase::Ending { .. });
            if over { 0 } else { slot.held_bytes() }
        };
        let holders = self.slots.iter().map(|(at, slot)| (largest(slot), slot.key(at)));
        let mut holders: Vec<(usize, Key)> = holders.filter(|&(held, _)| held > 0).collect();
        holders.sort_unstable_by_key(|&(held, _)| Reverse(held));
        let mut count = 0;
        for (_, key) in holders {
            if self.kept <= BUFFERED_BYTES_AFTER {
                break;
            }
            count += 1;
            self.counters.rejected.add(Rejection::Unread);
            self.end(key, true);
        }
        self.held_too_much.warning(
            self.now_s,
            format_args!(
                "connections hold more than {} MiB of unfinished or unanswered requests and of \
                 answers that they do not read: {count} that hold most are reset",
                BUFFERED_BYTES_MAX >> 20
            ),
        );
    }
}

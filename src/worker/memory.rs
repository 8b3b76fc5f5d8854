//! The bound of what connections hold of the process's memory: bytes allocated for requests that
//! are unfinished or not answered yet, and for responses that clients do not read.

use std::cmp::Reverse;

use annulus_ring::{Key, Ring};

use super::Worker;
use super::slot::{Phase, Slot};
use crate::limits::{BUFFERED_BYTES_AFTER, BUFFERED_BYTES_MAX};
use crate::metrics::labels::Rejection;

impl<R: Ring> Worker<R> {
    /// Counts what a connection holds now, in place of what it held `before`.
    pub(super) fn update_buffered(&mut self, key: Key, before: usize) {
        self.buffered_bytes = self.buffered_bytes + self.slots[key].buffered_bytes() - before;
    }

    /// Frees what a connection holds, for nothing more of it is answered. An owned send is freed
    /// when the kernel returns it.
    pub(super) fn drop_buffered(&mut self, key: Key) {
        let slot = &mut self.slots[key];
        self.buffered_bytes -= slot.buffered_bytes();
        slot.connection.forget_pending();
        slot.owned_bytes = 0;
    }

    /// If all connections together hold too much, resets those that hold most. A request or record
    /// that merely arrives in pieces is not among them unless most connections hold as much.
    pub(super) fn enforce_memory_limit(&mut self) {
        if self.buffered_bytes <= BUFFERED_BYTES_MAX {
            return;
        }
        let held = |slot: &Slot| match slot.phase {
            // Full scrapes are few, and have a bound of their own. The others are closed already.
            Phase::Streaming | Phase::Closing { .. } => 0,
            _ => slot.buffered_bytes(),
        };
        let holders = self.slots.iter().map(|(key, slot)| (held(slot), key));
        let mut holders: Vec<(usize, Key)> = holders.filter(|&(held, _)| held > 0).collect();
        holders.sort_unstable_by_key(|&(held, _)| Reverse(held));
        let mut count = 0;
        for (_, key) in holders {
            if self.buffered_bytes <= BUFFERED_BYTES_AFTER {
                break;
            }
            count += 1;
            self.counters.rejected.add(Rejection::Unread);
            self.close(key, true);
        }
        self.buffered_warning.warning(
            self.now_s,
            format_args!(
                "connections hold more than {} MiB of unfinished or unanswered requests and of \
                 answers that they do not read: {count} that hold most are reset",
                BUFFERED_BYTES_MAX >> 20
            ),
        );
    }
}

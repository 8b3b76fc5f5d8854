//! The way of records from the workers to the thread that publishes them, on which no worker waits.
//!
//! A worker collects the records of a turn in a buffer of its own ([`WorkerOutbox`]) and copies
//! them at the end of the turn into one that it shares with the publisher's thread alone
//! ([`OutboxSlot`]), unless that thread holds it just then. All buffers have their full size from
//! the start; what finds no room in them is dropped and counted.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use crate::cluster::record::{PeerRecord, RECORD_BYTES_MAX};
use crate::limits::{OUTBOX_BYTES, OUTBOX_SLOT_BYTES, REQUESTS_PER_TURN_MAX};

// A turn finds room for its records, two an announce, beside those of one that could not be handed
// over.
const _: () = assert!(OUTBOX_BYTES >= 2 * RECORD_BYTES_MAX * REQUESTS_PER_TURN_MAX as usize);
const _: () = assert!(OUTBOX_SLOT_BYTES >= OUTBOX_BYTES);

/// A worker's end.
#[derive(Debug)]
pub struct WorkerOutbox {
    records: Vec<u8>,
    dropped: bool,
    slot: Arc<OutboxSlot>,
}

/// What a worker has handed over. On a cache line that no other worker writes to.
#[derive(Debug)]
#[repr(align(128))]
pub struct OutboxSlot(Mutex<HandedOver>);

#[derive(Debug)]
struct HandedOver {
    records: Vec<u8>,
    /// Records were dropped since the last time that these were taken.
    dropped: bool,
}

impl WorkerOutbox {
    /// A worker's end, and the publisher's.
    pub fn new() -> (WorkerOutbox, Arc<OutboxSlot>) {
        let records = Vec::with_capacity(OUTBOX_SLOT_BYTES);
        let slot = Arc::new(OutboxSlot(Mutex::new(HandedOver { records, dropped: false })));
        let records = Vec::with_capacity(OUTBOX_BYTES);
        (WorkerOutbox { records, dropped: false, slot: Arc::clone(&slot) }, slot)
    }

    /// Appends a record; whether there was room.
    pub fn add(&mut self, record: &PeerRecord) -> bool {
        if self.records.len() + RECORD_BYTES_MAX > OUTBOX_BYTES {
            self.dropped = true;
            return false;
        }
        record.encode(&mut self.records);
        true
    }

    /// Hands everything over without waiting. Returns whether to come back at once, because the
    /// publisher's thread was in the way.
    pub fn hand_over(&mut self) -> bool {
        if self.is_empty() {
            return false;
        }
        match self.slot.0.try_lock() {
            Ok(mut handed) => handed.add(&mut self.records, &mut self.dropped),
            Err(TryLockError::Poisoned(poisoned)) => {
                poisoned.into_inner().add(&mut self.records, &mut self.dropped);
            }
            Err(TryLockError::WouldBlock) => return true,
        }
        false
    }

    /// Hands everything over, and waits for the publisher's thread if it must: for the end of a
    /// worker.
    pub fn finish(&mut self) {
        let handed = self.slot.0.lock();
        let mut handed = handed.unwrap_or_else(PoisonError::into_inner);
        handed.add(&mut self.records, &mut self.dropped);
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && !self.dropped
    }
}

impl HandedOver {
    /// Takes the records if all of them fit: the worker keeps them otherwise.
    fn add(&mut self, records: &mut Vec<u8>, dropped: &mut bool) {
        self.dropped |= mem::take(dropped);
        if self.records.len() + records.len() <= OUTBOX_SLOT_BYTES {
            self.records.append(records);
        }
    }
}

impl OutboxSlot {
    /// Exchanges the worker's records for an empty buffer, which must have room for
    /// [`OUTBOX_SLOT_BYTES`]. Returns whether the worker has dropped some before or after them.
    pub fn take(&self, empty: &mut Vec<u8>) -> bool {
        let mut handed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut handed.records, empty);
        mem::take(&mut handed.dropped)
    }
}

#[cfg(test)]
mod tests {
    use annulus_swarm::{CompactAddr, PeerEvent};

    use super::{OUTBOX_BYTES, OUTBOX_SLOT_BYTES, PeerRecord, RECORD_BYTES_MAX, WorkerOutbox};

    const RECORD: PeerRecord = PeerRecord {
        info_hash: [1; 20],
        peer: CompactAddr::V4([2; 6]),
        seeder: true,
        event: PeerEvent::None,
    };

    #[test]
    fn records_are_handed_over_in_order_and_never_waited_for() {
        let (mut outbox, slot) = WorkerOutbox::new();
        let mut taken = Vec::with_capacity(OUTBOX_SLOT_BYTES);
        assert!(!outbox.hand_over() && !slot.take(&mut taken) && taken.is_empty());
        let mut expected = Vec::new();
        for byte in [1, 2, 3] {
            let record = PeerRecord { info_hash: [byte; 20], ..RECORD };
            record.encode(&mut expected);
            assert!(outbox.add(&record) && !outbox.hand_over());
        }
        let record = PeerRecord { info_hash: [4; 20], ..RECORD };
        record.encode(&mut expected);
        let held = slot.0.lock().unwrap();
        assert!(outbox.add(&record) && outbox.hand_over(), "it says that it was in the way");
        drop(held);
        outbox.finish();
        assert!(!slot.take(&mut taken));
        assert_eq!(taken, expected);
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_told_once() {
        let (mut outbox, slot) = WorkerOutbox::new();
        let mut kept = 0;
        while outbox.add(&RECORD) {
            kept += 27;
            assert!(!outbox.hand_over());
        }
        // The slot is full, and so is the worker's own buffer.
        assert!(kept > OUTBOX_SLOT_BYTES + OUTBOX_BYTES - 3 * RECORD_BYTES_MAX);
        assert!(!outbox.add(&RECORD) && !outbox.hand_over());
        let capacity = outbox.records.capacity();
        let mut taken = Vec::with_capacity(OUTBOX_SLOT_BYTES);
        assert!(slot.take(&mut taken), "the publisher learns of it");
        assert!(taken.len() <= OUTBOX_SLOT_BYTES && taken.len().is_multiple_of(27));
        let mut rest = Vec::with_capacity(OUTBOX_SLOT_BYTES);
        assert!(!outbox.hand_over() && !slot.take(&mut rest));
        assert_eq!(taken.len() + rest.len(), kept);
        assert_eq!(outbox.records.capacity(), capacity);
    }
}

//! Requests by UDP that wait for their responses. The transaction id of each tells its slot and a
//! generation, so that finding the request of a response takes no search, and a response that
//! comes too late is recognised.

use crate::client::PendingRequest;

/// What a transaction id belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// This request, which no longer waits.
    Waiting(PendingRequest),
    /// A request that was given up.
    Late,
    /// A request that has its response.
    Repeated,
    /// No request of the socket.
    Unknown,
}

/// Slots of requests. Slot s belongs to the socket s modulo the number of sockets.
pub struct InFlight {
    slots: Vec<RequestSlot>,
    sockets: u32,
    /// Low bits of a transaction id that tell the slot; the others tell the generation.
    slot_bits: u32,
    waiting: u64,
}

#[derive(Clone, Default)]
struct RequestSlot {
    /// The request that waits.
    request: Option<PendingRequest>,
    /// That of the last request, in as many bits as a transaction id has for it.
    generation: u32,
    /// Requests that the slot had.
    requests: u32,
    /// Those of them that were given up and have no response.
    lost: u32,
}

impl InFlight {
    /// At least one slot for each of at least one socket; at most 2^24 slots.
    pub fn new(slots: u32, sockets: u32) -> InFlight {
        // One index more than there are slots: see `foreign_transaction`.
        let slot_bits = u32::BITS - slots.leading_zeros();
        InFlight {
            slots: vec![RequestSlot::default(); slots as usize],
            sockets,
            slot_bits,
            waiting: 0,
        }
    }

    /// A transaction id that no slot has.
    pub fn foreign_transaction(&self, number: u32) -> u32 {
        number << self.slot_bits | self.slots.len() as u32
    }

    /// The slots of a socket.
    pub fn slots_of(&self, socket: u32) -> impl DoubleEndedIterator<Item = u32> {
        (socket..self.slots.len() as u32).step_by(self.sockets as usize)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Puts a request into a free slot. Returns its transaction id.
    pub fn begin(&mut self, at: u32, request: PendingRequest) -> u32 {
        let generations = u32::MAX >> self.slot_bits;
        let slot = &mut self.slots[at as usize];
        debug_assert!(slot.request.is_none(), "slot {at} is not free");
        slot.request = Some(request);
        slot.generation = (slot.generation + 1) & generations;
        slot.requests = slot.requests.saturating_add(1);
        self.waiting += 1;
        slot.generation << self.slot_bits | at
    }

    /// The slot of a transaction id, or a number that no slot has.
    pub fn slot(&self, transaction: u32) -> u32 {
        transaction & !(u32::MAX << self.slot_bits)
    }

    /// Looks up the transaction id of a response that a socket received, and takes its request.
    pub fn take(&mut self, transaction: u32, socket: u32) -> TransactionStatus {
        let at = self.slot(transaction);
        let Some(slot) = self.slots.get_mut(at as usize).filter(|_| at % self.sockets == socket)
        else {
            return TransactionStatus::Unknown;
        };
        let generations = u32::MAX >> self.slot_bits;
        let age = slot.generation.wrapping_sub(transaction >> self.slot_bits) & generations;
        if age == 0
            && let Some(request) = slot.request.take()
        {
            self.waiting -= 1;
            return TransactionStatus::Waiting(request);
        }
        // Numbers of generations repeat: beyond a half of them, it is one of the future.
        if age >= slot.requests.min(generations.div_ceil(2)) {
            return TransactionStatus::Unknown;
        }
        // Which of them were lost is not kept, only how many: exact unless responses repeat, too.
        match slot.lost.checked_sub(1) {
            Some(lost) => {
                slot.lost = lost;
                TransactionStatus::Late
            }
            None => TransactionStatus::Repeated,
        }
    }

    /// Gives up the requests that were sent by `sent_ns`, with their slots.
    pub fn give_up(&mut self, sent_ns: u64, mut lost: impl FnMut(u32, PendingRequest)) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if let Some(request) = slot.request.take_if(|request| request.sent_ns <= sent_ns) {
                slot.lost = slot.lost.saturating_add(1);
                self.waiting -= 1;
                lost(at as u32, request);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{InFlight, TransactionStatus};
    use crate::client::PendingRequest;
    use crate::request::RequestKind;

    fn request(sent_ns: u64) -> PendingRequest {
        PendingRequest { kind: RequestKind::Scrape { peer: 7 }, due_ns: 0, sent_ns }
    }

    #[test]
    fn responses_find_their_requests_once() {
        let mut in_flight = InFlight::new(7, 3);
        assert_eq!(in_flight.slots_of(0).collect::<Vec<_>>(), [0, 3, 6]);
        let ids: Vec<u32> = (0..7).map(|at| in_flight.begin(at, request(u64::from(at)))).collect();
        assert_eq!(in_flight.waiting(), 7);
        for (at, id) in (0..7).zip(ids) {
            assert_eq!(in_flight.slot(id), at);
            assert_eq!(in_flight.take(id, (at + 1) % 3), TransactionStatus::Unknown);
            let found = in_flight.take(id, at % 3);
            assert_eq!(found, TransactionStatus::Waiting(request(u64::from(at))));
            assert_eq!(in_flight.take(id, at % 3), TransactionStatus::Repeated);
        }
        assert_eq!(in_flight.waiting(), 0);
        for number in [0, 1, u32::MAX] {
            let foreign = in_flight.foreign_transaction(number);
            assert!((0..3).all(|it| in_flight.take(foreign, it) == TransactionStatus::Unknown));
        }
    }

    #[test]
    fn responses_after_a_loss_are_late_and_others_are_repeated() {
        let mut in_flight = InFlight::new(1, 1);
        let lost = in_flight.begin(0, request(1));
        in_flight.give_up(0, |_, _| panic!("not yet"));
        let mut given_up = Vec::new();
        in_flight.give_up(1, |at, request| given_up.push((at, request)));
        assert_eq!(given_up, [(0, request(1))]);
        let next = in_flight.begin(0, request(2));
        assert_eq!(in_flight.take(lost, 0), TransactionStatus::Late);
        assert_eq!(in_flight.take(lost, 0), TransactionStatus::Repeated);
        assert_eq!(in_flight.take(next, 0), TransactionStatus::Waiting(request(2)));
        // One that is still to come.
        assert_eq!(in_flight.take(next + 2, 0), TransactionStatus::Unknown);
    }

    #[test]
    fn generations_repeat() {
        // 12 bits of generations.
        let mut in_flight = InFlight::new(1 << 19, 1);
        let mut last = None;
        for number in 0..3 << 12 {
            let id = in_flight.begin(5, request(number));
            if let Some(last) = last {
                assert_eq!(in_flight.take(last, 0), TransactionStatus::Repeated);
            }
            assert_eq!(in_flight.take(id, 0), TransactionStatus::Waiting(request(number)));
            last = Some(id);
        }
    }
}

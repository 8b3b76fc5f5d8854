//! What a worker holds of one connection.

use std::mem;
use std::ops::{Index, IndexMut};

use annulus_ring::{Key, RecvMode, Socket};
use slab::Slab;

use crate::connection::Connection;
use crate::server::FullScrape;
use crate::tls::HandshakeState;

/// The kernel was not asked yet.
pub(super) const UNSENT_UNKNOWN: u32 = u32::MAX;

/// In place of the socket of a connection that has given it to the ring: no descriptor is -1.
const NO_DESCRIPTOR: i32 = -1;

/// The state of a connection, beyond what its bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Requests are received and answered.
    Serving,
    /// A response is sent chunk by chunk; received bytes are dropped.
    Streaming,
    /// The last response is being sent; received bytes are dropped.
    Flushing,
    /// Everything is sent and our side is shut down; received bytes are dropped until the client
    /// closes its side.
    Lingering,
    /// Closed as soon as no operation of it is in the kernel.
    Closing {
        /// With RST.
        reset: bool,
    },
}

/// One connection.
pub(super) struct Slot {
    pub(super) connection: Connection,
    pub(super) socket: Socket,
    generation: u32,
    pub(super) deadline_s: u32,
    /// The turn in which a response was last queued, which may prove short in the next.
    pub(super) sent_turn: u32,
    /// Bytes dropped behind the last request that is answered.
    pub(super) dropped_bytes: u32,
    /// Bytes that the client had not acknowledged at the last look, or [`UNSENT_UNKNOWN`].
    pub(super) unsent_bytes: u32,
    /// Bytes that had arrived but were not received when the worker began to stop: requests in
    /// them are answered.
    pub(super) unread_at_stop: u32,
    /// While [`Phase::Streaming`].
    pub(super) stream: Option<Box<FullScrape>>,
    /// Of the owned send in the kernel.
    pub(super) owned_bytes: u32,
    /// The socket's SO_RCVLOWAT: [`Connection::bytes_awaited`].
    pub(super) rcvlowat: u32,
    pub(super) phase: Phase,
    /// A receive is in the kernel.
    pub(super) recv_pending: bool,
    /// An owned send is in the kernel.
    pub(super) send_pending: bool,
    /// The last receive filled its buffer: the socket may hold more.
    pub(super) buffer_filled: bool,
    pub(super) peer_closed: bool,
    /// It is in one of the worker's queues.
    pub(super) scheduled: bool,
    /// It is in the list of idle connections, by its present deadline.
    pub(super) listed_idle: bool,
    /// It is being closed to make room for another.
    pub(super) evicted: bool,
}

impl Slot {
    fn new(connection: Connection, socket: Socket, generation: u32) -> Slot {
        Slot {
            deadline_s: connection.deadline_s(),
            connection,
            socket,
            generation,
            sent_turn: 0,
            dropped_bytes: 0,
            unsent_bytes: UNSENT_UNKNOWN,
            unread_at_stop: 0,
            stream: None,
            owned_bytes: 0,
            rcvlowat: 1,
            phase: Phase::Serving,
            recv_pending: false,
            send_pending: false,
            buffer_filled: false,
            peer_closed: false,
            scheduled: false,
            listed_idle: false,
            evicted: false,
        }
    }

    fn key(&self, index: usize) -> Key {
        Key::new(index as u32, self.generation)
    }

    /// Takes the socket, for the ring to close.
    pub(super) fn take_socket(&mut self) -> Socket {
        mem::replace(&mut self.socket, Socket::from_raw(NO_DESCRIPTOR))
    }

    /// Bytes that are allocated for unanswered requests and unsent responses.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.connection.allocated_bytes() + self.owned_bytes as usize
    }

    /// Whether the client is between two requests, or has not begun the first.
    pub(super) fn is_idle(&self) -> bool {
        let Slot { connection, phase, send_pending, .. } = self;
        let handshaking = connection.handshake() == Some(HandshakeState::InProgress);
        let has_begun =
            connection.pending_bytes() > 0 || (handshaking && !connection.is_before_hello());
        *phase == Phase::Serving && !send_pending && !has_begun
    }

    /// Whether its deadline moves as the client acknowledges responses.
    pub(super) fn tracks_progress(&self) -> bool {
        let closing = matches!(self.phase, Phase::Closing { .. });
        self.phase == Phase::Lingering || (self.send_pending && !closing)
    }

    /// A multishot receive is worth its cost from the second request on: a connection that closes
    /// after the first would have to cancel it.
    pub(super) fn recv_mode(&self) -> RecvMode {
        if self.connection.has_answered() { RecvMode::Multishot } else { RecvMode::Once }
    }
}

// An idle connection must stay cheap: this, and the links of its timer and eviction list.
const _: () = assert!(size_of::<Slot>() <= 128);

/// The connections of a worker.
#[derive(Default)]
pub(super) struct Slots {
    slab: Slab<Slot>,
    generation: u32,
}

impl Slots {
    pub(super) fn insert(&mut self, connection: Connection, socket: Socket) -> Key {
        self.generation = (self.generation + 1) % Key::GENERATIONS;
        let entry = self.slab.vacant_entry();
        let index = entry.key();
        entry.insert(Slot::new(connection, socket, self.generation)).key(index)
    }

    pub(super) fn remove(&mut self, key: Key) -> Slot {
        let slot = self.slab.remove(key.slot() as usize);
        debug_assert!(slot.generation == key.generation());
        debug_assert!(!slot.recv_pending && !slot.send_pending);
        slot
    }

    /// A connection, unless it is gone.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slab.get_mut(key.slot() as usize)?;
        (slot.generation == key.generation()).then_some(slot)
    }

    /// The connection that uses a slot.
    pub(super) fn at(&self, index: u32) -> Option<(Key, &Slot)> {
        self.slab.get(index as usize).map(|slot| (slot.key(index as usize), slot))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Slot)> {
        self.slab.iter().map(|(index, slot)| (slot.key(index), slot))
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }
}

impl Index<Key> for Slots {
    type Output = Slot;

    fn index(&self, key: Key) -> &Slot {
        &self.slab[key.slot() as usize]
    }
}

impl IndexMut<Key> for Slots {
    fn index_mut(&mut self, key: Key) -> &mut Slot {
        &mut self.slab[key.slot() as usize]
    }
}

//! What a worker holds of one connection.

use std::mem;

use annulus_ring::{Key, RecvMode, Socket};

use super::progress::UNKNOWN;
use crate::connection::Connection;
use crate::server::FullScrape;
use crate::tls::HandshakeState;

/// Stands for the socket of a connection that has none: a kernel knows no such descriptor.
const NO_DESCRIPTOR: i32 = -1;

/// Where a connection stands, beyond what its bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Requests are received and answered.
    Serving,
    /// A reply too long for one piece is being sent; what arrives is dropped.
    Streaming,
    /// The last reply is on its way; what arrives is dropped.
    Flushing,
    /// The last answer was sent in this turn, with the close behind it. The connection goes with
    /// the next turn, unless the answer fell short: until then it counts like any other.
    Departing,
    /// Everything is sent and our side is shut; bytes are dropped until the client's end.
    Lingering,
    /// Over: closed once nothing of it is in the kernel any more.
    Ending {
        /// With RST, or orderly.
        reset: bool,
    },
}

/// One connection's state: about a hundred bytes while it is idle.
pub(super) struct Slot {
    pub(super) connection: Connection,
    pub(super) socket: Socket,
    pub(super) generation: u32,
    pub(super) deadline_s: u32,
    /// The turn in which a reply was last queued: until the next, it may yet fall short.
    pub(super) sent_turn: u32,
    /// Bytes dropped behind the last request that is answered.
    pub(super) dropped: u32,
    /// What the client had not taken of its answers at the last look, if there was one since the
    /// last of them.
    pub(super) unsent: u32,
    /// Bytes that the client had sent before the worker began to stop, and that are still to be
    /// received: requests in them are answered.
    pub(super) owed: u32,
    /// While [`Phase::Streaming`].
    pub(super) stream: Option<Box<FullScrape>>,
    /// Bytes of an owned send that is in the kernel.
    pub(super) owned: u32,
    /// As the ring was told: [`Connection::bytes_awaited`].
    pub(super) bytes_awaited: u32,
    pub(super) phase: Phase,
    /// A receive is in the kernel.
    pub(super) armed: bool,
    /// An owned send is in the kernel.
    pub(super) sending: bool,
    /// The last receive filled its buffer, so the socket may hold more than was read.
    pub(super) full: bool,
    /// The client's side has ended.
    pub(super) ended: bool,
    /// The next turn goes on with it.
    pub(super) queued: bool,
    /// It is in the list of idle connections, by its last deadline.
    pub(super) listed_idle: bool,
    /// It is closed to make room for another.
    pub(super) evicted: bool,
}

impl Slot {
    pub(super) fn new(connection: Connection, socket: Socket, generation: u32) -> Slot {
        Slot {
            deadline_s: connection.deadline_s(),
            connection,
            socket,
            generation,
            sent_turn: 0,
            dropped: 0,
            unsent: UNKNOWN,
            owed: 0,
            stream: None,
            owned: 0,
            bytes_awaited: 1,
            phase: Phase::Serving,
            armed: false,
            sending: false,
            full: false,
            ended: false,
            queued: false,
            listed_idle: false,
            evicted: false,
        }
    }

    /// Gives the socket to whom it is closed by: from now on the slot has none.
    pub(super) fn give_socket(&mut self) -> Socket {
        mem::replace(&mut self.socket, Socket::from_raw(NO_DESCRIPTOR))
    }

    /// Bytes that are allocated for it, beyond what an idle connection has.
    pub(super) fn held_bytes(&self) -> usize {
        self.connection.allocated_bytes() + self.owned as usize
    }

    pub(super) fn key(&self, slot: usize) -> Key {
        Key::new(slot as u32, self.generation)
    }

    /// Whether the client waits between two requests, or has not begun the first.
    pub(super) fn is_idle(&self) -> bool {
        let Slot { connection, phase, sending, .. } = self;
        let has_begun = connection.pending_bytes() > 0
            || (connection.handshake() == Some(HandshakeState::InProgress)
                && !connection.is_before_hello());
        *phase == Phase::Serving && !sending && !has_begun
    }

    /// Whether its deadline moves with what the client takes.
    pub(super) fn is_watched(&self) -> bool {
        let over = matches!(self.phase, Phase::Ending { .. });
        self.phase == Phase::Lingering || (self.sending && !over)
    }

    /// How to receive next. A receive that stays armed is worth it from the second request on;
    /// on a connection that ends with its first it would have to be cancelled.
    pub(super) fn expect(&self) -> RecvMode {
        if self.connection.has_answered() { RecvMode::Multishot } else { RecvMode::Once }
    }
}

// An idle connection must stay cheap: this, and twelve bytes of its deadline's links.
const _: () = assert!(size_of::<Slot>() <= 128);

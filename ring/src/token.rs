//! The 64 bits of user data of every operation: `operation:8 | generation:24 | slot:32`.

use std::hash::{Hash, Hasher};

/// Identifies a connection: a slot of its owner's slab, and the generation of the slot's occupant.
/// A completion with another generation than the slot's present one is for an earlier connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    /// Generations wrap at this value.
    pub const GENERATIONS: u32 = 1 << 24;

    /// `generation` is taken modulo [`Key::GENERATIONS`].
    pub fn new(slot: u32, generation: u32) -> Key {
        Key { slot, generation: generation % Key::GENERATIONS }
    }

    pub fn slot(self) -> u32 {
        self.slot
    }

    /// Below [`Key::GENERATIONS`].
    pub fn generation(self) -> u32 {
        self.generation
    }
}

/// The numbers are the program's own: a hash table needs no protection against chosen keys.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.generation) << 40 | u64::from(self.slot));
    }
}

impl nohash_hasher::IsEnabled for Key {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    Accept = 1,
    Recv,
    SendArena,
    SendOwned,
    Close,
    CancelAccept,
    CancelRecv,
    Tick,
    Wake,
    Connect,
    CancelConnect,
    RecvDatagrams,
    PollDatagrams,
    SendDatagram,
    CancelDatagrams,
}

const OPERATIONS: [Operation; 15] = [
    Operation::Accept,
    Operation::Recv,
    Operation::SendArena,
    Operation::SendOwned,
    Operation::Close,
    Operation::CancelAccept,
    Operation::CancelRecv,
    Operation::Tick,
    Operation::Wake,
    Operation::Connect,
    Operation::CancelConnect,
    Operation::RecvDatagrams,
    Operation::PollDatagrams,
    Operation::SendDatagram,
    Operation::CancelDatagrams,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) operation: Operation,
    pub(crate) key: Key,
}

impl Token {
    pub(crate) fn new(operation: Operation, key: Key) -> Token {
        Token { operation, key }
    }

    /// For an operation without a connection: `index` is a listener, a datagram
    /// socket, or a send of this turn.
    pub(crate) fn indexed(operation: Operation, index: u32) -> Token {
        Token { operation, key: Key::new(index, 0) }
    }

    pub(crate) fn pack(self) -> u64 {
        (self.operation as u64) << 56
            | u64::from(self.key.generation) << 32
            | u64::from(self.key.slot)
    }

    /// `None` for bits that [`Token::pack`] does not produce.
    pub(crate) fn unpack(bits: u64) -> Option<Token> {
        let operation = *OPERATIONS.get(((bits >> 56) as usize).checked_sub(1)?)?;
        let key = Key::new(bits as u32, (bits >> 32) as u32 & (Key::GENERATIONS - 1));
        Some(Token { operation, key })
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, OPERATIONS, Token};

    #[test]
    fn every_token_survives_the_kernel() {
        for operation in OPERATIONS {
            for slot in [0, 1, 77, u32::MAX - 1, u32::MAX] {
                for generation in [0, 1, 0xabcdef, Key::GENERATIONS - 1] {
                    let token = Token::new(operation, Key::new(slot, generation));
                    assert_eq!(Token::unpack(token.pack()), Some(token));
                }
            }
        }
    }

    #[test]
    fn foreign_bits_are_no_token() {
        assert_eq!(Token::unpack(0), None);
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}

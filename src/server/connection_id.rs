//! Connection ids of UDP (BEP 15): proof that a client receives what is sent to its address.
//!
//! An id is a keyed hash of the address and of the time at which it was given out, so that no
//! worker remembers any: the kernel may pass a client's datagrams to another worker at any moment.

use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::limits::CONNECTION_ID_WINDOW_S;

/// Windows before the present one whose ids are good: an id is good for two to three windows.
const PAST_WINDOWS: u8 = 2;

/// Bits of an id that are a hash; those above are the last ones of its window.
const HASH_BITS: u32 = 56;

/// Gives out connection ids and verifies them. All workers have the same.
#[derive(Clone, Copy)]
pub struct ConnectionIds {
    hasher: SipHasher24,
}

/// A span of time that connection ids are given out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdWindow(u32);

impl IdWindow {
    /// The window of second `now_s`.
    pub(super) fn at(now_s: u32) -> IdWindow {
        IdWindow(now_s / CONNECTION_ID_WINDOW_S)
    }
}

impl ConnectionIds {
    /// `key` must be random and unknown to clients.
    pub fn new(key: [u64; 2]) -> ConnectionIds {
        ConnectionIds { hasher: SipHasher24::new_with_keys(key[0], key[1]) }
    }

    /// The id for a client, whose address is canonical.
    #[inline]
    pub(super) fn issue(&self, client: IpAddr, window: IdWindow) -> u64 {
        let IdWindow(window) = window;
        u64::from(window as u8) << HASH_BITS | self.hash(client, window)
    }

    /// Whether an id was given to a client, whose address is canonical, not too long ago. The
    /// clocks of two workers may differ by a turn: an id of the next window is good too.
    #[inline]
    pub(super) fn verifies(&self, id: u64, client: IpAddr, window: IdWindow) -> bool {
        let IdWindow(present) = window;
        let next = present.wrapping_add(1);
        let age = (next as u8).wrapping_sub((id >> HASH_BITS) as u8);
        if age > PAST_WINDOWS + 1 {
            return false;
        }
        id & (1 << HASH_BITS) - 1 == self.hash(client, next.wrapping_sub(u32::from(age)))
    }

    /// The families differ in the length of what is hashed, which is a part of the hash.
    #[inline]
    fn hash(&self, client: IpAddr, window: u32) -> u64 {
        let hash = match client {
            IpAddr::V4(ip) => {
                let bytes = u64::from(ip.to_bits()) << 32 | u64::from(window);
                self.hasher.hash(&bytes.to_le_bytes())
            }
            IpAddr::V6(ip) => {
                let mut bytes = [0; 20];
                bytes[..16].copy_from_slice(&ip.octets());
                bytes[16..].copy_from_slice(&window.to_le_bytes());
                self.hasher.hash(&bytes)
            }
        };
        hash >> (u64::BITS - HASH_BITS)
    }
}

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
        id & ((1 << HASH_BITS) - 1) == self.hash(client, next.wrapping_sub(u32::from(age)))
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

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn address(v6: bool, ip: u128) -> IpAddr {
        let v4 = IpAddr::from((ip as u32).to_be_bytes());
        if v6 { IpAddr::from(ip.to_be_bytes()).to_canonical() } else { v4 }
    }

    quickcheck! {
        /// From the window before, for a worker whose clock is a turn behind, to the last but one
        /// after; also where the bits of the window, or all of it, wrap around.
        fn an_id_is_good_for_a_while(key: (u64, u64), client: (bool, u128), window: u32) -> bool {
            let ids = ConnectionIds::new([key.0, key.1]);
            let client = address(client.0, client.1);
            let id = ids.issue(client, IdWindow(window));
            (-600..=600_i32).all(|later| {
                let asked = IdWindow(window.wrapping_add_signed(later));
                ids.verifies(id, client, asked) == (-1..=2).contains(&later)
            })
        }

        fn an_id_is_for_one_address(key: (u64, u64), v6: bool, ip: u128, bit: u8) -> bool {
            let ids = ConnectionIds::new([key.0, key.1]);
            let window = IdWindow(5);
            let (own, other) = (address(v6, ip), address(v6, ip ^ 1 << (bit % 32)));
            let (id, of_other) = (ids.issue(own, window), ids.issue(other, window));
            !ids.verifies(id, other, window) && ids.verifies(of_other, other, window)
        }

        fn no_bit_of_an_id_can_be_changed(
            key: (u64, u64),
            client: (bool, u128),
            window: u32
        ) -> bool {
            let ids = ConnectionIds::new([key.0, key.1]);
            let (client, window) = (address(client.0, client.1), IdWindow(window));
            let id = ids.issue(client, window);
            (0..u64::BITS).all(|bit| !ids.verifies(id ^ 1 << bit, client, window))
        }

        fn every_key_has_its_own_ids(key: (u64, u64), client: (bool, u128), bit: u8) -> bool {
            let (client, window) = (address(client.0, client.1), IdWindow(7));
            let id = ConnectionIds::new([key.0, key.1]).issue(client, window);
            let keys = [[key.0 ^ 1 << (bit % 64), key.1], [key.0, key.1 ^ 1 << (bit % 64)]];
            keys.iter().all(|&key| !ConnectionIds::new(key).verifies(id, client, window))
        }
    }

    /// An IPv4 address, and the IPv6 address that begins with the same bytes.
    #[test]
    fn the_families_do_not_share_ids() {
        let ids = ConnectionIds::new([1, 2]);
        let (v4, v6) = (IpAddr::from([0, 0, 0, 0]), IpAddr::from([0_u8; 16]));
        let id = ids.issue(v4, IdWindow(0));
        assert!(ids.verifies(id, v4, IdWindow(0)) && !ids.verifies(id, v6, IdWindow(0)));
    }

    #[test]
    fn windows_are_as_long_as_the_limit_says() {
        assert_eq!(IdWindow::at(CONNECTION_ID_WINDOW_S - 1), IdWindow(0));
        assert_eq!(IdWindow::at(CONNECTION_ID_WINDOW_S), IdWindow(1));
    }
}

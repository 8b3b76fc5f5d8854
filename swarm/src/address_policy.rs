//! What one address may have in a torrent.
//!
//! A client is an address and a port, and one host has 65,535 of those: it could make up nearly
//! all that an answer names. So one IPv4 address, or one IPv6 /64, which is the least that a
//! subscriber is given, has a limited number of endpoints in a torrent. Beyond it a new endpoint
//! takes the place of the one of them whose last announce is the longest ago.
//!
//! Which one that is cannot be told from the stamps alone: a tick has some fifty seconds, and who
//! changes ports may do it more often. So the endpoints of one address with the same tick have an
//! order beside it, four bits of each. It costs only those who share an address with others.
//!
//! Private addresses stand for whole networks, or for a proxy that says nothing of its clients,
//! and are not limited.

use std::fmt;
use std::hash::RandomState;
use std::net::IpAddr;

use super::peer_store::PeerStore;
use super::time::{SHARES_ADDRESS, tick, ticks_since};
use super::{CompactAddr, keyed_hash};

/// The highest of the orders that four bits hold. That of 16 endpoints with one tick is exact; of
/// more, the oldest have the same.
const ORDER_MAX: u8 = 15;

/// Which addresses are limited, and how the endpoints of one are found among all of a swarm.
pub(super) struct AddressPolicy {
    secret: RandomState,
    /// Endpoints of one address in a torrent; 0 is any number.
    peers_max: u32,
    exempt: Option<Box<ExemptFn>>,
}

/// Whether an address is not limited.
pub(super) type ExemptFn = dyn Fn(IpAddr) -> bool + Send + Sync;

/// When a peer announced last.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastAnnounce {
    /// Its tick, and whether it shares its address.
    pub(super) stamp: u8,
    /// Among those of its address with the same tick: later ones have more. 0 for one that
    /// shares its address with none.
    pub(super) order: u8,
}

/// What looks at a row, its endpoint and its age, and may change the age.
pub(super) type RowVisitor<'a, const N: usize> = dyn FnMut(usize, &[u8; N], &mut LastAnnounce) + 'a;

/// The endpoints of one address in a torrent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AddressPeers {
    pub(super) count: usize,
    /// The row of the one that has not announced for the longest time.
    pub(super) oldest: usize,
}

impl AddressPolicy {
    pub(super) fn new(secret: RandomState, peers_max: u32) -> AddressPolicy {
        AddressPolicy { secret, peers_max, exempt: None }
    }

    /// The same, but some are not limited.
    pub(super) fn with_exemption(self, exempt: Box<ExemptFn>) -> AddressPolicy {
        AddressPolicy { exempt: Some(exempt), ..self }
    }

    /// How many endpoints the address of this one may have in a torrent, if that is limited.
    pub(super) fn limit<const N: usize>(&self, endpoint: &[u8; N]) -> Option<usize> {
        let is_limited = self.peers_max > 0
            && !is_private(endpoint)
            && self.exempt.as_ref().is_none_or(|exempt| !exempt(ip(endpoint)));
        is_limited.then_some(self.peers_max as usize)
    }

    /// As [`limit`](Self::limit).
    pub(super) fn limit_of(&self, peer: &CompactAddr) -> Option<usize> {
        match peer {
            CompactAddr::V4(endpoint) => self.limit(endpoint),
            CompactAddr::V6(endpoint) => self.limit(endpoint),
        }
    }

    /// Under which hash an endpoint is in an index. All of a limited address have the same, so
    /// that they are found together; they are few. Others would be many.
    pub(super) fn hash<const N: usize>(&self, endpoint: &[u8; N]) -> u64 {
        match self.limit(endpoint) {
            Some(_) => keyed_hash(&self.secret, address_prefix(endpoint)),
            None => keyed_hash(&self.secret, endpoint),
        }
    }
}

impl fmt::Debug for AddressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses").field("peers_max", &self.peers_max).finish_non_exhaustive()
    }
}

/// What the endpoints of one address have in common: all of an IPv4 address, 64 bits of IPv6.
pub(super) fn address_prefix<const N: usize>(endpoint: &[u8; N]) -> &[u8] {
    &endpoint[..if N == 6 { 4 } else { 8 }]
}

fn ip<const N: usize>(endpoint: &[u8; N]) -> IpAddr {
    match endpoint.first_chunk::<16>() {
        Some(&ip) => IpAddr::from(ip),
        None => IpAddr::from([endpoint[0], endpoint[1], endpoint[2], endpoint[3]]),
    }
}

/// Loopback (RFC 1122, RFC 4291), private (RFC 1918, RFC 4193), shared (RFC 6598) and link-local
/// (RFC 3927, RFC 4291).
fn is_private<const N: usize>(endpoint: &[u8; N]) -> bool {
    match (N, endpoint[0], endpoint[1]) {
        (6, 10 | 127, _) => true,
        (6, 100, second) => second & 0xc0 == 64,
        (6, 169, second) => second == 254,
        (6, 172, second) => second & 0xf0 == 16,
        (6, 192, second) => second == 168,
        (18, 0xfc | 0xfd, _) => true,
        (18, 0xfe, second) => second & 0xc0 == 0x80,
        (18, 0, 0) => endpoint[..15].iter().all(|&byte| byte == 0) && endpoint[15] == 1,
        _ => false,
    }
}

/// The endpoints that the address of `endpoint`, which is limited, has among some rows, at tick
/// `now`. Those of its /64 that are exempt are none of them.
pub(super) fn same_address<const N: usize>(
    rows: &mut dyn PeerStore<N>,
    endpoint: &[u8; N],
    policy: &AddressPolicy,
    now: u8,
) -> AddressPeers {
    let mut found = AddressPeers::default();
    let mut oldest = None;
    rows.visit_same_address(endpoint, &mut |row, other, age| {
        if policy.limit(other).is_none() {
            return;
        }
        found.count += 1;
        let rank = (ticks_since(age.stamp, now), ORDER_MAX - age.order, usize::MAX - row);
        if oldest.is_none_or(|oldest| rank > oldest) {
            oldest = Some(rank);
            found.oldest = row;
        }
    });
    found
}

/// Notes that of all endpoints of its address the one at row `at` is the last that announced, at
/// the tick that it has.
pub(super) fn set_latest<const N: usize>(rows: &mut (impl PeerStore<N> + ?Sized), at: usize) {
    let endpoint = rows.addresses_from(at, at + 1)[0];
    let now = rows.stamps_before(at + 1).last().map_or(0, |&stamp| tick(stamp));
    let mut is_shared = false;
    // One bit for each order that another of the same tick has.
    let mut taken: u16 = 0;
    rows.visit_same_address(&endpoint, &mut |row, _, age| {
        is_shared |= row != at;
        if row != at && tick(age.stamp) == now {
            taken |= 1 << age.order;
        }
    });
    let order = (16 - taken.leading_zeros() as u8).min(ORDER_MAX);
    // Where the highest order was taken, those above the highest free one move down by one. If
    // none is free, the two oldest have the lowest from now on.
    let kept = match taken >> ORDER_MAX {
        0 => ORDER_MAX,
        _ => ORDER_MAX.saturating_sub((!taken).leading_zeros() as u8),
    };
    rows.visit_same_address(&endpoint, &mut |row, _, age| {
        age.stamp = tick(age.stamp) | if is_shared { SHARES_ADDRESS } else { 0 };
        if row == at {
            age.order = order;
        } else if tick(age.stamp) == now && age.order > kept {
            age.order -= 1;
        }
    });
}

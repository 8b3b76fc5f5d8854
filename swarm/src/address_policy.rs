//! How many peers one address may have in a torrent, and which of them is replaced.
//!
//! A peer is an address and a port, and one host has 65,535 ports: without a limit it could fill
//! nearly the whole answer. So one IPv4 address, or one IPv6 /64 (the smallest prefix that a
//! subscriber gets), may have a limited number of peers in a torrent. A new one beyond the limit
//! replaces the one whose last announce is the oldest.
//!
//! Stamps alone cannot tell which one that is: a tick is almost a minute, and a client may change
//! its port more often. So the peers of one address with the same tick also have an order, four
//! bits each. Only peers that share an address pay for it.
//!
//! Private addresses are not limited: one may stand for a whole network, or for a proxy that does
//! not forward its clients' addresses.

use std::fmt;
use std::hash::RandomState;
use std::net::IpAddr;

use super::peer_store::{ORDER_MAX, PeerStore};
use super::time::ticks_since;
use super::{CompactAddr, keyed_hash};

/// Which addresses are limited, and how the peers of one are found in a swarm.
pub(super) struct AddressPolicy {
    secret: RandomState,
    /// Peers of one address in a torrent; 0 is no limit.
    peers_max: u32,
    exempt: Option<Box<ExemptFn>>,
}

/// Whether an address is exempt from the limit.
pub(super) type ExemptFn = dyn Fn(IpAddr) -> bool + Send + Sync;

/// The peers of one address in a torrent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AddressPeers {
    pub(super) count: usize,
    /// The row of the one whose last announce is the oldest.
    pub(super) oldest: usize,
    /// How old that is.
    pub(super) rank: AddressRank,
}

/// How old the last announce of a peer is among those of its address: higher is older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AddressRank {
    /// [`ticks_since`] it.
    pub(super) ticks: u8,
    /// Its order from the highest down.
    later: u8,
}

impl AddressRank {
    pub(super) fn new(ticks: u8, order: u8) -> AddressRank {
        AddressRank { ticks, later: ORDER_MAX - order }
    }
}

impl AddressPolicy {
    pub(super) fn new(secret: RandomState, peers_max: u32) -> AddressPolicy {
        AddressPolicy { secret, peers_max, exempt: None }
    }

    pub(super) fn with_exemption(self, exempt: Box<ExemptFn>) -> AddressPolicy {
        AddressPolicy { exempt: Some(exempt), ..self }
    }

    /// How many peers the address of this endpoint may have in a torrent, if it is limited.
    pub(super) fn limit<const N: usize>(&self, endpoint: &[u8; N]) -> Option<usize> {
        let is_limited = self.peers_max > 0
            && !is_private(endpoint)
            && self.exempt.as_ref().is_none_or(|exempt| !exempt(ip(endpoint)));
        is_limited.then_some(self.peers_max as usize)
    }

    pub(super) fn limit_of(&self, peer: &CompactAddr) -> Option<usize> {
        match peer {
            CompactAddr::V4(endpoint) => self.limit(endpoint),
            CompactAddr::V6(endpoint) => self.limit(endpoint),
        }
    }

    /// The hash of an endpoint in the index. The peers of a limited address share one, so that they
    /// are found together; there are few of them. Those of an unlimited address may be many.
    pub(super) fn hash<const N: usize>(&self, endpoint: &[u8; N]) -> u64 {
        match self.limit(endpoint) {
            Some(_) => keyed_hash(&self.secret, address_prefix(endpoint)),
            None => keyed_hash(&self.secret, endpoint),
        }
    }
}

impl fmt::Debug for AddressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressPolicy").field("peers_max", &self.peers_max).finish_non_exhaustive()
    }
}

/// The part that the peers of one address share: all of an IPv4 address, 64 bits of IPv6.
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

/// The peers of the same address as `endpoint`, which is limited, at tick `now`. Exempt addresses
/// in its /64 do not count.
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
        let rank = AddressRank::new(ticks_since(age.stamp, now), age.order);
        let age = (rank, usize::MAX - row);
        if oldest.is_none_or(|oldest| age > oldest) {
            oldest = Some(age);
            found.oldest = row;
            found.rank = rank;
        }
    });
    found
}

//! The state of all limited addresses, shared by all workers, in a table of fixed size.
//!
//! The hash of an address chooses one set of a few entries: two cache lines with a lock of their
//! own. Each operation takes that lock once, for some nanoseconds. The hash is keyed with a secret
//! of the process, so that no client can choose its set. A new address replaces, in a full set, the
//! entry without connections that was used least recently; so a flood of addresses evicts only idle
//! ones, and the busiest addresses are never evicted. If all entries of the set have connections, a
//! new address is served without an entry: it may exceed a limit, but no other address suffers for
//! it.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use super::token_bucket::{Rate, TokenBucket};
use crate::config;
use crate::limits::{CLIENT_TABLE_SETS, REJECTIONS_ANSWERED_PER_S, REQUEST_BURST_S};

/// Entries of one set: as many as fit two cache lines beside the lock.
const SET_ENTRIES: usize = 7;

/// A lock and what it protects. Processors fetch cache lines in pairs, hence 128 bytes.
#[repr(align(128))]
#[derive(Debug)]
struct ClientSet(Mutex<[TokenBucket; SET_ENTRIES]>);

const _: () = assert!(size_of::<ClientSet>() == 128);

/// The limits, and the addresses that they apply to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitConfig {
    /// Open connections of one address; 0 is no limit.
    pub connections_max: u16,
    /// Requests of one address per second; 0 is no limit.
    pub requests_per_s: u32,
    /// Requests of one address at one moment, at least `requests_per_s`. In `t` whole seconds at
    /// most `burst` + `t` × `requests_per_s` are served, and an address that never sends more than
    /// `requests_per_s` in a second is always served.
    pub burst: u32,
    /// Leading bits that the IPv6 addresses of one subscriber share, 1 to 64.
    pub ipv6_prefix: u32,
    /// Addresses that are never limited.
    pub exempt: Vec<IpNet>,
    /// Sets of 128 bytes, for 7 addresses each.
    pub sets: usize,
}

/// The count of a connection at its address. It has to be given back by [`ClientTable::release`],
/// once, when the connection is closed. The default counts for no address.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is dropped counts for ever"]
pub struct ConnectionPermit {
    set: u32,
    tag: u32,
}

/// The set of permits that count for no address.
const NO_SET: u32 = u32::MAX;

impl Default for ConnectionPermit {
    fn default() -> ConnectionPermit {
        ConnectionPermit { set: NO_SET, tag: 0 }
    }
}

/// The limit that an address has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitExceeded {
    Connections,
    /// The handshake could not be charged, or the address was told often enough in this second.
    Requests,
}

/// What came of charging a request to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    Served,
    /// The client is over its limit.
    Rejected,
    /// The same, and it was told often enough in this second.
    RejectedOften,
}

/// The state of all addresses.
#[derive(Debug)]
pub struct ClientTable {
    config: RateLimitConfig,
    rate: Rate,
    secret: RandomState,
    sets: Box<[ClientSet]>,
}

impl RateLimitConfig {
    /// As configured, if anything is limited. Trusted proxies are exempt: their address stands for
    /// many clients.
    pub fn new(
        limits: &config::ClientLimits,
        proxy: &config::ProxyConfig,
    ) -> Option<RateLimitConfig> {
        let &config::ClientLimits { connections_per_address, requests_per_second, .. } = limits;
        let burst = match limits.request_burst {
            0 => requests_per_second * REQUEST_BURST_S,
            burst => burst,
        };
        (connections_per_address > 0 || requests_per_second > 0).then(|| RateLimitConfig {
            connections_max: u16::try_from(connections_per_address).unwrap_or(u16::MAX),
            requests_per_s: requests_per_second,
            burst,
            ipv6_prefix: limits.ipv6_prefix,
            exempt: [&limits.exempt[..], &proxy.trusted].concat(),
            sets: CLIENT_TABLE_SETS,
        })
    }
}

impl ClientTable {
    /// An empty table. `secret` must be random and unknown to clients.
    pub fn new(config: RateLimitConfig, secret: RandomState) -> ClientTable {
        let set = || ClientSet(Mutex::new([TokenBucket::default(); SET_ENTRIES]));
        ClientTable {
            rate: Rate { per_s: config.requests_per_s, burst: config.burst },
            sets: (0..config.sets).map(|_| set()).collect(),
            secret,
            config,
        }
    }

    pub fn config(&self) -> &RateLimitConfig {
        &self.config
    }

    /// Connections that hold a permit. It looks at every entry: for tests.
    pub fn connections(&self) -> u64 {
        let of_set = |set: &ClientSet| -> u64 {
            set.lock().iter().map(|client| u64::from(client.connections)).sum()
        };
        self.sets.iter().map(of_set).sum()
    }

    /// See [`RateLimiter::admit`](super::RateLimiter::admit).
    pub fn admit(
        &self,
        client: IpAddr,
        tls: bool,
        now_s: u32,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let Some((set, tag)) = self.locate(client) else {
            return Ok(ConnectionPermit::default());
        };
        let mut entries = self.sets[set as usize].lock();
        let Some(client) = find_or_replace(tag, now_s, &mut entries) else {
            return Ok(ConnectionPermit::default());
        };
        client.refill(self.rate, now_s);
        let (connections, max) = (client.connections, self.config.connections_max);
        if max > 0 && connections >= max {
            return Err(LimitExceeded::Connections);
        }
        let told_enough = client.rejected >= REJECTIONS_ANSWERED_PER_S;
        if (tls || told_enough) && client.is_empty(self.rate) {
            return Err(LimitExceeded::Requests);
        }
        if tls {
            client.charge(self.rate);
        }
        if max == 0 {
            return Ok(ConnectionPermit::default());
        }
        client.connections += 1;
        Ok(ConnectionPermit { set, tag })
    }

    /// See [`RateLimiter::charge`](super::RateLimiter::charge).
    pub fn charge(&self, client: IpAddr, now_s: u32) -> Charge {
        if !self.rate.is_limited() {
            return Charge::Served;
        }
        let Some((set, tag)) = self.locate(client) else { return Charge::Served };
        let mut entries = self.sets[set as usize].lock();
        let Some(client) = find_or_replace(tag, now_s, &mut entries) else {
            return Charge::Served;
        };
        client.refill(self.rate, now_s);
        match client.charge(self.rate) {
            true => Charge::Served,
            false if client.rejected > REJECTIONS_ANSWERED_PER_S => Charge::RejectedOften,
            false => Charge::Rejected,
        }
    }

    /// Takes back the permit of a closed connection.
    pub fn release(&self, permit: ConnectionPermit) {
        let ConnectionPermit { set, tag } = permit;
        if set == NO_SET {
            return;
        }
        let mut entries = self.sets[set as usize].lock();
        let client = entries.iter_mut().find(|client| client.tag == tag);
        debug_assert!(client.is_some(), "an entry with connections was replaced");
        if let Some(client) = client {
            client.connections -= 1;
        }
    }

    /// The set and the tag of an address; `None` if it is exempt.
    fn locate(&self, client: IpAddr) -> Option<(u32, u32)> {
        let client = client.to_canonical();
        if self.config.exempt.iter().any(|range| range.contains(&client)) {
            return None;
        }
        let (is_v6, bits) = match client {
            IpAddr::V4(ip) => (false, u64::from(ip.to_bits())),
            IpAddr::V6(ip) => {
                let network = (ip.to_bits() >> 64) as u64;
                (true, network & (u64::MAX << (64 - self.config.ipv6_prefix)))
            }
        };
        let hash = self.secret.hash_one((is_v6, bits));
        let set = ((hash >> 32) * self.sets.len() as u64) >> 32;
        Some((set as u32, hash as u32))
    }
}

impl ClientSet {
    fn lock(&self) -> MutexGuard<'_, [TokenBucket; SET_ENTRIES]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of `tag`, which may replace another; `None` if all others have connections.
fn find_or_replace(
    tag: u32,
    now_s: u32,
    entries: &mut [TokenBucket; SET_ENTRIES],
) -> Option<&mut TokenBucket> {
    // An unused entry has tag 0, as one address in 2^32 has: it is as good as new for that one.
    if let Some(index) = entries.iter().position(|client| client.tag == tag) {
        return Some(&mut entries[index]);
    }
    let replaceable = entries.iter_mut().filter(|client| client.connections == 0);
    let oldest = replaceable.min_by_key(|client| (client.used_s, client.used_tokens))?;
    *oldest = TokenBucket::new(tag, now_s);
    Some(oldest)
}

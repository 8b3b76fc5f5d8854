//! The accounts of all addresses, for all workers at once, in a table that never grows.
//!
//! An address's hash chooses one bucket of a few accounts, two cache lines with a lock of their
//! own: whatever is asked takes that lock once, for some nanoseconds, and touches nothing else.
//! The hash is keyed with a secret of the process, so that no stranger can choose whose bucket he
//! is in. A newcomer to a full bucket takes the place of the account that was used least
//! recently, of those without connections. What a flood of addresses can make the table forget
//! is then what the quiet ones have spent: who hammers stays known. If all of them have
//! connections, the newcomer is served without an account: a limit may be exceeded by those
//! whom there is no room to know, but nobody is refused for another's sake.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::token_bucket::{Rate, TokenBucket};
use crate::config::{self, Range};
use crate::limits::{CLIENT_TABLE_BUCKETS, RATE_LIMIT_BURST_S, REFUSALS_TOLD_PER_S};

/// Accounts of one bucket: as many as fit two cache lines beside the lock.
const ACCOUNTS: usize = 7;

/// A lock and what it protects, on cache lines of its own; two, because processors fetch them in
/// pairs.
#[repr(align(128))]
#[derive(Debug)]
struct Bucket(Mutex<[TokenBucket; ACCOUNTS]>);

const _: () = assert!(size_of::<Bucket>() == 128);

/// What is limited, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitConfig {
    /// Connections of one address at a time; 0 is any number.
    pub connections_max: u16,
    /// Requests of one address in a second; 0 is any number.
    pub requests_per_s: u32,
    /// Requests of one address in one moment, at least `requests_per_s`. In any `t` whole
    /// seconds at most `burst` + `t` × `requests_per_s` are served, and who never makes more
    /// than `requests_per_s` in a second is always served.
    pub burst: u32,
    /// Leading bits that the IPv6 addresses of one subscriber have in common, 1 to 64.
    pub ipv6_prefix: u32,
    /// Whoever is in one of these is never limited.
    pub exempt: Vec<Range>,
    /// Buckets of 128 bytes, for 7 addresses each.
    pub buckets: usize,
}

/// The part that a connection has in its address's account. It has to be given back by
/// [`ClientTable::release`], once, when the connection is gone. The default has a part in none.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is lost counts for ever"]
pub struct ConnectionPermit {
    bucket: u32,
    tag: u32,
}

/// The bucket of tickets that count nowhere.
const NOWHERE: u32 = u32::MAX;

impl Default for ConnectionPermit {
    fn default() -> ConnectionPermit {
        ConnectionPermit { bucket: NOWHERE, tag: 0 }
    }
}

/// Of what an address has too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitExceeded {
    /// Connections.
    Connections,
    /// Requests: a handshake was to come, or it had been told.
    Requests,
}

/// The accounts of all addresses.
#[derive(Debug)]
pub struct ClientTable {
    settings: RateLimitConfig,
    rate: Rate,
    secret: RandomState,
    buckets: Box<[Bucket]>,
}

impl RateLimitConfig {
    /// As configured, if anything is limited: proxies that are trusted are nobody's address.
    pub fn new(limits: &config::Limits, proxy: &config::Proxy) -> Option<RateLimitConfig> {
        let &config::Limits { connections_per_address, requests_per_second, .. } = limits;
        let burst = match limits.request_burst {
            0 => requests_per_second * RATE_LIMIT_BURST_S,
            burst => burst,
        };
        let settings = RateLimitConfig {
            connections_max: u16::try_from(connections_per_address).unwrap_or(u16::MAX),
            requests_per_s: requests_per_second,
            burst,
            ipv6_prefix: limits.ipv6_prefix,
            exempt: [&limits.exempt[..], &proxy.trusted].concat(),
            buckets: CLIENT_TABLE_BUCKETS,
        };
        (connections_per_address > 0 || requests_per_second > 0).then_some(settings)
    }
}

impl ClientTable {
    /// An empty ledger. Whoever knows `secret` can choose whose bucket he is in: it is drawn at
    /// random when the process starts, and told to nobody.
    pub fn new(settings: RateLimitConfig, secret: RandomState) -> ClientTable {
        let bucket = || Bucket(Mutex::new([TokenBucket::default(); ACCOUNTS]));
        ClientTable {
            rate: Rate { per_s: settings.requests_per_s, burst: settings.burst },
            buckets: (0..settings.buckets).map(|_| bucket()).collect(),
            secret,
            settings,
        }
    }

    /// What is limited.
    pub fn settings(&self) -> &RateLimitConfig {
        &self.settings
    }

    /// Connections that have a ticket, counted one by one: for accounts of the whole.
    pub fn connections(&self) -> u64 {
        let of = |accounts: MutexGuard<'_, [TokenBucket; ACCOUNTS]>| {
            accounts.iter().map(|account| u64::from(account.connections)).sum::<u64>()
        };
        self.buckets.iter().map(|bucket| of(bucket.lock())).sum()
    }

    /// Counts a connection, and charges the handshake of a `secured` one.
    pub(super) fn admit(
        &self,
        client: IpAddr,
        secured: bool,
        now_s: u32,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let Some((bucket, tag)) = self.place(client) else {
            return Ok(ConnectionPermit::default());
        };
        let mut accounts = self.buckets[bucket as usize].lock();
        let Some(account) = account_of(tag, now_s, &mut accounts) else {
            return Ok(ConnectionPermit::default());
        };
        account.settle(self.rate, now_s);
        let (connections, max) = (account.connections, self.settings.connections_max);
        if max > 0 && connections >= max {
            return Err(LimitExceeded::Connections);
        }
        let told = account.refused >= REFUSALS_TOLD_PER_S;
        if (secured || told) && account.is_exhausted(self.rate) {
            return Err(LimitExceeded::Requests);
        }
        if secured {
            account.charge(self.rate);
        }
        if max == 0 {
            return Ok(ConnectionPermit::default());
        }
        account.connections += 1;
        Ok(ConnectionPermit { bucket, tag })
    }

    /// Charges a request; whether it may be served.
    pub(super) fn charge(&self, client: IpAddr, now_s: u32) -> bool {
        if !self.rate.is_limited() {
            return true;
        }
        let Some((bucket, tag)) = self.place(client) else { return true };
        let mut accounts = self.buckets[bucket as usize].lock();
        let Some(account) = account_of(tag, now_s, &mut accounts) else { return true };
        account.settle(self.rate, now_s);
        account.charge(self.rate)
    }

    /// Takes back the ticket of a connection that is gone.
    pub(super) fn release(&self, ticket: ConnectionPermit) {
        let ConnectionPermit { bucket, tag } = ticket;
        if bucket == NOWHERE {
            return;
        }
        let mut accounts = self.buckets[bucket as usize].lock();
        let account = accounts.iter_mut().find(|account| account.tag == tag);
        debug_assert!(account.is_some(), "an account with connections was given away");
        if let Some(account) = account {
            account.connections -= 1;
        }
    }

    /// The bucket of an address and who it is in there; nothing for one that is not limited.
    fn place(&self, client: IpAddr) -> Option<(u32, u32)> {
        let client = client.to_canonical();
        if self.settings.exempt.iter().any(|range| range.contains(client)) {
            return None;
        }
        let (is_v6, bits) = match client {
            IpAddr::V4(ip) => (false, u64::from(ip.to_bits())),
            IpAddr::V6(ip) => {
                let network = (ip.to_bits() >> 64) as u64;
                (true, network & (u64::MAX << (64 - self.settings.ipv6_prefix)))
            }
        };
        let hash = self.secret.hash_one((is_v6, bits));
        let bucket = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        Some((bucket as u32, hash as u32))
    }
}

impl Bucket {
    fn lock(&self) -> MutexGuard<'_, [TokenBucket; ACCOUNTS]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The account of `tag`, in place of another if need be; `None` if all others are held by
/// connections.
fn account_of(
    tag: u32,
    now_s: u32,
    accounts: &mut [TokenBucket; ACCOUNTS],
) -> Option<&mut TokenBucket> {
    // Places that were never taken have the tag 0 like one address in four thousand million, and
    // the account of a newcomer, which is what that address is then.
    if let Some(known) = accounts.iter().position(|account| account.tag == tag) {
        return Some(&mut accounts[known]);
    }
    let vacant = accounts.iter_mut().filter(|account| account.connections == 0);
    let oldest = vacant.min_by_key(|account| (account.used_s, account.spent))?;
    *oldest = TokenBucket::open(tag, now_s);
    Some(oldest)
}

#[cfg(test)]
mod tests;

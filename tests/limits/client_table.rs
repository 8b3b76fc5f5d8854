//! The table of limited addresses, against a model and under threads.

use std::collections::HashMap;
use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use annulus::limits::REJECTIONS_ANSWERED_PER_S;
use annulus::rate_limit::{Charge, ClientTable, ConnectionPermit, LimitExceeded, RateLimitConfig};
use quickcheck::quickcheck;

/// No limits, and an entry for every address.
fn unlimited() -> RateLimitConfig {
    RateLimitConfig {
        connections_max: 0,
        requests_per_s: 0,
        burst: 0,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        sets: 1024,
    }
}

fn table(config: RateLimitConfig) -> ClientTable {
    ClientTable::new(config, RandomState::new())
}

fn is_served(table: &ClientTable, client: IpAddr, now_s: u32) -> bool {
    table.charge(client, now_s) == Charge::Served
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

/// One address, counted anew every second.
struct ClientModel {
    connections: u16,
    left: u32,
    rejected: u16,
    /// The second of every request or handshake that was charged.
    charged_s: Vec<u32>,
}

impl ClientModel {
    fn new(config: &RateLimitConfig) -> ClientModel {
        ClientModel { connections: 0, left: config.burst, rejected: 0, charged_s: Vec::new() }
    }

    fn next_second(&mut self, config: &RateLimitConfig) {
        self.left = config.burst.min(self.left + config.requests_per_s);
        self.rejected = 0;
    }

    fn charge(&mut self, config: &RateLimitConfig, now_s: u32) -> Charge {
        if config.requests_per_s == 0 {
            return Charge::Served;
        }
        if self.left > 0 {
            self.left -= 1;
            self.charged_s.push(now_s);
            return Charge::Served;
        }
        self.rejected += 1;
        match self.rejected > REJECTIONS_ANSWERED_PER_S {
            true => Charge::RejectedOften,
            false => Charge::Rejected,
        }
    }

    fn admit(
        &mut self,
        config: &RateLimitConfig,
        tls: bool,
        now_s: u32,
    ) -> Result<(), LimitExceeded> {
        if config.connections_max > 0 && self.connections == config.connections_max {
            return Err(LimitExceeded::Connections);
        }
        let limited = config.requests_per_s > 0;
        let told = self.rejected >= REJECTIONS_ANSWERED_PER_S;
        if limited && self.left == 0 && (tls || told) {
            return Err(LimitExceeded::Requests);
        }
        if tls {
            self.charge(config, now_s);
        }
        self.connections += 1;
        Ok(())
    }

    /// In no span of time is more served than documented.
    fn keeps_the_bound(&self, config: &RateLimitConfig) -> bool {
        let per_s = u64::from(config.requests_per_s);
        self.charged_s.iter().enumerate().all(|(first, from_s)| {
            self.charged_s[first..].iter().zip(1..).all(|(to_s, served)| {
                served <= u64::from(config.burst) + per_s * u64::from(to_s - from_s)
            })
        })
    }
}

/// Applies the steps to the table and to the model; returns whether they always agree.
fn agrees_with_the_model(limits: (u8, u8, u8), steps: Vec<(u8, u8)>) -> bool {
    let requests_per_s = u32::from(limits.1 % 4);
    let config = RateLimitConfig {
        connections_max: u16::from(limits.0 % 4),
        requests_per_s,
        burst: requests_per_s + u32::from(limits.2 % 6),
        ..unlimited()
    };
    let table = table(config.clone());
    let mut models: HashMap<u8, ClientModel> = HashMap::new();
    let mut open: Vec<(u8, ConnectionPermit)> = Vec::new();
    let mut now_s = 7;
    for (what, number) in steps {
        let number = number % 3;
        let model = models.entry(number).or_insert_with(|| ClientModel::new(&config));
        let agrees = match what % 16 {
            0..=5 => table.charge(address(number), now_s) == model.charge(&config, now_s),
            6..=10 => {
                let tls = what % 2 == 0;
                let admitted = table.admit(address(number), tls, now_s);
                let expected = model.admit(&config, tls, now_s);
                match (admitted, expected) {
                    (Ok(permit), Ok(())) => {
                        open.push((number, permit));
                        true
                    }
                    (Err(why), Err(expected)) => why == expected,
                    _ => false,
                }
            }
            11..=13 if !open.is_empty() => {
                let (number, permit) = open.swap_remove(usize::from(what) % open.len());
                table.release(permit);
                models.get_mut(&number).unwrap().connections -= 1;
                true
            }
            _ => {
                now_s += 1;
                models.values_mut().for_each(|model| model.next_second(&config));
                true
            }
        };
        let counted = config.connections_max > 0;
        let connections = if counted { open.len() as u64 } else { 0 };
        if !agrees || table.connections() != connections {
            return false;
        }
    }
    for (_, permit) in open {
        table.release(permit);
    }
    table.connections() == 0 && models.values().all(|model| model.keeps_the_bound(&config))
}

quickcheck! {
    fn serves_what_is_documented_and_no_more(limits: (u8, u8, u8), steps: Vec<(u8, u8)>) -> bool {
        agrees_with_the_model(limits, steps)
    }
}

#[test]
fn long_sequences_agree_with_the_model() {
    for seed in 0..50 {
        let mut random = annulus_swarm::Random::seeded(seed);
        let mut byte = || random.below(256) as u8;
        let limits = (byte(), byte(), byte());
        let steps = (0..2000).map(|_| (byte(), byte())).collect();
        assert!(agrees_with_the_model(limits, steps), "seed {seed}");
    }
}

#[test]
fn addresses_of_one_subscriber_are_one() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    for (prefix, one, other, same) in [
        (64, "192.0.2.1", "192.0.2.1", true),
        (64, "192.0.2.1", "192.0.2.2", false),
        (64, "192.0.2.1", "::ffff:192.0.2.1", true),
        (64, "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
        (64, "2001:db8::1", "2001:db8:0:1::1", false),
        (56, "2001:db8::1", "2001:db8:0:ff::1", true),
        (56, "2001:db8::1", "2001:db8:0:100::1", false),
        (32, "2001:db8::1", "2001:db8:ffff::1", true),
        (32, "2001:db8::1", "2001:db9::1", false),
        (64, "::192.0.2.1", "192.0.2.1", false),
        (64, "0.0.0.0", "::", false),
    ] {
        let limited = RateLimitConfig { connections_max: 1, ipv6_prefix: prefix, ..unlimited() };
        let table = table(limited);
        let permit = table.admit(ip(one), false, 0).unwrap();
        let second = table.admit(ip(other), false, 0);
        assert_eq!(second.is_err(), same, "{one} and {other} by {prefix} bits");
        second.into_iter().for_each(|permit| table.release(permit));
        table.release(permit);
        assert_eq!(table.connections(), 0);
    }
}

#[test]
fn exempt_addresses_are_never_limited() {
    let exempt = vec!["192.0.2.0/30".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let limited =
        RateLimitConfig { connections_max: 1, requests_per_s: 1, burst: 1, exempt, ..unlimited() };
    let table = table(limited);
    for (client, is_limited) in [
        ("192.0.2.3", false),
        ("::ffff:192.0.2.3", false),
        ("192.0.2.4", true),
        ("2001:db8::1", false),
        ("2001:db9::1", true),
    ] {
        let client = client.parse().unwrap();
        let permits: Vec<_> = (0..9).filter_map(|_| table.admit(client, false, 0).ok()).collect();
        let served = (0..9).filter(|_| is_served(&table, client, 0)).count();
        let expected = if is_limited { (1, 1) } else { (9, 9) };
        assert_eq!((permits.len(), served), expected, "{client}");
        permits.into_iter().for_each(|permit| table.release(permit));
    }
}

/// The clocks of two workers differ by the length of a turn.
#[test]
fn a_worker_whose_clock_is_behind_gives_no_tokens_back() {
    let table = table(RateLimitConfig { requests_per_s: 2, burst: 2, ..unlimited() });
    let served = |now_s| (0..9).filter(|_| is_served(&table, address(1), now_s)).count();
    assert_eq!([5, 4, 5, 6, 5, 6, 7].map(served), [2, 0, 0, 2, 0, 0, 2]);
}

#[test]
fn a_full_set_rejects_no_address_and_keeps_its_connections() {
    let limited =
        RateLimitConfig { connections_max: 1, requests_per_s: 1, burst: 1, ..unlimited() };
    let table = table(RateLimitConfig { sets: 1, ..limited });
    let mut permits: Vec<ConnectionPermit> =
        (1..=7).map(|number| table.admit(address(number), false, 0).unwrap()).collect();
    // There is no entry for an eighth: it is always served.
    for _ in 0..20 {
        assert_eq!(table.admit(address(8), true, 0), Ok(ConnectionPermit::default()));
        assert!(is_served(&table, address(8), 0));
    }
    assert_eq!(table.connections(), 7);
    for number in 1..=7 {
        assert_eq!(table.admit(address(number), false, 0), Err(LimitExceeded::Connections));
    }
    // When a connection is closed, the eighth replaces that entry.
    table.release(permits.remove(3));
    let eighth = table.admit(address(8), false, 0).unwrap();
    assert_ne!(eighth, ConnectionPermit::default());
    assert_eq!(table.admit(address(8), false, 0), Err(LimitExceeded::Connections));
    assert_eq!(table.connections(), 7);
    permits.into_iter().chain([eighth]).for_each(|permit| table.release(permit));
    assert_eq!(table.connections(), 0);
}

/// A flood of addresses evicts idle entries, but not the busiest.
#[test]
fn the_busiest_address_is_never_evicted() {
    let table = table(RateLimitConfig { requests_per_s: 2, burst: 5, sets: 1, ..unlimited() });
    let mut served = 0;
    for second in 0..50 {
        for other in 0..100 {
            served += u32::from(is_served(&table, address(0), second));
            assert!(is_served(&table, address(1 + other), second), "a new address is served");
        }
    }
    assert_eq!(served, 5 + 49 * 2);
}

#[test]
fn workers_share_one_limit() {
    const THREADS: u32 = 4;
    const MAX: u16 = 2;
    let limited =
        RateLimitConfig { connections_max: MAX, requests_per_s: 1, burst: 1000, ..unlimited() };
    let table = table(limited);
    let (open, served, rejected) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (table, open, served, rejected) = (&table, &open, &served, &rejected);
            scope.spawn(move || {
                let mut permits = Vec::new();
                for step in 0..20_000_u32 {
                    if let Ok(permit) = table.admit(address(1), false, 0) {
                        let others = open.fetch_add(1, Ordering::SeqCst);
                        assert!(others < u32::from(MAX), "{others} besides");
                        permits.push(permit);
                    } else {
                        rejected.fetch_add(1, Ordering::SeqCst);
                    }
                    served.fetch_add(u32::from(is_served(table, address(2), 0)), Ordering::SeqCst);
                    // One thread alone reaches the limit.
                    if permits.len() > 3 || (step + thread) % 3 == 0 {
                        permits.pop().into_iter().for_each(|permit| {
                            open.fetch_sub(1, Ordering::SeqCst);
                            table.release(permit);
                        });
                    }
                }
                for permit in permits {
                    open.fetch_sub(1, Ordering::SeqCst);
                    table.release(permit);
                }
            });
        }
    });
    assert_eq!(served.into_inner(), 1000, "exactly the burst, whichever thread asked");
    assert!(rejected.into_inner() > 0, "the limit was never reached");
    assert_eq!(table.connections(), 0);
}

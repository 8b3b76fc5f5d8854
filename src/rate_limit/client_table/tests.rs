use std::collections::HashMap;
use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use quickcheck::quickcheck;

use super::{ClientTable, ConnectionPermit, LimitExceeded, RateLimitConfig};
use crate::limits::REFUSALS_TOLD_PER_S;

/// No limits, and room for whoever comes.
fn settings() -> RateLimitConfig {
    RateLimitConfig {
        connections_max: 0,
        requests_per_s: 0,
        burst: 0,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        buckets: 1024,
    }
}

fn ledger(settings: RateLimitConfig) -> ClientTable {
    ClientTable::new(settings, RandomState::new())
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

/// One address, by the book: what it may do is counted anew every second.
struct Model {
    connections: u16,
    left: u32,
    refused: u16,
    /// The second of every request or handshake that was charged.
    charged_s: Vec<u32>,
}

impl Model {
    fn new(settings: &RateLimitConfig) -> Model {
        Model { connections: 0, left: settings.burst, refused: 0, charged_s: Vec::new() }
    }

    fn next_second(&mut self, settings: &RateLimitConfig) {
        self.left = settings.burst.min(self.left + settings.requests_per_s);
        self.refused = 0;
    }

    fn charge(&mut self, settings: &RateLimitConfig, now_s: u32) -> bool {
        if settings.requests_per_s == 0 {
            return true;
        }
        let served = self.left > 0;
        if served {
            self.left -= 1;
            self.charged_s.push(now_s);
        } else {
            self.refused += 1;
        }
        served
    }

    fn admit(
        &mut self,
        settings: &RateLimitConfig,
        secured: bool,
        now_s: u32,
    ) -> Result<(), LimitExceeded> {
        if settings.connections_max > 0 && self.connections == settings.connections_max {
            return Err(LimitExceeded::Connections);
        }
        let limited = settings.requests_per_s > 0;
        let told = self.refused >= REFUSALS_TOLD_PER_S;
        if limited && self.left == 0 && (secured || told) {
            return Err(LimitExceeded::Requests);
        }
        if secured {
            self.charge(settings, now_s);
        }
        self.connections += 1;
        Ok(())
    }

    /// What is promised to everybody else: in no span of time is more served.
    fn keeps_the_promise(&self, settings: &RateLimitConfig) -> bool {
        let per_s = u64::from(settings.requests_per_s);
        self.charged_s.iter().enumerate().all(|(first, from_s)| {
            self.charged_s[first..].iter().zip(1..).all(|(to_s, served)| {
                served <= u64::from(settings.burst) + per_s * u64::from(to_s - from_s)
            })
        })
    }
}

/// Does what the steps say, to a few addresses, and to the model; whether they always agree.
fn agrees_with_the_model(limits: (u8, u8, u8), steps: Vec<(u8, u8)>) -> bool {
    let requests_per_s = u32::from(limits.1 % 4);
    let settings = RateLimitConfig {
        connections_max: u16::from(limits.0 % 4),
        requests_per_s,
        burst: requests_per_s + u32::from(limits.2 % 6),
        ..settings()
    };
    let ledger = ledger(settings.clone());
    let mut models: HashMap<u8, Model> = HashMap::new();
    let mut open: Vec<(u8, ConnectionPermit)> = Vec::new();
    let mut now_s = 7;
    for (what, number) in steps {
        let number = number % 3;
        let model = models.entry(number).or_insert_with(|| Model::new(&settings));
        let agrees = match what % 16 {
            0..=5 => ledger.charge(address(number), now_s) == model.charge(&settings, now_s),
            6..=10 => {
                let secured = what % 2 == 0;
                let admitted = ledger.admit(address(number), secured, now_s);
                let expected = model.admit(&settings, secured, now_s);
                match (admitted, expected) {
                    (Ok(ticket), Ok(())) => {
                        open.push((number, ticket));
                        true
                    }
                    (Err(why), Err(expected)) => why == expected,
                    _ => false,
                }
            }
            11..=13 if !open.is_empty() => {
                let (number, ticket) = open.swap_remove(usize::from(what) % open.len());
                ledger.release(ticket);
                models.get_mut(&number).unwrap().connections -= 1;
                true
            }
            _ => {
                now_s += 1;
                models.values_mut().for_each(|model| model.next_second(&settings));
                true
            }
        };
        let counted = settings.connections_max > 0;
        let connections = if counted { open.len() as u64 } else { 0 };
        if !agrees || ledger.connections() != connections {
            return false;
        }
    }
    for (_, ticket) in open {
        ledger.release(ticket);
    }
    ledger.connections() == 0 && models.values().all(|model| model.keeps_the_promise(&settings))
}

quickcheck! {
    fn serves_what_is_promised_and_no_more(limits: (u8, u8, u8), steps: Vec<(u8, u8)>) -> bool {
        agrees_with_the_model(limits, steps)
    }
}

#[test]
fn long_stories_agree_with_the_model() {
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
        let limited = RateLimitConfig { connections_max: 1, ipv6_prefix: prefix, ..settings() };
        let ledger = ledger(limited);
        let ticket = ledger.admit(ip(one), false, 0).unwrap();
        let second = ledger.admit(ip(other), false, 0);
        assert_eq!(second.is_err(), same, "{one} and {other} by {prefix} bits");
        second.into_iter().for_each(|ticket| ledger.release(ticket));
        ledger.release(ticket);
        assert_eq!(ledger.connections(), 0);
    }
}

#[test]
fn who_is_exempt_is_never_limited() {
    let exempt = vec!["192.0.2.0/30".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let limited =
        RateLimitConfig { connections_max: 1, requests_per_s: 1, burst: 1, exempt, ..settings() };
    let ledger = ledger(limited);
    for (client, is_limited) in [
        ("192.0.2.3", false),
        ("::ffff:192.0.2.3", false),
        ("192.0.2.4", true),
        ("2001:db8::1", false),
        ("2001:db9::1", true),
    ] {
        let client = client.parse().unwrap();
        let tickets: Vec<_> = (0..9).filter_map(|_| ledger.admit(client, false, 0).ok()).collect();
        let served = (0..9).filter(|_| ledger.charge(client, 0)).count();
        let expected = if is_limited { (1, 1) } else { (9, 9) };
        assert_eq!((tickets.len(), served), expected, "{client}");
        tickets.into_iter().for_each(|ticket| ledger.release(ticket));
    }
}

/// The clocks of two workers differ by the length of a turn.
#[test]
fn a_worker_that_is_behind_gives_nothing_back() {
    let ledger = ledger(RateLimitConfig { requests_per_s: 2, burst: 2, ..settings() });
    let served = |now_s| (0..9).filter(|_| ledger.charge(address(1), now_s)).count();
    assert_eq!([5, 4, 5, 6, 5, 6, 7].map(served), [2, 0, 0, 2, 0, 0, 2]);
}

#[test]
fn a_full_bucket_refuses_nobody_and_forgets_no_connection() {
    let limited = RateLimitConfig { connections_max: 1, requests_per_s: 1, burst: 1, ..settings() };
    let ledger = ledger(RateLimitConfig { buckets: 1, ..limited });
    let mut tickets: Vec<ConnectionPermit> =
        (1..=7).map(|number| ledger.admit(address(number), false, 0).unwrap()).collect();
    // There is no room to know an eighth: it is served, whatever it does.
    for _ in 0..20 {
        assert_eq!(ledger.admit(address(8), true, 0), Ok(ConnectionPermit::default()));
        assert!(ledger.charge(address(8), 0));
    }
    assert_eq!(ledger.connections(), 7);
    for number in 1..=7 {
        assert_eq!(ledger.admit(address(number), false, 0), Err(LimitExceeded::Connections));
    }
    // When one is gone, it takes that one's place.
    ledger.release(tickets.remove(3));
    let eighth = ledger.admit(address(8), false, 0).unwrap();
    assert_ne!(eighth, ConnectionPermit::default());
    assert_eq!(ledger.admit(address(8), false, 0), Err(LimitExceeded::Connections));
    assert_eq!(ledger.connections(), 7);
    tickets.into_iter().chain([eighth]).for_each(|ticket| ledger.release(ticket));
    assert_eq!(ledger.connections(), 0);
}

/// Many addresses make the table forget, but not the one that hammers meanwhile.
#[test]
fn who_hammers_stays_known() {
    let ledger = ledger(RateLimitConfig { requests_per_s: 2, burst: 5, buckets: 1, ..settings() });
    let mut served = 0;
    for second in 0..50 {
        for other in 0..100 {
            served += u32::from(ledger.charge(address(0), second));
            assert!(ledger.charge(address(1 + other), second), "a newcomer is served");
        }
    }
    assert_eq!(served, 5 + 49 * 2);
}

#[test]
fn workers_share_one_limit() {
    const THREADS: u32 = 4;
    const MAX: u16 = 2;
    let limited =
        RateLimitConfig { connections_max: MAX, requests_per_s: 1, burst: 1000, ..settings() };
    let ledger = ledger(limited);
    let (open, served, refused) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ledger, open, served, refused) = (&ledger, &open, &served, &refused);
            scope.spawn(move || {
                let mut tickets = Vec::new();
                for step in 0..20_000_u32 {
                    if let Ok(ticket) = ledger.admit(address(1), false, 0) {
                        let others = open.fetch_add(1, Ordering::SeqCst);
                        assert!(others < u32::from(MAX), "{others} besides");
                        tickets.push(ticket);
                    } else {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                    served.fetch_add(u32::from(ledger.charge(address(2), 0)), Ordering::SeqCst);
                    // By itself it holds as many as there may be, and wants one more.
                    if tickets.len() > 3 || (step + thread) % 3 == 0 {
                        tickets.pop().into_iter().for_each(|ticket| {
                            open.fetch_sub(1, Ordering::SeqCst);
                            ledger.release(ticket);
                        });
                    }
                }
                for ticket in tickets {
                    open.fetch_sub(1, Ordering::SeqCst);
                    ledger.release(ticket);
                }
            });
        }
    });
    assert_eq!(served.into_inner(), 1000, "exactly the burst, whoever was asked");
    assert!(refused.into_inner() > 0, "the limit was never reached");
    assert_eq!(ledger.connections(), 0);
}

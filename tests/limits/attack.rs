//! One address attacks a tracker that serves others.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use rustls::version::TLS13;

use super::address;
use crate::support::client::{HttpClient, get_request};
use crate::support::tls_client::{client_config, client_hello, over_tls};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(one_address_attacks_and_the_others_are_served);

const LIMITS: &str = "[connections]\nidle_timeout = 300\n\
    [limits]\nconnections_per_address = 20\nrequests_per_second = 100\nrequest_burst = 200";
const BURST: u64 = 200;
const PER_S: u64 = 100;

/// Other clients, each with its own address.
const CLIENTS: u8 = 20;
/// Announces of each, half of them over one connection and half over one connection each.
const ROUNDS: usize = 15;
/// Connections that an attacker opens, unless the others finish before.
const CONNECTIONS_MAX: usize = 30_000;
/// Announces that it pipelines.
const REQUESTS: usize = 50;
/// Silent connections that it holds meanwhile.
const HELD: usize = 15;

/// The results of the attackers.
#[derive(Default)]
struct Loot {
    served: u64,
    refused: u64,
    reset: u64,
}

/// Opens connections and pipelines announces until the others have finished and both limits have
/// applied.
fn flood(to: SocketAddr, from: IpAddr, announce: &[u8], done: &AtomicBool) -> Loot {
    let mut loot = Loot::default();
    for _ in 0..CONNECTIONS_MAX {
        if done.load(Ordering::Relaxed) && loot.refused > 0 && loot.reset > 0 {
            break;
        }
        let mut client = HttpClient::connect_from(from, to);
        if !client.is_answered(announce.repeat(REQUESTS)) {
            loot.reset += 1;
            continue;
        }
        for _ in 0..REQUESTS {
            if client.read_response().has_connection_close() {
                loot.refused += 1;
                break;
            }
            loot.served += 1;
        }
    }
    loot
}

fn one_address_attacks_and_the_others_are_served(engine: Engine) {
    let start = Instant::now();
    let site = TlsTracker::start(engine, LIMITS);
    let settings = Arc::new(client_config(&site.authority, &TLS13));
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    let hello = client_hello(&settings);
    let (attacker, done) = (address(66), AtomicBool::new(false));
    let (plain, secured) = (site.tracker.v4, site.v4);
    let held: Vec<HttpClient> = (0..HELD)
        .map(|_| {
            let mut client = HttpClient::connect_from(attacker, plain);
            client.send(&announce[..20]);
            client
        })
        .collect();
    let (first, second, hellos) = thread::scope(|scope| {
        let flood = || flood(plain, attacker, &announce, &done);
        let floods = [scope.spawn(flood), scope.spawn(flood)];
        let hellos = scope.spawn(|| {
            let mut answered = 0;
            for _ in 0..CONNECTIONS_MAX {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let mut client = HttpClient::connect_from(attacker, secured);
                answered += u64::from(client.is_answered(&hello));
            }
            answered
        });
        let others: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (announce, settings) = (&announce, &settings);
                scope.spawn(move || {
                    let mut kept = HttpClient::connect_from(address(number), plain);
                    for round in 0..ROUNDS {
                        kept.send(announce);
                        parse_announce(&kept.read_response());
                        let mut new = HttpClient::connect_from(address(number), plain);
                        new.send(announce);
                        parse_announce(&new.read_response());
                        if round % 5 == 0 {
                            let client = HttpClient::connect_from(address(number), secured);
                            let mut secure = over_tls(client, settings);
                            secure.send(announce);
                            parse_announce(&secure.read_response());
                        }
                    }
                })
            })
            .collect();
        let served: Vec<_> = others.into_iter().map(|other| other.join()).collect();
        done.store(true, Ordering::Relaxed);
        let [first, second] = floods.map(|flood| flood.join().unwrap());
        let hellos = hellos.join().unwrap();
        // Each client panics if a response is missing.
        assert!(served.iter().all(|other| other.is_ok()));
        (first, second, hellos)
    });
    drop(held);
    // A second may begin during the count.
    let most = BURST + PER_S * (2 + start.elapsed().as_secs());
    let served = first.served + second.served + hellos;
    assert!(served <= most, "{served} of at most {most} were given to one address");
    assert!(served >= BURST, "the attack was none");
    assert!(first.refused + second.refused > 0, "nothing was refused");
    assert!(first.reset + second.reset > 0, "nothing was reset");
}

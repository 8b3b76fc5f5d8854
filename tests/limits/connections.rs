//! The limit of connections for one address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::version::TLS13;

use super::address;
use crate::support::client::{HttpClient, get_request};
use crate::support::tls_client::{client_config, client_hello, over_tls};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines, wait_for};

test_both_engines!(
    connections_of_an_address_are_limited,
    by_https_too,
    over_ipv6,
    exempt_addresses_hold_any_number,
    there_is_no_limit_by_default,
);

const LONG_TIMEOUTS: &str = "[connections]\nidle_timeout = 300\nheader_timeout = 300";

fn limited(max: u32) -> String {
    format!("{LONG_TIMEOUTS}\n[limits]\nconnections_per_address = {max}")
}

/// Connects and announces. Returns the connection unless it was reset.
#[track_caller]
fn hold(tracker: &Tracker, from: IpAddr, to: SocketAddr) -> Option<HttpClient> {
    let mut client = HttpClient::connect_from(from, to);
    let answered = client.is_answered(get_request(&TestTorrent::new(tracker, 1).target(1, "")));
    answered.then(|| {
        parse_announce(&client.read_response());
        client
    })
}

fn connections_of_an_address_are_limited(engine: Engine) {
    let tracker = Tracker::start(engine, &limited(5));
    let hold = |number| hold(&tracker, address(number), tracker.v4);
    let mut held: Vec<HttpClient> = (0..5).map(|_| hold(1).expect("within the limit")).collect();
    for _ in 0..20 {
        assert!(hold(1).is_none(), "more than the limit");
    }
    tracker.assert_logged(
        "a connection from 127.0.7.1 is refused: it has as many as \
         limits.connections_per_address = 5 allows",
    );
    // Other addresses and existing connections are not affected.
    let _others: Vec<HttpClient> = (0..5).map(|_| hold(2).expect("another address")).collect();
    for client in &mut held {
        client.send(get_request(&TestTorrent::new(&tracker, 1).target(1, "")));
        parse_announce(&client.read_response());
    }
    // A closed connection makes room for one.
    for _ in 0..3 {
        drop(held.pop());
        held.push(wait_for("room for another connection", || hold(1)));
        assert!(hold(1).is_none(), "more than one came back");
    }
}

fn by_https_too(engine: Engine) {
    let site = TlsTracker::start(engine, &limited(2));
    let settings = Arc::new(client_config(&site.authority, &TLS13));
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    let hold = |number| {
        let mut client = over_tls(HttpClient::connect_from(address(number), site.v4), &settings);
        client.send(&announce);
        parse_announce(&client.read_response());
        client
    };
    let held = [hold(1), hold(1)];
    let mut third = HttpClient::connect_from(address(1), site.v4);
    assert!(!third.is_answered(client_hello(&settings)), "more than the limit");
    // HTTP and HTTPS share the limit.
    let mut plain = HttpClient::connect_from(address(1), site.tracker.v4);
    assert!(!plain.is_answered(&announce), "more than the limit");
    hold(2);
    drop(held);
    wait_for("room for another connection", || {
        let mut client = HttpClient::connect_from(address(1), site.v4);
        client.is_answered(client_hello(&settings)).then_some(())
    });
}

fn over_ipv6(engine: Engine) {
    if !has_v6() {
        return;
    }
    let tracker = Tracker::start(engine, &limited(2));
    let hold = || hold(&tracker, "::1".parse().unwrap(), tracker.v6.unwrap());
    let _held = [hold(), hold()].map(|client| client.expect("within the limit"));
    assert!(hold().is_none(), "more than the limit");
}

fn exempt_addresses_hold_any_number(engine: Engine) {
    let exempt = "exempt = [\"127.0.7.1\", \"127.0.7.128/25\"]";
    let tracker = Tracker::start(engine, &format!("{}\n{exempt}", limited(2)));
    let hold = |number| hold(&tracker, address(number), tracker.v4);
    for (number, held) in [(1, 10), (2, 2), (127, 2), (128, 10)] {
        let clients: Vec<HttpClient> = (0..10).filter_map(|_| hold(number)).collect();
        assert_eq!(clients.len(), held, "from {}", address(number));
    }
}

fn there_is_no_limit_by_default(engine: Engine) {
    let tracker = Tracker::start(engine, LONG_TIMEOUTS);
    let held: Vec<HttpClient> =
        (0..300).filter_map(|_| hold(&tracker, address(1), tracker.v4)).collect();
    assert_eq!(held.len(), 300);
}

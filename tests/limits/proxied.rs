//! Behind proxies, which connect from 127.0.0.1: limits apply to the clients that they name.

use std::net::SocketAddr;

use super::address;
use crate::support::client::{HttpClient, get_request, request};
use crate::support::proxied_tracker::ProxiedTracker;
use crate::support::tls_client::client_hello;
use crate::support::torrent::{failure_reason, parse_announce, percent_encoded};
use crate::support::tracker::{Engine, test_both_engines, wait_for};

test_both_engines!(
    clients_in_a_header_have_their_own_requests,
    clients_of_the_proxy_protocol_have_their_own_connections,
    clients_of_the_proxy_protocol_are_refused_before_their_handshake,
    an_untrusted_proxy_is_counted_itself,
);

const CONNECTIONS: &str =
    "[connections]\nidle_timeout = 300\n[limits]\nconnections_per_address = 2";
const REQUESTS: &str = "[limits]\nrequests_per_second = 1\nrequest_burst = 5";
const BURST: usize = 5;

fn clients_in_a_header_have_their_own_requests(engine: Engine) {
    let limits = format!("{REQUESTS}\nconnections_per_address = 1");
    let site = ProxiedTracker::start_with(engine, "X-Forwarded-For", &limits);
    let announce = |client: &str| {
        let line = format!("X-Forwarded-For: {client}\r\n");
        request("GET", &site.target(1), "HTTP/1.1", &line)
    };
    let scrape = format!("/scrape?info_hash={}", percent_encoded(&[1; 20]));
    // A proxy holds any number of connections.
    let mut proxy: Vec<HttpClient> =
        (0..10).map(|_| HttpClient::connect(site.tracker.v4)).collect();
    for client in &mut proxy {
        client.send(get_request(&scrape));
        assert_eq!(client.read_response().status, 200);
    }
    for (client, same) in [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.8", "203.0.113.8"),
        ("2001:db8::1", "2001:db8::ffff"),
        ("2001:db8:0:1::1", "2001:db8:0:1:1::"),
    ] {
        let by_proxy = proxy.last_mut().unwrap();
        let of_both = [announce(client).repeat(BURST), announce(same)].concat();
        by_proxy.send(&of_both);
        for _ in 0..BURST {
            parse_announce(&by_proxy.read_response());
        }
        let response = by_proxy.read_response();
        assert!(failure_reason(&response).contains("too many requests"), "{client}");
        assert!(!response.has_connection_close(), "the connection is the proxy's");
    }
    // A scrape is charged like an announce.
    let by_proxy = proxy.last_mut().unwrap();
    let line = "X-Forwarded-For: 203.0.113.9\r\n";
    by_proxy.send(request("GET", &scrape, "HTTP/1.1", line).repeat(BURST + 1));
    for _ in 0..BURST {
        assert!(!by_proxy.read_response().body.starts_with(b"d14:failure"));
    }
    assert!(failure_reason(&by_proxy.read_response()).contains("too many requests"));
    // Requests of the proxy itself are not limited.
    for _ in 0..10 * BURST {
        by_proxy.send(get_request(&scrape));
        assert!(!by_proxy.read_response().body.starts_with(b"d14:failure"));
    }
}

/// Connects through a proxy that names this client, and announces. Returns the connection unless it
/// was reset.
#[track_caller]
fn connect_through(site: &ProxiedTracker, client: &str) -> Option<HttpClient> {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let mut connection = HttpClient::connect(site.proxy_protocol);
    let header = format!("PROXY {family} {client} {client} 1 2\r\n");
    let answered = connection.is_answered([header.as_bytes(), &site.announce(1)].concat());
    answered.then(|| {
        parse_announce(&connection.read_response());
        connection
    })
}

fn clients_of_the_proxy_protocol_have_their_own_connections(engine: Engine) {
    let site = ProxiedTracker::start_with(engine, "", CONNECTIONS);
    let mut held = Vec::new();
    for (client, same) in [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.8", "203.0.113.8"),
        ("2001:db8::1", "2001:db8::ffff"),
        ("2001:db8:0:1::1", "2001:db8:0:1:1::"),
    ] {
        held.push(connect_through(&site, client).expect("the first of two"));
        held.push(connect_through(&site, same).expect("the second of two"));
        assert!(connect_through(&site, same).is_none(), "a third of {same}");
        assert!(connect_through(&site, client).is_none(), "a third of {client}");
    }
    site.tracker.assert_logged("a connection from 203.0.113.7 is refused");
    held.truncate(1);
    let again = wait_for("room for another", || connect_through(&site, "203.0.113.7"));
    assert!(connect_through(&site, "203.0.113.7").is_none(), "a third once more");
    drop(again);
    // A header from an address that is not trusted does not count: the address itself is charged.
    let health = || {
        let mut connection = HttpClient::connect(site.proxy_protocol);
        connection.send([b"PROXY UNKNOWN\r\n", &site.announce(1)[..]].concat());
        parse_announce(&connection.read_response());
        connection
    };
    let _checks: Vec<HttpClient> = (0..10).map(|_| health()).collect();
}

fn clients_of_the_proxy_protocol_are_refused_before_their_handshake(engine: Engine) {
    let site = ProxiedTracker::start_with(engine, "", CONNECTIONS);
    let hello = client_hello(&site.client_config());
    let shakes_hands = |client: &str| {
        let mut connection = HttpClient::connect(site.proxy_protocol_tls);
        let header = format!("PROXY TCP4 {client} {client} 1 2\r\n");
        let answered = connection.is_answered([header.as_bytes(), &hello].concat());
        answered.then_some(connection)
    };
    let _held = ["203.0.113.7"; 2].map(|client| shakes_hands(client).expect("the first two"));
    assert!(shakes_hands("203.0.113.7").is_none(), "a third");
    assert!(shakes_hands("203.0.113.8").is_some(), "another");
}

/// The limit applies when the first bytes arrive.
fn an_untrusted_proxy_is_counted_itself(engine: Engine) {
    let tables = format!("{CONNECTIONS}\nrequests_per_second = 1\nrequest_burst = 5");
    let site = ProxiedTracker::start_with(engine, "", &tables);
    let knock = |to: SocketAddr| {
        let mut client = HttpClient::connect_from(address(1), to);
        client.is_answered("PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n")
    };
    let reset = (0..200).any(|_| !knock(site.proxy_protocol));
    assert!(reset, "a stranger is told for ever");
}

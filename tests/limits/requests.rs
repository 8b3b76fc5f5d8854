//! The limit of requests a second for one address.
//!
//! A second may begin at any time and refill the bucket: the tests allow for the seconds that can
//! have begun, and repeat what is to be refused until it is.

use std::sync::Arc;
use std::time::Instant;

use rustls::version::TLS13;

use super::address;
use crate::support::client::{HttpClient, HttpResponse, get_request};
use crate::support::tls_client::{client_config, client_hello, over_tls};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{TestTorrent, failure_reason, parse_announce, percent_encoded};
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};

test_both_engines!(
    requests_of_an_address_are_limited,
    each_kind_of_request_is_refused_in_its_form,
    invalid_requests_are_charged,
    clients_that_continue_are_reset,
    a_handshake_is_refused_before_it_begins,
    exempt_addresses_are_not_limited,
);

const LIMITS: &str = "[limits]\nrequests_per_second = 1\nrequest_burst = 5";
const BURST: u64 = 5;

/// Attempts: enough for a second to begin after some of them.
const TRIES: u32 = 20;

fn announce(tracker: &Tracker) -> Vec<u8> {
    get_request(&TestTorrent::new(tracker, 1).target(1, ""))
}

/// Asserts that this response tells the client to retry later, and the reason.
#[track_caller]
fn assert_retry_later(response: &HttpResponse) {
    assert!(failure_reason(response).starts_with("too many requests come from your address"));
    let whole = crate::support::bencode::decode(&response.body);
    assert_eq!(whole.integer("retry in"), 5);
    assert!(response.has_connection_close());
}

/// Pipelines announces, and returns how many were served before one was refused, if one was.
#[track_caller]
fn count_served(tracker: &Tracker, client: &mut HttpClient, count: usize) -> u64 {
    client.send(announce(tracker).repeat(count));
    for served in 0..count {
        let response = client.read_response();
        if response.has_connection_close() {
            assert_retry_later(&response);
            return served as u64;
        }
        parse_announce(&response);
    }
    count as u64
}

fn requests_of_an_address_are_limited(engine: Engine) {
    let start = Instant::now();
    let tracker = Tracker::start(engine, LIMITS);
    let mut client = HttpClient::connect_from(address(1), tracker.v4);
    let served = count_served(&tracker, &mut client, 100);
    let begun_s = 1 + start.elapsed().as_secs();
    assert!((BURST..=BURST + begun_s).contains(&served), "{served} in {begun_s} seconds");
    client.expect_close();
    tracker.assert_logged(
        "requests from 127.0.7.1 are refused: they are more than limits.requests_per_second = 1 \
         allows",
    );
    // Another address is served, over several connections and by any worker.
    for _ in 0..BURST {
        let mut other = HttpClient::connect_from(address(2), tracker.v4);
        other.send(announce(&tracker));
        parse_announce(&other.read_response());
    }
    wait_for("another request of the first", || {
        let mut client = HttpClient::connect_from(address(1), tracker.v4);
        let request = announce(&tracker);
        (client.is_answered(request) && !client.read_response().has_connection_close())
            .then_some(())
    });
}

fn each_kind_of_request_is_refused_in_its_form(engine: Engine) {
    let tracker = Tracker::start(engine, LIMITS);
    let scrape = format!("/scrape?info_hash={}", percent_encoded(&[1; 20]));
    let spent = |number, target| {
        let mut client = HttpClient::connect_from(address(number), tracker.v4);
        client.send([announce(&tracker).repeat(BURST as usize), get_request(target)].concat());
        for _ in 0..BURST {
            parse_announce(&client.read_response());
        }
        client
    };
    for (number, target) in [(1, "/announce"), (2, &scrape), (3, "/scrape")] {
        let mut client = spent(number, target);
        assert_retry_later(&client.read_response());
        client.expect_close();
    }
    for (number, target) in [(4, "/"), (5, "/favicon.ico")] {
        let mut client = spent(number, target);
        let response = client.read_response();
        assert_eq!((response.status, response.has_connection_close()), (429, true));
        client.expect_close();
    }
}

/// Otherwise garbage would not be limited.
fn invalid_requests_are_charged(engine: Engine) {
    let tracker = Tracker::start(engine, LIMITS);
    let refused = (0..TRIES as u8).any(|number| {
        let connect = || HttpClient::connect_from(address(number), tracker.v4);
        for _ in 0..BURST {
            let mut client = connect();
            client.send("GARBAGE / HTTP/1.1\r\n\r\n");
            assert_eq!(client.read_response().status, 405);
        }
        let mut client = connect();
        client.send(announce(&tracker));
        client.read_response().has_connection_close()
    });
    assert!(refused, "an announce was served after each flood");
}

fn clients_that_continue_are_reset(engine: Engine) {
    let start = Instant::now();
    let tracker = Tracker::start(engine, LIMITS);
    let (mut served, mut told, mut reset) = (0, 0, 0);
    for _ in 0..100 * TRIES {
        let mut client = HttpClient::connect_from(address(1), tracker.v4);
        if !client.is_answered(announce(&tracker)) {
            reset += 1;
        } else {
            let response = client.read_response();
            if response.has_connection_close() {
                assert_retry_later(&response);
                told += 1;
            } else {
                served += 1;
            }
        }
        if reset == 10 {
            break;
        }
    }
    let begun_s = 1 + start.elapsed().as_secs();
    assert_eq!(reset, 10, "{served} were served and {told} were told");
    assert!(told >= 4 && told <= 4 * begun_s, "{told} were told in {begun_s} seconds");
    assert!(served >= BURST && served <= BURST + begun_s, "{served} in {begun_s} seconds");
    // Another address is not affected.
    let mut other = HttpClient::connect_from(address(2), tracker.v4);
    assert!(other.is_answered(announce(&tracker)));
}

fn a_handshake_is_refused_before_it_begins(engine: Engine) {
    let site = TlsTracker::start(engine, LIMITS);
    let settings = Arc::new(client_config(&site.authority, &TLS13));
    let refused = (0..TRIES).any(|_| {
        let mut plain = HttpClient::connect_from(address(1), site.tracker.v4);
        if plain.is_answered(announce(&site.tracker).repeat(10)) {
            plain.read_all();
        }
        let mut secure = HttpClient::connect_from(address(1), site.v4);
        !secure.is_answered(client_hello(&settings))
    });
    assert!(refused, "a handshake was begun after each flood");
    // A handshake alone is charged too.
    let refused = (0..TRIES).any(|_| {
        (0..=BURST).any(|_| {
            let mut secure = HttpClient::connect_from(address(2), site.v4);
            !secure.is_answered(client_hello(&settings))
        })
    });
    assert!(refused, "handshakes were free");
    let mut other = over_tls(HttpClient::connect_from(address(3), site.v4), &settings);
    for _ in 0..BURST - 1 {
        other.send(announce(&site.tracker));
        parse_announce(&other.read_response());
    }
}

fn exempt_addresses_are_not_limited(engine: Engine) {
    let tracker = Tracker::start(engine, &format!("{LIMITS}\nexempt = [\"127.0.7.0/31\"]"));
    for number in [0, 1] {
        let mut client = HttpClient::connect_from(address(number), tracker.v4);
        assert_eq!(count_served(&tracker, &mut client, 100), 100);
    }
    let mut client = HttpClient::connect_from(address(2), tracker.v4);
    assert!(count_served(&tracker, &mut client, 100) < 100);
}

//! Slow clients: they send slowly, stop in the middle of a request, or do not read.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines, wait_for};

test_both_engines!(
    silent_clients_are_closed,
    half_a_request_gets_a_timeout_response,
    bytes_do_not_prolong_a_request,
    idle_clients_are_closed,
    empty_lines_do_not_extend_a_timeout,
    clients_that_do_not_read_are_reset,
    clients_that_do_not_read_the_last_response_are_reset,
    clients_that_do_not_read_use_no_processor_time,
);

const SHORT_TIMEOUTS: &str =
    "[connections]\nheader_timeout = 1\nidle_timeout = 1\nsend_timeout = 2";

/// TCP_DEFER_ACCEPT delays a connection without data for some seconds; then its timeout starts.
fn silent_clients_are_closed(engine: Engine) {
    let tracker = Tracker::start(engine, SHORT_TIMEOUTS);
    let silent: Vec<HttpClient> = (0..50).map(|_| HttpClient::connect(tracker.v4)).collect();
    let mut blank: Vec<HttpClient> = (0..50).map(|_| HttpClient::connect(tracker.v4)).collect();
    blank.iter_mut().for_each(|client| client.send("\r\n"));
    // No request, so no response.
    blank.into_iter().for_each(HttpClient::expect_close);
    for client in silent {
        assert!(client.read_all().is_empty());
    }
    TestTorrent::new(&tracker, 1).announce(1, "");
}

fn half_a_request_gets_a_timeout_response(engine: Engine) {
    let tracker = Tracker::start(engine, SHORT_TIMEOUTS);
    let whole = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    let mut fresh = HttpClient::connect(tracker.v4);
    fresh.send(&whole[..40]);
    let mut later = HttpClient::connect(tracker.v4);
    later.send([&whole[..], &whole[..40]].concat());
    parse_announce(&later.read_response());
    for mut client in [fresh, later] {
        let response = client.read_response();
        assert_eq!((response.status, response.has_connection_close()), (408, true));
        client.expect_close();
    }
}

fn bytes_do_not_prolong_a_request(engine: Engine) {
    let tracker = Tracker::start(engine, "[connections]\nheader_timeout = 2\nidle_timeout = 60");
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    let drip = |mut client: HttpClient| {
        let start = Instant::now();
        let slow = format!("GET {target} HTTP/1.1\r\nX: {}", "y".repeat(1000));
        client.stream.set_nonblocking(true).unwrap();
        let sent = slow.bytes().take_while(|byte| {
            thread::sleep(Duration::from_millis(20));
            client.stream.write_all(&[*byte]).is_ok() && client.stream.peek(&mut [0]).is_err()
        });
        // Sending all bytes would take 22 seconds.
        assert!(sent.count() < slow.len(), "every byte extended the timeout");
        client.stream.set_nonblocking(false).unwrap();
        assert_eq!(client.read_response().status, 408);
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(1), "cut off after {took:?}");
    };
    let mut later = HttpClient::connect(tracker.v4);
    later.send(get_request(&target));
    parse_announce(&later.read_response());
    thread::scope(|scope| {
        scope.spawn(|| drip(HttpClient::connect(tracker.v4)));
        scope.spawn(|| drip(later));
    });
}

fn idle_clients_are_closed(engine: Engine) {
    let tracker = Tracker::start(engine, SHORT_TIMEOUTS);
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    let mut clients: Vec<HttpClient> = (0..50).map(|_| HttpClient::connect(tracker.v4)).collect();
    for client in &mut clients {
        client.send(get_request(&target));
        parse_announce(&client.read_response());
    }
    for client in clients {
        assert!(client.read_all().is_empty());
    }
}

/// Empty lines between requests are skipped and do not extend the timeout.
fn empty_lines_do_not_extend_a_timeout(engine: Engine) {
    // Longer than a tick of the tracker's clock, or an extension would not show.
    let tables = "[connections]\nheader_timeout = 2\nidle_timeout = 2";
    let tracker = Tracker::start(engine, tables);
    let drip = |client: HttpClient| {
        let start = Instant::now();
        client.stream.set_nonblocking(true).unwrap();
        // Until the connection is closed or reset.
        while client.stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        {
            assert!(start.elapsed() < TIMEOUT, "open after {:?}", start.elapsed());
            let _ = (&client.stream).write(b"\r\n");
            thread::sleep(Duration::from_millis(100));
        }
    };
    let fresh = HttpClient::connect(tracker.v4);
    let mut later = HttpClient::connect(tracker.v4);
    later.send(get_request(&TestTorrent::new(&tracker, 1).target(1, "")));
    parse_announce(&later.read_response());
    thread::scope(|scope| {
        scope.spawn(|| drip(fresh));
        scope.spawn(|| drip(later));
    });
}

/// A non-blocking client with a small receive buffer.
fn deaf(tracker: &Tracker) -> HttpClient {
    let client = HttpClient::connect_small_window(tracker.v4);
    client.stream.set_nonblocking(true).unwrap();
    client
}

fn clients_that_do_not_read_are_reset(engine: Engine) {
    let tracker = Tracker::start_with(engine, 1, SHORT_TIMEOUTS, &[]);
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=200, "");
    let baseline = (tracker.descriptors(), tracker.resident_bytes());
    let requests = get_request(&torrent.target(1000, "numwant=200")).repeat(2000);
    let mut deaf: Vec<(HttpClient, usize)> = (0..20).map(|_| (deaf(&tracker), 0)).collect();
    let start = Instant::now();
    let mut most = 0;
    while !deaf.is_empty() {
        deaf.retain_mut(|(client, at)| client.write_until_full(&requests, at).is_ok());
        most = most.max(tracker.resident_bytes());
        // Other clients are served.
        torrent.announce(1, "");
        assert!(start.elapsed() < TIMEOUT, "{} are not cut off", deaf.len());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() > Duration::from_secs(1), "cut off after {:?}", start.elapsed());
    let growth = most.saturating_sub(baseline.1);
    // Twenty times the bytes held for one connection, a megabyte, and as much again for the
    // allocator.
    assert!(growth < 40 << 20, "{growth} bytes more");
    wait_for("their descriptors", || (tracker.descriptors() <= baseline.0).then_some(()));
}

/// The connection has had its last response: nothing more of it is received or answered, and it
/// must not stay open.
fn clients_that_do_not_read_the_last_response_are_reset(engine: Engine) {
    let tracker = Tracker::start(engine, SHORT_TIMEOUTS);
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=200, "");
    let baseline = tracker.descriptors();
    let announce = get_request(&torrent.target(1, "numwant=200&compact=0"));
    let requests = [announce.repeat(20), get_request("/")].concat();
    let deaf: Vec<HttpClient> = (0..20)
        .map(|_| {
            let mut client = HttpClient::connect_small_window(tracker.v4);
            client.send(&requests);
            client
        })
        .collect();
    wait_for("most of them", || (tracker.descriptors() > baseline + 10).then_some(()));
    wait_for("their descriptors", || (tracker.descriptors() <= baseline).then_some(()));
    drop(deaf);
    torrent.announce(1, "");
}

/// Bytes that wait for the client, bytes that wait from it, and its FIN must not keep the tracker
/// busy.
fn clients_that_do_not_read_use_no_processor_time(engine: Engine) {
    let tables = "[connections]\nheader_timeout = 300\nidle_timeout = 300\nsend_timeout = 300";
    let tracker = Tracker::start(engine, tables);
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=200, "");
    let requests = get_request(&torrent.target(1000, "numwant=200")).repeat(2000);
    let clients: Vec<HttpClient> = (0..20)
        .map(|number| {
            let mut client = deaf(&tracker);
            let mut at = 0;
            match number % 4 {
                0 | 1 => client.send(&requests[..requests.len() / 100]),
                _ => (0..5).for_each(|_| {
                    client.write_until_full(&requests, &mut at).unwrap();
                    thread::sleep(Duration::from_millis(10));
                }),
            }
            if number % 2 == 0 {
                client.shutdown_write();
            }
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    let before = tracker.processor_time();
    thread::sleep(Duration::from_secs(2));
    let used = tracker.processor_time() - before;
    assert!(used < Duration::from_millis(500), "{used:?} of processor time in two seconds");
    drop(clients);
    torrent.announce(1, "");
}

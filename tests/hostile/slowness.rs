//! Clients that take their time: to ask, to end a request, to read an answer.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines, wait_for};

test_both_engines!(
    who_says_nothing_is_closed,
    half_a_request_is_answered_in_the_end,
    bytes_do_not_prolong_a_request,
    who_asks_no_more_is_closed,
    line_ends_keep_nothing_open,
    who_does_not_read_is_cut_off,
    who_does_not_read_the_last_answer_is_cut_off,
    who_does_not_read_costs_no_time,
);

const QUICK: &str = "[connections]\nheader_timeout = 1\nidle_timeout = 1\nsend_timeout = 2";

/// The kernel holds back a connection without bytes for some seconds; then its time begins.
fn who_says_nothing_is_closed(engine: Engine) {
    let tracker = Tracker::start(engine, QUICK);
    let silent: Vec<HttpClient> = (0..50).map(|_| HttpClient::connect(tracker.v4)).collect();
    let mut blank: Vec<HttpClient> = (0..50).map(|_| HttpClient::connect(tracker.v4)).collect();
    blank.iter_mut().for_each(|client| client.send("\r\n"));
    // Nothing was asked, so nothing is answered.
    blank.into_iter().for_each(HttpClient::expect_close);
    for client in silent {
        assert!(client.read_all().is_empty());
    }
    TestTorrent::new(&tracker, 1).announce(1, "");
}

fn half_a_request_is_answered_in_the_end(engine: Engine) {
    let tracker = Tracker::start(engine, QUICK);
    let whole = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    let mut fresh = HttpClient::connect(tracker.v4);
    fresh.send(&whole[..40]);
    let mut later = HttpClient::connect(tracker.v4);
    later.send([&whole[..], &whole[..40]].concat());
    parse_announce(&later.read_response());
    for mut client in [fresh, later] {
        let reply = client.read_response();
        assert_eq!((reply.status, reply.has_connection_close()), (408, true));
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
        for byte in slow.as_bytes() {
            if client.stream.write_all(&[*byte]).is_err() || client.stream.peek(&mut [0]).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        client.stream.set_nonblocking(false).unwrap();
        assert_eq!(client.read_response().status, 408);
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(1), "cut off after {took:?}");
        // All of the bytes would have taken 22 seconds.
        assert!(took < Duration::from_secs(15), "cut off after {took:?} only");
    };
    let mut later = HttpClient::connect(tracker.v4);
    later.send(get_request(&target));
    parse_announce(&later.read_response());
    thread::scope(|scope| {
        scope.spawn(|| drip(HttpClient::connect(tracker.v4)));
        scope.spawn(|| drip(later));
    });
}

fn who_asks_no_more_is_closed(engine: Engine) {
    let tracker = Tracker::start(engine, QUICK);
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

/// They are skipped between requests, but are none.
fn line_ends_keep_nothing_open(engine: Engine) {
    // Longer than a tick of the tracker's clock, or a renewal would not show.
    let tables = "[connections]\nheader_timeout = 2\nidle_timeout = 2";
    let tracker = Tracker::start(engine, tables);
    let drip = |client: HttpClient| {
        let start = Instant::now();
        client.stream.set_nonblocking(true).unwrap();
        // Until the end, or a reset, can be read.
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

/// A client with little room, which does not wait for more.
fn deaf(tracker: &Tracker) -> HttpClient {
    let client = HttpClient::connect_small_window(tracker.v4);
    client.stream.set_nonblocking(true).unwrap();
    client
}

fn who_does_not_read_is_cut_off(engine: Engine) {
    let tracker = Tracker::start_with(engine, 1, QUICK, &[]);
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
        // The others are not concerned.
        torrent.announce(1, "");
        assert!(start.elapsed() < TIMEOUT, "{} are not cut off", deaf.len());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() > Duration::from_secs(1), "cut off after {:?}", start.elapsed());
    let growth = most.saturating_sub(baseline.1);
    // Twenty times what is kept of one, a megabyte, and as much again for the allocator.
    assert!(growth < 40 << 20, "{growth} bytes more");
    wait_for("their descriptors", || (tracker.descriptors() <= baseline.0).then_some(()));
}

/// Nothing of it is received or answered any more, and still it does not hold its connection.
fn who_does_not_read_the_last_answer_is_cut_off(engine: Engine) {
    let tracker = Tracker::start(engine, QUICK);
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

/// Neither the bytes that wait for such a client nor those of it that wait, nor its end, keep
/// the tracker busy.
fn who_does_not_read_costs_no_time(engine: Engine) {
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

//! Responses arrive complete, however slowly the client reads and however the connection ends.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    slow_readers_get_all_answers,
    slow_readers_get_all_answers_at_a_stop,
    waiting_requests_are_answered_at_a_stop,
    bytes_behind_the_last_request_lose_no_response,
    bytes_after_the_last_request_lose_no_response,
    idle_clients_do_not_delay_a_stop,
);

/// The rate of slow readers, bytes a second.
const SLOW: usize = 20_000;
/// Peers in each response in the long form: about six kilobytes.
const PEERS: u16 = 200;

/// Much more than fits the client's receive buffer and the tracker's send buffer.
const ANSWERS: usize = 20;

fn long_announce(torrent: &TestTorrent<'_>) -> Vec<u8> {
    get_request(&torrent.target(1, "numwant=200&compact=0"))
}

/// Counts the announce responses, and the other responses after them.
fn answers_in(mut client: HttpClient<impl Read + Write>) -> (usize, usize) {
    let (mut announces, mut others) = (0, 0);
    while !client.all_read() {
        let response = client.read_response();
        if response.status == 200 && response.body.starts_with(b"d8:complete") {
            assert_eq!(parse_announce(&response).peers.len(), usize::from(PEERS) - 1);
            announces += 1;
        } else {
            others += 1;
        }
    }
    (announces, others)
}

fn slow_readers_get_all_answers(engine: Engine) {
    // The total time has no limit.
    let tracker = Tracker::start(engine, "[connections]\nsend_timeout = 4\nidle_timeout = 1");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=PEERS, "");
    let announce = long_announce(&torrent);
    let last = String::from_utf8(announce.clone()).unwrap();
    let last = last.replace("Host: tracker", "Connection: close");
    let endings = [
        (0, Vec::new()),
        (1, get_request("/")),
        (1, get_request("/nothing")),
        (1, b"POST / HTTP/1.1\r\nHost: t\r\n\r\n".to_vec()),
        (1, b"nonsense\r\n\r\n".to_vec()),
        // Half a request, which gets a response at its timeout.
        (1, b"GET /announce".to_vec()),
        (0, last.into_bytes()),
    ];
    thread::scope(|scope| {
        for (others, ending) in &endings {
            let requests = [&announce.repeat(ANSWERS), &ending[..]].concat();
            let mut client = HttpClient::connect_small_window(tracker.v4);
            scope.spawn(move || {
                client.send(requests);
                if *others == 0 {
                    client.shutdown_write();
                }
                client.read_slowly(SLOW);
                let announces = ANSWERS + usize::from(ending.ends_with(b"close\r\n\r\n"));
                assert_eq!(answers_in(client), (announces, *others), "{}", ending.escape_ascii());
            });
        }
    });
}

fn slow_readers_get_all_answers_at_a_stop(engine: Engine) {
    let mut tracker = Tracker::start(engine, "[connections]\nshutdown_timeout = 60");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=PEERS, "");
    let announce = long_announce(&torrent);
    let clients: Vec<HttpClient> = (0..4)
        .map(|number| {
            let mut client = HttpClient::connect_small_window(tracker.v4);
            client.send(announce.repeat(ANSWERS / (1 + number % 2)));
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    tracker.signal("TERM");
    tracker.assert_logged("stopping");
    thread::scope(|scope| {
        for (number, mut client) in clients.into_iter().enumerate() {
            scope.spawn(move || {
                client.read_slowly(SLOW);
                assert_eq!(answers_in(client), (ANSWERS / (1 + number % 2), 0));
            });
        }
    });
    let (status, log) = tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// More pipelined requests than the tracker receives from a client that does not read.
fn waiting_requests_are_answered_at_a_stop(engine: Engine) {
    let mut tracker = Tracker::start(engine, "[connections]\nshutdown_timeout = 60");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=PEERS, "");
    let padding = "x".repeat(1000);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: t\r\nX: {padding}\r\n\r\n",
        torrent.target(1, "numwant=200&compact=0")
    );
    let mut client = HttpClient::connect_small_window(tracker.v4);
    client.send(request.repeat(50));
    thread::sleep(Duration::from_millis(200));
    tracker.signal("TERM");
    tracker.assert_logged("stopping");
    client.read_slowly(usize::MAX);
    assert_eq!(answers_in(client), (50, 0));
    let (status, log) = tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Some clients send a byte or a line end after their request, in its own segment.
fn bytes_behind_the_last_request_lose_no_response(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=PEERS, "");
    let announce = String::from_utf8(long_announce(&torrent)).unwrap();
    let short = get_request(&torrent.target(1, "numwant=0"));
    let last = announce.replace("Host: tracker", "Connection: close");
    let short = String::from_utf8(short).unwrap().replace("Host: tracker", "Connection: close");
    for number in 0..1500 {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(if number % 2 == 0 { &last } else { &short });
        client.send(["\0", "\r\n"][number % 2]);
        let bytes = client.read_all();
        assert!(bytes.ends_with(b"e"), "try {number}: \"{}\"", bytes.escape_ascii());
    }
}

/// The same, while the client is still reading responses.
fn bytes_after_the_last_request_lose_no_response(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=PEERS, "");
    let announce = String::from_utf8(long_announce(&torrent)).unwrap();
    let last = announce.replace("Host: tracker", "Connection: close");
    for before in [0, 3] {
        let mut client = HttpClient::connect_small_window(tracker.v4);
        client.send(announce.repeat(before) + &last);
        thread::sleep(Duration::from_millis(100));
        client.send("\r\n");
        thread::sleep(Duration::from_millis(100));
        client.read_slowly(SLOW);
        assert_eq!(answers_in(client), (before + 1, 0));
    }
}

/// Whether the clients close their connections or not.
fn idle_clients_do_not_delay_a_stop(engine: Engine) {
    // Closed connections may linger for two seconds: one of twenty stops must take less.
    for _ in 0..20 {
        let mut tracker = Tracker::start(engine, "");
        let target = TestTorrent::new(&tracker, 1).target(1, "");
        let mut idle: Vec<HttpClient> = (0..20).map(|_| HttpClient::connect(tracker.v4)).collect();
        for client in &mut idle {
            client.send(get_request(&target));
            parse_announce(&client.read_response());
        }
        tracker.signal("TERM");
        let start = Instant::now();
        let (status, log) = tracker.wait_exit();
        let took = start.elapsed();
        assert_eq!(status.code(), Some(0), "{log}");
        idle.into_iter().for_each(HttpClient::expect_close);
        if took < Duration::from_millis(1500) {
            return;
        }
    }
    panic!("all of twenty stops waited for closed connections");
}

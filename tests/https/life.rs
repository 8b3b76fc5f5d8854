//! How connections begin and end: timeouts, alerts and close_notify.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{HttpClient, get_request, request};
use crate::support::tls_client::{
    TlsStream, VERSIONS, client_config, client_hello, connect_tls, over_tls,
};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, TIMEOUT, test_both_engines, wait_for};

test_both_engines!(
    handshakes_end_in_time,
    bytes_do_not_prolong_a_handshake,
    tls_on_a_plain_port_gets_a_response,
    too_many_key_updates_end_with_an_alert,
    a_handshake_is_not_a_request,
    half_a_request_gets_a_timeout_response,
    idle_clients_get_close_notify,
    http_where_tls_is_spoken,
    tls_where_http_is_spoken,
    clients_that_do_not_read_their_handshake,
    clients_that_do_not_read_are_reset,
    what_is_in_flight_is_answered,
    a_stop_is_bounded,
);

/// Only the handshake timeout can expire here.
const BRIEF: &str = "[connections]\nhandshake_timeout = 1\nheader_timeout = 300\n\
                     idle_timeout = 300\nsend_timeout = 300";

fn handshakes_end_in_time(engine: Engine) {
    let site = TlsTracker::start(engine, BRIEF);
    let baseline = site.tracker.descriptors();
    let mut stalled = Vec::new();
    for version in VERSIONS {
        let hello = client_hello(&Arc::new(client_config(&site.authority, version)));
        // No bytes, parts of the ClientHello, and all of it, after which the client stays silent.
        for length in [0, 1, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()] {
            let mut client = HttpClient::connect(site.v4);
            client.send(&hello[..length]);
            stalled.push(client);
        }
    }
    // `read_all` fails unless the connection is closed.
    for client in stalled {
        let said = client.read_all();
        assert!(said.is_empty() || matches!(said[0], 0x15 | 0x16), "\"{}\"", said.escape_ascii());
    }
    wait_for("their descriptors", || (site.tracker.descriptors() <= baseline).then_some(()));
    site.assert_serves();
}

/// More key updates in a row than allowed: earlier requests are answered, and an alert or
/// close_notify ends the connection.
fn too_many_key_updates_end_with_an_alert(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    for together in [true, false] {
        let mut client = site.connect();
        client.send(get_request(&TestTorrent::new(&site.tracker, 1).target(1, "")));
        parse_announce(&client.read_response());
        for _ in 0..33 {
            client.stream.conn.refresh_traffic_keys().unwrap();
            if !together {
                client.stream.conn.complete_io(&mut client.stream.sock).unwrap();
            }
        }
        client.send(b"");
        // Without an alert or close_notify, rustls reports an unexpected end.
        client.expect_close_notify();
    }
    site.assert_serves();
}

/// A ClientHello at once or in pieces, and any number of further bytes: the response can be read to
/// its end.
fn tls_on_a_plain_port_gets_a_response(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let hello =
        |version| client_hello(&Arc::new(client_config(&site.authority, VERSIONS[version])));
    let long = [&[22, 3, 1, 64, 0, 1, 0, 63, 252, 3, 3][..], &[7; 16_000]].concat();
    let old = [&[128, 46, 1, 3, 1, 0, 21, 0, 0, 0, 16][..], &[9; 37]].concat();
    for begun in [hello(0), hello(1), long, old, vec![21, 3, 1, 0, 2, 2, 70]] {
        for piece in [begun.len(), 1000, 1] {
            let mut client = HttpClient::connect(site.tracker.v4);
            for piece in begun.chunks(piece).take(10) {
                // The tracker may respond before the last piece.
                let _ = client.stream.write_all(piece);
            }
            let response = client.read_response();
            assert_eq!(
                (response.status, response.has_connection_close()),
                (400, true),
                "{begun:?}"
            );
            let said = String::from_utf8(response.body).unwrap();
            assert!(said.contains("write http://"), "{said}");
            client.expect_close();
        }
    }
}

fn bytes_do_not_prolong_a_handshake(engine: Engine) {
    let site = TlsTracker::start(engine, BRIEF);
    let hello = client_hello(&Arc::new(client_config(&site.authority, VERSIONS[1])));
    let client = HttpClient::connect(site.v4);
    client.stream.set_nonblocking(true).unwrap();
    // Sending all of it would take half a minute.
    let pause = Duration::from_secs(30) / hello.len() as u32;
    let sent = hello.iter().take_while(|byte| {
        thread::sleep(pause);
        let waits = |error: io::Error| error.kind() == ErrorKind::WouldBlock;
        client.stream.peek(&mut [0]).is_err_and(waits)
            && (&client.stream).write_all(&[**byte]).is_ok()
    });
    assert!(sent.count() < hello.len(), "a handshake of half a minute");
    site.assert_serves();
}

/// A client that completes the handshake and stays silent gets close_notify.
fn a_handshake_is_not_a_request(engine: Engine) {
    let tables = "[connections]\nhandshake_timeout = 1\nheader_timeout = 1\nidle_timeout = 300";
    let site = TlsTracker::start(engine, tables);
    let mut silent = site.connect_by_each();
    silent.iter_mut().for_each(HttpClient::handshake);
    silent.into_iter().for_each(HttpClient::expect_close_notify);
}

fn half_a_request_gets_a_timeout_response(engine: Engine) {
    let tables = "[connections]\nhandshake_timeout = 300\nheader_timeout = 1\nidle_timeout = 300";
    let site = TlsTracker::start(engine, tables);
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    for before in [0, 1] {
        for mut client in site.connect_by_each() {
            client.send([&announce.repeat(before), &announce[..40]].concat());
            for _ in 0..before {
                parse_announce(&client.read_response());
            }
            let response = client.read_response();
            assert_eq!((response.status, response.has_connection_close()), (408, true));
            client.expect_close_notify();
        }
    }
}

fn idle_clients_get_close_notify(engine: Engine) {
    let tables = "[connections]\nhandshake_timeout = 300\nheader_timeout = 300\nidle_timeout = 1";
    let site = TlsTracker::start(engine, tables);
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    let mut idle: Vec<HttpClient<TlsStream>> =
        (0..10).flat_map(|_| site.connect_by_each()).collect();
    for client in &mut idle {
        client.send(&announce);
        parse_announce(&client.read_response());
    }
    idle.into_iter().for_each(HttpClient::expect_close_notify);
}

fn http_where_tls_is_spoken(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let target = TestTorrent::new(&site.tracker, 1).target(1, "");
    let long = format!("X: {}\r\n", "x".repeat(2000));
    for request in [
        get_request(&target),
        request("HEAD", &target, "HTTP/1.0", ""),
        request("POST", &target, "HTTP/1.1", "Content-Length: 0\r\n"),
        request("GET", &target, "HTTP/1.1", &long),
        get_request(&target).repeat(20),
    ] {
        let mut client = HttpClient::connect(site.v4);
        client.send(&request);
        let asks_for_head = request.starts_with(b"HEAD ");
        let response =
            if asks_for_head { client.read_response_head() } else { client.read_response() };
        assert_eq!((response.status, response.has_connection_close()), (400, true));
        if asks_for_head {
            client.expect_close();
            continue;
        }
        let text = String::from_utf8(response.body).unwrap();
        assert!(text.to_lowercase().contains("https"), "{text:?}");
        client.expect_close();
    }
    assert_eq!(TestTorrent::new(&site.tracker, 1).scrape().incomplete, 0, "it was served");
    site.assert_serves();
}

fn tls_where_http_is_spoken(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    for version in VERSIONS {
        let settings = Arc::new(client_config(&site.authority, version));
        let mut client = HttpClient::connect(site.tracker.v4);
        client.send(client_hello(&settings));
        // A close and no reset.
        client.stream.read_to_end(&mut Vec::new()).unwrap();
        let mut client = connect_tls(site.tracker.v4, &settings);
        let refused = client.stream.conn.complete_io(&mut client.stream.sock).unwrap_err();
        assert!(
            matches!(refused.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof),
            "{refused}"
        );
    }
    TestTorrent::new(&site.tracker, 1).announce(1, "");
}

fn clients_that_do_not_read_their_handshake(engine: Engine) {
    let site = TlsTracker::start(engine, BRIEF);
    let baseline = site.tracker.descriptors();
    let hello = client_hello(&Arc::new(client_config(&site.authority, VERSIONS[1])));
    let deaf: Vec<HttpClient> = (0..300)
        .map(|_| {
            let mut client = HttpClient::connect_small_window(site.v4);
            client.send(&hello);
            client
        })
        .collect();
    site.assert_serves();
    wait_for("their descriptors", || (site.tracker.descriptors() <= baseline).then_some(()));
    drop(deaf);
    site.assert_serves();
}

/// Writes requests until the socket has no room; the connection must be non-blocking.
fn write_requests(client: &mut HttpClient<TlsStream>, requests: &[u8]) -> io::Result<()> {
    let TlsStream { conn, sock } = &mut client.stream;
    loop {
        if !conn.wants_write() {
            conn.writer().write_all(requests)?;
        }
        match conn.write_tls(sock) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn clients_that_do_not_read_are_reset(engine: Engine) {
    let site = TlsTracker::start(engine, "[connections]\nsend_timeout = 2");
    let torrent = TestTorrent::new(&site.tracker, 1);
    torrent.announce_ports(site.tracker.v4, 1..=200, "");
    site.assert_serves();
    let baseline = (site.tracker.descriptors(), site.tracker.resident_bytes());
    let requests = get_request(&torrent.target(1000, "numwant=200")).repeat(100);
    let mut deaf: Vec<HttpClient<TlsStream>> = (0..20)
        .map(|number| {
            let settings = Arc::new(client_config(&site.authority, VERSIONS[number % 2]));
            let mut client = over_tls(HttpClient::connect_small_window(site.v4), &settings);
            client.handshake();
            client.stream.sock.set_nonblocking(true).unwrap();
            client
        })
        .collect();
    let start = Instant::now();
    let mut most = 0;
    while !deaf.is_empty() {
        deaf.retain_mut(|client| write_requests(client, &requests).is_ok());
        most = most.max(site.tracker.resident_bytes());
        // Other clients are served.
        site.assert_serves();
        assert!(start.elapsed() < TIMEOUT, "{} are not cut off", deaf.len());
    }
    let growth = most.saturating_sub(baseline.1);
    // The bytes held for twenty connections, in plaintext and in records, and as much again for the
    // allocator.
    assert!(growth < 80 << 20, "{growth} bytes more");
    wait_for("their descriptors", || (site.tracker.descriptors() <= baseline.0).then_some(()));
}

fn what_is_in_flight_is_answered(engine: Engine) {
    let mut site = TlsTracker::start(engine, "");
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    let (first, rest) = announce.split_at(announce.len() / 2);
    let mut halves = Vec::new();
    for before in [0, 1] {
        for mut client in site.connect_by_each() {
            client.send([&announce.repeat(before), first].concat());
            for _ in 0..before {
                parse_announce(&client.read_response());
            }
            halves.push(client);
        }
    }
    let mut idle = site.connect_by_each();
    let mut unread = site.connect_by_each();
    for client in &mut idle {
        client.send(&announce);
        parse_announce(&client.read_response());
    }
    for client in &mut unread {
        client.send(announce.repeat(300));
    }
    thread::sleep(Duration::from_millis(200));
    site.tracker.signal("TERM");
    site.tracker.assert_logged("stopping");
    idle.into_iter().for_each(HttpClient::expect_close_notify);
    site.tracker.wait_refusal(site.v4);
    for mut client in halves {
        client.send(rest);
        let response = client.read_response();
        parse_announce(&response);
        assert!(response.has_connection_close(), "the last reply of the connection");
        client.expect_close_notify();
    }
    for mut client in unread {
        for _ in 0..300 {
            parse_announce(&client.read_response());
        }
        client.expect_close_notify();
    }
    let (status, log) = site.tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Connections that stay open are closed, in the handshake or after it.
fn a_stop_is_bounded(engine: Engine) {
    let tables = "[connections]\nshutdown_timeout = 1\nhandshake_timeout = 300\n\
                  header_timeout = 300\nsend_timeout = 300";
    let mut site = TlsTracker::start(engine, tables);
    let settings = Arc::new(client_config(&site.authority, VERSIONS[1]));
    let hello = client_hello(&settings);
    let mut stalled: Vec<HttpClient> = (0..4).map(|_| HttpClient::connect(site.v4)).collect();
    for (client, length) in stalled.iter_mut().zip([1, hello.len() / 2, hello.len()]) {
        client.send(&hello[..length]);
    }
    let mut half = site.connect_by_each();
    half.iter_mut().for_each(|client| client.send("GET /announce"));
    thread::sleep(Duration::from_millis(200));
    site.tracker.signal("TERM");
    for mut client in half {
        let response = client.read_response();
        assert_eq!((response.status, response.has_connection_close()), (408, true));
        client.expect_close_notify();
    }
    // Ends within the usual timeout, which is less than 300 seconds.
    let (status, log) = site.tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
    drop(stalled);
}

//! Requests and responses on a connection: which keep it open, which close it, and their order.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use annulus::limits::RECV_BUFFER_BYTES;

use crate::support::client::{HttpClient, fetch, get_request, request};
use crate::support::torrent::{TestTorrent, failure_reason, parse_announce, parse_scrape};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    which_requests_keep_a_connection,
    heads,
    headers_in_any_case_and_order,
    line_ends,
    pipelined_requests,
    pipelined_requests_of_all_kinds,
    a_slow_reader_gets_every_answer,
    a_mistake_in_a_pipeline,
    a_close_in_a_pipeline,
    a_close_at_the_end_of_what_was_received,
    half_closed_connections,
    split_at_every_byte,
    byte_by_byte,
);

fn which_requests_keep_a_connection(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    for (version, headers, kept) in [
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: keep-alive\r\n", true),
        ("HTTP/1.1", "Connection: Upgrade\r\n", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "connection:CLOSE\r\n", false),
        ("HTTP/1.1", "Connection: keep-alive, close\r\n", false),
        ("HTTP/1.1", "Connection: TE,\tClose , x\r\n", false),
        ("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("HTTP/1.1", "Connection: closed\r\n", true),
        ("HTTP/1.1", "X-Connection: close\r\n", true),
        ("HTTP/1.1", "Proxy-Connection: close\r\n", true),
        ("HTTP/1.2", "", true),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "Connection: x, keep-alive\r\n", true),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
        ("HTTP/1.0", "Connection: close\r\n", false),
    ] {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(request("GET", &target, version, headers));
        let response = client.read_response();
        parse_announce(&response);
        let says = response.header("connection");
        if kept {
            // HTTP/1.0 needs `Connection: keep-alive` in the response; HTTP/1.1 does not.
            let expected = (version == "HTTP/1.0").then_some("keep-alive");
            assert_eq!(says, expected, "{version} {headers}");
            client.send(request("GET", &target, "HTTP/1.1", ""));
            parse_announce(&client.read_response());
        } else {
            assert_eq!(says, Some("close"), "{version} {headers}");
            client.expect_close();
        }
    }
    // A failure does not close the connection.
    let mut client = HttpClient::connect(tracker.v4);
    for _ in 0..3 {
        client.send(get_request("/announce"));
        failure_reason(&client.read_response());
    }
    client.send(request("GET", "/announce", "HTTP/1.0", ""));
    failure_reason(&client.read_response());
    client.expect_close();
}

fn heads(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=20, "");
    let mut client = HttpClient::connect(tracker.v4);
    for target in [torrent.target(30, ""), torrent.target(30, "compact=0"), "/announce".to_owned()]
    {
        client.send(request("HEAD", &target, "HTTP/1.1", ""));
        let head = client.read_response_head();
        client.send(request("GET", &target, "HTTP/1.1", ""));
        let whole = client.read_response();
        assert_eq!(head.headers, whole.headers, "{target}");
        assert_eq!((head.status, whole.status), (200, 200), "{target}");
    }
    client.send(request("HEAD", "/index", "HTTP/1.1", ""));
    let response = client.read_response_head();
    assert_eq!(response.status, 404);
    assert!(response.header("content-length").is_some_and(|length| length != "0"));
    client.expect_close();
}

fn headers_in_any_case_and_order(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    let mut client = HttpClient::connect(tracker.v4);
    for headers in [
        "host: a\r\nconnection: keep-alive\r\nuser-agent:\r\naccept: */*\r\n\
         sec-fetch-mode: cors\r\n",
        "ACCEPT-ENCODING: gzip\r\nUSER-AGENT: x\r\nHOST: a\r\nCONNECTION: KEEP-ALIVE\r\n",
        "User-Agent: x\r\nRange: bytes=0-88\r\nExpect: 100-continue\r\n",
        "Host: ::1:7070\r\nHost: again\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        "X:\tpadded \t\r\nY:  \r\nUpgrade: h2c\r\nCookie: \u{e9}\u{ff}\r\n",
        "User-Agent: a\x1eb\r\nX: \x01\x02\x08\x0b\x0c\x0e\x1b\x1f\x7f\r\n\
         Connection: \x1eclose\r\n",
        "",
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\n{headers}\r\n"));
        let response = client.read_response();
        parse_announce(&response);
        assert_eq!(response.header("content-encoding"), None);
        assert_eq!(response.header("transfer-encoding"), None);
    }
}

fn line_ends(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    let mut client = HttpClient::connect(tracker.v4);
    for text in [
        format!("GET {target} HTTP/1.1\nHost: a\n\n"),
        format!("GET {target} HTTP/1.1\r\nHost: a\n\r\n"),
        format!("\r\nGET {target} HTTP/1.1\r\n\r\n"),
        format!("\n\r\n\0GET {target} HTTP/1.1\r\n\r\n\r\n\r\n"),
    ] {
        client.send(text);
        parse_announce(&client.read_response());
    }
}

/// Pipelines of all lengths, with and without room for all responses; the counts tell the responses
/// apart.
fn pipelined_requests(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for (count, torrent) in [3, 100, 1000].into_iter().zip(1..) {
        let torrent = TestTorrent::new(&tracker, torrent);
        let requests: Vec<u8> = (1..=count)
            .flat_map(|port| get_request(&torrent.target(port, "numwant=200")))
            .collect();
        let mut client = HttpClient::connect(tracker.v4);
        let mut writer = client.stream.try_clone().unwrap();
        let writer = thread::spawn(move || writer.write_all(&requests).unwrap());
        for number in 1..=i64::from(count) {
            assert_eq!(parse_announce(&client.read_response()).incomplete, number);
        }
        writer.join().unwrap();
        client.expect_silence(Duration::from_millis(50));
        client.shutdown_write();
        client.expect_close();
    }
}

fn pipelined_requests_of_all_kinds(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let scrape = format!(
        "/scrape?info_hash={}",
        crate::support::torrent::percent_encoded(&torrent.info_hash)
    );
    let round = [
        get_request(&torrent.target(1, "")),
        b"\r\n\0\0\n".to_vec(),
        get_request("/announce?info_hash=short"),
        request("HEAD", &scrape, "HTTP/1.1", ""),
        get_request(&scrape),
        request("GET", &torrent.target(2, ""), "HTTP/1.0", "Connection: keep-alive\r\n"),
    ]
    .concat();
    let mut client = HttpClient::connect(tracker.v4);
    client.send(round.repeat(30));
    for _ in 0..30 {
        parse_announce(&client.read_response());
        failure_reason(&client.read_response());
        assert_eq!(client.read_response_head().status, 200);
        assert_eq!(parse_scrape(&client.read_response()).len(), 1);
        assert_eq!(parse_announce(&client.read_response()).incomplete, 2);
    }
    client.shutdown_write();
    client.expect_close();
}

/// Responses that do not fit the client's buffers wait, without loss and in order.
fn a_slow_reader_gets_every_answer(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=200, "");
    let requests: Vec<u8> =
        (201..=2200).flat_map(|port| get_request(&torrent.target(port, "numwant=200"))).collect();
    for after in ["", "GET /", "BAD~"] {
        let mut client = HttpClient::connect_small_window(tracker.v4);
        let mut writer = client.stream.try_clone().unwrap();
        let requests = [&requests[..], after.as_bytes()].concat();
        let writer = thread::spawn(move || {
            writer.write_all(&requests).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        thread::sleep(Duration::from_millis(100));
        let mut stored = 0;
        for number in 1..=2000 {
            if number % 100 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
            let answer = parse_announce(&client.read_response());
            assert_eq!(answer.peers.len(), 200, "the {number}th answer");
            assert!(answer.incomplete >= stored, "the {number}th answer");
            stored = answer.incomplete;
        }
        assert_eq!(stored, 2200);
        writer.join().unwrap();
        if !after.is_empty() {
            assert_eq!(client.read_response().status, 400, "{after}");
        }
        client.expect_close();
        // So that the next iteration finds the torrents unknown.
        for port in 201..=2200 {
            torrent.announce(port, "event=stopped");
        }
    }
}

fn a_mistake_in_a_pipeline(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    for before in [1, 10, 300] {
        let good: Vec<u8> =
            (1..=before).flat_map(|port| get_request(&torrent.target(port, ""))).collect();
        let after = get_request(&torrent.target(9999, "")).repeat(200);
        let mut client = HttpClient::connect(tracker.v4);
        client.send([&good[..], b"BAD~/ HTTP/1.1\r\n\r\n", &after].concat());
        for _ in 1..=before {
            parse_announce(&client.read_response());
        }
        let response = client.read_response();
        assert_eq!((response.status, response.has_connection_close()), (400, true));
        client.expect_close();
    }
    assert_eq!(torrent.scrape().incomplete, 300, "what followed a mistake was served");
}

fn a_close_in_a_pipeline(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let last = request("GET", &torrent.target(2, ""), "HTTP/1.1", "Connection: close\r\n");
    let after = get_request(&torrent.target(3, "")).repeat(100);
    let mut client = HttpClient::connect(tracker.v4);
    client.send([get_request(&torrent.target(1, "")), last, after].concat());
    assert!(!client.read_response().has_connection_close());
    let response = client.read_response();
    assert!(response.has_connection_close());
    assert_eq!(parse_announce(&response).incomplete, 2);
    client.expect_close();
    assert_eq!(torrent.scrape().incomplete, 2);
}

/// An empty line after many pipelined requests that fill the receive buffer and take more than one
/// turn: closing before it is read would reset the connection.
fn a_close_at_the_end_of_what_was_received(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=200, "");
    let target = torrent.target(1, "numwant=200");
    let some = get_request(&target).repeat(20);
    let last = |pad: usize| {
        let headers = format!("Connection: close\r\nX: {}\r\n", "x".repeat(pad));
        request("GET", &target, "HTTP/1.1", &headers)
    };
    let pad = RECV_BUFFER_BYTES as usize - some.len() - last(0).len();
    let requests = [&some[..], &last(pad), b"\r\n"].concat();
    for _ in 0..20 {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&requests);
        for _ in 0..20 {
            parse_announce(&client.read_response());
        }
        assert!(client.read_response().has_connection_close());
        client.expect_close();
    }
}

fn half_closed_connections(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    for requests in [1, 3, 200] {
        for pause in [0, 30] {
            let mut client = HttpClient::connect(tracker.v4);
            client.send(get_request(&target).repeat(requests));
            thread::sleep(Duration::from_millis(pause));
            client.shutdown_write();
            for _ in 0..requests {
                parse_announce(&client.read_response());
            }
            client.expect_close();
        }
    }
}

/// The response is the same wherever the request is split in two segments.
fn split_at_every_byte(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce(1, "left=0");
    let headers = "Connection: keep-alive\r\nAccept: */*\r\nX: y\r\n";
    let whole = request("GET", &torrent.target(2, "left=1&compact=1"), "HTTP/1.1", headers);
    let expected = parse_announce(&fetch(tracker.v4, &whole));
    let mut client = HttpClient::connect(tracker.v4);
    for at in 1..whole.len() {
        client.send(&whole[..at]);
        // Usually long enough for a segment to arrive alone; the response must not depend on it.
        thread::sleep(Duration::from_micros(300));
        client.send(&whole[at..]);
        let answer = parse_announce(&client.read_response());
        assert_eq!(answer.peers, expected.peers, "split at {at}");
        assert_eq!((answer.complete, answer.incomplete), (1, 1), "split at {at}");
    }
    // The first request of a connection is received in another way than later ones.
    for at in (1..whole.len()).step_by(7) {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&whole[..at]);
        thread::sleep(Duration::from_micros(300));
        client.send(&whole[at..]);
        assert_eq!(parse_announce(&client.read_response()).peers, expected.peers, "split at {at}");
    }
}

fn byte_by_byte(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let whole = request("GET", &torrent.target(1, ""), "HTTP/1.1", "Accept: */*\r\n");
    for requests in [whole.clone(), whole.repeat(2)] {
        let mut client = HttpClient::connect(tracker.v4);
        for byte in &requests {
            client.send([*byte]);
            thread::sleep(Duration::from_micros(500));
        }
        for _ in 0..requests.len() / whole.len() {
            assert_eq!(parse_announce(&client.read_response()).incomplete, 1);
        }
    }
    let mistake = b"GET /announce HTTP/1.1\r\nbad header: x\r\n";
    let mut client = HttpClient::connect(tracker.v4);
    for byte in mistake {
        // The tracker may respond before the last byte.
        if client.stream.write_all(&[*byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_micros(500));
    }
    assert_eq!(client.read_response().status, 400);
}

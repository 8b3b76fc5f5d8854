//! Requests with errors: each gets its response, and no response is lost by a reset.

use std::io::Write;
use std::thread;
use std::time::Duration;

use annulus::limits::REQUEST_LINE_BYTES_MAX;
use annulus_parser::Error;

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, fetch, get_request, request};
use crate::support::torrent::{TestTorrent, failure_reason, parse_announce, percent_encoded};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    every_error_has_its_response,
    an_error_response_to_head_has_no_body,
    methods,
    long_request_lines,
    large_heads,
    many_headers,
    bodies,
    an_error_response_survives_further_bytes,
    tls_on_a_plain_port,
    a_request_that_is_cut_off,
);

/// The expected result of an error.
enum ExpectedOutcome {
    /// This status, and the connection is closed.
    Closed(u16),
    /// A bencoded failure with this text in its reason, and the connection stays open.
    Failed(&'static str),
}

/// A request with this error, and the expected result. The match has no catch-all, so every error
/// has a request.
fn example(error: Error) -> (Vec<u8>, ExpectedOutcome) {
    use ExpectedOutcome::{Closed, Failed};
    let hash = "a".repeat(20);
    let lines = |lines: &str| format!("GET /announce HTTP/1.1\r\n{lines}").into_bytes();
    let query = |query: &str| get_request(&format!("/announce?{query}"));
    match error {
        // The greeting of a SOCKS client.
        Error::MethodMalformed => (b"\x05\x01\0".to_vec(), Closed(400)),
        Error::MethodNotAllowed => (request("PUT", "/announce", "HTTP/1.1", ""), Closed(405)),
        Error::TargetMalformed => (get_request("/ann\tounce"), Closed(400)),
        Error::VersionMalformed => (get_request("/announce x"), Closed(400)),
        Error::VersionNotSupported => (request("GET", "/", "HTTP/2.0", ""), Closed(505)),
        Error::RequestLineTooLong => {
            (get_request(&format!("/{}", "a".repeat(12 * 1024))), Closed(414))
        }
        Error::HeadTooLarge => (lines(&format!("a: {}", "b".repeat(16 * 1024))), Closed(431)),
        Error::TooManyHeaders => (lines(&"a: b\r\n".repeat(129)), Closed(431)),
        Error::LineEndMalformed => (lines("a: b\rc: d\r\n\r\n"), Closed(400)),
        Error::HeaderFolded => (lines("a: b\r\n c\r\n\r\n"), Closed(400)),
        Error::HeaderNameMalformed => (lines("a b: c\r\n\r\n"), Closed(400)),
        Error::HeaderValueMalformed => (lines("a: b\0c\r\n\r\n"), Closed(400)),
        Error::ContentLengthMalformed => (lines("Content-Length: -1\r\n\r\n"), Closed(400)),
        Error::BodyNotAllowed => (lines("Content-Length: 2\r\n\r\nhi"), Closed(400)),
        Error::InfoHashMissing => (query("port=1"), Failed("missing")),
        Error::InfoHashEscapeMalformed => (query("info_hash=%zz&port=1"), Failed("percent")),
        Error::InfoHashLengthWrong => (query("info_hash=abc&port=1"), Failed("20 bytes")),
        Error::InfoHashHex => {
            (query(&format!("info_hash={}&port=1", "a1".repeat(20))), Failed("percent-encode"))
        }
        Error::InfoHashBase32 => {
            (query(&format!("info_hash={}&port=1", "a2".repeat(16))), Failed("base32"))
        }
        Error::InfoHashRepeated => {
            (query(&format!("info_hash={hash}&port=1&info_hash={hash}")), Failed("more than once"))
        }
        Error::PortMissing => (query(&format!("info_hash={hash}")), Failed("port is missing")),
        Error::PortInvalid => (query(&format!("info_hash={hash}&port=0")), Failed("1 to 65535")),
    }
}

fn every_error_has_its_response(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    for error in Error::ALL {
        let (bytes, outcome) = example(error);
        // Alone, and after valid requests, which are answered first.
        for before in [0, 1, 5] {
            let mut client = HttpClient::connect(tracker.v4);
            client
                .send([get_request(&torrent.target(1, "")).repeat(before), bytes.clone()].concat());
            for _ in 0..before {
                parse_announce(&client.read_response());
            }
            let response = client.read_response();
            match outcome {
                ExpectedOutcome::Closed(status) => {
                    assert_eq!(
                        (response.status, response.has_connection_close()),
                        (status, true),
                        "{error:?}"
                    );
                    assert!(
                        response.body.ends_with(b"\n") && response.body.len() > 10,
                        "{error:?}"
                    );
                    client.expect_close();
                }
                ExpectedOutcome::Failed(word) => {
                    let reason = failure_reason(&response);
                    assert!(
                        reason.contains(word) && !response.has_connection_close(),
                        "{error:?}: {reason}"
                    );
                    client.send(get_request(&torrent.target(1, "")));
                    parse_announce(&client.read_response());
                }
            }
        }
    }
}

/// For every error, and for a request that never ends.
fn an_error_response_to_head_has_no_body(engine: Engine) {
    let tracker = Tracker::start(engine, "[connections]\nheader_timeout = 1");
    let head = |bytes: &[u8]| {
        let rest = bytes.strip_prefix(b"GET ")?;
        Some([b"HEAD ", rest].concat())
    };
    let mut heads = 0;
    for error in Error::ALL {
        let (bytes, outcome) = example(error);
        let Some(bytes) = head(&bytes) else { continue };
        let mut client = HttpClient::connect(tracker.v4);
        client.send([b"\r\n\0", &bytes[..]].concat());
        let response = client.read_response_head();
        assert_ne!(response.header("content-length"), Some("0"), "{error:?}");
        match outcome {
            ExpectedOutcome::Closed(status) => {
                assert_eq!(
                    (response.status, response.has_connection_close()),
                    (status, true),
                    "{error:?}"
                );
            }
            ExpectedOutcome::Failed(_) => {
                assert_eq!(
                    (response.status, response.has_connection_close()),
                    (200, false),
                    "{error:?}"
                );
                client.shutdown_write();
            }
        }
        client.expect_close();
        heads += 1;
    }
    assert!(heads > 15, "{heads}");
    // Cut off by FIN, or too slow.
    for (breaks_off, status) in [(true, 400), (false, 408)] {
        for begun in ["HEAD", "\r\nHEAD /announce", "HEAD / HTTP/1.1\r\nHost: tracker\r\n"] {
            let mut client = HttpClient::connect(tracker.v4);
            client.send(begun);
            if breaks_off {
                client.shutdown_write();
            }
            assert_eq!(client.read_response_head().status, status, "{begun:?}");
            client.expect_close();
        }
    }
}

fn methods(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    for method in ["POST", "PUT", "OPTION", "CONNECT", "DELETE", "TRACE", "PATCH", "PRI", "get"] {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(request(method, &target, "HTTP/1.1", ""));
        let response = client.read_response();
        assert_eq!((response.status, response.has_connection_close()), (405, true), "{method}");
        assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"), "{method}");
        client.expect_close();
    }
    for line in ["GET/announce HTTP/1.1", "G{T /announce HTTP/1.1", " GET / HTTP/1.1", "\u{fe}"] {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(format!("{line}\r\n\r\n"));
        assert_eq!(client.read_response().status, 400, "{line}");
        client.expect_close();
    }
    for (version, status) in
        [("HTTP/0.9", 505), ("HTTP/3", 505), ("HTTP/1", 400), ("HTTP/1.12", 400), ("http/1.1", 400)]
    {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(request("GET", &target, version, ""));
        assert_eq!(client.read_response().status, status, "{version}");
        client.expect_close();
    }
}

/// Announces and scrapes get the reason in bencode, the only form that clients read; other requests
/// get it in plain text.
fn long_request_lines(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let torrent = TestTorrent::new(&tracker, 1);
    let announce = format!("{}&x=", torrent.target(1, ""));
    let around = "GET  HTTP/1.1\r\n".len();
    let long = |start: &str, length: usize| {
        get_request(&format!("{start}{}", "x".repeat(length - around - start.len())))
    };
    for length in [8 * 1024, REQUEST_LINE_BYTES_MAX] {
        parse_announce(&fetch(tracker.v4, long(&announce, length)));
        assert_eq!(fetch(tracker.v4, long("/index?", length)).status, 404, "{length}");
    }
    let hash = percent_encoded(&torrent.info_hash);
    let places = ["/scrape?", "/key/scrape.php?x&", "/scrape_x?", "http://tracker/a/b/scrape?"];
    let scrapes = places.map(|place| (format!("{place}info_hash={hash}&x="), true));
    let places = ["/announce?", "/?", "?", "/a/b/c?", "http://tracker?", "/announce%20?x=y&"];
    let announces = places.map(|place| (format!("{place}info_hash={hash}&port=1&x="), false));
    // Perhaps only the path has been received.
    let paths = [("/announce?x=".to_owned(), false), ("/scrape?x=".to_owned(), true)];
    let mut count = 0.0;
    for (start, is_scrape) in scrapes.into_iter().chain(announces).chain(paths) {
        for (length, rest) in [(REQUEST_LINE_BYTES_MAX + 1, 0), (15_000, 60), (100_000, 60)] {
            let line = long(&start, length);
            // With and without its end.
            for bytes in [&line[..], &line[..line.len() - rest]] {
                // Alone, and after a valid request.
                for before in [0, 3] {
                    let mut client = HttpClient::connect(tracker.v4);
                    let right = get_request(&torrent.target(1, "")).repeat(before);
                    client.send([&right[..], bytes].concat());
                    for _ in 0..before {
                        parse_announce(&client.read_response());
                    }
                    let response = client.read_response();
                    let reason = failure_reason(&response);
                    assert!(response.has_connection_close());
                    assert!(reason.contains(&REQUEST_LINE_BYTES_MAX.to_string()), "{reason}");
                    assert_eq!(reason.contains("128 torrents"), is_scrape, "{start}: {reason}");
                    client.expect_close();
                    count += 1.0;
                }
            }
        }
    }
    let reason = "annulus_failures_total{reason=\"request_line_too_long\"}";
    assert_eq!(AdminClient::of(&tracker).sample(reason), count);
    for start in ["/", "/?info_has=", "/a/b/announce?x=", "http://tracker/", "*"] {
        for length in [REQUEST_LINE_BYTES_MAX + 1, 100_000] {
            let mut client = HttpClient::connect(tracker.v4);
            client.send(long(start, length));
            let response = client.read_response();
            assert_eq!((response.status, response.has_connection_close()), (414, true), "{start}");
            client.expect_close();
        }
    }
    // Without a body in response to HEAD.
    let mut client = HttpClient::connect(tracker.v4);
    client.send([b"HEAD", &long(&announce, 20_000)[3..]].concat());
    assert_eq!(client.read_response_head().status, 200);
    client.expect_close();
}

fn large_heads(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    let around = request("GET", &target, "HTTP/1.1", "x: \r\n").len();
    for (length, status) in
        [(4096, 200), (4097, 200), (8 * 1024, 200), (16 * 1024, 200), (16 * 1024 + 1, 431)]
    {
        let header = format!("x: {}\r\n", "y".repeat(length - around));
        let whole = request("GET", &target, "HTTP/1.1", &header);
        assert_eq!(whole.len(), length);
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&whole);
        let response = client.read_response();
        assert_eq!(response.status, status, "{length}");
        if status == 200 {
            client.send(get_request(&target));
            parse_announce(&client.read_response());
        } else {
            client.expect_close();
        }
    }
    // The last request of a connection, of the length of one, two and three receive buffers.
    for length in [4096, 8192, 12_288] {
        let close = "Connection: close\r\n";
        let header = format!("{close}x: {}\r\n", "y".repeat(length - around - close.len()));
        let mut client = HttpClient::connect(tracker.v4);
        client.send(request("GET", &target, "HTTP/1.1", &header));
        parse_announce(&client.read_response());
        client.expect_close();
    }
}

fn many_headers(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    for (count, status) in [(63, 200), (64, 200), (127, 200), (128, 431)] {
        let mut client = HttpClient::connect(tracker.v4);
        // Besides `Host`.
        client.send(request("GET", &target, "HTTP/1.1", &"X-Forwarded: 1\r\n".repeat(count)));
        assert_eq!(client.read_response().status, status, "{count}");
    }
}

fn bodies(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let target = torrent.target(1, "");
    let smuggled = String::from_utf8(get_request(&torrent.target(2, ""))).unwrap();
    for headers in [
        format!("Content-Length: {}\r\n", smuggled.len()),
        "Transfer-Encoding: chunked\r\n".to_owned(),
        "transfer-encoding: identity\r\nContent-Length: 0\r\n".to_owned(),
        "Content-Length: 0\r\nContent-Length: 5\r\n".to_owned(),
        "Content-Length: 0, 0\r\n".to_owned(),
        "Content-Length : 5\r\n".to_owned(),
    ] {
        let mut client = HttpClient::connect(tracker.v4);
        let head = request("GET", &target, "HTTP/1.1", &headers);
        client.send([&head, smuggled.as_bytes()].concat());
        let response = client.read_response();
        assert_eq!((response.status, response.has_connection_close()), (400, true), "{headers}");
        client.expect_close();
    }
    assert_eq!(torrent.scrape().incomplete, 0, "a refused request, or what was in it, was served");
    let mut client = HttpClient::connect(tracker.v4);
    client.send(request("GET", &target, "HTTP/1.1", "Content-Length: 0\r\n"));
    parse_announce(&client.read_response());
    client.send(request("GET", &target, "HTTP/1.1", "Content-Length: 00\r\n"));
    parse_announce(&client.read_response());
}

/// A close with unread bytes makes the kernel reset the connection, and the response is lost.
fn an_error_response_survives_further_bytes(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    for size in [1, 5_000, 200_000] {
        let length = format!("Content-Length: {size}\r\n");
        for (head, status) in [
            (request("POST", &target, "HTTP/1.1", &length), 405),
            (request("GET", &target, "HTTP/1.1", &length), 400),
            (request("GET", "/index", "HTTP/1.1", "Connection: close\r\n"), 404),
            (request("GET", &target, "HTTP/1.1", "Connection: close\r\n"), 200),
        ] {
            for pause in [false, true] {
                let mut client = HttpClient::connect(tracker.v4);
                let body = vec![b'x'; size];
                if pause {
                    client.send(&head);
                    // The client writes while the response is on its way, or after it has closed.
                    thread::sleep(Duration::from_millis(30));
                    if status == 200 || status == 404 {
                        let _ = client.stream.write_all(&body);
                    } else {
                        client.send(&body);
                    }
                } else {
                    client.send([&head[..], &body].concat());
                }
                let response = client.read_response();
                assert_eq!(response.status, status, "{size} bytes, paused: {pause}");
                // A client that sends after the response to a complete last request may find the
                // connection closed.
                if !(pause && (status == 200 || status == 404)) {
                    client.expect_close();
                }
            }
        }
    }
}

fn tls_on_a_plain_port(engine: Engine) {
    let tracker = Tracker::start(engine, "[connections]\nheader_timeout = 300");
    // The start of a ClientHello: a handshake record of TLS 1.0 of 512 bytes, most of which are not
    // sent. The tracker does not wait for them.
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.resize(400, 0xab);
    for bytes in [&hello[..1], &hello[..5], &hello] {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(bytes);
        // Most clients show the text that they received.
        let response = client.read_response();
        assert_eq!(
            (response.status, response.has_connection_close()),
            (400, true),
            "{} bytes",
            bytes.len()
        );
        assert!(String::from_utf8_lossy(&response.body).contains("http://"));
        client.expect_close();
    }
}

fn a_request_that_is_cut_off(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let whole = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    for length in [1, 3, 20, whole.len() - 1] {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&whole[..length]);
        client.shutdown_write();
        let response = client.read_response();
        assert_eq!((response.status, response.has_connection_close()), (400, true), "{length}");
        client.expect_close();
        let mut client = HttpClient::connect(tracker.v4);
        client.send([&whole[..], &whole[..length]].concat());
        client.shutdown_write();
        parse_announce(&client.read_response());
        assert_eq!(client.read_response().status, 400, "{length}");
        client.expect_close();
    }
    // No bytes, or only empty lines, are not a request.
    for nothing in ["", "\r\n\r\n"] {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(nothing);
        client.shutdown_write();
        client.expect_close();
    }
}

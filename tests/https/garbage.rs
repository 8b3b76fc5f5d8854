//! Bytes that are not valid TLS at some point of a connection: each gets an alert or a close at
//! once, and the tracker keeps serving.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use rustls::Error;

use crate::support::client::{HttpClient, get_request, request};
use crate::support::tls_client::{TlsStream, VERSIONS, client_config, client_hello};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, test_both_engines, wait_for};

test_both_engines!(
    bytes_that_are_no_handshake,
    bytes_in_place_of_encrypted_records,
    a_damaged_client_hello,
    damaged_records,
    requests_before_a_damaged_record,
    resets_at_any_point,
);

/// No timeout ends a connection here.
const LONG_TIMEOUTS: &str = "[connections]\nhandshake_timeout = 300\nheader_timeout = 300\n\
                       idle_timeout = 300";

/// A record of this type, with this length in its header.
fn record(kind: u8, length: u16, content: &[u8]) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    [&[kind, 3, 3, high, low], content].concat()
}

/// Whether the bytes are fatal alerts only, at least one.
fn are_alerts(bytes: &[u8]) -> bool {
    let (alerts, rest) = bytes.as_chunks::<7>();
    !alerts.is_empty()
        && rest.is_empty()
        && alerts.iter().all(|alert| matches!(alert, [0x15, 3, _, 0, 2, 2, _]))
}

fn bytes_that_are_no_handshake(engine: Engine) {
    let site = TlsTracker::start(engine, LONG_TIMEOUTS);
    let sslv2_hello = [
        &[0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10][..],
        &[1, 0, 0x80, 3, 0, 0x80, 7, 0, 0xc0, 6, 0, 0x40, 2, 0, 0x80, 4, 0, 0x80, 0, 0, 5],
        &[7; 16],
    ]
    .concat();
    for (what, bytes) in [
        ("zeros", vec![0; 1000]),
        ("ones", vec![0xff; 1000]),
        ("an SSLv2 hello", sslv2_hello),
        ("20 KB of 0x16", vec![0x16; 20_000]),
        ("a record of 65535 bytes", record(22, 65_535, &[1; 65_535])),
        ("application data", record(23, 100, &[0; 100])),
        ("an alert of no meaning", record(21, 2, &[2, 200])),
        ("a record without content", record(22, 0, &[])),
        ("a record of no type", record(25, 10, &[0; 10])),
        ("a handshake message of 16 MB", record(22, 16_384, &[&[1], &[0xff; 16_383][..]].concat())),
        ("a finished without a start", record(22, 16, &[&[20, 0, 0, 12], &[0; 12][..]].concat())),
        ("an empty hello", record(22, 4, &[1, 0, 0, 0])),
        (
            "a hello of 32 KB",
            record(22, 16_384, &[&[1, 0, 0x7f, 0xfc], &[0; 16_380][..]].concat()).repeat(2),
        ),
    ] {
        let mut client = HttpClient::connect(site.v4);
        // The tracker may respond before the end.
        let _ = client.stream.write_all(&bytes);
        // `read_all` fails unless the connection is closed.
        let said = client.read_all();
        // An alert gets no response; it ends the connection.
        let fits = if bytes[0] == 21 { said.is_empty() } else { are_alerts(&said) };
        assert!(fits, "to {what}: \"{}\"", said.escape_ascii());
    }
    site.assert_serves();
}

/// Garbage in place of encrypted records.
fn bytes_in_place_of_encrypted_records(engine: Engine) {
    let site = TlsTracker::start(engine, LONG_TIMEOUTS);
    for bytes in [
        record(23, 100, &[0; 100]),
        record(23, 16_640, &[0; 16_640]),
        record(23, 65_535, &[0; 65_535]),
        record(22, 4, &[1, 0, 0, 0]),
        record(20, 1, &[1]),
        get_request("/announce"),
        vec![0x16; 20_000],
    ] {
        for mut client in site.connect_by_each() {
            client.send(get_request(&TestTorrent::new(&site.tracker, 1).target(1, "")));
            parse_announce(&client.read_response());
            let _ = client.stream.sock.write_all(&bytes);
            let mut said = Vec::new();
            if let Err(error) = client.stream.sock.read_to_end(&mut said) {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            }
            // An encrypted alert, or nothing.
            assert!(said.len() < 50, "to a record of type {}: {said:x?}", bytes[0]);
        }
    }
    site.assert_serves();
}

/// A ClientHello with one byte changed, or with bytes missing.
fn a_damaged_client_hello(engine: Engine) {
    let site = TlsTracker::start(engine, LONG_TIMEOUTS);
    for version in VERSIONS {
        let hello = client_hello(&Arc::new(client_config(&site.authority, version)));
        for at in 0..hello.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut wrong = hello.clone();
                wrong[at] ^= change;
                finish(&site, &wrong);
            }
            finish(&site, &hello[..at]);
        }
    }
    site.assert_serves();
}

/// Sends bytes and FIN, and expects records or nothing, and then the end.
#[track_caller]
fn finish(site: &TlsTracker, bytes: &[u8]) {
    let mut client = HttpClient::connect(site.v4);
    let _ = client.stream.write_all(bytes);
    let _ = client.stream.shutdown(Shutdown::Write);
    let said = client.read_all();
    let sane = said.is_empty() || matches!(said[0], 0x15 | 0x16) || said.starts_with(b"HTTP/1.1 4");
    assert!(sane, "to \"{}\": \"{}\"", bytes.escape_ascii(), said.escape_ascii());
}

/// A complete handshake, and then a record that was changed on its way.
fn damaged_records(engine: Engine) {
    let site = TlsTracker::start(engine, LONG_TIMEOUTS);
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    // From its length on: TLS 1.3 ignores the type and version before it.
    for at in [3, 4, 5, 20, announce.len()] {
        for mut client in site.connect_by_each() {
            client.handshake();
            let mut wrong = Vec::new();
            client.stream.conn.writer().write_all(&announce).unwrap();
            client.stream.conn.write_tls(&mut wrong).unwrap();
            wrong[at] ^= 1;
            client.stream.sock.write_all(&wrong).unwrap();
            client.stream.sock.shutdown(Shutdown::Write).unwrap();
            let got = client.stream.read(&mut [0; 1000]);
            assert!(!got.as_ref().is_ok_and(|&bytes| bytes > 0), "{at}: {got:?}");
        }
    }
    assert_eq!(TestTorrent::new(&site.tracker, 1).scrape().incomplete, 0, "it was served");
    site.assert_serves();
}

/// Requests before an error are answered, even if all bytes arrive at once.
fn requests_before_a_damaged_record(engine: Engine) {
    let site = TlsTracker::start(engine, LONG_TIMEOUTS);
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    let target = TestTorrent::new(&site.tracker, 1).target(1, "");
    let last = request("GET", &target, "HTTP/1.1", "Connection: close\r\n");
    for mistake in [record(23, 40, &[0; 40]), record(99, 9, &[0; 9]), get_request("/announce")] {
        let cases = [(1, 1), (2, 1), (300, 1), (1, 100), (3, 100)];
        for ((records, requests), closes) in
            cases.map(|case| [(case, false), (case, true)]).concat()
        {
            for mut client in site.connect_by_each() {
                client.handshake();
                let mut bytes = Vec::new();
                for _ in 0..records {
                    let together = announce.repeat(requests);
                    client.stream.conn.writer().write_all(&together).unwrap();
                    client.stream.conn.write_tls(&mut bytes).unwrap();
                }
                if closes {
                    client.stream.conn.writer().write_all(&last).unwrap();
                    client.stream.conn.write_tls(&mut bytes).unwrap();
                }
                bytes.extend(&mistake);
                client.stream.sock.write_all(&bytes).unwrap();
                let (told, end) = read_plaintext(&mut client);
                let answers = told.windows(13).filter(|part| part == b"HTTP/1.1 200 ").count();
                let expected = records * requests + usize::from(closes);
                assert_eq!(answers, expected, "ahead of \"{}\"", mistake.escape_ascii());
                // The response may say that it is the last before the error arrives.
                let told = closes && end.is_none();
                let alerted = matches!(end, Some(Error::AlertReceived(_)));
                assert!(told || alerted, "no alert, but {end:?}");
            }
        }
    }
    site.assert_serves();
}

/// All plaintext that is still received, and the error that ends it, if any.
fn read_plaintext(client: &mut HttpClient<TlsStream>) -> (Vec<u8>, Option<Error>) {
    let TlsStream { conn, sock } = &mut client.stream;
    let (mut records, mut told) = (Vec::new(), Vec::new());
    sock.read_to_end(&mut records).unwrap();
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        conn.read_tls(&mut rest).unwrap();
        let outcome = conn.process_new_packets();
        // Fails if nothing more can be read yet.
        let _ = conn.reader().read_to_end(&mut told);
        if let Err(error) = outcome {
            return (told, Some(error));
        }
    }
    (told, None)
}

fn resets_at_any_point(engine: Engine) {
    let site = TlsTracker::start(engine, LONG_TIMEOUTS);
    site.assert_serves();
    let baseline = site.tracker.descriptors();
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    for round in 0..60 {
        for (version, mut client) in VERSIONS.into_iter().zip(site.connect_by_each()) {
            let hello = client_hello(&Arc::new(client_config(&site.authority, version)));
            let mut within_hello = HttpClient::connect(site.v4);
            within_hello.send(&hello[..1 + (round * 7) % hello.len()]);
            within_hello.reset();
            let mut after_hello = HttpClient::connect(site.v4);
            after_hello.send(&hello);
            after_hello.reset();
            client.send(announce.repeat(1 + round % 3));
            if round % 2 == 0 {
                parse_announce(&client.read_response());
            }
            HttpClient::new(client.stream.sock).reset();
        }
    }
    wait_for("the descriptors of the reset", || {
        (site.tracker.descriptors() <= baseline).then_some(())
    });
    site.assert_serves();
}

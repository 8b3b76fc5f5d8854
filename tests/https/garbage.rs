//! Bytes that are no TLS, or not yet, or no longer: each is answered by an alert or closed at
//! once, and the tracker goes on.

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
    what_is_no_handshake,
    what_is_no_handshake_any_more,
    a_hello_with_mistakes,
    records_with_mistakes,
    requests_ahead_of_a_mistake,
    resets_at_any_point,
);

/// Nobody is closed for being slow here.
const PATIENT: &str = "[connections]\nhandshake_timeout = 300\nheader_timeout = 300\n\
                       idle_timeout = 300";

/// A record of a type, with what its header says of its length.
fn record(kind: u8, length: u16, content: &[u8]) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    [&[kind, 3, 3, high, low], content].concat()
}

/// Whether these are alerts, at least one, all of them fatal, and nothing else.
fn are_alerts(bytes: &[u8]) -> bool {
    let (alerts, rest) = bytes.as_chunks::<7>();
    !alerts.is_empty()
        && rest.is_empty()
        && alerts.iter().all(|alert| matches!(alert, [0x15, 3, _, 0, 2, 2, _]))
}

fn what_is_no_handshake(engine: Engine) {
    let site = TlsTracker::start(engine, PATIENT);
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
        // It may be refused before its end.
        let _ = client.stream.write_all(&bytes);
        // `drain` fails where nothing ends.
        let said = client.read_all();
        // None answers an alert, which is an end.
        let fits = if bytes[0] == 21 { said.is_empty() } else { are_alerts(&said) };
        assert!(fits, "to {what}: \"{}\"", said.escape_ascii());
    }
    site.assert_serves();
}

/// Garbage where encrypted records should be.
fn what_is_no_handshake_any_more(engine: Engine) {
    let site = TlsTracker::start(engine, PATIENT);
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
            // An alert, encrypted, or nothing.
            assert!(said.len() < 50, "to a record of type {}: {said:x?}", bytes[0]);
        }
    }
    site.assert_serves();
}

/// A hello that differs from a good one in a byte, or lacks some.
fn a_hello_with_mistakes(engine: Engine) {
    let site = TlsTracker::start(engine, PATIENT);
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

/// Sends bytes and an end, and sees them answered by records, or by nothing, and an end.
#[track_caller]
fn finish(site: &TlsTracker, bytes: &[u8]) {
    let mut client = HttpClient::connect(site.v4);
    let _ = client.stream.write_all(bytes);
    let _ = client.stream.shutdown(Shutdown::Write);
    let said = client.read_all();
    let sane = said.is_empty() || matches!(said[0], 0x15 | 0x16) || said.starts_with(b"HTTP/1.1 4");
    assert!(sane, "to \"{}\": \"{}\"", bytes.escape_ascii(), said.escape_ascii());
}

/// A good handshake, and then a record that was changed on its way.
fn records_with_mistakes(engine: Engine) {
    let site = TlsTracker::start(engine, PATIENT);
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    // From its length on; of what is before it, TLS 1.3 does not care.
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

/// What came before a mistake is answered, even if all of it came at once.
fn requests_ahead_of_a_mistake(engine: Engine) {
    let site = TlsTracker::start(engine, PATIENT);
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
                let (told, end) = hear(&mut client);
                let answers = told.windows(13).filter(|part| part == b"HTTP/1.1 200 ").count();
                let expected = records * requests + usize::from(closes);
                assert_eq!(answers, expected, "ahead of \"{}\"", mistake.escape_ascii());
                // It may have been told that this is all before the mistake arrived.
                let told = closes && end.is_none();
                let alerted = matches!(end, Some(Error::AlertReceived(_)));
                assert!(told || alerted, "no alert, but {end:?}");
            }
        }
    }
    site.assert_serves();
}

/// All that is still said, and what it ends with but for an end.
fn hear(client: &mut HttpClient<TlsStream>) -> (Vec<u8>, Option<Error>) {
    let TlsStream { conn, sock } = &mut client.stream;
    let (mut records, mut told) = (Vec::new(), Vec::new());
    sock.read_to_end(&mut records).unwrap();
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        conn.read_tls(&mut rest).unwrap();
        let outcome = conn.process_new_packets();
        // Fails where there is nothing more to be read yet.
        let _ = conn.reader().read_to_end(&mut told);
        if let Err(error) = outcome {
            return (told, Some(error));
        }
    }
    (told, None)
}

fn resets_at_any_point(engine: Engine) {
    let site = TlsTracker::start(engine, PATIENT);
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

//! HTTP inside TLS: the same requests and responses as without TLS, however they are split into
//! records, and an authenticated end.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown};
use std::sync::Arc;

use crate::support::bencode::{Bencode, decode};
use crate::support::client::{HttpClient, HttpResponse, fetch, get_request, request};
use crate::support::tls_client::{VERSIONS, client_config, connect_tls};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{
    LOCALHOST, TestTorrent, failure_reason, parse_announce, percent_encoded,
};
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(
    one_connection_many_requests,
    pipelined_requests,
    split_at_every_byte,
    byte_by_byte,
    heads,
    the_last_answer,
    bytes_after_the_last_request,
    a_client_that_ends,
    a_client_that_ends_within_a_request,
    a_client_that_ends_without_close_notify,
    the_same_answers,
    the_same_swarms,
);

fn one_connection_many_requests(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let torrent = TestTorrent::new(&site.tracker, 1);
    for mut client in site.connect_by_each() {
        for port in 1..=50 {
            client.send(get_request(&torrent.target(port, "event=started")));
            assert_eq!(parse_announce(&client.read_response()).incomplete, i64::from(port));
        }
        client.send(get_request("/announce"));
        failure_reason(&client.read_response());
        for port in 1..=50 {
            client.send(get_request(&torrent.target(port, "event=stopped")));
            assert_eq!(parse_announce(&client.read_response()).incomplete, 50 - i64::from(port));
        }
    }
}

/// Sent in one record and answered in several; the counts tell the responses apart.
fn pipelined_requests(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    for (mut client, number) in site.connect_by_each().into_iter().zip(1..) {
        let torrent = TestTorrent::new(&site.tracker, number);
        torrent.announce_ports(site.tracker.v4, 1..=200, "");
        let announce = |port| get_request(&torrent.target(port, "numwant=200"));
        client.send((201..=220).flat_map(announce).collect::<Vec<u8>>());
        for stored in 201..=220 {
            let answer = parse_announce(&client.read_response());
            assert_eq!((answer.incomplete, answer.peers.len()), (stored, 200));
        }
        client.close_notify();
        client.expect_close_notify();
    }
}

/// The response is the same wherever the request is split in two records.
fn split_at_every_byte(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let torrent = TestTorrent::new(&site.tracker, 1);
    torrent.announce(1, "left=0");
    let whole = get_request(&torrent.target(2, "left=1"));
    for mut client in site.connect_by_each() {
        for at in 1..whole.len() {
            client.send(&whole[..at]);
            client.send(&whole[at..]);
            let answer = parse_announce(&client.read_response());
            assert_eq!(answer.peers, [(LOCALHOST, 1).into()], "split at {at}");
            assert_eq!((answer.complete, answer.incomplete), (1, 1), "split at {at}");
        }
    }
}

/// Every byte in its own record, and the records in segments of any size.
fn byte_by_byte(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let whole = get_request(&TestTorrent::new(&site.tracker, 1).target(1, "")).repeat(2);
    for mut client in site.connect_by_each() {
        for byte in &whole {
            client.send([*byte]);
        }
        for _ in 0..2 {
            assert_eq!(parse_announce(&client.read_response()).incomplete, 1);
        }
    }
}

fn heads(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let torrent = TestTorrent::new(&site.tracker, 1);
    torrent.announce_ports(site.tracker.v4, 1..=20, "");
    for mut client in site.connect_by_each() {
        for target in [torrent.target(30, ""), torrent.target(30, "compact=0")] {
            client.send(request("HEAD", &target, "HTTP/1.1", ""));
            let head = client.read_response_head();
            client.send(get_request(&target));
            let whole = client.read_response();
            assert_eq!((head.status, &head.headers), (200, &whole.headers), "{target}");
        }
        client.send(request("HEAD", "/index", "HTTP/1.1", ""));
        assert_eq!(client.read_response_head().status, 404);
        client.expect_close_notify();
    }
}

fn the_last_answer(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let torrent = TestTorrent::new(&site.tracker, 1);
    torrent.announce_ports(site.tracker.v4, 1..=200, "");
    let target = torrent.target(1000, "numwant=200");
    let last = [
        request("GET", &target, "HTTP/1.1", "Connection: close\r\n"),
        request("GET", &target, "HTTP/1.0", ""),
    ];
    for before in [0, 1, 19] {
        for last in &last {
            for mut client in site.connect_by_each() {
                client.send([&get_request(&target).repeat(before), &last[..]].concat());
                for _ in 0..before {
                    assert!(!client.read_response().has_connection_close());
                }
                let response = client.read_response();
                assert!(response.has_connection_close());
                assert_eq!(parse_announce(&response).peers.len(), 200);
                client.expect_close_notify();
            }
        }
    }
}

/// Bytes after the last request must not reset the last response away, and are not answered.
fn bytes_after_the_last_request(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let torrent = TestTorrent::new(&site.tracker, 1);
    let close = request("GET", &torrent.target(1, ""), "HTTP/1.1", "Connection: close\r\n");
    for (end, status) in [(&close[..], 200), (b"BAD~/ HTTP/1.1\r\n\r\n", 400)] {
        for mut client in site.connect_by_each() {
            let after = get_request(&torrent.target(9, "")).repeat(100);
            client.send([end, &after].concat());
            // The connection may be closed by now.
            let _ = client.stream.write(&after);
            let response = client.read_response();
            assert_eq!((response.status, response.has_connection_close()), (status, true));
            client.expect_close_notify();
        }
    }
    assert_eq!(torrent.scrape().incomplete, 1, "what followed was served");
}

fn a_client_that_ends(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    for requests in [0, 1, 20] {
        for mut client in site.connect_by_each() {
            client.handshake();
            client.send(announce.repeat(requests));
            client.close_notify();
            for _ in 0..requests {
                parse_announce(&client.read_response());
            }
            client.expect_close_notify();
        }
    }
    for mut client in site.connect_by_each() {
        client.send(&announce);
        parse_announce(&client.read_response());
        client.close_notify();
        client.expect_close_notify();
    }
}

fn a_client_that_ends_within_a_request(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    for before in [0, 3] {
        for mut client in site.connect_by_each() {
            client.send([&announce.repeat(before), &announce[..40]].concat());
            client.close_notify();
            for _ in 0..before {
                parse_announce(&client.read_response());
            }
            let response = client.read_response();
            assert_eq!((response.status, response.has_connection_close()), (400, true));
            client.expect_close_notify();
        }
    }
}

/// A FIN without close_notify is no valid end, but earlier requests are answered.
fn a_client_that_ends_without_close_notify(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    for requests in [0, 1, 20] {
        for mut client in site.connect_by_each() {
            client.handshake();
            client.send(announce.repeat(requests));
            client.stream.sock.shutdown(Shutdown::Write).unwrap();
            for _ in 0..requests {
                parse_announce(&client.read_response());
            }
            // With or without close_notify, but not by a reset.
            client.stream.sock.read_to_end(&mut Vec::new()).unwrap();
        }
    }
}

/// A response without its random parts.
fn settled(response: &HttpResponse) -> Vec<(Vec<u8>, Bencode)> {
    let answer = decode(&response.body);
    let entries = answer.entries().iter().filter(|(key, _)| key != b"interval");
    entries.cloned().collect()
}

fn the_same_answers(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let torrent = TestTorrent::new(&site.tracker, 1);
    torrent.announce_ports(site.tracker.v4, 1..=30, "left=0");
    let hash = percent_encoded(&torrent.info_hash);
    for target in [
        torrent.target(1, "left=0"),
        torrent.target(99, "left=1&numwant=0"),
        torrent.target(99, "left=1&event=stopped"),
        format!("/scrape?info_hash={hash}"),
        String::from("/announce"),
        String::from("/announce?info_hash=short"),
        String::from("/favicon.ico"),
        String::from("/index?x=%"),
    ] {
        let plain = fetch(site.tracker.v4, get_request(&target));
        for mut client in site.connect_by_each() {
            client.send(get_request(&target));
            let secure = client.read_response();
            assert_eq!(
                (secure.status, &secure.headers),
                (plain.status, &plain.headers),
                "{target}"
            );
            if plain.status == 200 {
                assert_eq!(settled(&secure), settled(&plain), "{target}");
            } else {
                assert_eq!(secure.body, plain.body, "{target}");
                client.expect_close_notify();
            }
        }
    }
    for wrong in [request("POST", "/announce", "HTTP/1.1", ""), b"GET / HTTP/3.0\r\n\r\n".into()] {
        let plain = fetch(site.tracker.v4, &wrong);
        for mut client in site.connect_by_each() {
            client.send(&wrong);
            assert_eq!(client.read_response(), plain);
            client.expect_close_notify();
        }
    }
}

/// Peers that announced by HTTP are given to clients of HTTPS, and the reverse.
fn the_same_swarms(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let by_https = |to, target: &str| {
        let settings = Arc::new(client_config(&site.authority, VERSIONS[1]));
        let mut client = connect_tls(to, &settings);
        client.send(get_request(target));
        parse_announce(&client.read_response())
    };
    let by_http = |to, target: &str| {
        let mut client = HttpClient::connect(to);
        client.send(get_request(target));
        parse_announce(&client.read_response())
    };
    let torrent = TestTorrent::new(&site.tracker, 1);
    by_http(site.tracker.v4, &torrent.target(1, "left=0"));
    assert_eq!(by_https(site.v4, &torrent.target(2, "")).peers, [(LOCALHOST, 1).into()]);
    let mut peers = by_http(site.tracker.v4, &torrent.target(3, "")).peers;
    peers.sort_unstable();
    assert_eq!(peers, [(LOCALHOST, 1).into(), (LOCALHOST, 2).into()]);
    by_https(site.v4, &torrent.target(1, "event=stopped"));
    assert_eq!(torrent.scrape().complete, 0);
    let (Some(plain), Some(secure)) = (site.tracker.v6, site.v6) else {
        return eprintln!("skipped: no IPv6");
    };
    let torrent = TestTorrent::new(&site.tracker, 2);
    let answer = by_https(secure, &torrent.target(1, ""));
    assert_eq!(answer.body.bytes("external ip"), Ipv6Addr::LOCALHOST.octets());
    assert_eq!(by_http(plain, &torrent.target(2, "")).peers, ["[::1]:1".parse().unwrap()]);
}

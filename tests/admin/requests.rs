//! Requests by their kind, and failures by their reason.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, TcpStream};

use crate::support::access_list::{AccessListTracker, list_line, refusal_reason};
use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, fetch, get_request, request};
use crate::support::torrent::{TestTorrent, failure_reason};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, has_v6, test_both_engines};

test_both_engines!(
    requests_are_counted_by_kind_and_outcome,
    every_error_has_its_reason,
    families_are_those_of_the_clients,
    announces_without_a_client_address_fail,
    torrents_outside_the_access_list_fail,
    full_scrapes_fail_if_switched_off,
    requests_above_the_rate_limit_fail,
    bytes_are_counted,
    durations_are_counted,
    metrics_are_sums_over_all_workers,
);

const REQUESTS: &str = "annulus_requests_total";
const FAILURES: &str = "annulus_failures_total";

fn requests_are_counted_by_kind_and_outcome(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    assert!(
        admin.labelled_samples(REQUESTS).is_empty() && admin.labelled_samples(FAILURES).is_empty()
    );
    let torrent = TestTorrent::new(&tracker, 1);
    for port in 1..=3 {
        torrent.announce(port, "");
    }
    torrent.scrape();
    torrent.scrape();
    // On one connection.
    torrent.announce_ports(tracker.v4, 4..=10, "");
    failure_reason(&fetch(tracker.v4, get_request("/announce?port=1")));
    assert_eq!(fetch(tracker.v4, get_request("/")).status, 200);
    assert_eq!(fetch(tracker.v4, get_request("/nothing")).status, 404);
    // Not a request.
    assert_eq!(fetch(tracker.v4, "nonsense\r\n\r\n").status, 400);
    assert_eq!(
        admin.labelled_samples(REQUESTS),
        [
            "kind=announce,transport=http,family=ipv4,outcome=answered 10",
            "kind=announce,transport=http,family=ipv4,outcome=failed 1",
            "kind=page,transport=http,family=ipv4,outcome=answered 1",
            "kind=page,transport=http,family=ipv4,outcome=failed 1",
            "kind=scrape,transport=http,family=ipv4,outcome=answered 2",
        ]
    );
    assert_eq!(
        admin.labelled_samples(FAILURES),
        ["reason=info_hash_missing 1", "reason=method_malformed 1", "reason=not_found 1"]
    );
}

fn every_error_has_its_reason(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let long = "x".repeat(20_000);
    let headers: String = (0..200).map(|n| format!("A{n}: b\r\n")).collect();
    let with = |headers: &str| request("GET", "/announce", "HTTP/1.1", headers);
    let announce = |query: &str| get_request(&format!("/announce?{query}"));
    let hash = format!("info_hash={}", "a".repeat(20));
    let cases: [(&str, Vec<u8>); 22] = [
        ("method_malformed", b"\x01\r\n\r\n".into()),
        ("method_not_allowed", request("POST", "/", "HTTP/1.1", "")),
        ("target_malformed", request("GET", "/\x01", "HTTP/1.1", "")),
        ("version_malformed", request("GET", "/", "HTTP/one", "")),
        ("version_not_supported", request("GET", "/", "HTTP/2.0", "")),
        ("request_line_too_long", get_request(&format!("/{long}"))),
        ("head_too_large", with(&format!("A: {long}\r\n"))),
        ("too_many_headers", with(&headers)),
        ("line_end_malformed", with("A: b\rc\r\n")),
        ("header_folded", with("A: b\r\n c\r\n")),
        ("header_name_malformed", with("A B: c\r\n")),
        ("header_value_malformed", with("A: \0\r\n")),
        ("content_length_malformed", with("Content-Length: one\r\n")),
        ("body_not_allowed", with("Content-Length: 1\r\n")),
        ("info_hash_missing", announce("port=1")),
        ("info_hash_escape_malformed", announce("info_hash=%zz")),
        ("info_hash_length_wrong", announce("info_hash=a&port=1")),
        ("info_hash_hex", announce(&format!("info_hash={}&port=1", "0a".repeat(20)))),
        ("info_hash_base32", announce(&format!("info_hash={}&port=1", "7a".repeat(16)))),
        ("info_hash_repeated", announce(&format!("{hash}&{hash}&port=1"))),
        ("port_missing", announce(&hash)),
        ("port_invalid", announce(&format!("{hash}&port=0"))),
    ];
    for (reason, bytes) in cases {
        let before = admin.sample(&format!("{FAILURES}{{reason=\"{reason}\"}}"));
        let others = admin.labelled_samples(FAILURES).len();
        fetch(tracker.v4, bytes);
        let after = admin.sample(&format!("{FAILURES}{{reason=\"{reason}\"}}"));
        assert_eq!((before, after), (0.0, 1.0), "{reason}");
        assert_eq!(admin.labelled_samples(FAILURES).len(), others + 1, "{reason}");
    }
    let mut client = HttpClient::connect(tracker.v4);
    client.send(b"\x16\x03\x01\x00\x05hello");
    client.read_all();
    admin.wait_sample(&format!("{FAILURES}{{reason=\"unexpected_tls\"}}"), 1.0);
    let mut client = HttpClient::connect(tracker.v4);
    client.send("GET /");
    client.shutdown_write();
    client.read_all();
    admin.wait_sample(&format!("{FAILURES}{{reason=\"truncated\"}}"), 1.0);
}

fn families_are_those_of_the_clients(engine: Engine) {
    if !has_v6() {
        return;
    }
    let tables = "[proxy]\ntrusted = [\"127.0.0.1\"]\nheader = \"X-Real-IP\"\n".to_owned();
    let tracker = Tracker::start(engine, &(tables + OPERATIONS));
    let admin = AdminClient::of(&tracker);
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_from(IpAddr::V6(Ipv6Addr::LOCALHOST), 1, "");
    // The proxy uses IPv4, and its client IPv6.
    let target = torrent.target(1, "");
    fetch(tracker.v4, request("GET", &target, "HTTP/1.1", "X-Real-IP: 2001:db8::1\r\n"));
    fetch(tracker.v4, request("GET", &target, "HTTP/1.1", "X-Real-IP: 192.0.2.1\r\n"));
    assert_eq!(
        admin.labelled_samples(REQUESTS),
        [
            "kind=announce,transport=http,family=ipv4,outcome=answered 1",
            "kind=announce,transport=http,family=ipv6,outcome=answered 2",
        ]
    );
    assert_eq!(
        admin.labelled_samples("annulus_connections_accepted_total"),
        ["transport=http,family=ipv4 2", "transport=http,family=ipv6 1"]
    );
}

fn announces_without_a_client_address_fail(engine: Engine) {
    let tables = "[proxy]\ntrusted = [\"127.0.0.1\"]\nheader = \"X-Real-IP\"\n".to_owned();
    let tracker = Tracker::start(engine, &(tables + OPERATIONS));
    let admin = AdminClient::of(&tracker);
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    failure_reason(&fetch(tracker.v4, get_request(&target)));
    failure_reason(&fetch(
        tracker.v4,
        request("GET", &target, "HTTP/1.1", "X-Real-IP: unknown\r\n"),
    ));
    failure_reason(&fetch(
        tracker.v4,
        request("GET", &target, "HTTP/1.1", "X-Real-IP: 240.0.0.1\r\n"),
    ));
    assert_eq!(
        admin.labelled_samples(FAILURES),
        ["reason=client_address_missing 1", "reason=client_address_unreadable 2"]
    );
    assert_eq!(
        admin.labelled_samples(REQUESTS),
        ["kind=announce,transport=http,family=ipv4,outcome=failed 3"]
    );
}

fn torrents_outside_the_access_list_fail(engine: Engine) {
    let listed = AccessListTracker::start(engine, "deny", list_line(1) + &list_line(2), OPERATIONS);
    let admin = AdminClient::of(&listed.tracker);
    let entries = "annulus_access_list_entries{mode=\"deny\"}";
    let loaded = "annulus_access_list_loaded_timestamp_seconds";
    let before = admin.samples();
    assert_eq!(before[entries], 2.0);
    let started = before["process_start_time_seconds"];
    assert!((before[loaded] - started).abs() < TIMEOUT.as_secs_f64(), "{before:#?}");
    assert!(before["annulus_access_list_age_seconds"] < TIMEOUT.as_secs_f64());
    refusal_reason(&fetch(listed.tracker.v4, get_request(&listed.torrent(1).target(1, ""))));
    listed.torrent(3).announce(1, "");
    assert_eq!(admin.labelled_samples(FAILURES), ["reason=torrent_not_served 1"]);
    // A list that is loaded in a later second.
    crate::support::tracker::wait_for("the next second", || {
        (admin.sample("annulus_access_list_age_seconds") >= 1.0).then_some(())
    });
    listed.relist(list_line(3));
    let after = admin.samples();
    assert_eq!(after[entries], 1.0);
    assert!(after[loaded] > before[loaded], "{} {}", after[loaded], before[loaded]);
    // Without an access list there are no such metrics.
    let tracker = Tracker::start(engine, OPERATIONS);
    assert!(!AdminClient::of(&tracker).text().contains("annulus_access_list"));
}

fn requests_above_the_rate_limit_fail(engine: Engine) {
    let limits = "[limits]\nrequests_per_second = 1\nrequest_burst = 1\n";
    let tracker = Tracker::start(engine, &format!("{limits}{OPERATIONS}"));
    let admin = AdminClient::of(&tracker);
    let target = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    let (mut refused, mut reset) = (0, 0);
    for _ in 0..60 {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&target);
        match client.stream.peek(&mut [0]) {
            Ok(1) => {
                refused += u32::from(client.read_response().body.starts_with(b"d14:failure reason"))
            }
            other => {
                assert_eq!(other.unwrap_err().kind(), ErrorKind::ConnectionReset);
                reset += 1;
            }
        }
    }
    assert!(refused > 0 && reset > 0, "{refused} {reset}");
    assert_eq!(admin.labelled_samples(FAILURES), [format!("reason=address_requests {refused}")]);
    let rejected = admin.labelled_samples("annulus_connections_rejected_total");
    assert_eq!(rejected, [format!("reason=address_requests {reset}")]);
}

fn full_scrapes_fail_if_switched_off(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    failure_reason(&fetch(tracker.v4, get_request("/scrape")));
    assert_eq!(admin.labelled_samples(FAILURES), ["reason=full_scrape_off 1"]);
    assert_eq!(
        admin.labelled_samples(REQUESTS),
        ["kind=scrape,transport=http,family=ipv4,outcome=failed 1"]
    );
    let tracker = Tracker::start(engine, &format!("[protocol]\nfull_scrape = true\n{OPERATIONS}"));
    let admin = AdminClient::of(&tracker);
    let mut client = HttpClient::connect(tracker.v4);
    client.send(get_request("/scrape"));
    client.read_response_to_end();
    assert_eq!(
        admin.labelled_samples(REQUESTS),
        ["kind=scrape,transport=http,family=ipv4,outcome=answered 1"]
    );
}

fn bytes_are_counted(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let torrent = TestTorrent::new(&tracker, 1);
    let (mut asked, mut answered) = (0, 0);
    for port in 1..=50 {
        let target = torrent.target(port, "numwant=200");
        let bytes = request("GET", &target, "HTTP/1.1", "Connection: close\r\n");
        let mut stream = TcpStream::connect(tracker.v4).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        asked += bytes.len();
        answered += stream.read_to_end(&mut Vec::new()).unwrap();
    }
    admin.wait_sample("annulus_received_bytes_total", asked as f64);
    admin.wait_sample("annulus_sent_bytes_total", answered as f64);
}

fn durations_are_counted(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    TestTorrent::new(&tracker, 1).announce_ports(tracker.v4, 1..=500, "");
    let name = "annulus_request_duration_seconds";
    admin.wait_sample(&format!("{name}_count"), 500.0);
    let samples = admin.samples();
    assert_eq!(samples[&format!("{name}_bucket{{le=\"+Inf\"}}")], 500.0);
    let sum = samples[&format!("{name}_sum")];
    assert!(sum > 0.0 && sum < TIMEOUT.as_secs_f64(), "{sum}");
    let bucket = |name: &str, index: i32| {
        let bound = 2f64.powi(index) / 1e6;
        samples[&format!("{name}_bucket{{le=\"{bound}\"}}")]
    };
    for name in [name, "annulus_turn_duration_seconds"] {
        let buckets: Vec<f64> = (0..=20).map(|index| bucket(name, index)).collect();
        assert!(buckets.is_sorted(), "{buckets:?}");
        // None takes less than a microsecond, and most take less than a second.
        assert!(buckets[0] < buckets[20] && buckets[20] > 0.0, "{buckets:?}");
    }
    // One request at a time takes a turn each.
    assert!(samples["annulus_turn_duration_seconds_count"] >= 500.0);
}

/// The metrics are the sum over all workers.
fn metrics_are_sums_over_all_workers(engine: Engine) {
    let tracker = Tracker::start_with(engine, 4, OPERATIONS, &[]);
    let admin = AdminClient::of(&tracker);
    let torrent = TestTorrent::new(&tracker, 1);
    for port in 1..=100 {
        torrent.announce(port, "");
    }
    let answered = "annulus_requests_total{kind=\"announce\",transport=\"http\",family=\"ipv4\",\
                    outcome=\"answered\"}";
    assert_eq!(admin.sample(answered), 100.0);
    let silences = (0..4).map(|worker| {
        admin.sample(&format!("annulus_worker_silence_seconds{{worker=\"{worker}\"}}"))
    });
    assert!(silences.into_iter().all(|silence| silence <= TIMEOUT.as_secs_f64()));
    // Beside the workers and the main thread, those of the rates and the admin listener.
    let tasks = fs::read_dir(format!("/proc/{}/task", tracker.pid())).unwrap().count();
    assert!(tasks >= 4 + 3, "{tasks}");
}

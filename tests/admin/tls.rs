//! Handshakes and certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::authority::{Authority, KeyKind};
use crate::support::client::{HttpClient, get_request};
use crate::support::tls_client::{connect_tls, resuming_config};
use crate::support::tls_tracker::{HOST, TlsTracker};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, config, test_both_engines};

test_both_engines!(
    handshakes_are_counted_by_version_and_kind,
    failed_handshakes_are_counted,
    certificates_have_their_end,
    expiring_certificates_are_reported,
    bytes_of_tls_are_counted,
);

const HANDSHAKES: &str = "annulus_tls_handshakes_total";
const FAILED: &str = "annulus_tls_handshakes_failed_total";

fn handshakes_are_counted_by_version_and_kind(engine: Engine) {
    let site = TlsTracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&site.tracker);
    let request = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    for mut client in site.connect_by_each() {
        client.send(&request);
        parse_announce(&client.read_response());
    }
    assert_eq!(
        admin.labelled_samples(HANDSHAKES),
        ["version=1.2,kind=full 1", "version=1.3,kind=full 1"]
    );
    for version in [&TLS12, &TLS13] {
        let settings = resuming_config(&site.authority, version);
        for _ in 0..3 {
            let mut client = connect_tls(site.v4, &settings);
            client.send(&request);
            parse_announce(&client.read_response());
        }
    }
    assert_eq!(
        admin.labelled_samples(HANDSHAKES),
        [
            "version=1.2,kind=full 2",
            "version=1.2,kind=resumed 2",
            "version=1.3,kind=full 2",
            "version=1.3,kind=resumed 2",
        ]
    );
    assert_eq!(admin.sample(FAILED), 0.0);
    let accepted = admin.labelled_samples("annulus_connections_accepted_total");
    assert_eq!(accepted, ["transport=https,family=ipv4 8"]);
}

fn failed_handshakes_are_counted(engine: Engine) {
    let site =
        TlsTracker::start(engine, &format!("[connections]\nhandshake_timeout = 1\n{OPERATIONS}"));
    let admin = AdminClient::of(&site.tracker);
    // Without TLS, with a malformed record, closed early, and timed out.
    let mut plain = HttpClient::connect(site.v4);
    plain.send(get_request("/announce"));
    assert_eq!(plain.read_response().status, 400);
    admin.wait_sample(FAILED, 1.0);
    assert_eq!(admin.labelled_samples("annulus_failures_total"), ["reason=not_tls 1"]);
    let mut broken = HttpClient::connect(site.v4);
    broken.send(b"\x16\x03\x01\x00\x05hello");
    broken.read_all();
    admin.wait_sample(FAILED, 2.0);
    let mut short = HttpClient::connect(site.v4);
    short.send(b"\x16\x03\x01");
    short.shutdown_write();
    short.read_all();
    admin.wait_sample(FAILED, 3.0);
    let timed_out = "annulus_connections_timed_out_total";
    assert!(admin.labelled_samples(timed_out).is_empty());
    let mut slow = HttpClient::connect(site.v4);
    slow.send(b"\x16\x03\x01");
    slow.read_all();
    admin.wait_sample(FAILED, 4.0);
    assert_eq!(admin.labelled_samples(timed_out), ["waiting_for=handshake 1"]);
    assert!(admin.labelled_samples(HANDSHAKES).is_empty());
}

fn certificates_have_their_end(engine: Engine) {
    let hosts = [(HOST, KeyKind::P256), ("other.test", KeyKind::P256)];
    let site = TlsTracker::start_with(engine, &hosts, OPERATIONS);
    let admin = AdminClient::of(&site.tracker);
    let samples = admin.samples();
    let name = "annulus_tls_certificate_not_after_timestamp_seconds";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let ends: Vec<(&String, &f64)> =
        samples.iter().filter(|(it, _)| it.starts_with(name)).collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    for ((index, (host, _)), (labels, end)) in hosts.iter().enumerate().zip(ends) {
        let wanted = format!("{name}{{certificate=\"{index}\",names=\"{host}");
        assert!(labels.starts_with(&wanted), "{labels}");
        assert!(*end > now && *end < now + 4e9, "{labels} {end}");
    }
}

/// While it is in use, and without a reload.
fn expiring_certificates_are_reported(engine: Engine) {
    let authority = Authority::new(&[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // It is valid for twelve seconds; the notice is a third of that before the end.
    let (from, until) = (now - 6, now + 6);
    authority.issue_until(HOST, from, until);
    authority.issue("lasting.test", KeyKind::P256);
    let tls = format!(
        "[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificates = [\n\
         {{ chain = \"{HOST}.pem\", key = \"{HOST}.key\" }},\n\
         {{ chain = \"lasting.test.pem\", key = \"lasting.test.key\" }},\n]\n{OPERATIONS}"
    );
    let tracker = Tracker::launch_in(authority.directory(), &config(engine, 1, &tls), &[]);
    for what in ["expires on", "expired on"] {
        tracker.assert_logged(&format!("{HOST}.pem: certificate 1 {what} "));
    }
    let admin = AdminClient::of(&tracker);
    for (name, expected) in
        [("not_before", from), ("not_after", until), ("expiry_notice", until - 4)]
    {
        let name = format!(
            "annulus_tls_certificate_{name}_timestamp_seconds{{certificate=\"0\",names=\"{HOST}\"}}"
        );
        assert_eq!(admin.sample(&name), expected as f64, "{name}");
    }
    let certificate = json!({
        "names": HOST, "not_after": until, "not_before": from, "expiry_notice": until - 4,
    });
    assert_eq!(admin.stats()["tls"]["certificates"][0], certificate);
    // Each is logged once, whether it was true at the start or became so.
    let log = tracker.log();
    assert_eq!(log.matches("certificate 1 expired on").count(), 1, "{log}");
    assert!(!log.contains("lasting.test.pem: certificate"), "{log}");
}

fn bytes_of_tls_are_counted(engine: Engine) {
    let site = TlsTracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&site.tracker);
    let mut client = site.connect();
    let request = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    client.send(&request);
    parse_announce(&client.read_response());
    let samples = admin.samples();
    // A hello, a Finished and the request; a certificate, a ticket and the response.
    assert!(samples["annulus_received_bytes_total"] > request.len() as f64 + 200.0, "{samples:#?}");
    assert!(samples["annulus_sent_bytes_total"] > 1000.0, "{samples:#?}");
}

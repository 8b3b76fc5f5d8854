//! Handshakes and certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::version::{TLS12, TLS13};

use crate::support::authority::{Authority, Key};
use crate::support::client::{Client, get};
use crate::support::observed::{OPERATIONS, Observed};
use crate::support::secure::{connect, resuming};
use crate::support::site::{HOST, Site};
use crate::support::torrent::{Torrent, announced};
use crate::support::tracker::{Engine, Tracker, config, on_both_engines};

on_both_engines!(
    handshakes_are_told_apart,
    handshakes_that_fail_are_counted,
    certificates_tell_their_end,
    a_certificate_that_ends_is_warned_of,
    bytes_are_those_of_the_records,
);

const HANDSHAKES: &str = "annulus_tls_handshakes_total";
const FAILED: &str = "annulus_tls_handshakes_failed_total";

fn handshakes_are_told_apart(engine: Engine) {
    let site = Site::start(engine, OPERATIONS);
    let observed = Observed::of(&site.tracker);
    let request = get(&Torrent::new(&site.tracker, 1).target(1, ""));
    for mut client in site.connect_by_each() {
        client.send(&request);
        announced(&client.reply());
    }
    assert_eq!(
        observed.of_metric(HANDSHAKES),
        ["version=1.2,kind=full 1", "version=1.3,kind=full 1"]
    );
    for version in [&TLS12, &TLS13] {
        let settings = resuming(&site.authority, version);
        for _ in 0..3 {
            let mut client = connect(site.v4, &settings);
            client.send(&request);
            announced(&client.reply());
        }
    }
    assert_eq!(
        observed.of_metric(HANDSHAKES),
        [
            "version=1.2,kind=full 2",
            "version=1.2,kind=resumed 2",
            "version=1.3,kind=full 2",
            "version=1.3,kind=resumed 2",
        ]
    );
    assert_eq!(observed.sample(FAILED), 0.0);
    let accepted = observed.of_metric("annulus_connections_accepted_total");
    assert_eq!(accepted, ["transport=https,family=ipv4 8"]);
}

fn handshakes_that_fail_are_counted(engine: Engine) {
    let site = Site::start(engine, &format!("[connections]\nhandshake_timeout = 1\n{OPERATIONS}"));
    let observed = Observed::of(&site.tracker);
    // One without TLS, one that breaks it, one that breaks off and one that goes no further.
    let mut plain = Client::connect(site.v4);
    plain.send(get("/announce"));
    assert_eq!(plain.reply().status, 400);
    observed.reaches(FAILED, 1.0);
    assert_eq!(observed.of_metric("annulus_failures_total"), ["reason=not_tls 1"]);
    let mut broken = Client::connect(site.v4);
    broken.send(b"\x16\x03\x01\x00\x05hello");
    broken.drain();
    observed.reaches(FAILED, 2.0);
    let mut short = Client::connect(site.v4);
    short.send(b"\x16\x03\x01");
    short.finish();
    short.drain();
    observed.reaches(FAILED, 3.0);
    let timed_out = "annulus_connections_timed_out_total";
    assert!(observed.of_metric(timed_out).is_empty());
    let mut slow = Client::connect(site.v4);
    slow.send(b"\x16\x03\x01");
    slow.drain();
    observed.reaches(FAILED, 4.0);
    assert_eq!(observed.of_metric(timed_out), ["waiting_for=handshake 1"]);
    assert!(observed.of_metric(HANDSHAKES).is_empty());
}

fn certificates_tell_their_end(engine: Engine) {
    let hosts = [(HOST, Key::P256), ("other.test", Key::P256)];
    let site = Site::start_as(engine, &hosts, OPERATIONS);
    let observed = Observed::of(&site.tracker);
    let samples = observed.samples();
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

/// While it is served, and without a reload.
fn a_certificate_that_ends_is_warned_of(engine: Engine) {
    let authority = Authority::new(&[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Of twelve seconds, the last four of which are a third.
    let (from, until) = (now - 6, now + 6);
    authority.issue_until(HOST, from, until);
    authority.issue("lasting.test", Key::P256);
    let tls = format!(
        "[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificates = [\n\
         {{ chain = \"{HOST}.pem\", key = \"{HOST}.key\" }},\n\
         {{ chain = \"lasting.test.pem\", key = \"lasting.test.key\" }},\n]\n{OPERATIONS}"
    );
    let tracker = Tracker::launch_in(authority.directory(), &config(engine, 1, &tls), &[]);
    for what in ["expires on", "expired on"] {
        tracker.assert_logged(&format!("{HOST}.pem: certificate 1 {what} "));
    }
    let observed = Observed::of(&tracker);
    for (name, expected) in
        [("not_before", from), ("not_after", until), ("expiry_notice", until - 4)]
    {
        let name = format!(
            "annulus_tls_certificate_{name}_timestamp_seconds{{certificate=\"0\",names=\"{HOST}\"}}"
        );
        assert_eq!(observed.sample(&name), expected as f64, "{name}");
    }
    let stats = String::from_utf8(observed.get("/stats.json").body).unwrap();
    let certificate = format!(
        "{{\"names\":\"{HOST}\",\"not_after\":{until},\"not_before\":{from},\
         \"expiry_notice\":{}}}",
        until - 4
    );
    assert!(stats.contains(&certificate), "{stats}");
    let page = String::from_utf8(observed.get("/").body).unwrap();
    assert!(page.contains(&format!("<tr class=\"bad\"><th scope=\"row\">{HOST}</th>")), "{page}");
    assert!(page.contains("<tr><th scope=\"row\">lasting.test</th>"), "{page}");
    // Each once, whichever of the two it was when it began.
    let log = tracker.log();
    assert_eq!(log.matches("certificate 1 expired on").count(), 1, "{log}");
    assert!(!log.contains("lasting.test.pem: certificate"), "{log}");
}

fn bytes_are_those_of_the_records(engine: Engine) {
    let site = Site::start(engine, OPERATIONS);
    let observed = Observed::of(&site.tracker);
    let mut client = site.connect();
    let request = get(&Torrent::new(&site.tracker, 1).target(1, ""));
    client.send(&request);
    announced(&client.reply());
    let samples = observed.samples();
    // A hello, a Finished and the record; a certificate, a ticket and the answer.
    assert!(samples["annulus_received_bytes_total"] > request.len() as f64 + 200.0, "{samples:#?}");
    assert!(samples["annulus_sent_bytes_total"] > 1000.0, "{samples:#?}");
}

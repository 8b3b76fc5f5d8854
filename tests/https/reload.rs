//! Certificates are renewed while clients are served.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;

use crate::support::authority::KeyKind;
use crate::support::client::get_request;
use crate::support::tls_client::{VERSIONS, client_config, connect_tls, resuming_config};
use crate::support::tls_tracker::{HOST, TlsTracker};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, test_both_engines, wait_for};

test_both_engines!(
    under_load,
    another_kind_of_key,
    one_of_several_certificates,
    tickets_stay_valid,
    unusable_certificates_are_not_used,
);

/// Asserts that new connections get this certificate, from every worker.
#[track_caller]
fn shows(site: &TlsTracker, certificate: &CertificateDer<'_>) {
    for _ in 0..8 {
        for mut client in site.connect_by_each() {
            client.handshake();
            assert_eq!(client.certificate(), certificate);
        }
    }
}

fn under_load(engine: Engine) {
    const THREADS: usize = 8;
    /// The limit of one thread, if it is not told to end before.
    const CONNECTIONS_MAX: usize = 2000;
    let site = TlsTracker::start(engine, "");
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    let (answered, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ask_and_ask = |number: usize| {
        let settings = Arc::new(client_config(&site.authority, VERSIONS[number % 2]));
        let mut lasting = connect_tls(site.v4, &settings);
        for _ in 0..CONNECTIONS_MAX {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let mut fresh = connect_tls(site.v4, &settings);
            for _ in 0..4 {
                for client in [&mut fresh, &mut lasting] {
                    client.send(&announce);
                    parse_announce(&client.read_response());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            fresh.close_notify();
            fresh.expect_close_notify();
        }
    };
    let some_more = || {
        let enough = answered.load(Ordering::Relaxed) + 200;
        wait_for("answers under load", || {
            (answered.load(Ordering::Relaxed) >= enough).then_some(())
        });
    };
    thread::scope(|scope| {
        for number in 0..THREADS {
            let ask_and_ask = &ask_and_ask;
            scope.spawn(move || ask_and_ask(number));
        }
        for signal in ["HUP", "USR1"] {
            some_more();
            let renewed = site.authority.issue(HOST, KeyKind::P256);
            let verdict = site.reload(signal);
            assert!(verdict.contains("certificates reloaded"), "{verdict}");
            shows(&site, &renewed);
            some_more();
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn another_kind_of_key(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    for key in [KeyKind::Rsa, KeyKind::P256] {
        let renewed = site.authority.issue(HOST, key);
        let verdict = site.reload("HUP");
        assert!(verdict.contains("certificates reloaded"), "{verdict}");
        shows(&site, &renewed);
    }
}

fn one_of_several_certificates(engine: Engine) {
    let hosts = [("first.test", KeyKind::P256), (HOST, KeyKind::P256)];
    let site = TlsTracker::start_with(engine, &hosts, "");
    for _ in 0..2 {
        let renewed = site.authority.issue(HOST, KeyKind::P256);
        let verdict = site.reload("USR1");
        assert!(verdict.contains("certificates reloaded"), "{verdict}");
        shows(&site, &renewed);
    }
}

fn tickets_stay_valid(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    for version in VERSIONS {
        let settings = resuming_config(&site.authority, version);
        let ask = || {
            let mut client = connect_tls(site.v4, &settings);
            client.send(&announce);
            parse_announce(&client.read_response());
            client.stream.conn.handshake_kind().unwrap()
        };
        assert_eq!(ask(), HandshakeKind::Full);
        let renewed = site.authority.issue(HOST, KeyKind::P256);
        let verdict = site.reload("HUP");
        assert!(verdict.contains("certificates reloaded"), "{verdict}");
        assert_eq!(ask(), HandshakeKind::Resumed);
        shows(&site, &renewed);
    }
}

fn unusable_certificates_are_not_used(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let first = site.authority.issue(HOST, KeyKind::P256);
    site.reload("HUP");
    shows(&site, &first);
    let mut lasting = site.connect();
    lasting.handshake();

    site.authority.issue("other.test", KeyKind::P256);
    let [chain, key] = ["pem", "key"].map(|end| site.authority.path(&format!("{HOST}.{end}")));
    let other_key = site.authority.path("other.test.key");
    let good = [&chain, &key].map(|file| fs::read(file).unwrap());
    let mistakes: [(&str, &dyn Fn() -> io::Result<()>); 6] = [
        ("tracker.test.key: not the key of", &|| fs::copy(&other_key, &key).map(drop)),
        ("tracker.test.key: cannot be read", &|| fs::remove_file(&key)),
        ("tracker.test.key: no private key", &|| fs::write(&key, "")),
        ("tracker.test.key: no private key but", &|| fs::copy(&chain, &key).map(drop)),
        ("tracker.test.pem: cannot be read", &|| fs::remove_file(&chain)),
        ("tracker.test.pem: damaged", &|| fs::write(&chain, &good[0][..good[0].len() / 4])),
    ];
    for (why, break_it) in mistakes {
        break_it().unwrap();
        let verdict = site.reload("HUP");
        // Line 6 of the configuration.
        let place = ".toml:6: tls.certificates: ";
        for part in ["certificates kept: ", place, why] {
            assert!(verdict.contains(part), "no {part:?} in {verdict}");
        }
        assert_eq!(verdict.lines().count(), 1, "{verdict}");
        shows(&site, &first);
        fs::write(&chain, &good[0]).unwrap();
        fs::write(&key, &good[1]).unwrap();
    }

    let renewed = site.authority.issue(HOST, KeyKind::P256);
    let verdict = site.reload("USR1");
    assert!(verdict.contains("certificates reloaded"), "{verdict}");
    shows(&site, &renewed);
    lasting.send(get_request(&TestTorrent::new(&site.tracker, 1).target(1, "")));
    parse_announce(&lasting.read_response());
}

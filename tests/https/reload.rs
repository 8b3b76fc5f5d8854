//! Certificates that are renewed while everybody goes on.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;

use crate::support::authority::Key;
use crate::support::client::get;
use crate::support::secure::{VERSIONS, connect, resuming, settings};
use crate::support::site::{HOST, Site};
use crate::support::torrent::{Torrent, announced};
use crate::support::tracker::{Engine, on_both_engines, within};

on_both_engines!(
    under_load,
    to_another_kind_of_key,
    of_one_among_several,
    tickets_go_on,
    what_cannot_be_used_is_not,
);

/// Asserts that newcomers are shown this certificate, by whatever worker they come to.
#[track_caller]
fn shows(site: &Site, certificate: &CertificateDer<'_>) {
    for _ in 0..8 {
        for mut client in site.connect_by_each() {
            client.shake_hands();
            assert_eq!(client.certificate(), certificate);
        }
    }
}

fn under_load(engine: Engine) {
    const THREADS: usize = 8;
    /// Of one thread, should it not be told to end before.
    const CONNECTIONS_MAX: usize = 2000;
    let site = Site::start(engine, "");
    let announce = get(&Torrent::new(&site.tracker, 1).target(1, ""));
    let (answered, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ask_and_ask = |number: usize| {
        let settings = Arc::new(settings(&site.authority, VERSIONS[number % 2]));
        let mut lasting = connect(site.v4, &settings);
        for _ in 0..CONNECTIONS_MAX {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let mut fresh = connect(site.v4, &settings);
            for _ in 0..4 {
                for client in [&mut fresh, &mut lasting] {
                    client.send(&announce);
                    announced(&client.reply());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            fresh.close_notify();
            fresh.ends_in_order();
        }
    };
    let some_more = || {
        let enough = answered.load(Ordering::Relaxed) + 200;
        within("answers under load", || (answered.load(Ordering::Relaxed) >= enough).then_some(()));
    };
    thread::scope(|scope| {
        for number in 0..THREADS {
            let ask_and_ask = &ask_and_ask;
            scope.spawn(move || ask_and_ask(number));
        }
        for signal in ["HUP", "USR1"] {
            some_more();
            let renewed = site.authority.issue(HOST, Key::P256);
            let verdict = site.reload(signal);
            assert!(verdict.contains("certificates reloaded"), "{verdict}");
            shows(&site, &renewed);
            some_more();
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn to_another_kind_of_key(engine: Engine) {
    let site = Site::start(engine, "");
    for key in [Key::Rsa, Key::P256] {
        let renewed = site.authority.issue(HOST, key);
        let verdict = site.reload("HUP");
        assert!(verdict.contains("certificates reloaded"), "{verdict}");
        shows(&site, &renewed);
    }
}

fn of_one_among_several(engine: Engine) {
    let hosts = [("first.test", Key::P256), (HOST, Key::P256)];
    let site = Site::start_as(engine, &hosts, "");
    for _ in 0..2 {
        let renewed = site.authority.issue(HOST, Key::P256);
        let verdict = site.reload("USR1");
        assert!(verdict.contains("certificates reloaded"), "{verdict}");
        shows(&site, &renewed);
    }
}

fn tickets_go_on(engine: Engine) {
    let site = Site::start(engine, "");
    let announce = get(&Torrent::new(&site.tracker, 1).target(1, ""));
    for version in VERSIONS {
        let settings = resuming(&site.authority, version);
        let ask = || {
            let mut client = connect(site.v4, &settings);
            client.send(&announce);
            announced(&client.reply());
            client.stream.conn.handshake_kind().unwrap()
        };
        assert_eq!(ask(), HandshakeKind::Full);
        let renewed = site.authority.issue(HOST, Key::P256);
        let verdict = site.reload("HUP");
        assert!(verdict.contains("certificates reloaded"), "{verdict}");
        assert_eq!(ask(), HandshakeKind::Resumed);
        shows(&site, &renewed);
    }
}

fn what_cannot_be_used_is_not(engine: Engine) {
    let site = Site::start(engine, "");
    let first = site.authority.issue(HOST, Key::P256);
    site.reload("HUP");
    shows(&site, &first);
    let mut lasting = site.connect();
    lasting.shake_hands();

    site.authority.issue("other.test", Key::P256);
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
        // In the configuration's sixth line.
        let place = ".toml:6: tls.certificates: ";
        for part in ["certificates kept: ", place, why] {
            assert!(verdict.contains(part), "no {part:?} in {verdict}");
        }
        assert_eq!(verdict.lines().count(), 1, "{verdict}");
        shows(&site, &first);
        fs::write(&chain, &good[0]).unwrap();
        fs::write(&key, &good[1]).unwrap();
    }

    let renewed = site.authority.issue(HOST, Key::P256);
    let verdict = site.reload("USR1");
    assert!(verdict.contains("certificates reloaded"), "{verdict}");
    shows(&site, &renewed);
    lasting.send(get(&Torrent::new(&site.tracker, 1).target(1, "")));
    announced(&lasting.reply());
}

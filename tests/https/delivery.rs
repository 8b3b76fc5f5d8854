//! Answers arrive whole through TLS too, however slowly they are read, and close_notify after them.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Client, get};
use crate::support::secure::{Secure, VERSIONS, over, settings};
use crate::support::site::Site;
use crate::support::torrent::{Torrent, announced};
use crate::support::tracker::{Engine, PATIENCE, on_both_engines};

on_both_engines!(
    slow_readers_get_all_answers,
    slow_readers_get_all_answers_at_a_stop,
    idle_clients_do_not_hold_up_a_stop,
);

/// Bytes that slow readers take a second.
const SLOW: usize = 20_000;
const ANSWERS: usize = 20;

/// Clients with so small a receive buffer that the tracker soon has to wait.
fn narrow(site: &Site) -> Vec<Client<Secure>> {
    let connect = |&version| {
        let settings = Arc::new(settings(&site.authority, version));
        let mut client = over(Client::connect_narrow(site.v4), &settings);
        client.shake_hands();
        client
    };
    VERSIONS.iter().map(connect).collect()
}

/// Announces whose answers have some six kilobytes.
fn long_announces(site: &Site) -> Vec<u8> {
    let torrent = Torrent::new(&site.tracker, 1);
    torrent.fill(site.tracker.v4, 1..=200, "");
    get(&torrent.target(1, "numwant=200&compact=0")).repeat(ANSWERS)
}

fn read_slowly(mut client: Client<Secure>) -> Client<Secure> {
    client.read_slowly(SLOW);
    for _ in 0..ANSWERS {
        assert_eq!(announced(&client.reply()).peers.len(), 199);
    }
    client
}

fn slow_readers_get_all_answers(engine: Engine) {
    let site = Site::start(engine, "[connections]\nsend_timeout = 4\nidle_timeout = 1\n");
    let announces = long_announces(&site);
    thread::scope(|scope| {
        for last in ["GET /", "POST /announce"] {
            for mut client in narrow(&site) {
                let requests = [&announces, last.as_bytes(), b" HTTP/1.1\r\nHost: t\r\n\r\n"];
                client.send(requests.concat());
                scope.spawn(move || {
                    let mut client = read_slowly(client);
                    assert!(client.reply().closes(), "{last}");
                    assert!(client.is_read_out());
                });
            }
        }
    });
}

fn slow_readers_get_all_answers_at_a_stop(engine: Engine) {
    let mut site = Site::start(engine, "[connections]\nshutdown_timeout = 60\n");
    let announces = long_announces(&site);
    let mut clients = narrow(&site);
    clients.iter_mut().for_each(|client| client.send(&announces));
    thread::sleep(Duration::from_millis(200));
    site.tracker.signal("TERM");
    site.tracker.assert_logged("stopping");
    thread::scope(|scope| {
        for client in clients {
            scope.spawn(move || assert!(read_slowly(client).is_read_out()));
        }
    });
    let (status, log) = site.tracker.ended();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Whether they go themselves or not.
fn idle_clients_do_not_hold_up_a_stop(engine: Engine) {
    let mut fastest = PATIENCE;
    for _ in 0..5 {
        let mut site = Site::start(engine, "");
        let announce = get(&Torrent::new(&site.tracker, 1).target(1, ""));
        let mut idle = site.connect_by_each();
        for client in &mut idle {
            client.send(&announce);
            announced(&client.reply());
        }
        // Nor do those that have had time for a first request.
        let mut silent = site.connect_by_each();
        silent.iter_mut().for_each(Client::shake_hands);
        thread::sleep(Duration::from_secs(3));
        site.tracker.signal("TERM");
        let start = Instant::now();
        let (status, log) = site.tracker.ended();
        fastest = fastest.min(start.elapsed());
        assert_eq!(status.code(), Some(0), "{log}");
        idle.into_iter().chain(silent).for_each(Client::ends_in_order);
    }
    // Closed connections may linger for two seconds: of five stops, one at least was not so late.
    assert!(fastest < Duration::from_millis(1500), "the fastest of five stops took {fastest:?}");
}

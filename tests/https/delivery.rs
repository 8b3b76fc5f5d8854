//! Responses arrive complete over TLS too, however slowly the client reads, followed by
//! close_notify.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{HttpClient, get_request};
use crate::support::tls_client::{TlsStream, VERSIONS, client_config, over_tls};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(
    slow_readers_get_all_answers,
    slow_readers_get_all_answers_at_a_stop,
    idle_clients_do_not_delay_a_stop,
);

/// The rate of slow readers, bytes a second.
const SLOW: usize = 20_000;
const ANSWERS: usize = 20;

/// Clients with so small a receive buffer that the tracker soon has to wait.
fn small_window_clients(site: &TlsTracker) -> Vec<HttpClient<TlsStream>> {
    let connect = |&version| {
        let settings = Arc::new(client_config(&site.authority, version));
        let mut client = over_tls(HttpClient::connect_small_window(site.v4), &settings);
        client.handshake();
        client
    };
    VERSIONS.iter().map(connect).collect()
}

/// Announces with responses of about six kilobytes.
fn long_announces(site: &TlsTracker) -> Vec<u8> {
    let torrent = TestTorrent::new(&site.tracker, 1);
    torrent.announce_ports(site.tracker.v4, 1..=200, "");
    get_request(&torrent.target(1, "numwant=200&compact=0")).repeat(ANSWERS)
}

fn read_slowly(mut client: HttpClient<TlsStream>) -> HttpClient<TlsStream> {
    client.read_slowly(SLOW);
    for _ in 0..ANSWERS {
        assert_eq!(parse_announce(&client.read_response()).peers.len(), 199);
    }
    client
}

fn slow_readers_get_all_answers(engine: Engine) {
    let site = TlsTracker::start(engine, "[connections]\nsend_timeout = 4\nidle_timeout = 1\n");
    let announces = long_announces(&site);
    thread::scope(|scope| {
        for last in ["GET /", "POST /announce"] {
            for mut client in small_window_clients(&site) {
                let requests = [&announces, last.as_bytes(), b" HTTP/1.1\r\nHost: t\r\n\r\n"];
                client.send(requests.concat());
                scope.spawn(move || {
                    let mut client = read_slowly(client);
                    assert!(client.read_response().has_connection_close(), "{last}");
                    assert!(client.all_read());
                });
            }
        }
    });
}

fn slow_readers_get_all_answers_at_a_stop(engine: Engine) {
    let mut site = TlsTracker::start(engine, "[connections]\nshutdown_timeout = 60\n");
    let announces = long_announces(&site);
    let mut clients = small_window_clients(&site);
    clients.iter_mut().for_each(|client| client.send(&announces));
    thread::sleep(Duration::from_millis(200));
    site.tracker.signal("TERM");
    site.tracker.assert_logged("stopping");
    thread::scope(|scope| {
        for client in clients {
            scope.spawn(move || assert!(read_slowly(client).all_read()));
        }
    });
    let (status, log) = site.tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Whether the clients close their connections or not.
fn idle_clients_do_not_delay_a_stop(engine: Engine) {
    // Closed connections may linger for two seconds: one of twenty stops must take less.
    for _ in 0..20 {
        let mut site = TlsTracker::start(engine, "");
        let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
        let mut idle = site.connect_by_each();
        for client in &mut idle {
            client.send(&announce);
            parse_announce(&client.read_response());
        }
        // Nor do connections older than the deadline for a first request.
        let mut silent = site.connect_by_each();
        silent.iter_mut().for_each(HttpClient::handshake);
        thread::sleep(Duration::from_secs(3));
        site.tracker.signal("TERM");
        let start = Instant::now();
        let (status, log) = site.tracker.wait_exit();
        let took = start.elapsed();
        assert_eq!(status.code(), Some(0), "{log}");
        idle.into_iter().chain(silent).for_each(HttpClient::expect_close_notify);
        if took < Duration::from_millis(1500) {
            return;
        }
    }
    panic!("all of twenty stops waited for closed connections");
}

//! The limit of connections of all workers together: idle connections make room for new ones.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, get_request, request};
use crate::support::proxied_tracker::ProxiedTracker;
use crate::support::tls_client::{client_config, connect_tls, over_tls};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines, wait_for};

test_both_engines!(
    idle_clients_make_room_for_new_ones,
    the_longest_idle_one_goes_first,
    https_responses_say_so_too,
    behind_the_proxy_protocol_too,
    near_the_limit_answers_end_their_connections,
    connections_that_stay_after_the_last_response_make_room,
    every_worker_can_use_every_place,
    an_unfinished_request_makes_room_for_new_connections,
    unfinished_requests_of_other_workers_make_room,
    a_burst_stays_out_of_the_reserve,
);

/// The limit in these tests, and the number from which responses close their connections.
const MAX: usize = 16;
const NEARLY: usize = 14;

const EVICTED: &str = "annulus_connections_evicted_total";
const LINE: &str = "connections are open, as many as may be, and others wait";

fn tables(max: usize) -> String {
    format!(
        "[connections]\nmax = {max}\nidle_timeout = 300\nheader_timeout = 300\n\
         handshake_timeout = 300\n{OPERATIONS}"
    )
}

fn announce(tracker: &Tracker) -> Vec<u8> {
    get_request(&TestTorrent::new(tracker, 1).target(1, ""))
}

/// A client that has received a response, and whether its connection stays open.
fn answered(tracker: &Tracker) -> (HttpClient, bool) {
    let mut client = HttpClient::connect(tracker.v4);
    client.send(announce(tracker));
    let response = client.read_response();
    parse_announce(&response);
    (client, !response.has_connection_close())
}

/// A client that has sent half a request.
fn unfinished(tracker: &Tracker) -> HttpClient {
    let mut client = HttpClient::connect(tracker.v4);
    client.send("GET /announce");
    client
}

/// Fills a tracker with idle and busy clients. Returns both; the idle ones in the order of their
/// age.
fn fill(tracker: &Tracker, admin: &AdminClient) -> (Vec<HttpClient>, Vec<HttpClient>) {
    let idle: Vec<(HttpClient, bool)> = (1..NEARLY).map(|_| answered(tracker)).collect();
    assert!(idle.iter().all(|(_, kept)| *kept));
    let busy: Vec<HttpClient> = (NEARLY..=MAX).map(|_| unfinished(tracker)).collect();
    admin.wait_sample("annulus_connections_open", MAX as f64);
    (idle.into_iter().map(|(client, _)| client).collect(), busy)
}

fn idle_clients_make_room_for_new_ones(engine: Engine) {
    for workers in [1, 3] {
        let tracker = Tracker::start_with(engine, workers, &tables(MAX), &[]);
        let admin = AdminClient::of(&tracker);
        let (idle, mut busy) = fill(&tracker, &admin);
        let most = tracker.descriptors();
        for _ in 0..10 {
            let (client, kept) = answered(&tracker);
            assert!(!kept && tracker.descriptors() <= most);
            drop(client);
        }
        // All at once, too, and more than there are idle ones.
        let mut waiting: Vec<HttpClient> = (0..3 * MAX)
            .map(|_| {
                let mut client = HttpClient::connect(tracker.v4);
                client.send(announce(&tracker));
                client
            })
            .collect();
        for client in &mut waiting {
            parse_announce(&client.read_response());
        }
        // No other client has lost its connection.
        for client in &mut busy {
            client.send(" HTTP/1.1\r\n\r\n");
            client.read_response();
        }
        let evicted = admin.labelled_samples(EVICTED);
        assert!(evicted.len() == 1 && evicted[0].starts_with("waiting_for=idle "), "{evicted:?}");
        // A thread of its own writes the log.
        tracker.assert_logged("raise connections.max");
        let lines = tracker.log().lines().filter(|line| line.contains(LINE)).count();
        assert_eq!(lines, 1, "{}", tracker.log());
        drop(idle);
    }
}

fn the_longest_idle_one_goes_first(engine: Engine) {
    for workers in [1, 3] {
        let tracker = Tracker::start_with(engine, workers, &tables(MAX), &[]);
        let admin = AdminClient::of(&tracker);
        let (mut idle, _busy) = fill(&tracker, &admin);
        // All but one send a request more than a second later.
        thread::sleep(Duration::from_millis(2200));
        let longest = idle.remove(5);
        for client in &mut idle {
            client.send(announce(&tracker));
            // Nearly the limit is open.
            client.read_response();
        }
        // Their responses close their connections, so no other connection is closed until others
        // have connected.
        drop(idle);
        admin.wait_sample("annulus_connections_open", 4.0);
        let _idle: Vec<HttpClient> = (0..NEARLY - 5).map(|_| answered(&tracker).0).collect();
        let _busy: Vec<HttpClient> = (0..3).map(|_| unfinished(&tracker)).collect();
        admin.wait_sample("annulus_connections_open", MAX as f64);
        answered(&tracker);
        longest.expect_close();
        assert_eq!(admin.labelled_samples(EVICTED), ["waiting_for=idle 1"]);
    }
}

fn https_responses_say_so_too(engine: Engine) {
    for version in [&TLS12, &TLS13] {
        let site = TlsTracker::start(engine, &tables(MAX));
        let admin = AdminClient::of(&site.tracker);
        let settings = Arc::new(client_config(&site.authority, version));
        let request = announce(&site.tracker);
        let mut idle: Vec<_> = (1..NEARLY)
            .map(|_| {
                let mut client = connect_tls(site.v4, &settings);
                client.send(&request);
                assert!(!client.read_response().has_connection_close());
                client
            })
            .collect();
        let _busy: Vec<HttpClient> = (NEARLY..=MAX).map(|_| unfinished(&site.tracker)).collect();
        admin.wait_sample("annulus_connections_open", MAX as f64);
        for _ in 1..NEARLY {
            let mut client = connect_tls(site.v4, &settings);
            client.send(&request);
            assert!(client.read_response().has_connection_close());
            // With close_notify: without it reading fails.
            client.expect_close();
        }
        // A client that connects before the previous one is closed needs the place of another.
        let evicted = admin.sample(&format!("{EVICTED}{{waiting_for=\"idle\"}}"));
        assert!((1.0..12.0).contains(&evicted), "{evicted}");
        let ended = idle.iter_mut().filter_map(|client| {
            client.stream.sock.set_nonblocking(true).unwrap();
            let end = std::io::Read::read(&mut client.stream, &mut [0; 1]);
            matches!(end, Ok(0)).then_some(())
        });
        assert_eq!(ended.count() as f64, evicted, "those that have a close_notify");
    }
}

fn behind_the_proxy_protocol_too(engine: Engine) {
    let behind = ProxiedTracker::start_with(engine, "", &tables(MAX));
    let admin = AdminClient::of(&behind.tracker);
    let request = announce(&behind.tracker);
    let header = "PROXY TCP4 127.0.0.9 127.0.0.1 4000 80\r\n";
    let settings = Arc::new(client_config(&behind.authority, &TLS13));
    let ask = |secured: bool| {
        let mut client = HttpClient::connect(if secured {
            behind.proxy_protocol_tls
        } else {
            behind.proxy_protocol
        });
        client.send(header);
        if secured {
            let mut client = over_tls(client, &settings);
            client.send(&request);
            (client.read_response().has_connection_close(), None, Some(client))
        } else {
            client.send(&request);
            (client.read_response().has_connection_close(), Some(client), None)
        }
    };
    let idle: Vec<_> = (1..NEARLY).map(|at| ask(at % 2 == 0)).collect();
    assert!(idle.iter().all(|(closes, ..)| !closes));
    // Proxies that have sent a part of a PROXY header are not idle.
    let _busy: Vec<HttpClient> = (NEARLY..=MAX)
        .map(|_| {
            let mut client = HttpClient::connect(behind.proxy_protocol);
            client.send("PROXY");
            client
        })
        .collect();
    admin.wait_sample("annulus_connections_open", MAX as f64);
    for at in 0..6 {
        let (closes, ..) = ask(at % 2 == 0);
        assert!(closes);
    }
    let evicted = admin.labelled_samples(EVICTED);
    assert!(evicted.len() == 1 && evicted[0].starts_with("waiting_for=idle "), "{evicted:?}");
}

fn near_the_limit_answers_end_their_connections(engine: Engine) {
    let tracker = Tracker::start(engine, &tables(MAX));
    let admin = AdminClient::of(&tracker);
    let (idle, busy) = fill(&tracker, &admin);
    drop((idle, busy));
    admin.wait_sample("annulus_connections_open", 0.0);
    let _others: Vec<HttpClient> = (1..NEARLY).map(|_| unfinished(&tracker)).collect();
    admin.wait_sample("annulus_connections_open", (NEARLY - 1) as f64);
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    for (version, headers) in [("HTTP/1.1", ""), ("HTTP/1.0", "Connection: keep-alive\r\n")] {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(request("GET", &target, version, headers));
        let response = client.read_response();
        parse_announce(&response);
        assert_ne!(response.header("connection"), Some("keep-alive"), "{version}");
        client.expect_close();
    }
    drop(_others);
    admin.wait_sample("annulus_connections_open", 0.0);
    let mut client = HttpClient::connect(tracker.v4);
    client.send(request("GET", &target, "HTTP/1.0", "Connection: keep-alive\r\n"));
    assert_eq!(client.read_response().header("connection"), Some("keep-alive"));
}

/// Clients that do not close their connection after its last response are closed, even if there are
/// many.
fn connections_that_stay_after_the_last_response_make_room(engine: Engine) {
    let tracker = Tracker::start_with(engine, 2, &tables(MAX), &[]);
    let begun = Instant::now();
    let _staying: Vec<HttpClient> = (0..20 * MAX).map(|_| answered(&tracker).0).collect();
    // With a linger of two seconds for each it would take forty.
    assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
}

/// The kernel distributes connections to workers by their addresses, and so unevenly.
fn every_worker_can_use_every_place(engine: Engine) {
    for _ in 0..3 {
        let tracker = Tracker::start_with(engine, 4, &tables(8), &[]);
        let admin = AdminClient::of(&tracker);
        assert_eq!(admin.sample("annulus_connections_limit"), 8.0);
        let mut clients: Vec<HttpClient> = (0..8).map(|_| unfinished(&tracker)).collect();
        admin.wait_sample("annulus_connections_open", 8.0);
        // A closed connection of any worker makes room for a connection of any worker.
        for _ in 0..12 {
            let mut waiting = HttpClient::connect(tracker.v4);
            waiting.send(announce(&tracker));
            clients.remove(0).reset();
            assert!(waiting.read_response().has_connection_close());
            drop(waiting);
            admin.wait_sample("annulus_connections_open", 7.0);
            clients.push(unfinished(&tracker));
            admin.wait_sample("annulus_connections_open", 8.0);
        }
        assert!(admin.labelled_samples(EVICTED).is_empty());
    }
}

fn an_unfinished_request_makes_room_for_new_connections(engine: Engine) {
    let text = "[connections]\nmax = 4\nheader_timeout = 8\nhandshake_timeout = 8\n";
    let site = TlsTracker::start(engine, &format!("{text}{OPERATIONS}"));
    let tracker = &site.tracker;
    let admin = AdminClient::of(tracker);
    let plain: Vec<HttpClient> = (0..2).map(|_| unfinished(tracker)).collect();
    let _secured: Vec<HttpClient> = (0..2)
        .map(|_| {
            let mut client = HttpClient::connect(site.v4);
            client.send([22, 3, 1, 2, 0, 1]);
            client
        })
        .collect();
    admin.wait_sample("annulus_connections_open", 4.0);
    for _ in 0..4 {
        answered(tracker);
    }
    wait_for("somebody to make room", || {
        (!admin.labelled_samples(EVICTED).is_empty()).then_some(())
    });
    drop(plain);
}

/// Neither if another worker has it, as is likely.
fn unfinished_requests_of_other_workers_make_room(engine: Engine) {
    let text = "[connections]\nmax = 1\nheader_timeout = 16\nhandshake_timeout = 16\n";
    let tracker = Tracker::start_with(engine, 8, &format!("{text}{OPERATIONS}"), &[]);
    let admin = AdminClient::of(&tracker);
    for _ in 0..2 {
        let _unfinished = unfinished(&tracker);
        admin.wait_sample("annulus_connections_open", 1.0);
        answered(&tracker);
        admin.wait_sample("annulus_connections_open", 0.0);
    }
    assert_eq!(admin.labelled_samples(EVICTED), ["waiting_for=header 2"]);
    let in_time = admin.labelled_samples("annulus_connections_timed_out_total");
    assert!(in_time.is_empty(), "{in_time:?}");
}

/// A burst of connections with few descriptors.
fn a_burst_stays_out_of_the_reserve(engine: Engine) {
    let tables = format!("[connections]\nheader_timeout = 300\n{OPERATIONS}");
    let tracker = Tracker::start_with(engine, 2, &tables, &["prlimit", "--nofile=256:256"]);
    let admin = AdminClient::of(&tracker);
    let limit = admin.sample("annulus_connections_limit") as usize;
    let baseline = tracker.descriptors();
    assert!(baseline + limit <= 256 - 48, "{baseline} and {limit}");
    tracker.signal("STOP");
    let whole = announce(&tracker);
    let mut burst: Vec<HttpClient> = (0..600)
        .map(|_| {
            let mut client = HttpClient::connect(tracker.v4);
            client.send(&whole[..50]);
            client
        })
        .collect();
    tracker.signal("CONT");
    let mut most = 0;
    for _ in 0..50 {
        most = most.max(tracker.descriptors());
        thread::sleep(Duration::from_millis(10));
    }
    admin.wait_sample("annulus_connections_open", limit as f64);
    assert!(most <= baseline + limit, "{most} descriptors, {baseline} before and {limit} at most");
    let mut last = burst.pop().unwrap();
    drop(burst);
    last.send(&whole[50..]);
    parse_announce(&last.read_response());
}

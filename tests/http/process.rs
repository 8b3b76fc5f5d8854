//! Starting and stopping.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, config, test_both_engines};

test_both_engines!(
    the_log_names_the_engine,
    an_address_in_use,
    two_trackers_on_one_port,
    a_signal_stops_it,
    what_is_in_flight_is_answered,
    a_stop_is_bounded,
    other_signals_do_not_stop_it,
    few_descriptors,
    wrong_configurations,
);

fn the_log_names_the_engine(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    match engine {
        Engine::Epoll => tracker.assert_logged("engine epoll, as configured"),
        Engine::IoUring => {
            tracker.assert_logged("engine io_uring, ");
            tracker.assert_logged("TASKRUN");
        }
    }
    tracker.assert_logged("2 workers, ");
}

fn an_address_in_use(engine: Engine) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!("listen = [\"{address}\"]\nengine = \"{}\"", engine.name());
    let (status, log) = Tracker::launch(&text, &[]).wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains(&format!("cannot listen on {address}")) && log.contains("stop it"),
        "{log}"
    );
}

/// With SO_REUSEPORT both would listen, and the kernel would split every swarm in two.
fn two_trackers_on_one_port(engine: Engine) {
    let first = Tracker::start(engine, "");
    for address in [Some(first.v4), first.v6].into_iter().flatten() {
        let text = format!("listen = [\"{address}\"]\nengine = \"{}\"", engine.name());
        let (status, log) = Tracker::launch(&text, &[]).wait_exit();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(&address.to_string()) && log.contains("another annulus"), "{log}");
    }
    TestTorrent::new(&first, 1).announce(1, "");
}

fn a_signal_stops_it(engine: Engine) {
    for signal in ["TERM", "INT"] {
        // No request is in flight, so that this bound is not reached.
        let mut tracker = Tracker::start(engine, "[connections]\nshutdown_timeout = 300");
        let torrent = TestTorrent::new(&tracker, 1);
        let mut idle: Vec<HttpClient> = (0..20)
            .map(|_| {
                let mut client = HttpClient::connect(tracker.v4);
                client.send(get_request(&torrent.target(1, "")));
                parse_announce(&client.read_response());
                client
            })
            .collect();
        tracker.signal(signal);
        let last = idle.pop().unwrap();
        idle.into_iter().for_each(HttpClient::expect_close);
        last.expect_close();
        let (status, log) = tracker.wait_exit();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.ends_with("stopped"), "{log}");
    }
}

fn what_is_in_flight_is_answered(engine: Engine) {
    let mut tracker = Tracker::start(engine, "");
    let (v4, target) = (tracker.v4, TestTorrent::new(&tracker, 1).target(1, ""));
    let request = get_request(&target);
    let (first, rest) = request.split_at(request.len() / 2);
    // Half of a first request, half of a later one, and a pipeline whose responses were not read.
    let mut fresh = HttpClient::connect(v4);
    fresh.send(first);
    let mut later = HttpClient::connect(v4);
    later.send([&request[..], first].concat());
    parse_announce(&later.read_response());
    let mut unread = HttpClient::connect(v4);
    unread.send(request.repeat(300));
    thread::sleep(Duration::from_millis(200));
    tracker.signal("TERM");
    tracker.assert_logged("stopping");
    tracker.wait_refusal(v4);
    for mut client in [fresh, later] {
        client.send(rest);
        let response = client.read_response();
        parse_announce(&response);
        assert!(response.has_connection_close(), "the last reply of the connection");
        client.expect_close();
    }
    for _ in 0..300 {
        parse_announce(&unread.read_response());
    }
    unread.expect_close();
    let (status, log) = tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Connections that stay open are closed; half a request gets a response.
fn a_stop_is_bounded(engine: Engine) {
    let tables = "[connections]\nshutdown_timeout = 1\nheader_timeout = 300\nsend_timeout = 300";
    let mut tracker = Tracker::start(engine, tables);
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=200, "");
    let mut half = HttpClient::connect(tracker.v4);
    half.send("GET /announce");
    let mut deaf = HttpClient::connect_small_window(tracker.v4);
    deaf.stream.set_nonblocking(true).unwrap();
    let requests = get_request(&torrent.target(1, "numwant=200")).repeat(1000);
    let mut at = 0;
    for _ in 0..10 {
        deaf.write_until_full(&requests, &mut at).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    tracker.signal("TERM");
    let response = half.read_response();
    assert_eq!((response.status, response.has_connection_close()), (408, true));
    half.expect_close();
    let (status, log) = tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
}

fn other_signals_do_not_stop_it(engine: Engine) {
    let mut tracker = Tracker::start(engine, "");
    let mut client = HttpClient::connect(tracker.v4);
    let target = TestTorrent::new(&tracker, 1).target(1, "");
    client.send(get_request(&target));
    parse_announce(&client.read_response());
    for signal in ["HUP", "USR1", "PIPE", "HUP"] {
        tracker.signal(signal);
        thread::sleep(Duration::from_millis(50));
        client.send(get_request(&target));
        parse_announce(&client.read_response());
        assert!(tracker.is_running());
    }
}

fn few_descriptors(engine: Engine) {
    // Too few to start.
    let text = config(engine, 2, "");
    let (status, log) = Tracker::launch(&text, &["prlimit", "--nofile=64:64"]).wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("limit of open files (64)") && log.contains("ulimit -n"), "{log}");
    // Fewer than configured.
    let runner = ["prlimit", "--nofile=256:256"];
    let tracker = Tracker::start_with(engine, 2, "[connections]\nmax = 10000", &runner);
    tracker.assert_logged("connections.max = 10000 is more than the limit of open files (256)");
    TestTorrent::new(&tracker, 1).announce(1, "");
    // The soft limit is raised to the hard limit.
    let runner = ["prlimit", "--nofile=64:1024"];
    let tracker = Tracker::start_with(engine, 2, "", &runner);
    TestTorrent::new(&tracker, 1).announce(1, "");
}

fn wrong_configurations(engine: Engine) {
    let engine = engine.name();
    for (text, word) in [
        ("intervall = 5", "intervall"),
        ("workers = 1000000", "workers"),
        ("[protocol]\ninterval = \"soon\"", "interval"),
        ("listen = [\"nowhere\"]", "nowhere"),
        ("[protocol", ":2:"),
    ] {
        let text = format!("engine = \"{engine}\"\n{text}");
        let (status, log) = Tracker::launch(&text, &[]).wait_exit();
        assert_eq!(status.code(), Some(1), "{text}: {log}");
        assert!(log.contains(word), "{text}: {log}");
    }
}

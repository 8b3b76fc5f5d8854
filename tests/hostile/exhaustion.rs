//! More connections than there are descriptors for.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};

test_both_engines!(
    more_connections_than_the_limit_at_start_allows,
    descriptors_run_out_all_the_same,
    more_connections_than_configured,
    more_connections_than_configured_in_one_moment,
    a_flood_does_not_delay_the_end,
    everything_at_once,
);

const LONG_TIMEOUTS: &str = "header_timeout = 300\nidle_timeout = 300\nsend_timeout = 300";

fn more_connections_than_the_limit_at_start_allows(engine: Engine) {
    let tables = format!("[connections]\n{LONG_TIMEOUTS}");
    let tracker = Tracker::start_with(engine, 1, &tables, &["prlimit", "--nofile=128:128"]);
    flood(&tracker, |_| {});
    assert!(tracker.descriptors() <= 128);
}

fn more_connections_than_configured(engine: Engine) {
    let tables = format!("[connections]\nmax = 20\n{LONG_TIMEOUTS}");
    let tracker = Tracker::start_with(engine, 1, &tables, &[]);
    flood(&tracker, |_| {});
}

/// Connections that arrive while the tracker is stopped do not exceed the limit.
fn more_connections_than_configured_in_one_moment(engine: Engine) {
    let tables = format!("[connections]\nmax = 600\n{LONG_TIMEOUTS}");
    let tracker = Tracker::start_with(engine, 2, &tables, &[]);
    let whole = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    let baseline = tracker.descriptors();
    let mut held: Vec<HttpClient> = Vec::new();
    for wave in [100, 100, 100, 700] {
        tracker.signal("STOP");
        held.extend((0..wave).map(|_| {
            let mut client = HttpClient::connect(tracker.v4);
            client.send(&whole[..50]);
            client
        }));
        tracker.signal("CONT");
        thread::sleep(Duration::from_millis(300));
    }
    let most = baseline + 600;
    assert!(tracker.descriptors() <= most, "{} of {most}", tracker.descriptors());
    // The last connection is served once those before it are closed.
    let mut last = held.pop().unwrap();
    drop(held);
    last.send(&whole[50..]);
    parse_announce(&last.read_response());
}

/// The descriptor limit is lowered while the tracker runs, or the system's limit is reached.
fn descriptors_run_out_all_the_same(engine: Engine) {
    let tables = format!("[connections]\nmax = 150\n{LONG_TIMEOUTS}");
    let tracker = Tracker::start_with(engine, 1, &tables, &[]);
    flood(&tracker, |held| {
        let pid = tracker.pid().to_string();
        let limit = tracker.descriptors() - 60;
        let limit = format!("--nofile={limit}:{limit}");
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
        // io_uring checks the limit when an accept starts, which happens again when a connection is
        // closed.
        held.truncate(100);
    });
    tracker.assert_logged("cannot accept connections");
}

/// Opens far more connections than allowed, each with half a request, and checks the tracker. In
/// the middle, `meddle` changes the open connections.
fn flood(tracker: &Tracker, meddle: impl FnOnce(&mut Vec<HttpClient>)) {
    let torrent = TestTorrent::new(tracker, 1);
    let whole = get_request(&torrent.target(1, ""));
    torrent.announce(1, "");
    let half_a_request = || {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&whole[..50]);
        client
    };
    let mut flood: Vec<HttpClient> = (0..200).map(|_| half_a_request()).collect();
    thread::sleep(Duration::from_millis(300));
    meddle(&mut flood);
    flood.extend((0..200).map(|_| half_a_request()));
    thread::sleep(Duration::from_millis(300));

    let before = tracker.processor_time();
    thread::sleep(Duration::from_secs(2));
    let used = tracker.processor_time() - before;
    assert!(used < Duration::from_millis(500), "{used:?} of processor time in two seconds");
    let log = tracker.log();
    assert!(log.lines().count() < 12, "{log}");

    // When some are closed, waiting connections are accepted and served, the newest too.
    let waiting = flood.split_off(flood.len() - 50);
    drop(flood);
    for mut client in waiting {
        client.send(&whole[50..]);
        parse_announce(&client.read_response());
    }
    torrent.announce(2, "");
}

fn a_flood_does_not_delay_the_end(engine: Engine) {
    let tables = format!("[connections]\nmax = 20\nshutdown_timeout = 1\n{LONG_TIMEOUTS}");
    let mut tracker = Tracker::start_with(engine, 1, &tables, &[]);
    let _flood: Vec<HttpClient> = (0..100)
        .map(|_| {
            let mut client = HttpClient::connect(tracker.v4);
            client.send("GET /announce");
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    tracker.signal("TERM");
    let (status, log) = tracker.wait_exit();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// More requests at once than there are receive buffers, from clients that are gone by then and
/// from others.
fn everything_at_once(engine: Engine) {
    let tracker = Tracker::start_with(engine, 1, "", &[]);
    let torrent = TestTorrent::new(&tracker, 1);
    let whole = get_request(&torrent.target(1, ""));
    let baseline = tracker.descriptors();
    let mut kept: Vec<HttpClient> = (0..400).map(|_| HttpClient::connect(tracker.v4)).collect();
    for client in &mut kept {
        client.send(&whole);
        parse_announce(&client.read_response());
    }
    for _ in 0..3 {
        tracker.signal("STOP");
        kept.iter_mut().for_each(|client| client.send(&whole));
        let ask = || {
            let mut client = HttpClient::connect(tracker.v4);
            client.send(&whole);
            client
        };
        let mut new: Vec<HttpClient> = Vec::new();
        for _ in 0..100 {
            new.push(ask());
            let mut finished = ask();
            finished.shutdown_write();
            new.push(finished);
            ask().reset();
            drop(ask());
        }
        tracker.signal("CONT");
        for client in kept.iter_mut().chain(&mut new) {
            parse_announce(&client.read_response());
        }
    }
    drop(kept);
    wait_for("the descriptors of all", || (tracker.descriptors() <= baseline).then_some(()));
}

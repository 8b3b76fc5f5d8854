//! Whenever the tracker is killed, the file is whole: the last state or the one before.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{NEVER, StateDir, stop};
use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{parse_announce, percent_encoded};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines};

test_both_engines!(in_the_middle_of_writes);

/// Torrents that are added in a round.
const ADDED: u32 = 500;
const ROUNDS: u32 = 8;

fn announce_more(tracker: &Tracker, round: u32) {
    let mut client = HttpClient::connect(tracker.v4);
    for number in round * ADDED..(round + 1) * ADDED {
        let hash = [&number.to_be_bytes()[..], &[9; 16]].concat();
        let target = format!("/announce?info_hash={}&port=1001&left=0", percent_encoded(&hash));
        client.send(get_request(&target));
        parse_announce(&client.read_response());
    }
}

/// Torrents that a tracker has read.
fn torrents(tracker: &Tracker) -> u32 {
    let line = tracker.log_line("state: ");
    assert!(!line.contains("error"), "{line}");
    if line.contains("does not exist") {
        return 0;
    }
    let (_, rest) = line.split_once("state: ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// Each round has more torrents than the last, so that its state can be told apart.
fn in_the_middle_of_writes(engine: Engine) {
    let directory = StateDir::new("kill");
    let unfinished = directory.state().join("swarms.state.new");
    // Without pauses: a write takes some tens of milliseconds.
    let wait = |exists: bool| {
        let start = Instant::now();
        while unfinished.exists() != exists {
            assert!(start.elapsed() < TIMEOUT, "nothing is written");
        }
    };
    // The torrents of the last state that is known to be written, and those that were in memory.
    let (mut cut, mut known, mut held) = (0, 0, 0);
    for round in 0..ROUNDS {
        let tracker = directory.start(engine, 1, "");
        let read = torrents(&tracker);
        assert!([known, held].contains(&read), "{read} torrents, not {known} or {held}");
        (known, held) = (read, read + ADDED);
        announce_more(&tracker, round);
        // A write that begins now.
        wait(false);
        wait(true);
        if round % 2 == 1 {
            wait(false);
            known = held;
        }
        sleep(Duration::from_micros(u64::from(round) * 3000));
        // Killed.
        drop(tracker);
        cut += u32::from(unfinished.exists());
    }
    assert!(cut > 0, "no write was cut");
    let tracker = directory.start(engine, NEVER, "");
    assert_eq!(torrents(&tracker), known);
    stop(tracker);
    assert_eq!(directory.names(), ["swarms.state"]);
}

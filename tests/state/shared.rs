//! Two trackers on one directory: after each other, even if the second starts too early.

use std::time::{Duration, Instant};

use super::{NEVER, StateDir, ready, stop};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(the_second_waits_for_the_first, the_second_ends_when_it_waits_in_vain);

const WAITS: &str = "state: waiting for the tracker to end that uses ";

fn the_second_waits_for_the_first(engine: Engine) {
    let directory = StateDir::new("shared");
    let first = directory.start(engine, NEVER, "");
    TestTorrent::new(&first, 1).announce(1001, "left=0");
    let second = directory.launch(engine, NEVER, "", &[]);
    second.assert_logged(WAITS);
    // It serves nobody until it has read what the first one writes last.
    assert!(!second.log().contains("listening on"), "{}", second.log());
    stop(first);
    let second = ready(second);
    assert_eq!(TestTorrent::new(&second, 1).scrape().complete, 1);
    // A third one can be stopped while it waits.
    let third = directory.launch(engine, NEVER, "", &[]);
    third.assert_logged(WAITS);
    stop(third);
    // One that is killed holds nothing.
    drop(second);
    stop(directory.start(engine, NEVER, ""));
}

fn the_second_ends_when_it_waits_in_vain(engine: Engine) {
    let directory = StateDir::new("shared-in-vain");
    let first = directory.start(engine, NEVER, "");
    let tables = "[connections]\nshutdown_timeout = 0\n";
    let mut second = directory.launch(engine, NEVER, tables, &[]);
    second.assert_logged(WAITS);
    let start = Instant::now();
    while second.is_running() && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (status, log) = second.wait_exit();
    let told = log.contains("another process, probably another annulus, uses its directory: stop");
    assert!(status.code() == Some(1) && told, "{log}");
    TestTorrent::new(&first, 1).announce(1001, "left=0");
    stop(first);
}

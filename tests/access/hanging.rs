//! Reloads that do not come to an end: nobody but they wait for the file.

use super::lease::Lease;
use crate::support::access_list::{AccessListTracker, list_line};
use crate::support::client::{fetch, get_request};
use crate::support::tracker::{Engine, test_both_engines, wait_for};

test_both_engines!(
    a_stop_does_not_wait_for_it,
    one_more_follows_however_many_are_asked_for,
    the_log_says_that_it_takes_long,
);

/// A tracker in the middle of a reload that hangs.
#[track_caller]
fn hanging(engine: Engine) -> (AccessListTracker, Lease) {
    let operations = "[operations]\nlisten = [\"127.0.0.1:0\"]\n";
    let listed =
        AccessListTracker::start(engine, "allow", list_line(1) + &list_line(2), operations);
    listed.write(list_line(1) + &list_line(2) + &list_line(3));
    let lease = Lease::of(&listed.list());
    listed.tracker.signal("HUP");
    wait_for("a reload that hangs", || lease.is_waited_for().then_some(()));
    listed.assert_serves(&[1, 2]);
    (listed, lease)
}

fn reloads(log: &str) -> usize {
    log.lines().filter(|line| line.contains("access list reloaded: ")).count()
}

fn a_stop_does_not_wait_for_it(engine: Engine) {
    let (mut listed, _lease) = hanging(engine);
    for _ in 0..10 {
        listed.tracker.signal("HUP");
    }
    listed.tracker.signal("TERM");
    let (status, log) = listed.tracker.wait_exit();
    assert!(status.success() && log.ends_with("stopped"), "{log}");
    assert_eq!(reloads(&log), 0, "{log}");
}

fn one_more_follows_however_many_are_asked_for(engine: Engine) {
    let (mut listed, lease) = hanging(engine);
    for _ in 0..10 {
        listed.tracker.signal("HUP");
        listed.assert_serves(&[1, 2]);
    }
    drop(lease);
    wait_for("both reloads", || (reloads(&listed.tracker.log()) == 2).then_some(()));
    listed.assert_serves(&[1, 2, 3]);
    listed.relist(list_line(1) + &list_line(2));
    listed.assert_serves(&[1, 2]);
    listed.tracker.signal("TERM");
    let (_, log) = listed.tracker.wait_exit();
    assert_eq!(reloads(&log), 3, "{log}");
}

fn the_log_says_that_it_takes_long(engine: Engine) {
    let (listed, lease) = hanging(engine);
    listed.tracker.assert_logged("warning: the reload takes long: it is still reading the access");
    drop(lease);
    listed.tracker.assert_logged("access list reloaded: 3 info hashes allowed");
    listed.assert_serves(&[1, 2, 3]);
}

/// Which takes its time: a lease holds others back for 45 seconds, if nobody has set another time.
#[test]
fn what_hangs_for_too_long_is_given_up() {
    let (listed, lease) = hanging(Engine::Epoll);
    let tracker = &listed.tracker;
    tracker.assert_logged("the reload takes long");
    let given_up = "error: reload given up: the access list could not be read within 40 seconds";
    // Twice as long as for anything else.
    tracker.wait_log(|log| log.iter().any(|line| line.contains(given_up)));
    tracker.assert_logged(given_up);
    let health = || {
        let log = tracker.log();
        let (_, address) = log.split_once("operations on ").unwrap();
        let reply = fetch(address.lines().next().unwrap().parse().unwrap(), get_request("/health"));
        assert_eq!(reply.status, 200);
        String::from_utf8(reply.body).unwrap()
    };
    let hangs = "ok\ncertificates and access list cannot be reloaded: a reload hangs";
    let told = health();
    let ended = "the reload that was given up has ended: nothing of it is used";
    // The kernel may have taken the lease away by now.
    assert!(told.starts_with(hangs) || tracker.log().contains(ended), "{told}");
    listed.assert_serves(&[1, 2]);
    drop(lease);
    tracker.assert_logged(ended);
    assert_eq!(health(), "ok\n");
    listed.assert_serves(&[1, 2]);
    listed.relist(list_line(4));
    listed.assert_serves(&[4]);
}

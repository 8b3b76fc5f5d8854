//! Reloads that hang while reading a file: the tracker keeps serving.

use super::lease::Lease;
use crate::support::access_list::{AccessListTracker, list_line};
use crate::support::client::{fetch, get_request};
use crate::support::tracker::{Engine, test_both_engines, wait_for};

test_both_engines!(
    a_stop_does_not_wait_for_it,
    any_number_of_signals_causes_one_more_reload,
    a_long_reload_is_logged,
);

/// A tracker with a hanging reload.
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

fn any_number_of_signals_causes_one_more_reload(engine: Engine) {
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

fn a_long_reload_is_logged(engine: Engine) {
    let (listed, lease) = hanging(engine);
    listed.tracker.assert_logged("warning: the reload takes long: it is still reading the access");
    drop(lease);
    listed.tracker.assert_logged("access list reloaded: 3 info hashes allowed");
    listed.assert_serves(&[1, 2, 3]);
}

/// Takes long: a lease holds back the reader for 45 seconds by default.
#[test]
fn a_reload_that_hangs_too_long_is_abandoned() {
    let (listed, lease) = hanging(Engine::Epoll);
    let tracker = &listed.tracker;
    tracker.assert_logged("the reload takes long");
    let given_up = "error: reload given up: the access list could not be read within 40 seconds";
    // Twice the usual timeout.
    tracker.wait_log(|log| log.iter().any(|line| line.contains(given_up)));
    tracker.assert_logged(given_up);
    let health = || {
        let log = tracker.log();
        let (_, address) = log.split_once("operations on ").unwrap();
        let response =
            fetch(address.lines().next().unwrap().parse().unwrap(), get_request("/health"));
        assert_eq!(response.status, 200);
        String::from_utf8(response.body).unwrap()
    };
    let hangs = "ok\ncertificates and access list cannot be reloaded: a reload hangs";
    let told = health();
    let ended = "the reload that was given up has ended: nothing of it is used";
    // The kernel may have broken the lease by now.
    assert!(told.starts_with(hangs) || tracker.log().contains(ended), "{told}");
    listed.assert_serves(&[1, 2]);
    drop(lease);
    tracker.assert_logged(ended);
    assert_eq!(health(), "ok\n");
    listed.assert_serves(&[1, 2]);
    listed.relist(list_line(4));
    listed.assert_serves(&[4]);
}

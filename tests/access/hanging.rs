//! Reloads that do not come to an end: nobody but they wait for the file.

use super::lease::Lease;
use crate::support::client::{ask, get};
use crate::support::listed::{Listed, hex};
use crate::support::tracker::{Engine, on_both_engines, within};

on_both_engines!(
    a_stop_does_not_wait_for_it,
    one_more_follows_however_many_are_asked_for,
    the_log_says_that_it_takes_long,
);

/// A tracker in the middle of a reload that hangs.
#[track_caller]
fn hanging(engine: Engine) -> (Listed, Lease) {
    let operations = "[operations]\nlisten = [\"127.0.0.1:0\"]\n";
    let listed = Listed::start(engine, "allow", hex(1) + &hex(2), operations);
    listed.write(hex(1) + &hex(2) + &hex(3));
    let lease = Lease::of(&listed.list());
    listed.tracker.signal("HUP");
    within("a reload that hangs", || lease.is_waited_for().then_some(()));
    listed.serves(&[1, 2]);
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
    let (status, log) = listed.tracker.ended();
    assert!(status.success() && log.ends_with("stopped"), "{log}");
    assert_eq!(reloads(&log), 0, "{log}");
}

fn one_more_follows_however_many_are_asked_for(engine: Engine) {
    let (mut listed, lease) = hanging(engine);
    for _ in 0..10 {
        listed.tracker.signal("HUP");
        listed.serves(&[1, 2]);
    }
    drop(lease);
    within("both reloads", || (reloads(&listed.tracker.log()) == 2).then_some(()));
    listed.serves(&[1, 2, 3]);
    listed.relist(hex(1) + &hex(2));
    listed.serves(&[1, 2]);
    listed.tracker.signal("TERM");
    let (_, log) = listed.tracker.ended();
    assert_eq!(reloads(&log), 3, "{log}");
}

fn the_log_says_that_it_takes_long(engine: Engine) {
    let (listed, lease) = hanging(engine);
    listed.tracker.assert_logged("warning: the reload takes long: it is still reading the access");
    drop(lease);
    listed.tracker.assert_logged("access list reloaded: 3 info hashes allowed");
    listed.serves(&[1, 2, 3]);
}

/// Which takes its time: a lease holds others back for 45 seconds, if nobody has set another time.
#[test]
fn what_hangs_for_too_long_is_given_up() {
    let (listed, lease) = hanging(Engine::Epoll);
    let tracker = &listed.tracker;
    tracker.assert_logged("the reload takes long");
    let given_up = "error: reload given up: the access list could not be read within 40 seconds";
    // Twice as long as for anything else.
    tracker.log_until(|log| log.iter().any(|line| line.contains(given_up)));
    tracker.assert_logged(given_up);
    let health = || {
        let log = tracker.log();
        let (_, address) = log.split_once("operations on ").unwrap();
        let reply = ask(address.lines().next().unwrap().parse().unwrap(), get("/health"));
        assert_eq!(reply.status, 200);
        String::from_utf8(reply.body).unwrap()
    };
    let hangs = "ok\ncertificates and access list cannot be reloaded: a reload hangs";
    let told = health();
    let ended = "the reload that was given up has ended: nothing of it is used";
    // The kernel may have taken the lease away by now.
    assert!(told.starts_with(hangs) || tracker.log().contains(ended), "{told}");
    listed.serves(&[1, 2]);
    drop(lease);
    tracker.assert_logged(ended);
    assert_eq!(health(), "ok\n");
    listed.serves(&[1, 2]);
    listed.relist(hex(4));
    listed.serves(&[4]);
}

//! The process that opens the files: what it is, and how it ends.

use std::net::TcpListener;

use crate::place::{Link, NOBODY, Place, is_root};
use crate::status::{NONE, Process, READS_ALL};
use crate::tracker::{Engine, on_both_engines, within};

on_both_engines!(
    is_little_more_than_nobody,
    ends_with_the_tracker,
    holds_nothing_of_it,
    is_not_stopped_by_signals_to_both,
    is_missed_when_it_is_gone,
);

fn is_little_more_than_nobody(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, NOBODY);
    let keeper = Process::keeper_of(&place.tracker);
    for (key, value) in [
        ("Uid", "65534 65534 65534 65534"),
        ("Gid", "65534 65534 65534 65534"),
        ("Groups", ""),
        ("CapInh", NONE),
        ("CapPrm", READS_ALL),
        ("CapEff", READS_ALL),
        ("CapBnd", NONE),
        ("CapAmb", NONE),
        ("NoNewPrivs", "1"),
        ("Threads", "1"),
    ] {
        assert_eq!(keeper.value(key), value, "{key}");
    }
    let mut descriptors = keeper.descriptors();
    descriptors.sort();
    let [standard @ .., channel] = &descriptors[..] else { panic!("none") };
    assert_eq!(standard, ["/dev/null"; 3]);
    assert!(channel.starts_with("socket:"), "{channel}");
}

fn ends_with_the_tracker(engine: Engine) {
    if !is_root() {
        return;
    }
    for signal in ["TERM", "KILL"] {
        let mut place = Place::start(engine, NOBODY);
        let keeper = Process::keeper_of(&place.tracker);
        place.tracker.signal(signal);
        place.tracker.ended();
        keeper.is_gone();
    }
}

/// One that does not run, and so does not see the end of its channel, keeps no port.
fn holds_nothing_of_it(engine: Engine) {
    if !is_root() {
        return;
    }
    let mut place = Place::start(engine, NOBODY);
    let keeper = Process::keeper_of(&place.tracker);
    keeper.signal("STOP");
    place.tracker.signal("TERM");
    within("the end of the tracker", || (!place.tracker.is_running()).then_some(()));
    let bound = TcpListener::bind(place.tracker.v4);
    keeper.signal("CONT");
    bound.expect("the port is free");
    place.tracker.ended();
    keeper.is_gone();
}

/// As a terminal and systemd send them.
fn is_not_stopped_by_signals_to_both(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, NOBODY);
    let keeper = Process::keeper_of(&place.tracker);
    for signal in ["HUP", "USR1", "TERM", "INT", "PIPE"] {
        keeper.signal(signal);
    }
    let renewed = place.files.renew(Link::Relative);
    place.reload();
    place.serves(&renewed, &[1]);
    assert_eq!(Process::keeper_of(&place.tracker), keeper);
}

fn is_missed_when_it_is_gone(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, NOBODY);
    let first = place.first();
    Process::keeper_of(&place.tracker).signal("KILL");
    place.files.renew(Link::Relative);
    place.files.list(&[2]);
    let verdict = place.reload();
    for part in [
        "certificates kept: ",
        "live/key.pem: cannot be read: the keeper of the files has ended",
        "(signal: 9 (SIGKILL)): restart annulus",
        "access list kept: ",
        "list.txt: cannot be read: the keeper of the files has ended",
    ] {
        assert!(verdict.contains(part), "no {part:?} in {verdict}");
    }
    place.serves(&first, &[1]);
}

/// What it says too late is not taken for an answer to the next question.
#[test]
fn a_late_answer_is_nobodys() {
    if !is_root() {
        return;
    }
    let place = Place::start(Engine::Epoll, NOBODY);
    let keeper = Process::keeper_of(&place.tracker);
    keeper.signal("STOP");
    // Of three files; the time of the first is over before the next is asked for.
    place.tracker.signal("HUP");
    place.tracker.assert_logged("live/chain.pem: cannot be read: it was not opened within");
    keeper.signal("CONT");
    place.tracker.assert_logged("access list reloaded");
    let renewed = place.files.renew(Link::Relative);
    place.files.list(&[2]);
    let verdict = place.reload();
    assert!(verdict.contains("certificates reloaded"), "{verdict}");
    place.serves(&renewed, &[2]);
}

//! The process that opens the files: what it is, and how it ends.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};

use super::place::{Link, NOBODY, Place, is_root};
use super::status::{NONE, Process, READS_ALL};
use crate::support::client::{fetch, get_request};
use crate::support::tracker::{Engine, TIMEOUT, test_both_engines, wait_for};

test_both_engines!(
    is_little_more_than_nobody,
    ends_with_the_tracker,
    holds_nothing_of_it,
    is_not_stopped_by_signals_to_both,
    is_missed_when_it_is_gone,
    holds_up_nobody_when_it_does_not_answer,
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
    assert_eq!(standard, ["/dev/null"; 2]);
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
        place.tracker.wait_exit();
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
    wait_for("the end of the tracker", || (!place.tracker.is_running()).then_some(()));
    let bound = TcpListener::bind(place.tracker.v4);
    keeper.signal("CONT");
    bound.expect("the port is free");
    place.tracker.wait_exit();
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
    let operations = format!("{NOBODY}[operations]\nlisten = [\"127.0.0.1:0\"]\n");
    let place = Place::start(engine, &operations);
    let first = place.first();
    place.tracker.assert_logged("operations on ");
    let told = |path: &str| {
        let log = place.tracker.log();
        let (_, address) = log.split_once("operations on ").unwrap();
        let address = address.lines().next().unwrap().parse().unwrap();
        String::from_utf8(fetch(address, get_request(path)).body).unwrap()
    };
    assert_eq!(told("/health"), "ok\n");
    assert!(told("/metrics").contains("\nannulus_reload_possible 1\n"));
    assert!(told("/stats.json").contains("\"reload_possible\":true"));
    let keeper = Process::keeper_of(&place.tracker);
    keeper.signal("KILL");
    // Without being asked for anything; and the kernel keeps nothing of it.
    place.tracker.assert_logged("error: the file broker has ended (signal: 9 (SIGKILL))");
    assert!(!keeper.exists());
    let health = told("/health");
    assert!(health.starts_with("ok\n") && health.contains("cannot be reloaded"), "{health}");
    assert!(told("/metrics").contains("\nannulus_reload_possible 0\n"));
    assert!(told("/stats.json").contains("\"reload_possible\":false"));
    assert!(told("/stats.json").contains("the file broker has ended: restart annulus"));
    place.serves(&first, &[1]);
    place.files.renew(Link::Relative);
    place.files.list(&[2]);
    let verdict = place.reload();
    for part in [
        "certificates kept: ",
        "live/key.pem: cannot be read: the file broker has ended",
        "(signal: 9 (SIGKILL)): restart annulus",
        "access list kept: ",
        "list.txt: cannot be read: the file broker has ended",
    ] {
        assert!(verdict.contains(part), "no {part:?} in {verdict}");
    }
    place.serves(&first, &[1]);
}

/// Nobody waits for the end of a reload to serve, or to end.
fn holds_up_nobody_when_it_does_not_answer(engine: Engine) {
    if !is_root() {
        return;
    }
    let name = format!("annulus-keeper-{}-{}", engine.name(), std::process::id());
    let manager =
        UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let told = || {
        let mut message = [0; 1024];
        let length = loop {
            match manager.recv(&mut message) {
                // The wait has a time limit, and the process was stopped meanwhile (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("a message"),
            }
        };
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let socket = format!("NOTIFY_SOCKET=@{name}");
    let mut place = Place::start_as(engine, NOBODY, &["env", &socket]);
    assert!(told().starts_with("READY=1"));
    let first = place.first();
    let keeper = Process::keeper_of(&place.tracker);
    keeper.signal("STOP");
    place.tracker.signal("HUP");
    assert!(told().starts_with("RELOADING=1"));
    place.serves(&first, &[1]);
    place.tracker.signal("TERM");
    let (status, log) = place.tracker.wait_exit();
    assert!(status.success() && log.ends_with("stopped"), "{log}");
    // The time that the keeper has was not over.
    assert!(!log.contains("was not opened within"), "{log}");
    assert!(told().starts_with("STOPPING=1"));
    keeper.signal("CONT");
    keeper.is_gone();
}

/// The time is for all files together; and what it says too late is not taken for an answer to the
/// next question.
#[test]
fn a_late_answer_is_nobodys() {
    if !is_root() {
        return;
    }
    let place = Place::start(Engine::Epoll, NOBODY);
    let first = place.first();
    let keeper = Process::keeper_of(&place.tracker);
    keeper.signal("STOP");
    let verdict = place.reload();
    for part in ["certificates kept: ", "live/chain.pem: ", "live/key.pem: ", "access list kept: "]
    {
        let is_late = |line: &str| line.contains(part) && line.contains("it was not opened within");
        assert!(verdict.lines().any(is_late), "{part}: {verdict}");
    }
    place.serves(&first, &[1]);
    keeper.signal("CONT");
    let renewed = place.files.renew(Link::Relative);
    place.files.list(&[2]);
    let verdict = place.reload();
    assert!(verdict.contains("certificates reloaded"), "{verdict}");
    place.serves(&renewed, &[2]);
}

//! What is left of a tracker that root started, or that was given a capability.

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use super::place::{NOBODY, Place, Public, is_root};
use super::status::{NONE, Process, READS_ALL};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    everything,
    to_a_user_and_group_by_number,
    root_keeps_only_what_it_reads_by,
    of_a_capability_that_was_given,
    after_a_port_of_root,
);

/// The sets of capabilities that a process without any has none in.
const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn everything(engine: Engine) {
    if !is_root() {
        return;
    }
    // The groups of root would stay, if they were not dropped.
    let place = Place::start_as(engine, NOBODY, &["setpriv", "--groups=4,24"]);
    let process = Process::of(&place.tracker);
    for (key, value) in [
        ("Uid", "65534 65534 65534 65534"),
        ("Gid", "65534 65534 65534 65534"),
        ("Groups", ""),
        ("NoNewPrivs", "1"),
        ("Seccomp", "0"),
    ] {
        assert_eq!(process.value_of_all_threads(key), value, "{key}");
    }
    for set in SETS {
        assert_eq!(process.value_of_all_threads(set), NONE, "{set}");
    }
    let empty = place.files.path("empty");
    assert_eq!([process.link("root"), process.link("cwd")], [empty.clone(), empty.clone()]);
    let line =
        format!("running as user nobody (65534), group 65534, confined to {}", empty.display());
    place.tracker.assert_logged(&line);
    place.tracker.assert_logged("Landlock");
    place.serves(&place.first(), &[1]);
}

fn to_a_user_and_group_by_number(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, "user = \"12345\"\ngroup = \"12346\"");
    let process = Process::of(&place.tracker);
    assert_eq!(process.value_of_all_threads("Uid"), "12345 12345 12345 12345");
    assert_eq!(process.value_of_all_threads("Gid"), "12346 12346 12346 12346");
    assert_eq!(process.link("root").as_os_str(), "/");
    place.serves(&place.first(), &[1]);
}

/// It has no broker, and has to read files itself.
fn root_keeps_only_what_it_reads_by(engine: Engine) {
    if !is_root() {
        return;
    }
    let place = Place::start(engine, "");
    let process = Process::of(&place.tracker);
    for (set, left) in SETS.into_iter().zip([NONE, READS_ALL, READS_ALL, NONE, NONE]) {
        assert_eq!(process.value_of_all_threads(set), left, "{set}");
    }
    assert_eq!(process.value_of_all_threads("Uid"), "0 0 0 0");
    assert_eq!(process.value_of_all_threads("NoNewPrivs"), "1");
    place.serves(&place.first(), &[1]);
}

/// As systemd's AmbientCapabilities= gives it to a program of an ordinary user.
fn of_a_capability_that_was_given(engine: Engine) {
    if !is_root() {
        return;
    }
    let port = free_port_of_root();
    let text = format!("listen = [\"127.0.0.1:{port}\"]\nengine = \"{}\"\n", engine.name());
    let public = Public::new(&format!("given-{port}"));
    let given = ["--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service"];
    let mut tracker = public.launch_as_nobody(&text, &given);
    tracker.wait_ready(1).unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
    assert_eq!(tracker.v4.port(), port);
    let process = Process::of(&tracker);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(process.value_of_all_threads(set), NONE, "{set}");
    }
    assert_eq!(process.value_of_all_threads("NoNewPrivs"), "1");
    TestTorrent::new(&tracker, 1).announce(1, "");
}

fn after_a_port_of_root(engine: Engine) {
    if !is_root() {
        return;
    }
    let port = free_port_of_root();
    let text = format!(
        "listen = [\"127.0.0.1:{port}\"]\nengine = \"{}\"\n[privileges]\nuser = \"nobody\"\n",
        engine.name()
    );
    let mut tracker = Tracker::launch(&text, &[]);
    tracker.wait_ready(1).unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
    assert_eq!(tracker.v4.port(), port);
    assert_eq!(Process::of(&tracker).value_of_all_threads("CapEff"), NONE);
    TestTorrent::new(&tracker, 1).announce(1, "");
}

/// A port that ordinary users may not listen on, another for each caller.
fn free_port_of_root() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(1000);
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert!(first.trim().parse::<u16>().unwrap() > 1000, "no port here is root's alone");
    loop {
        let port = NEXT.fetch_sub(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

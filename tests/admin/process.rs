//! The resources that the process uses.

use std::process::Command;

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, get_request};
use crate::support::requirements::{can_run, missing_root};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines, wait_for};

test_both_engines!(
    resources_are_those_of_proc,
    the_start_time_does_not_change,
    resources_are_known_without_proc,
);

fn resources_are_those_of_proc(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let request = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    // More than one read of the directory returns.
    let clients: Vec<HttpClient> = (0..500)
        .map(|_| {
            let mut client = HttpClient::connect(tracker.v4);
            client.send(&request);
            parse_announce(&client.read_response());
            client
        })
        .collect();
    // One more for the connection that asks.
    let open = tracker.descriptors() as f64 + 1.0;
    assert!(open > 500.0);
    admin.wait_sample("process_open_fds", open);
    let samples = admin.samples();
    assert!(samples["process_max_fds"] >= open && samples["process_threads"] >= 5.0);
    let resident = tracker.resident_bytes() as f64;
    let reported = samples["process_resident_memory_bytes"];
    assert!((reported / resident - 1.0).abs() < 0.5, "{reported} is not {resident}");
    assert!(samples["process_virtual_memory_bytes"] >= reported);
    let before = samples["process_cpu_seconds_total"];
    let after = tracker.processor_time().as_secs_f64();
    assert!(before <= after && after - before < TIMEOUT.as_secs_f64(), "{before} {after}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let started = samples["process_start_time_seconds"];
    assert!((now.as_secs_f64() - started).abs() < TIMEOUT.as_secs_f64(), "{started}");
    drop(clients);
    admin.wait_sample("process_open_fds", open - 500.0);
}

/// A change would look like a restart. Read throughout a second, because a value computed from
/// the present and the age would change within one.
fn the_start_time_does_not_change(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let ask = || {
        let samples = admin.samples();
        (samples["annulus_uptime_seconds"], samples["process_start_time_seconds"])
    };
    let (uptime, began) = ask();
    let mut asked = 0;
    wait_for("twenty answers, and two seconds", || {
        let (now, again) = ask();
        asked += 1;
        assert_eq!(again, began);
        (asked >= 20 && now >= uptime + 2.0).then_some(())
    });
}

/// As in a new root directory, or with Landlock.
fn resources_are_known_without_proc(engine: Engine) {
    let missing = missing_root("to unmount /proc");
    if !can_run("resources_are_known_without_proc", &Vec::from_iter(missing)) {
        return;
    }
    let tracker = Tracker::start_with(engine, 1, OPERATIONS, &["unshare", "-m"]);
    let admin = AdminClient::of(&tracker);
    let pid = tracker.pid().to_string();
    let inside = |arguments: &[&str]| {
        Command::new("nsenter").args(["-m", "-t", &pid]).args(arguments).output().unwrap()
    };
    assert!(inside(&["umount", "-l", "/proc"]).status.success());
    assert!(inside(&["ls", "/proc"]).stdout.is_empty());
    let open = tracker.descriptors() as f64 + 1.0;
    let samples = admin.samples();
    assert_eq!(samples["process_open_fds"], open);
    for name in ["process_resident_memory_bytes", "process_max_fds", "process_threads"] {
        assert!(samples[name] > 0.0, "{name}");
    }
}

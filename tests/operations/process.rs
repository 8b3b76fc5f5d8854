//! What the process takes.

use std::process::Command;

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, get_request};
use crate::support::requirements::{can_run, missing_root};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines, wait_for};

test_both_engines!(
    it_is_what_the_kernel_says,
    it_began_once_whenever_it_is_asked,
    it_is_told_without_proc,
);

fn it_is_what_the_kernel_says(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let observed = AdminClient::of(&tracker);
    let request = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    // More than one piece of the directory's listing.
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
    observed.wait_sample("process_open_fds", open);
    let samples = observed.samples();
    assert!(samples["process_max_fds"] >= open && samples["process_threads"] >= 5.0);
    let resident = tracker.resident_bytes() as f64;
    let told = samples["process_resident_memory_bytes"];
    assert!((told / resident - 1.0).abs() < 0.5, "{told} is not {resident}");
    assert!(samples["process_virtual_memory_bytes"] >= told);
    let before = samples["process_cpu_seconds_total"];
    let after = tracker.processor_time().as_secs_f64();
    assert!(before <= after && after - before < TIMEOUT.as_secs_f64(), "{before} {after}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let started = samples["process_start_time_seconds"];
    assert!((now.as_secs_f64() - started).abs() < TIMEOUT.as_secs_f64(), "{started}");
    drop(clients);
    observed.wait_sample("process_open_fds", open - 500.0);
}

/// Operators are told of restarts by its changes. Asked all through a second, because what is
/// reckoned from the present and the age would change within one.
fn it_began_once_whenever_it_is_asked(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let observed = AdminClient::of(&tracker);
    let ask = || {
        let samples = observed.samples();
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

/// As after a change of the root directory, or of what may be opened.
fn it_is_told_without_proc(engine: Engine) {
    let missing = missing_root("to unmount /proc");
    if !can_run("it_is_told_without_proc", &Vec::from_iter(missing)) {
        return;
    }
    let tracker = Tracker::start_with(engine, 1, OPERATIONS, &["unshare", "-m"]);
    let observed = AdminClient::of(&tracker);
    let pid = tracker.pid().to_string();
    let inside = |arguments: &[&str]| {
        Command::new("nsenter").args(["-m", "-t", &pid]).args(arguments).output().unwrap()
    };
    assert!(inside(&["umount", "-l", "/proc"]).status.success());
    assert!(inside(&["ls", "/proc"]).stdout.is_empty());
    let open = tracker.descriptors() as f64 + 1.0;
    let samples = observed.samples();
    assert_eq!(samples["process_open_fds"], open);
    for name in ["process_resident_memory_bytes", "process_max_fds", "process_threads"] {
        assert!(samples[name] > 0.0, "{name}");
    }
}

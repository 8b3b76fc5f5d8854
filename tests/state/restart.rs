//! What a restart keeps: everything but what has expired, and what is no longer served.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{NEVER, StateDir, age_file, stop};
use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::torrent::{LOCALHOST, ScrapeCounts, TestTorrent};
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines, wait_for};

test_both_engines!(
    keeps_every_swarm,
    leaves_out_what_has_expired,
    makes_no_peer_younger,
    drops_what_is_no_longer_served,
    after_a_kill_has_what_was_last_written,
    of_a_service_uses_its_directory,
);

/// The endpoints in the response to a leecher that asks for all.
fn peers(torrent: &TestTorrent<'_>) -> BTreeSet<SocketAddr> {
    let peers = torrent.announce(999, "left=1&numwant=200").peers;
    torrent.announce(999, "left=1&event=stopped");
    peers.into_iter().collect()
}

type Swarm = (ScrapeCounts, BTreeSet<SocketAddr>);

fn swarms(tracker: &Tracker) -> Vec<Swarm> {
    let torrents = (1..=40).map(|number| TestTorrent::new(tracker, number));
    torrents.map(|torrent| (torrent.scrape(), peers(&torrent))).collect()
}

/// Swarms of all kinds: of one peer, of both families, with completions, of many peers.
fn announce_all(tracker: &Tracker) {
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    for number in 1..=40 {
        let torrent = TestTorrent::new(tracker, number);
        let port = 1000 + u16::from(number);
        torrent.announce(port, if number % 2 == 0 { "left=0" } else { "left=1" });
        if number > 5 {
            torrent.announce_from(LOCALHOST, port + 100, "left=1");
            torrent.announce_from(LOCALHOST, port + 100, "left=0&event=completed");
        }
        if number > 10 && has_v6() {
            torrent.announce_from(v6, port + 200, "left=0");
            torrent.announce_from(v6, port + 201, "left=1");
        }
        if number > 15 {
            let source = IpAddr::from(Ipv4Addr::new(127, 0, 1, number));
            torrent.announce_from(source, port, "left=1");
        }
        if number > 35 {
            torrent.announce_ports(tracker.v4, 2000..2100, "left=1");
        }
    }
}

fn keeps_every_swarm(engine: Engine) {
    let directory = StateDir::new("restart");
    let tracker = directory.start(engine, NEVER, "");
    announce_all(&tracker);
    let before = swarms(&tracker);
    let sizes: Vec<usize> = before.iter().map(|(_, peers)| peers.len()).collect();
    assert!(sizes[0] == 1 && sizes[39] > 100, "{sizes:?}");
    let log = stop(tracker);
    assert!(log.contains("/state/swarms.state, "), "{log}");
    // A third start reads what the second one has written.
    for _ in 0..2 {
        let tracker = directory.start(engine, NEVER, "");
        tracker.assert_logged("state: 40 torrents and ");
        assert_eq!(swarms(&tracker), before);
        let log = stop(tracker);
        assert!(!log.contains("left out"), "{log}");
    }
    assert_eq!(directory.names(), ["swarms.state"]);
}

/// A tracker's state with one seeder.
fn one_seeder(engine: Engine) -> StateDir {
    let directory = StateDir::new("aged");
    let tracker = directory.start(engine, NEVER, "");
    TestTorrent::new(&tracker, 1).announce(1001, "left=0");
    stop(tracker);
    directory
}

/// By the wall clock: the time in the header stands for one that passed without the tracker.
fn leaves_out_what_has_expired(engine: Engine) {
    let directory = one_seeder(engine);
    age_file(&directory.file(), 2600);
    let tracker = directory.start(engine, NEVER, "");
    assert_eq!(TestTorrent::new(&tracker, 1).scrape().complete, 1);
    tracker.assert_logged(" ago, in ");
    stop(tracker);
    // Two ticks later than its timeout at most.
    age_file(&directory.file(), 400);
    let tracker = directory.start(engine, NEVER, "");
    tracker.assert_logged("; 1 peer left out: expired");
    assert_eq!(TestTorrent::new(&tracker, 1).scrape(), ScrapeCounts::default());
    stop(tracker);
}

/// Neither by restarts nor by a clock that was set back.
fn makes_no_peer_younger(engine: Engine) {
    let directory = one_seeder(engine);
    for _ in 0..3 {
        age_file(&directory.file(), 700);
        let tracker = directory.start(engine, NEVER, "");
        assert_eq!(TestTorrent::new(&tracker, 1).scrape().complete, 1);
        stop(tracker);
    }
    age_file(&directory.file(), -100_000);
    let tracker = directory.start(engine, NEVER, "");
    tracker.assert_logged("written in the future");
    assert_eq!(TestTorrent::new(&tracker, 1).scrape().complete, 1);
    stop(tracker);
    // 2100 of its 2700 seconds are over.
    age_file(&directory.file(), 900);
    let tracker = directory.start(engine, NEVER, "");
    assert_eq!(TestTorrent::new(&tracker, 1).scrape().complete, 0);
    stop(tracker);
}

fn drops_what_is_no_longer_served(engine: Engine) {
    let directory = StateDir::new("access");
    let tracker = directory.start(engine, NEVER, "");
    for number in [1, 2] {
        TestTorrent::new(&tracker, number).announce(1001, "left=0");
    }
    stop(tracker);
    fs::write(directory.path().join("list.txt"), "01".repeat(20)).unwrap();
    let access = "[access]\nmode = \"deny\"\nfile = \"list.txt\"\n";
    let tracker = directory.start(engine, NEVER, access);
    tracker.assert_logged("state: 1 torrent and 1 peer from ");
    tracker.assert_logged("; 1 peer left out: not to be stored");
    stop(tracker);
    let tracker = directory.start(engine, NEVER, "");
    let complete = [1, 2].map(|number| TestTorrent::new(&tracker, number).scrape().complete);
    assert_eq!(complete, [0, 1]);
    stop(tracker);
}

fn after_a_kill_has_what_was_last_written(engine: Engine) {
    let directory = StateDir::new("killed");
    let tracker = directory.start(engine, 1, OPERATIONS);
    TestTorrent::new(&tracker, 1).announce(1001, "left=0");
    let admin = AdminClient::of(&tracker);
    let writes = || admin.sample("annulus_state_writes_total");
    let enough = writes() + 2.0;
    wait_for("two more writes", || (writes() >= enough).then_some(()));
    assert!(admin.sample("annulus_state_size_bytes") > 100.0);
    let file = admin.stats()["state"]["file"].as_str().unwrap().to_owned();
    assert!(file.ends_with("state/swarms.state"), "{file}");
    // Killed.
    drop(tracker);
    let tracker = directory.start(engine, NEVER, OPERATIONS);
    assert_eq!(TestTorrent::new(&tracker, 1).scrape().complete, 1);
    let samples = AdminClient::of(&tracker).samples();
    assert_eq!(samples["annulus_state_writes_total"], 0.0);
    assert!(samples["annulus_state_age_seconds"] < 100.0, "{samples:?}");
    stop(tracker);
}

/// systemd's StateDirectory=, which needs no configuration. What is configured counts more.
fn of_a_service_uses_its_directory(engine: Engine) {
    let directory = StateDir::new("service");
    let given = directory.path().join("given");
    fs::create_dir(&given).unwrap();
    let variable = format!("STATE_DIRECTORY={}:/elsewhere", given.display());
    let text = crate::support::tracker::config(engine, 2, "");
    let launch = |text: &str, runner: &[&str]| {
        super::ready(Tracker::launch_in(directory.path(), text, runner))
    };
    for complete in [0, 1] {
        let tracker = launch(&text, &["env", &variable]);
        let torrent = TestTorrent::new(&tracker, 1);
        assert_eq!(torrent.scrape().complete, complete);
        torrent.announce(1001, "left=0");
        stop(tracker);
    }
    assert!(given.join("swarms.state").exists());
    let configured = format!("{text}[state]\nfile = \"state/swarms.state\"\n");
    let tracker = launch(&configured, &["env", &variable]);
    assert_eq!(TestTorrent::new(&tracker, 1).scrape().complete, 0);
    stop(tracker);
    assert!(directory.file().exists());
    // Without both there is none.
    let log = stop(launch(&text, &[]));
    assert!(!log.contains("state"), "{log}");
}

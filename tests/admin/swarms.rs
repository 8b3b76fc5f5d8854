//! Torrents and peers.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::json;

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines};

test_both_engines!(
    torrents_and_peers_are_counted,
    peers_without_room_are_counted,
    replaced_peers_are_counted,
    replaced_torrents_are_counted,
);

fn torrents_and_peers_are_counted(engine: Engine) {
    let tables = format!("[swarms]\nmax_torrents = 500\nmax_peers = 600\n{OPERATIONS}");
    let tracker = Tracker::start(engine, &tables);
    let admin = AdminClient::of(&tracker);
    let torrents = "annulus_torrents";
    assert_eq!(admin.sample(torrents), 0.0);
    assert_eq!(admin.sample("annulus_torrents_limit"), 500.0);
    assert_eq!(admin.sample("annulus_peers_limit"), 600.0);
    let (one, other) = (TestTorrent::new(&tracker, 1), TestTorrent::new(&tracker, 2));
    one.announce_ports(tracker.v4, 1..=7, "left=1");
    one.announce_ports(tracker.v4, 8..=10, "left=0");
    other.announce_ports(tracker.v4, 1..=2, "left=0");
    assert_eq!(admin.sample(torrents), 2.0);
    let peers = || admin.labelled_samples("annulus_peers");
    assert_eq!(peers(), ["kind=leecher,family=ipv4 7", "kind=seeder,family=ipv4 5"]);
    let completed = "annulus_downloads_completed_total";
    assert_eq!(admin.sample(completed), 0.0);
    // Once for each peer, however often the event is sent.
    one.announce(1, "left=0&event=completed");
    one.announce(1, "left=0&event=completed");
    assert_eq!(peers(), ["kind=leecher,family=ipv4 6", "kind=seeder,family=ipv4 6"]);
    assert_eq!(admin.sample(completed), 1.0);
    other.announce(1, "event=stopped");
    other.announce(2, "event=stopped");
    assert_eq!(peers(), ["kind=leecher,family=ipv4 6", "kind=seeder,family=ipv4 4"]);
    assert_eq!(admin.sample(torrents), 1.0);
    if has_v6() {
        one.announce_from(IpAddr::V6(Ipv6Addr::LOCALHOST), 1, "left=1");
        other.announce_from(IpAddr::V6(Ipv6Addr::LOCALHOST), 1, "left=0");
        assert_eq!(
            peers(),
            [
                "kind=leecher,family=ipv4 6",
                "kind=leecher,family=ipv6 1",
                "kind=seeder,family=ipv4 4",
                "kind=seeder,family=ipv6 1",
            ]
        );
    }
}

/// By the bound that was reached. Announces of peers that are stored, or stop, are not counted.
fn peers_without_room_are_counted(engine: Engine) {
    let bounds = "[swarms]\nmax_torrents = 2\nmax_peers = 4\nmax_peers_per_torrent = 3";
    let tracker = Tracker::start(engine, &format!("{bounds}\n{OPERATIONS}"));
    let admin = AdminClient::of(&tracker);
    let unstored = || admin.labelled_samples("annulus_peers_not_stored_total");
    let [one, two, three] = [1, 2, 3].map(|number| TestTorrent::new(&tracker, number));
    one.announce_ports(tracker.v4, 1..=3, "left=1");
    assert_eq!(unstored(), [] as [String; 0]);
    one.announce(4, "left=1");
    one.announce(5, "left=0&event=completed");
    assert_eq!(unstored(), ["reason=max_peers_per_torrent 2"]);
    two.announce(1, "left=1");
    two.announce(2, "left=1");
    three.announce(1, "left=1");
    let all = ["reason=max_peers 1", "reason=max_peers_per_torrent 2", "reason=max_torrents 1"];
    assert_eq!(unstored(), all);
    one.announce(1, "left=0");
    two.announce(2, "event=stopped");
    three.announce(1, "event=stopped");
    assert_eq!(unstored(), all);
    let not_stored = json!({ "max_torrents": 1, "max_peers": 1, "max_peers_per_torrent": 2 });
    assert_eq!(admin.stats()["swarms"]["not_stored"], not_stored);
}

fn replaced_peers_are_counted(engine: Engine) {
    let config = "[protocol]\ntrust_ip_parameters = true\n[swarms]\nmax_peers_per_address = 2";
    let tracker = Tracker::start(engine, &format!("{config}\n{OPERATIONS}"));
    let admin = AdminClient::of(&tracker);
    let torrent = TestTorrent::new(&tracker, 1);
    for (ip, replaced) in [("203.0.113.7", 3.0), ("2001:db8::7", 6.0), ("127.0.0.1", 6.0)] {
        torrent.announce_ports(tracker.v4, 1..=5, &format!("left=1&ip={ip}"));
        torrent.announce_ports(tracker.v4, 4..=5, &format!("left=0&ip={ip}"));
        assert_eq!(admin.sample("annulus_peers_replaced_total"), replaced, "{ip}");
    }
    let swarms = &admin.stats()["swarms"];
    assert_eq!((&swarms["peers_replaced"], &swarms["torrents_replaced"]), (&json!(6), &json!(0)));
    assert_eq!(
        admin.labelled_samples("annulus_peers"),
        ["kind=leecher,family=ipv4 3", "kind=seeder,family=ipv4 4", "kind=seeder,family=ipv6 2",]
    );
}

fn replaced_torrents_are_counted(engine: Engine) {
    let tracker = Tracker::start(engine, &format!("[swarms]\nmax_torrents = 2\n{OPERATIONS}"));
    let admin = AdminClient::of(&tracker);
    for (number, replaced) in [(1, 0.0), (2, 0.0), (3, 1.0), (4, 2.0)] {
        TestTorrent::new(&tracker, number).announce(1, "left=1");
        assert_eq!(admin.sample("annulus_torrents_replaced_total"), replaced);
        assert_eq!(admin.sample("annulus_torrents"), f64::from(number.min(2)));
    }
    assert_eq!(admin.labelled_samples("annulus_peers"), ["kind=leecher,family=ipv4 2"]);
    assert_eq!(admin.labelled_samples("annulus_peers_not_stored_total"), [] as [String; 0]);
}

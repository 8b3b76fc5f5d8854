//! Full tables: a new peer gets a response, but is not stored.

use crate::support::torrent::{ScrapeCounts, TestTorrent};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(torrents, torrents_that_were_announced_once, peers, peers_of_a_torrent);

fn known(tracker: &Tracker, torrents: u8) -> u8 {
    let counts = |number: u8| TestTorrent::new(tracker, number).scrape();
    (1..=torrents).map(|number| u8::from(counts(number) != ScrapeCounts::default())).sum()
}

fn torrents(engine: Engine) {
    let tracker = Tracker::start(engine, "[swarms]\nmax_torrents = 10");
    for number in 1..=10 {
        let torrent = TestTorrent::new(&tracker, number);
        assert_eq!(torrent.announce(1, "").incomplete, 1);
        assert_eq!(torrent.announce(1, "").incomplete, 1);
    }
    assert_eq!(known(&tracker, 10), 10);
    for number in 11..=20 {
        let torrent = TestTorrent::new(&tracker, number);
        // Twice: the first announce must leave nothing behind.
        assert!(torrent.announce(1, "left=0").peers.is_empty());
        assert!(torrent.announce(2, "left=1").peers.is_empty());
    }
    assert_eq!(known(&tracker, 20), 10);
    // Stored torrents are served as before, and accept new peers.
    assert_eq!(TestTorrent::new(&tracker, 1).announce(2, "").incomplete, 2);
}

/// A new torrent replaces one with a single peer that has announced once.
fn torrents_that_were_announced_once(engine: Engine) {
    let tracker = Tracker::start(engine, "[swarms]\nmax_torrents = 10");
    for number in 1..=10 {
        TestTorrent::new(&tracker, number).announce(1, "left=0&event=completed");
    }
    // A torrent whose peer announces again, and one with two peers.
    TestTorrent::new(&tracker, 1).announce(1, "left=0");
    TestTorrent::new(&tracker, 2).announce(2, "left=1");
    for number in 11..=100 {
        let torrent = TestTorrent::new(&tracker, number);
        assert_eq!(torrent.announce(1, "left=0").complete, 1);
        if number > 92 {
            let second = torrent.announce(2, "left=1");
            assert_eq!((second.peers.len(), second.complete, second.incomplete), (1, 1, 1));
        }
        assert_eq!(known(&tracker, number), 10);
    }
    for number in [1, 2].into_iter().chain(93..=100) {
        assert_eq!(TestTorrent::new(&tracker, number).scrape().complete, 1, "{number}");
    }
    // Now no torrent can be replaced.
    assert!(TestTorrent::new(&tracker, 101).announce(1, "left=0").peers.is_empty());
    assert!(TestTorrent::new(&tracker, 101).announce(2, "left=1").peers.is_empty());
    assert_eq!(known(&tracker, 101), 10);
}

fn peers(engine: Engine) {
    let tracker = Tracker::start(engine, "[swarms]\nmax_peers = 10");
    let (one, other) = (TestTorrent::new(&tracker, 1), TestTorrent::new(&tracker, 2));
    one.announce_ports(tracker.v4, 1..=6, "");
    other.announce_ports(tracker.v4, 1..=4, "");
    for torrent in [&one, &other] {
        let before = torrent.scrape();
        let newcomer = torrent.announce(100, "");
        assert_eq!(newcomer.peers.len() as i64, before.incomplete, "it is answered");
        assert_eq!(torrent.scrape(), before, "but not stored");
    }
    assert!(TestTorrent::new(&tracker, 3).announce(1, "").peers.is_empty());
    assert_eq!(TestTorrent::new(&tracker, 3).scrape(), ScrapeCounts::default());
    // Stored peers stay, and may become seeders.
    assert_eq!(one.announce(1, "left=0&event=completed").complete, 1);
    assert_eq!(one.scrape(), ScrapeCounts { complete: 1, downloaded: 1, incomplete: 5 });
    // A peer that stops makes room.
    other.announce(1, "event=stopped");
    one.announce(100, "");
    assert_eq!((one.scrape().incomplete, other.scrape().incomplete), (6, 3));
}

fn peers_of_a_torrent(engine: Engine) {
    let tracker = Tracker::start(engine, "[swarms]\nmax_peers_per_torrent = 3");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=3, "");
    for port in 4..=20 {
        let answer = torrent.announce(port, "");
        assert_eq!(answer.peers.len(), 3, "it is answered");
    }
    assert_eq!(torrent.scrape().incomplete, 3);
    assert!(torrent.announce(1, "").peers.iter().all(|peer| (2..=3).contains(&peer.port())));
    torrent.announce(2, "event=stopped");
    torrent.announce(20, "");
    assert_eq!(torrent.scrape().incomplete, 3);
    // Other torrents are not affected.
    let other = TestTorrent::new(&tracker, 2);
    other.announce_ports(tracker.v4, 1..=3, "");
    assert_eq!(other.scrape().incomplete, 3);
}

//! Scrapes.

use crate::support::torrent::ScrapeCounts;
use crate::support::tracker::{Engine, Tracker, test_both_engines};
use crate::support::udp_client::{COMPLETED, STARTED, STOPPED, UdpAnnounce, UdpClient};

test_both_engines!(
    torrents_come_in_the_order_of_the_request,
    of_74_torrents_is_answered_and_of_75_fails,
    without_a_torrent_or_with_a_part_of_one,
);

/// The most that BEP 15 allows.
const TORRENTS_MAX: u8 = 74;

fn torrents_come_in_the_order_of_the_request(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for to in tracker.udp_addresses() {
        let base = if to.is_ipv4() { 10 } else { 20 };
        let mut client = UdpClient::connected(to);
        client.announce(&UdpAnnounce::new(base, 1));
        client.announce(&UdpAnnounce::seeder(base + 1, 1));
        client.announce(&UdpAnnounce::new(base + 2, 1));
        client.announce(&UdpAnnounce::seeder(base + 2, 1).with_event(COMPLETED));
        client.announce(&UdpAnnounce::new(base + 2, 2));
        let leecher = ScrapeCounts { incomplete: 1, ..ScrapeCounts::default() };
        let seeder = ScrapeCounts { complete: 1, ..ScrapeCounts::default() };
        let both = ScrapeCounts { complete: 1, downloaded: 1, incomplete: 1 };
        let unknown = ScrapeCounts::default();
        assert_eq!(client.scrape(&[base, base + 1, base + 2]), [leecher, seeder, both]);
        let numbers = [base + 2, 99, base, base + 2, base + 1];
        assert_eq!(client.scrape(&numbers), [both, unknown, leecher, both, seeder]);
    }
}

fn of_74_torrents_is_answered_and_of_75_fails(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for to in tracker.udp_addresses() {
        let mut client = UdpClient::connected(to);
        client.announce(&UdpAnnounce::new(TORRENTS_MAX, 1).with_event(STARTED));
        let numbers: Vec<u8> = (1..=TORRENTS_MAX).collect();
        let counts = client.scrape(&numbers);
        assert_eq!(counts.last().unwrap().incomplete, 1);
        client.announce(&UdpAnnounce::new(TORRENTS_MAX, 1).with_event(STOPPED));
        let more: Vec<[u8; 20]> = (1..=TORRENTS_MAX + 1).map(|number| [number; 20]).collect();
        client.send_scrape(&more);
        assert!(client.error().contains(&TORRENTS_MAX.to_string()));
        client.scrape(&numbers);
    }
}

/// An error, and nothing worse.
fn without_a_torrent_or_with_a_part_of_one(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut client = UdpClient::connected(tracker.udp_v4());
    client.send_scrape(&[]);
    client.error();
    for len in [1, 19, 21, 39] {
        client.send_request(client.id, 2, &vec![1; len]);
        client.error();
    }
    client.scrape(&[1]);
}

//! Limits and access lists hold by UDP as by HTTP.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use crate::support::access_list::{AccessListTracker, REFUSAL, list_line};
use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{ScrapeCounts, TestTorrent};
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};
use crate::support::udp_client::{UdpAnnounce, UdpClient, UdpReply};

test_both_engines!(
    a_full_torrent_stores_no_peer_but_answers,
    one_address_does_not_fill_a_torrent,
    torrents_outside_the_access_list_are_refused,
    requests_of_an_address_are_limited,
    a_limit_counts_http_and_udp_together,
);

fn a_full_torrent_stores_no_peer_but_answers(engine: Engine) {
    let tracker = Tracker::start(engine, "[swarms]\nmax_peers_per_torrent = 5\n");
    for (to, torrent) in tracker.udp_addresses().into_iter().zip(1..) {
        let mut client = UdpClient::connected(to);
        for port in 1..=5 {
            client.announce(&UdpAnnounce::new(torrent, port));
        }
        let told = client.announce(&UdpAnnounce::new(torrent, 6));
        assert_eq!(told.ports(), [1, 2, 3, 4, 5]);
        assert_eq!(client.scrape(&[torrent])[0].incomplete, 5);
    }
}

/// Public addresses only; the trusted parameter makes one.
fn one_address_does_not_fill_a_torrent(engine: Engine) {
    let config = "[protocol]\ntrust_ip_parameters = true\n[swarms]\nmax_peers_per_address = 3\n";
    let tracker = Tracker::start(engine, config);
    let mut client = UdpClient::connected(tracker.udp_v4());
    let ip = Ipv4Addr::new(203, 0, 113, 7);
    for port in 1..=10 {
        client.announce(&UdpAnnounce { ip, ..UdpAnnounce::new(1, port) });
    }
    assert_eq!(client.scrape(&[1])[0].incomplete, 3);
    let told = client.announce(&UdpAnnounce::new(1, 11));
    assert_eq!(told.peers.len(), 3);
    assert!(told.ports().contains(&10), "{told:?}");
}

fn torrents_outside_the_access_list_are_refused(engine: Engine) {
    let list = [list_line(1), list_line(3)].concat();
    let listed = AccessListTracker::start(engine, "allow", list, "");
    for to in listed.tracker.udp_addresses() {
        let mut client = UdpClient::connected(to);
        for number in 1..=4 {
            client.send_announce(&UdpAnnounce::seeder(number, 1));
            match client.reply() {
                UdpReply::Announce(_) => assert!(number % 2 == 1, "{number} is not listed"),
                UdpReply::Error(text) => {
                    assert_eq!((number % 2, text.as_str()), (0, REFUSAL), "{number} is listed");
                }
                other => panic!("{other:?}"),
            }
        }
        let seeders: Vec<i64> = client.scrape(&[1, 2, 3, 4]).iter().map(|it| it.complete).collect();
        let peers = if to.is_ipv4() { 1 } else { 2 };
        assert_eq!(seeders, [peers, 0, peers, 0]);
    }
    listed.relist(list_line(2));
    let mut client = UdpClient::connected(listed.tracker.udp_v4());
    client.announce(&UdpAnnounce::new(2, 1));
    client.send_announce(&UdpAnnounce::new(1, 1));
    assert_eq!(client.error(), REFUSAL);
    assert_eq!(client.scrape(&[1]), [ScrapeCounts::default()]);
}

const BURST: u64 = 5;
const LIMITS: &str = "[limits]\nrequests_per_second = 1\nrequest_burst = 5\n";
const DROPPED: &str = "annulus_datagrams_dropped_total{reason=\"address_requests\"}";

/// An address of its own for each test.
fn client_address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 8, last).into()
}

/// Requests above the limit: some are told so, the others get no reply. Connects are free, because
/// anyone can forge their source.
fn requests_of_an_address_are_limited(engine: Engine) {
    const REQUESTS: u64 = 100;
    let start = Instant::now();
    let tracker = Tracker::start(engine, &format!("{LIMITS}{OPERATIONS}"));
    let admin = AdminClient::of(&tracker);
    let mut client = UdpClient::connected_from(client_address(1), tracker.udp_v4());
    for _ in 0..REQUESTS {
        client.send_announce(&UdpAnnounce::new(1, 1));
    }
    client.send_connect();
    let (mut served, mut refused) = (0, 0);
    loop {
        match client.next_reply().1 {
            UdpReply::Announce(_) => served += 1,
            UdpReply::Error(text) => {
                assert!(text.starts_with("too many requests come from your address"), "{text}");
                refused += 1;
            }
            UdpReply::Connect(_) => break,
            other => panic!("{other:?}"),
        }
    }
    // A second may begin at any time.
    let begun_s = 1 + start.elapsed().as_secs();
    assert!((BURST..=BURST + begun_s).contains(&served), "{served} in {begun_s} s");
    assert!(refused > 0 && served + refused < REQUESTS, "{served} served, {refused} refused");
    admin.wait_sample(DROPPED, (REQUESTS - served - refused) as f64);
    tracker.assert_logged("requests from 127.0.8.1 are refused");
    // Another address is served, and this one when it has waited.
    UdpClient::connected_from(client_address(2), tracker.udp_v4())
        .announce(&UdpAnnounce::new(1, 2));
    wait_for("another request", || is_served(&mut client).then_some(()));
}

/// Whether an announce is served, and not refused or dropped.
fn is_served(client: &mut UdpClient) -> bool {
    client.send_announce(&UdpAnnounce::new(1, 1));
    let announce = client.last_transaction();
    client.send_connect();
    let connect = client.last_transaction();
    let mut served = false;
    loop {
        let (transaction, reply) = client.next_reply();
        served |= transaction == announce && matches!(reply, UdpReply::Announce(_));
        if transaction == connect {
            return served;
        }
    }
}

fn a_limit_counts_http_and_udp_together(engine: Engine) {
    let tracker = Tracker::start(engine, LIMITS);
    let mut client = UdpClient::connected_from(client_address(3), tracker.udp_v4());
    wait_for("a refusal by UDP after one by HTTP", || {
        let mut http = HttpClient::connect_from(client_address(3), tracker.v4);
        for _ in 0..=BURST {
            http.send(get_request(&TestTorrent::new(&tracker, 1).target(1, "")));
            if http.read_response().has_connection_close() {
                break;
            }
        }
        (!is_served(&mut client)).then_some(())
    });
}

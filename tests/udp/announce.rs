//! Announces: events, numbers of peers, addresses, options, and errors.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::torrent::ScrapeCounts;
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines};
use crate::support::udp_client::{
    ANY_NUMBER, COMPLETED, NONE, REPLY_BYTES_MAX, STARTED, STOPPED, UdpAnnounce, UdpClient,
};

test_both_engines!(
    a_peer_is_told_others_but_never_itself,
    seeders_are_not_told_seeders,
    a_download_is_counted_once_and_a_stop_removes,
    events_that_are_unknown_count_as_none,
    numbers_of_peers,
    the_longest_reply_fits_one_packet,
    addresses_in_requests_are_ignored,
    addresses_in_requests_are_used_if_trusted,
    port_zero_is_an_error,
    options_are_skipped,
);

fn a_peer_is_told_others_but_never_itself(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    // Counts are of both families.
    for (to, torrent) in tracker.udp_addresses().into_iter().zip(1..) {
        let mut client = UdpClient::connected(to);
        let first = client.announce(&UdpAnnounce::new(torrent, 1).with_event(STARTED));
        assert_eq!((first.leechers, first.seeders, first.peers), (1, 0, vec![]));
        let second = client.announce(&UdpAnnounce::seeder(torrent, 2).with_event(STARTED));
        assert_eq!((second.leechers, second.seeders), (1, 1));
        assert_eq!(second.peers, [SocketAddr::new(to.ip(), 1)]);
        let again = client.announce(&UdpAnnounce::new(torrent, 1));
        assert_eq!((again.leechers, again.seeders), (1, 1));
        assert_eq!(again.peers, [SocketAddr::new(to.ip(), 2)]);
    }
}

fn seeders_are_not_told_seeders(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut client = UdpClient::connected(tracker.udp_v4());
    client.announce(&UdpAnnounce::seeder(1, 1));
    client.announce(&UdpAnnounce::new(1, 2));
    let seeder = client.announce(&UdpAnnounce::seeder(1, 3));
    assert_eq!((seeder.leechers, seeder.seeders, seeder.ports()), (1, 2, vec![2]));
    let leecher = client.announce(&UdpAnnounce::new(1, 2));
    assert_eq!(leecher.ports(), [1, 3]);
}

fn a_download_is_counted_once_and_a_stop_removes(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for (to, torrent) in tracker.udp_addresses().into_iter().zip(1..) {
        let mut client = UdpClient::connected(to);
        let counts = |client: &mut UdpClient| client.scrape(&[torrent])[0];
        client.announce(&UdpAnnounce::new(torrent, 1).with_event(STARTED));
        client.announce(&UdpAnnounce::new(torrent, 2).with_event(STARTED));
        for _ in 0..3 {
            client.announce(&UdpAnnounce::seeder(torrent, 1).with_event(COMPLETED));
            let expected = ScrapeCounts { complete: 1, downloaded: 1, incomplete: 1 };
            assert_eq!(counts(&mut client), expected);
        }
        let left = client.announce(&UdpAnnounce::seeder(torrent, 1).with_event(STOPPED));
        assert_eq!((left.leechers, left.seeders, left.peers), (1, 0, vec![]));
        let expected = ScrapeCounts { complete: 0, downloaded: 1, incomplete: 1 };
        assert_eq!(counts(&mut client), expected);
    }
}

fn events_that_are_unknown_count_as_none(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut client = UdpClient::connected(tracker.udp_v4());
    for (port, event) in (1..).zip([NONE, 4, 255, u32::MAX]) {
        let told = client.announce(&UdpAnnounce::new(1, port).with_event(event));
        assert_eq!(told.leechers, u32::from(port), "event {event}");
    }
}

fn numbers_of_peers(engine: Engine) {
    const PEERS: u16 = 250;
    let tracker = Tracker::start(engine, "[protocol]\ndefault_numwant = 30\nmax_numwant = 60\n");
    for (to, torrent) in tracker.udp_addresses().into_iter().zip(1..) {
        let mut client = UdpClient::connected(to);
        for port in 1..=PEERS {
            client.announce(&UdpAnnounce::new(torrent, port).wanting(0));
        }
        let cases = [
            (ANY_NUMBER, 30),
            (i32::MIN, 30),
            (0, 0),
            (1, 1),
            (59, 59),
            (60, 60),
            (61, 60),
            (i32::MAX, 60),
        ];
        for (num_want, number) in cases {
            let told = client.announce(&UdpAnnounce::new(torrent, 1).wanting(num_want));
            assert_eq!(told.peers.len(), number, "{num_want} of {to}");
            assert_eq!(told.leechers, u32::from(PEERS));
            let mut ports = told.ports();
            ports.dedup();
            assert_eq!(ports.len(), number, "some are told twice");
            assert!(!ports.contains(&1), "the announcer itself");
        }
    }
}

/// The client refuses longer ones.
fn the_longest_reply_fits_one_packet(engine: Engine) {
    let tracker = Tracker::start(engine, "[protocol]\nmax_numwant = 1000\n");
    for to in tracker.udp_addresses() {
        let mut client = UdpClient::connected(to);
        for port in 1..=300 {
            client.announce(&UdpAnnounce::new(1, port).wanting(0));
        }
        for num_want in [70, 73, 76, 77, 200, 241, 242, 243, 1000] {
            let told = client.announce(&UdpAnnounce::new(1, 1).wanting(num_want));
            let most = if to.is_ipv4() { 200 } else { 70 };
            assert!(told.peers.len() >= most.min(num_want as usize), "{}", told.peers.len());
            let peer_bytes = if to.is_ipv4() { 6 } else { 18 };
            assert_eq!(told.bytes, 20 + peer_bytes * told.peers.len());
        }
        let most = client.announce(&UdpAnnounce::new(1, 1).wanting(1000)).bytes;
        let bound = REPLY_BYTES_MAX[usize::from(to.is_ipv4())];
        assert!(most > bound - 100, "{most} of {bound} bytes");
    }
}

fn addresses_in_requests_are_ignored(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut client = UdpClient::connected(tracker.udp_v4());
    let ip = Ipv4Addr::new(203, 0, 113, 7);
    client.announce(&UdpAnnounce { ip, ..UdpAnnounce::new(1, 1) });
    let told = client.announce(&UdpAnnounce::new(1, 2));
    assert_eq!(told.peers, [SocketAddr::from(([127, 0, 0, 1], 1))]);
}

fn addresses_in_requests_are_used_if_trusted(engine: Engine) {
    let tracker = Tracker::start(engine, "[protocol]\ntrust_ip_parameters = true\n");
    let mut client = UdpClient::connected(tracker.udp_v4());
    let ip = Ipv4Addr::new(203, 0, 113, 7);
    client.announce(&UdpAnnounce { ip, ..UdpAnnounce::new(1, 1) });
    // 0 means the address of the sender; nobody can connect to the other.
    client.announce(&UdpAnnounce { ip: Ipv4Addr::UNSPECIFIED, ..UdpAnnounce::new(1, 2) });
    client.announce(&UdpAnnounce { ip: Ipv4Addr::BROADCAST, ..UdpAnnounce::new(1, 3) });
    let mut told = client.announce(&UdpAnnounce::new(1, 4)).peers;
    told.sort();
    let expected = ["127.0.0.1:2", "127.0.0.1:3", "203.0.113.7:1"];
    assert_eq!(told, expected.map(|peer| peer.parse().unwrap()));
    // The field has no room for an address of IPv6.
    let Some(v6) = tracker.udp_v6() else { return };
    let mut client = UdpClient::connected(v6);
    client.announce(&UdpAnnounce { ip, ..UdpAnnounce::new(2, 1) });
    let told = client.announce(&UdpAnnounce::new(2, 2));
    assert_eq!(told.peers, ["[::1]:1".parse().unwrap()]);
}

fn port_zero_is_an_error(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for to in tracker.udp_addresses() {
        let mut client = UdpClient::connected(to);
        client.send_announce(&UdpAnnounce::new(1, 0));
        assert!(client.error().contains("port"));
        assert_eq!(client.scrape(&[1]), [ScrapeCounts::default()]);
    }
    assert_eq!(tracker.udp_addresses().len(), 1 + usize::from(has_v6()));
}

/// BEP 41: URL data in pieces, padding, options that are not defined, and broken ones.
fn options_are_skipped(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut client = UdpClient::connected(tracker.udp_v4());
    let long = [&[2, 255][..], &[b'a'; 255]].concat();
    let cases: [&[u8]; 14] = [
        &[],
        &[0],
        &[1],
        &[1, 1, 1, 0],
        b"\x02\x09/announce",
        b"\x02\x09/announce\x00",
        b"\x02\x04/ann\x01\x02\x05ounce\x00",
        b"\x02\x00\x00",
        b"\x09\x03abc\x02\x01/\x00",
        b"\x00 what follows the end",
        &long,
        &long.repeat(4),
        // Longer than what is left.
        b"\x02\xff/announce",
        b"\x02",
    ];
    for (options, port) in cases.into_iter().zip(1..) {
        let announce = UdpAnnounce { options: options.to_vec(), ..UdpAnnounce::new(1, port) };
        let told = client.announce(&announce);
        assert_eq!(told.leechers, u32::from(port), "{:?}", options.escape_ascii().to_string());
    }
}

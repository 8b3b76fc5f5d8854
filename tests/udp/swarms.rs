//! Peers by UDP, HTTP and HTTPS are in the same swarms.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::support::client::{HttpClient, get_request, request};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{ScrapeCounts, TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines};
use crate::support::udp_client::{COMPLETED, STOPPED, UdpAnnounce, UdpClient};

test_both_engines!(
    peers_by_udp_http_and_https_find_each_other,
    a_client_may_change_its_transport,
    each_family_is_told_its_own_peers,
    private_peers_are_shown_by_the_external_address,
);

fn peers_by_udp_http_and_https_find_each_other(engine: Engine) {
    let tls = TlsTracker::start(engine, "");
    let tracker = &tls.tracker;
    let torrent = TestTorrent::new(tracker, 1);
    let mut by_udp = UdpClient::connected(tracker.udp_v4());
    let mut by_https = tls.connect();
    let mut https = |port| {
        by_https.send(get_request(&torrent.target(port, "left=1")));
        parse_announce(&by_https.read_response())
    };
    by_udp.announce(&UdpAnnounce::seeder(1, 1));
    torrent.announce(2, "left=1");
    https(3);

    let ports = |peers: &[SocketAddr]| {
        let mut ports: Vec<u16> = peers.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports
    };
    let told = by_udp.announce(&UdpAnnounce::new(1, 4));
    assert_eq!((told.leechers, told.seeders, told.ports()), (3, 1, vec![1, 2, 3]));
    let told = torrent.announce(2, "left=1");
    assert_eq!((told.incomplete, told.complete, ports(&told.peers)), (3, 1, vec![1, 3, 4]));
    let told = https(3);
    assert_eq!((told.incomplete, told.complete, ports(&told.peers)), (3, 1, vec![1, 2, 4]));
    assert_eq!(by_udp.scrape(&[1]), [torrent.scrape()]);
}

/// As one that has an HTTP and a UDP tracker of this host in its list.
fn a_client_may_change_its_transport(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let mut by_udp = UdpClient::connected(tracker.udp_v4());
    by_udp.announce(&UdpAnnounce::new(1, 7));
    assert_eq!(torrent.announce(7, "left=1").peers, []);
    by_udp.announce(&UdpAnnounce::seeder(1, 7).with_event(COMPLETED));
    torrent.announce(7, "left=0&event=completed");
    let expected = ScrapeCounts { complete: 1, downloaded: 1, incomplete: 0 };
    assert_eq!((torrent.scrape(), by_udp.scrape(&[1])[0]), (expected, expected));
    by_udp.announce(&UdpAnnounce::seeder(1, 7).with_event(STOPPED));
    assert_eq!(torrent.scrape().complete, 0);
}

/// As BEP 15 has it; counts are of both. HTTP tells both.
fn each_family_is_told_its_own_peers(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let Some(v6) = tracker.udp_v6() else { return };
    let [mut of_v4, mut of_v6] = [tracker.udp_v4(), v6].map(UdpClient::connected);
    of_v4.announce(&UdpAnnounce::new(1, 4));
    of_v6.announce(&UdpAnnounce::new(1, 6));
    assert_eq!(of_v4.announce(&UdpAnnounce::new(1, 14)).ports(), [4]);
    assert_eq!(of_v6.announce(&UdpAnnounce::new(1, 16)).ports(), [6]);
    assert_eq!(of_v4.scrape(&[1])[0].incomplete, 4);
    assert_eq!(TestTorrent::new(&tracker, 1).announce(15, "left=1").peers.len(), 4);
}

fn private_peers_are_shown_by_the_external_address(engine: Engine) {
    let config = "[protocol]\nexternal_ipv4 = \"203.0.113.7\"\ntrust_ip_parameters = true\n\
                  [proxy]\ntrusted = [\"127.0.0.3\"]\nheader = \"X-Real-IP\"\n";
    let tracker = Tracker::start(engine, config);
    let mut client = UdpClient::connected(tracker.udp_v4());
    client.announce(&UdpAnnounce::new(1, 1));
    // Among themselves they keep their own.
    let inside = client.announce(&UdpAnnounce::new(1, 2));
    assert_eq!(inside.peers, [SocketAddr::from(([127, 0, 0, 1], 1))]);
    // To others they are at the external one, whichever way those ask.
    let expected = [1, 2].map(|port| SocketAddr::from(([203, 0, 113, 7], port)));
    let ip = Ipv4Addr::new(198, 51, 100, 1);
    let mut told = client.announce(&UdpAnnounce { ip, ..UdpAnnounce::new(1, 9) }).peers;
    told.sort();
    assert_eq!(told, expected);
    let proxy = IpAddr::from(Ipv4Addr::new(127, 0, 0, 3));
    let mut http = HttpClient::connect_from(proxy, tracker.v4);
    let target = TestTorrent::new(&tracker, 1).target(9, "left=1");
    http.send(request("GET", &target, "HTTP/1.1", "X-Real-IP: 198.51.100.1\r\n"));
    let mut told = parse_announce(&http.read_response()).peers;
    told.sort();
    assert_eq!(told, expected);
}

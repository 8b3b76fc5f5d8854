//! Peers in the tracker's own network: the external address replaces their private ones for other
//! clients.

use std::net::{IpAddr, SocketAddr};

use crate::support::client::{HttpClient, HttpResponse, request};
use crate::support::proxied_tracker::external_ip;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    others_get_the_external_address,
    of_both_families,
    a_family_without_an_external_address_is_unchanged,
    nothing_is_configured,
    one_port_is_given_once,
    no_client_gets_itself,
    peers_are_stored_under_their_own_address,
    over_many_answers,
);

const V4: &str = "external_ipv4 = \"198.51.100.9\"\n";
const V6: &str = "external_ipv6 = \"2001:db8:9::9\"\n";

/// A tracker with these keys of `[protocol]`, behind a proxy.
struct ExternalTracker {
    tracker: Tracker,
}

impl ExternalTracker {
    fn start(engine: Engine, protocol: &str) -> ExternalTracker {
        let proxy = "[proxy]\ntrusted = [\"127.0.0.1\"]\nheader = \"X-Real-IP\"\n";
        ExternalTracker {
            tracker: Tracker::start(engine, &format!("[protocol]\n{protocol}{proxy}")),
        }
    }

    #[track_caller]
    fn announce(&self, from: &str, port: u16, rest: &str) -> HttpResponse {
        let target = TestTorrent::new(&self.tracker, 1).target(port, rest);
        let mut client = HttpClient::connect(self.tracker.v4);
        client.send(request("GET", &target, "HTTP/1.1", &format!("X-Real-IP: {from}\r\n")));
        client.read_response()
    }

    /// The peers in the response to a client at this address, in either form.
    #[track_caller]
    fn peers_for(&self, from: &str) -> Vec<SocketAddr> {
        let peers_for = |rest: &str| {
            let response = self.announce(from, 9, rest);
            assert_eq!(external_ip(&response), from.parse::<IpAddr>().unwrap());
            let mut peers = parse_announce(&response).peers;
            peers.sort();
            peers
        };
        let peers = peers_for("left=1&compact=1");
        assert_eq!(peers_for("left=1&compact=0"), peers);
        self.announce(from, 9, "event=stopped");
        peers
    }

    #[track_caller]
    fn assert_peers_for(&self, to: &str, expected: &[&str]) {
        let mut expected: Vec<SocketAddr> =
            expected.iter().map(|peer| peer.parse().unwrap()).collect();
        expected.sort();
        assert_eq!(self.peers_for(to), expected, "told to {to}");
    }
}

/// An address of each private range, and one next to each range.
const PRIVATE: [&str; 6] =
    ["127.0.0.5", "10.1.2.3", "172.16.0.1", "172.31.255.254", "192.168.7.8", "169.254.1.1"];
const PUBLIC: [&str; 4] = ["203.0.113.7", "100.64.0.1", "172.32.0.1", "11.0.0.1"];

fn others_get_the_external_address(engine: Engine) {
    let site = ExternalTracker::start(engine, V4);
    let mut to_others = Vec::new();
    let mut to_private = Vec::new();
    for (ip, port) in PRIVATE.into_iter().zip(101..) {
        parse_announce(&site.announce(ip, port, "left=0"));
        to_others.push(format!("198.51.100.9:{port}"));
        to_private.push(format!("{ip}:{port}"));
    }
    for (ip, port) in PUBLIC.into_iter().zip(201..) {
        parse_announce(&site.announce(ip, port, "left=0"));
        to_others.push(format!("{ip}:{port}"));
        to_private.push(format!("{ip}:{port}"));
    }
    let [to_others, to_private] = [&to_others, &to_private]
        .map(|peers| peers.iter().map(String::as_str).collect::<Vec<&str>>());
    for to in ["203.0.113.99", "8.8.8.8", "100.100.1.1", "2001:db8::1", "200::1"] {
        site.assert_peers_for(to, &to_others);
    }
    for to in ["127.0.0.99", "10.200.0.1", "172.20.0.1", "192.168.0.1", "169.254.9.9"] {
        site.assert_peers_for(to, &to_private);
    }
    for to in ["::1", "fd00::99", "fc00::99"] {
        site.assert_peers_for(to, &to_private);
    }
}

fn of_both_families(engine: Engine) {
    let site = ExternalTracker::start(engine, &format!("{V4}{V6}"));
    for (ip, port) in [("127.0.0.5", 1), ("::1", 2), ("fd00::5", 3), ("2001:db8::5", 4)] {
        parse_announce(&site.announce(ip, port, "left=0"));
    }
    let to_others = ["198.51.100.9:1", "[2001:db8:9::9]:2", "[2001:db8:9::9]:3", "[2001:db8::5]:4"];
    let to_private = ["127.0.0.5:1", "[::1]:2", "[fd00::5]:3", "[2001:db8::5]:4"];
    for to in ["203.0.113.99", "2001:db8::99"] {
        site.assert_peers_for(to, &to_others);
    }
    for to in ["10.0.0.1", "fd00::99", "::1"] {
        site.assert_peers_for(to, &to_private);
    }
}

fn a_family_without_an_external_address_is_unchanged(engine: Engine) {
    for (protocol, expected) in
        [(V4, ["198.51.100.9:1", "[fd00::5]:2"]), (V6, ["10.1.2.3:1", "[2001:db8:9::9]:2"])]
    {
        let site = ExternalTracker::start(engine, protocol);
        parse_announce(&site.announce("10.1.2.3", 1, "left=0"));
        parse_announce(&site.announce("fd00::5", 2, "left=0"));
        for to in ["203.0.113.99", "2001:db8::99"] {
            site.assert_peers_for(to, &expected);
        }
    }
}

fn nothing_is_configured(engine: Engine) {
    let site = ExternalTracker::start(engine, "external_ipv4 = \"\"\nexternal_ipv6 = \"\"\n");
    parse_announce(&site.announce("10.1.2.3", 1, "left=0"));
    parse_announce(&site.announce("::1", 2, "left=0"));
    site.assert_peers_for("203.0.113.99", &["10.1.2.3:1", "[::1]:2"]);
}

/// Two private peers with one port are one peer for others, and so is a third that announces from
/// the external address.
fn one_port_is_given_once(engine: Engine) {
    let site = ExternalTracker::start(engine, &format!("{V4}{V6}"));
    for ip in ["10.1.2.3", "10.1.2.4", "127.0.0.5", "198.51.100.9", "203.0.113.7", "::1", "fd00::1"]
    {
        parse_announce(&site.announce(ip, 6881, "left=0"));
    }
    parse_announce(&site.announce("10.1.2.3", 6882, "left=0"));
    let others =
        ["198.51.100.9:6881", "198.51.100.9:6882", "203.0.113.7:6881", "[2001:db8:9::9]:6881"];
    // Again: nothing of the previous response may be left.
    for _ in 0..3 {
        site.assert_peers_for("203.0.113.99", &others);
    }
}

/// Not under the external address either: it is the client's own.
fn no_client_gets_itself(engine: Engine) {
    let site = ExternalTracker::start(engine, &format!("{V4}{V6}"));
    for ip in ["10.1.2.3", "::1"] {
        parse_announce(&site.announce(ip, 9, "left=0"));
        parse_announce(&site.announce(ip, 10, "left=0"));
    }
    site.assert_peers_for(
        "198.51.100.9",
        &["198.51.100.9:10", "[2001:db8:9::9]:9", "[2001:db8:9::9]:10"],
    );
    site.assert_peers_for(
        "2001:db8:9::9",
        &["198.51.100.9:9", "198.51.100.9:10", "[2001:db8:9::9]:10"],
    );
}

/// A peer that is given under the external address is counted, found and stopped by its own.
fn peers_are_stored_under_their_own_address(engine: Engine) {
    let site = ExternalTracker::start(engine, V4);
    parse_announce(&site.announce("10.1.2.3", 1, "left=0"));
    parse_announce(&site.announce("10.1.2.4", 1, "left=0"));
    let response = parse_announce(&site.announce("203.0.113.99", 9, "left=1"));
    assert_eq!((response.complete, response.incomplete, response.peers.len()), (2, 1, 1));
    parse_announce(&site.announce("198.51.100.9", 1, "event=stopped"));
    assert_eq!(TestTorrent::new(&site.tracker, 1).scrape().complete, 2);
    parse_announce(&site.announce("10.1.2.3", 1, "event=stopped"));
    parse_announce(&site.announce("10.1.2.4", 1, "event=stopped"));
    assert_eq!(TestTorrent::new(&site.tracker, 1).scrape().complete, 0);
}

/// A peer in one response is not missing in the next, whichever sample is drawn.
fn over_many_answers(engine: Engine) {
    let site = ExternalTracker::start(engine, V4);
    for port in 1..=200 {
        parse_announce(&site.announce("10.1.2.3", port, "left=0"));
    }
    for _ in 0..100 {
        let peers = parse_announce(&site.announce("203.0.113.99", 9, "left=1&numwant=50")).peers;
        assert_eq!(peers.len(), 50);
        assert!(peers.iter().all(|peer| peer.ip() == "198.51.100.9".parse::<IpAddr>().unwrap()));
    }
}

//! Peers of the tracker's own host and network: who is told of them under which address.

use std::net::{IpAddr, SocketAddr};

use crate::support::client::{HttpClient, HttpResponse, request};
use crate::support::proxied_tracker::external_ip;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    told_to_others_under_the_external_address,
    of_both_families,
    a_family_without_one_is_told_as_it_is,
    nothing_is_configured,
    one_port_is_told_once,
    nobody_is_told_himself,
    stored_as_they_came,
    over_many_answers,
);

const V4: &str = "external_ipv4 = \"198.51.100.9\"\n";
const V6: &str = "external_ipv6 = \"2001:db8:9::9\"\n";

/// A tracker with these keys of `[protocol]`, and a connection of the proxy before it.
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

    /// What somebody from there is told, by either form of the answer.
    #[track_caller]
    fn told(&self, from: &str) -> Vec<SocketAddr> {
        let told = |rest: &str| {
            let reply = self.announce(from, 9, rest);
            assert_eq!(external_ip(&reply), from.parse::<IpAddr>().unwrap());
            let mut peers = parse_announce(&reply).peers;
            peers.sort();
            peers
        };
        let peers = told("left=1&compact=1");
        assert_eq!(told("left=1&compact=0"), peers);
        self.announce(from, 9, "event=stopped");
        peers
    }

    #[track_caller]
    fn assert_told(&self, to: &str, expected: &[&str]) {
        let mut expected: Vec<SocketAddr> =
            expected.iter().map(|peer| peer.parse().unwrap()).collect();
        expected.sort();
        assert_eq!(self.told(to), expected, "told to {to}");
    }
}

/// One of each private range, and beside each range.
const PRIVATE: [&str; 6] =
    ["127.0.0.5", "10.1.2.3", "172.16.0.1", "172.31.255.254", "192.168.7.8", "169.254.1.1"];
const PUBLIC: [&str; 4] = ["203.0.113.7", "100.64.0.1", "172.32.0.1", "11.0.0.1"];

fn told_to_others_under_the_external_address(engine: Engine) {
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
        site.assert_told(to, &to_others);
    }
    for to in ["127.0.0.99", "10.200.0.1", "172.20.0.1", "192.168.0.1", "169.254.9.9"] {
        site.assert_told(to, &to_private);
    }
    for to in ["::1", "fd00::99", "fc00::99"] {
        site.assert_told(to, &to_private);
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
        site.assert_told(to, &to_others);
    }
    for to in ["10.0.0.1", "fd00::99", "::1"] {
        site.assert_told(to, &to_private);
    }
}

fn a_family_without_one_is_told_as_it_is(engine: Engine) {
    for (protocol, expected) in
        [(V4, ["198.51.100.9:1", "[fd00::5]:2"]), (V6, ["10.1.2.3:1", "[2001:db8:9::9]:2"])]
    {
        let site = ExternalTracker::start(engine, protocol);
        parse_announce(&site.announce("10.1.2.3", 1, "left=0"));
        parse_announce(&site.announce("fd00::5", 2, "left=0"));
        for to in ["203.0.113.99", "2001:db8::99"] {
            site.assert_told(to, &expected);
        }
    }
}

fn nothing_is_configured(engine: Engine) {
    let site = ExternalTracker::start(engine, "external_ipv4 = \"\"\nexternal_ipv6 = \"\"\n");
    parse_announce(&site.announce("10.1.2.3", 1, "left=0"));
    parse_announce(&site.announce("::1", 2, "left=0"));
    site.assert_told("203.0.113.99", &["10.1.2.3:1", "[::1]:2"]);
}

/// Two private peers with one port are one to the others, and so is one that also announces by
/// the external address.
fn one_port_is_told_once(engine: Engine) {
    let site = ExternalTracker::start(engine, &format!("{V4}{V6}"));
    for ip in ["10.1.2.3", "10.1.2.4", "127.0.0.5", "198.51.100.9", "203.0.113.7", "::1", "fd00::1"]
    {
        parse_announce(&site.announce(ip, 6881, "left=0"));
    }
    parse_announce(&site.announce("10.1.2.3", 6882, "left=0"));
    let others =
        ["198.51.100.9:6881", "198.51.100.9:6882", "203.0.113.7:6881", "[2001:db8:9::9]:6881"];
    // Again, for nothing may be left of the answer before.
    for _ in 0..3 {
        site.assert_told("203.0.113.99", &others);
    }
}

/// Not under the external address either, which is his own.
fn nobody_is_told_himself(engine: Engine) {
    let site = ExternalTracker::start(engine, &format!("{V4}{V6}"));
    for ip in ["10.1.2.3", "::1"] {
        parse_announce(&site.announce(ip, 9, "left=0"));
        parse_announce(&site.announce(ip, 10, "left=0"));
    }
    site.assert_told(
        "198.51.100.9",
        &["198.51.100.9:10", "[2001:db8:9::9]:9", "[2001:db8:9::9]:10"],
    );
    site.assert_told("2001:db8:9::9", &["198.51.100.9:9", "198.51.100.9:10", "[2001:db8:9::9]:10"]);
}

/// Who is told under another address is counted, found again and stopped by his own.
fn stored_as_they_came(engine: Engine) {
    let site = ExternalTracker::start(engine, V4);
    parse_announce(&site.announce("10.1.2.3", 1, "left=0"));
    parse_announce(&site.announce("10.1.2.4", 1, "left=0"));
    let reply = parse_announce(&site.announce("203.0.113.99", 9, "left=1"));
    assert_eq!((reply.complete, reply.incomplete, reply.peers.len()), (2, 1, 1));
    parse_announce(&site.announce("198.51.100.9", 1, "event=stopped"));
    assert_eq!(TestTorrent::new(&site.tracker, 1).scrape().complete, 2);
    parse_announce(&site.announce("10.1.2.3", 1, "event=stopped"));
    parse_announce(&site.announce("10.1.2.4", 1, "event=stopped"));
    assert_eq!(TestTorrent::new(&site.tracker, 1).scrape().complete, 0);
}

/// What one answer has told is not missing in the next, whichever peers they draw.
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

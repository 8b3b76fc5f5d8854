//! Announce responses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{LOCALHOST, ScrapeCounts, TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines};

test_both_engines!(
    keys_are_sorted_and_complete,
    intervals_are_spread,
    no_client_gets_itself,
    seeders_get_no_seeders,
    a_magnet_link_that_starts_gets_seeders,
    samples_differ_and_include_every_peer,
    a_peer_is_an_address_and_a_port,
    both_families_get_a_fair_share,
    addresses_given_by_clients_are_ignored,
    addresses_given_by_clients_are_honoured_where_allowed,
);

const LOCALHOST_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A loopback address for each number.
fn local(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 1, high, low))
}

fn keys_are_sorted_and_complete(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut expected = vec![
        "complete",
        "downloaded",
        "external ip",
        "incomplete",
        "interval",
        "min interval",
        "peers",
    ];
    let torrent = TestTorrent::new(&tracker, 1);
    let alone = torrent.announce_from(local(7), 1, "");
    assert_eq!(alone.body.keys(), expected);
    assert_eq!(alone.body.bytes("external ip"), [127, 1, 0, 7]);
    assert_eq!(alone.body.bytes("peers"), b"");
    let stopped = torrent.announce_from(local(7), 1, "event=stopped");
    assert_eq!(stopped.body.keys(), expected);
    if has_v6() {
        // `peers` is present for a client that has only IPv6 too: some clients treat its absence as
        // an error.
        expected.push("peers6");
        let torrent = TestTorrent::new(&tracker, 2);
        let alone = torrent.announce_from(LOCALHOST_6, 1, "");
        assert_eq!(alone.body.keys(), expected);
        assert_eq!(alone.body.bytes("external ip"), Ipv6Addr::LOCALHOST.octets());
        assert_eq!(alone.body.bytes("peers"), b"");
        torrent.announce_from(LOCALHOST_6, 2, "");
        let both = torrent.announce_from(local(1), 1, "");
        assert_eq!(both.body.keys(), expected);
        assert_eq!(both.body.bytes("peers6").len(), 36);
        let list = torrent.announce_from(local(1), 1, "compact=0");
        expected.pop();
        assert_eq!(list.body.keys(), expected);
        assert_eq!(list.peers.len(), 2);
    }
}

fn intervals_are_spread(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let mut client = HttpClient::connect(tracker.v4);
    let mut intervals = HashSet::new();
    for _ in 0..500 {
        client.send(get_request(&torrent.target(1, "")));
        intervals.insert(parse_announce(&client.read_response()).body.integer("interval"));
    }
    // `parse_announce` has checked the bounds, 1800 and 1980. Of 181 values, 500 draws miss about
    // eleven.
    assert!(intervals.len() > 120, "{} different intervals", intervals.len());
    assert!(intervals.iter().any(|&interval| interval < 1830));
    assert!(intervals.iter().any(|&interval| interval > 1950));
}

fn no_client_gets_itself(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    for number in 1..=40 {
        let own = SocketAddr::new(local(number), 6881);
        let left = number % 2;
        for _ in 0..2 {
            let answer = torrent.announce_from(own.ip(), 6881, &format!("left={left}"));
            assert!(!answer.peers.contains(&own), "{own}");
            assert_eq!(answer.complete + answer.incomplete, i64::from(number));
        }
    }
}

fn seeders_get_no_seeders(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=30, "left=0");
    torrent.announce_ports(tracker.v4, 101..=120, "left=1");
    let of_seeder = torrent.announce(1, "left=0&numwant=200");
    assert_eq!((of_seeder.complete, of_seeder.incomplete), (30, 20));
    assert_eq!(of_seeder.peers.len(), 20);
    assert!(of_seeder.peers.iter().all(|peer| peer.port() > 100));
    assert_eq!(torrent.announce(101, "left=1&numwant=200").peers.len(), 49);
    // A peer that became a seeder is given to leechers, and no longer to seeders.
    torrent.announce(101, "left=0&event=completed");
    assert_eq!(torrent.announce(1, "left=0&numwant=200").peers.len(), 19);
    assert_eq!(torrent.announce(102, "left=1&numwant=200").peers.len(), 49);
    torrent.announce(102, "event=stopped");
    assert_eq!(torrent.announce(1, "left=0&numwant=200").peers.len(), 18);
}

/// aria2 and rqbit report `left=0` while they do not have the metadata.
fn a_magnet_link_that_starts_gets_seeders(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=30, "left=0");
    let begins = "left=0&downloaded=0&event=started";
    let answer = torrent.announce(100, &format!("{begins}&numwant=200"));
    assert_eq!((answer.complete, answer.incomplete), (31, 0), "it counts as a seeder");
    assert_eq!(answer.peers.len(), 30);
    assert!(answer.peers.iter().all(|peer| peer.port() <= 30), "and does not get itself");
    assert_eq!(torrent.announce(100, begins).peers.len(), 30, "however often it begins");
    assert_eq!(torrent.announce(101, &format!("{begins}&numwant=7")).peers.len(), 7);
    assert_eq!(torrent.announce(101, &format!("{begins}&numwant=0")).peers.len(), 0);
    let written_otherwise = "%6ceft=00&event=st%61rted&dow%6eloaded=%30";
    assert_eq!(torrent.announce(101, written_otherwise).peers.len(), 31);
    // Other combinations have their usual meaning.
    for rest in [
        "left=0&downloaded=0",
        "left=0&downloaded=0&event=",
        "left=0&downloaded=0&event=completed",
        "left=0&downloaded=0&event=stopped",
        "left=0&downloaded=1&event=started",
        "left=0&downloaded=&event=started",
        "left=0&downloaded=-1&event=started",
        "left=0&event=started",
    ] {
        assert_eq!(torrent.announce(102, &format!("{rest}&numwant=200")).peers, [], "{rest}");
    }
    // The peers in its response get it in theirs, if they ask for seeders.
    torrent.announce(100, "left=5&downloaded=3");
    let seeder = torrent.announce(1, "left=0&numwant=200");
    assert_eq!((seeder.complete, seeder.incomplete, seeder.peers.len()), (32, 1, 1));
}

fn samples_differ_and_include_every_peer(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=300, "");
    let mut client = HttpClient::connect(tracker.v4);
    let mut seen = [0; 301];
    let mut last = Vec::new();
    for _ in 0..200 {
        client.send(get_request(&torrent.target(1000, "numwant=50")));
        let peers = parse_announce(&client.read_response()).peers;
        assert_eq!(peers.len(), 50);
        assert_ne!(peers, last);
        for peer in &peers {
            seen[usize::from(peer.port())] += 1;
        }
        last = peers;
    }
    // Each is drawn 33 times on average, with a standard deviation of 5.
    let seldom = seen[1..].iter().min().unwrap();
    let often = seen[1..].iter().max().unwrap();
    assert!(*seldom >= 3 && *often <= 75, "from {seldom} to {often} times");
}

fn a_peer_is_an_address_and_a_port(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let same_id = "peer_id=-XX0000-aaaaaaaaaaaa&key=1";
    assert_eq!(torrent.announce(1, same_id).incomplete, 1);
    assert_eq!(torrent.announce(2, same_id).incomplete, 2);
    assert_eq!(torrent.announce_from(local(1), 1, same_id).incomplete, 3);
    // A peer id alone does not identify a peer; from the same address it may change.
    torrent.announce_from(local(2), 1, &format!("{same_id}&event=stopped"));
    assert_eq!(torrent.scrape().incomplete, 3);
    assert_eq!(torrent.announce(1, "peer_id=-YY0000-bbbbbbbbbbbb&key=2").incomplete, 3);
    torrent.announce(1, "peer_id=-ZZ0000-cccccccccccc&event=stopped");
    assert_eq!(torrent.scrape().incomplete, 2);
}

fn both_families_get_a_fair_share(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let Some(v6) = tracker.v6 else { return eprintln!("skipped: no IPv6") };
    let torrent = TestTorrent::new(&tracker, 1);
    for number in 1..=100 {
        torrent.announce_from(local(number), 6881, "");
    }
    torrent.announce_ports(v6, 1..=100, "");
    for (source, rest, own, other) in [
        (local(500), "numwant=40", 30, 10),
        (LOCALHOST_6, "numwant=40", 30, 10),
        (local(500), "numwant=160", 100, 60),
        (LOCALHOST_6, "numwant=160", 100, 60),
        (local(500), "numwant=1", 1, 0),
        (LOCALHOST_6, "numwant=1", 1, 0),
    ] {
        let answer = torrent.announce_from(source, 1000, rest);
        assert_eq!(answer.incomplete, 201, "{source} {rest}");
        let of_own = answer.peers.iter().filter(|peer| peer.is_ipv4() == source.is_ipv4()).count();
        assert_eq!((of_own, answer.peers.len() - of_own), (own, other), "{source} {rest}");
        // Leave again, so that the next client finds the same swarm.
        torrent.announce_from(source, 1000, "event=stopped");
    }
    assert_eq!(torrent.scrape(), ScrapeCounts { incomplete: 200, ..ScrapeCounts::default() });
    // A few of the client's own family, and the rest filled up with the other.
    let few = TestTorrent::new(&tracker, 2);
    few.announce_ports(v6, 1..=100, "");
    few.announce_ports(tracker.v4, 1..=3, "");
    let answer = few.announce_from(local(1), 1, "numwant=40");
    assert_eq!(answer.peers.iter().filter(|peer| peer.is_ipv4()).count(), 3);
    assert_eq!(answer.peers.len(), 40);
}

fn addresses_given_by_clients_are_ignored(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let lies = "ip=192.0.2.1&ipv4=192.0.2.2&ipv6=[2001:db8::1]:6891";
    let answer = torrent.announce_from(local(1), 1, lies);
    assert_eq!(answer.body.bytes("external ip"), [127, 1, 0, 1]);
    assert_eq!(torrent.announce(2, "").peers, [SocketAddr::new(local(1), 1)]);
    torrent.announce_from(local(1), 1, "event=stopped&ip=127.0.0.1");
    assert_eq!(torrent.scrape().incomplete, 1);
}

fn addresses_given_by_clients_are_honoured_where_allowed(engine: Engine) {
    let tracker = Tracker::start(engine, "[protocol]\ntrust_ip_parameters = true");
    for (number, (rest, expected)) in [
        ("", &["127.0.0.1:6881"][..]),
        ("ip=192.0.2.1", &["192.0.2.1:6881"]),
        ("ip=192.0.2.1:99", &["192.0.2.1:6881"]),
        ("ipv4=192.0.2.2", &["192.0.2.2:6881"]),
        ("ip=2001:db8::1", &["[2001:db8::1]:6881"]),
        ("ip=2001%3Adb8%3a%3A1", &["[2001:db8::1]:6881"]),
        ("ip=::ffff:192.0.2.1", &["192.0.2.1:6881"]),
        ("ipv6=2001%3Adb8%3A%3A2", &["127.0.0.1:6881", "[2001:db8::2]:6881"]),
        ("ipv6=[2001:db8::2]:6891", &["127.0.0.1:6881", "[2001:db8::2]:6891"]),
        ("ipv6=%5b2001:db8::2%5d:6891", &["127.0.0.1:6881", "[2001:db8::2]:6891"]),
        ("ipv6=[2001:db8::2]", &["127.0.0.1:6881", "[2001:db8::2]:6881"]),
        ("ipv4=192.0.2.2:99", &["192.0.2.2:99"]),
        ("ipv4=192.0.2.2:99&ipv6=[2001:db8::2]:6891", &["192.0.2.2:99", "[2001:db8::2]:6891"]),
        ("ip=192.0.2.1&ipv4=192.0.2.2:99", &["192.0.2.1:6881"]),
        ("ip=2001:db8::1&ipv4=192.0.2.2:99", &["192.0.2.2:99", "[2001:db8::1]:6881"]),
        ("ipv4=192.0.2.2&ipv6=2001:db8::2", &["192.0.2.2:6881", "[2001:db8::2]:6881"]),
        ("ip=192.0.2.1&ipv6=2001:db8::2", &["192.0.2.1:6881", "[2001:db8::2]:6881"]),
        ("ip=192.0.2.1&ipv4=192.0.2.2", &["192.0.2.1:6881"]),
        // An invalid address, or one of the wrong family, is ignored.
        ("ip=tracker.example", &["127.0.0.1:6881"]),
        ("ip=", &["127.0.0.1:6881"]),
        ("ipv4=2001:db8::1", &["127.0.0.1:6881"]),
        ("ipv6=192.0.2.1", &["127.0.0.1:6881"]),
        ("ip=nowhere&ipv4=192.0.2.2", &["192.0.2.2:6881"]),
        ("ipv4=192.0.2.2:0", &["127.0.0.1:6881"]),
        ("ipv4=192.0.2.2:", &["127.0.0.1:6881"]),
        ("ipv4=192.0.2.2:65536", &["127.0.0.1:6881"]),
        ("ipv6=[2001:db8::2]:http", &["127.0.0.1:6881"]),
        ("ipv6=[2001:db8::2]6891", &["127.0.0.1:6881"]),
        // So is an address that no peer can be reached at.
        ("ip=0.0.0.0", &["127.0.0.1:6881"]),
        ("ip=224.0.0.1", &["127.0.0.1:6881"]),
        ("ip=240.0.0.1&ipv4=192.0.2.2", &["192.0.2.2:6881"]),
        ("ip=255.255.255.255", &["127.0.0.1:6881"]),
        ("ip=::", &["127.0.0.1:6881"]),
        ("ip=%5Bfe80::1%5D:99", &["127.0.0.1:6881"]),
        ("ip=::ffff:239.1.2.3", &["127.0.0.1:6881"]),
        ("ip=ff02::1", &["127.0.0.1:6881"]),
        ("ipv4=0.0.0.0", &["127.0.0.1:6881"]),
        ("ipv6=fe80::1", &["127.0.0.1:6881"]),
        ("ipv6=ff0e::1", &["127.0.0.1:6881"]),
        ("ip=192.0.2.1&ipv6=::", &["192.0.2.1:6881"]),
        // But not an address that is reachable in a part of the network.
        ("ip=10.0.0.1", &["10.0.0.1:6881"]),
        ("ip=100.64.0.1", &["100.64.0.1:6881"]),
        ("ip=fc00::1", &["[fc00::1]:6881"]),
        ("ip=200::1", &["[200::1]:6881"]),
    ]
    .into_iter()
    .enumerate()
    {
        let torrent = TestTorrent::new(&tracker, number as u8);
        let answer = torrent.announce(6881, rest);
        assert_eq!(answer.incomplete, expected.len() as i64, "{rest}");
        assert_eq!(answer.body.bytes("external ip"), [127, 0, 0, 1], "{rest}");
        let peers = torrent.announce_from(local(1), 9, "ip=198.51.100.1").peers;
        let expected: Vec<SocketAddr> = expected.iter().map(|peer| peer.parse().unwrap()).collect();
        assert_eq!(peers, expected, "{rest}");
        // `stopped` applies to the same addresses.
        torrent.announce(6881, &format!("{rest}&event=stopped"));
        assert_eq!(torrent.scrape().incomplete, 1, "{rest}");
    }
    // A pair of addresses counts one completion.
    let torrent = TestTorrent::new(&tracker, 200);
    let pair = "ipv6=2001:db8::2";
    torrent.announce(1, &format!("{pair}&left=1"));
    let answer = torrent.announce(1, &format!("{pair}&left=0&event=completed"));
    assert_eq!((answer.complete, answer.downloaded), (2, 1));
    assert_eq!(torrent.announce_from(LOCALHOST, 2, "left=1").peers.len(), 2);
}

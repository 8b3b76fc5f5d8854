//! Peers of one address in a torrent. The client addresses come from a trusted proxy, because
//! loopback addresses are not limited.

use std::net::{IpAddr, SocketAddr};

use crate::support::client::{HttpClient, request};
use crate::support::torrent::{ParsedAnnounce, ScrapeCounts, TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    one_address_does_not_fill_a_torrent,
    the_oldest_peer_is_replaced_and_the_last_stays,
    a_prefix_of_64_bits_is_one_address,
    addresses_without_a_limit,
    a_full_torrent_replaces_peers_of_the_same_address,
);

const PROXY: &str = "[proxy]\ntrusted = [\"127.0.0.1\"]\nheader = \"X-Forwarded-For\"\n";
/// Announces that are pipelined.
const PIPELINED: usize = 50;

/// A tracker and one connection of its proxy.
struct OneProxy {
    tracker: Tracker,
    proxy: HttpClient,
}

impl OneProxy {
    fn start(engine: Engine, config: &str) -> OneProxy {
        let tracker = Tracker::start(engine, &format!("{PROXY}{config}"));
        let proxy = HttpClient::connect(tracker.v4);
        OneProxy { tracker, proxy }
    }

    fn announce(&mut self, client: &str, port: u16, rest: &str) -> ParsedAnnounce {
        self.fill(&[(client.to_owned(), port)], rest).pop().unwrap()
    }

    /// Announces all of these in pipelines, and reads the responses.
    fn fill(&mut self, clients: &[(String, u16)], rest: &str) -> Vec<ParsedAnnounce> {
        let torrent = TestTorrent::new(&self.tracker, 1);
        let mut answers = Vec::new();
        for some in clients.chunks(PIPELINED) {
            let one = |(client, port): &(String, u16)| {
                let line = format!("X-Forwarded-For: {client}\r\n");
                request("GET", &torrent.target(*port, rest), "HTTP/1.1", &line)
            };
            self.proxy.send(some.iter().flat_map(one).collect::<Vec<u8>>());
            answers.extend(some.iter().map(|_| parse_announce(&self.proxy.read_response())));
        }
        answers
    }

    fn scrape(&self) -> ScrapeCounts {
        TestTorrent::new(&self.tracker, 1).scrape()
    }

    /// The ports of all peers at an address, up to 200.
    fn ports(&mut self, ip: &str) -> Vec<u16> {
        let ip: IpAddr = ip.parse().unwrap();
        let all = self.announce("203.0.113.250", 1, "left=1&numwant=200").peers;
        self.announce("203.0.113.250", 1, "event=stopped");
        let mut ports: Vec<u16> =
            all.iter().filter(|peer| peer.ip() == ip).map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports
    }
}

fn of_ports(client: &str, ports: impl Iterator<Item = u16>) -> Vec<(String, u16)> {
    ports.map(|port| (client.to_owned(), port)).collect()
}

fn one_address_does_not_fill_a_torrent(engine: Engine) {
    const ATTACKER: &str = "198.51.100.66";
    let mut site = OneProxy::start(engine, "");
    let others: Vec<(String, u16)> =
        (1..=250).map(|number| (format!("203.0.113.{number}"), 6881)).collect();
    site.fill(&others, "left=1&numwant=0");
    let answers = site.fill(&of_ports(ATTACKER, 1..=35_000), "left=0&numwant=0");
    assert_eq!(answers.last().unwrap().complete, 16);
    assert_eq!(site.scrape(), ScrapeCounts { complete: 16, downloaded: 0, incomplete: 250 });
    for number in 1..=20 {
        let client = format!("203.0.113.{number}");
        let answer = site.announce(&client, 6881, "left=1&numwant=200");
        assert_eq!((answer.peers.len(), answer.complete, answer.incomplete), (200, 16, 250));
        let ip: IpAddr = ATTACKER.parse().unwrap();
        let attackers = answer.peers.iter().filter(|peer| peer.ip() == ip).count();
        assert!(attackers <= 16, "{attackers} of 200");
    }
}

fn the_oldest_peer_is_replaced_and_the_last_stays(engine: Engine) {
    const CLIENT: &str = "198.51.100.1";
    let mut site = OneProxy::start(engine, "[swarms]\nmax_peers_per_address = 4");
    site.fill(&of_ports(CLIENT, 1..=4), "left=1");
    assert_eq!(site.ports(CLIENT), [1, 2, 3, 4]);
    // Stored peers announce again; none is new.
    site.fill(&of_ports(CLIENT, 1..=4), "left=1");
    assert_eq!(site.announce(CLIENT, 1, "left=0&event=completed").complete, 1);
    assert_eq!(site.scrape(), ScrapeCounts { complete: 1, downloaded: 1, incomplete: 3 });
    site.announce(CLIENT, 5, "left=1");
    assert_eq!(site.ports(CLIENT), [1, 3, 4, 5]);
    site.announce(CLIENT, 3, "left=0");
    site.announce(CLIENT, 6, "left=0");
    assert_eq!(site.ports(CLIENT), [1, 3, 5, 6]);
    assert_eq!(site.scrape(), ScrapeCounts { complete: 3, downloaded: 1, incomplete: 1 });
    // The only seeder is replaced by a leecher.
    site.announce(CLIENT, 7, "left=1");
    assert_eq!(site.ports(CLIENT), [3, 5, 6, 7]);
    assert_eq!(site.scrape(), ScrapeCounts { complete: 2, downloaded: 1, incomplete: 2 });
    // A stopped peer makes room, and other addresses are not affected.
    site.announce(CLIENT, 6, "event=stopped");
    site.announce("198.51.100.2", 9, "left=1");
    site.announce(CLIENT, 8, "left=1");
    assert_eq!((site.ports(CLIENT), site.ports("198.51.100.2")), (vec![3, 5, 7, 8], vec![9]));
}

fn a_prefix_of_64_bits_is_one_address(engine: Engine) {
    let mut site = OneProxy::start(engine, "");
    let of_64 = |net: &str| -> Vec<(String, u16)> {
        (1..=100).map(|host| (format!("{net}:{host:x}:1:2:{host:x}"), host)).collect()
    };
    site.fill(&of_64("2001:db8:0:1"), "left=1");
    assert_eq!(site.scrape().incomplete, 16);
    site.fill(&of_64("2001:db8:0:2"), "left=0");
    assert_eq!(site.scrape(), ScrapeCounts { complete: 16, downloaded: 0, incomplete: 16 });
    let last = site.ports("2001:db8:0:2:64:1:2:64");
    assert_eq!(last, [100], "the last is there");
    assert_eq!(site.ports("2001:db8:0:2:1:1:2:1"), [] as [u16; 0], "the first is not");
}

fn addresses_without_a_limit(engine: Engine) {
    let exempt = "[limits]\nexempt = [\"198.51.100.0/24\", \"2001:db8:5::/48\"]";
    let mut site = OneProxy::start(engine, exempt);
    let mut sum = 0;
    for (client, stored) in [
        ("198.51.100.7", 40),
        ("2001:db8:5::7", 40),
        ("10.0.0.7", 40),
        ("192.168.3.7", 40),
        ("fd00::7", 40),
        ("203.0.113.7", 16),
        ("2001:db8:6::7", 16),
        ("198.51.101.7", 16),
    ] {
        site.fill(&of_ports(client, 1..=40), "left=1");
        sum += stored;
        assert_eq!(site.scrape().incomplete, sum, "{client}");
    }
    // The loopback address, without a proxy.
    let torrent = TestTorrent::new(&site.tracker, 1);
    let direct = Tracker::start(engine, "");
    let own = TestTorrent::new(&direct, 1);
    own.announce_ports(direct.v4, 1..=40, "left=1");
    assert_eq!((own.scrape().incomplete, torrent.scrape().incomplete), (40, sum));
    let mut unlimited = OneProxy::start(engine, "[swarms]\nmax_peers_per_address = 0");
    unlimited.fill(&of_ports("203.0.113.7", 1..=300), "left=1");
    assert_eq!(unlimited.scrape().incomplete, 300);
}

/// In a full torrent, a client replaces the oldest peer of its own address.
fn a_full_torrent_replaces_peers_of_the_same_address(engine: Engine) {
    let bounds = "[swarms]\nmax_peers = 4\nmax_peers_per_torrent = 3\nmax_peers_per_address = 2";
    let mut site = OneProxy::start(engine, bounds);
    site.fill(&of_ports("203.0.113.1", 1..=2), "left=1");
    site.announce("203.0.113.2", 1, "left=1");
    site.announce("203.0.113.3", 1, "left=1");
    assert_eq!(site.scrape().incomplete, 3);
    site.announce("203.0.113.1", 3, "left=0");
    assert_eq!(site.scrape(), ScrapeCounts { complete: 1, downloaded: 0, incomplete: 2 });
    let seen = site.announce("203.0.113.4", 1, "left=1").peers;
    assert!(seen.contains(&"203.0.113.1:3".parse().unwrap()), "{seen:?}");
}

//! Requests that are served: by the same swarms, bounds and lists as those by HTTP.

use std::sync::Arc;

use annulus::access_list::{AccessList, SharedAccessList};
use annulus::config::ProtocolConfig;
use annulus::server::{Server, ServerParts};
use annulus_swarm::TorrentCounts;

use super::{
    A, Announced, B, COMPLETED, LEECHER, SEEDER, STARTED, STOPPED, address, announce, ask, connect,
    error_text, peers, scrape, scraped, server, swarms,
};
use crate::support::server::ask_from;

#[test]
fn an_announce_is_answered_with_counts_and_peers() {
    let mut server = server(ProtocolConfig::default());
    let first = announce(&mut server, address("192.0.2.1:1000"), &SEEDER).unwrap();
    assert!((1800..=1980).contains(&first.0), "{first:?}");
    assert_eq!((first.1, first.2, first.3), (0, 1, Vec::new()));
    let leecher = Announced { port: 7000, ..LEECHER };
    let second = announce(&mut server, address("192.0.2.2:1000"), &leecher).unwrap();
    assert_eq!((second.1, second.2), (1, 1));
    assert_eq!(second.3, [address("192.0.2.1:6881")]);
    // Seeders are not told of each other, nor a peer of itself.
    assert_eq!(peers(&mut server, "192.0.2.3:1", &SEEDER), ["192.0.2.2:7000"]);
    assert_eq!(
        peers(&mut server, "192.0.2.2:9", &leecher),
        ["192.0.2.1:6881", "192.0.2.3:6881"],
        "from another port"
    );
    assert_eq!(peers(&mut server, "192.0.2.9:1", &Announced { info_hash: B, ..LEECHER }).len(), 0);
}

#[test]
fn clients_by_http_and_by_udp_find_each_other() {
    let mut server = server(ProtocolConfig::default());
    announce(&mut server, address("192.0.2.1:1000"), &SEEDER).unwrap();
    let target = format!("/announce?info_hash={}&port=80&left=1", "a".repeat(20));
    let response = ask_from(address("203.0.113.9:1").ip(), &mut server, &target);
    assert!(response.contains("8:completei1e") && response.contains("5:peers6:"), "{response:?}");
    assert_eq!(peers(&mut server, "192.0.2.1:1000", &SEEDER), ["203.0.113.9:80"]);
}

#[test]
fn each_family_is_told_its_own() {
    let mut server = server(ProtocolConfig::default());
    let all = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1"];
    for from in all {
        announce(&mut server, address(from), &LEECHER).unwrap();
    }
    assert_eq!(peers(&mut server, "192.0.2.1:5", &LEECHER), ["192.0.2.2:6881"]);
    assert_eq!(peers(&mut server, "[2001:db8::1]:5", &LEECHER), ["[2001:db8::2]:6881"]);
    // A client by IPv4 at a socket of both families.
    let (_, leechers, _, told) =
        announce(&mut server, address("[::ffff:192.0.2.1]:5"), &LEECHER).unwrap();
    assert_eq!((leechers, told), (4, vec![address("192.0.2.2:6881")]));
}

#[test]
fn the_number_of_peers_is_bounded() {
    let protocol = ProtocolConfig { max_numwant: 500, default_numwant: 20, ..Default::default() };
    let mut server = server(protocol);
    for n in 0..400_u16 {
        let leecher = Announced { port: 1 + n, numwant: 0, ..LEECHER };
        assert_eq!(peers(&mut server, "192.0.2.1:1", &leecher).len(), 0);
        assert_eq!(peers(&mut server, "[2001:db8::1]:1", &leecher).len(), 0);
    }
    for (numwant, v4, v6) in [
        (-1, 20, 20),
        (i32::MIN, 20, 20),
        (0, 0, 0),
        (1, 1, 1),
        (73, 73, 73),
        (74, 74, 73),
        (230, 230, 73),
        (231, 230, 73),
        (i32::MAX, 230, 73),
    ] {
        let leecher = Announced { numwant, ..LEECHER };
        assert_eq!(peers(&mut server, "192.0.2.2:1", &leecher).len(), v4, "of {numwant}");
        assert_eq!(peers(&mut server, "[2001:db8::2]:1", &leecher).len(), v6, "of {numwant}");
    }
}

#[test]
fn events_and_counts() {
    let mut server = server(ProtocolConfig::default());
    let from = address("192.0.2.1:1");
    let counts =
        |complete, incomplete, downloaded| vec![TorrentCounts { complete, incomplete, downloaded }];
    announce(&mut server, from, &Announced { event: STARTED, ..LEECHER }).unwrap();
    assert_eq!(scraped(&mut server, from, &[A]), counts(0, 1, 0));
    for _ in 0..2 {
        announce(&mut server, from, &Announced { event: COMPLETED, ..SEEDER }).unwrap();
        assert_eq!(scraped(&mut server, from, &[A]), counts(1, 0, 1));
    }
    // A client with a magnet link knows of nothing to download yet, and is told of seeders.
    let magnet = Announced { event: STARTED, downloaded: 0, ..SEEDER };
    assert_eq!(peers(&mut server, "192.0.2.2:1", &magnet), ["192.0.2.1:6881"]);
    assert_eq!(peers(&mut server, "192.0.2.2:1", &SEEDER).len(), 0);
    // A peer that leaves gets no peers, and may have no port any more.
    let stopped = Announced { event: STOPPED, port: 0, numwant: 50, ..LEECHER };
    assert_eq!(peers(&mut server, "192.0.2.2:1", &stopped).len(), 0);
    assert_eq!(scraped(&mut server, from, &[A]), counts(2, 0, 1));
    let stopped = Announced { port: 6881, ..stopped };
    assert_eq!(peers(&mut server, "192.0.2.2:1", &stopped).len(), 0);
    assert_eq!(scraped(&mut server, from, &[A, B, A])[0], counts(1, 0, 1)[0]);
}

#[test]
fn scrapes_are_answered_in_order() {
    let mut server = server(ProtocolConfig::default());
    let from = address("[2001:db8::1]:1");
    announce(&mut server, from, &LEECHER).unwrap();
    let (one, none) =
        (TorrentCounts { incomplete: 1, ..Default::default() }, TorrentCounts::default());
    assert_eq!(scraped(&mut server, from, &[B, A, B, A]), [none, one, none, one]);
    assert_eq!(scraped(&mut server, from, &[A; 74]), [one; 74]);
}

#[test]
fn the_bound_of_scrapes_is_told() {
    for (configured, bound) in [(1, 1), (73, 73), (74, 74), (128, 74)] {
        let protocol = ProtocolConfig { max_scrape_torrents: configured, ..Default::default() };
        let mut server = server(protocol);
        let from = address("192.0.2.1:1");
        assert_eq!(scraped(&mut server, from, &vec![A; bound]).len(), bound);
        let connection_id = connect(&mut server, from);
        let over = ask(&mut server, from, &scrape(connection_id, &vec![A; bound + 1])).unwrap();
        let text = error_text(&over).unwrap();
        assert_eq!(text, format!("a scrape may ask for {bound} torrents at most"));
    }
}

#[test]
fn torrents_that_are_not_served() {
    let list = SharedAccessList::new(AccessList::new(vec![B]), false);
    let parts = ServerParts::new(swarms(), ProtocolConfig::default(), 1);
    // Stored while it was served.
    let mut before =
        Server::new(ServerParts::new(Arc::clone(&parts.swarms), ProtocolConfig::default(), 1));
    announce(&mut before, address("192.0.2.1:1"), &Announced { info_hash: B, ..LEECHER }).unwrap();
    let mut server = Server::new(ServerParts { access_list: Some(list.cache()), ..parts });
    let from = address("192.0.2.2:1");
    let refused = announce(&mut server, from, &Announced { info_hash: B, ..LEECHER });
    assert_eq!(refused, Err("this tracker does not serve this torrent".to_owned()));
    announce(&mut server, from, &LEECHER).unwrap();
    let [none, one] = scraped(&mut server, from, &[B, A])[..] else { panic!() };
    assert_eq!((none, one.incomplete), (TorrentCounts::default(), 1));
}

/// `ip` has room for IPv4 only, and counts only where clients may name their address.
#[test]
fn named_addresses() {
    for trusted in [false, true] {
        let protocol = ProtocolConfig { trust_ip_parameters: trusted, ..Default::default() };
        let mut server = server(protocol);
        for (from, ip) in [
            ("192.0.2.1:1", [203, 0, 113, 1]),
            // An address that nobody can reach.
            ("192.0.2.2:1", [224, 0, 0, 1]),
            ("[::ffff:192.0.2.3]:1", [203, 0, 113, 3]),
            ("[2001:db8::1]:1", [203, 0, 113, 4]),
        ] {
            announce(&mut server, address(from), &Announced { ip, ..LEECHER }).unwrap();
        }
        let told = peers(&mut server, "192.0.2.9:1", &LEECHER);
        assert_eq!(
            told,
            match trusted {
                true => ["192.0.2.2:6881", "203.0.113.1:6881", "203.0.113.3:6881"],
                false => ["192.0.2.1:6881", "192.0.2.2:6881", "192.0.2.3:6881"],
            }
        );
        assert_eq!(peers(&mut server, "[2001:db8::9]:1", &LEECHER), ["[2001:db8::1]:6881"]);
    }
}

#[test]
fn private_addresses_are_shown_as_configured() {
    let external_ipv4 = Some([198, 51, 100, 1].into());
    let mut server = server(ProtocolConfig { external_ipv4, ..Default::default() });
    for from in ["10.0.0.1:1", "192.0.2.1:1"] {
        announce(&mut server, address(from), &LEECHER).unwrap();
    }
    assert_eq!(
        peers(&mut server, "192.0.2.2:1", &LEECHER),
        ["192.0.2.1:6881", "198.51.100.1:6881"]
    );
    assert_eq!(peers(&mut server, "10.0.0.2:1", &LEECHER).len(), 3);
}

//! The server without connections: cases that cannot be produced over a socket.

use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use annulus::access_list::{AccessList, SharedAccessList};
use annulus::config::ProtocolConfig;
use annulus::limits::RESPONSE_BYTES_MAX;
use annulus::server::{Server, ServerParts};
use annulus_swarm::{AnnounceRequest, CompactAddr, PeerEvent, Random, Sample, SwarmConfig, Swarms};

use crate::support::server::ask_from;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Swarms with one peer in each of the torrents 'a' and 'b'.
fn swarms() -> Arc<Swarms> {
    let settings = SwarmConfig {
        torrents_max: 10,
        peers_max: 10,
        peers_per_torrent_max: 10,
        peers_per_address_max: 0,
        peer_timeout_s: 1000,
    };
    let swarms = Swarms::new(settings, RandomState::new());
    for letter in *b"ab" {
        let peer = CompactAddr::new(LOCALHOST, 1);
        let request = AnnounceRequest {
            info_hash: [letter; 20],
            peer,
            seeder: true,
            event: PeerEvent::None,
            numwant: 0,
            own_family_only: false,
        };
        let (mut random, mut sample) = (Random::seeded(0), Sample::with_capacity(0));
        swarms.announce(&request, 0, &mut random, &mut sample);
    }
    Arc::new(swarms)
}

fn fetch(server: &mut Server, target: &str) -> String {
    ask_from(LOCALHOST, server, target)
}

/// Before the sweep has removed it.
#[test]
fn a_stored_torrent_that_is_not_served_is_hidden() {
    let [a, b] = ["a", "b"].map(|letter| letter.repeat(20));
    let scrape = format!("/scrape?info_hash={a}&info_hash={b}");
    let file = |hash: &str, seeders| format!("20:{hash}d8:completei{seeders}e10:downloadedi0e");
    for denied in [None, Some(b'a'), Some(b'b')] {
        let list = AccessList::new(denied.map(|letter| [letter; 20]).into_iter().collect());
        let protocol = ProtocolConfig { full_scrape: true, ..ProtocolConfig::default() };
        let access_list = Some(SharedAccessList::new(list, false).cache());
        let parts = ServerParts::new(swarms(), protocol, 1);
        let mut server = Server::new(ServerParts { access_list, ..parts });
        let scraped = fetch(&mut server, &scrape);
        fetch(&mut server, "/scrape");
        let mut scrape = server.begin_full_scrape();
        let mut chunk = vec![0; RESPONSE_BYTES_MAX];
        let mut full = String::new();
        loop {
            let (len, more) = server.write_scrape_chunk(&mut scrape, &mut chunk);
            full += str::from_utf8(&chunk[..len]).expect("letters only");
            if !more {
                break;
            }
        }
        for hash in [&a, &b] {
            let is_served = denied != Some(hash.as_bytes()[0]);
            assert!(scraped.contains(&file(hash, u8::from(is_served))), "{scraped}");
            assert_eq!(full.contains(&file(hash, 1)), is_served, "{full}");
        }
    }
}

/// A connection may come from a link-local IPv6 address, which is not given to other clients.
#[test]
fn an_unreachable_client_is_refused() {
    let target = format!("/announce?info_hash={}&port=1", "a".repeat(20));
    for trusted in [false, true] {
        let protocol = ProtocolConfig { trust_ip_parameters: trusted, ..ProtocolConfig::default() };
        let mut server = Server::new(ServerParts::new(swarms(), protocol, 1));
        let client = "fe80::1".parse().unwrap();
        let failed = ask_from(client, &mut server, &target);
        assert!(failed.contains("nobody can reach"), "{failed}");
        // Unless it is allowed to name a reachable address, and does.
        let told = ask_from(client, &mut server, &format!("{target}&ip=2001:db8::1"));
        assert_eq!(told.contains("nobody can reach"), !trusted, "{told}");
    }
}

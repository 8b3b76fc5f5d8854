//! Swarms filled by calls, without a server.

use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr};

use annulus_swarm::{AnnounceRequest, CompactAddr, PeerEvent, SwarmConfig, Swarms};

/// Peers wanted by a client that does not say.
pub const NUMWANT: u32 = 50;

/// The announce of a client for a torrent, the same each time; every third client seeds.
pub fn announce_request(torrent: u32, client: u32, numwant: u32) -> AnnounceRequest {
    let mut info_hash = [0x5a; 20];
    info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
    let [a, b, c, d] = client.to_be_bytes();
    let ip = Ipv4Addr::new(10 + a, b, c, d);
    AnnounceRequest {
        info_hash,
        peer: CompactAddr::new(IpAddr::V4(ip), 6881),
        seeder: client.is_multiple_of(3),
        event: PeerEvent::None,
        numwant,
        own_family_only: false,
    }
}

/// Swarms that take everything.
pub fn unbounded(peer_timeout_s: u32) -> Swarms {
    let config = SwarmConfig {
        torrents_max: u64::MAX,
        peers_max: u64::MAX,
        peers_per_torrent_max: u32::MAX,
        peers_per_address_max: 16,
        peer_timeout_s,
    };
    Swarms::new(config, RandomState::new())
}

//! The announces that fill the tables of the benches.

use std::net::{IpAddr, Ipv4Addr};

use annulus_swarm::{AnnounceRequest, CompactAddr, PeerEvent};

/// The announce of a client for a torrent, the same each time; every third client seeds.
pub(crate) fn announcement(torrent: u32, client: u32, numwant: u32) -> AnnounceRequest {
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
    }
}

//! The swarms that this tracker begins with in the rows for large ones: a million torrents with ten
//! million peers, by the same law of Zipf as the load has: the most popular torrent has 700,000
//! peers, and a third of them have one.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use annulus_swarm::{AnnounceRequest, CompactAddr, PeerEvent, Random, Sample, Swarms};

use crate::scratch;
use crate::swarms::unbounded;
use crate::torrents::{SwarmSize, info_hash, mix};

/// Peers of the most popular torrent. A torrent has so many, divided by its rank, but one at least:
/// ten million in all, less 91.
const MOST_PEERS: u64 = 712_529;

/// The first address of a peer; each has its own.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 0);

/// The timeout that this tracker has by default: with it ages are read as they were written.
const PEER_TIMEOUT_S: u32 = 2700;

/// The state file, which the benchmark has to write: what writes it is not of this package.
pub fn state_file() -> PathBuf {
    scratch("large.state")
}

/// The swarms to write.
pub fn swarms() -> Swarms {
    let swarms = unbounded(PEER_TIMEOUT_S);
    let (mut random, mut sample) = (Random::seeded(1), Sample::with_capacity(0));
    let mut number = 0;
    for torrent in 0..SwarmSize::Large.torrents() {
        let info_hash = info_hash(torrent);
        for _ in 0..(MOST_PEERS / (torrent + 1)).max(1) {
            let ip = Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + number);
            let request = AnnounceRequest {
                info_hash,
                peer: CompactAddr::new(IpAddr::V4(ip), 6881),
                seeder: mix(number.into()).is_multiple_of(2),
                event: PeerEvent::None,
                numwant: 0,
                own_family_only: false,
            };
            swarms.announce(&request, 0, &mut random, &mut sample);
            number += 1;
        }
    }
    assert_eq!(swarms.totals().peers, u64::from(number));
    swarms
}

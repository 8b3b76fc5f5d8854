//! Announces that will be answered soon: the memory that they need of the swarms is fetched
//! beforehand, for many at once. They are not checked yet, and may be refused.

use std::net::SocketAddr;

use annulus_parser::{DatagramQuery, DatagramRequest, parse_datagram};
use annulus_swarm::CompactAddr;

use super::Server;

impl Server {
    /// Whether the swarms have so many peers.
    pub fn has_peers(&self, peers: u64) -> bool {
        self.swarms.totals().peers >= peers
    }

    /// Notes the announce in a datagram from `from`, if it has one.
    pub fn expect_datagram(&mut self, from: SocketAddr, request: &[u8]) {
        if let Ok(DatagramRequest::Identified { query, .. }) = parse_datagram(request)
            && let Ok(DatagramQuery::Announce(announce)) = query
        {
            let ip = self.named_address(from.ip().to_canonical(), announce.ip);
            let peer = CompactAddr::new(ip, announce.port);
            self.expected.push(announce.info_hash, Some(peer));
        }
    }

    /// Has fetched what the announces noted since the last call will need.
    pub fn prefetch(&mut self) {
        self.swarms.prefetch(&mut self.expected);
    }
}

//! Announces that will be answered soon: the memory that they need of the swarms is fetched
//! beforehand, for many at once. They are not checked yet, and may be refused.

use std::net::{IpAddr, SocketAddr};

use annulus_parser::{DatagramQuery, DatagramRequest, Query, parse_datagram, scrape_hashes};
use annulus_swarm::{CompactAddr, InfoHash};

use super::Server;

/// Bytes that a path may have before the query, a passkey included.
const PATH_BYTES_MAX: usize = 96;

/// Bytes of a query in which the first info hash is looked for. Clients send it first.
const QUERY_BYTES_MAX: usize = 192;

impl Server {
    /// Whether the swarms had so many peers when this second began.
    pub fn has_peers(&self, peers: u64) -> bool {
        self.peers >= peers
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

    /// Notes the announce that plaintext of the client at `from` begins with, if it has one.
    pub fn expect_plaintext(&mut self, from: Option<IpAddr>, received: &[u8]) {
        if let Some(info_hash) = first_info_hash(received) {
            // Its port may matter only if the address may have any number of peers in a swarm.
            let peer = from.map(|ip| CompactAddr::new(ip, 0));
            self.expected.push(info_hash, peer);
        }
    }

    /// Has fetched what the announces noted since the last call will need.
    pub fn prefetch(&mut self) {
        self.swarms.prefetch(&mut self.expected);
    }
}

/// The first info hash of the query that a GET request begins with.
fn first_info_hash(request: &[u8]) -> Option<InfoHash> {
    let target = request.strip_prefix(b"GET ")?;
    let path = &target[..target.len().min(PATH_BYTES_MAX)];
    let query = &target[path.iter().position(|&byte| byte == b'?')? + 1..];
    scrape_hashes(Query::new(&query[..query.len().min(QUERY_BYTES_MAX)])).next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_info_hash_of_a_request_is_found() {
        let hash = "%1b%9e%f0%a2%e5%0e%8c%c7Wm%ab%d8%a9r%06%ddZU%b6%40";
        let decoded = *b"\x1b\x9e\xf0\xa2\xe5\x0e\x8c\xc7Wm\xab\xd8\xa9r\x06\xddZU\xb6\x40";
        for request in [
            format!("GET /announce?info_hash={hash}&port=1 HTTP/1.1\r\n\r\n"),
            format!("GET /0123456789abcdef/announce?port=1&info_hash={hash} HTTP/1.1\r\n\r\n"),
            format!("GET /announce?info_hash={hash}&left=0&info_hash=x"),
        ] {
            assert_eq!(first_info_hash(request.as_bytes()), Some(decoded), "{request}");
        }
        for request in ["", "GET ", "GET /", "GET /?", "GET /a?info_hash=%1", "POST /?info_hash=1"]
        {
            assert_eq!(first_info_hash(request.as_bytes()), None, "{request}");
        }
    }
}

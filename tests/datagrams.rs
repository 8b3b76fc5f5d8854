//! The server without sockets: what a datagram is answered with (BEP 15), and whether at all.

mod refused;
mod served;

use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;

use annulus::config::ProtocolConfig;
use annulus::metrics::labels::DatagramDrop;
use annulus::server::{Server, ServerParts};
use annulus_ring::REPLY_BYTES_MAX;
use annulus_swarm::{SwarmConfig, Swarms, TorrentCounts};

const MAGIC: u64 = 0x0417_2710_1980;
const TRANSACTION: u32 = 0x0a0b_0c0d;

const A: [u8; 20] = [b'a'; 20];
const B: [u8; 20] = [b'b'; 20];

const NONE: u32 = 0;
const COMPLETED: u32 = 1;
const STARTED: u32 = 2;
const STOPPED: u32 = 3;

fn swarms() -> Arc<Swarms> {
    let config = SwarmConfig {
        torrents_max: 100,
        peers_max: 10_000,
        peers_per_torrent_max: 10_000,
        peers_per_address_max: 0,
        peer_timeout_s: 1000,
    };
    Arc::new(Swarms::new(config, RandomState::new()))
}

fn server(protocol: ProtocolConfig) -> Server {
    Server::new(ServerParts::new(swarms(), protocol, 1))
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// What a client announces; the rest of an announce does not matter here.
#[derive(Clone, Copy, Debug)]
struct Announced {
    info_hash: [u8; 20],
    downloaded: u64,
    left: u64,
    event: u32,
    ip: [u8; 4],
    numwant: i32,
    port: u16,
}

const LEECHER: Announced = Announced {
    info_hash: A,
    downloaded: 5,
    left: 7,
    event: NONE,
    ip: [0; 4],
    numwant: -1,
    port: 6881,
};
const SEEDER: Announced = Announced { left: 0, ..LEECHER };

fn header(connection_id: u64, action: u32) -> Vec<u8> {
    let (action, transaction) = (action.to_be_bytes(), TRANSACTION.to_be_bytes());
    [&connection_id.to_be_bytes()[..], &action, &transaction].concat()
}

impl Announced {
    fn encode(&self, connection_id: u64) -> Vec<u8> {
        let mut out = header(connection_id, 1);
        out.extend(self.info_hash);
        out.extend(b"-XX0000-123456789012");
        [self.downloaded, self.left, 3].iter().for_each(|number| out.extend(number.to_be_bytes()));
        out.extend(self.event.to_be_bytes());
        out.extend(self.ip);
        out.extend(77_u32.to_be_bytes());
        out.extend(self.numwant.to_be_bytes());
        out.extend(self.port.to_be_bytes());
        out
    }
}

fn scrape(connection_id: u64, hashes: &[[u8; 20]]) -> Vec<u8> {
    [&header(connection_id, 2)[..], hashes.as_flattened()].concat()
}

fn ask(server: &mut Server, from: SocketAddr, request: &[u8]) -> Result<Vec<u8>, DatagramDrop> {
    let mut out = [0xee; REPLY_BYTES_MAX];
    let len = server.answer_datagram(from, request, &mut out)?;
    assert!(out[len..].iter().all(|&byte| byte == 0xee), "written behind the end");
    Ok(out[..len].to_vec())
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

fn connect(server: &mut Server, from: SocketAddr) -> u64 {
    let reply = ask(server, from, &header(MAGIC, 0)).expect("a connect is answered");
    assert_eq!(reply.len(), 16);
    assert_eq!((number(&reply[..4]), number(&reply[4..8])), (0, TRANSACTION));
    u64::from_be_bytes(reply[8..].try_into().expect("eight bytes"))
}

/// The reply to an announce: interval, leechers, seeders and peers, or the text of an error.
fn announce(
    server: &mut Server,
    from: SocketAddr,
    announced: &Announced,
) -> Result<(u32, u32, u32, Vec<SocketAddr>), String> {
    let connection_id = connect(server, from);
    let reply = ask(server, from, &announced.encode(connection_id)).expect("it is answered");
    assert_eq!(number(&reply[4..8]), TRANSACTION);
    if let Some(text) = error_text(&reply) {
        return Err(text);
    }
    assert_eq!(number(&reply[..4]), 1);
    let peers = if from.ip().to_canonical().is_ipv4() {
        let (peers, rest) = reply[20..].as_chunks::<6>();
        assert!(rest.is_empty());
        let read = |&[a, b, c, d, high, low]: &[u8; 6]| {
            SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))
        };
        peers.iter().map(read).collect()
    } else {
        let (peers, rest) = reply[20..].as_chunks::<18>();
        assert!(rest.is_empty());
        let read = |peer: &[u8; 18]| {
            let ip: [u8; 16] = peer[..16].try_into().expect("16 bytes");
            SocketAddr::from((ip, u16::from_be_bytes([peer[16], peer[17]])))
        };
        peers.iter().map(read).collect()
    };
    Ok((number(&reply[8..12]), number(&reply[12..16]), number(&reply[16..20]), peers))
}

/// The peers of a reply, in order.
fn peers(server: &mut Server, from: &str, announced: &Announced) -> Vec<String> {
    let (.., peers) = announce(server, address(from), announced).expect("no error");
    let mut peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
    peers.sort();
    peers
}

fn error_text(reply: &[u8]) -> Option<String> {
    let text = (number(&reply[..4]) == 3).then(|| String::from_utf8(reply[8..].to_vec()));
    assert_eq!(number(&reply[4..8]), TRANSACTION);
    text.map(|text| text.expect("text"))
}

/// The counts of a scrape of these torrents.
fn scraped(server: &mut Server, from: SocketAddr, hashes: &[[u8; 20]]) -> Vec<TorrentCounts> {
    let connection_id = connect(server, from);
    let reply = ask(server, from, &scrape(connection_id, hashes)).expect("it is answered");
    assert_eq!((number(&reply[..4]), number(&reply[4..8])), (2, TRANSACTION));
    let (torrents, rest) = reply[8..].as_chunks::<12>();
    assert!(rest.is_empty() && torrents.len() == hashes.len());
    let read = |counts: &[u8; 12]| TorrentCounts {
        complete: number(&counts[..4]),
        downloaded: number(&counts[4..8]),
        incomplete: number(&counts[8..]),
    };
    torrents.iter().map(read).collect()
}

//! The swarms: who shares what. Announces and scrapes come in as plain values, counts and
//! compact peers go out; nothing here knows of HTTP, sockets, clocks or threads. The time, in
//! seconds since the process began, and randomness are arguments.
//!
//! All workers share one [`Swarms`] (`table.rs`). It is many small tables behind a lock each
//! (`shard.rs`), so that two workers seldom meet and no table is ever large; a torrent has its
//! peers in the smallest form that holds them (`peers.rs`), each form a partitioned array of
//! rows (`population.rs`); an answer is a [`Sample`] copied out under the lock; old peers go in
//! slices (`sweep.rs`). No operation takes longer because a table or a swarm is large, except
//! that memory is further away.
//!
//! The keys are chosen by strangers, so every hash is keyed with a secret of the process: nobody
//! can find info hashes or addresses that meet in one place.

mod address_policy;
mod chunked_vec;
mod eviction;
mod indexed_peers;
mod inline_peers;
mod peer_index;
mod peer_store;
mod peers;
mod random;
mod ranking;
mod sample;
mod scan;
mod scrape_cursor;
mod shard;
mod stats;
mod sweep;
mod table;
mod time;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;

pub use random::Random;
pub use ranking::{RankBy, Ranking};
pub use sample::Sample;
pub use scrape_cursor::ScrapeCursor;
pub use stats::{PeerCounts, SwarmStats};
pub use sweep::{Sweep, SweepStatus};
pub use table::Swarms;

/// Torrents that may be configured at most: what the tables hold, less a margin for the fullest of
/// their shards. They would take some 8 GB.
pub const TORRENTS_MAX: usize = 100_000_000;

/// The SHA-1 of a torrent's info dictionary (BEP 3), or the first 20 bytes of its SHA-256
/// (BEP 52).
pub type InfoHash = [u8; 20];

/// A peer's address in the compact form that goes on the wire, in network byte order. It is all
/// there is to a peer's identity: who announces from elsewhere is someone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompactAddr {
    /// 4 bytes of address, 2 of port (BEP 23).
    V4([u8; 6]),
    /// 16 bytes of address, 2 of port (BEP 7).
    V6([u8; 18]),
}

impl CompactAddr {
    /// The peer at `ip` and `port`. An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) is
    /// the IPv4 address that a dual-stack socket made it of.
    pub fn new(ip: IpAddr, port: u16) -> CompactAddr {
        let [port_high, port_low] = port.to_be_bytes();
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                CompactAddr::V4([a, b, c, d, port_high, port_low])
            }
            IpAddr::V6(ip) => {
                let mut bytes = [0; 18];
                bytes[..16].copy_from_slice(&ip.octets());
                bytes[16..].copy_from_slice(&[port_high, port_low]);
                CompactAddr::V6(bytes)
            }
        }
    }
}

/// What an announce reports beside its being there (BEP 3, `event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// Nothing, or what changes nothing here: `started` is like any other announce, but for
    /// [`PeerEvent::Magnet`].
    None,
    /// A client has begun with a magnet link and does not know yet what there is to have: some
    /// call themselves seeders then. It is told of seeders all the same, or it would get nobody
    /// in a swarm of seeders.
    Magnet,
    /// The download has just been completed.
    Completed,
    /// The peer leaves.
    Stopped,
}

/// One announce, as far as it concerns the swarm.
#[derive(Clone, Copy, Debug)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Who announces.
    pub peer: CompactAddr,
    /// Whether the peer has everything (BEP 3: `left` is 0).
    pub seeder: bool,
    /// What it reports.
    pub event: PeerEvent,
    /// How many peers it wants at most.
    pub numwant: u32,
}

/// What is known of one torrent, over both address families; zeros if it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TorrentCounts {
    /// Seeders.
    pub complete: u32,
    /// Leechers.
    pub incomplete: u32,
    /// Downloads reported as completed since the torrent became known, once for each peer that
    /// became a seeder by it. It does not go beyond `u32::MAX`, and is lost with the torrent.
    pub downloaded: u32,
}

/// The bounds of the tables. Who comes when one is reached is answered like anybody, but not
/// stored, unless something else is to go for it; who is stored goes on to be.
#[derive(Clone, Copy, Debug)]
pub struct SwarmConfig {
    /// Torrents in all. There is room for 117 million whatever is set here. One more takes the
    /// place of one that has one peer that has announced once, drawn at random, if there is such.
    pub torrents_max: u64,
    /// Peers in all; one that is in two swarms counts twice.
    pub peers_max: u64,
    /// Peers of one torrent.
    pub peers_per_torrent_max: u32,
    /// Endpoints that one IPv4 address, or one IPv6 /64, has in one torrent; 0 is any number.
    /// One more takes the place of the one of them that announced the longest ago. Addresses of
    /// private networks and of the host itself are not limited.
    pub peers_per_address_max: u32,
    /// Seconds after its last announce in which a peer is surely kept. It is surely gone after
    /// 1.35 times that and a few seconds, if the sweep is called for often enough.
    pub peer_timeout_s: u32,
}

/// Which of the bounds left no room for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapacityError {
    /// [`SwarmConfig::torrents_max`]: it is the first of its torrent.
    Torrents,
    /// [`SwarmConfig::peers_max`].
    Peers,
    /// [`SwarmConfig::peers_per_torrent_max`].
    PeersPerTorrent,
}

/// What had to go so that a peer could be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Another endpoint of its address: see [`SwarmConfig::peers_per_address_max`].
    Peer,
    /// A torrent with one peer that has announced once: see [`SwarmConfig::torrents_max`].
    Torrent,
}

/// What there is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Torrents, a few without peers included whose `downloaded` is still remembered.
    pub torrents: u64,
    /// Peers of all torrents; one that is in two swarms counts twice.
    pub peers: u64,
}

/// SipHash of bytes of one fixed length, under a key that nobody outside knows.
fn keyed_hash(secret: &RandomState, bytes: &[u8]) -> u64 {
    let mut hasher = secret.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

//! In-memory tables of a BitTorrent tracker: which peers share which torrent. Announces and scrapes
//! come in as plain values; counts and compact peers go out. The crate does not know HTTP, sockets,
//! threads or clocks: the time, in seconds since the process began, and randomness are arguments.
//!
//! All workers share one [`Swarms`] (`table.rs`). It consists of many small tables, each behind its
//! own lock (`shard.rs`), so that two workers rarely want the same lock and no table is large. A
//! torrent keeps its peers in the smallest representation that holds them (`peers.rs`), each of
//! which is an array of rows with the seeders first (`peer_store.rs`). An announce copies a
//! [`Sample`] of peers out under the lock. What the next announces will need of the memory can be
//! fetched for all of them at once (`batch.rs`). Expired peers are removed in slices of bounded
//! work (`sweep.rs`). No operation takes longer because a table or a swarm is large, except for
//! cache misses.
//!
//! For a restart and for other nodes, the tables are written as entries (`entry.rs`) in small steps
//! (`snapshot.rs`) and merged into others (`restore.rs`); single announces are passed on as updates
//! (`update.rs`).
//!
//! Clients choose the keys, so every hash is keyed with a secret of the process: nobody can find
//! info hashes or addresses that collide.
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")
)]
#![deny(unsafe_code)]

mod address_policy;
mod announce;
mod batch;
mod capacity;
mod chunked_vec;
mod entry;
mod eviction;
mod indexed_peers;
mod inline_peers;
mod lock;
mod peer_index;
mod peer_store;
mod peers;
mod prefetch;
mod random;
mod ranking;
mod restore;
mod sample;
mod scan;
mod scrape_cursor;
mod shard;
mod snapshot;
mod stats;
mod store;
mod sweep;
mod table;
mod time;
mod torrent_index;
mod update;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;

pub use batch::{AnnounceBatch, BATCH_MAX};
pub use entry::{Entries, EntryError, EntryPeer, TorrentEntry};
pub use lock::LockObserver;
pub use random::Random;
pub use ranking::{RankBy, Ranking};
pub use restore::{Ages, Restored};
pub use sample::Sample;
pub use scrape_cursor::ScrapeCursor;
pub use snapshot::{ENTRY_BYTES_MAX, SnapshotCursor};
pub use stats::{PeerCounts, SwarmStats};
pub use sweep::{Sweep, SweepStatus};
pub use table::Swarms;
pub use update::{Applied, PeerUpdate, UpdateOrder};

/// The most torrents that may be configured: what the tables hold, less a margin because shards
/// fill unevenly. They would take about 8 GB.
pub const TORRENTS_MAX: usize = 100_000_000;

/// The SHA-1 of a torrent's info dictionary (BEP 3), or the first 20 bytes of its SHA-256
/// (BEP 52).
pub type InfoHash = [u8; 20];

/// A peer's address in the compact form that goes on the wire, in network byte order. It identifies
/// the peer: the same client at another address or port is another peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompactAddr {
    /// 4 bytes of address, 2 of port (BEP 23).
    V4([u8; 6]),
    /// 16 bytes of address, 2 of port (BEP 7).
    V6([u8; 18]),
}

impl CompactAddr {
    /// An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) becomes the IPv4 address that a
    /// dual-stack socket made it from.
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

/// The `event` of an announce (BEP 3), as far as the tables care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// No event, or `started`, which is handled the same unless it is [`PeerEvent::Magnet`].
    None,
    /// A client that started from a magnet link and does not know the torrent's size yet. Some
    /// report nothing left to download, which makes them look like seeders. Its answer names
    /// seeders all the same: in a swarm of seeders it would otherwise get no peers.
    Magnet,
    /// The download has just been completed.
    Completed,
    /// The peer leaves.
    Stopped,
}

/// One announce, as far as it concerns the swarm.
#[derive(Clone, Copy, Debug)]
pub struct AnnounceRequest {
    pub info_hash: InfoHash,
    /// The peer that announces itself.
    pub peer: CompactAddr,
    /// Whether the peer has everything (BEP 3: `left` is 0).
    pub seeder: bool,
    pub event: PeerEvent,
    /// The most peers that the answer may name.
    pub numwant: u32,
    /// Whether the answer names peers of the announcing peer's address family only.
    pub own_family_only: bool,
}

/// The counts that a scrape reports for one torrent, over both address families; zeros for an
/// unknown torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TorrentCounts {
    /// Seeders.
    pub complete: u32,
    /// Leechers.
    pub incomplete: u32,
    /// Downloads reported as completed since the torrent became known, once for each peer that
    /// became a seeder by it. Saturates at `u32::MAX`, and is lost with the torrent.
    pub downloaded: u32,
}

/// The bounds of the tables. When one is reached, a new peer still gets an answer but is not
/// stored, unless another peer or torrent is removed for it. Peers that are stored already stay.
#[derive(Clone, Copy, Debug)]
pub struct SwarmConfig {
    /// Torrents in all; the tables have room for 117 million. A new torrent beyond the bound
    /// replaces a random unconfirmed one (one peer, which has announced once), if there is one.
    pub torrents_max: u64,
    /// Peers in all; a peer in two swarms counts twice.
    pub peers_max: u64,
    /// Peers of one torrent.
    pub peers_per_torrent_max: u32,
    /// Peers (ports) that one IPv4 address, or one IPv6 /64, may have in one torrent; 0 is no
    /// limit. A new one beyond the limit replaces the one whose last announce is the oldest.
    /// Private and loopback addresses are not limited.
    pub peers_per_address_max: u32,
    /// A peer is kept for at least this many seconds after its last announce, and removed at most
    /// 1.35 times that and a few seconds later, if the sweep is called often enough.
    pub peer_timeout_s: u32,
}

/// Which bound left no room for a new peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapacityError {
    /// [`SwarmConfig::torrents_max`]; the peer is the first of its torrent.
    Torrents,
    /// [`SwarmConfig::peers_max`].
    Peers,
    /// [`SwarmConfig::peers_per_torrent_max`].
    PeersPerTorrent,
}

/// What was removed so that a new peer could be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Another peer of the same address ([`SwarmConfig::peers_per_address_max`]).
    Peer,
    /// An unconfirmed torrent ([`SwarmConfig::torrents_max`]).
    Torrent,
}

/// The present number of torrents and peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Includes the few torrents without peers whose `downloaded` is still remembered.
    pub torrents: u64,
    /// A peer in two swarms counts twice.
    pub peers: u64,
}

/// SipHash under a key that nobody outside of the process knows; all `bytes` have one length.
fn keyed_hash(secret: &RandomState, bytes: &[u8]) -> u64 {
    let mut hasher = secret.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

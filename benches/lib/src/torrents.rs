//! The torrents and peers of the load.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

/// Torrents that the timed load announces, and its different announces, each of a peer of its own.
pub const LOAD_TORRENTS: u64 = 10_000;
pub const LOAD_ANNOUNCES: u64 = 60_000;
/// The same by UDP, in the same torrents: a response names 43 peers on average.
pub const UDP_ANNOUNCES: u64 = 500_000;

/// The same by HTTP and by UDP with [`SwarmSize::Large`]: more than processors' caches hold.
const LARGE_TORRENTS: u64 = 1_000_000;
const LARGE_ANNOUNCES: u64 = 300_000;

/// What a server holds while it is measured, and how many torrents the load announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwarmSize {
    /// What the load announces.
    Usual,
    /// Ten million peers of a million torrents besides, of [`crate::large`].
    Large,
}

impl SwarmSize {
    pub fn torrents(self) -> u64 {
        if self == SwarmSize::Usual { LOAD_TORRENTS } else { LARGE_TORRENTS }
    }

    /// Different announces of the load.
    pub fn announces(self, by_udp: bool) -> u64 {
        match self {
            SwarmSize::Usual if by_udp => UDP_ANNOUNCES,
            SwarmSize::Usual => LOAD_ANNOUNCES,
            SwarmSize::Large => LARGE_ANNOUNCES,
        }
    }
}

/// The torrent of the checks, which the load does not announce.
pub const CHECK_TORRENT: u64 = u64::MAX;

/// The info hash of a torrent: 20 bytes without a pattern.
pub fn info_hash(torrent: u64) -> [u8; 20] {
    let mut hash = [0; 20];
    for (part, bytes) in (0..).zip(hash.chunks_mut(8)) {
        let random = mix(torrent.wrapping_mul(3).wrapping_add(part)).to_be_bytes();
        bytes.copy_from_slice(&random[..bytes.len()]);
    }
    hash
}

/// An announce as clients write it, with every byte of the info hash escaped. `query` follows its
/// other parameters, `headers` are whole lines.
pub fn announce(torrent: u64, peer: u64, query: &str, headers: &str) -> String {
    let mut hash = String::with_capacity(60);
    for byte in info_hash(torrent) {
        let _ = write!(hash, "%{byte:02x}");
    }
    format!(
        "GET /announce?info_hash={hash}&peer_id=-LT2080-{peer:012}&uploaded=0&downloaded=0&{query}\
         &compact=1 HTTP/1.1\r\nHost: tracker\r\n{headers}\r\n"
    )
}

/// Writes the first `count` info hashes in hexadecimal, one a line, and that of the checks last:
/// what the load testers read and what opentracker takes as its whitelist.
pub fn write_list(file: &Path, count: u64) -> io::Result<()> {
    let mut list = String::with_capacity(count as usize * 41 + 41);
    for torrent in (0..count).chain([CHECK_TORRENT]) {
        for byte in info_hash(torrent) {
            let _ = write!(list, "{byte:02X}");
        }
        list.push('\n');
    }
    fs::write(file, list)
}

/// A well spread number for each number (the finaliser of SplitMix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

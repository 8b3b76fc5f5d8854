//! The torrents of the load: one list for everyone who needs to know them.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

/// Torrents that the timed load announces.
pub(crate) const LOAD_TORRENTS: u64 = 10_000;

/// The torrent of the checks, which the load does not announce.
pub(crate) const CHECK_TORRENT: u64 = u64::MAX;

/// The info hash of a torrent: 20 bytes without a pattern.
pub(crate) fn info_hash(torrent: u64) -> [u8; 20] {
    let mut hash = [0; 20];
    for (part, bytes) in (0..).zip(hash.chunks_mut(8)) {
        let random = spread(torrent.wrapping_mul(3).wrapping_add(part)).to_be_bytes();
        bytes.copy_from_slice(&random[..bytes.len()]);
    }
    hash
}

/// An info hash with every byte escaped, as some clients do.
pub(crate) fn escaped(hash: &[u8; 20]) -> String {
    let mut text = String::with_capacity(60);
    for byte in hash {
        let _ = write!(text, "%{byte:02x}");
    }
    text
}

/// Writes the first `count` info hashes in hexadecimal, one a line, and that of the checks
/// last: what `announce.lua` reads and what opentracker takes as its whitelist.
///
/// # Errors
///
/// Those of the file.
pub(crate) fn write_list(file: &Path, count: u64) -> io::Result<()> {
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
pub(crate) fn spread(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

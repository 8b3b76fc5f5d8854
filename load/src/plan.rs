//! What a run announces: torrents, and peers in them. All of it follows from the seed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;

use crate::options::{LoadOptions, parse_sources};
use crate::popularity::TorrentPicker;
use crate::random::SeededRandom;

/// The 20 bytes that identify a torrent (BEP 3).
pub type LoadInfoHash = [u8; 20];

/// The lowest port of a peer.
const PORT_FIRST: u16 = 1025;

/// How many ports peers have. It is prime, so that addresses and ports, both taken in turn, are
/// combined in every way before a combination repeats.
const PORTS: u32 = 64_499;

/// A peer in one torrent.
#[derive(Clone, Copy, Debug)]
pub struct PlannedPeer {
    /// Index of its torrent.
    pub torrent: u32,
    pub seeder: bool,
}

pub struct LoadPlan {
    /// The most popular first.
    hashes: Vec<LoadInfoHash>,
    /// The hashes as they are in a URL, one after the other, and where each begins.
    encoded: Vec<u8>,
    starts: Vec<u32>,
    peers: Vec<PlannedPeer>,
    /// The addresses of peers, from the first on, and how many are used.
    sources: Option<(IpNet, u32)>,
}

impl LoadPlan {
    pub fn new(options: &LoadOptions) -> Result<LoadPlan, String> {
        let mut random = SeededRandom::new(options.seed);
        let hashes = match options.torrents_file.as_str() {
            "" => (0..options.torrents).map(|_| random_hash(&mut random)).collect(),
            path => read_hashes(Path::new(path))?,
        };
        let mut encoded = Vec::with_capacity(hashes.len() * 50);
        let mut starts = Vec::with_capacity(hashes.len() + 1);
        for hash in &hashes {
            starts.push(encoded.len() as u32);
            encode(hash, &mut encoded);
        }
        starts.push(u32::try_from(encoded.len()).map_err(|_| "too many torrents")?);
        let picker = TorrentPicker::new(options, hashes.len() as u32);
        let peer = |_| PlannedPeer {
            torrent: picker.pick(&mut random),
            seeder: u64::from(random.below(100)) < options.seeders,
        };
        let peers = (0..options.peers).map(peer).collect();
        let sources = parse_sources(&options.sources)?.map(|range| {
            let count = range_size(range).min(u128::from(options.peers));
            (range, count as u32)
        });
        Ok(LoadPlan { hashes, encoded, starts, peers, sources })
    }

    /// How many peers there are, at least one.
    pub fn peers(&self) -> u32 {
        self.peers.len() as u32
    }

    /// Peer number `at`, modulo their count.
    pub fn peer(&self, at: u32) -> PlannedPeer {
        self.peers[at as usize % self.peers.len()]
    }

    /// The torrents of this peer and those after it: what a scrape of `count` torrents asks for.
    pub fn torrents_from(&self, peer: u32, count: u32) -> impl Iterator<Item = u32> {
        (0..count).map(move |more| self.peer(peer.wrapping_add(more)).torrent)
    }

    pub fn port(&self, peer: u32) -> u16 {
        PORT_FIRST + (peer % PORTS) as u16
    }

    /// How many addresses peers connect from, if the kernel does not choose it.
    pub fn sources(&self) -> u32 {
        self.sources.map_or(0, |(_, count)| count)
    }

    /// The address that a peer connects from; `None` leaves it to the kernel.
    pub fn source(&self, peer: u32) -> Option<IpAddr> {
        let (range, count) = self.sources?;
        // The first address of a network is not a host's: it is skipped if there are enough.
        let skipped = u128::from(range_size(range) > u128::from(count));
        let at = u128::from(peer % count) + skipped;
        Some(match range.network() {
            IpAddr::V4(first) => Ipv4Addr::from(first.to_bits() + at as u32).into(),
            IpAddr::V6(first) => Ipv6Addr::from(first.to_bits() + at).into(),
        })
    }

    /// Whether a peer can be one of this plan; `local` is their address if there are no sources.
    pub fn contains(&self, peer: SocketAddr, local: Option<IpAddr>) -> bool {
        let ports = PORTS.min(self.peers());
        let port = peer.port().checked_sub(PORT_FIRST).is_some_and(|at| u32::from(at) < ports);
        port && match self.sources {
            Some((range, _)) => range.contains(&peer.ip()),
            None => local == Some(peer.ip()),
        }
    }

    pub fn hash(&self, torrent: u32) -> &LoadInfoHash {
        &self.hashes[torrent as usize]
    }

    /// The info hash of a torrent as it is in a URL.
    pub fn encoded(&self, torrent: u32) -> &[u8] {
        let [from, to] = [0, 1].map(|more| self.starts[torrent as usize + more] as usize);
        &self.encoded[from..to]
    }
}

/// How many addresses a range has; `u128::MAX` for all of IPv6.
fn range_size(range: IpNet) -> u128 {
    let bits = range.max_prefix_len() - range.prefix_len();
    1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX)
}

fn random_hash(random: &mut SeededRandom) -> LoadInfoHash {
    let mut hash = LoadInfoHash::default();
    for part in hash.chunks_mut(8) {
        part.copy_from_slice(&random.bits().to_le_bytes()[..part.len()]);
    }
    hash
}

/// Like Transmission: lower-case digits, and the unreserved characters of RFC 3986 as they are.
fn encode(hash: &LoadInfoHash, into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in hash {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => into.push(byte),
            _ => into.extend([b'%', DIGITS[byte as usize >> 4], DIGITS[byte as usize & 15]]),
        }
    }
}

fn read_hashes(path: &Path) -> Result<Vec<LoadInfoHash>, String> {
    let name = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let mut hashes = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if !entry.is_empty() {
            hashes.push(decode(entry).ok_or_else(|| {
                format!("{name}:{}: expected an info hash of 40 hexadecimal digits", at + 1)
            })?);
        }
    }
    if hashes.is_empty() { Err(format!("{name}: has no info hash")) } else { Ok(hashes) }
}

fn decode(digits: &str) -> Option<LoadInfoHash> {
    let mut hash = LoadInfoHash::default();
    if digits.len() != 2 * hash.len() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::{LoadPlan, decode};
    use crate::options::LoadOptions;

    #[test]
    fn a_plan_follows_from_the_seed() {
        let plan = |seed| {
            let defaults = LoadOptions::default();
            LoadPlan::new(&LoadOptions { torrents: 100, peers: 1000, seed, ..defaults }).unwrap()
        };
        let torrents = |plan: &LoadPlan| {
            let hashes = (0..1000).map(|at| *plan.hash(plan.peer(at).torrent));
            hashes.collect::<Vec<_>>()
        };
        assert_eq!(torrents(&plan(1)), torrents(&plan(1)));
        assert_ne!(torrents(&plan(1)), torrents(&plan(2)));
    }

    #[test]
    fn info_hashes_have_forty_digits() {
        assert_eq!(decode(&"0a".repeat(20)), Some([10; 20]));
        for digits in ["", "0a", &"0a".repeat(21), &"0g".repeat(20), &"é".repeat(20)] {
            assert_eq!(decode(digits), None, "{digits}");
        }
    }
}

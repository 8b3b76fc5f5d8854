//! What is asked: torrents, and the peers that announce them. All of it follows from the seed.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::check::Peer;
use super::options::Options;
use super::popularity::Ranks;
use crate::InfoHash;
use crate::random::Random;
use crate::sources::AddressRange;

/// The lowest port of a peer.
const PORT_FIRST: u16 = 1025;

/// Ports that peers have. A prime, so that addresses and ports, both taken in turn, meet in
/// every combination before any comes again.
const PORTS: u32 = 64_499;

/// One peer: it announces one torrent.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Index of its torrent.
    pub torrent: u32,
    /// Whether it has all of it.
    pub seeder: bool,
}

/// All that is asked for.
pub struct Plan {
    /// The info hashes, the most popular first.
    hashes: Vec<InfoHash>,
    /// They again as they stand in a URL, one behind the other, and where each begins.
    encoded: Vec<u8>,
    starts: Vec<u32>,
    members: Vec<Member>,
    sources: Option<(AddressRange, u32)>,
}

impl Plan {
    /// Makes the plan of some options.
    ///
    /// # Errors
    /// The file of torrents cannot be read or has a line that is no info hash.
    pub fn new(options: &Options) -> Result<Plan, String> {
        let mut random = Random::seeded(options.seed);
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
        let ranks = Ranks::new(options, hashes.len() as u32);
        let member = |_| Member {
            torrent: ranks.draw(&mut random),
            seeder: u64::from(random.below(100)) < options.seeders,
        };
        let members = (0..options.peers).map(member).collect();
        let sources = options.sources.parse::<AddressRange>().ok().map(|range| {
            let count = range.addresses().min(u128::from(options.peers));
            (range, count as u32)
        });
        Ok(Plan { hashes, encoded, starts, members, sources })
    }

    /// Peers there are; at least one.
    pub fn members(&self) -> u32 {
        self.members.len() as u32
    }

    /// The peer number `at`, counted around.
    pub fn member(&self, at: u32) -> Member {
        self.members[at as usize % self.members.len()]
    }

    /// The port of a peer.
    pub fn port(&self, at: u32) -> u16 {
        PORT_FIRST + (at % PORTS) as u16
    }

    /// The address that a peer connects from, if that is given.
    pub fn source(&self, at: u32) -> Option<IpAddr> {
        let (range, count) = self.sources?;
        // The first of several is a network's own.
        let skipped = u128::from(range.addresses() > u128::from(count));
        Some(range.address(u128::from(at % count) + skipped))
    }

    /// Whether a peer can be one of ours; `local` is our address where none is given.
    pub fn knows(&self, peer: Peer, local: Option<IpAddr>) -> bool {
        let ports = PORTS.min(self.members());
        let port = peer.port.checked_sub(PORT_FIRST).is_some_and(|at| u32::from(at) < ports);
        port && match self.sources {
            Some((range, _)) => range.contains(peer.ip),
            None => local == Some(peer.ip),
        }
    }

    /// The info hash of a torrent.
    pub fn hash(&self, torrent: u32) -> &InfoHash {
        &self.hashes[torrent as usize]
    }

    /// The info hash of a torrent, as it stands in a URL.
    pub fn encoded(&self, torrent: u32) -> &[u8] {
        let [from, to] = [0, 1].map(|more| self.starts[torrent as usize + more] as usize);
        &self.encoded[from..to]
    }
}

fn random_hash(random: &mut Random) -> InfoHash {
    let mut hash = InfoHash::default();
    for part in hash.chunks_mut(8) {
        part.copy_from_slice(&random.bits().to_le_bytes()[..part.len()]);
    }
    hash
}

/// As Transmission writes it: lower-case digits, and the unreserved characters of RFC 3986 as
/// they are.
fn encode(hash: &InfoHash, into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in hash {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => into.push(byte),
            _ => {
                into.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
            }
        }
    }
}

fn read_hashes(path: &Path) -> Result<Vec<InfoHash>, String> {
    let name = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let mut hashes = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let hash = decode(entry).ok_or_else(|| {
            format!("{name}:{}: expected an info hash of 40 hexadecimal digits", at + 1)
        })?;
        hashes.push(hash);
    }
    if hashes.is_empty() { Err(format!("{name}: has no info hash")) } else { Ok(hashes) }
}

fn decode(digits: &str) -> Option<InfoHash> {
    let mut hash = InfoHash::default();
    if digits.len() != 2 * hash.len() || !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr};

    use super::{Plan, decode};
    use crate::check::Peer;
    use crate::options::Options;

    fn plan(options: &Options) -> Plan {
        Plan::new(&Options { torrents: 100, peers: 1000, ..options.clone() }).unwrap()
    }

    #[test]
    fn a_plan_follows_from_the_seed() {
        let (one, same) = (plan(&Options::default()), plan(&Options::default()));
        let other = plan(&Options { seed: 2, ..Options::default() });
        let torrents =
            |plan: &Plan| (0..1000).map(|at| plan.member(at).torrent).collect::<Vec<_>>();
        assert_eq!(torrents(&one), torrents(&same));
        assert_eq!(one.hash(3), same.hash(3));
        assert_ne!(torrents(&one), torrents(&other));
        assert_ne!(one.hash(3), other.hash(3));
        let seeders = (0..1000).filter(|at| one.member(*at).seeder).count();
        assert!((400..600).contains(&seeders), "{seeders}");
    }

    #[test]
    fn hashes_stand_in_urls_as_they_should() {
        let plan = plan(&Options::default());
        for torrent in 0..100 {
            let mut decoded = Vec::new();
            let mut rest = plan.encoded(torrent);
            while let Some((&first, more)) = rest.split_first() {
                let (byte, more) = match first {
                    b'%' => {
                        let digits = str::from_utf8(&more[..2]).unwrap();
                        (u8::from_str_radix(digits, 16).unwrap(), &more[2..])
                    }
                    _ => (first, more),
                };
                decoded.push(byte);
                rest = more;
            }
            assert_eq!(decoded, plan.hash(torrent));
        }
    }

    #[test]
    fn sources_are_taken_in_turn_and_known_again() {
        let options = Options { sources: "127.1.0.0/24".to_owned(), ..Options::default() };
        let plan = plan(&options);
        let peers: HashSet<_> = (0..1000).map(|at| (plan.source(at), plan.port(at))).collect();
        assert_eq!(peers.len(), 1000);
        let addresses: HashSet<_> = (0..1000).map(|at| plan.source(at)).collect();
        assert_eq!(addresses.len(), 256);
        let peer = |ip: [u8; 4], port| Peer { ip: IpAddr::V4(Ipv4Addr::from(ip)), port };
        assert!(plan.knows(peer([127, 1, 0, 9], 1025), None));
        assert!(plan.knows(peer([127, 1, 0, 9], 2024), None));
        assert!(!plan.knows(peer([127, 1, 0, 9], 2025), None));
        assert!(!plan.knows(peer([127, 1, 0, 9], 1024), None));
        assert!(!plan.knows(peer([127, 1, 1, 9], 1025), None));
        let large = Options { sources: "127.0.0.0/8".to_owned(), ..Options::default() };
        let first = Plan::new(&large).unwrap().source(0);
        assert_eq!(first, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn without_sources_the_own_address_is_known() {
        let plan = plan(&Options::default());
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(plan.source(5), None);
        assert!(plan.knows(Peer { ip, port: 1030 }, Some(ip)));
        assert!(!plan.knows(Peer { ip, port: 1030 }, None));
    }

    #[test]
    fn digits_are_a_hash_or_not() {
        assert_eq!(decode(&"0a".repeat(20)), Some([10; 20]));
        for digits in ["", "0a", &"0a".repeat(21), &"0g".repeat(20), &"é".repeat(20)] {
            assert_eq!(decode(digits), None, "{digits}");
        }
    }
}

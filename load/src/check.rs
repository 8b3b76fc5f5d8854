//! Whether an answer is the one that was asked for: bodies of announces and scrapes.

use std::net::IpAddr;

use super::bencode::{Malformed, Scan};
use super::fault::{Fault, Oddities, Oddity, Wrong};

/// An address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its IP address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What an announce was, so that its answer can be judged.
pub struct Announced<'a> {
    /// Peers asked for at most.
    pub numwant: usize,
    /// Who asked, if its address is known.
    pub own: Option<Peer>,
    /// Who can have announced, if nobody else can.
    pub known: Option<&'a dyn Fn(Peer) -> bool>,
}

/// What a good answer to an announce holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announce {
    /// Peers that were given.
    pub peers: u64,
    /// What was odd.
    pub oddities: Oddities,
}

/// What a good answer to a scrape holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrape {
    /// Torrents that were told of.
    pub torrents: u64,
    /// What was odd.
    pub oddities: Oddities,
}

impl From<Malformed> for Wrong {
    fn from(_: Malformed) -> Wrong {
        Fault::NotBencode.into()
    }
}

/// Judges the body of an answer to an announce.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check_announce(body: &[u8], announced: &Announced<'_>) -> Result<Announce, Wrong> {
    let mut answer = Announce::default();
    let mut keys = Keys::new(body)?;
    let (mut seconds, mut peers) = (None, false);
    while let Some(key) = keys.next(&mut answer.oddities)? {
        let scan = &mut keys.scan;
        match key {
            b"failure reason" => return Err(refused(scan)),
            b"interval" => seconds = Some(integer(scan, "interval")?),
            b"min interval" => interval(integer(scan, "min interval")?, "min interval")?,
            b"complete" => count(scan, "complete")?,
            b"incomplete" => count(scan, "incomplete")?,
            b"downloaded" => count(scan, "downloaded")?,
            b"peers" => {
                peers = true;
                answer.peers += match scan.peek() {
                    Some(b'l') => peer_list(scan, announced, &mut answer.oddities)?,
                    _ => compact::<6>(string(scan, "peers")?, announced)?,
                };
            }
            b"peers6" => {
                peers = true;
                answer.peers += compact::<18>(string(scan, "peers6")?, announced)?;
            }
            b"warning message" => {
                string(scan, "warning message")?;
                answer.oddities.note(Oddity::Warning);
            }
            _ => keys.skip(&mut answer.oddities)?,
        }
    }
    keys.end(&mut answer.oddities)?;
    interval(seconds.ok_or_else(|| Wrong::because(Fault::MissingKey, "interval"))?, "interval")?;
    if !peers {
        return Err(Wrong::because(Fault::MissingKey, "peers"));
    }
    // Of both families together.
    if answer.peers > announced.numwant as u64 {
        return Err(Wrong::because(Fault::TooManyPeers, answer.peers));
    }
    Ok(answer)
}

/// Judges the body of an answer to a scrape for torrents that `asked` knows.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check_scrape(body: &[u8], asked: impl Fn(&[u8]) -> bool) -> Result<Scrape, Wrong> {
    let mut answer = Scrape::default();
    let mut keys = Keys::new(body)?;
    let mut files = false;
    while let Some(key) = keys.next(&mut answer.oddities)? {
        match key {
            b"failure reason" => return Err(refused(&mut keys.scan)),
            b"files" => {
                files = true;
                let mut torrents = keys.within("files")?;
                while let Some(hash) = torrents.next(&mut answer.oddities)? {
                    if !asked(hash) {
                        return Err(Fault::StrangeTorrent.into());
                    }
                    counts(&mut torrents, &mut answer.oddities)?;
                    answer.torrents += 1;
                }
                keys.scan = torrents.scan;
            }
            _ => keys.skip(&mut answer.oddities)?,
        }
    }
    keys.end(&mut answer.oddities)?;
    if !files {
        return Err(Wrong::because(Fault::MissingKey, "files"));
    }
    Ok(answer)
}

/// The three numbers of a scraped torrent.
fn counts(torrents: &mut Keys<'_>, oddities: &mut Oddities) -> Result<(), Wrong> {
    const NAMES: [&str; 3] = ["complete", "downloaded", "incomplete"];
    let mut seen = [false; NAMES.len()];
    let mut keys = torrents.within("files")?;
    while let Some(key) = keys.next(oddities)? {
        match NAMES.iter().position(|name| name.as_bytes() == key) {
            Some(at) => {
                seen[at] = true;
                count(&mut keys.scan, NAMES[at])?;
            }
            None => keys.skip(oddities)?,
        }
    }
    torrents.scan = keys.scan;
    match seen.iter().position(|seen| !seen) {
        Some(at) => Err(Wrong::because(Fault::MissingKey, NAMES[at])),
        None => Ok(()),
    }
}

/// The keys of one dictionary, each followed by a value that the caller reads.
struct Keys<'a> {
    scan: Scan<'a>,
    last: Option<&'a [u8]>,
    sorted: bool,
}

impl<'a> Keys<'a> {
    fn new(body: &'a [u8]) -> Result<Keys<'a>, Wrong> {
        let mut scan = Scan::new(body);
        match scan.take(b'd') {
            true => Ok(Keys { scan, last: None, sorted: true }),
            false => Err(Fault::NotBencode.into()),
        }
    }

    /// The keys of the dictionary that is the value of `name`. What is read of it must be given
    /// back.
    fn within(&self, name: &str) -> Result<Keys<'a>, Wrong> {
        let mut scan = self.scan.clone();
        match scan.take(b'd') {
            true => Ok(Keys { scan, last: None, sorted: true }),
            false => Err(Wrong::because(Fault::WrongType, name)),
        }
    }

    /// The next key; `None` at the end of the dictionary.
    fn next(&mut self, oddities: &mut Oddities) -> Result<Option<&'a [u8]>, Wrong> {
        if self.scan.take(b'e') {
            if !self.sorted {
                oddities.note(Oddity::UnsortedKeys);
            }
            return Ok(None);
        }
        let key = self.scan.string()?;
        self.sorted &= self.last.is_none_or(|last| last < key);
        self.last = Some(key);
        Ok(Some(key))
    }

    /// Passes over a value.
    fn skip(&mut self, oddities: &mut Oddities) -> Result<(), Wrong> {
        if !self.scan.skip()? {
            oddities.note(Oddity::UnsortedKeys);
        }
        Ok(())
    }

    /// Sees that nothing is behind the dictionary, or at most a line end.
    fn end(&self, oddities: &mut Oddities) -> Result<(), Wrong> {
        match self.scan.rest() {
            b"" => {}
            b"\r\n" | b"\n" => oddities.note(Oddity::TrailingLineEnd),
            rest => {
                let bytes = rest.len();
                return Err(Wrong::because(Fault::TrailingBytes, format_args!("{bytes} bytes")));
            }
        }
        Ok(())
    }
}

fn refused(scan: &mut Scan<'_>) -> Wrong {
    match string(scan, "failure reason") {
        Ok(reason) => Wrong::because(Fault::Refused, String::from_utf8_lossy(reason)),
        Err(wrong) => wrong,
    }
}

fn integer(scan: &mut Scan<'_>, name: &str) -> Result<i64, Wrong> {
    match scan.peek() {
        Some(b'i') => Ok(scan.integer()?),
        _ => Err(mistyped(scan, name)),
    }
}

/// A number of peers.
fn count(scan: &mut Scan<'_>, name: &str) -> Result<(), Wrong> {
    if integer(scan, name)? < 0 { Err(Wrong::because(Fault::WrongType, name)) } else { Ok(()) }
}

fn string<'a>(scan: &mut Scan<'a>, name: &str) -> Result<&'a [u8], Wrong> {
    match scan.peek() {
        Some(b'0'..=b'9') => Ok(scan.string()?),
        _ => Err(mistyped(scan, name)),
    }
}

/// A value of another type, if it is one at all.
fn mistyped(scan: &mut Scan<'_>, name: &str) -> Wrong {
    match scan.skip() {
        Ok(_) => Wrong::because(Fault::WrongType, name),
        Err(malformed) => malformed.into(),
    }
}

/// Judges an interval: clients have 31 bits for it.
fn interval(seconds: i64, name: &str) -> Result<(), Wrong> {
    match (1..=i64::from(i32::MAX)).contains(&seconds) {
        true => Ok(()),
        false => Err(Wrong::because(Fault::BadInterval, format_args!("{name} {seconds}"))),
    }
}

/// Judges peers in the form of BEP 23 (6 bytes each) or BEP 7 (18). Returns how many.
fn compact<const BYTES: usize>(peers: &[u8], announced: &Announced<'_>) -> Result<u64, Wrong> {
    let (peers, rest) = peers.as_chunks::<BYTES>();
    if !rest.is_empty() {
        let bytes = peers.len() * BYTES + rest.len();
        return Err(Wrong::because(Fault::BadPeers, format_args!("{bytes} bytes")));
    }
    if peers.len() > announced.numwant {
        return Err(Wrong::because(Fault::TooManyPeers, peers.len()));
    }
    // Nearly all lists are good, and bytes tell so. Port 0 is wrong of anyone: where nobody knows
    // who asked, zeros stand for it. What begins with 0 or from 224 on may be nobody's address.
    let own = announced.own.and_then(compacted::<BYTES>).unwrap_or([0; BYTES]);
    let is_suspect = |peer: &[u8; BYTES]| {
        *peer == own || peer.ends_with(&[0, 0]) || !(1..224).contains(&peer[0])
    };
    if announced.known.is_some() || peers.iter().any(is_suspect) {
        peers.iter().try_for_each(|peer| judge(expanded(peer), announced))?;
    }
    if has_repeated(peers) { Err(Fault::RepeatedPeer.into()) } else { Ok(peers.len() as u64) }
}

/// A peer of a compact list.
fn expanded<const BYTES: usize>(peer: &[u8; BYTES]) -> Peer {
    let (ip, port) = peer.split_at(BYTES - 2);
    let ip = match <[u8; 4]>::try_from(ip) {
        Ok(v4) => IpAddr::V4(v4.into()),
        Err(_) => IpAddr::V6(<[u8; 16]>::try_from(ip).unwrap_or_default().into()),
    };
    Peer { ip, port: u16::from_be_bytes([port[0], port[1]]) }
}

/// Whether any of these is there twice. Few are looked at one by one, where their hashes meet;
/// many are sorted, which is never slow.
fn has_repeated<const BYTES: usize>(peers: &[[u8; BYTES]]) -> bool {
    const FEW: usize = 256;
    if peers.len() > FEW {
        let mut sorted = peers.to_vec();
        sorted.sort_unstable();
        return sorted.windows(2).any(|pair| pair[0] == pair[1]);
    }
    let mut met = [0_u64; 16];
    peers.iter().enumerate().any(|(at, peer)| {
        // Of an IPv6 address the last four bytes.
        let last = peer[BYTES - 6..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let hash = last.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let (word, bit) = ((hash >> 6) as usize, 1 << (hash & 63));
        let may_be = met[word] & bit != 0;
        met[word] |= bit;
        may_be && peers[..at].contains(peer)
    })
}

/// A peer as a compact list has it; `None` if its address is of the other family.
fn compacted<const N: usize>(peer: Peer) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (ip, port) = bytes.split_at_mut(N - 2);
    match peer.ip {
        IpAddr::V4(v4) if ip.len() == 4 => ip.copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) if ip.len() == 16 => ip.copy_from_slice(&v6.octets()),
        _ => return None,
    }
    port.copy_from_slice(&peer.port.to_be_bytes());
    Some(bytes)
}

/// Judges a list of dictionaries (BEP 3). Returns how many there are.
fn peer_list(
    scan: &mut Scan<'_>,
    announced: &Announced<'_>,
    oddities: &mut Oddities,
) -> Result<u64, Wrong> {
    oddities.note(Oddity::DictionaryPeers);
    scan.take(b'l');
    let mut peers: Vec<Peer> = Vec::new();
    while !scan.take(b'e') {
        let outer = Keys { scan: scan.clone(), last: None, sorted: true };
        let mut keys = outer.within("peers")?;
        let (mut ip, mut port) = (None, None);
        while let Some(key) = keys.next(oddities)? {
            match key {
                b"ip" => ip = Some(string(&mut keys.scan, "ip")?),
                b"port" => port = Some(integer(&mut keys.scan, "port")?),
                _ => keys.skip(oddities)?,
            }
        }
        *scan = keys.scan;
        let ip = ip.and_then(|ip| str::from_utf8(ip).ok()).and_then(|ip| ip.parse().ok());
        let port = port.and_then(|port| u16::try_from(port).ok());
        let (Some(ip), Some(port)) = (ip, port) else { return Err(Fault::BadPeers.into()) };
        judge(Peer { ip, port }, announced)?;
        peers.push(Peer { ip, port });
    }
    if peers.len() > announced.numwant {
        return Err(Wrong::because(Fault::TooManyPeers, peers.len()));
    }
    peers.sort_unstable();
    match peers.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(Fault::RepeatedPeer.into()),
        false => Ok(peers.len() as u64),
    }
}

fn judge(peer: Peer, announced: &Announced<'_>) -> Result<(), Wrong> {
    let Peer { ip, port } = peer;
    if port == 0 {
        return Err(Wrong::because(Fault::PortZero, ip));
    }
    // An IPv4 address may hide in one of IPv6 (RFC 4291 section 2.5.5.2).
    let ip = ip.to_canonical();
    if announced.own == Some(Peer { ip, port }) {
        return Err(Fault::OwnAddress.into());
    }
    let can_be_had = match ip {
        // 0.0.0.0/8 is nobody's, and from 224 on it is multicast or reserved (RFC 6890).
        IpAddr::V4(v4) => (1..224).contains(&v4.octets()[0]),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    };
    if !can_be_had {
        return Err(Wrong::because(Fault::BadPeers, format_args!("{ip} port {port}")));
    }
    if announced.known.is_some_and(|known| !known(peer)) {
        return Err(Wrong::because(Fault::StrangePeer, format_args!("{ip} port {port}")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "check/tests.rs"]
mod tests;

//! Checks the bodies of responses to announces and scrapes.

use std::net::{IpAddr, SocketAddr};

use crate::bencode::{BencodeReader, MalformedBencode};
use crate::failure::{Failure, FailureKind, Warning, WarningCounts};

/// What is known of an announce when its response is checked.
pub struct AnnounceContext<'a> {
    pub numwant: usize,
    /// The peer that announced, if its address is known.
    pub own: Option<SocketAddr>,
    /// Which peers can be in the response, if not all can.
    pub known: Option<&'a dyn Fn(SocketAddr) -> bool>,
}

/// A correct body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckedBody {
    /// Peers of an announce or torrents of a scrape.
    pub entries: u64,
    pub warnings: WarningCounts,
}

impl From<MalformedBencode> for Failure {
    fn from(_: MalformedBencode) -> Failure {
        FailureKind::NotBencode.into()
    }
}

/// Checks the body of a response to an announce.
pub fn check_announce(body: &[u8], context: &AnnounceContext<'_>) -> Result<CheckedBody, Failure> {
    let mut checked = CheckedBody::default();
    let CheckedBody { entries, warnings } = &mut checked;
    let mut dictionary = DictReader::new(body)?;
    let (mut seconds, mut has_peers) = (None, false);
    while let Some(key) = dictionary.next(warnings)? {
        let reader = &mut dictionary.reader;
        match key {
            b"failure reason" => return Err(refused(reader)),
            b"interval" => seconds = Some(integer(reader, key)?),
            b"min interval" => check_interval(integer(reader, key)?, key)?,
            b"complete" | b"incomplete" | b"downloaded" => check_count(reader, key)?,
            b"peers" => {
                has_peers = true;
                *entries += match reader.peek() {
                    Some(b'l') => check_peer_list(reader, context, warnings)?,
                    _ => check_compact::<6>(string(reader, key)?, context)?,
                };
            }
            b"peers6" => {
                has_peers = true;
                *entries += check_compact::<18>(string(reader, key)?, context)?;
            }
            b"warning message" => {
                string(reader, key)?;
                warnings.count(Warning::WarningMessage);
            }
            _ => dictionary.skip(warnings)?,
        }
    }
    dictionary.end(warnings)?;
    let missing = |key: &str| Failure::new(FailureKind::MissingKey, key);
    check_interval(seconds.ok_or_else(|| missing("interval"))?, b"interval")?;
    if !has_peers {
        return Err(missing("peers"));
    }
    // Of both address families together.
    if *entries > context.numwant as u64 {
        return Err(Failure::new(FailureKind::TooManyPeers, *entries));
    }
    Ok(checked)
}

/// Checks the body of a response to a scrape of the torrents that `requested` accepts.
pub fn check_scrape(
    body: &[u8],
    requested: impl Fn(&[u8]) -> bool,
) -> Result<CheckedBody, Failure> {
    let mut checked = CheckedBody::default();
    let CheckedBody { entries, warnings } = &mut checked;
    let mut dictionary = DictReader::new(body)?;
    let mut has_files = false;
    while let Some(key) = dictionary.next(warnings)? {
        match key {
            b"failure reason" => return Err(refused(&mut dictionary.reader)),
            b"files" => {
                has_files = true;
                let mut torrents = dictionary.nested(key)?;
                while let Some(hash) = torrents.next(warnings)? {
                    if !requested(hash) {
                        return Err(FailureKind::StrangeTorrent.into());
                    }
                    check_torrent(&mut torrents, warnings)?;
                    *entries += 1;
                }
                dictionary.reader = torrents.reader;
            }
            _ => dictionary.skip(warnings)?,
        }
    }
    dictionary.end(warnings)?;
    match has_files {
        true => Ok(checked),
        false => Err(Failure::new(FailureKind::MissingKey, "files")),
    }
}

/// Checks the three counts of a scraped torrent.
fn check_torrent(
    torrents: &mut DictReader<'_>,
    warnings: &mut WarningCounts,
) -> Result<(), Failure> {
    const KEYS: [&[u8]; 3] = [b"complete", b"downloaded", b"incomplete"];
    let mut seen = [false; KEYS.len()];
    let mut counts = torrents.nested(b"files")?;
    while let Some(key) = counts.next(warnings)? {
        match KEYS.iter().position(|known| *known == key) {
            Some(at) => {
                seen[at] = true;
                check_count(&mut counts.reader, key)?;
            }
            None => counts.skip(warnings)?,
        }
    }
    torrents.reader = counts.reader;
    match seen.iter().position(|seen| !seen) {
        Some(at) => Err(Failure::new(FailureKind::MissingKey, KEYS[at].escape_ascii())),
        None => Ok(()),
    }
}

/// The keys of a dictionary. The caller reads the value of each from `reader`.
struct DictReader<'a> {
    reader: BencodeReader<'a>,
    last: Option<&'a [u8]>,
    sorted: bool,
}

impl<'a> DictReader<'a> {
    /// The dictionary that the whole body is.
    fn new(body: &'a [u8]) -> Result<DictReader<'a>, Failure> {
        DictReader::at(BencodeReader::new(body)).ok_or_else(|| FailureKind::NotBencode.into())
    }

    fn at(mut reader: BencodeReader<'a>) -> Option<DictReader<'a>> {
        reader.take(b'd').then_some(DictReader { reader, last: None, sorted: true })
    }

    /// The dictionary that is the value of `key`. When it is read, the caller sets this
    /// dictionary's reader to where it ended.
    fn nested(&self, key: &[u8]) -> Result<DictReader<'a>, Failure> {
        let mistyped = || Failure::new(FailureKind::WrongType, key.escape_ascii());
        DictReader::at(self.reader.clone()).ok_or_else(mistyped)
    }

    /// The next key; `None` at the end of the dictionary.
    fn next(&mut self, warnings: &mut WarningCounts) -> Result<Option<&'a [u8]>, Failure> {
        if self.reader.take(b'e') {
            if !self.sorted {
                warnings.count(Warning::UnsortedKeys);
            }
            return Ok(None);
        }
        let key = self.reader.string()?;
        self.sorted &= self.last.is_none_or(|last| last < key);
        self.last = Some(key);
        Ok(Some(key))
    }

    fn skip(&mut self, warnings: &mut WarningCounts) -> Result<(), Failure> {
        if !self.reader.skip()? {
            warnings.count(Warning::UnsortedKeys);
        }
        Ok(())
    }

    /// Checks that nothing follows the dictionary but a line end.
    fn end(&self, warnings: &mut WarningCounts) -> Result<(), Failure> {
        match self.reader.rest() {
            b"" => {}
            b"\r\n" | b"\n" => warnings.count(Warning::TrailingLineEnd),
            rest => {
                let detail = format!("{} bytes", rest.len());
                return Err(Failure::new(FailureKind::TrailingBytes, detail));
            }
        }
        Ok(())
    }
}

fn refused(reader: &mut BencodeReader<'_>) -> Failure {
    match string(reader, b"failure reason") {
        Ok(reason) => Failure::new(FailureKind::Refused, String::from_utf8_lossy(reason)),
        Err(failure) => failure,
    }
}

fn integer(reader: &mut BencodeReader<'_>, key: &[u8]) -> Result<i64, Failure> {
    match reader.peek() {
        Some(b'i') => Ok(reader.integer()?),
        _ => Err(mistyped(reader, key)),
    }
}

/// A count of peers.
fn check_count(reader: &mut BencodeReader<'_>, key: &[u8]) -> Result<(), Failure> {
    match integer(reader, key)? {
        0.. => Ok(()),
        _ => Err(Failure::new(FailureKind::WrongType, key.escape_ascii())),
    }
}

fn string<'a>(reader: &mut BencodeReader<'a>, key: &[u8]) -> Result<&'a [u8], Failure> {
    match reader.peek() {
        Some(b'0'..=b'9') => Ok(reader.string()?),
        _ => Err(mistyped(reader, key)),
    }
}

/// A value of another type, if it is a value.
fn mistyped(reader: &mut BencodeReader<'_>, key: &[u8]) -> Failure {
    match reader.skip() {
        Ok(_) => Failure::new(FailureKind::WrongType, key.escape_ascii()),
        Err(malformed) => malformed.into(),
    }
}

/// Clients have 31 bits for an interval.
pub(crate) fn check_interval(seconds: i64, key: &[u8]) -> Result<(), Failure> {
    match (1..=i64::from(i32::MAX)).contains(&seconds) {
        true => Ok(()),
        false => {
            let detail = format_args!("{} {seconds}", key.escape_ascii());
            Err(Failure::new(FailureKind::BadInterval, detail))
        }
    }
}

/// Checks peers of 6 bytes (BEP 23) or 18 (BEP 7). Returns how many there are.
pub(crate) fn check_compact<const BYTES: usize>(
    peers: &[u8],
    context: &AnnounceContext<'_>,
) -> Result<u64, Failure> {
    let (peers, rest) = peers.as_chunks::<BYTES>();
    if !rest.is_empty() {
        let bytes = peers.len() * BYTES + rest.len();
        return Err(Failure::new(FailureKind::BadPeers, format_args!("{bytes} bytes")));
    }
    if peers.len() > context.numwant {
        return Err(Failure::new(FailureKind::TooManyPeers, peers.len()));
    }
    // Nearly all lists are correct, which their bytes show without making addresses of them. Port
    // 0 is always wrong, so zeros can stand for an unknown own address. An address whose first
    // byte is 0, or 224 and above, may be one that no peer can have.
    let own = context.own.and_then(to_compact::<BYTES>).unwrap_or([0; BYTES]);
    let is_suspect = |peer: &[u8; BYTES]| {
        *peer == own || peer.ends_with(&[0, 0]) || !(1..224).contains(&peer[0])
    };
    if context.known.is_some() || peers.iter().any(is_suspect) {
        peers.iter().try_for_each(|peer| check_peer(from_compact(peer), context))?;
    }
    match has_repeated(peers) {
        true => Err(FailureKind::RepeatedPeer.into()),
        false => Ok(peers.len() as u64),
    }
}

fn from_compact<const BYTES: usize>(peer: &[u8; BYTES]) -> SocketAddr {
    let (ip, port) = peer.split_at(BYTES - 2);
    let ip = match <[u8; 4]>::try_from(ip) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap_or_default()),
    };
    SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]]))
}

/// `None` if the address is of the other family.
fn to_compact<const BYTES: usize>(peer: SocketAddr) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let (ip, port) = bytes.split_at_mut(BYTES - 2);
    match peer.ip() {
        IpAddr::V4(v4) if ip.len() == 4 => ip.copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) if ip.len() == 16 => ip.copy_from_slice(&v6.octets()),
        _ => return None,
    }
    port.copy_from_slice(&peer.port().to_be_bytes());
    Some(bytes)
}

/// Whether a peer is there twice. Few are compared one by one where their hashes are equal; many
/// are sorted, which is never slow.
fn has_repeated<const BYTES: usize>(peers: &[[u8; BYTES]]) -> bool {
    const FEW: usize = 256;
    if peers.len() > FEW {
        let mut sorted = peers.to_vec();
        sorted.sort_unstable();
        return sorted.windows(2).any(|pair| pair[0] == pair[1]);
    }
    let mut seen = [0_u64; 16];
    peers.iter().enumerate().any(|(at, peer)| {
        // The port and the last four bytes of the address.
        let last = peer[BYTES - 6..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let hash = last.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let (word, bit) = ((hash >> 6) as usize, 1 << (hash & 63));
        let maybe_repeated = seen[word] & bit != 0;
        seen[word] |= bit;
        maybe_repeated && peers[..at].contains(peer)
    })
}

/// Checks a list of dictionaries (BEP 3). Returns how many peers there are.
fn check_peer_list(
    reader: &mut BencodeReader<'_>,
    context: &AnnounceContext<'_>,
    warnings: &mut WarningCounts,
) -> Result<u64, Failure> {
    warnings.count(Warning::DictionaryPeers);
    reader.take(b'l');
    let mut peers: Vec<SocketAddr> = Vec::new();
    while !reader.take(b'e') {
        let mistyped = || Failure::new(FailureKind::WrongType, "peers");
        let mut dictionary = DictReader::at(reader.clone()).ok_or_else(mistyped)?;
        let (mut ip, mut port) = (None, None);
        while let Some(key) = dictionary.next(warnings)? {
            match key {
                b"ip" => ip = Some(string(&mut dictionary.reader, key)?),
                b"port" => port = Some(integer(&mut dictionary.reader, key)?),
                _ => dictionary.skip(warnings)?,
            }
        }
        *reader = dictionary.reader;
        let ip = ip.and_then(|ip| str::from_utf8(ip).ok()).and_then(|ip| ip.parse().ok());
        let port = port.and_then(|port| u16::try_from(port).ok());
        let (Some(ip), Some(port)) = (ip, port) else { return Err(FailureKind::BadPeers.into()) };
        let peer = SocketAddr::new(ip, port);
        check_peer(peer, context)?;
        peers.push(peer);
    }
    if peers.len() > context.numwant {
        return Err(Failure::new(FailureKind::TooManyPeers, peers.len()));
    }
    peers.sort_unstable();
    match peers.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(FailureKind::RepeatedPeer.into()),
        false => Ok(peers.len() as u64),
    }
}

fn check_peer(peer: SocketAddr, context: &AnnounceContext<'_>) -> Result<(), Failure> {
    if peer.port() == 0 {
        return Err(Failure::new(FailureKind::PortZero, peer.ip()));
    }
    // IPv6 can hold an IPv4 address (RFC 4291 section 2.5.5.2).
    let ip = peer.ip().to_canonical();
    if context.own == Some(SocketAddr::new(ip, peer.port())) {
        return Err(FailureKind::OwnAddress.into());
    }
    let is_possible = match ip {
        // 0.0.0.0/8 is unspecified; 224.0.0.0 and above are multicast or reserved (RFC 6890).
        IpAddr::V4(v4) => (1..224).contains(&v4.octets()[0]),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    };
    let detail = format_args!("{ip} port {}", peer.port());
    if !is_possible {
        return Err(Failure::new(FailureKind::BadPeers, detail));
    }
    match context.known.is_some_and(|known| !known(peer)) {
        true => Err(Failure::new(FailureKind::StrangePeer, detail)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;

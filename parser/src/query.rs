//! The query of an announce (BEP 3, 7, 21, 23) or of a scrape (BEP 48).
//!
//! Separators are `&` and any further `?`: some clients append their parameters with a second
//! one. A name ends at the first `=`, since one client leaves `=` raw in an info hash. `;` and
//! `,` separate nothing. Unknown parameters are passed over whatever they hold, and white space
//! and slashes at the end of any value, which come from mistyped announce URLs.

use core::ops::Range;

use crate::address::Address;
use crate::decode::{Decoded, info_hash, number};
use crate::error::Error;
use crate::scan::{Positions, Separator};

/// What follows the first `?` of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query<'b>(&'b [u8]);

impl<'b> Query<'b> {
    /// A query of these bytes, undecoded and without the `?` before them; any will do.
    pub const fn new(bytes: &'b [u8]) -> Query<'b> {
        Query(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(self) -> &'b [u8] {
        self.0
    }

    /// Whether there is an info hash, readable or not.
    pub(crate) fn has_info_hash(self) -> bool {
        Parameters::new(self).any(|parameter| read(self.0, parameter).0 == Name::InfoHash)
    }
}

/// What a client announces. `peer_id`, `key` and the like are not here: a peer is known by
/// where it can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce<'b> {
    /// The torrent; of a version 2 info hash (BEP 52) the first 20 bytes.
    pub info_hash: [u8; 20],
    /// Where the client takes connections; 0 only with [`AnnounceEvent::Stopped`].
    pub port: u16,
    /// Bytes still to download: `None` if absent or unreadable, in which case the client is no
    /// seeder, and [`u64::MAX`] for anything beyond it.
    pub left: Option<u64>,
    /// Bytes downloaded so far, by the client's own count: `None` if absent or unreadable, and
    /// [`u64::MAX`] for anything beyond it.
    pub downloaded: Option<u64>,
    /// Why the client announces.
    pub event: AnnounceEvent,
    /// False only if the client asked for a list of dictionaries with `compact=0` (BEP 23).
    pub compact: bool,
    /// How many peers the client wants.
    pub numwant: Numwant,
    /// `ip` (BEP 3). Anyone can write anything here.
    pub ip: Option<Address<'b>>,
    /// `ipv4` (BEP 7 as of 2008), perhaps with a port. Anyone can write anything here.
    pub ipv4: Option<Address<'b>>,
    /// `ipv6` (BEP 7 as of 2008), perhaps with a port. Anyone can write anything here.
    pub ipv6: Option<Address<'b>>,
}

/// Why a client announces (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnnounceEvent {
    /// A regular announce, or an event that is not known, such as `paused` (BEP 21).
    None,
    /// The download begins.
    Started,
    /// The client leaves the swarm.
    Stopped,
    /// The download has just ended.
    Completed,
}

/// How many peers a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numwant {
    /// It did not say, or not in a way that can be read.
    Default,
    /// So many or fewer, 0 included; [`u32::MAX`] for anything beyond it.
    AtMost(u32),
}

/// Parses the query of an announce. Of a parameter that is repeated the last one counts,
/// except for `info_hash`.
///
/// # Errors
///
/// [`Error::InfoHashMissing`] and the variants after it. `port` may be absent or unreadable in
/// an announce with `event=stopped`, wherever in the query it is: some clients have no port
/// any more when they leave. 32 characters of base32 are an error and not an info hash
/// of version 2: such a hash practically always has other bytes too.
#[inline]
pub fn parse_announce<'b>(query: Query<'b>) -> Result<Announce<'b>, Error> {
    let mut hash = None;
    let mut port = None;
    let mut announce = Announce {
        info_hash: [0; 20],
        port: 0,
        left: None,
        downloaded: None,
        event: AnnounceEvent::None,
        compact: true,
        numwant: Numwant::Default,
        ip: None,
        ipv4: None,
        ipv6: None,
    };
    for parameter in Parameters::new(query) {
        let (name, range) = read(query.0, parameter);
        let value = &query.0[range.clone()];
        match name {
            Name::InfoHash if hash.is_some() => return Err(Error::InfoHashRepeated),
            Name::InfoHash => hash = Some(info_hash(query.0, range)?),
            Name::Port => port = Some(number(value)),
            Name::Left => announce.left = number(value),
            Name::Downloaded => announce.downloaded = number(value),
            Name::Event => announce.event = event(value),
            Name::Compact => announce.compact = !is(value, b"0"),
            Name::Numwant => announce.numwant = numwant(value),
            Name::Ip => announce.ip = Some(Address::new(value)),
            Name::Ipv4 => announce.ipv4 = Some(Address::new(value)),
            Name::Ipv6 => announce.ipv6 = Some(Address::new(value)),
            Name::Other => {}
        }
    }
    announce.info_hash = hash.ok_or(Error::InfoHashMissing)?;
    let reachable = port.flatten().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    if reachable == 0 && announce.event != AnnounceEvent::Stopped {
        return Err(if port.is_none() { Error::PortMissing } else { Error::PortInvalid });
    }
    announce.port = reachable;
    Ok(announce)
}

/// The info hashes of a scrape, in the order asked for.
pub fn scrape_hashes<'b>(query: Query<'b>) -> ScrapeHashes<'b> {
    ScrapeHashes { query, parameters: Parameters::new(query) }
}

/// Iterator over the info hashes of a scrape. It decodes as it goes, and goes on after an
/// error; a query that has no `info_hash` gives nothing.
pub struct ScrapeHashes<'b> {
    query: Query<'b>,
    parameters: Parameters<'b>,
}

impl Iterator for ScrapeHashes<'_> {
    /// [`Error::InfoHashEscapeMalformed`], [`Error::InfoHashLengthWrong`],
    /// [`Error::InfoHashHex`] or [`Error::InfoHashBase32`] for a hash that cannot be read.
    type Item = Result<[u8; 20], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.parameters.find_map(|parameter| match read(self.query.0, parameter) {
            (Name::InfoHash, value) => Some(info_hash(self.query.0, value)),
            _ => None,
        })
    }
}

/// Where the parameters of a query stand, in order. Empty ones are harmless: nothing is called
/// the empty name.
struct Parameters<'b> {
    query: &'b [u8],
    /// Where the next parameter starts.
    start: usize,
    separators: Positions<'b, Separator>,
}

impl<'b> Parameters<'b> {
    #[inline]
    fn new(Query(query): Query<'b>) -> Parameters<'b> {
        Parameters { query, start: 0, separators: Positions::new(query, 0) }
    }
}

impl Iterator for Parameters<'_> {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.start;
        if start >= self.query.len() {
            return None;
        }
        let end = self.separators.next().unwrap_or(self.query.len());
        self.start = end + 1;
        Some(start..end)
    }
}

/// A parameter's name, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    InfoHash,
    Port,
    Left,
    Downloaded,
    Event,
    Compact,
    Numwant,
    Ip,
    Ipv4,
    Ipv6,
    Other,
}

/// Bytes of the longest name that matters.
const NAME_BYTES_MAX: usize = b"downloaded".len();

/// The name of a parameter that is not empty, and where its value stands; that is empty too if
/// there is no `=`. Inlined by force: with three callers the compiler would not, and a scrape of
/// many torrents is slower by a call for each.
#[inline(always)]
fn read(query: &[u8], parameter: Range<usize>) -> (Name, Range<usize>) {
    let text = &query[parameter.clone()];
    let known = |start: &[u8], name| text.starts_with(start).then_some((name, start.len()));
    // Besides the names that matter, those that most clients send: a look for escapes in each
    // would cost more than all the rest.
    let read = match text.first() {
        Some(b'c') => known(b"compact=", Name::Compact).or_else(|| known(b"corrupt=", Name::Other)),
        Some(b'd') => known(b"downloaded=", Name::Downloaded),
        Some(b'e') => known(b"event=", Name::Event),
        Some(b'i') => known(b"info_hash=", Name::InfoHash)
            .or_else(|| known(b"ip=", Name::Ip))
            .or_else(|| known(b"ipv4=", Name::Ipv4))
            .or_else(|| known(b"ipv6=", Name::Ipv6)),
        Some(b'k') => known(b"key=", Name::Other),
        Some(b'l') => known(b"left=", Name::Left),
        Some(b'n') => {
            known(b"numwant=", Name::Numwant).or_else(|| known(b"no_peer_id=", Name::Other))
        }
        Some(b'p') => known(b"port=", Name::Port).or_else(|| known(b"peer_id=", Name::Other)),
        Some(b's') => known(b"supportcrypto=", Name::Other),
        Some(b'u') => known(b"uploaded=", Name::Other),
        _ => None,
    };
    let (name, length) = read.unwrap_or_else(|| read_unusual(text));
    (name, parameter.start + length..parameter.end)
}

/// The name of a parameter that has escapes in it, is not known, or has no value; and where in
/// the parameter the value starts.
#[cold]
fn read_unusual(text: &[u8]) -> (Name, usize) {
    let length = text.iter().position(|&byte| byte == b'=').unwrap_or(text.len());
    let mut buffer = [0; NAME_BYTES_MAX];
    let name = match Decoded::new(&text[..length]).collect_in(&mut buffer) {
        Some(b"compact") => Name::Compact,
        Some(b"downloaded") => Name::Downloaded,
        Some(b"event") => Name::Event,
        Some(b"info_hash") => Name::InfoHash,
        Some(b"ip") => Name::Ip,
        Some(b"ipv4") => Name::Ipv4,
        Some(b"ipv6") => Name::Ipv6,
        Some(b"left") => Name::Left,
        Some(b"numwant") => Name::Numwant,
        Some(b"port") => Name::Port,
        _ => Name::Other,
    };
    (name, text.len().min(length + 1))
}

/// Whether `value` stands for `plain`.
#[inline]
fn is(value: &[u8], plain: &[u8]) -> bool {
    value == plain || value.len() > plain.len() && Decoded::new(value).is(plain)
}

#[inline]
fn event(value: &[u8]) -> AnnounceEvent {
    if is(value, b"started") {
        AnnounceEvent::Started
    } else if is(value, b"stopped") {
        AnnounceEvent::Stopped
    } else if is(value, b"completed") {
        AnnounceEvent::Completed
    } else {
        AnnounceEvent::None
    }
}

#[inline]
fn numwant(value: &[u8]) -> Numwant {
    match number(value) {
        Some(count) => Numwant::AtMost(u32::try_from(count).unwrap_or(u32::MAX)),
        None => Numwant::Default,
    }
}

//! Requests by UDP (BEP 15), with the options of BEP 41 behind an announce.
//!
//! Every request begins with a header of 16 bytes: connection id, action, transaction id. An error
//! is told only to a client whose connection id is good, so that the header is read first, and what
//! is wrong behind it is reported together with it.

use crate::query::{AnnounceEvent, Numwant};

/// The connection id of a connect request.
const CONNECT_MAGIC: u64 = 0x0417_2710_1980;

/// Bytes of the header, and of a whole connect request.
pub const DATAGRAM_HEADER_BYTES: usize = 16;

/// Bytes of an announce without options.
const ANNOUNCE_BYTES: usize = 98;

/// The most info hashes that a scrape can have (BEP 15).
pub const DATAGRAM_HASHES_MAX: usize = 74;

/// One datagram of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramRequest<'b> {
    /// The client asks for a connection id. What follows the header is ignored.
    Connect { transaction_id: u32 },
    /// Anything else. A mistake can be told to the client if its connection id is good.
    Identified { header: DatagramHeader, query: Result<DatagramQuery<'b>, DatagramMistake> },
}

/// What every request but a connect begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramHeader {
    /// The one that the tracker gave to the client's address, if the client is honest.
    pub connection_id: u64,
    pub action: DatagramAction,
    /// The client's choice, which the reply repeats.
    pub transaction_id: u32,
}

/// What a request with a connection id asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramAction {
    Announce,
    Scrape,
    /// Neither; a connect has no connection id.
    Unknown,
}

/// What follows a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramQuery<'b> {
    Announce(DatagramAnnounce<'b>),
    Scrape(DatagramHashes<'b>),
}

/// Why a datagram is none of BEP 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramError {
    /// Shorter than a header.
    TooShort,
    /// The action of a connect without its magic number.
    NotConnect,
}

/// What is wrong behind a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramMistake {
    /// [`DatagramAction::Unknown`].
    ActionUnknown,
    /// An announce of fewer than 98 bytes.
    AnnounceTooShort,
    /// An announce, not of event `stopped`, with port 0.
    PortInvalid,
    /// A scrape without info hashes.
    HashesMissing,
    /// A scrape whose last info hash has fewer than 20 bytes.
    HashCut,
    /// A scrape with more than [`DATAGRAM_HASHES_MAX`] info hashes.
    TooManyHashes,
}

/// What a client announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramAnnounce<'b> {
    /// The torrent; of a version 2 info hash (BEP 52) the first 20 bytes.
    pub info_hash: [u8; 20],
    pub peer_id: &'b [u8; 20],
    /// Bytes downloaded so far, by the client's own count.
    pub downloaded: u64,
    /// Bytes still to download.
    pub left: u64,
    pub uploaded: u64,
    pub event: AnnounceEvent,
    /// The IPv4 address that the client wants to be known by; 0 is none. Anyone can write anything
    /// here.
    pub ip: u32,
    /// By which the client can be recognized at another address.
    pub key: u32,
    /// Any negative number is [`Numwant::Default`].
    pub numwant: Numwant,
    /// Where the client takes connections; 0 only with [`AnnounceEvent::Stopped`].
    pub port: u16,
    /// What follows (BEP 41).
    options: &'b [u8],
}

impl<'b> DatagramAnnounce<'b> {
    /// Path and query of the announce URL (BEP 41), in the pieces in which they were sent; they are
    /// to be joined without anything in between. No piece is empty.
    pub fn url_data(&self) -> UrlData<'b> {
        UrlData { options: self.options }
    }
}

/// Iterator over the pieces of the URL in the options of an announce. Unknown options are skipped.
/// It ends where an option is cut off.
#[derive(Clone, Debug)]
pub struct UrlData<'b> {
    options: &'b [u8],
}

impl<'b> Iterator for UrlData<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        const END_OF_OPTIONS: u8 = 0;
        const NOP: u8 = 1;
        const URL_DATA: u8 = 2;
        loop {
            let (&kind, rest) = self.options.split_first()?;
            let (data, rest) = match kind {
                END_OF_OPTIONS => return None,
                NOP => (&rest[..0], rest),
                _ => {
                    let (&len, rest) = rest.split_first()?;
                    rest.split_at_checked(usize::from(len))?
                }
            };
            self.options = rest;
            if kind == URL_DATA && !data.is_empty() {
                return Some(data);
            }
        }
    }
}

/// The info hashes of a scrape, in the order asked for: 1 to [`DATAGRAM_HASHES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramHashes<'b>(&'b [[u8; 20]]);

impl<'b> DatagramHashes<'b> {
    pub fn as_slice(self) -> &'b [[u8; 20]] {
        self.0
    }
}

/// Parses a datagram; the connection id is not checked. A connect may be followed by anything, an
/// announce by options, of which broken ones are ignored, and a scrape by nothing.
///
/// # Errors
/// There is no header to answer to.
#[inline]
pub fn parse_datagram(datagram: &[u8]) -> Result<DatagramRequest<'_>, DatagramError> {
    let mut rest = datagram;
    let header = (take(&mut rest), take(&mut rest), take(&mut rest));
    let (Some(connection_id), Some(action), Some(transaction_id)) = header else {
        return Err(DatagramError::TooShort);
    };
    let connection_id = u64::from_be_bytes(connection_id);
    let transaction_id = u32::from_be_bytes(transaction_id);
    let action = match u32::from_be_bytes(action) {
        0 if connection_id == CONNECT_MAGIC => {
            return Ok(DatagramRequest::Connect { transaction_id });
        }
        0 => return Err(DatagramError::NotConnect),
        1 => DatagramAction::Announce,
        2 => DatagramAction::Scrape,
        _ => DatagramAction::Unknown,
    };
    let query = match action {
        DatagramAction::Announce => announce(datagram).map(DatagramQuery::Announce),
        DatagramAction::Scrape => hashes(rest).map(DatagramQuery::Scrape),
        DatagramAction::Unknown => Err(DatagramMistake::ActionUnknown),
    };
    let header = DatagramHeader { connection_id, action, transaction_id };
    Ok(DatagramRequest::Identified { header, query })
}

#[inline]
fn announce(datagram: &[u8]) -> Result<DatagramAnnounce<'_>, DatagramMistake> {
    let Some((fixed, options)) = datagram.split_first_chunk::<ANNOUNCE_BYTES>() else {
        return Err(DatagramMistake::AnnounceTooShort);
    };
    let announce = fields(&fixed[DATAGRAM_HEADER_BYTES..], options);
    let announce = announce.ok_or(DatagramMistake::AnnounceTooShort)?;
    if announce.port == 0 && announce.event != AnnounceEvent::Stopped {
        return Err(DatagramMistake::PortInvalid);
    }
    Ok(announce)
}

/// The fields of an announce behind its header.
#[inline(always)]
fn fields<'b>(mut fixed: &'b [u8], options: &'b [u8]) -> Option<DatagramAnnounce<'b>> {
    let fixed = &mut fixed;
    Some(DatagramAnnounce {
        info_hash: take(fixed)?,
        peer_id: {
            let (peer_id, rest) = fixed.split_first_chunk()?;
            *fixed = rest;
            peer_id
        },
        downloaded: u64::from_be_bytes(take(fixed)?),
        left: u64::from_be_bytes(take(fixed)?),
        uploaded: u64::from_be_bytes(take(fixed)?),
        event: match u32::from_be_bytes(take(fixed)?) {
            1 => AnnounceEvent::Completed,
            2 => AnnounceEvent::Started,
            3 => AnnounceEvent::Stopped,
            _ => AnnounceEvent::None,
        },
        ip: u32::from_be_bytes(take(fixed)?),
        key: u32::from_be_bytes(take(fixed)?),
        numwant: match i32::from_be_bytes(take(fixed)?) {
            number @ 0.. => Numwant::AtMost(number.unsigned_abs()),
            _ => Numwant::Default,
        },
        port: u16::from_be_bytes(take(fixed)?),
        options,
    })
}

#[inline]
fn hashes(bytes: &[u8]) -> Result<DatagramHashes<'_>, DatagramMistake> {
    let (hashes, rest) = bytes.as_chunks();
    match hashes.len() {
        _ if !rest.is_empty() => Err(DatagramMistake::HashCut),
        0 => Err(DatagramMistake::HashesMissing),
        1..=DATAGRAM_HASHES_MAX => Ok(DatagramHashes(hashes)),
        _ => Err(DatagramMistake::TooManyHashes),
    }
}

/// The first `N` bytes of `from`, which they are removed from.
#[inline(always)]
fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*bytes)
}

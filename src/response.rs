//! Encodes responses: status line, headers and bencode, into a buffer that is known to be large
//! enough beforehand.
//!
//! Every body is sorted bencode without trailing bytes (BEP 3), with an exact Content-Length and
//! never chunked: every BitTorrent client can read that.

pub mod datagram;
mod writer;

use std::net::IpAddr;

use writer::{Writer, digits_of, string_len};

use crate::limits::{
    LOCATION_BYTES_MAX, NUMWANT_MAX, REQUEST_LINE_BYTES_MAX, RESPONSE_BYTES_MAX,
    SCRAPE_TORRENTS_MAX,
};
use annulus_swarm::{InfoHash, Sample, TorrentCounts};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseOptions {
    /// The request was HTTP/1.0: keep-alive needs a header.
    pub http10: bool,
    pub keep_alive: bool,
    /// The request was HEAD.
    pub head_only: bool,
}

impl ResponseOptions {
    /// The response to what is no request: HTTP/1.1, and the connection closes.
    pub const CLOSING: ResponseOptions =
        ResponseOptions { http10: false, keep_alive: false, head_only: false };
}

/// RFC 9110 section 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    NoContent,
    Found,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    UriTooLong,
    TooManyRequests,
    HeaderFieldsTooLarge,
    VersionNotSupported,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "HTTP/1.1 200 OK\r\n",
            Status::NoContent => "HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\n",
            Status::Found => "HTTP/1.1 302 Found\r\n",
            Status::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Status::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Status::MethodNotAllowed => {
                "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD, OPTIONS\r\n"
            }
            Status::RequestTimeout => "HTTP/1.1 408 Request Timeout\r\n",
            Status::UriTooLong => "HTTP/1.1 414 URI Too Long\r\n",
            Status::TooManyRequests => "HTTP/1.1 429 Too Many Requests\r\n",
            Status::HeaderFieldsTooLarge => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
            Status::VersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        }
    }
}

/// When a client may announce again, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    pub interval_s: u32,
    pub min_interval_s: u32,
}

/// When a failed request may be sent again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryIn {
    Minutes(u32),
    /// The same request would fail again.
    Never,
}

/// What the response to an announce contains.
#[derive(Clone, Copy, Debug)]
pub struct AnnounceResponse<'a> {
    pub counts: TorrentCounts,
    /// The client's address as seen here (BEP 24).
    pub external: IpAddr,
    pub intervals: Intervals,
    pub sample: &'a Sample,
    /// Compact strings (BEP 23, BEP 7) or a list of dictionaries (BEP 3).
    pub compact: bool,
}

/// Bytes of the longest status line and headers.
const HEAD_BYTES_MAX: usize = 192;
/// Decimal digits of the largest `u32`.
const NUMBER_BYTES_MAX: usize = 10;
/// `d2:ip39:…4:porti65535ee` with the longest form of an IPv6 address.
const PEER_DICTIONARY_BYTES_MAX: usize = 8 + 39 + 14;
/// An announce's keys, without the values between them.
const ANNOUNCE_FRAME: &[u8] = b"d8:completeie10:downloadedie11:external ip10:incompleteie\
    8:intervalie12:min intervalie5:peers";
/// An announce's body without the peers: keys, five numbers, the external address, and the lengths,
/// key and ends around the peers.
const ANNOUNCE_FRAME_BYTES_MAX: usize = ANNOUNCE_FRAME.len()
    + 5 * NUMBER_BYTES_MAX
    + b"16:".len()
    + 16
    + b"6:peers6".len()
    + 2 * (NUMBER_BYTES_MAX + b":".len())
    + b"e".len();
/// One torrent of a scrape, without its hash and numbers.
const SCRAPE_TORRENT_FRAME: &[u8] = b"20:d8:completeie10:downloadedie10:incompleteiee";
/// Where peer dictionaries are written before their position is known: behind the longest text
/// that can precede them.
const DICTIONARIES_FROM: usize = HEAD_BYTES_MAX + ANNOUNCE_FRAME_BYTES_MAX;
/// One torrent of a scrape.
const SCRAPE_TORRENT_BYTES_MAX: usize = SCRAPE_TORRENT_FRAME.len() + 20 + 3 * NUMBER_BYTES_MAX;
/// The opening and end of a scrape.
const SCRAPE_FRAME_BYTES: usize = 16;
/// Bytes of the longest failure reason or plain-text message.
pub const MESSAGE_BYTES_MAX: usize = 128;

/// Bytes of the longest response to an announce, head included, with `peers` peers of any form and
/// family.
pub const fn announce_bytes_max(peers: usize) -> usize {
    HEAD_BYTES_MAX + ANNOUNCE_FRAME_BYTES_MAX + peers * PEER_DICTIONARY_BYTES_MAX
}

/// Bytes of the longest response to a scrape of `torrents`, head included.
pub const fn scrape_bytes_max(torrents: usize) -> usize {
    HEAD_BYTES_MAX + SCRAPE_FRAME_BYTES + torrents * SCRAPE_TORRENT_BYTES_MAX
}

// The bounds of the configuration are as high as they can be.
const _: () = assert!(announce_bytes_max(NUMWANT_MAX) <= RESPONSE_BYTES_MAX);
const _: () = assert!(announce_bytes_max(NUMWANT_MAX + 1) > RESPONSE_BYTES_MAX);
const _: () = assert!(scrape_bytes_max(SCRAPE_TORRENTS_MAX) <= RESPONSE_BYTES_MAX);
const _: () = assert!(scrape_line_bytes(SCRAPE_TORRENTS_MAX) <= REQUEST_LINE_BYTES_MAX);
const _: () = assert!(scrape_line_bytes(SCRAPE_TORRENTS_MAX + 1) > REQUEST_LINE_BYTES_MAX);

/// Bytes of the longest request line of a scrape: with a passkey, and with every byte of the info
/// hashes percent-encoded.
const fn scrape_line_bytes(torrents: usize) -> usize {
    let around = "GET /0123456789abcdef0123456789abcdef/scrape? HTTP/1.1\r\n".len();
    around + torrents * ("&info_hash=".len() + 3 * 20) - "&".len()
}

/// Bytes of the longest [`failure`] or [`message`], head included.
pub const FAILURE_BYTES_MAX: usize = HEAD_BYTES_MAX + 128 + MESSAGE_BYTES_MAX;

pub const REDIRECT_BYTES_MAX: usize = HEAD_BYTES_MAX + b"Location: \r\n".len() + LOCATION_BYTES_MAX;

/// Writes the response to an announce, at most [`announce_bytes_max`]. Returns its length.
pub fn announce(
    out: &mut [u8],
    options: ResponseOptions,
    response: &AnnounceResponse<'_>,
) -> usize {
    let counts = response.counts;
    let numbers = [
        counts.complete,
        counts.downloaded,
        counts.incomplete,
        response.intervals.interval_s,
        response.intervals.min_interval_s,
    ];
    let external: &[u8] = match &response.external {
        IpAddr::V4(ip) => &ip.octets(),
        IpAddr::V6(ip) => &ip.octets(),
    };
    let (v4, v6) = (response.sample.v4().as_flattened(), response.sample.v6().as_flattened());
    let with_v6 = !v6.is_empty() || response.external.is_ipv6();

    let mut digits = 0;
    for number in numbers {
        digits += digits_of(number);
    }
    let v6_len = if with_v6 { b"6:peers6".len() + string_len(v6) } else { 0 };
    let mut body_len = ANNOUNCE_FRAME.len() + digits + string_len(external) + b"e".len();
    if response.compact {
        body_len += string_len(v4) + v6_len;
    } else {
        // The length of an address as text is known when it is written: the dictionaries are
        // written first, and moved to their position later.
        let mut list = Writer { out, at: DICTIONARIES_FROM };
        list.dictionaries(response.sample);
        body_len += b"le".len() + list.at - DICTIONARIES_FROM;
    }

    let mut writer = Writer { out, at: 0 };
    writer.head(Status::Ok, options, Some(body_len));
    if options.head_only {
        return writer.at;
    }
    let body = writer.at;
    writer.put(b"d8:completei");
    writer.number(counts.complete);
    writer.put(b"e10:downloadedi");
    writer.number(counts.downloaded);
    writer.put(b"e11:external ip");
    writer.string(external);
    writer.put(b"10:incompletei");
    writer.number(counts.incomplete);
    writer.put(b"e8:intervali");
    writer.number(response.intervals.interval_s);
    writer.put(b"e12:min intervali");
    writer.number(response.intervals.min_interval_s);
    writer.put(b"e5:peers");
    if response.compact {
        writer.string(v4);
        if with_v6 {
            writer.put(b"6:peers6");
            writer.string(v6);
        }
    } else {
        writer.put(b"l");
        let list = DICTIONARIES_FROM;
        let list_len = body_len - (writer.at - body) - b"ee".len();
        writer.out.copy_within(list..list + list_len, writer.at);
        writer.at += list_len;
        writer.put(b"e");
    }
    writer.put(b"e");
    debug_assert_eq!(writer.at - body, body_len);
    writer.at
}

/// Writes the response to a scrape (BEP 48), at most [`scrape_bytes_max`]. `torrents` must be
/// sorted and unique. Returns its length.
pub fn scrape(
    out: &mut [u8],
    options: ResponseOptions,
    torrents: &[(InfoHash, TorrentCounts)],
) -> usize {
    debug_assert!(torrents.is_sorted_by(|a, b| a.0 < b.0));
    let body_len = b"d5:filesdee".len()
        + torrents.iter().map(|(_, counts)| scrape_torrent_len(counts)).sum::<usize>();
    let mut writer = Writer { out, at: 0 };
    writer.head(Status::Ok, options, Some(body_len));
    if options.head_only {
        return writer.at;
    }
    let body = writer.at;
    writer.put(SCRAPE_START);
    for (info_hash, counts) in torrents {
        writer.scrape_torrent(info_hash, counts);
    }
    writer.put(SCRAPE_END);
    debug_assert_eq!(writer.at - body, body_len);
    writer.at
}

/// Writes a failure: HTTP 200 with `failure reason`, since clients ignore the body of any other
/// status. `reason` has at most [`MESSAGE_BYTES_MAX`].
pub fn failure(
    out: &mut [u8],
    options: ResponseOptions,
    reason: &str,
    intervals: Intervals,
    retry: RetryIn,
) -> usize {
    debug_assert!(reason.len() <= MESSAGE_BYTES_MAX);
    let reason = reason.as_bytes();
    let retry_len = match retry {
        RetryIn::Minutes(minutes) => b"ie".len() + digits_of(minutes),
        RetryIn::Never => b"5:never".len(),
    };
    let numbers = digits_of(intervals.interval_s) + digits_of(intervals.min_interval_s);
    let frame = b"d14:failure reason8:intervalie12:min intervalie8:retry ine".len();
    let body_len = frame + string_len(reason) + numbers + retry_len;
    let mut writer = Writer { out, at: 0 };
    writer.head(Status::Ok, options, Some(body_len));
    if options.head_only {
        return writer.at;
    }
    let body = writer.at;
    writer.put(b"d14:failure reason");
    writer.string(reason);
    writer.put(b"8:intervali");
    writer.number(intervals.interval_s);
    writer.put(b"e12:min intervali");
    writer.number(intervals.min_interval_s);
    writer.put(b"e8:retry in");
    match retry {
        RetryIn::Minutes(minutes) => {
            writer.put(b"i");
            writer.number(minutes);
            writer.put(b"e");
        }
        RetryIn::Never => writer.put(b"5:never"),
    }
    writer.put(b"e");
    debug_assert_eq!(writer.at - body, body_len);
    writer.at
}

/// Writes plain text, for what is neither announce nor scrape. `message` is one line of at most
/// [`MESSAGE_BYTES_MAX`].
pub fn message(out: &mut [u8], options: ResponseOptions, status: Status, message: &str) -> usize {
    debug_assert!(message.len() <= MESSAGE_BYTES_MAX);
    let mut writer = Writer { out, at: 0 };
    writer.head(status, options, Some(message.len()));
    if !options.head_only {
        writer.put(message.as_bytes());
    }
    writer.at
}

/// Writes the response to OPTIONS. A 204 has neither body nor Content-Length (RFC 9110 section
/// 8.6).
pub fn options(out: &mut [u8], options: ResponseOptions) -> usize {
    let mut writer = Writer { out, at: 0 };
    writer.head(Status::NoContent, options, None);
    writer.at
}

/// Writes a redirect. `location` is printable and has at most [`LOCATION_BYTES_MAX`].
pub fn redirect(out: &mut [u8], options: ResponseOptions, location: &str) -> usize {
    debug_assert!(location.len() <= LOCATION_BYTES_MAX);
    let mut writer = Writer { out, at: 0 };
    writer.head_with(Status::Found, options, Some(0), &[b"Location: ", location.as_bytes()]);
    writer.at
}

const SCRAPE_START: &[u8] = b"d5:filesd";
const SCRAPE_END: &[u8] = b"ee";

/// Begins a scrape of unknown length: the end of the connection ends it, so that `options` must not
/// keep it alive.
pub fn open_scrape(out: &mut [u8], options: ResponseOptions) -> usize {
    debug_assert!(!options.keep_alive);
    let mut writer = Writer { out, at: 0 };
    writer.head(Status::Ok, options, None);
    if !options.head_only {
        writer.put(SCRAPE_START);
    }
    writer.at
}

/// Writes more torrents of an open scrape, and its end if they are the last.
pub fn continue_scrape(
    out: &mut [u8],
    torrents: &[(InfoHash, TorrentCounts)],
    last: bool,
) -> usize {
    let mut writer = Writer { out, at: 0 };
    for (info_hash, counts) in torrents {
        writer.scrape_torrent(info_hash, counts);
    }
    if last {
        writer.put(SCRAPE_END);
    }
    writer.at
}

pub const fn continue_scrape_bytes_max(torrents: usize) -> usize {
    SCRAPE_FRAME_BYTES + torrents * SCRAPE_TORRENT_BYTES_MAX
}

fn scrape_torrent_len(counts: &TorrentCounts) -> usize {
    SCRAPE_TORRENT_FRAME.len()
        + 20
        + digits_of(counts.complete)
        + digits_of(counts.downloaded)
        + digits_of(counts.incomplete)
}

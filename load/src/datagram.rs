//! Requests and responses by UDP (BEP 15). The numbers in them are big-endian.

use crate::body::{AnnounceContext, CheckedBody, check_compact, check_interval};
use crate::failure::{Failure, FailureKind};
use crate::options::LoadOptions;
use crate::plan::LoadPlan;
use crate::request::RequestKind;
use crate::tracker_url::TrackerUrl;

/// What begins a connect request, in place of a connection id.
const PROTOCOL_ID: u64 = 0x417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Bytes of an announce without options, of a scrape without info hashes, and of a connect request.
const ANNOUNCE_BYTES: usize = 98;
const SCRAPE_BYTES: usize = 16;
const CONNECT_BYTES: usize = 16;

/// Where the parts of an announce begin that differ from one to the next.
const INFO_HASH: usize = 16;
/// Of the number in the peer id.
const PEER_NUMBER: usize = 48;
const LEFT: usize = 64;
const EVENT: usize = 80;
const KEY: usize = 88;
const PORT: usize = 96;

/// Event `started`; none is 0.
const STARTED: u32 = 2;

/// The option that tells path and query (BEP 41), and how many bytes it has at most.
const URL_DATA: u8 = 2;
const URL_DATA_BYTES_MAX: usize = 255;

/// Bytes of a response by UDP and IPv4 at most: 65,535 with the headers.
const RESPONSE_BYTES_MAX: usize = 65_507;

/// Bytes for responses that are longer than they should be, and for texts of errors.
const SPARE_BYTES: usize = 1024;

/// The requests of a run, but for what differs from one to the next.
pub struct DatagramTemplates {
    announce: [u8; ANNOUNCE_BYTES],
    /// Options after an announce.
    options: Vec<u8>,
    hashes_per_scrape: u32,
}

impl DatagramTemplates {
    pub fn new(url: &TrackerUrl, options: &LoadOptions) -> DatagramTemplates {
        let mut announce = [0; ANNOUNCE_BYTES];
        put(&mut announce, 8, ANNOUNCE.to_be_bytes());
        put(&mut announce, 36, *b"-TR4050-annu");
        put(&mut announce, 92, (options.numwant as u32).to_be_bytes());
        let url = match url.announce.trim_end_matches(['?', '&']) {
            "/announce" => "",
            other => other,
        };
        let parts = url.as_bytes().chunks(URL_DATA_BYTES_MAX);
        let url_data = parts.flat_map(|part| [&[URL_DATA, part.len() as u8][..], part].concat());
        DatagramTemplates {
            announce,
            options: url_data.collect(),
            hashes_per_scrape: options.hashes_per_scrape as u32,
        }
    }

    /// Bytes of a request at most.
    pub fn bytes_max(&self) -> usize {
        let scrape = SCRAPE_BYTES + 20 * self.hashes_per_scrape as usize;
        scrape.max(ANNOUNCE_BYTES + self.options.len())
    }

    /// Writes a request to `out`, which has [`DatagramTemplates::bytes_max`] bytes. Returns its
    /// length.
    pub fn write(
        &self,
        out: &mut [u8],
        plan: &LoadPlan,
        kind: RequestKind,
        (connection, transaction): (u64, u32),
    ) -> usize {
        let length = match kind {
            RequestKind::Announce { peer: number, started } => {
                let peer = plan.peer(number);
                out[..ANNOUNCE_BYTES].copy_from_slice(&self.announce);
                put(out, INFO_HASH, *plan.hash(peer.torrent));
                put(out, PEER_NUMBER, hexadecimal(number));
                put(out, LEFT, (if peer.seeder { 0_u64 } else { 201_000 }).to_be_bytes());
                put(out, EVENT, (if started { STARTED } else { 0 }).to_be_bytes());
                put(out, KEY, number.to_be_bytes());
                put(out, PORT, plan.port(number).to_be_bytes());
                let length = ANNOUNCE_BYTES + self.options.len();
                out[ANNOUNCE_BYTES..length].copy_from_slice(&self.options);
                length
            }
            RequestKind::Scrape { peer } => {
                put(out, 8, SCRAPE.to_be_bytes());
                let mut length = SCRAPE_BYTES;
                for torrent in plan.torrents_from(peer, self.hashes_per_scrape) {
                    put(out, length, *plan.hash(torrent));
                    length += 20;
                }
                length
            }
        };
        put(out, 0, connection.to_be_bytes());
        put(out, 12, transaction.to_be_bytes());
        length
    }

    /// Checks the response to a request. `check` passes on what is known of an announce.
    pub fn check(
        &self,
        response: &DatagramResponse<'_>,
        kind: RequestKind,
        context: &AnnounceContext<'_>,
        is_v6: bool,
    ) -> Result<CheckedBody, Failure> {
        match (response.action, kind) {
            (ANNOUNCE, RequestKind::Announce { .. }) => {
                check_announce(response.body, context, is_v6)
            }
            (SCRAPE, RequestKind::Scrape { .. }) => {
                check_scrape(response.body, self.hashes_per_scrape)
            }
            (ERROR, _) => Err(response.error()),
            (other, _) => Err(Failure::new(FailureKind::WrongAction, other)),
        }
    }
}

/// Writes a connect request to `out`. Returns its length.
pub fn write_connect(out: &mut [u8], transaction: u32) -> usize {
    put(out, 0, PROTOCOL_ID.to_be_bytes());
    put(out, 8, CONNECT.to_be_bytes());
    put(out, 12, transaction.to_be_bytes());
    CONNECT_BYTES
}

/// Bytes to receive a response with, so that nearly any that is too long shows what it is.
pub fn response_bytes_max(options: &LoadOptions, is_v6: bool) -> usize {
    let peer = if is_v6 { 18 } else { 6 };
    let announce = 20 + options.numwant as usize * peer;
    let scrape = 8 + options.hashes_per_scrape as usize * 12;
    (announce.max(scrape) + SPARE_BYTES).min(RESPONSE_BYTES_MAX)
}

/// The beginning of a response, which all have, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramResponse<'a> {
    action: u32,
    pub transaction: u32,
    body: &'a [u8],
}

impl<'a> DatagramResponse<'a> {
    /// `None` if it is too short.
    pub fn parse(bytes: &'a [u8]) -> Option<DatagramResponse<'a>> {
        let (action, rest) = bytes.split_first_chunk()?;
        let (transaction, body) = rest.split_first_chunk()?;
        let [action, transaction] = [action, transaction].map(|it| u32::from_be_bytes(*it));
        Some(DatagramResponse { action, transaction, body })
    }

    /// The connection id in the response to a connect request.
    pub fn connection_id(&self) -> Result<u64, Failure> {
        match (self.action, <[u8; 8]>::try_from(self.body)) {
            (CONNECT, Ok(id)) => Ok(u64::from_be_bytes(id)),
            (CONNECT, Err(_)) => Err(wrong_length(self.body)),
            (ERROR, _) => Err(self.error()),
            (other, _) => Err(Failure::new(FailureKind::WrongAction, other)),
        }
    }

    fn error(&self) -> Failure {
        let text = String::from_utf8_lossy(self.body);
        Failure::new(FailureKind::Refused, text.trim_end_matches('\0'))
    }
}

fn check_announce(
    body: &[u8],
    context: &AnnounceContext<'_>,
    is_v6: bool,
) -> Result<CheckedBody, Failure> {
    let Some((numbers, peers)) = body.split_first_chunk::<12>() else {
        return Err(wrong_length(body));
    };
    let [interval, leechers, seeders] = triple(numbers);
    check_interval(interval.into(), b"interval")?;
    check_counts([("leechers", leechers), ("seeders", seeders)])?;
    let entries = match is_v6 {
        true => check_compact::<18>(peers, context),
        false => check_compact::<6>(peers, context),
    }?;
    Ok(CheckedBody { entries, ..CheckedBody::default() })
}

fn check_scrape(body: &[u8], hashes: u32) -> Result<CheckedBody, Failure> {
    let (torrents, rest) = body.as_chunks::<12>();
    if !rest.is_empty() || torrents.len() != hashes as usize {
        return Err(wrong_length(body));
    }
    for torrent in torrents {
        let [seeders, completed, leechers] = triple(torrent);
        check_counts([("seeders", seeders), ("completed", completed), ("leechers", leechers)])?;
    }
    Ok(CheckedBody { entries: torrents.len() as u64, ..CheckedBody::default() })
}

/// Counts are 31 bits long, as they are for those who read them as signed numbers.
fn check_counts<const COUNTS: usize>(counts: [(&str, i32); COUNTS]) -> Result<(), Failure> {
    match counts.into_iter().find(|(_, count)| *count < 0) {
        Some((name, _)) => Err(Failure::new(FailureKind::WrongType, name)),
        None => Ok(()),
    }
}

fn wrong_length(body: &[u8]) -> Failure {
    Failure::new(FailureKind::BadLength, format_args!("{} bytes", 8 + body.len()))
}

fn triple(bytes: &[u8; 12]) -> [i32; 3] {
    let number = |at: usize| i32::from_be_bytes([0, 1, 2, 3].map(|more| bytes[at + more]));
    [number(0), number(4), number(8)]
}

fn put<const BYTES: usize>(out: &mut [u8], at: usize, bytes: [u8; BYTES]) {
    out[at..at + BYTES].copy_from_slice(&bytes);
}

/// In eight digits.
fn hexadecimal(number: u32) -> [u8; 8] {
    [28, 24, 20, 16, 12, 8, 4, 0]
        .map(|shift: u32| b"0123456789abcdef"[(number >> shift) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(url: &str, numwant: u64) -> (DatagramTemplates, LoadPlan) {
        let defaults = LoadOptions::default();
        let options =
            LoadOptions { torrents: 3, peers: 10, numwant, hashes_per_scrape: 2, ..defaults };
        let url = TrackerUrl::parse(url, "").unwrap();
        (DatagramTemplates::new(&url, &options), LoadPlan::new(&options).unwrap())
    }

    #[test]
    fn requests_have_their_fields_in_place() {
        let (templates, plan) = templates("udp://h:1/announce", 50);
        let mut out = vec![0xff; templates.bytes_max()];
        let announce = RequestKind::Announce { peer: 4, started: true };
        assert_eq!(templates.write(&mut out, &plan, announce, (0x0102, 0x0304)), 98);
        let peer = plan.peer(4);
        let expected = [
            &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 3, 4][..],
            plan.hash(peer.torrent),
            b"-TR4050-annu00000004",
            &[0; 8],
            &(if peer.seeder { 0_u64 } else { 201_000 }).to_be_bytes(),
            &[0; 8],
            &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 50],
            &1029_u16.to_be_bytes(),
        ];
        assert_eq!(out[..98], expected.concat());
        let scrape = RequestKind::Scrape { peer: 9 };
        assert_eq!(templates.write(&mut out, &plan, scrape, (1, 2)), 56);
        let hashes = [9, 0].map(|at| *plan.hash(plan.peer(at).torrent));
        let expected =
            [&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2][..], &hashes[0], &hashes[1]];
        assert_eq!(out[..56], expected.concat());
        assert_eq!(write_connect(&mut out, 5), 16);
        assert_eq!(out[..16], [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 5]);
    }

    #[test]
    fn a_path_is_told_in_pieces() {
        let path = format!("/{}/announce?key=1", "x".repeat(300));
        let (templates, plan) = templates(&format!("udp://h:1{path}"), 50);
        let mut out = vec![0; templates.bytes_max()];
        let announce = RequestKind::Announce { peer: 0, started: false };
        let length = templates.write(&mut out, &plan, announce, (1, 2));
        let (first, last) = path.as_bytes().split_at(255);
        let expected = [&[2, 255], first, &[2, last.len() as u8], last].concat();
        assert_eq!(out[98..length], expected);
    }

    #[test]
    fn responses_are_checked_by_their_request() {
        let (templates, _) = templates("udp://h:1", 2);
        let announce = RequestKind::Announce { peer: 0, started: true };
        let scrape = RequestKind::Scrape { peer: 0 };
        let context = AnnounceContext { numwant: 2, own: None, known: None };
        let check = |action: u32, body: &[u8], kind, is_v6| {
            let bytes = [&action.to_be_bytes(), &[0; 4], body].concat();
            let response = DatagramResponse::parse(&bytes).unwrap();
            let checked = templates.check(&response, kind, &context, is_v6);
            checked.map(|it| it.entries).map_err(|failure| failure.kind)
        };
        let numbers = [0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 0];
        let with = |peers: &[u8]| [&numbers[..], peers].concat();
        assert_eq!(check(1, &with(b""), announce, false), Ok(0));
        assert_eq!(check(1, &with(b"abcdefghijkl"), announce, false), Ok(2));
        assert_eq!(check(1, &with(b"abcdefghijklmnopqr"), announce, true), Ok(1));
        for (action, body, kind) in [
            (1, with(b"abcdefghijkl"), FailureKind::BadPeers),
            (1, with(&[b'x'; 36]), FailureKind::RepeatedPeer),
            (1, with(&[b'x'; 54]), FailureKind::TooManyPeers),
            (1, numbers[..11].to_vec(), FailureKind::BadLength),
            (1, [0; 12].to_vec(), FailureKind::BadInterval),
            (1, [0xff; 12].to_vec(), FailureKind::BadInterval),
            (1, [0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0].to_vec(), FailureKind::WrongType),
            (2, with(b""), FailureKind::WrongAction),
            (0, with(b""), FailureKind::WrongAction),
            (3, b"no\0".to_vec(), FailureKind::Refused),
        ] {
            assert_eq!(check(action, &body, announce, true), Err(kind), "{action} {body:?}");
        }
        assert_eq!(check(2, &[0; 24], scrape, false), Ok(2));
        assert_eq!(check(2, &[0; 12], scrape, false), Err(FailureKind::BadLength));
        assert_eq!(check(2, &[0; 25], scrape, false), Err(FailureKind::BadLength));
        assert_eq!(check(2, &[0x80; 24], scrape, false), Err(FailureKind::WrongType));
        assert_eq!(DatagramResponse::parse(&[0; 7]), None);
    }

    #[test]
    fn connection_ids() {
        let id = |bytes: &[u8]| DatagramResponse::parse(bytes).unwrap().connection_id();
        assert_eq!(id(&[0, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 1, 2]), Ok(0x0102));
        assert_eq!(id(&[0; 15]).unwrap_err().kind, FailureKind::BadLength);
        assert_eq!(id(&[1; 16]).unwrap_err().kind, FailureKind::WrongAction);
        let refused = id(b"\0\0\0\x03\0\0\0\0go away\0").unwrap_err();
        assert_eq!((refused.kind, &*refused.detail), (FailureKind::Refused, "go away"));
    }
}

//! Reading answers: where each ends, and what of it must be the same in every run.

use std::collections::BTreeSet;
use std::fmt;

use super::client::{Expected, Request};

/// The length of the answer that `bytes` begin with, if it is whole.
pub(crate) fn answer_len(bytes: &[u8], expected: Expected) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    if matches!(expected, Expected::HeadOnly(_)) {
        return Some(head);
    }
    let text = str::from_utf8(&bytes[..head]).expect("an answer's head is text");
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
    let length: usize = length.parse().expect("Content-Length is a number");
    (bytes.len() >= head + length).then_some(head + length)
}

/// Everything one client was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Responses {
    /// Answers, as far as every run must give the same.
    pub(crate) answers: Vec<String>,
    /// Their statuses.
    pub(crate) statuses: Vec<u16>,
    /// Bytes of an answer that did not arrive whole.
    pub(crate) broken: usize,
}

impl Responses {
    /// Reads the whole of what a client received for its `requests`. `connection`: whether
    /// the Connection header counts, which a shutdown changes.
    pub(crate) fn read(received: &[u8], requests: &[Request], connection: bool) -> Responses {
        let mut responses = Responses { answers: Vec::new(), statuses: Vec::new(), broken: 0 };
        let mut rest = received;
        for request in requests {
            let expected = request.expected;
            if expected == Expected::Nothing || rest.is_empty() {
                continue;
            }
            let len = match answer_len(rest, expected) {
                Some(len) => len,
                None if expected == Expected::FullScrape && is_whole_scrape(rest) => rest.len(),
                None => break,
            };
            let (answer, status) = stable(&rest[..len], expected, connection);
            responses.answers.push(answer);
            responses.statuses.push(status);
            rest = &rest[len..];
        }
        responses.broken = rest.len();
        responses
    }
}

/// Whether a full scrape, which ends with its connection, has its end: those of the last
/// number, its torrent, the torrents and the whole.
fn is_whole_scrape(bytes: &[u8]) -> bool {
    bytes.ends_with(b"eeee") || bytes.ends_with(b"\r\n\r\nd5:filesdee")
}

/// How many torrents a full scrape tells of, if it is one and whole; none may come twice.
pub(crate) fn torrents_in(scrape: &[u8]) -> Option<usize> {
    let head = scrape.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    if !is_whole_scrape(scrape) {
        return None;
    }
    let DecodedBencode::Dictionary(entries) = DecodedBencode::read(&scrape[head..]) else {
        return None;
    };
    let [(_, DecodedBencode::Dictionary(torrents))] = entries.as_slice() else { return None };
    let unique: BTreeSet<&[u8]> = torrents.iter().map(|(hash, _)| hash.as_slice()).collect();
    assert_eq!(unique.len(), torrents.len(), "a torrent was told twice");
    Some(unique.len())
}

/// An answer without what may differ: the interval, which is spread at random, and the order
/// of peers.
fn stable(answer: &[u8], expected: Expected, connection: bool) -> (String, u16) {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let text = str::from_utf8(&answer[..head]).expect("an answer's head is text");
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|code| code.parse().ok()).expect("a status");
    let body = &answer[head..];
    if expected == Expected::FullScrape {
        // Which torrents are there, and whether another scrape is under way, differs.
        let DecodedBencode::Dictionary(entries) = DecodedBencode::read(body) else {
            panic!("a dictionary")
        };
        let keys: Vec<&[u8]> = entries.iter().map(|(key, _)| key.as_slice()).collect();
        assert!(keys == [b"files"] || keys[0] == b"failure reason");
        return ("full scrape".into(), status);
    }
    let mut stable: String = text
        .lines()
        .filter(|line| connection || !line.starts_with("Connection"))
        .map(|line| format!("{line}\n"))
        .collect();
    if status == 200 && !body.is_empty() {
        let value = DecodedBencode::read(body);
        assert!(value.is_canonical(), "keys are sorted and unique: {value:?}");
        stable += &format!("{:?}", value.without_chance());
    } else {
        stable += &String::from_utf8_lossy(body);
    }
    (stable, status)
}

/// Bencode (BEP 3).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum DecodedBencode {
    Number(i64),
    Text(Vec<u8>),
    List(Vec<DecodedBencode>),
    Dictionary(Vec<(Vec<u8>, DecodedBencode)>),
}

impl fmt::Debug for DecodedBencode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodedBencode::Number(number) => number.fmt(f),
            DecodedBencode::Text(text) => write!(f, "\"{}\"", text.escape_ascii()),
            DecodedBencode::List(list) => f.debug_list().entries(list).finish(),
            DecodedBencode::Dictionary(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.escape_ascii(), value));
                let entries = entries.map(|(key, value)| (key.to_string(), value));
                f.debug_map().entries(entries).finish()
            }
        }
    }
}

impl DecodedBencode {
    /// The one value that `bytes` are.
    fn read(bytes: &[u8]) -> DecodedBencode {
        let (value, rest) = DecodedBencode::split(bytes);
        assert!(rest.is_empty(), "{} bytes follow the value", rest.len());
        value
    }

    fn split(bytes: &[u8]) -> (DecodedBencode, &[u8]) {
        let number = |end: u8| {
            let at = bytes.iter().position(|&byte| byte == end).expect("a number ends");
            let digits = &bytes[usize::from(end == b'e')..at];
            let number = str::from_utf8(digits).expect("digits").parse::<i64>();
            (number.expect("a number"), &bytes[at + 1..])
        };
        match bytes.first().expect("a value begins") {
            b'i' => {
                let (number, rest) = number(b'e');
                (DecodedBencode::Number(number), rest)
            }
            b'0'..=b'9' => {
                let (len, rest) = number(b':');
                let (text, rest) = rest.split_at(len as usize);
                (DecodedBencode::Text(text.to_vec()), rest)
            }
            b'l' => {
                let (mut list, mut rest) = (Vec::new(), &bytes[1..]);
                while rest[0] != b'e' {
                    let (value, after) = DecodedBencode::split(rest);
                    list.push(value);
                    rest = after;
                }
                (DecodedBencode::List(list), &rest[1..])
            }
            b'd' => {
                let (mut entries, mut rest) = (Vec::new(), &bytes[1..]);
                while rest[0] != b'e' {
                    let (DecodedBencode::Text(key), after) = DecodedBencode::split(rest) else {
                        panic!("a key")
                    };
                    let (value, after) = DecodedBencode::split(after);
                    entries.push((key, value));
                    rest = after;
                }
                (DecodedBencode::Dictionary(entries), &rest[1..])
            }
            other => panic!("not bencode: {other:#x}"),
        }
    }

    /// Whether the keys of all dictionaries in it are sorted and unique.
    fn is_canonical(&self) -> bool {
        match self {
            DecodedBencode::Dictionary(entries) => {
                entries.is_sorted_by(|a, b| a.0 < b.0)
                    && entries.iter().all(|(_, value)| value.is_canonical())
            }
            DecodedBencode::List(list) => list.iter().all(DecodedBencode::is_canonical),
            DecodedBencode::Number(_) | DecodedBencode::Text(_) => true,
        }
    }

    fn without_chance(self) -> DecodedBencode {
        let DecodedBencode::Dictionary(entries) = self else { return self };
        let is_zero = |entry: &(Vec<u8>, DecodedBencode)| entry.1 == DecodedBencode::Number(0);
        let counts = |name: &[u8]| name == b"complete" || name == b"incomplete";
        // A torrent that nobody is in may have been swept away, its number of downloads with it.
        let empty = entries.iter().filter(|it| counts(&it.0)).all(is_zero);
        let entries = entries.into_iter().map(|(key, value)| {
            let value = match (key.as_slice(), value) {
                (b"interval", DecodedBencode::Number(_)) => DecodedBencode::Number(0),
                (b"downloaded", DecodedBencode::Number(_)) if empty => DecodedBencode::Number(0),
                (b"peers", DecodedBencode::Text(peers)) => sorted(&peers, 6),
                (b"peers6", DecodedBencode::Text(peers)) => sorted(&peers, 18),
                (b"peers", DecodedBencode::List(mut peers)) => {
                    peers.sort();
                    DecodedBencode::List(peers)
                }
                (_, value) => value,
            };
            (key, value)
        });
        DecodedBencode::Dictionary(entries.collect())
    }
}

fn sorted(peers: &[u8], len: usize) -> DecodedBencode {
    let mut peers: Vec<&[u8]> = peers.chunks(len).collect();
    peers.sort_unstable();
    DecodedBencode::List(
        peers.into_iter().map(|peer| DecodedBencode::Text(peer.to_vec())).collect(),
    )
}

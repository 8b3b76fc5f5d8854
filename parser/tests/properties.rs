//! Properties that hold for any input, on random ones.

use std::fs::read;
use std::path::Path;

use annulus_parser::{
    AnnounceEvent, Bounds, Error, Numwant, Parsed, Query, Target, parse_announce, parse_head,
    scrape_hashes,
};
use quickcheck::{Arbitrary, Gen, QuickCheck, quickcheck};

const BOUNDS: Bounds =
    Bounds { request_line_bytes_max: 4096, head_bytes_max: 8192, headers_max: 64 };

/// An announce, and one of the many ways to write it.
#[derive(Clone, Debug)]
struct Printed {
    info_hash: [u8; 20],
    port: u16,
    left: Option<u64>,
    downloaded: Option<u64>,
    event: AnnounceEvent,
    compact: bool,
    numwant: Numwant,
    ip: Option<[u8; 4]>,
    query: Vec<u8>,
}

impl Arbitrary for Printed {
    fn arbitrary(g: &mut Gen) -> Printed {
        let event = *g
            .choose(&[
                AnnounceEvent::None,
                AnnounceEvent::Started,
                AnnounceEvent::Stopped,
                AnnounceEvent::Completed,
            ])
            .unwrap();
        let port = if event == AnnounceEvent::Stopped {
            u16::arbitrary(g)
        } else {
            u16::arbitrary(g).max(1)
        };
        let mut printed = Printed {
            info_hash: std::array::from_fn(|_| u8::arbitrary(g)),
            port,
            left: Option::arbitrary(g),
            downloaded: Option::arbitrary(g),
            event,
            compact: bool::arbitrary(g),
            numwant: Option::arbitrary(g).map_or(Numwant::Default, Numwant::AtMost),
            ip: bool::arbitrary(g).then(|| std::array::from_fn(|_| u8::arbitrary(g))),
            query: Vec::new(),
        };
        printed.print(g);
        printed
    }
}

impl Printed {
    fn print(&mut self, g: &mut Gen) {
        let mut parameters: Vec<(&str, Vec<u8>)> = vec![("info_hash", self.info_hash.to_vec())];
        let mut add = |name, value: String| parameters.push((name, value.into_bytes()));
        // With `stopped`, no port and port 0 are the same.
        if self.port != 0 || bool::arbitrary(g) {
            add("port", self.port.to_string());
        }
        if let Some(left) = self.left {
            add("left", left.to_string());
        }
        if let Some(downloaded) = self.downloaded {
            add("downloaded", downloaded.to_string());
        }
        match self.event {
            AnnounceEvent::None if bool::arbitrary(g) => add("event", "paused".to_string()),
            AnnounceEvent::None => {}
            AnnounceEvent::Started => add("event", "started".to_string()),
            AnnounceEvent::Stopped => add("event", "stopped".to_string()),
            AnnounceEvent::Completed => add("event", "completed".to_string()),
        }
        if !self.compact || bool::arbitrary(g) {
            add("compact", u8::from(self.compact).to_string());
        }
        if let Numwant::AtMost(count) = self.numwant {
            add("numwant", count.to_string());
        }
        if let Some([a, b, c, d]) = self.ip {
            add("ip", format!("{a}.{b}.{c}.{d}"));
        }
        for name in ["peer_id", "key", "trackerid", "", "x=", "por", "infohash", "event2"] {
            if bool::arbitrary(g) {
                parameters.push((name, Vec::arbitrary(g)));
            }
        }
        for index in (1..parameters.len()).rev() {
            parameters.swap(index, usize::arbitrary(g) % (index + 1));
        }
        for (name, value) in parameters {
            let often_plain = !u8::arbitrary(g).is_multiple_of(4);
            for &byte in name.as_bytes() {
                match often_plain || byte == b'=' {
                    true => self.query.push(byte),
                    false => encode(byte, b"", g, &mut self.query),
                }
            }
            self.query.push(b'=');
            value.iter().for_each(|&byte| encode(byte, b"=", g, &mut self.query));
            let is_text = !["", "peer_id", "key"].contains(&name);
            if is_text && u8::arbitrary(g).is_multiple_of(8) {
                self.query.extend(*g.choose(&[&b"%0D"[..], b"%0d%0A", b"+", b"%20/"]).unwrap());
            }
            self.query.extend(*g.choose(&[&b"&"[..], b"&&", b"?", b"&x&", b"&%&"]).unwrap());
        }
    }
}

/// Writes `byte` in one of the ways that are allowed for it; those of `raw` may stay as they
/// are although they divide.
fn encode(byte: u8, raw: &[u8], g: &mut Gen, query: &mut Vec<u8>) {
    let can_be_raw = byte > b' ' && !b"%&+=?".contains(&byte) || raw.contains(&byte);
    if byte == b' ' && bool::arbitrary(g) {
        query.push(b'+');
    } else if can_be_raw && bool::arbitrary(g) {
        query.push(byte);
    } else {
        let digit = |nibble: u8, upper: bool| match upper {
            true => b"0123456789ABCDEF"[usize::from(nibble)],
            false => b"0123456789abcdef"[usize::from(nibble)],
        };
        query.push(b'%');
        query.push(digit(byte >> 4, bool::arbitrary(g)));
        query.push(digit(byte & 15, bool::arbitrary(g)));
    }
}

/// What may stand before the query of an announce.
const PLACES: [&str; 11] = [
    "/announce?",
    "/announce?",
    "/?",
    "?",
    "/a?",
    "/x.php?",
    "/a/b/c/announce?magnet&",
    "/announce%0D?",
    "http://tracker?",
    "http://[::1]:80/announce%20/?passkey&",
    "/announce/KEY/%?",
];

fn printed_is_read_back(printed: Printed, place: usize) {
    let place = PLACES[place % PLACES.len()];
    let request =
        [b"GET ", place.as_bytes(), &printed.query, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    let Ok(Parsed::Complete { head, consumed }) = parse_head(&request, 0, &BOUNDS) else {
        panic!("{:?}", parse_head(&request, 0, &BOUNDS))
    };
    assert_eq!(consumed.get(), request.len());
    let Target::Announce(query) = head.target else { panic!("{head:?}") };
    assert!(query.as_bytes().ends_with(&printed.query));
    let announce = parse_announce(query).unwrap();
    assert_eq!(announce.info_hash, printed.info_hash);
    assert_eq!(announce.port, printed.port);
    assert_eq!(announce.left, printed.left);
    assert_eq!(announce.downloaded, printed.downloaded);
    assert_eq!(announce.event, printed.event);
    assert_eq!(announce.compact, printed.compact);
    assert_eq!(announce.numwant, printed.numwant);
    assert_eq!(announce.ip.map(|ip| ip.endpoint().unwrap().0), printed.ip.map(Into::into));
    assert!(scrape_hashes(query).eq([Ok(printed.info_hash)]));
}

#[test]
fn announces_are_read_back_however_they_are_written() {
    QuickCheck::new().tests(3000).quickcheck(printed_is_read_back as fn(Printed, usize));
}

/// A recorded request with a few bytes changed, removed or doubled.
#[derive(Clone, Debug)]
struct Damaged(Vec<u8>);

impl Arbitrary for Damaged {
    fn arbitrary(g: &mut Gen) -> Damaged {
        let names = [
            "transmission-3.00/001-announce-started.http",
            "webtorrent-3.0.21/014-announce-started-tls.http",
            "ctorrent-dnh3.3.2/002-announce-completed.http",
            "transmission-3.00/032-scrape-multi4.http",
        ];
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let mut bytes = read(path.join(g.choose(&names).unwrap())).unwrap();
        let special = b"\r\n \t:\0\x7f\x80%&=?/.,0aZ";
        for _ in 0..u8::arbitrary(g) % 6 {
            let at = usize::arbitrary(g) % bytes.len();
            match u8::arbitrary(g) % 4 {
                0 => bytes[at] = u8::arbitrary(g),
                1 => bytes[at] = *g.choose(special).unwrap(),
                2 => bytes.insert(at, *g.choose(special).unwrap()),
                _ => drop(bytes.remove(at)),
            }
        }
        Damaged(bytes)
    }
}

/// Gives `bytes` in growing pieces, and checks that neither the pieces nor what `seen` says
/// change anything: partial up to some byte, and from there on one and the same result.
fn check_growth(bytes: &[u8], bounds: &Bounds) {
    let mut seen = 0;
    let mut decided: Option<Result<usize, Error>> = None;
    for length in 0..=bytes.len() {
        let input = &bytes[..length];
        let result = parse_head(input, 0, bounds);
        if decided.is_none() {
            assert_eq!(parse_head(input, seen, bounds), result);
            assert_eq!(parse_head(input, seen / 2, bounds), result);
        }
        match (result, decided) {
            (Ok(Parsed::Partial), None) => seen = length,
            (Ok(Parsed::Partial), Some(decided)) => panic!("{decided:?} came to be partial"),
            (Ok(Parsed::Complete { consumed, .. }), None) => {
                assert_eq!(consumed.get(), length);
                decided = Some(Ok(length));
            }
            (Ok(Parsed::Complete { consumed, .. }), Some(decided)) => {
                let behind = &bytes[decided.unwrap()..consumed.get()];
                assert!(behind.iter().all(|&byte| byte == 0));
            }
            (Err(error), None) => decided = Some(Err(error)),
            (Err(error), Some(decided)) => assert_eq!(decided, Err(error)),
        }
    }
}

fn growth_of_damaged(damaged: Damaged, line: u16, head: u16, headers: u8) {
    check_growth(&damaged.0, &BOUNDS);
    let tight = Bounds {
        request_line_bytes_max: usize::from(line % 512),
        head_bytes_max: usize::from(head % 512),
        headers_max: usize::from(headers % 8),
    };
    check_growth(&damaged.0, &tight);
}

#[test]
fn pieces_never_matter() {
    QuickCheck::new().tests(400).quickcheck(growth_of_damaged as fn(Damaged, u16, u16, u8));
}

quickcheck! {
    fn any_bytes_are_survived(bytes: Vec<u8>, seen: usize, line: usize, head: usize) -> bool {
        let bounds =
            Bounds { request_line_bytes_max: line, head_bytes_max: head, headers_max: seen };
        for bounds in [BOUNDS, bounds] {
            if let Ok(Parsed::Complete { consumed, .. }) = parse_head(&bytes, seen, &bounds) {
                assert!(0 < consumed.get() && consumed.get() <= bytes.len());
            }
        }
        let query = Query::new(&bytes);
        if let Ok(announce) = parse_announce(query) {
            let addresses = [announce.ip, announce.ipv4, announce.ipv6];
            for address in addresses.into_iter().flatten() {
                let _ = address.endpoint();
            }
        }
        scrape_hashes(query).count() <= bytes.len()
    }

    /// A wrong `seen` gives a wrong answer at worst.
    fn any_seen_is_survived(damaged: Damaged, seen: usize) -> bool {
        let _ = parse_head(&damaged.0, seen, &BOUNDS);
        match parse_head(&damaged.0, seen % (damaged.0.len() + 1), &BOUNDS) {
            Ok(Parsed::Complete { consumed, .. }) => consumed.get() <= damaged.0.len(),
            Ok(Parsed::Partial) | Err(_) => true,
        }
    }

    fn any_query_is_survived(pieces: Vec<u8>) -> bool {
        let words: [&[u8]; 12] = [
            b"info_hash=", b"info_hash", b"&", b"?", b"=", b"%", b"%6", b"%70ort=", b"port=1",
            b"aaaaaaaaaaaaaaaaaaaa", b"event=stopped", b"\xff",
        ];
        let bytes: Vec<u8> =
            pieces.iter().flat_map(|&piece| words[usize::from(piece) % 12]).copied().collect();
        let query = Query::new(&bytes);
        // The query of a valid announce is also that of a scrape with one hash.
        match parse_announce(query) {
            Ok(announce) => scrape_hashes(query).eq([Ok(announce.info_hash)]),
            Err(Error::InfoHashMissing) => scrape_hashes(query).next().is_none(),
            Err(_) => true,
        }
    }
}

//! The query: a slow and obvious decoder reads the same from an announce that is accepted, and a
//! scrape has the info hashes of an announce. A query with an info hash is an announce on any path.
#![no_main]

use annulus_parser::{
    AnnounceEvent, Bounds, Error, Numwant, Parsed, Target, parse_announce, parse_head,
    scrape_hashes,
};
use libfuzzer_sys::fuzz_target;

const BOUNDS: Bounds =
    Bounds { request_line_bytes_max: 1 << 16, head_bytes_max: 1 << 17, headers_max: 8 };

/// Percent-decoding (RFC 3986 section 2.1), with `+` for a space; `None` if an escape is invalid.
fn decode(raw: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = raw.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            _ => byte,
        });
    }
    Some(bytes)
}

/// The length without white space and slashes at the end.
fn unpadded(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| !b"\t\n\r /".contains(byte)).map_or(0, |at| at + 1)
}

/// Decoded, without padding.
fn word(value: &[u8]) -> Option<Vec<u8>> {
    let mut text = decode(value)?;
    text.truncate(unpadded(&text));
    Some(text)
}

/// The info hash of decoded bytes, perhaps with padding, if they are one.
fn hash(bytes: &[u8]) -> Result<[u8; 20], Error> {
    let lengths = unpadded(bytes)..=bytes.len();
    let is_text = |length, alphabet: &[u8]| {
        let all = |text: &[u8]| text.iter().all(|byte| alphabet.contains(byte));
        lengths.contains(&length) && all(&bytes[..length])
    };
    let base32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz234567";
    let hex = b"0123456789abcdefABCDEF";
    if lengths.contains(&20) || lengths.contains(&32) && !is_text(32, base32) {
        return Ok(bytes[..20].try_into().expect("twenty bytes"));
    }
    Err(match bytes.len() {
        _ if is_text(32, base32) => Error::InfoHashBase32,
        _ if is_text(40, hex) || is_text(64, hex) => Error::InfoHashHex,
        _ => Error::InfoHashLengthWrong,
    })
}

fn number(value: &[u8]) -> Option<u128> {
    let text = word(value)?;
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = String::from_utf8(text).ok()?;
    // A number that does not fit saturates; only zeros are 0.
    let digits = text.trim_start_matches('0');
    Some(if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u128::MAX) })
}

fuzz_target!(|query: &[u8]| {
    if query.iter().any(|&byte| byte <= b' ') || query.len() > 60_000 {
        return;
    }
    let request =
        |path: &[u8]| [b"GET ".as_slice(), path, b"?", query, b" HTTP/1.1\r\n\r\n"].concat();
    let parameters: Vec<(Vec<u8>, &[u8])> = query
        .split(|&byte| byte == b'&' || byte == b'?')
        .map(|parameter| {
            let at = parameter.iter().position(|&byte| byte == b'=').unwrap_or(parameter.len());
            let value = parameter.get(at + 1..).unwrap_or_default();
            (decode(&parameter[..at]).unwrap_or_default(), value)
        })
        .collect();
    let all = |name: &[u8]| -> Vec<&[u8]> {
        parameters.iter().filter(|(key, _)| key == name).map(|&(_, value)| value).collect()
    };
    let hashes: Vec<Option<Vec<u8>>> = all(b"info_hash").into_iter().map(decode).collect();
    let last = |name: &[u8]| all(name).last().copied();

    let bytes = request(b"/announce");
    let Ok(Parsed::Complete { head, .. }) = parse_head(&bytes, 0, &BOUNDS) else {
        panic!("a well-formed head was refused");
    };
    let Target::Announce(parsed) = head.target else { panic!("an announce was not seen") };
    match parse_announce(parsed) {
        Ok(announce) => {
            assert_eq!(hashes.len(), 1);
            let bytes = hashes[0].as_ref().expect("a broken escape was accepted");
            assert_eq!(hash(bytes), Ok(announce.info_hash));
            let stopped = announce.event == AnnounceEvent::Stopped;
            let port = last(b"port").and_then(number).filter(|port| (1..=65535).contains(port));
            match port {
                Some(port) => assert_eq!(u128::from(announce.port), port),
                None => assert!(stopped && announce.port == 0),
            }
            let left = last(b"left").and_then(number);
            assert_eq!(announce.left == Some(0), left == Some(0));
            let downloaded = last(b"downloaded").and_then(number);
            assert_eq!(announce.downloaded == Some(0), downloaded == Some(0));
            let event = last(b"event").and_then(word).unwrap_or_default();
            assert_eq!(stopped, event == b"stopped");
            let compact = last(b"compact").and_then(word).unwrap_or_default();
            assert_eq!(announce.compact, compact != b"0");
            match (announce.numwant, last(b"numwant").and_then(number)) {
                (Numwant::Default, None) => {}
                (Numwant::AtMost(most), Some(asked)) => {
                    assert_eq!(u128::from(most), asked.min(u32::MAX.into()));
                }
                (found, asked) => panic!("numwant: {found:?} for {asked:?}"),
            }
        }
        Err(Error::InfoHashMissing) => assert!(hashes.is_empty()),
        Err(Error::InfoHashRepeated) => assert!(hashes.len() > 1),
        Err(Error::InfoHashEscapeMalformed) => assert!(hashes.iter().any(Option::is_none)),
        Err(error @ (Error::InfoHashLengthWrong | Error::InfoHashHex | Error::InfoHashBase32)) => {
            assert!(hashes.iter().flatten().any(|bytes| hash(bytes) == Err(error)));
        }
        Err(Error::PortMissing) => assert!(last(b"port").is_none()),
        Err(Error::PortInvalid) => {
            let port = last(b"port").and_then(number);
            assert!(port.is_none_or(|port| !(1..=65535).contains(&port)));
        }
        Err(error) => panic!("an announce cannot fail with {error:?}"),
    }

    for path in [b"/".as_slice(), b"", b"/a/b/c.php", b"/announce%0D", b"http://tracker"] {
        let bytes = request(path);
        let Ok(Parsed::Complete { head, .. }) = parse_head(&bytes, 0, &BOUNDS) else {
            panic!("a well-formed head was refused");
        };
        match head.target {
            Target::Announce(found) => assert!(found == parsed && !hashes.is_empty()),
            Target::Other(_) => assert!(hashes.is_empty()),
            Target::Scrape(_) => panic!("a scrape was seen"),
        }
    }

    let bytes = request(b"/scrape");
    let Ok(Parsed::Complete { head, .. }) = parse_head(&bytes, 0, &BOUNDS) else {
        panic!("a well-formed head was refused");
    };
    let Target::Scrape(parsed) = head.target else { panic!("a scrape was not seen") };
    let found: Vec<Result<[u8; 20], Error>> = scrape_hashes(parsed).collect();
    let read = |bytes: &Option<Vec<u8>>| match bytes {
        Some(bytes) => hash(bytes),
        None => Err(Error::InfoHashEscapeMalformed),
    };
    let expected: Vec<Result<[u8; 20], Error>> = hashes.iter().map(read).collect();
    assert_eq!(found, expected);
});

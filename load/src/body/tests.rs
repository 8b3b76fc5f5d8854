//! Correct, unusual and wrong bodies.

use std::net::SocketAddr;

use quickcheck::quickcheck;

use super::{AnnounceContext, check_announce, check_scrape};
use crate::failure::{FailureKind, Warning};

/// Its port is `ab` in bytes.
fn own() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0x6162))
}

fn context() -> AnnounceContext<'static> {
    AnnounceContext { numwant: 3, own: Some(own()), known: None }
}

fn fault(body: &[u8]) -> FailureKind {
    check_announce(body, &context()).unwrap_err().kind
}

#[test]
fn good_announces() {
    for (body, peers) in [
        (&b"d8:intervali1e5:peers0:e"[..], 0),
        (b"d8:intervali1e5:peersle6:peers60:e", 0),
        (b"d8:intervali1e6:peers618:aaaaaaaaaaaaaaaappe", 1),
        (b"d8:completei0e8:intervali1e5:peers12:aaaabbccccdde", 2),
        (b"d3:newd1:xli1eee8:intervali1e5:peers6:aaaabb10:tracker id1:te", 1),
        (b"d8:intervali1e5:peersld2:ip9:192.0.2.17:peer id1:x4:porti1eeee", 1),
    ] {
        let text = body.escape_ascii();
        let checked = check_announce(body, &context());
        assert_eq!(checked.map(|checked| checked.entries), Ok(peers), "{text}");
    }
}

#[test]
fn odd_announces() {
    for (body, warning) in [
        (&b"d5:peers0:8:intervali1ee"[..], Warning::UnsortedKeys),
        (b"d1:ad1:b0:1:a0:e8:intervali1e5:peers0:e", Warning::UnsortedKeys),
        (b"d8:intervali1e5:peers0:e\r\n", Warning::TrailingLineEnd),
        (b"d8:intervali1e5:peers0:e\n", Warning::TrailingLineEnd),
        (b"d8:intervali1e5:peerslee", Warning::DictionaryPeers),
        (b"d8:intervali1e5:peers0:15:warning message2:hie", Warning::WarningMessage),
    ] {
        let checked = check_announce(body, &context()).unwrap();
        assert_eq!(checked.warnings.of(warning), 1, "{}", body.escape_ascii());
    }
}

#[test]
fn wrong_announces() {
    for (body, wrong) in [
        (&b""[..], FailureKind::NotBencode),
        (b"<html>", FailureKind::NotBencode),
        (b"le", FailureKind::NotBencode),
        (b"d8:intervali1e5:peers0:", FailureKind::NotBencode),
        (b"d8:intervali01e5:peers0:e", FailureKind::NotBencode),
        (b"d8:interval", FailureKind::NotBencode),
        (b"d8:intervali1e5:peers0:e\r\n\r\n", FailureKind::TrailingBytes),
        (b"d8:intervali1e5:peers0:ed", FailureKind::TrailingBytes),
        (b"de", FailureKind::MissingKey),
        (b"d5:peers0:e", FailureKind::MissingKey),
        (b"d8:intervali1ee", FailureKind::MissingKey),
        (b"d14:failure reason2:noe", FailureKind::Refused),
        (b"d14:failure reasoni1ee", FailureKind::WrongType),
        (b"d8:interval1:15:peers0:e", FailureKind::WrongType),
        (b"d8:intervali1e5:peersi0ee", FailureKind::WrongType),
        (b"d8:intervali1e5:peers0:6:peers6lee", FailureKind::WrongType),
        (b"d8:completei-1e8:intervali1e5:peers0:e", FailureKind::WrongType),
        (b"d8:intervali0e5:peers0:e", FailureKind::BadInterval),
        (b"d8:intervali2147483648e5:peers0:e", FailureKind::BadInterval),
        (b"d8:intervali1e12:min intervali-5e5:peers0:e", FailureKind::BadInterval),
        (b"d8:intervali1e5:peers5:aaaabe", FailureKind::BadPeers),
        (b"d8:intervali1e5:peersld2:ip4:host4:porti1eeee", FailureKind::BadPeers),
        (b"d8:intervali1e5:peersld2:ip9:192.0.2.1eee", FailureKind::BadPeers),
        (b"d8:intervali1e5:peers6:\0\0\0\0abe", FailureKind::BadPeers),
        (b"d8:intervali1e5:peers6:\xe0\0\0\x01abe", FailureKind::BadPeers),
        (b"d8:intervali1e5:peers6:\xff\xff\xff\xffabe", FailureKind::BadPeers),
        (b"d8:intervali1e6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0abe", FailureKind::BadPeers),
        (
            b"d8:intervali1e6:peers618:\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01abe",
            FailureKind::BadPeers,
        ),
        (b"d8:intervali1e5:peers12:aaaabbaaaabbe", FailureKind::RepeatedPeer),
        (
            b"d8:intervali1e6:peers636:aaaaaaaaaaaaaaaappaaaaaaaaaaaaaaaappe",
            FailureKind::RepeatedPeer,
        ),
        (
            b"d8:intervali1e5:peersld2:ip7:1.2.3.44:porti1eed2:ip7:1.2.3.44:porti1eeee",
            FailureKind::RepeatedPeer,
        ),
        (b"d8:intervali1e5:peers24:aaaabbaaaabcaaaabdaaaabee", FailureKind::TooManyPeers),
        (
            b"d8:intervali1e5:peers18:aaaabbaaaabcaaaabd6:peers618:aaaaaaaaaaaaaaaappe",
            FailureKind::TooManyPeers,
        ),
        (b"d8:intervali1e5:peers6:\x7f\0\0\x01abe", FailureKind::OwnAddress),
        (b"d8:intervali1e5:peersld2:ip9:127.0.0.14:porti24930eeee", FailureKind::OwnAddress),
        (
            b"d8:intervali1e6:peers618:\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01abe",
            FailureKind::OwnAddress,
        ),
        (b"d8:intervali1e5:peers6:aaaa\0\0e", FailureKind::PortZero),
        (b"d8:intervali1e5:peers18:aaaabb\x7f\0\0\x01abccccdde", FailureKind::OwnAddress),
        (b"d8:intervali1e5:peers18:aaaabbccccddeeee\0\0e", FailureKind::PortZero),
        (b"d8:intervali1e6:peers618:aaaaaaaaaaaaaaaa\0\0e", FailureKind::PortZero),
    ] {
        assert_eq!(fault(body), wrong, "{}", body.escape_ascii());
    }
}

#[test]
fn one_of_many_that_comes_twice_is_found() {
    for count in [2_u32, 50, 256, 257, 1000] {
        let bytes = 6 * count;
        for (first, second) in [(0, 1), (0, count - 1), (count / 2, count - 1)] {
            let mut peers: Vec<[u8; 6]> = (0..count)
                .map(|at| {
                    let [_, a, b, c] = at.to_be_bytes();
                    [10, a, b, c, 4, 1]
                })
                .collect();
            let body = |peers: &[[u8; 6]]| {
                let start = format!("d8:intervali1e5:peers{bytes}:");
                [start.as_bytes(), peers.as_flattened(), b"e"].concat()
            };
            let context = AnnounceContext { numwant: 1000, ..context() };
            assert_eq!(check_announce(&body(&peers), &context).unwrap().entries, u64::from(count));
            if first == second {
                continue;
            }
            peers[second as usize] = peers[first as usize];
            let failure = check_announce(&body(&peers), &context).unwrap_err();
            assert_eq!(failure.kind, FailureKind::RepeatedPeer, "{count}: {first} and {second}");
        }
    }
}

#[test]
fn own_addresses_are_told_by_family() {
    let v6 = SocketAddr::from((*b"aaaaaaaaaaaaaaaa", 0x6162));
    let asked_by = |own| AnnounceContext { numwant: 3, own, known: None };
    let body = b"d8:intervali1e6:peers636:bbbbbbbbbbbbbbbbabaaaaaaaaaaaaaaaaabe";
    let judged = |own| check_announce(body, &asked_by(own)).map_err(|failure| failure.kind);
    assert_eq!(judged(Some(v6)), Err(FailureKind::OwnAddress));
    assert_eq!(judged(Some(own())).map(|checked| checked.entries), Ok(2));
    assert_eq!(judged(None).map(|checked| checked.entries), Ok(2));
    // Port 0 is wrong whoever asks, and where nobody knows who does.
    let body = b"d8:intervali1e5:peers6:aaaa\0\0e";
    for own in [None, Some(v6)] {
        assert_eq!(check_announce(body, &asked_by(own)).unwrap_err().kind, FailureKind::PortZero);
    }
}

#[test]
fn strangers_are_seen_where_there_can_be_none() {
    let known = |peer: SocketAddr| peer.ip().to_string() == "127.0.0.9";
    let context = AnnounceContext { known: Some(&known), ..context() };
    let ours = check_announce(b"d8:intervali1e5:peers6:\x7f\0\0\x09abe", &context);
    assert_eq!(ours.map(|checked| checked.entries), Ok(1));
    let strange = check_announce(b"d8:intervali1e5:peers6:\x7f\0\0\x08abe", &context);
    assert_eq!(strange.unwrap_err().kind, FailureKind::StrangePeer);
}

const HASH: &[u8; 20] = b"aaaaaaaaaaaaaaaaaaaa";

fn scrape(text: &str) -> Result<u64, FailureKind> {
    let body = text.replace("HASH", &format!("20:{}", str::from_utf8(HASH).unwrap()));
    let checked = check_scrape(body.as_bytes(), |hash| hash == HASH);
    checked.map(|checked| checked.entries).map_err(|failure| failure.kind)
}

#[test]
fn scrapes_of_all_kinds() {
    for (text, expected) in [
        ("d5:filesdee", Ok(0)),
        ("d5:filesdHASHd8:completei1e10:downloadedi2e10:incompletei3eeee", Ok(1)),
        ("d5:filesdHASHd8:completei1e10:downloadedi2e10:incompletei3e4:name1:xeee", Ok(1)),
        ("d5:filesdHASHd8:completei1e10:downloadedi2eeee", Err(FailureKind::MissingKey)),
        (
            "d5:filesdHASHd8:completei-1e10:downloadedi2e10:incompletei3eeee",
            Err(FailureKind::WrongType),
        ),
        ("d5:filesdHASHi1eee", Err(FailureKind::WrongType)),
        (
            "d5:filesd3:abcd8:completei1e10:downloadedi2e10:incompletei3eeee",
            Err(FailureKind::StrangeTorrent),
        ),
        ("d5:fileslee", Err(FailureKind::WrongType)),
        ("d5:flagsdee", Err(FailureKind::MissingKey)),
        ("d5:filesde", Err(FailureKind::NotBencode)),
        ("d14:failure reason2:noe", Err(FailureKind::Refused)),
    ] {
        assert_eq!(scrape(text), expected, "{text}");
    }
}

/// A good answer.
const BODY: &[u8] = b"d8:completei1e10:downloadedi2e11:external ip4:\x7f\0\0\x0110:incompletei3e\
    8:intervali1800e12:min intervali900e5:peers6:aaaabb6:peers60:e";

quickcheck! {
    fn a_damaged_answer_is_judged_without_panic(at: usize, byte: u8) -> bool {
        let mut body = BODY.to_vec();
        let at = at % body.len();
        body[at] = byte;
        let _ = check_scrape(&body, |_| true);
        check_announce(&body, &context()).is_ok() || body != BODY
    }

    fn an_answer_cut_off_is_wrong(at: usize) -> bool {
        check_announce(&BODY[..at % BODY.len()], &context()).is_err()
    }

    fn any_bytes_are_judged_without_panic(bytes: Vec<u8>) -> bool {
        let body = [b"d", &bytes[..]].concat();
        check_announce(&body, &context()).is_err() && check_scrape(&body, |_| true).is_err()
    }
}

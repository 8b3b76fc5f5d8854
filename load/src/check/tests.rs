//! Answers good, odd and wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quickcheck::quickcheck;

use super::{Announced, Peer, check_announce, check_scrape};
use crate::fault::{Fault, Oddity};

const OWN: Peer = Peer { ip: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1)), port: 0x6162 };

fn announced() -> Announced<'static> {
    Announced { numwant: 3, own: Some(OWN), known: None }
}

fn fault(body: &[u8]) -> Fault {
    check_announce(body, &announced()).unwrap_err().fault
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
        let answer = check_announce(body, &announced());
        assert_eq!(answer.map(|answer| answer.peers), Ok(peers), "{text}");
    }
}

#[test]
fn odd_announces() {
    for (body, oddity) in [
        (&b"d5:peers0:8:intervali1ee"[..], Oddity::UnsortedKeys),
        (b"d1:ad1:b0:1:a0:e8:intervali1e5:peers0:e", Oddity::UnsortedKeys),
        (b"d8:intervali1e5:peers0:e\r\n", Oddity::TrailingLineEnd),
        (b"d8:intervali1e5:peers0:e\n", Oddity::TrailingLineEnd),
        (b"d8:intervali1e5:peerslee", Oddity::DictionaryPeers),
        (b"d8:intervali1e5:peers0:15:warning message2:hie", Oddity::Warning),
    ] {
        let answer = check_announce(body, &announced()).unwrap();
        assert_eq!(answer.oddities.count(oddity), 1, "{}", body.escape_ascii());
    }
}

#[test]
fn wrong_announces() {
    for (body, wrong) in [
        (&b""[..], Fault::NotBencode),
        (b"<html>", Fault::NotBencode),
        (b"le", Fault::NotBencode),
        (b"d8:intervali1e5:peers0:", Fault::NotBencode),
        (b"d8:intervali01e5:peers0:e", Fault::NotBencode),
        (b"d8:interval", Fault::NotBencode),
        (b"d8:intervali1e5:peers0:e\r\n\r\n", Fault::TrailingBytes),
        (b"d8:intervali1e5:peers0:ed", Fault::TrailingBytes),
        (b"de", Fault::MissingKey),
        (b"d5:peers0:e", Fault::MissingKey),
        (b"d8:intervali1ee", Fault::MissingKey),
        (b"d14:failure reason2:noe", Fault::Refused),
        (b"d14:failure reasoni1ee", Fault::WrongType),
        (b"d8:interval1:15:peers0:e", Fault::WrongType),
        (b"d8:intervali1e5:peersi0ee", Fault::WrongType),
        (b"d8:intervali1e5:peers0:6:peers6lee", Fault::WrongType),
        (b"d8:completei-1e8:intervali1e5:peers0:e", Fault::WrongType),
        (b"d8:intervali0e5:peers0:e", Fault::BadInterval),
        (b"d8:intervali2147483648e5:peers0:e", Fault::BadInterval),
        (b"d8:intervali1e12:min intervali-5e5:peers0:e", Fault::BadInterval),
        (b"d8:intervali1e5:peers5:aaaabe", Fault::BadPeers),
        (b"d8:intervali1e5:peersld2:ip4:host4:porti1eeee", Fault::BadPeers),
        (b"d8:intervali1e5:peersld2:ip9:192.0.2.1eee", Fault::BadPeers),
        (b"d8:intervali1e5:peers6:\0\0\0\0abe", Fault::BadPeers),
        (b"d8:intervali1e5:peers6:\xe0\0\0\x01abe", Fault::BadPeers),
        (b"d8:intervali1e5:peers6:\xff\xff\xff\xffabe", Fault::BadPeers),
        (b"d8:intervali1e6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0abe", Fault::BadPeers),
        (b"d8:intervali1e6:peers618:\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01abe", Fault::BadPeers),
        (b"d8:intervali1e5:peers12:aaaabbaaaabbe", Fault::RepeatedPeer),
        (b"d8:intervali1e6:peers636:aaaaaaaaaaaaaaaappaaaaaaaaaaaaaaaappe", Fault::RepeatedPeer),
        (
            b"d8:intervali1e5:peersld2:ip7:1.2.3.44:porti1eed2:ip7:1.2.3.44:porti1eeee",
            Fault::RepeatedPeer,
        ),
        (b"d8:intervali1e5:peers24:aaaabbaaaabcaaaabdaaaabee", Fault::TooManyPeers),
        (
            b"d8:intervali1e5:peers18:aaaabbaaaabcaaaabd6:peers618:aaaaaaaaaaaaaaaappe",
            Fault::TooManyPeers,
        ),
        (b"d8:intervali1e5:peers6:\x7f\0\0\x01abe", Fault::OwnAddress),
        (b"d8:intervali1e5:peersld2:ip9:127.0.0.14:porti24930eeee", Fault::OwnAddress),
        (
            b"d8:intervali1e6:peers618:\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01abe",
            Fault::OwnAddress,
        ),
        (b"d8:intervali1e5:peers6:aaaa\0\0e", Fault::PortZero),
        (b"d8:intervali1e5:peers18:aaaabb\x7f\0\0\x01abccccdde", Fault::OwnAddress),
        (b"d8:intervali1e5:peers18:aaaabbccccddeeee\0\0e", Fault::PortZero),
        (b"d8:intervali1e6:peers618:aaaaaaaaaaaaaaaa\0\0e", Fault::PortZero),
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
            let announced = Announced { numwant: 1000, ..announced() };
            assert_eq!(check_announce(&body(&peers), &announced).unwrap().peers, u64::from(count));
            if first == second {
                continue;
            }
            peers[second as usize] = peers[first as usize];
            let wrong = check_announce(&body(&peers), &announced).unwrap_err();
            assert_eq!(wrong.fault, Fault::RepeatedPeer, "{count}: {first} and {second}");
        }
    }
}

#[test]
fn own_addresses_are_told_by_family() {
    let v6 = Peer { ip: IpAddr::V6(Ipv6Addr::from(*b"aaaaaaaaaaaaaaaa")), port: 0x6162 };
    let asked_by = |own| Announced { numwant: 3, own, known: None };
    let body = b"d8:intervali1e6:peers636:bbbbbbbbbbbbbbbbabaaaaaaaaaaaaaaaaabe";
    let judged = |own| check_announce(body, &asked_by(own)).map_err(|wrong| wrong.fault);
    assert_eq!(judged(Some(v6)), Err(Fault::OwnAddress));
    assert_eq!(judged(Some(OWN)).map(|answer| answer.peers), Ok(2));
    assert_eq!(judged(None).map(|answer| answer.peers), Ok(2));
    // Port 0 is wrong whoever asks, and where nobody knows who does.
    let body = b"d8:intervali1e5:peers6:aaaa\0\0e";
    for own in [None, Some(v6)] {
        assert_eq!(check_announce(body, &asked_by(own)).unwrap_err().fault, Fault::PortZero);
    }
}

#[test]
fn strangers_are_seen_where_there_can_be_none() {
    let known = |peer: Peer| peer.ip == IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let announced = Announced { known: Some(&known), ..announced() };
    let ours = check_announce(b"d8:intervali1e5:peers6:\x7f\0\0\x09abe", &announced);
    assert_eq!(ours.map(|answer| answer.peers), Ok(1));
    let strange = check_announce(b"d8:intervali1e5:peers6:\x7f\0\0\x08abe", &announced);
    assert_eq!(strange.unwrap_err().fault, Fault::StrangePeer);
}

const HASH: &[u8; 20] = b"aaaaaaaaaaaaaaaaaaaa";

fn scrape(text: &str) -> Result<u64, Fault> {
    let body = text.replace("HASH", &format!("20:{}", str::from_utf8(HASH).unwrap()));
    let answer = check_scrape(body.as_bytes(), |hash| hash == HASH);
    answer.map(|answer| answer.torrents).map_err(|wrong| wrong.fault)
}

#[test]
fn scrapes_of_all_kinds() {
    for (text, expected) in [
        ("d5:filesdee", Ok(0)),
        ("d5:filesdHASHd8:completei1e10:downloadedi2e10:incompletei3eeee", Ok(1)),
        ("d5:filesdHASHd8:completei1e10:downloadedi2e10:incompletei3e4:name1:xeee", Ok(1)),
        ("d5:filesdHASHd8:completei1e10:downloadedi2eeee", Err(Fault::MissingKey)),
        ("d5:filesdHASHd8:completei-1e10:downloadedi2e10:incompletei3eeee", Err(Fault::WrongType)),
        ("d5:filesdHASHi1eee", Err(Fault::WrongType)),
        (
            "d5:filesd3:abcd8:completei1e10:downloadedi2e10:incompletei3eeee",
            Err(Fault::StrangeTorrent),
        ),
        ("d5:fileslee", Err(Fault::WrongType)),
        ("d5:flagsdee", Err(Fault::MissingKey)),
        ("d5:filesde", Err(Fault::NotBencode)),
        ("d14:failure reason2:noe", Err(Fault::Refused)),
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
        check_announce(&body, &announced()).is_ok() || body != BODY
    }

    fn an_answer_cut_off_is_wrong(at: usize) -> bool {
        check_announce(&BODY[..at % BODY.len()], &announced()).is_err()
    }

    fn any_bytes_are_judged_without_panic(bytes: Vec<u8>) -> bool {
        let body = [b"d", &bytes[..]].concat();
        check_announce(&body, &announced()).is_err() && check_scrape(&body, |_| true).is_err()
    }
}

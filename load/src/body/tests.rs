//! Correct, unusual and wrong bodies.

use std::net::SocketAddr;

use super::{AnnounceContext, check_announce, check_scrape};
use crate::failure::FailureKind::{self, *};
use crate::failure::Warning::{self, *};

/// The announcing peer has the port `ab` in bytes.
fn context() -> AnnounceContext<'static> {
    let own = Some(SocketAddr::from(([127, 0, 0, 1], 0x6162)));
    AnnounceContext { numwant: 3, own, known: None }
}

/// Checks a body that has `rest` after its interval.
fn check(rest: &[u8], context: &AnnounceContext<'_>) -> Result<u64, FailureKind> {
    let body = [b"d8:intervali1e", rest, b"e"].concat();
    check_announce(&body, context).map(|checked| checked.entries).map_err(|failure| failure.kind)
}

#[test]
fn correct_and_unusual_announces() {
    for (body, peers) in [
        (&b"d8:intervali1e5:peers0:e"[..], 0),
        (b"d8:intervali1e5:peersle6:peers60:e", 0),
        (b"d8:intervali1e6:peers618:aaaaaaaaaaaaaaaappe", 1),
        (b"d8:completei0e8:intervali1e5:peers12:aaaabbccccdde", 2),
        (b"d3:newd1:xli1eee8:intervali1e5:peers6:aaaabb10:tracker id1:te", 1),
        (b"d8:intervali1e5:peersld2:ip9:192.0.2.17:peer id1:x4:porti1eeee", 1),
    ] {
        let checked = check_announce(body, &context());
        assert_eq!(checked.map(|checked| checked.entries), Ok(peers), "{}", body.escape_ascii());
    }
    for (body, warning) in [
        (&b"d5:peers0:8:intervali1ee"[..], UnsortedKeys),
        (b"d1:ad1:b0:1:a0:e8:intervali1e5:peers0:e", UnsortedKeys),
        (b"d8:intervali1e5:peers0:e\r\n", TrailingLineEnd),
        (b"d8:intervali1e5:peers0:e\n", TrailingLineEnd),
        (b"d8:intervali1e5:peerslee", DictionaryPeers),
        (b"d8:intervali1e5:peers0:15:warning message2:hie", WarningMessage),
    ] as [(&[u8], Warning); 6]
    {
        let checked = check_announce(body, &context()).unwrap();
        assert_eq!(checked.warnings.of(warning), 1, "{}", body.escape_ascii());
    }
}

#[test]
fn wrong_announces() {
    for (body, kind) in [
        (&b""[..], NotBencode),
        (b"le", NotBencode),
        (b"d8:intervali1e5:peers0:", NotBencode),
        (b"d8:intervali1e5:peers0:e\r\n\r\n", TrailingBytes),
        (b"de", MissingKey),
        (b"d5:peers0:e", MissingKey),
        (b"d8:intervali1ee", MissingKey),
        (b"d14:failure reason2:noe", Refused),
        (b"d14:failure reasoni1ee", WrongType),
        (b"d8:interval1:15:peers0:e", WrongType),
        (b"d8:completei-1e8:intervali1e5:peers0:e", WrongType),
        (b"d8:intervali0e5:peers0:e", BadInterval),
        (b"d8:intervali2147483648e5:peers0:e", BadInterval),
        (b"d8:intervali1e12:min intervali-5e5:peers0:e", BadInterval),
    ] {
        let failure = check_announce(body, &context()).unwrap_err();
        assert_eq!(failure.kind, kind, "{}", body.escape_ascii());
    }
    for (rest, kind) in [
        (&b"5:peersi0e"[..], WrongType),
        (b"5:peers0:6:peers6le", WrongType),
        (b"5:peers5:aaaab", BadPeers),
        (b"5:peersld2:ip4:host4:porti1eee", BadPeers),
        (b"5:peersld2:ip9:192.0.2.1ee", BadPeers),
        (b"5:peers6:\0\0\0\0ab", BadPeers),
        (b"5:peers6:\xe0\0\0\x01ab", BadPeers),
        (b"6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0ab", BadPeers),
        (b"6:peers618:\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01ab", BadPeers),
        (b"5:peers12:aaaabbaaaabb", RepeatedPeer),
        (b"6:peers636:aaaaaaaaaaaaaaaappaaaaaaaaaaaaaaaapp", RepeatedPeer),
        (b"5:peersld2:ip7:1.2.3.44:porti1eed2:ip7:1.2.3.44:porti1eee", RepeatedPeer),
        (b"5:peers24:aaaabbaaaabcaaaabdaaaabe", TooManyPeers),
        (b"5:peers18:aaaabbaaaabcaaaabd6:peers618:aaaaaaaaaaaaaaaapp", TooManyPeers),
        (b"5:peers6:\x7f\0\0\x01ab", OwnAddress),
        (b"5:peersld2:ip9:127.0.0.14:porti24930eee", OwnAddress),
        (b"6:peers618:\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01ab", OwnAddress),
        (b"5:peers18:aaaabb\x7f\0\0\x01abccccdd", OwnAddress),
        (b"5:peers18:aaaabbccccddeeee\0\0", PortZero),
        (b"6:peers618:aaaaaaaaaaaaaaaa\0\0", PortZero),
    ] {
        assert_eq!(check(rest, &context()), Err(kind), "{}", rest.escape_ascii());
    }
}

#[test]
fn a_repeated_peer_is_found_among_many() {
    for count in [2_u32, 50, 256, 257, 1000] {
        let peer = |at: u32| {
            let [_, a, b, c] = at.to_be_bytes();
            [10, a, b, c, 4, 1]
        };
        let mut peers: Vec<[u8; 6]> = (0..count).map(peer).collect();
        let context = AnnounceContext { numwant: 1000, ..context() };
        let check = |peers: &[[u8; 6]]| {
            let key = format!("5:peers{}:", 6 * count);
            check(&[key.as_bytes(), peers.as_flattened()].concat(), &context)
        };
        assert_eq!(check(&peers), Ok(u64::from(count)));
        for first in [0, count as usize / 2 - 1] {
            let last = peers.last_mut().unwrap();
            *last = peer(first as u32);
            assert_eq!(check(&peers), Err(RepeatedPeer), "{count}: {first}");
        }
    }
}

#[test]
fn the_own_address_is_compared_within_its_family() {
    let v6 = SocketAddr::from((*b"aaaaaaaaaaaaaaaa", 0x6162));
    let context = |own| AnnounceContext { numwant: 3, own, known: None };
    let peers = b"6:peers636:bbbbbbbbbbbbbbbbabaaaaaaaaaaaaaaaaab";
    assert_eq!(check(peers, &context(Some(v6))), Err(OwnAddress));
    assert_eq!(check(peers, &self::context()), Ok(2));
    assert_eq!(check(peers, &context(None)), Ok(2));
    // Port 0 is always wrong.
    for own in [None, Some(v6)] {
        assert_eq!(check(b"5:peers6:aaaa\0\0", &context(own)), Err(PortZero));
    }
}

#[test]
fn unknown_peers_are_refused_if_all_are_known() {
    let known = |peer: SocketAddr| peer.ip().to_string() == "127.0.0.9";
    let context = AnnounceContext { known: Some(&known), ..context() };
    assert_eq!(check(b"5:peers6:\x7f\0\0\x09ab", &context), Ok(1));
    assert_eq!(check(b"5:peers6:\x7f\0\0\x08ab", &context), Err(StrangePeer));
}

#[test]
fn scrapes_of_all_kinds() {
    const HASH: &[u8] = b"aaaaaaaaaaaaaaaaaaaa";
    for (text, expected) in [
        ("d5:filesdee", Ok(0)),
        ("d5:filesdHASHd8:completei1e10:downloadedi2e10:incompletei3e4:name1:xeee", Ok(1)),
        ("d5:filesdHASHd8:completei1e10:downloadedi2eeee", Err(MissingKey)),
        ("d5:filesdHASHd8:completei-1e10:downloadedi2e10:incompletei3eeee", Err(WrongType)),
        ("d5:filesdHASHi1eee", Err(WrongType)),
        ("d5:filesd3:abcd8:completei1e10:downloadedi2e10:incompletei3eeee", Err(StrangeTorrent)),
        ("d5:fileslee", Err(WrongType)),
        ("d5:flagsdee", Err(MissingKey)),
        ("d5:filesde", Err(NotBencode)),
        ("d14:failure reason2:noe", Err(Refused)),
    ] {
        let body = text.replace("HASH", "20:aaaaaaaaaaaaaaaaaaaa");
        let checked = check_scrape(body.as_bytes(), |hash| hash == HASH);
        let checked = checked.map(|checked| checked.entries).map_err(|failure| failure.kind);
        assert_eq!(checked, expected, "{text}");
    }
}

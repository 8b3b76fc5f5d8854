//! The grammar of queries, as a table.

use annulus_parser::{
    Announce, AnnounceEvent, Error, Numwant, Query, parse_announce, scrape_hashes,
};

mod guard_page;
use guard_page::GuardPage;

const HASH: &str = "info_hash=aaaaaaaaaaaaaaaaaaaa";

fn parse(query: &str) -> Result<Announce<'_>, Error> {
    parse_announce(Query::new(query.as_bytes()))
}

/// An announce that is right but for `more`.
fn announce(more: &str) -> Announce<'static> {
    let query = format!("{HASH}&port=6881&{more}");
    parse(query.leak()).unwrap()
}

#[test]
fn the_least_announce() {
    let announce = parse("info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881").unwrap();
    assert_eq!(announce.info_hash, [b'a'; 20]);
    assert_eq!(announce.port, 6881);
    assert_eq!((announce.left, announce.downloaded), (None, None));
    assert_eq!(announce.event, AnnounceEvent::None);
    assert!(announce.compact);
    assert_eq!(announce.numwant, Numwant::Default);
    assert_eq!((announce.ip, announce.ipv4, announce.ipv6), (None, None, None));
}

/// All of these are equivalent to `info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881`.
#[test]
fn other_ways_to_write_the_same() {
    for query in [
        "port=6881&info_hash=aaaaaaaaaaaaaaaaaaaa",
        "&&info_hash=aaaaaaaaaaaaaaaaaaaa&&port=6881&",
        "x?info_hash=aaaaaaaaaaaaaaaaaaaa?port=6881",
        "x=1?info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881??",
        "info_hash=%61aaaaaaaaaaaaaaaaaa%61&port=%36%38%381",
        "info%5fhash=aaaaaaaaaaaaaaaaaaaa&%70o%72t=6881",
        "%69%6e%66%6F%5F%68%61%73%68=aaaaaaaaaaaaaaaaaaaa&port=006881",
        "info_hash=aaaaaaaaaaaaaaaaaaaa&port=1&port=6881",
        "info_hash=aaaaaaaaaaaaaaaaaaaa&port=0&%70ort=6881",
        "info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881&key&=&=a&%zz=%&trackerid=a=b&",
        "info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881&xport=1&port;=2&por=3&ports=4&Port=5&port+=6",
        "info_hash=aaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaa&port=6881",
        "info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881%0D",
        "passkey=x%20&port=6881/&info_hash=aaaaaaaaaaaaaaaaaaaa%0d%0A",
        "info_hashes=b&info_has=b&peer_id=;info_hash=bbb&info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881",
    ] {
        let Ok(announce) = parse(query) else { panic!("{query}: {:?}", parse(query)) };
        assert_eq!(announce.info_hash, [b'a'; 20], "{query}");
        assert_eq!(announce.port, 6881, "{query}");
    }
}

#[test]
fn what_is_raw_in_a_hash_stays() {
    let hash = |encoded: &[u8]| {
        let query = [b"info_hash=", encoded, b"&port=1"].concat();
        parse_announce(Query::new(&query)).map(|announce| announce.info_hash)
    };
    // All that one client leaves raw; `+` alone means something else.
    assert_eq!(hash(b"!$()*,-./:=@_~;'#a+b"), Ok(*b"!$()*,-./:=@_~;'#a b"));
    assert_eq!(hash(b"===================="), Ok([b'='; 20]));
    assert_eq!(hash(&[0xff; 20]), Ok([0xff; 20]));
    assert_eq!(
        hash(b"%2b%2B%3d%26%3f%25%00%0a%fF%Ff%aB%Cd%ef%01%23%45%67%89%7f%80"),
        Ok(*b"++=&?%\0\n\xff\xff\xab\xcd\xef\x01\x23\x45\x67\x89\x7f\x80")
    );
}

#[test]
fn errors() {
    for (query, error) in [
        ("", Error::InfoHashMissing),
        ("&&", Error::InfoHashMissing),
        ("port=6881&event=stopped", Error::InfoHashMissing),
        ("info_hashx=aaaaaaaaaaaaaaaaaaaa&port=1", Error::InfoHashMissing),
        ("Info_hash=aaaaaaaaaaaaaaaaaaaa&port=1", Error::InfoHashMissing),
        ("info_hash", Error::InfoHashLengthWrong),
        ("info_hash&port=1", Error::InfoHashLengthWrong),
        ("info_hash=&port=1", Error::InfoHashLengthWrong),
        ("info_hash=aaaaaaaaaaaaaaaaaaa&port=1", Error::InfoHashLengthWrong),
        ("info_hash=aaaaaaaaaaaaaaaaaaaaa&port=1", Error::InfoHashLengthWrong),
        ("info_hash=aaaaaaaaaaaaaaaaaaa&aport=1", Error::InfoHashLengthWrong),
        ("info_hash=0123456789abcdefABCDEF0123456789abcdef01&port=1", Error::InfoHashHex),
        ("info_hash=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa&port=1", Error::InfoHashBase32),
        ("info_hash=aaaaaaaaaaaaaaaaaaa%&port=1", Error::InfoHashEscapeMalformed),
        ("info_hash=aaaaaaaaaaaaaaaaaa%4&41&port=1", Error::InfoHashEscapeMalformed),
        ("info_hash=aaaaaaaaaaaaaaaaaaa%4g&port=1", Error::InfoHashEscapeMalformed),
        ("info_hash=%u0041&port=1", Error::InfoHashEscapeMalformed),
        (
            "info_hash=aaaaaaaaaaaaaaaaaaaa&info_hash=aaaaaaaaaaaaaaaaaaaa&port=1",
            Error::InfoHashRepeated,
        ),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=1&info%5Fhash=%", Error::InfoHashRepeated),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa", Error::PortMissing),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&event=started", Error::PortMissing),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port", Error::PortInvalid),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=", Error::PortInvalid),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=0", Error::PortInvalid),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=65536", Error::PortInvalid),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=99999999999999999999999", Error::PortInvalid),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=-1", Error::PortInvalid),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881x", Error::PortInvalid),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=%3", Error::PortInvalid),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=6881&port=x", Error::PortInvalid),
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&port=0&event=stopped&event=", Error::PortInvalid),
    ] {
        assert_eq!(parse(query), Err(error), "{query}");
    }
}

#[test]
fn ports() {
    for port in [1, 80, 65535] {
        assert_eq!(parse(&format!("{HASH}&port={port}")).unwrap().port, port);
    }
    for query in [
        "event=stopped&port=0&",
        "port=x&event=stopped&",
        "event=stopped&",
        "port=65536&event=stopped&",
    ] {
        for query in [format!("{query}{HASH}"), format!("{HASH}&{query}")] {
            assert_eq!(parse(&query).unwrap().port, 0, "{query}");
        }
    }
    assert_eq!(announce("event=stopped").port, 6881);
}

#[test]
fn events() {
    for (value, event) in [
        ("started", AnnounceEvent::Started),
        ("stopped", AnnounceEvent::Stopped),
        ("completed", AnnounceEvent::Completed),
        ("%73tarte%64", AnnounceEvent::Started),
        ("paused", AnnounceEvent::None),
        ("", AnnounceEvent::None),
        ("Started", AnnounceEvent::None),
        ("started+", AnnounceEvent::Started),
        ("stopped%0D%0a", AnnounceEvent::Stopped),
        ("started+x", AnnounceEvent::None),
        ("started%0D%", AnnounceEvent::None),
        ("started%", AnnounceEvent::None),
        ("%7started", AnnounceEvent::None),
        ("started&event=stopped", AnnounceEvent::Stopped),
        ("started&event", AnnounceEvent::None),
    ] {
        assert_eq!(announce(&format!("event={value}")).event, event, "{value}");
    }
}

#[test]
fn left_and_downloaded() {
    for (value, left) in [
        ("0", Some(0)),
        ("201000", Some(201_000)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", Some(u64::MAX)),
        ("%30", Some(0)),
        ("", None),
        ("-1", None),
        ("NaN", None),
        ("0x0", None),
        ("5&left=0", Some(0)),
        ("0&left=-", None),
        ("0%0D", Some(0)),
        ("%20", None),
    ] {
        assert_eq!(announce(&format!("left={value}")).left, left, "{value}");
        let downloaded = value.replace("left", "%64ownloaded");
        let announce = announce(&format!("downloaded={downloaded}"));
        assert_eq!((announce.downloaded, announce.left), (left, None), "{downloaded}");
    }
}

#[test]
fn compact_and_numwant() {
    for (value, compact) in [
        ("0", false),
        ("%30", false),
        ("0%0D", false),
        ("1", true),
        ("", true),
        ("00", true),
        ("+0", true),
    ] {
        assert_eq!(announce(&format!("compact={value}")).compact, compact, "{value}");
    }
    for (value, numwant) in [
        ("0", Numwant::AtMost(0)),
        ("200", Numwant::AtMost(200)),
        ("4294967296", Numwant::AtMost(u32::MAX)),
        ("99999999999999999999", Numwant::AtMost(u32::MAX)),
        ("", Numwant::Default),
        ("-1", Numwant::Default),
        ("50x", Numwant::Default),
        ("50&numwant=", Numwant::Default),
        ("50%20", Numwant::AtMost(50)),
    ] {
        assert_eq!(announce(&format!("numwant={value}")).numwant, numwant, "{value}");
    }
}

#[test]
fn addresses() {
    let announce =
        announce("ip=192.0.2.1&ipv4=192.0.2.2:6881&ipv6=[2001:db8::1]:6891&ip=192.0.2.3");
    let read = [announce.ip, announce.ipv4, announce.ipv6]
        .map(|address| address.unwrap().endpoint().unwrap())
        .map(|(ip, port)| (ip.to_string(), port));
    let expected = [("192.0.2.3", None), ("192.0.2.2", Some(6881)), ("2001:db8::1", Some(6891))];
    assert_eq!(read, expected.map(|(ip, port)| (ip.to_owned(), port)));
}

#[test]
fn scrapes() {
    let hashes = |query: &str| scrape_hashes(Query::new(query.as_bytes())).collect::<Vec<_>>();
    assert_eq!(hashes(""), []);
    assert_eq!(hashes("passkey=1&info_has=aaaaaaaaaaaaaaaaaaaa"), []);
    assert_eq!(hashes("info_hash=aaaaaaaaaaaaaaaaaaaa"), [Ok([b'a'; 20])]);
    assert_eq!(
        hashes(
            "x=1&info_hash=%62bbbbbbbbbbbbbbbbbbb&info_hash=%&info%5fhash=aa\
             ?info_hash=aaaaaaaaaaaaaaaaaaaa"
        ),
        [
            Ok([b'b'; 20]),
            Err(Error::InfoHashEscapeMalformed),
            Err(Error::InfoHashLengthWrong),
            Ok([b'a'; 20]),
        ]
    );
    let many: Vec<_> =
        (0..64).map(|index| format!("info_hash={}", format!("%{index:02x}").repeat(20))).collect();
    let expected: Vec<_> = (0..64).map(|index| Ok([index; 20])).collect();
    assert_eq!(hashes(&many.join("&")), expected);
}

/// A query that ends where memory does is read like one that does not.
#[test]
fn nothing_is_read_behind_a_query() {
    let full = b"port=6881&ip=%5B::1%5D:1&left=%30&numwant=50&event=started&compact=0&%70ort=1&\
                 info_hash=%61%61%61%61%61%61%61%61%61%61%61%61%61%61%61%61%61%61%61%61";
    let mut guard_page = GuardPage::new(full.len());
    let mut read = 0;
    for end in 0..=full.len() {
        for start in 0..end.min(80) {
            // What could be mistaken for the rest of an escape stands behind the copy.
            let copy = [&full[start..end], b"6161&port=2"].concat();
            let expected = parse_announce(Query::new(&copy[..end - start]));
            let result = parse_announce(Query::new(guard_page.put(&full[start..end])));
            assert_eq!(result, expected);
            if let Ok(announce) = result {
                read += 1;
                assert_eq!(announce.info_hash, [b'a'; 20]);
            }
        }
    }
    assert_ne!(read, 0);
}

//! The parameters of an announce, in every accepted form.

use std::net::IpAddr;

use crate::support::client::{HttpClient, fetch, get_request};
use crate::support::torrent::{
    LOCALHOST, ScrapeCounts, TestTorrent, failure_reason, parse_announce, percent_encoded,
};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(
    any_byte_may_be_in_an_info_hash,
    info_hashes_are_encoded_in_many_ways,
    wrong_info_hashes_fail,
    names_and_values_are_decoded_leniently,
    ports,
    a_peer_with_nothing_left_is_a_seeder,
    events,
    a_download_is_counted_once,
    numbers_of_peers,
    compact_is_advisory,
    paths,
    a_nul_after_a_request_is_ignored,
);

/// Every byte, percent-encoded in either case, and raw where a request line allows it.
fn any_byte_may_be_in_an_info_hash(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut client = HttpClient::connect(tracker.v4);
    for byte in 0..=255_u8 {
        // A space or control character ends the request target; the other excluded ones have a
        // meaning in a query.
        let raw = byte > b' ' && byte != 0x7f && !b"&?%+".contains(&byte);
        let torrent = TestTorrent::new(&tracker, byte);
        let mut forms = vec![
            format!("%{byte:02x}").repeat(20).into_bytes(),
            format!("%{byte:02X}").repeat(20).into_bytes(),
            format!("%{byte:02x}%{byte:02X}").repeat(10).into_bytes(),
        ];
        if raw {
            forms.push(vec![byte; 20]);
        }
        for (form, port) in forms.iter().zip(1..) {
            let tail = format!("&port={port} HTTP/1.1\r\n\r\n");
            client.send([b"GET /announce?info_hash=", &form[..], tail.as_bytes()].concat());
            assert_eq!(
                parse_announce(&client.read_response()).incomplete,
                port,
                "{}",
                form.escape_ascii()
            );
        }
        assert_eq!(torrent.scrape().incomplete, forms.len() as i64, "{byte:#x}");
    }
}

fn info_hashes_are_encoded_in_many_ways(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let hash = b"=, a;Z0!\xff\x80/:@~_'()*$";
    assert_eq!(hash.len(), 20);
    let escaped = percent_encoded(hash);
    let v2 = escaped.clone() + &"%99".repeat(12);
    let forms: [&[u8]; 6] = [
        escaped.as_bytes(),
        v2.as_bytes(),
        b"=,+a;Z0!\xff\x80/:@~_'()*$",
        b"=,%20a;Z0!%fF%80/:@~_'()*$",
        b"%3d%2C+%61%3b%5A%30%21%Ff\x80%2f%3A%40%7E%5f%27%28%29%2a%24",
        b"=,+a;Z0!\xff\x80/:@~_'()*$012345678901",
    ];
    for (form, port) in forms.into_iter().zip(1..) {
        let tail = format!("&port={port} HTTP/1.1\r\n\r\n");
        let response =
            fetch(tracker.v4, [b"GET /announce?info_hash=", form, tail.as_bytes()].concat());
        assert_eq!(parse_announce(&response).incomplete, port, "{}", form.escape_ascii());
    }
}

fn wrong_info_hashes_fail(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let whole = "%01".repeat(20);
    for (query, word) in [
        ("port=1".to_owned(), "missing"),
        ("info_has=aaaaaaaaaaaaaaaaaaaa&port=1".to_owned(), "missing"),
        ("info_hash=&port=1".to_owned(), "20 bytes"),
        ("info_hash&port=1".to_owned(), "20 bytes"),
        (format!("info_hash={}&port=1", "%01".repeat(19)), "20 bytes"),
        (format!("info_hash={}&port=1", "%01".repeat(21)), "20 bytes"),
        (format!("info_hash={}&port=1", "%01".repeat(31)), "20 bytes"),
        (format!("info_hash={}&port=1", "%01".repeat(33)), "20 bytes"),
        (format!("info_hash={}&port=1", "01".repeat(20)), "hex"),
        (format!("info_hash={}&port=1", "aF".repeat(20)), "percent-encode the 20 bytes"),
        (format!("port=1&info_hash={}%0D", "%610".repeat(20)), "hex"),
        (format!("info_hash={}&port=1", "9e".repeat(32)), "hex"),
        (format!("info_hash={}&port=1", "ag".repeat(20)), "20 bytes"),
        (format!("info_hash={}&port=1", "MZ27".repeat(8)), "base32"),
        (format!("info_hash={}&port=1", "mz27".repeat(8)), "base32"),
        (format!("info_hash={}&port=1", "%4dZ27".repeat(8)), "base32"),
        (format!("info_hash={whole}&port=1&info_hash={whole}"), "more than once"),
        (format!("info_hash={}%0&port=1", "%01".repeat(19)), "percent"),
        (format!("info_hash={}%&port=1", "%01".repeat(19)), "percent"),
        (format!("info_hash={}%0g&port=1", "%01".repeat(19)), "percent"),
    ] {
        let reason = failure_reason(&fetch(tracker.v4, get_request(&format!("/announce?{query}"))));
        assert!(reason.contains(word), "{query}: {reason}");
    }
    assert_eq!(TestTorrent::new(&tracker, 1).scrape(), ScrapeCounts::default());
}

fn names_and_values_are_decoded_leniently(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let hash = "%41".repeat(20);
    let raw = "A".repeat(20);
    // Each announces the same torrent with `left=0` and its own port.
    let queries = [
        format!("info_hash={hash}&port=1&left=0"),
        format!("left=0&port=2&info_hash={raw}"),
        format!("&&info_hash={hash}&&port=3&left=0&&"),
        format!("info%5Fhash={raw}&po%72t=%34&%6ceft=%30"),
        format!("passkey=a/b&x=1?info_hash={hash}&port=5&left=0"),
        format!("?info_hash={hash}?port=6?left=0"),
        format!("info_hash={hash}&port=7&left=0&peer_id=a;port=99&key=1,left=5"),
        format!("key&=&=x&a=b=c=d&info_hash={hash}&port=8&left=0&trackerid="),
        format!(
            "info_hash={hash}&peer_id=-qB4520-~!()*.abcdefg&port=9&uploaded=0&downloaded=0&left=0\
             &corrupt=0&key=ABCD1234&event=started&numwant=200&compact=1&no_peer_id=1\
             &supportcrypto=1&requirecrypto=1&redundant=0&azudp=4&azver=3&cryptoport=3"
        ),
        format!("info_hash={hash}&port=10&left=0&uploaded=-1&downloaded=99999999999999999999999"),
        format!("info_hash={hash}&port=11&left=0&peer_id=%zz&key=%&trackerid=TrK/1&="),
        format!("info_hash={hash}&port=99&port=12&left=7&left=0"),
        format!("info_hash={hash}&port=0013&left=0&numwant=+1&#fragment"),
        format!("info_hash={hash}&port=14&left=0&{}", "x".repeat(8000)),
        format!("info_hash={hash}&port=15&left=0&{}", "x=y&".repeat(2000)),
    ];
    for (query, count) in queries.iter().zip(1..) {
        let answer = parse_announce(&fetch(tracker.v4, get_request(&format!("/announce?{query}"))));
        assert_eq!((answer.complete, answer.incomplete), (count, 0), "{query}");
    }
    let tail = b"&port=16&left=0&trackerid=\xc3\xa9\xff\x80&\xff=\xfe HTTP/1.1\r\n\r\n";
    let raw_bytes = [b"GET /announce?info_hash=AAAAAAAAAAAAAAAAAAAA", &tail[..]].concat();
    assert_eq!(parse_announce(&fetch(tracker.v4, raw_bytes)).complete, 16);
    // Exactly these ports were stored.
    let mut ports: Vec<u16> = TestTorrent::new(&tracker, b'A')
        .announce(20, "left=1&numwant=200")
        .peers
        .iter()
        .map(|peer| peer.port())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, (1..=16).collect::<Vec<u16>>());
}

fn ports(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let asked = |port: &str| {
        let hash = percent_encoded(&torrent.info_hash);
        fetch(tracker.v4, get_request(&format!("/announce?info_hash={hash}{port}")))
    };
    for (port, count) in ["&port=1", "&port=65535", "&port=%31024"].iter().zip(1..) {
        assert_eq!(parse_announce(&asked(port)).incomplete, count, "{port}");
    }
    for port in ["0", "00", "65536", "-1", "99999999999999999999999", "http", "", " 1", "6881x"] {
        let port = port.replace(' ', "%20");
        let reason = failure_reason(&asked(&format!("&port={port}")));
        assert_eq!(reason, "port is not a number from 1 to 65535", "{port}");
    }
    assert_eq!(failure_reason(&asked("")), "port is missing");
    assert_eq!(torrent.scrape().incomplete, 3);
    for port in ["&port=0", "", "&port=", "&port=none"] {
        parse_announce(&asked(&format!("{port}&event=stopped")));
        parse_announce(&asked(&format!("&event=stopped{port}")));
    }
    assert_eq!(torrent.scrape().incomplete, 3);
}

fn a_peer_with_nothing_left_is_a_seeder(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let mut client = HttpClient::connect(tracker.v4);
    for (rest, seeder) in [
        ("left=0", true),
        ("left=00", true),
        ("left=%30", true),
        ("", false),
        ("left", false),
        ("left=", false),
        ("left=1", false),
        ("left=-1", false),
        ("left=0x0", false),
        ("left=unknown", false),
        ("left=18446744073709551615", false),
        ("left=18446744073709551616", false),
        ("left=99999999999999999999999999999999", false),
        ("left=0&uploaded=&downloaded=-5", true),
    ] {
        client.send(get_request(&torrent.target(1, rest)));
        let answer = parse_announce(&client.read_response());
        let counts = (answer.complete, answer.incomplete);
        assert_eq!(counts, if seeder { (1, 0) } else { (0, 1) }, "{rest}");
    }
}

fn events(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let none =
        ["", "event=", "event", "event=paused", "event=Stopped", "event=STARTED", "event=stoppedx"];
    for (rest, port) in none.iter().zip(1..) {
        assert_eq!(torrent.announce(port, rest).incomplete, i64::from(port), "{rest}");
    }
    assert_eq!(torrent.announce(8, "event=started").incomplete, 8);
    assert_eq!(torrent.announce(8, "event=st%6fpped").incomplete, 7);
    let answer = torrent.announce(7, "event=stopped&numwant=200");
    assert_eq!((answer.incomplete, answer.peers), (6, vec![]), "peers are wasted on who leaves");
    assert_eq!(torrent.announce(7, "event=stopped").incomplete, 6);
    // A `stopped` event does not create a torrent.
    let unknown = TestTorrent::new(&tracker, 2);
    assert_eq!(unknown.announce(1, "event=stopped&left=0").complete, 0);
    assert_eq!(unknown.scrape(), ScrapeCounts::default());
}

fn a_download_is_counted_once(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    for (port, rest, downloaded) in [
        (1, "left=5&event=started", 0),
        (1, "left=0&event=completed", 1),
        // aria2 with pipelining sends `completed` twice.
        (1, "left=0&event=completed", 1),
        (1, "left=0", 1),
        (2, "left=0&event=started", 1),
        (3, "left=9", 1),
        (3, "left=0&event=completed", 2),
        (3, "left=0&event=stopped", 2),
    ] {
        assert_eq!(torrent.announce(port, rest).downloaded, downloaded, "{port}: {rest}");
    }
    assert_eq!(torrent.scrape(), ScrapeCounts { complete: 2, downloaded: 2, incomplete: 0 });
}

fn numbers_of_peers(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=300, "");
    for (rest, expected) in [
        ("numwant=0", 0),
        ("numwant=1", 1),
        ("numwant=2", 2),
        ("numwant=7", 7),
        ("numwant=%37", 7),
        ("numwant=199", 199),
        ("numwant=200", 200),
        ("numwant=201", 200),
        ("numwant=4294967296", 200),
        ("numwant=99999999999999999999999999", 200),
        ("", 50),
        ("numwant", 50),
        ("numwant=", 50),
        ("numwant=-1", 50),
        ("numwant=many", 50),
        ("numwant=5.5", 50),
        ("num_want=5", 50),
    ] {
        for form in ["", "&compact=0"] {
            let mut peers = torrent.announce(1000, &format!("{rest}{form}")).peers;
            assert_eq!(peers.len(), expected, "{rest}{form}");
            peers.sort_unstable();
            peers.dedup();
            assert_eq!(peers.len(), expected, "{rest}{form}: repetitions");
        }
    }
}

fn compact_is_advisory(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce(1, "");
    for rest in ["", "compact=1", "compact", "compact=", "compact=2", "compact=no"] {
        let answer = torrent.announce(2, rest);
        assert_eq!(answer.body.bytes("peers"), b"\x7f\0\0\x01\0\x01", "{rest}");
    }
    for rest in ["compact=0", "compact=%30", "compact=0&no_peer_id=1"] {
        let answer = torrent.announce(2, rest);
        let list = "[{\"ip\": \"127.0.0.1\", \"port\": 1}]";
        assert_eq!(format!("{:?}", answer.body.get("peers").unwrap()), list, "{rest}");
    }
}

fn paths(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let query = torrent.target(1, "");
    let query = query.strip_prefix("/announce").unwrap();
    let hash = percent_encoded(&torrent.info_hash);
    for (before, after) in [
        ("/", ""),
        ("/", "/"),
        ("/", ".php"),
        ("/", ".php/"),
        ("/", "/0123456789abcdef"),
        ("/", "/0123456789abcdef/"),
        ("/0123456789abcdef/", ""),
        ("/0123456789abcdef/", ".php"),
        ("/%61/", ""),
        ("http://tracker.example/", ""),
        ("http://[::1]:7070/", ""),
        ("HTTP://user@tracker:80/key/", ".php"),
        ("https://tracker/", ""),
    ] {
        let answer = parse_announce(&fetch(
            tracker.v4,
            get_request(&format!("{before}announce{after}{query}")),
        ));
        assert_eq!(answer.incomplete, 1, "{before} {after}");
        let target = format!("{before}scrape{after}?info_hash={hash}");
        let files = crate::support::torrent::parse_scrape(&fetch(tracker.v4, get_request(&target)));
        assert_eq!(files[0].1.incomplete, 1, "{before} {after}");
    }
    let own: IpAddr = LOCALHOST;
    assert_eq!(torrent.announce(2, "").peers, [(own, 1).into()]);
}

/// One client sends the NUL that terminates a C string after its request.
fn a_nul_after_a_request_is_ignored(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let target = torrent.target(1, "");
    let kept = [get_request(&target), vec![0]].concat();
    let mut client = HttpClient::connect(tracker.v4);
    for _ in 0..3 {
        client.send(&kept);
        parse_announce(&client.read_response());
    }
    client.send(b"\0\r\n\0");
    client.send(get_request(&target));
    parse_announce(&client.read_response());

    let last = format!("GET {target} HTTP/1.0\r\nHost: 127.0.0.1\r\nUser-agent: u\r\n\r\n\0");
    let mut client = HttpClient::connect(tracker.v4);
    client.send(&last);
    parse_announce(&client.read_response());
    client.expect_close();
    // In its own segment, and so after the response was sent.
    let mut client = HttpClient::connect(tracker.v4);
    client.send(&last[..last.len() - 1]);
    let _ = std::io::Write::write(&mut client.stream, b"\0");
    parse_announce(&client.read_response());
}

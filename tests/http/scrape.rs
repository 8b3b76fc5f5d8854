//! Scrapes of some torrents, and full scrapes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use annulus::limits::FULL_SCRAPES_MAX;

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::bencode::decode;
use crate::support::client::{HttpClient, fetch, get_request, request};
use crate::support::torrent::{
    ScrapeCounts, TestTorrent, failure_reason, parse_announce, parse_scrape, percent_encoded,
};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines, wait_for};

test_both_engines!(
    several_torrents,
    as_many_as_transmission_asks_for,
    more_than_allowed,
    as_many_as_can_be_allowed,
    wrong_scrapes_fail,
    a_full_scrape_is_off_by_default,
    a_full_scrape_lists_all_torrents,
    several_full_scrapes_at_once,
);

const FULL: &str = "[protocol]\nfull_scrape = true";

fn target(hashes: impl IntoIterator<Item = [u8; 20]>) -> String {
    let hashes: Vec<String> = hashes.into_iter().map(|hash| percent_encoded(&hash)).collect();
    format!("/scrape?info_hash={}", hashes.join("&info_hash="))
}

fn several_torrents(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let one = TestTorrent::new(&tracker, 200);
    one.announce(1, "left=0");
    one.announce(2, "left=7");
    one.announce(2, "left=0&event=completed");
    one.announce(3, "left=7");
    TestTorrent::new(&tracker, 100).announce(1, "left=7");
    let scrape = target([[200; 20], [9; 20], [100; 20], [200; 20]]);
    let files = parse_scrape(&fetch(tracker.v4, get_request(&scrape)));
    let expected = [
        (vec![9; 20], ScrapeCounts::default()),
        (vec![100; 20], ScrapeCounts { incomplete: 1, ..ScrapeCounts::default() }),
        (vec![200; 20], ScrapeCounts { complete: 2, downloaded: 1, incomplete: 1 }),
    ];
    assert_eq!(files, expected);
    // A scrape does not create a torrent.
    assert_eq!(TestTorrent::new(&tracker, 9).announce(1, "").incomplete, 1);

    let mut client = HttpClient::connect(tracker.v4);
    client.send(request("HEAD", &scrape, "HTTP/1.1", ""));
    let head = client.read_response_head();
    client.send(get_request(&scrape));
    let whole = client.read_response();
    assert_eq!(head.status, 200);
    let length = |body: &[u8]| body.len().to_string();
    assert_eq!(head.header("content-length"), Some(&*length(&whole.body)));
    // With the parameters that clients repeat here, and a version 2 info hash.
    let odd = format!(
        "/scrape?passkey=x&info_hash={}{}&port=0",
        percent_encoded(&[200; 20]),
        "ab%63".repeat(4)
    );
    assert_eq!(parse_scrape(&fetch(tracker.v4, get_request(&odd)))[0].1.complete, 2);
}

fn as_many_as_transmission_asks_for(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for number in (0..64).step_by(2) {
        TestTorrent::new(&tracker, number).announce(1, "");
    }
    let headers = "User-Agent: Transmission/3.00\r\nAccept: */*\r\n\
                   Accept-Encoding: deflate, gzip, br, zstd\r\n";
    let mut scrape =
        request("GET", &target((0..64).map(|number| [number; 20])), "HTTP/1.1", headers);
    // Longer than Transmission's 4076 bytes, so that it takes two receive buffers.
    assert!(scrape.len() > 4096, "{}", scrape.len());
    let mut client = HttpClient::connect(tracker.v4);
    for _ in 0..2 {
        client.send(&scrape);
        let files = parse_scrape(&client.read_response());
        assert_eq!(files.len(), 64);
        for (info_hash, counts) in files {
            assert_eq!(counts.incomplete, i64::from(info_hash[0] % 2 == 0));
        }
    }
    // In three segments, as on a real path.
    let last = scrape.split_off(2800);
    let middle = scrape.split_off(1400);
    for part in [scrape, middle, last] {
        client.send(part);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(parse_scrape(&client.read_response()).len(), 64);
}

fn more_than_allowed(engine: Engine) {
    // By default, 128.
    for (table, max) in [("", 128), ("[protocol]\nmax_scrape_torrents = 64\n", 64)] {
        let tracker = Tracker::start(engine, &format!("{table}{OPERATIONS}"));
        let of = |count: u8| target((0..count).map(|number| [number; 20]));
        assert_eq!(parse_scrape(&fetch(tracker.v4, get_request(&of(max)))).len(), usize::from(max));
        let mut client = HttpClient::connect(tracker.v4);
        for count in [max + 1, max + 22] {
            client.send(get_request(&of(count)));
            let response = client.read_response();
            let reason = failure_reason(&response);
            assert!(reason.contains(&format!("{max} torrents")), "{count}: {reason}");
            assert_eq!(decode(&response.body).text("retry in"), "never");
        }
        // Repeated and invalid info hashes count too.
        let same = target(std::iter::repeat_n([1; 20], usize::from(max) + 1));
        for target in [same, format!("{}&info_hash=%", of(max)), format!("{}%", of(max + 1))] {
            client.send(get_request(&target));
            assert!(failure_reason(&client.read_response()).contains("torrents at most"));
        }
        client.send(get_request(&of(max)));
        assert_eq!(parse_scrape(&client.read_response()).len(), usize::from(max));
        assert_eq!(
            AdminClient::of(&tracker).labelled_samples("annulus_failures_total"),
            ["reason=scrape_too_large 5"]
        );
    }
}

/// The largest configurable number of info hashes, with every byte percent-encoded and a passkey.
fn as_many_as_can_be_allowed(engine: Engine) {
    let config = |max: usize| format!("[protocol]\nmax_scrape_torrents = {max}\n");
    let mut wrong = Tracker::launch(&config(100_000), &[]);
    let (status, log) = wrong.wait_exit();
    assert!(!status.success());
    let (_, allowed) = log.split_once("64 to ").unwrap_or_else(|| panic!("{log}"));
    let max: usize = allowed.split(' ').next().unwrap().parse().unwrap();
    assert!(max >= 128, "{log}");
    let tracker = Tracker::start(engine, &config(max));
    let hashes = |count: usize| {
        let hash = |number: usize| format!("info_hash={}", format!("%{:02x}", number).repeat(20));
        (0..count).map(hash).collect::<Vec<_>>().join("&")
    };
    let path = "/0123456789abcdef0123456789abcdef/scrape";
    let mut client = HttpClient::connect(tracker.v4);
    client.send(get_request(&format!("{path}?{}", hashes(max))));
    assert_eq!(parse_scrape(&client.read_response()).len(), max);
    client.send(get_request(&format!("{path}?{}", hashes(max + 1))));
    assert!(failure_reason(&client.read_response()).contains(&format!("{max} torrents")));
}

fn wrong_scrapes_fail(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let mut client = HttpClient::connect(tracker.v4);
    let good = "%01".repeat(20);
    for (query, word) in [
        (format!("info_hash={good}&info_hash=%0"), "percent"),
        (format!("info_hash={good}&info_hash=abc"), "20 bytes"),
        ("info_hash=".to_owned(), "20 bytes"),
        (format!("info_hash={good}&info_hash={}", "0f".repeat(20)), "hex"),
        (format!("info_hash={}&info_hash={good}", "Q7".repeat(16)), "base32"),
    ] {
        client.send(get_request(&format!("/scrape?{query}")));
        let reason = failure_reason(&client.read_response());
        assert!(reason.contains(word), "{query}: {reason}");
    }
}

fn a_full_scrape_is_off_by_default(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    TestTorrent::new(&tracker, 1).announce(1, "");
    let mut client = HttpClient::connect(tracker.v4);
    for target in ["/scrape", "/scrape?", "/scrape?passkey=x", "/scrape/"] {
        client.send(get_request(target));
        let response = client.read_response();
        assert!(failure_reason(&response).contains("info_hash is missing"), "{target}");
        assert_eq!(decode(&response.body).text("retry in"), "never", "{target}");
    }
}

fn a_full_scrape_lists_all_torrents(engine: Engine) {
    let tracker = Tracker::start(engine, FULL);
    let read = |version: &str| {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(request("GET", "/scrape", version, ""));
        let response = client.read_response_to_end();
        assert_eq!((response.status, response.has_connection_close()), (200, true));
        let files = files_of_all(&response.body);
        assert!(files.values().all(|counts| counts.incomplete == 1 && counts.complete == 0));
        files.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(read("HTTP/1.1").len(), 0);
    let mut hashes: Vec<[u8; 20]> = Vec::new();
    let mut client = HttpClient::connect(tracker.v4);
    for number in 0..5000_u32 {
        let mut hash = [7; 20];
        hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
        client.send(get_request(&format!("/announce?info_hash={}&port=1", percent_encoded(&hash))));
        parse_announce(&client.read_response());
        hashes.push(hash);
    }
    hashes.sort_unstable();
    for version in ["HTTP/1.0", "HTTP/1.1", "HTTP/1.1"] {
        assert_eq!(read(version), hashes, "{version}");
    }
    // Only a head, without a body.
    client.send(request("HEAD", "/scrape", "HTTP/1.1", ""));
    assert_eq!(client.read_response_head().status, 200);
    client.expect_close();
    // An aborted full scrape does not block the next one.
    for _ in 0..20 {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(get_request("/scrape"));
        client.reset();
    }
    let start = Instant::now();
    while failed_scrape(&tracker) {
        assert!(start.elapsed() < TIMEOUT, "a full scrape that nobody reads blocks all others");
    }
}

fn failed_scrape(tracker: &Tracker) -> bool {
    let mut client = HttpClient::connect(tracker.v4);
    client.send(request("GET", "/scrape", "HTTP/1.1", "Connection: close\r\n"));
    client.read_all().windows(14).any(|part| part == b"failure reason")
}

/// The torrents of a full scrape in order of their info hashes.
fn files_of_all(body: &[u8]) -> BTreeMap<[u8; 20], ScrapeCounts> {
    let mut rest = body.strip_prefix(b"d5:filesd").expect("the start of a scrape");
    let mut files = BTreeMap::new();
    while let Some(entry) = rest.strip_prefix(b"20:") {
        let (info_hash, file) = entry.split_first_chunk().unwrap();
        let closing = file.windows(2).position(|two| two == b"ee").unwrap() + 2;
        let value = decode(&file[..closing]);
        let counts = ScrapeCounts {
            complete: value.integer("complete"),
            downloaded: value.integer("downloaded"),
            incomplete: value.integer("incomplete"),
        };
        let last = files.last_key_value().map(|(last, _)| last);
        assert!(last < Some(info_hash), "out of order: {}", percent_encoded(info_hash));
        files.insert(*info_hash, counts);
        rest = &file[closing..];
    }
    assert_eq!(rest, b"ee", "the end of a scrape");
    files
}

fn several_full_scrapes_at_once(engine: Engine) {
    // More than the socket buffers hold while the client does not read.
    let buffers = fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap();
    let buffer: u32 = buffers.split_whitespace().last().unwrap().parse().unwrap();
    if buffer > 8 << 20 {
        return eprintln!("skipped: the kernel buffers {buffer} bytes");
    }
    let count = buffer / 80 + 30_000;
    let tables = format!("{FULL}\n[connections]\nsend_timeout = 300");
    let tracker = Tracker::start_with(engine, 1, &tables, &[]);
    let mut client = HttpClient::connect(tracker.v4);
    let requests: Vec<u8> = (0..count)
        .flat_map(|number| {
            let mut hash = [7; 20];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            get_request(&format!("/announce?info_hash={}&port=1", percent_encoded(&hash)))
        })
        .collect();
    let mut writer = client.stream.try_clone().unwrap();
    let writer = thread::spawn(move || writer.write_all(&requests).unwrap());
    for _ in 0..count {
        assert_eq!(client.read_response().status, 200);
    }
    writer.join().unwrap();

    let mut stalled: Vec<HttpClient> = (0..FULL_SCRAPES_MAX)
        .map(|_| {
            let mut client = HttpClient::connect_small_window(tracker.v4);
            client.send(get_request("/scrape"));
            assert_eq!(client.read_response_head().status, 200);
            client
        })
        .collect();
    client.send(get_request("/scrape"));
    let response = client.read_response();
    assert!(failure_reason(&response).contains("later"));
    assert_eq!(decode(&response.body).integer("retry in"), 1);
    // An aborted scrape makes room, and stalled ones do not block others.
    drop(stalled.pop());
    wait_for("a full scrape", || (!failed_scrape(&tracker)).then_some(()));
    // They continue when they are read, all at once.
    thread::scope(|scope| {
        for (number, mut client) in stalled.into_iter().enumerate().take(4) {
            scope.spawn(move || {
                client.read_slowly([1_000_000, usize::MAX][number % 2]);
                assert_eq!(files_of_all(&client.read_all()).len(), count as usize);
            });
        }
    });
}

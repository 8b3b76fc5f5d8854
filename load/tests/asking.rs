//! Every way to ask, and a tracker that answers as it should.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::run::{Going, Run};
use crate::support::{
    TempDirectory, TestCertificates, TestEngine, TestTracker, has_v6, on_both_engines, wait_for,
};

on_both_engines!(
    connections_that_are_kept,
    one_request_a_connection,
    several_requests_a_connection,
    one_behind_the_other,
    over_ipv6,
    by_name,
    scrapes_in_between,
    many_addresses,
    few_peers_and_many_connections,
    a_file_of_torrents,
    torrents_that_are_not_served,
    a_given_rate,
    peers_of_somebody_else,
    over_tls,
    a_certificate_of_nobody,
    sessions_that_are_resumed,
    a_signal_ends_it,
);

fn url(address: SocketAddr) -> String {
    format!("http://{address}/announce")
}

fn start(engine: TestEngine) -> (TestTracker, String) {
    let tracker = TestTracker::start(engine, "");
    let url = url(tracker.v4);
    (tracker, url)
}

fn connections_that_are_kept(engine: TestEngine) {
    let (_tracker, url) = start(engine);
    let run = Run::of(engine, &url, &["--requests", "5000", "--workers", "2", "--only-ours"]);
    run.is_good(5000);
    assert_eq!(run.number("connections_made"), 64);
    assert!(run.number("peers") > 5000, "{}", run.text);
}

fn one_request_a_connection(engine: TestEngine) {
    let (_tracker, url) = start(engine);
    let arguments = ["--requests", "2000", "--requests-per-connection", "1", "--only-ours"];
    let run = Run::of(engine, &url, &arguments);
    run.is_good(2000);
    assert_eq!(run.number("connections_made"), 2000);
}

fn several_requests_a_connection(engine: TestEngine) {
    let (_tracker, url) = start(engine);
    let arguments = ["--requests", "2000", "--requests-per-connection", "7", "--connections", "5"];
    let run = Run::of(engine, &url, &[&arguments[..], &["--pipeline", "3"]].concat());
    run.is_good(2000);
    // Every connection but the last of each slot makes seven.
    let made = run.number("connections_made");
    assert!((2000_u64.div_ceil(7)..=2000 / 7 + 5).contains(&made), "{}", run.text);
}

fn one_behind_the_other(engine: TestEngine) {
    let (_tracker, url) = start(engine);
    let arguments = ["--requests", "5000", "--pipeline", "16", "--connections", "4"];
    Run::of(engine, &url, &arguments).is_good(5000);
}

fn over_ipv6(engine: TestEngine) {
    if !has_v6() {
        return;
    }
    let (tracker, _) = start(engine);
    let url = url(tracker.v6.unwrap());
    let run = Run::of(engine, &url, &["--requests", "1000", "--only-ours"]);
    run.is_good(1000);
    assert!(run.number("peers") > 0);
}

fn by_name(engine: TestEngine) {
    let (tracker, _) = start(engine);
    let url = format!("http://localhost:{}/announce", tracker.v4.port());
    Run::of(engine, &url, &["--requests", "100", "--connections", "3"]).is_good(100);
}

fn scrapes_in_between(engine: TestEngine) {
    let (_tracker, url) = start(engine);
    let arguments = ["--requests", "3000", "--scrapes", "30", "--hashes-per-scrape", "20"];
    let run = Run::of(engine, &url, &arguments);
    run.is_good(3000);
    let scrapes = run.number("scrapes");
    assert!((700..1100).contains(&scrapes), "{scrapes}");
    // All are known to this tracker by and by; some come twice in one scrape.
    assert!(run.number("torrents") > scrapes, "{}", run.text);
}

/// What the tracker says of one torrent: seeders, leechers.
fn counts(tracker: SocketAddr, hash: &str) -> [u64; 2] {
    let query: String = (0..20).map(|at| format!("%{}", &hash[2 * at..2 * at + 2])).collect();
    let mut stream = TcpStream::connect(tracker).unwrap();
    let request = format!("GET /scrape?info_hash={query} HTTP/1.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    ["8:completei", "10:incompletei"].map(|key| {
        let digits = text.split_once(key).and_then(|(_, rest)| rest.split_once('e'));
        digits.unwrap_or_else(|| panic!("{text}")).0.parse().unwrap()
    })
}

const HASH: &str = "00ff0a2d7e2f413d6f1c2b3a4d5e6f7081929394";

/// A file of torrents, gone with the test.
struct List {
    _directory: TempDirectory,
    path: String,
}

impl List {
    fn of(lines: &str) -> List {
        let directory = TempDirectory::new("torrents");
        let path = directory.path().join("list.txt");
        fs::write(&path, lines).unwrap();
        List { path: path.to_str().unwrap().to_owned(), _directory: directory }
    }
}

fn many_addresses(engine: TestEngine) {
    let (tracker, url) = start(engine);
    let list = List::of(HASH);
    let arguments = ["--requests", "600", "--requests-per-connection", "1", "--peers", "300"];
    let more = ["--sources", "127.4.0.0/16", "--torrents-file", &list.path, "--only-ours"];
    let run = Run::of(
        engine,
        &url,
        &[&arguments[..], &more, &["--seeders", "25", "--connections", "1"]].concat(),
    );
    run.is_good(600);
    // Each of them once, though each has announced twice.
    let [complete, incomplete] = counts(tracker.v4, HASH);
    assert_eq!(complete + incomplete, 300);
    assert!((40..110).contains(&complete), "{complete}");
}

fn few_peers_and_many_connections(engine: TestEngine) {
    let (_tracker, url) = start(engine);
    let arguments = ["--requests", "500", "--peers", "3", "--connections", "40"];
    Run::of(engine, &url, &[&arguments[..], &["--torrents", "1"]].concat()).is_good(500);
}

fn a_file_of_torrents(engine: TestEngine) {
    let (tracker, url) = start(engine);
    let other = HASH.replace('0', "A");
    let list = List::of(&format!("# the list\n\n{HASH} # the first\n{other}\n"));
    let arguments = ["--torrents-file", &list.path, "--requests", "400", "--peers", "200"];
    // With one connection, each peer has its turn.
    let even = ["--popularity", "even", "--connections", "1"];
    Run::of(engine, &url, &[&arguments[..], &even].concat()).is_good(400);
    let sums = [HASH, &other].map(|hash| counts(tracker.v4, hash).iter().sum::<u64>());
    assert_eq!(sums[0] + sums[1], 200);
    assert!((60..140).contains(&sums[0]), "{sums:?}");
}

fn torrents_that_are_not_served(engine: TestEngine) {
    let list = List::of(HASH);
    let access = format!("[access]\nmode = \"allow\"\nfile = \"{}\"\n", list.path);
    let tracker = TestTracker::start(engine, &access);
    let url = url(tracker.v4);
    let served = ["--torrents-file", &list.path, "--requests", "200"];
    Run::of(engine, &url, &served).is_good(200);
    let run = Run::of(engine, &url, &["--requests", "200"]);
    assert_eq!((run.status, run.faults("refused")), (1, 200), "{}", run.text);
    let details = &run.json["faults"]["refused"]["details"];
    assert_eq!(details["this tracker does not serve this torrent"], 200, "{details}");
    let allowed = Run::of(engine, &url, &["--requests", "200", "--allow", "refused"]);
    assert_eq!(allowed.number("failures"), 0);
    assert_eq!(allowed.status, 1, "there was no good answer: {}", allowed.text);
}

fn a_given_rate(engine: TestEngine) {
    let (_tracker, url) = start(engine);
    let arguments = ["--rate", "500", "--duration", "2", "--arrivals", "even", "--workers", "2"];
    let run = Run::of(engine, &url, &[&arguments[..], &["--connections", "100"]].concat());
    // Neither more nor less than the schedule has.
    run.is_good(1000);
    assert!(run.number("connections_made") <= 100);
}

fn peers_of_somebody_else(engine: TestEngine) {
    let (_tracker, url) = start(engine);
    let list = List::of(HASH);
    let first =
        ["--torrents-file", &list.path, "--requests", "50", "--requests-per-connection", "1"];
    Run::of(engine, &url, &[&first[..], &["--sources", "127.5.0.0/24"]].concat()).is_good(50);
    let second = ["--torrents-file", &list.path, "--requests", "10", "--sources", "127.6.0.0/24"];
    let run = Run::of(engine, &url, &[&second[..], &["--only-ours"]].concat());
    assert_eq!((run.status, run.faults("strange-peer")), (1, 10), "{}", run.text);
}

fn over_tls(engine: TestEngine) {
    let tracker = TestTracker::start_https(engine);
    let root = tracker.certificates.as_ref().unwrap().root();
    for address in [tracker.https_v4, tracker.https_v6].into_iter().flatten() {
        let url = format!("https://{address}/announce");
        let arguments = ["--ca", root.to_str().unwrap()];
        let kept = ["--requests", "2000", "--connections", "10", "--scrapes", "10"];
        let run = Run::of(engine, &url, &[&arguments[..], &kept].concat());
        run.is_good(2000);
        let made = ["connections_made", "full_handshakes", "resumed_handshakes"];
        assert_eq!(made.map(|name| run.number(name)), [10, 10, 0]);
        let closed = ["--requests", "100", "--requests-per-connection", "1"];
        let run = Run::of(engine, &url, &[&arguments[..], &closed].concat());
        run.is_good(100);
        assert_eq!(made.map(|name| run.number(name)), [100, 100, 0]);
        let pipelined = ["--requests", "3000", "--pipeline", "20", "--connections", "3"];
        Run::of(engine, &url, &[&arguments[..], &pipelined].concat()).is_good(3000);
    }
    let plain = url(tracker.v4);
    Run::of(engine, &plain, &["--requests", "50"]).is_good(50);
}

fn a_certificate_of_nobody(engine: TestEngine) {
    let tracker = TestTracker::start_https(engine);
    let address = tracker.https_v4.unwrap();
    let url = format!("https://{address}/announce");
    let root = tracker.certificates.as_ref().unwrap().root();
    let untrusted = TestCertificates::new();
    let other = untrusted.root();
    let bounds = ["--requests", "4", "--connections", "2"];
    let run = Run::of(engine, &url, &[&bounds[..], &["--ca", other.to_str().unwrap()]].concat());
    assert_eq!((run.status, run.faults("tls"), run.number("good")), (1, 4, 0), "{}", run.text);
    Run::of(engine, &url, &[&bounds[..], &["--insecure"]].concat()).is_good(4);
    Run::of(engine, &url, &[&bounds[..], &["--ca", root.to_str().unwrap()]].concat()).is_good(4);
    let by_name = format!("https://localhost:{}/announce", address.port());
    let run = Run::of(engine, &by_name, &[&bounds[..], &["--ca", root.to_str().unwrap()]].concat());
    assert_eq!((run.status, run.faults("tls")), (1, 4), "another host's: {}", run.text);
}

fn sessions_that_are_resumed(engine: TestEngine) {
    let tracker = TestTracker::start_https(engine);
    let url = format!("https://{}/announce", tracker.https_v4.unwrap());
    let arguments = ["--requests", "50", "--requests-per-connection", "1", "--connections", "1"];
    let run = Run::of(engine, &url, &[&arguments[..], &["--insecure", "--resume"]].concat());
    run.is_good(50);
    let made = ["full_handshakes", "resumed_handshakes"];
    assert_eq!(made.map(|name| run.number(name)), [1, 49]);
}

fn a_signal_ends_it(engine: TestEngine) {
    let (tracker, url) = start(engine);
    // The last is what a terminal says when it is closed.
    for (at, signal) in ["INT", "TERM", "HUP"].into_iter().enumerate() {
        let hash = HASH.replace('0', &(at + 1).to_string());
        let list = List::of(&hash);
        let going =
            Going::start(engine, &url, &["--duration", "3600", "--torrents-file", &list.path]);
        let announced = || (counts(tracker.v4, &hash).iter().sum::<u64>() > 0).then_some(());
        wait_for("the first announces", announced);
        going.signal(signal);
        let run = going.end();
        let sent = run.number("sent");
        assert!(sent > 0);
        run.is_good(sent);
    }
}

//! Every way to send requests, to a tracker that responds correctly.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::{LoadRun, RunningLoad, announce_url, temp_dir};
use crate::support::authority::Authority;
use crate::support::requirements::TempDir;
use crate::support::tls_tracker::TlsTracker;
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines, wait_for};

test_both_engines!(
    connections_and_pipelines,
    over_ipv6_and_by_name,
    scrapes_among_announces,
    many_addresses,
    a_file_of_torrents,
    torrents_that_are_not_served,
    a_given_rate,
    peers_of_others,
    over_tls,
    untrusted_certificates,
    resumed_sessions,
    a_signal_ends_the_run,
);

fn connections_and_pipelines(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let url = announce_url(&tracker);
    let kept = LoadRun::of(engine, &url, "--requests 5000 --workers 2 --only-ours");
    kept.assert_good(5000);
    assert_eq!(kept.number("connections_made"), 64);
    assert!(kept.number("peers") > 5000, "{}", kept.text);
    let one = LoadRun::of(engine, &url, "--requests 2000 --requests-per-connection 1 --only-ours");
    one.assert_good(2000);
    assert_eq!(one.number("connections_made"), 2000);
    let several = "--requests 2000 --requests-per-connection 7 --connections 5 --pipeline 3";
    let several = LoadRun::of(engine, &url, several);
    several.assert_good(2000);
    // Every connection but the last of each slot has seven requests.
    let made = several.number("connections_made");
    assert!((2000_u64.div_ceil(7)..=2000 / 7 + 5).contains(&made), "{}", several.text);
    LoadRun::of(engine, &url, "--requests 5000 --pipeline 16 --connections 4").assert_good(5000);
    let few_peers = "--requests 500 --peers 3 --connections 40 --torrents 1";
    LoadRun::of(engine, &url, few_peers).assert_good(500);
}

fn over_ipv6_and_by_name(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    if has_v6() {
        let url = format!("http://{}/announce", tracker.v6.unwrap());
        let run = LoadRun::of(engine, &url, "--requests 1000 --only-ours");
        run.assert_good(1000);
        assert!(run.number("peers") > 0);
    }
    let by_name = format!("http://localhost:{}/announce", tracker.v4.port());
    LoadRun::of(engine, &by_name, "--requests 100 --connections 3").assert_good(100);
}

fn scrapes_among_announces(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let arguments = "--requests 3000 --scrapes 30 --hashes-per-scrape 20";
    let run = LoadRun::of(engine, &announce_url(&tracker), arguments);
    run.assert_good(3000);
    let scrapes = run.number("scrapes");
    assert!((700..1100).contains(&scrapes), "{scrapes}");
    // The tracker comes to know all torrents; some are in a scrape twice.
    assert!(run.number("torrents") > scrapes, "{}", run.text);
}

/// How many seeders and leechers of a torrent the tracker has.
fn scrape(tracker: &Tracker, hash: &str) -> [u64; 2] {
    let query: String = (0..20).map(|at| format!("%{}", &hash[2 * at..2 * at + 2])).collect();
    let mut stream = TcpStream::connect(tracker.v4).unwrap();
    let request = format!("GET /scrape?info_hash={query} HTTP/1.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let text = String::from_utf8_lossy(&response).into_owned();
    ["8:completei", "10:incompletei"].map(|key| {
        let digits = text.split_once(key).and_then(|(_, rest)| rest.split_once('e'));
        digits.unwrap_or_else(|| panic!("{text}")).0.parse().unwrap()
    })
}

const HASH: &str = "00ff0a2d7e2f413d6f1c2b3a4d5e6f7081929394";

/// A file with these lines, and its path.
fn torrents_file(lines: &str) -> (TempDir, String) {
    let directory = temp_dir("torrents");
    let path = directory.path().join("list.txt");
    fs::write(&path, lines).unwrap();
    (directory, path.to_str().unwrap().to_owned())
}

fn many_addresses(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let (_directory, list) = torrents_file(HASH);
    let arguments = "--requests 600 --requests-per-connection 1 --connections 1 --peers 300 \
                     --seeders 25 --sources 127.4.0.0/16 --only-ours";
    let arguments = format!("{arguments} --torrents-file {list}");
    LoadRun::of(engine, &announce_url(&tracker), &arguments).assert_good(600);
    // Each peer is there once, though each has announced twice.
    let [complete, incomplete] = scrape(&tracker, HASH);
    assert_eq!(complete + incomplete, 300);
    assert!((40..110).contains(&complete), "{complete}");
}

fn a_file_of_torrents(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let other = HASH.replace('0', "A");
    let (_directory, list) = torrents_file(&format!("# list\n\n{HASH} # first\n{other}\n"));
    let arguments = "--requests 400 --peers 200 --popularity even --connections 1";
    let arguments = format!("{arguments} --torrents-file {list}");
    LoadRun::of(engine, &announce_url(&tracker), &arguments).assert_good(400);
    let sums = [HASH, &other].map(|hash| scrape(&tracker, hash).iter().sum::<u64>());
    assert_eq!(sums[0] + sums[1], 200);
    assert!((60..140).contains(&sums[0]), "{sums:?}");
}

fn torrents_that_are_not_served(engine: Engine) {
    let (_directory, list) = torrents_file(HASH);
    let access = format!("[access]\nmode = \"allow\"\nfile = \"{list}\"\n");
    let tracker = Tracker::start(engine, &access);
    let served = format!("--requests 200 --torrents-file {list}");
    LoadRun::of(engine, &announce_url(&tracker), &served).assert_good(200);
    let run = LoadRun::of(engine, &announce_url(&tracker), "--requests 200");
    run.assert_failed("refused", 200);
    let details = run.json["faults"]["refused"]["details"].as_object().unwrap();
    assert!(details.len() == 1 && details.values().all(|count| count == 200), "{details:?}");
}

fn a_given_rate(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let arguments = "--rate 500 --duration 2 --arrivals even --workers 2 --connections 100";
    let run = LoadRun::of(engine, &announce_url(&tracker), arguments);
    // Neither more nor fewer than were due.
    run.assert_good(1000);
    assert!(run.number("connections_made") <= 100);
}

fn peers_of_others(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let (_directory, list) = torrents_file(HASH);
    let first = "--requests 50 --requests-per-connection 1 --sources 127.5.0.0/24";
    let first = format!("{first} --torrents-file {list}");
    LoadRun::of(engine, &announce_url(&tracker), &first).assert_good(50);
    let second = format!("--requests 10 --sources 127.6.0.0/24 --torrents-file {list} --only-ours");
    LoadRun::of(engine, &announce_url(&tracker), &second).assert_failed("strange-peer", 10);
}

fn over_tls(engine: Engine) {
    let tracker = TlsTracker::start(engine, "");
    let ca = tracker.authority.root().display().to_string();
    for address in [Some(tracker.v4), tracker.v6].into_iter().flatten() {
        let run = |arguments: &str| {
            let url = format!("https://{address}/announce");
            LoadRun::of(engine, &url, &format!("--ca {ca} {arguments}"))
        };
        let kept = run("--requests 2000 --connections 10 --scrapes 10");
        kept.assert_good(2000);
        let made = ["connections_made", "full_handshakes", "resumed_handshakes"];
        assert_eq!(made.map(|name| kept.number(name)), [10, 10, 0]);
        let closed = run("--requests 100 --requests-per-connection 1");
        closed.assert_good(100);
        assert_eq!(made.map(|name| closed.number(name)), [100, 100, 0]);
        run("--requests 3000 --pipeline 20 --connections 3").assert_good(3000);
    }
}

fn untrusted_certificates(engine: Engine) {
    let (tracker, others) = (TlsTracker::start(engine, ""), Authority::new(&[]));
    let url = format!("https://{}/announce", tracker.v4);
    let run = |url: &str, trust: &str| {
        LoadRun::of(engine, url, &format!("--requests 4 --connections 2 {trust}"))
    };
    let ca = format!("--ca {}", tracker.authority.root().display());
    run(&url, &format!("--ca {}", others.root().display())).assert_failed("tls", 4);
    run(&url, "--insecure").assert_good(4);
    run(&url, &ca).assert_good(4);
    // The certificate is not for this name.
    let by_name = format!("https://localhost:{}/announce", tracker.v4.port());
    run(&by_name, &ca).assert_failed("tls", 4);
}

fn resumed_sessions(engine: Engine) {
    let tracker = TlsTracker::start(engine, "");
    let url = format!("https://{}/announce", tracker.v4);
    let arguments = "--requests 50 --requests-per-connection 1 --connections 1 --insecure --resume";
    let run = LoadRun::of(engine, &url, arguments);
    run.assert_good(50);
    assert_eq!((run.number("full_handshakes"), run.number("resumed_handshakes")), (1, 49));
}

fn a_signal_ends_the_run(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    // A terminal sends HUP when it is closed.
    for (at, signal) in ["INT", "TERM", "HUP"].into_iter().enumerate() {
        let hash = HASH.replace('0', &(at + 1).to_string());
        let (_directory, list) = torrents_file(&hash);
        let arguments = format!("--duration 3600 --torrents-file {list}");
        let running = RunningLoad::start(engine, &announce_url(&tracker), &arguments);
        let announced = || (scrape(&tracker, &hash).iter().sum::<u64>() > 0).then_some(());
        wait_for("the first announces", announced);
        running.signal(signal);
        let run = running.wait();
        let sent = run.number("sent");
        assert!(sent > 0);
        run.assert_good(sent);
    }
}

//! Trackers by UDP: losses, late and wrong responses, and connection ids that expire.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use super::LoadRun;
use super::fake_udp_tracker::{FakeRequest, FakeUdpTracker, announced, good, now, response};
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines};

test_both_engines!(the_tracker_responds_correctly, the_tracker_keeps_a_rate);

const HOUR: Duration = Duration::from_secs(3600);

const THREE: &str = "--requests 3 --connections 1 --loss-timeout 1000";

/// A run by UDP, which no engine takes part in.
#[track_caller]
fn run(fake: &FakeUdpTracker, arguments: &str) -> LoadRun {
    LoadRun::of(Engine::Epoll, &fake.url(), arguments)
}

/// A tracker that responds correctly to every request that has a response by `may_respond`.
fn responding_if(may_respond: impl Fn(&FakeRequest) -> bool + Send + 'static) -> FakeUdpTracker {
    FakeUdpTracker::start("127.0.0.1", HOUR, move |request| {
        Vec::from_iter(may_respond(request).then(|| now(good(request))))
    })
}

#[test]
fn announces_and_scrapes_of_both_families() {
    for ip in ["127.0.0.1", "::1"] {
        if ip == "::1" && !has_v6() {
            continue;
        }
        let fake = FakeUdpTracker::start(ip, HOUR, |request| vec![now(good(request))]);
        let run = run(&fake, "--requests 1000 --scrapes 20 --hashes-per-scrape 3 --sockets 5");
        run.assert_good(1000);
        assert_eq!((run.number("lost"), run.number("late")), (0, 0));
        assert_eq!(run.number("connections_made"), 5);
        assert_eq!(run.number("peers"), run.number("announces"));
        assert_eq!(run.number("torrents"), 3 * run.number("scrapes"));
        assert!((100..300).contains(&run.number("scrapes")), "{}", run.text);
        assert!(run.text.contains("5 UDP sockets"), "{}", run.text);
    }
}

fn the_tracker_responds_correctly(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for address in tracker.udp_addresses() {
        let sources = if address.is_ipv4() { "--sources 127.40.0.0/24" } else { "" };
        let arguments = format!(
            "--requests 5000 --torrents 20 --peers 500 --only-ours {sources} \
             --scrapes 10 --hashes-per-scrape 64 --loss-timeout 5000"
        );
        let run = LoadRun::of(engine, &format!("udp://{address}"), &arguments);
        run.assert_good(5000);
        assert_eq!(run.number("torrents"), 64 * run.number("scrapes"));
        assert!(run.number("peers") > 5 * run.number("announces"), "{}", run.text);
        assert_eq!(run.number("connections_made"), if address.is_ipv4() { 64 } else { 4 });
    }
}

fn the_tracker_keeps_a_rate(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let url = format!("udp://{}", tracker.udp_v4());
    LoadRun::of(engine, &url, "--rate 1000 --duration 2 --arrivals even").assert_good(2000);
}

#[test]
fn a_rate_counts_from_when_requests_are_due() {
    // Responses come after 500 ms, and each of two slots so takes two requests a second.
    let fake = FakeUdpTracker::start("127.0.0.1", HOUR, |request| {
        vec![(Duration::from_millis(500), good(request))]
    });
    let arguments = "--rate 100 --duration 2 --arrivals even --connections 2 --sockets 1";
    let run = run(&fake, arguments);
    let (good, unsent) = (run.number("good"), run.faults("never-sent"));
    assert!((2..=8).contains(&good), "{}", run.text);
    assert_eq!((good + unsent, run.number("latencies")), (200, 200), "{}", run.text);
    assert!(run.latency_ms("p50") >= 500.0, "{}", run.text);
}

#[test]
fn a_rate_is_kept() {
    let run = run(&responding_if(|_| true), "--rate 1000 --duration 2 --arrivals even");
    run.assert_good(2000);
}

#[test]
fn peers_are_announced_in_turn_and_started_first() {
    let (sender, announces) = mpsc::channel();
    let fake = FakeUdpTracker::start("127.0.0.1", HOUR, move |request| {
        sender.send((request.from, request.bytes.clone())).unwrap();
        vec![now(good(request))]
    });
    run(&fake, "--requests 150 --peers 100 --sockets 1 --connections 4 --numwant 30")
        .assert_good(150);
    drop(fake);
    let announces: Vec<(SocketAddr, Vec<u8>)> = announces.iter().collect();
    assert!(announces.iter().all(|(from, bytes)| *from == announces[0].0 && bytes.len() == 98));
    let events = announces.iter().map(|(_, bytes)| bytes[83]);
    assert_eq!(events.collect::<Vec<_>>(), [[2; 100].as_slice(), &[0; 50]].concat());
    let keyed = |part: fn(&[u8]) -> Vec<u8>| {
        let parts: HashSet<_> = announces.iter().map(|(_, bytes)| part(bytes)).collect();
        parts.len()
    };
    // Peer ids, ports, and what does not differ.
    assert_eq!(keyed(|bytes| bytes[36..56].to_vec()), 100);
    assert_eq!(keyed(|bytes| bytes[96..98].to_vec()), 100);
    assert_eq!(keyed(|bytes| bytes[92..96].to_vec()), 1);
    assert_eq!(announces[0].1[92..96], [0, 0, 0, 30]);
    let left = |bytes: &[u8]| u64::from_be_bytes(bytes[64..72].try_into().unwrap());
    let seeders = announces.iter().filter(|(_, bytes)| left(bytes) == 0).count();
    assert!((20..130).contains(&seeders), "{seeders}");
}

#[test]
fn sources_are_used_in_turn() {
    let (sender, sources) = mpsc::channel();
    let fake = FakeUdpTracker::start("127.0.0.1", HOUR, move |request| {
        sender.send(request.from).unwrap();
        vec![now(good(request))]
    });
    run(
        &fake,
        "--requests 500 --sources 127.8.0.0/16 --sockets 8 --only-ours --allow strange-peer",
    );
    drop(fake);
    let sources: HashSet<SocketAddr> = sources.iter().collect();
    let addresses: HashSet<_> = sources.iter().map(|source| source.ip()).collect();
    assert_eq!((sources.len(), addresses.len()), (8, 8), "{sources:?}");
    assert!(addresses.iter().all(|ip| ip.to_string().starts_with("127.8.")), "{addresses:?}");
}

#[test]
fn lost_requests_are_no_faults() {
    let run = run(&responding_if(|request| request.number % 10 != 3), "--requests 1000");
    assert_eq!((run.status, run.number("failures")), (0, 0), "{}", run.text);
    assert_eq!((run.number("good"), run.number("lost")), (900, 100), "{}", run.text);
    assert_eq!((run.number("sent"), run.number("latencies")), (1000, 1000), "{}", run.text);
    assert!(run.latency_ms("max") >= 100.0, "{}", run.text);
    assert!(run.text.contains("100 (10.000 %), 0 responses too late"), "{}", run.text);
    let series = run.json["series"].as_array().unwrap();
    assert!(series.iter().any(|point| point["lost"].as_u64() > Some(0)), "{series:?}");
}

#[test]
fn all_requests_lost() {
    let run = run(&responding_if(|_| false), "--requests 5");
    assert_eq!((run.status, run.number("lost"), run.number("good")), (1, 5, 0), "{}", run.text);
    assert!(run.text.contains("there was no response"), "{}", run.text);
}

#[test]
fn late_responses_are_no_faults() {
    // Their slots are in use again when they arrive.
    let fake = FakeUdpTracker::start("127.0.0.1", HOUR, |request| {
        let is_late = (20..40).contains(&request.number);
        let delay = Duration::from_millis(if is_late { 400 } else { 1 });
        vec![(delay, good(request))]
    });
    let arguments = "--rate 250 --duration 2 --connections 25 --arrivals even --loss-timeout 200";
    let run = run(&fake, arguments);
    assert_eq!((run.status, run.number("failures")), (0, 0), "{}", run.text);
    assert_eq!((run.number("lost"), run.number("late")), (20, 20), "{}", run.text);
    assert_eq!((run.number("good"), run.number("sent")), (480, 500), "{}", run.text);
}

#[test]
fn repeated_responses_are_faults() {
    let fake = FakeUdpTracker::start("127.0.0.1", HOUR, |request| {
        let copies = if request.number == 5 { 3 } else { 1 };
        vec![now(good(request)); copies]
    });
    let run = run(&fake, "--requests 100 --connections 4");
    run.assert_failed("surplus", 2);
    assert_eq!(run.number("good"), 100, "{}", run.text);
}

#[test]
fn wrong_responses_fail_by_kind() {
    let with = |body: &[u8]| body.to_vec();
    for (action, body, fault) in [
        (0, announced(b""), "wrong-action"),
        (2, with(&[0; 12]), "wrong-action"),
        (4, with(b""), "wrong-action"),
        (3, with(b"go away!"), "refused"),
        (1, with(b""), "bad-length"),
        (1, with(&[0; 11]), "bad-length"),
        (1, with(&[0; 12]), "bad-interval"),
        (1, with(&[0, 0, 7, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), "wrong-type"),
        (1, announced(b"1234567"), "bad-peers"),
        (1, announced(b"\xff23456"), "bad-peers"),
        (1, announced(b"abcdefabcdef"), "repeated-peer"),
        (1, announced(b"abcd\0\0"), "port-zero"),
        (1, announced(&[b'x'; 51 * 6]), "too-many-peers"),
        (1, announced(&[b'x'; 1800]), "too-long"),
    ] {
        let fake = FakeUdpTracker::start("127.0.0.1", HOUR, move |request| {
            vec![now(response(action, request.transaction, &body))]
        });
        let run = run(&fake, THREE);
        run.assert_failed(fault, 3);
        assert_eq!((run.number("failures"), run.number("lost")), (3, 0), "{fault}: {}", run.text);
        assert_eq!(run.text.contains("3 go away!"), fault == "refused", "{}", run.text);
    }
    let fake = FakeUdpTracker::start("127.0.0.1", HOUR, |request| {
        vec![now(response(2, request.transaction, &[0; 12]))]
    });
    run(&fake, &format!("{THREE} --scrapes 100 --hashes-per-scrape 2"))
        .assert_failed("bad-length", 3);
}

#[test]
fn responses_to_no_request() {
    for change in [1, 1 << 20, 1 << 31] {
        let fake = FakeUdpTracker::start("127.0.0.1", HOUR, move |request| {
            let other = response(1, request.transaction ^ change, &announced(b""));
            vec![now(other), now(good(request))]
        });
        let run = run(&fake, THREE);
        run.assert_failed("strange-transaction", 3);
        assert_eq!(run.number("good"), 3, "{}", run.text);
    }
    let short = FakeUdpTracker::start("127.0.0.1", HOUR, |request| {
        vec![now(vec![0; 7]), now(vec![]), now(good(request))]
    });
    let run = run(&short, THREE);
    run.assert_failed("bad-length", 6);
    assert_eq!(run.number("good"), 3, "{}", run.text);
}

#[test]
fn the_own_address() {
    // That of the only peer, if it sends from 127.7.7.7.
    let fake = FakeUdpTracker::start("127.0.0.1", HOUR, |request| {
        vec![now(response(1, request.transaction, &announced(b"\x7f\x07\x07\x07\x04\x01")))]
    });
    let one = format!("{THREE} --peers 1");
    run(&fake, &format!("{one} --sources 127.7.7.7")).assert_failed("own-address", 3);
    assert_eq!(run(&fake, &format!("{one} --sources 127.7.7.8")).status, 0);
    run(&fake, &format!("{one} --only-ours")).assert_failed("strange-peer", 3);
}

#[test]
fn connection_ids_are_renewed_before_they_expire() {
    let expiring = || {
        FakeUdpTracker::start("127.0.0.1", Duration::from_millis(1900), |request| {
            vec![now(good(request))]
        })
    };
    let arguments = "--rate 500 --duration 4 --arrivals even --sockets 2";
    let renewed = run(&expiring(), &format!("{arguments} --id-lifetime 1"));
    renewed.assert_good(2000);
    assert!((6..=10).contains(&renewed.number("connections_made")), "{}", renewed.text);
    let kept = run(&expiring(), arguments);
    assert_eq!((kept.status, kept.number("connections_made")), (1, 2), "{}", kept.text);
    let refused = kept.faults("refused");
    assert!(refused > 0 && refused + kept.number("good") == 2000, "{}", kept.text);
    assert!(kept.text.contains("expired"), "{}", kept.text);
}

#[test]
fn lost_connect_requests_are_repeated() {
    let fake = FakeUdpTracker::raw("127.0.0.1", |request| match (request.action, request.number) {
        (0, 0..2) => vec![],
        (0, _) => vec![now(response(0, request.transaction, &[7; 8]))],
        _ => vec![now(good(request))],
    });
    run(&fake, "--requests 50 --sockets 1").assert_good(50);
}

#[test]
fn no_connection_id() {
    let silent = FakeUdpTracker::raw("127.0.0.1", |_| vec![]);
    let silent = run(&silent, "--duration 60 --timeout 1");
    silent.assert_failed("silence", 1);
    assert_eq!(silent.number("sent"), 0);
    let refusing = FakeUdpTracker::raw("127.0.0.1", |request| {
        vec![now(response(3, request.transaction, b"not you"))]
    });
    let refused = run(&refusing, "--duration 60 --timeout 1 --connections 1");
    assert!(refused.status == 1 && refused.faults("refused") > 0, "{}", refused.text);
    assert!(refused.text.contains("not you"), "{}", refused.text);
}

#[test]
fn no_server() {
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("udp://{address}");
    let run = LoadRun::of(Engine::Epoll, &url, "--timeout 1 --connections 1");
    assert!(run.status == 1 && run.faults("connect") > 0, "{}", run.text);
    assert!(run.text.contains("Connection refused"), "{}", run.text);
}

#[test]
fn several_threads_share_sockets_and_requests() {
    let run = run(&responding_if(|_| true), "--requests 1001 --workers 3 --sockets 7");
    run.assert_good(1001);
    assert_eq!((run.number("connections_made"), run.number("workers")), (7, 3));
    assert!(run.text.contains(" % in vain), "), "{}", run.text);
    assert!(run.number("polling_ns") > 0, "{}", run.text);
}

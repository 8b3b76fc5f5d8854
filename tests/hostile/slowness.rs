//! Clients that take their time: to ask, to end a request, to read an answer.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Client, get};
use crate::support::torrent::{Torrent, announced};
use crate::support::tracker::{Engine, PATIENCE, Tracker, on_both_engines, within};

on_both_engines!(
    who_says_nothing_is_closed,
    half_a_request_is_answered_in_the_end,
    bytes_do_not_prolong_a_request,
    who_asks_no_more_is_closed,
    line_ends_keep_nothing_open,
    who_does_not_read_is_cut_off,
    who_does_not_read_the_last_answer_is_cut_off,
    who_does_not_read_costs_no_time,
);

const QUICK: &str = "[connections]\nheader_timeout = 1\nidle_timeout = 1\nsend_timeout = 2";

/// The kernel holds back a connection without bytes for some seconds; then its time begins.
fn who_says_nothing_is_closed(engine: Engine) {
    let tracker = Tracker::start(engine, QUICK);
    let silent: Vec<Client> = (0..50).map(|_| Client::connect(tracker.v4)).collect();
    let mut blank: Vec<Client> = (0..50).map(|_| Client::connect(tracker.v4)).collect();
    blank.iter_mut().for_each(|client| client.send("\r\n"));
    // Nothing was asked, so nothing is answered.
    blank.into_iter().for_each(Client::ends);
    for client in silent {
        assert!(client.drain().is_empty());
    }
    Torrent::new(&tracker, 1).announce(1, "");
}

fn half_a_request_is_answered_in_the_end(engine: Engine) {
    let tracker = Tracker::start(engine, QUICK);
    let whole = get(&Torrent::new(&tracker, 1).target(1, ""));
    let mut fresh = Client::connect(tracker.v4);
    fresh.send(&whole[..40]);
    let mut later = Client::connect(tracker.v4);
    later.send([&whole[..], &whole[..40]].concat());
    announced(&later.reply());
    for mut client in [fresh, later] {
        let reply = client.reply();
        assert_eq!((reply.status, reply.closes()), (408, true));
        client.ends();
    }
}

fn bytes_do_not_prolong_a_request(engine: Engine) {
    let tracker = Tracker::start(engine, "[connections]\nheader_timeout = 2\nidle_timeout = 60");
    let target = Torrent::new(&tracker, 1).target(1, "");
    let drip = |mut client: Client| {
        let start = Instant::now();
        let slow = format!("GET {target} HTTP/1.1\r\nX: {}", "y".repeat(1000));
        client.stream.set_nonblocking(true).unwrap();
        for byte in slow.as_bytes() {
            if client.stream.write_all(&[*byte]).is_err() || client.stream.peek(&mut [0]).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        client.stream.set_nonblocking(false).unwrap();
        assert_eq!(client.reply().status, 408);
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(1), "cut off after {took:?}");
        // All of the bytes would have taken 22 seconds.
        assert!(took < Duration::from_secs(15), "cut off after {took:?} only");
    };
    let mut later = Client::connect(tracker.v4);
    later.send(get(&target));
    announced(&later.reply());
    thread::scope(|scope| {
        scope.spawn(|| drip(Client::connect(tracker.v4)));
        scope.spawn(|| drip(later));
    });
}

fn who_asks_no_more_is_closed(engine: Engine) {
    let tracker = Tracker::start(engine, QUICK);
    let target = Torrent::new(&tracker, 1).target(1, "");
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect(tracker.v4)).collect();
    for client in &mut clients {
        client.send(get(&target));
        announced(&client.reply());
    }
    for client in clients {
        assert!(client.drain().is_empty());
    }
}

/// They are skipped between requests, but are none.
fn line_ends_keep_nothing_open(engine: Engine) {
    // Longer than a tick of the tracker's clock, or a renewal would not show.
    let tables = "[connections]\nheader_timeout = 2\nidle_timeout = 2";
    let tracker = Tracker::start(engine, tables);
    let drip = |client: Client| {
        let start = Instant::now();
        client.stream.set_nonblocking(true).unwrap();
        // Until the end, or a reset, can be read.
        while client.stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        {
            assert!(start.elapsed() < PATIENCE / 3, "open after {:?}", start.elapsed());
            let _ = (&client.stream).write(b"\r\n");
            thread::sleep(Duration::from_millis(100));
        }
    };
    let fresh = Client::connect(tracker.v4);
    let mut later = Client::connect(tracker.v4);
    later.send(get(&Torrent::new(&tracker, 1).target(1, "")));
    announced(&later.reply());
    thread::scope(|scope| {
        scope.spawn(|| drip(fresh));
        scope.spawn(|| drip(later));
    });
}

/// A client with little room, which does not wait for more.
fn deaf(tracker: &Tracker) -> Client {
    let client = Client::connect_narrow(tracker.v4);
    client.stream.set_nonblocking(true).unwrap();
    client
}

fn who_does_not_read_is_cut_off(engine: Engine) {
    let tracker = Tracker::start_as(engine, 1, QUICK, &[]);
    let torrent = Torrent::new(&tracker, 1);
    torrent.fill(tracker.v4, 1..=200, "");
    let baseline = (tracker.descriptors(), tracker.resident_bytes());
    let requests = get(&torrent.target(1000, "numwant=200")).repeat(2000);
    let mut deaf: Vec<(Client, usize)> = (0..20).map(|_| (deaf(&tracker), 0)).collect();
    let start = Instant::now();
    let mut most = 0;
    while !deaf.is_empty() {
        deaf.retain_mut(|(client, at)| client.stuff(&requests, at).is_ok());
        most = most.max(tracker.resident_bytes());
        // The others are not concerned.
        let asked = Instant::now();
        torrent.announce(1, "");
        assert!(asked.elapsed() < PATIENCE / 3, "served after {:?} only", asked.elapsed());
        assert!(start.elapsed() < PATIENCE, "{} are not cut off", deaf.len());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() > Duration::from_secs(1), "cut off after {:?}", start.elapsed());
    let growth = most.saturating_sub(baseline.1);
    // Twenty times what is kept of one, a megabyte, and as much again for the allocator.
    assert!(growth < 40 << 20, "{growth} bytes more");
    within("their descriptors", || (tracker.descriptors() <= baseline.0).then_some(()));
}

/// Nothing of it is received or answered any more, and still it does not hold its connection.
fn who_does_not_read_the_last_answer_is_cut_off(engine: Engine) {
    let tracker = Tracker::start(engine, QUICK);
    let torrent = Torrent::new(&tracker, 1);
    torrent.fill(tracker.v4, 1..=200, "");
    let baseline = tracker.descriptors();
    let announce = get(&torrent.target(1, "numwant=200&compact=0"));
    let requests = [announce.repeat(20), get("/")].concat();
    let deaf: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect_narrow(tracker.v4);
            client.send(&requests);
            client
        })
        .collect();
    within("most of them", || (tracker.descriptors() > baseline + 10).then_some(()));
    within("their descriptors", || (tracker.descriptors() <= baseline).then_some(()));
    drop(deaf);
    torrent.announce(1, "");
}

/// Neither the bytes that wait for such a client nor those of it that wait, nor its end, keep
/// the tracker busy.
fn who_does_not_read_costs_no_time(engine: Engine) {
    let tables = "[connections]\nheader_timeout = 300\nidle_timeout = 300\nsend_timeout = 300";
    let tracker = Tracker::start(engine, tables);
    let torrent = Torrent::new(&tracker, 1);
    torrent.fill(tracker.v4, 1..=200, "");
    let requests = get(&torrent.target(1000, "numwant=200")).repeat(2000);
    let clients: Vec<Client> = (0..20)
        .map(|number| {
            let mut client = deaf(&tracker);
            let mut at = 0;
            match number % 4 {
                0 | 1 => client.send(&requests[..requests.len() / 100]),
                _ => (0..5).for_each(|_| {
                    client.stuff(&requests, &mut at).unwrap();
                    thread::sleep(Duration::from_millis(10));
                }),
            }
            if number % 2 == 0 {
                client.finish();
            }
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    let before = tracker.processor_time();
    thread::sleep(Duration::from_secs(2));
    let used = tracker.processor_time() - before;
    assert!(used < Duration::from_millis(500), "{used:?} of processor time in two seconds");
    drop(clients);
    torrent.announce(1, "");
}

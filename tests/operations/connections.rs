//! Connections: how many there are, and how they end that do not end well.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::client::{Client, get};
use crate::support::observed::{OPERATIONS, Observed};
use crate::support::torrent::{Torrent, announced};
use crate::support::tracker::{Engine, Tracker, on_both_engines, within};

on_both_engines!(
    they_are_counted_while_they_are_open,
    a_full_house_pauses,
    a_full_house_leaves_descriptors_to_itself,
    want_of_descriptors_pauses,
    who_takes_too_long_is_counted_by_what_for,
);

const TIMED_OUT: &str = "annulus_connections_timed_out_total";
const PAUSES: &str = "annulus_accept_pauses_total";
const EVICTED: &str = "annulus_connections_evicted_total";

/// So many clients, each of which has had an answer and keeps its connection.
fn answered_clients(tracker: &Tracker, count: usize) -> Vec<Client> {
    let target = get(&Torrent::new(tracker, 1).target(1, ""));
    let one = |_| {
        let mut client = Client::connect(tracker.v4);
        client.send(&target);
        announced(&client.reply());
        client
    };
    (0..count).map(one).collect()
}

fn they_are_counted_while_they_are_open(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let observed = Observed::of(&tracker);
    let clients = answered_clients(&tracker, 30);
    observed.reaches("annulus_connections_open", 30.0);
    drop(clients);
    observed.reaches("annulus_connections_open", 0.0);
    let accepted = observed.of_metric("annulus_connections_accepted_total");
    assert_eq!(accepted, ["transport=http,family=ipv4 30"]);
    assert!(observed.of_metric(TIMED_OUT).is_empty() && observed.of_metric(PAUSES).is_empty());
    assert!(observed.of_metric("annulus_connections_rejected_total").is_empty());
}

/// So many clients, each of which has said half of what it wants.
fn unfinished_clients(tracker: &Tracker, count: usize) -> Vec<Client> {
    let one = |_| {
        let mut client = Client::connect(tracker.v4);
        client.send("GET /announce");
        client
    };
    (0..count).map(one).collect()
}

fn a_full_house_pauses(engine: Engine) {
    let tables = format!("[connections]\nmax = 3\nheader_timeout = 300\n{OPERATIONS}");
    let tracker = Tracker::start_as(engine, 1, &tables, &[]);
    let observed = Observed::of(&tracker);
    assert_eq!(observed.sample("annulus_connections_limit"), 3.0);
    let mut clients = unfinished_clients(&tracker, 3);
    observed.reaches("annulus_connections_open", 3.0);
    assert!(observed.of_metric(PAUSES).is_empty());
    // One that waits is let in when another goes, and then it is full again.
    for pauses in 1..=2 {
        let mut waiting = Client::connect(tracker.v4);
        waiting.send("GET /announce");
        observed.reaches(&format!("{PAUSES}{{reason=\"connection_limit\"}}"), f64::from(pauses));
        clients.remove(0).finish();
        waiting.send(" HTTP/1.1\r\nHost: t\r\n\r\n");
        let reply = waiting.reply();
        assert!(reply.status == 200 && reply.closes(), "all places are taken: {reply:?}");
        drop(waiting);
        observed.reaches("annulus_connections_open", 2.0);
        clients.extend(unfinished_clients(&tracker, 1));
        observed.reaches("annulus_connections_open", 3.0);
    }
    assert!(observed.of_metric(EVICTED).is_empty());
}

/// However many addresses there are: what is left of the limit is for its files and for this look.
fn a_full_house_leaves_descriptors_to_itself(engine: Engine) {
    let addresses: Vec<String> = (1..=40).map(|host| format!("\"127.0.1.{host}:0\"")).collect();
    let tables = format!("[operations]\nlisten = [{}]\n", addresses.join(", "));
    let tracker = Tracker::start_as(engine, 1, &tables, &["prlimit", "--nofile=160:160"]);
    let observed = Observed::of(&tracker);
    let limit = observed.sample("annulus_connections_limit");
    let _clients = unfinished_clients(&tracker, 2 * limit as usize);
    observed.reaches("annulus_connections_open", limit);
    observed.reaches(&format!("{PAUSES}{{reason=\"connection_limit\"}}"), 1.0);
    // As many as are read at once of certificates, lists and the like.
    let (open, most) = (observed.sample("process_open_fds"), observed.sample("process_max_fds"));
    assert!(most - open >= 32.0, "{open} of {most}");
}

fn want_of_descriptors_pauses(engine: Engine) {
    let tables = format!("[connections]\nmax = 20\n{OPERATIONS}");
    let tracker = Tracker::start_as(engine, 1, &tables, &[]);
    // Before anything is asked: an answer may hold its descriptor for a moment.
    let own = tracker.descriptors();
    let observed = Observed::of(&tracker);
    let target = get(&Torrent::new(&tracker, 1).target(1, ""));
    let connect = || {
        let mut client = Client::connect(tracker.v4);
        client.send(&target);
        client
    };
    let mut clients: Vec<Client> = (0..20).map(|_| connect()).collect();
    observed.reaches("annulus_connections_open", 20.0);
    // A limit that it has not been told of, below every number that may become free, and in force
    // when it begins to accept again.
    let (pid, before) = (tracker.pid().to_string(), observed.sample("process_max_fds"));
    let set_limit = |limit: usize| {
        let soft = format!("--nofile={limit}:");
        assert!(Command::new("prlimit").args(["--pid", &pid, &soft]).status().unwrap().success());
    };
    set_limit(own - 2);
    clients.push(connect());
    clients.remove(0);
    // Nothing can be asked meanwhile: the answer needs a descriptor too.
    tracker.assert_logged("cannot accept");
    set_limit(before as usize);
    drop(clients);
    observed.reaches("annulus_connections_open", 0.0);
    let exhausted = observed.sample(&format!("{PAUSES}{{reason=\"exhausted\"}}"));
    assert!(exhausted >= 1.0, "{exhausted}");
}

fn who_takes_too_long_is_counted_by_what_for(engine: Engine) {
    let tables = "[connections]\nheader_timeout = 1\nidle_timeout = 1\nsend_timeout = 1\n";
    let tracker = Tracker::start(engine, &format!("{tables}{OPERATIONS}"));
    let observed = Observed::of(&tracker);
    let torrent = Torrent::new(&tracker, 1);
    let request = get(&torrent.target(1, ""));

    let mut half = Client::connect(tracker.v4);
    half.send("GET /announce");
    assert_eq!(half.reply().status, 408);
    assert_eq!(observed.of_metric(TIMED_OUT), ["waiting_for=header 1"]);
    assert_eq!(observed.of_metric("annulus_failures_total"), ["reason=too_slow 1"]);

    let mut idle = Client::connect(tracker.v4);
    idle.send(&request);
    announced(&idle.reply());
    idle.ends();
    assert_eq!(observed.of_metric(TIMED_OUT), ["waiting_for=header 1", "waiting_for=idle 1"]);

    let mut later = Client::connect(tracker.v4);
    later.send([&request[..], b"GET /"].concat());
    announced(&later.reply());
    assert_eq!(later.reply().status, 408);
    assert_eq!(observed.of_metric(TIMED_OUT), ["waiting_for=header 2", "waiting_for=idle 1"]);

    // Who does not read until the buffers are full.
    torrent.fill(tracker.v4, 1..=200, "");
    let mut deaf = Client::connect_narrow(tracker.v4);
    deaf.stream.set_nonblocking(true).unwrap();
    let requests = get(&torrent.target(1, "numwant=200")).repeat(1000);
    let mut at = 0;
    let send = format!("{TIMED_OUT}{{waiting_for=\"send\"}}");
    within("a client that does not read to be left", || {
        // An error is the end that is waited for.
        let _ = deaf.stuff(&requests, &mut at);
        thread::sleep(Duration::from_millis(50));
        (observed.sample(&send) == 1.0).then_some(())
    });
}

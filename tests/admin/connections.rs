//! Connections: how many are open, and how they are closed other than by the client.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, get_request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};

test_both_engines!(
    open_connections_are_counted,
    the_connection_limit_pauses_accepting,
    the_connection_limit_reserves_descriptors,
    missing_descriptors_pause_accepting,
    timeouts_are_counted_by_what_was_waited_for,
);

const TIMED_OUT: &str = "annulus_connections_timed_out_total";
const PAUSES: &str = "annulus_accept_pauses_total";
const EVICTED: &str = "annulus_connections_evicted_total";

/// `count` clients, each with a connection that stays open after a response.
fn answered_clients(tracker: &Tracker, count: usize) -> Vec<HttpClient> {
    let target = get_request(&TestTorrent::new(tracker, 1).target(1, ""));
    let one = |_| {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&target);
        parse_announce(&client.read_response());
        client
    };
    (0..count).map(one).collect()
}

fn open_connections_are_counted(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let clients = answered_clients(&tracker, 30);
    admin.wait_sample("annulus_connections_open", 30.0);
    drop(clients);
    admin.wait_sample("annulus_connections_open", 0.0);
    let accepted = admin.labelled_samples("annulus_connections_accepted_total");
    assert_eq!(accepted, ["transport=http,family=ipv4 30"]);
    assert!(
        admin.labelled_samples(TIMED_OUT).is_empty() && admin.labelled_samples(PAUSES).is_empty()
    );
    assert!(admin.labelled_samples("annulus_connections_rejected_total").is_empty());
}

/// `count` clients, each of which has sent half a request.
fn unfinished_clients(tracker: &Tracker, count: usize) -> Vec<HttpClient> {
    let one = |_| {
        let mut client = HttpClient::connect(tracker.v4);
        client.send("GET /announce");
        client
    };
    (0..count).map(one).collect()
}

fn the_connection_limit_pauses_accepting(engine: Engine) {
    let tables = format!("[connections]\nmax = 3\nheader_timeout = 300\n{OPERATIONS}");
    let tracker = Tracker::start_with(engine, 1, &tables, &[]);
    let admin = AdminClient::of(&tracker);
    assert_eq!(admin.sample("annulus_connections_limit"), 3.0);
    let mut clients = unfinished_clients(&tracker, 3);
    admin.wait_sample("annulus_connections_open", 3.0);
    assert!(admin.labelled_samples(PAUSES).is_empty());
    // A connection that waits in the kernel is accepted when another is closed.
    for pauses in 1..=2 {
        let mut waiting = HttpClient::connect(tracker.v4);
        waiting.send("GET /announce");
        admin.wait_sample(&format!("{PAUSES}{{reason=\"connection_limit\"}}"), f64::from(pauses));
        clients.remove(0).shutdown_write();
        waiting.send(" HTTP/1.1\r\nHost: t\r\n\r\n");
        let reply = waiting.read_response();
        assert!(
            reply.status == 200 && reply.has_connection_close(),
            "all places are taken: {reply:?}"
        );
        drop(waiting);
        admin.wait_sample("annulus_connections_open", 2.0);
        clients.extend(unfinished_clients(&tracker, 1));
        admin.wait_sample("annulus_connections_open", 3.0);
    }
    assert!(admin.labelled_samples(EVICTED).is_empty());
}

/// Whatever the number of listening sockets, descriptors remain for files and for admin clients.
fn the_connection_limit_reserves_descriptors(engine: Engine) {
    let addresses: Vec<String> = (1..=40).map(|host| format!("\"127.0.1.{host}:0\"")).collect();
    let tables = format!("[operations]\nlisten = [{}]\n", addresses.join(", "));
    let tracker = Tracker::start_with(engine, 1, &tables, &["prlimit", "--nofile=160:160"]);
    let admin = AdminClient::of(&tracker);
    let limit = admin.sample("annulus_connections_limit");
    let _clients = unfinished_clients(&tracker, 2 * limit as usize);
    admin.wait_sample("annulus_connections_open", limit);
    admin.wait_sample(&format!("{PAUSES}{{reason=\"connection_limit\"}}"), 1.0);
    // Enough to read certificates and lists.
    let (open, most) = (admin.sample("process_open_fds"), admin.sample("process_max_fds"));
    assert!(most - open >= 32.0, "{open} of {most}");
}

fn missing_descriptors_pause_accepting(engine: Engine) {
    let tables = format!("[connections]\nmax = 20\n{OPERATIONS}");
    let tracker = Tracker::start_with(engine, 1, &tables, &[]);
    // Before the first request: the descriptor of a response may stay open for a moment.
    let own = tracker.descriptors();
    let admin = AdminClient::of(&tracker);
    let target = get_request(&TestTorrent::new(&tracker, 1).target(1, ""));
    let connect = || {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&target);
        client
    };
    let mut clients: Vec<HttpClient> = (0..20).map(|_| connect()).collect();
    admin.wait_sample("annulus_connections_open", 20.0);
    // A new limit, below every number that may become free, and in force
    // when it begins to accept again.
    let (pid, before) = (tracker.pid().to_string(), admin.sample("process_max_fds"));
    let set_limit = |limit: usize| {
        let soft = format!("--nofile={limit}:");
        assert!(Command::new("prlimit").args(["--pid", &pid, &soft]).status().unwrap().success());
    };
    set_limit(own - 2);
    clients.push(connect());
    clients.remove(0);
    // The admin listener needs a descriptor too: until then it does not respond.
    tracker.assert_logged("cannot accept");
    set_limit(before as usize);
    drop(clients);
    admin.wait_sample("annulus_connections_open", 0.0);
    let exhausted = admin.sample(&format!("{PAUSES}{{reason=\"exhausted\"}}"));
    assert!(exhausted >= 1.0, "{exhausted}");
}

fn timeouts_are_counted_by_what_was_waited_for(engine: Engine) {
    let tables = "[connections]\nheader_timeout = 1\nidle_timeout = 1\nsend_timeout = 1\n";
    let tracker = Tracker::start(engine, &format!("{tables}{OPERATIONS}"));
    let admin = AdminClient::of(&tracker);
    let torrent = TestTorrent::new(&tracker, 1);
    let request = get_request(&torrent.target(1, ""));

    let mut half = HttpClient::connect(tracker.v4);
    half.send("GET /announce");
    assert_eq!(half.read_response().status, 408);
    assert_eq!(admin.labelled_samples(TIMED_OUT), ["waiting_for=header 1"]);
    assert_eq!(admin.labelled_samples("annulus_failures_total"), ["reason=too_slow 1"]);

    let mut idle = HttpClient::connect(tracker.v4);
    idle.send(&request);
    parse_announce(&idle.read_response());
    idle.expect_close();
    assert_eq!(admin.labelled_samples(TIMED_OUT), ["waiting_for=header 1", "waiting_for=idle 1"]);

    let mut later = HttpClient::connect(tracker.v4);
    later.send([&request[..], b"GET /"].concat());
    parse_announce(&later.read_response());
    assert_eq!(later.read_response().status, 408);
    assert_eq!(admin.labelled_samples(TIMED_OUT), ["waiting_for=header 2", "waiting_for=idle 1"]);

    // A client that does not read until the buffers are full.
    torrent.announce_ports(tracker.v4, 1..=200, "");
    let mut deaf = HttpClient::connect_small_window(tracker.v4);
    deaf.stream.set_nonblocking(true).unwrap();
    let requests = get_request(&torrent.target(1, "numwant=200")).repeat(1000);
    let mut at = 0;
    let send = format!("{TIMED_OUT}{{waiting_for=\"send\"}}");
    wait_for("the timeout of a client that does not read", || {
        // An error is expected when the connection is reset.
        let _ = deaf.write_until_full(&requests, &mut at);
        thread::sleep(Duration::from_millis(50));
        (admin.sample(&send) == 1.0).then_some(())
    });
}

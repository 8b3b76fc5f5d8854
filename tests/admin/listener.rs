//! HTTP: paths, methods and versions, and hostile clients.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{HttpClient, fetch, get_request, request};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{
    Engine, TIMEOUT, Tracker, config, has_v6, test_both_engines, wait_for,
};

test_both_engines!(
    paths_that_are_served,
    errors_have_their_status,
    a_request_in_pieces,
    every_version_of_http,
    slow_clients_do_not_block_others,
    silent_clients_do_not_block_others,
    workers_have_a_higher_priority,
    stats_are_json,
    it_is_off_by_default,
    an_address_that_is_not_loopback_is_warned_of,
    an_address_in_use,
);

/// Without admin clients: two workers, the main thread, those of the log, the allocator, the
/// reloads and the rates, and the one that accepts.
const THREADS: usize = 2 + 6;

/// At most one for each of sixteen connections, and as many of closed connections that
/// are about to end, which on a busy machine takes a moment.
const THREADS_MAX: usize = THREADS + 2 * 16;

fn threads(tracker: &Tracker) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", tracker.pid())).unwrap().count()
}

fn paths_that_are_served(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let health = admin.get("/health");
    assert_eq!((health.status, &health.body[..]), (200, &b"ok\n"[..]));
    for path in ["/metrics", "/metrics?name[]=a", "/stats.json", "/health?", "http://a:1/metrics"] {
        let reply = admin.get(path);
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.has_connection_close(), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        // The response to HEAD is that to GET without the body, whose length changes.
        let mut client = HttpClient::connect(admin.0);
        client.send(request("HEAD", path, "HTTP/1.1", ""));
        let head = client.read_response_head();
        assert_eq!(head.status, 200, "{path}");
        assert_eq!(head.header("content-type"), reply.header("content-type"));
        client.expect_close();
    }
    let content_type = admin.get("/stats.json").header("content-type").map(str::to_owned);
    assert_eq!(content_type.as_deref(), Some("application/json"));
    let samples = admin.samples();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(samples[&format!("annulus_build_info{{version=\"{version}\"}}")], 1.0);
    let engines = admin.labelled_samples("annulus_engine_info");
    assert_eq!(engines.len(), 1);
    assert!(engines[0].starts_with(&format!("engine={},tier=", engine.name())), "{engines:?}");
    assert_eq!(samples["annulus_healthy"], 1.0);
}

fn errors_have_their_status(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    for path in ["/nothing", "/metrics/", "/announce?info_hash=a", "/scrape", "/metrics/announce"] {
        let reply = admin.get(path);
        assert_eq!(reply.status, 404, "{path}");
        let text = String::from_utf8(reply.body).unwrap();
        assert!(text.contains("/health") && text.contains("/metrics"), "{text}");
    }
    for (bytes, status) in [
        (request("POST", "/metrics", "HTTP/1.1", ""), 405),
        (request("GET", "/metrics", "HTTP/2.0", ""), 505),
        (get_request(&format!("/{}", "x".repeat(20_000))), 431),
        (request("GET", "/metrics", "HTTP/1.1", "Content-Length: 5\r\n"), 400),
        (b"nonsense\r\n\r\n".to_vec(), 400),
        (b"\x16\x03\x01\x02\x00\x01".to_vec(), 400),
    ] {
        let reply = fetch(admin.0, &bytes);
        assert_eq!(reply.status, status, "{}", bytes.escape_ascii());
        assert_eq!(reply.header("allow"), (status == 405).then_some("GET, HEAD, OPTIONS"));
    }
    let mut client = HttpClient::connect(admin.0);
    client.send(request("OPTIONS", "*", "HTTP/1.0", ""));
    let reply = client.read_response_head();
    assert_eq!((reply.status, reply.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    client.expect_close();
    // The requests of admin clients are not counted.
    assert!(admin.labelled_samples("annulus_requests_total").is_empty());
    assert!(admin.labelled_samples("annulus_failures_total").is_empty());
}

fn a_request_in_pieces(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let mut client = HttpClient::connect(AdminClient::of(&tracker).0);
    for byte in get_request("/health") {
        client.send([byte]);
    }
    assert_eq!(client.read_response().status, 200);
    client.expect_close();
}

fn every_version_of_http(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut stream = TcpStream::connect(admin.0).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        // More than one request: the unread rest must not reset the connection before the response.
        stream.write_all(&request("GET", "/health", version, "").repeat(20)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nok\n"),
            "{text}"
        );
    }
}

/// Slow connections time out, and a new one closes the oldest.
fn slow_clients_do_not_block_others(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let half = || {
        let mut client = HttpClient::connect(admin.0);
        client.send("GET /hea");
        client
    };
    let few: Vec<HttpClient> = (0..10).map(|_| half()).collect();
    assert_eq!(admin.get("/health").status, 200);
    let many: Vec<HttpClient> = (0..20).map(|_| half()).collect();
    assert!(threads(&tracker) <= THREADS_MAX, "{}", threads(&tracker));
    // The workers are not affected.
    TestTorrent::new(&tracker, 1).announce(1, "");
    // The slow connections time out, after which there is room again.
    let mut patient = HttpClient::connect(admin.0);
    patient.send(get_request("/health"));
    assert_eq!(patient.read_response().status, 200);
    for client in few.into_iter().chain(many) {
        client.read_all();
    }
}

/// If each could stay for five seconds, sixteen at once, the last would wait for minutes.
fn silent_clients_do_not_block_others(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    let mut crowd: VecDeque<HttpClient> = (0..500)
        .map(|_| {
            let mut client = HttpClient::connect(admin.0);
            client.send("GET /hea");
            client
        })
        .collect();
    assert_eq!(admin.get("/health").status, 200);
    // The oldest was closed for that, without a response.
    crowd.pop_front().unwrap().expect_close();
    assert!(threads(&tracker) <= THREADS_MAX, "{}", threads(&tracker));
    drop(crowd);
    wait_for("the end of all threads", || (threads(&tracker) == THREADS).then_some(()));
}

/// The threads of the admin listener have a lower priority than the workers.
fn workers_have_a_higher_priority(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    // A thread for a connection, beside the one that accepts.
    let mut half = HttpClient::connect(admin.0);
    half.send("GET /hea");
    let niceness = |wanted: &str| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", tracker.pid())).unwrap();
        let stats =
            tasks.filter_map(|it| std::fs::read_to_string(it.ok()?.path().join("stat")).ok());
        let values = stats.filter_map(|stat| {
            let (before, after) = stat.rsplit_once(") ")?;
            let (_, name) = before.split_once('(')?;
            // Field 19 in proc_pid_stat(5); the first here is field 3.
            let nice = after.split(' ').nth(19 - 3)?.parse::<i32>().ok()?;
            name.starts_with(wanted).then_some(nice)
        });
        values.collect::<Vec<i32>>()
    };
    let workers = niceness("worker-");
    assert_eq!(workers, [workers[0]; 2]);
    let after = [(workers[0] + 10).min(19); 2];
    wait_for("two threads of lower priority", || (niceness("operations") == after).then_some(()));
}

fn stats_are_json(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    let admin = AdminClient::of(&tracker);
    TestTorrent::new(&tracker, 1).announce_ports(tracker.v4, 1..=20, "left=0");
    // Rates come from samples some seconds apart.
    let stats = wait_for("a rate", || {
        let stats = admin.stats();
        let rate = stats["per_second"]["60s"]["announces"].as_f64().unwrap();
        (rate > 0.0 && rate <= 20.0).then_some(stats)
    });
    for (path, expected) in [
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
        ("/health", json!("ok")),
        ("/stuck", json!(null)),
        ("/reload_possible", json!(true)),
        ("/reload_obstacle", json!(null)),
        ("/engines", json!([engine.name()])),
        ("/workers", json!(2)),
        ("/swarms/torrents", json!(1)),
        ("/swarms/peers", json!(20)),
        ("/swarms/seeders", json!(20)),
        ("/swarms/leechers", json!(0)),
        ("/swarms/peers_ipv4", json!(20)),
        ("/swarms/peers_ipv6", json!(0)),
        ("/swarms/seeders_ipv4", json!(20)),
        ("/requests/announces", json!(20)),
        ("/requests/failed", json!(0)),
        ("/requests/failures/port_missing", json!(0)),
        ("/connections/accepted", json!(1)),
        ("/connections/timed_out", json!({ "handshake": 0, "header": 0, "idle": 0, "send": 0 })),
        ("/connections/evicted", json!({ "handshake": 0, "header": 0, "idle": 0, "send": 0 })),
        ("/tls/handshakes", json!(0)),
        ("/tls/certificates", json!([])),
        ("/microseconds/request/count", json!(20)),
    ] {
        assert_eq!(stats.pointer(path), Some(&expected), "{path}: {stats}");
    }
    assert_eq!(stats["engine_tiers"].as_array().unwrap().len(), 1);
    let spans: Vec<&String> = stats["per_second"].as_object().unwrap().keys().collect();
    assert_eq!(spans, ["300s", "60s"]);
    let request = &stats["microseconds"]["request"];
    assert!(request["p50"].as_u64().unwrap() <= request["p99"].as_u64().unwrap(), "{stats}");
    let process = &stats["process"];
    assert!(process["threads"].as_u64().unwrap() >= 5, "{stats}");
    assert!(process["resident_bytes"].as_u64().unwrap() > 1_000_000, "{stats}");
    assert_eq!(stats.get("access_list"), None);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(stats["time"].as_u64().unwrap().abs_diff(now_s) < 60, "{stats}");
}

fn it_is_off_by_default(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    TestTorrent::new(&tracker, 1).announce(1, "");
    assert!(!tracker.log().contains("operations"), "{}", tracker.log());
    let tracker = Tracker::start(engine, "[operations]\nlisten = []\n");
    assert!(!tracker.log().contains("operations"), "{}", tracker.log());
}

fn an_address_that_is_not_loopback_is_warned_of(engine: Engine) {
    let tracker = Tracker::start(engine, OPERATIONS);
    AdminClient::of(&tracker);
    assert!(!tracker.log().contains("warning"), "{}", tracker.log());
    let second = if has_v6() { ", \"[::1]:0\"" } else { "" };
    let tables = format!("[operations]\nlisten = [\"0.0.0.0:0\"{second}]\n");
    let tracker = Tracker::start(engine, &tables);
    let AdminClient(mut address) = AdminClient::of(&tracker);
    tracker.assert_logged("warning: operations on 0.0.0.0:");
    assert_eq!(tracker.log().matches("warning").count(), 1, "{}", tracker.log());
    address.set_ip([127, 0, 0, 1].into());
    assert_eq!(fetch(address, get_request("/health")).status, 200);
}

fn an_address_in_use(engine: Engine) {
    let first = Tracker::start(engine, OPERATIONS);
    let AdminClient(address) = AdminClient::of(&first);
    let tables = format!("[operations]\nlisten = [\"{address}\"]\n");
    let (status, log) = Tracker::launch(&config(engine, 1, &tables), &[]).wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
}

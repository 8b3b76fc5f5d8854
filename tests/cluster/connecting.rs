//! How a tracker connects to a server, by each way that there is, and what it tells others by it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::authority::{Authority, KeyKind};
use crate::support::client::{fetch, get_request};
use crate::support::redis::{REDIS, RedisServer, has_redis};
use crate::support::requirements::{TempDir, can_run, missing_programs, missing_root};
use crate::support::torrent::{ScrapeCounts, TestTorrent};
use crate::support::tracker::{Engine, Tracker, config, has_v6, test_both_engines, wait_for};

test_both_engines!(the_last_announces_before_a_stop_are_told, both_addresses_of_a_client_are_told);

/// A tracker with these keys of `[cluster]`, which may name files of `directory`.
pub(super) fn start(directory: &Path, keys: &str) -> Tracker {
    start_with(directory, keys, "", &[])
}

/// The same with these tables, run by the program `runner`.
fn start_with(directory: &Path, keys: &str, tables: &str, runner: &[&str]) -> Tracker {
    let tables = format!("{OPERATIONS}{tables}[cluster]\n{keys}");
    let text = config(Engine::Epoll, 1, &tables);
    let mut tracker = Tracker::launch_in(directory, &text, runner);
    match tracker.wait_ready(1 + usize::from(has_v6())) {
        Ok(()) => tracker,
        Err(log) => panic!("the tracker did not start:\n{log}"),
    }
}

/// Waits until a tracker has been told of a torrent what another one knows.
#[track_caller]
fn wait_counts(tracker: &Tracker, torrent: u8, complete: i64, incomplete: i64) {
    wait_for(format!("{complete} + {incomplete} peers of torrent {torrent}"), || {
        let counts = TestTorrent::new(tracker, torrent).scrape();
        let wanted = ScrapeCounts { complete, incomplete, downloaded: counts.downloaded };
        (counts == wanted).then_some(())
    });
}

/// Announces at one tracker, and waits until the other knows; and the other way round.
#[track_caller]
pub(super) fn shares(one: &Tracker, other: &Tracker, torrent: u8) {
    TestTorrent::new(one, torrent).announce(1, "left=0");
    wait_counts(other, torrent, 1, 0);
    TestTorrent::new(other, torrent).announce(2, "left=1");
    wait_counts(one, torrent, 1, 1);
    TestTorrent::new(other, torrent).announce(2, "left=1&event=stopped");
    wait_counts(one, torrent, 1, 0);
}

/// Asserts that two trackers with these keys share their swarms.
#[track_caller]
fn connects(directory: &Path, keys: &str) {
    let trackers = [start(directory, keys), start(directory, keys)];
    for tracker in &trackers {
        tracker.assert_logged("cluster: connected to ");
    }
    shares(&trackers[0], &trackers[1], 1);
    assert!(!trackers[0].log().contains("hunter2"), "{}", trackers[0].log());
}

#[test]
fn by_tcp_and_a_unix_socket() {
    if !has_redis("cluster::connecting::by_tcp_and_a_unix_socket") {
        return;
    }
    let server = RedisServer::start("");
    let scratch = TempDir::new("connecting");
    let socket = server.socket();
    let keys = [server.url(), format!("unix://{}", socket.display())];
    let trackers = keys.map(|url| start(scratch.path(), &format!("server = \"{url}\"\n")));
    shares(&trackers[0], &trackers[1], 1);
}

/// A user that has no more rights than the guide gives it, by each place that it can be named in.
#[test]
fn with_a_password() {
    if !has_redis("cluster::connecting::with_a_password") {
        return;
    }
    let acl = "user default off\n\
               user annulus on >hunter2:@ resetchannels &annulus &annulus:* -@all \
               +publish +subscribe\n";
    let server = RedisServer::start(acl);
    let scratch = TempDir::new("password");
    let address = server.address();
    fs::write(scratch.path().join("both"), "annulus:hunter2:@\nnothing else\n").unwrap();
    fs::write(scratch.path().join("alone"), "hunter2:@").unwrap();
    for keys in [
        format!("server = [\"redis://annulus:hunter2%3A%40@{address}\"]\n"),
        format!("server = \"{}\"\nuser = \"annulus\"\npassword = \"hunter2:@\"\n", server.url()),
        format!("server = \"{}\"\ncredentials_file = \"both\"\n", server.url()),
        format!(
            "server = \"{}\"\nuser = \"annulus\"\ncredentials_file = \"alone\"\n",
            server.url()
        ),
    ] {
        connects(scratch.path(), &keys);
    }
}

/// Redis' own default asks for a client's certificate.
#[test]
fn by_tls() {
    if !has_redis("cluster::connecting::by_tls") {
        return;
    }
    let ip = RedisServer::own_ip();
    let authority = Authority::new(&[ip.into()]);
    let lines = RedisServer::tls_lines(&authority, "redis.test");
    let directory = authority.directory();
    let server = RedisServer::start_at(ip, &[], &format!("{lines}requirepass hunter2\n"));
    let keys = format!(
        "server = \"rediss://{}\"\nca_file = \"root.pem\"\npassword = \"hunter2\"\n",
        server.tls_address()
    );
    connects(directory, &keys);
    drop(server);
    authority.issue_client("node");
    let lines = lines.replace("tls-auth-clients no", "tls-auth-clients yes");
    let server = RedisServer::start_at(ip, &[], &lines);
    let keys = format!("server = \"rediss://{}\"\nca_file = \"root.pem\"\n", server.tls_address());
    let refused = start(directory, &keys);
    refused.assert_logged("it asks for a certificate: set cluster.certificate and cluster.key");
    connects(directory, &format!("{keys}certificate = \"node.pem\"\nkey = \"node.key\"\n"));
}

/// The name is resolved before privileges are dropped, and verified afterwards.
#[test]
fn by_a_name_without_any_privilege() {
    let test = "cluster::connecting::by_a_name_without_any_privilege";
    let missing = missing_programs(&[REDIS, "unshare", "mount"]);
    if !can_run(test, &[missing, Vec::from_iter(missing_root("to drop"))].concat()) {
        return;
    }
    let ip = RedisServer::own_ip();
    let authority = Authority::new(&[]);
    let server = RedisServer::start_at(ip, &[], &RedisServer::tls_lines(&authority, "valkey.test"));
    let directory = authority.directory();
    fs::write(directory.join("hosts"), format!("127.0.0.1 localhost\n{ip} valkey.test\n")).unwrap();
    fs::create_dir(directory.join("empty")).unwrap();
    let hosts = directory.join("hosts");
    let mount = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    let runner = ["unshare", "-m", "sh", "-c", &mount, "sh"];
    let port = server.tls_address().port();
    let keys = format!("server = \"rediss://valkey.test:{port}\"\nca_file = \"root.pem\"\n");
    let dropped = "[privileges]\nuser = \"nobody\"\nchroot = \"empty\"\n";
    let tracker = start_with(directory, &keys, dropped, &runner);
    tracker.assert_logged(&format!("cluster: connected to rediss://valkey.test:{port}"));
    tracker.assert_logged("running as user nobody (65534), group 65534, confined to ");
    let other = start(directory, &format!("server = \"{}\"\n", server.url()));
    shares(&tracker, &other, 1);
    // A certificate for another name is not accepted.
    let keys = format!("server = \"rediss://{ip}:{port}\"\nca_file = \"root.pem\"\n");
    start(directory, &keys).assert_logged("TLS: invalid peer certificate: ");
}

/// The next server is taken where one is gone, and the first again when it is back and that one
/// goes.
#[test]
fn to_one_server_after_the_other() {
    if !has_redis("cluster::connecting::to_one_server_after_the_other") {
        return;
    }
    let [mut first, mut second] = [RedisServer::start(""), RedisServer::start("")];
    let scratch = TempDir::new("in-turn");
    let keys = format!("server = [\"{}\", \"{}\"]\n", first.url(), second.url());
    let trackers = [start(scratch.path(), &keys), start(scratch.path(), &keys)];
    shares(&trackers[0], &trackers[1], 1);
    first.stop();
    for tracker in &trackers {
        tracker.assert_logged(&format!("the connection to {} is lost: ", first.url()));
        tracker.assert_logged(&format!("cluster: connected to {} again", second.url()));
    }
    shares(&trackers[0], &trackers[1], 2);
    first.start_again();
    second.stop();
    shares(&trackers[0], &trackers[1], 3);
    for tracker in &trackers {
        let stats = AdminClient::of(tracker).stats();
        assert_eq!(stats["cluster"]["server"], first.url());
        assert_eq!(stats["cluster"]["connections"], 3);
    }
}

/// A server that stops answering costs clients nothing.
#[test]
fn to_a_server_that_stalls() {
    if !has_redis("cluster::connecting::to_a_server_that_stalls") {
        return;
    }
    let server = RedisServer::start("");
    let scratch = TempDir::new("stalls");
    let keys = format!("server = \"{}\"\n", server.url());
    let trackers = [start(scratch.path(), &keys), start(scratch.path(), &keys)];
    shares(&trackers[0], &trackers[1], 1);
    let admin = AdminClient::of(&trackers[0]);
    wait_for("the end of warming", || (admin.get("/health").status == 200).then_some(()));
    server.signal("STOP");
    let torrent = TestTorrent::new(&trackers[0], 2);
    torrent.announce_ports(trackers[0].v4, 1..=100, "left=0");
    for tracker in &trackers {
        tracker.assert_logged("is lost: ");
    }
    torrent.announce_ports(trackers[0].v4, 101..=200, "left=0");
    let health = admin.get("/health");
    assert_eq!(health.status, 200);
    let text = String::from_utf8(health.body).unwrap();
    assert!(text.starts_with("ok\nthis node serves alone: "), "{text}");
    assert_eq!(admin.sample("annulus_cluster_connected"), 0.0);
    server.signal("CONT");
    wait_counts(&trackers[1], 2, 200, 0);
    shares(&trackers[0], &trackers[1], 3);
    let lost = trackers[0].log().matches("is lost: ").count();
    assert_eq!(lost, 1, "{}", trackers[0].log());
}

/// A state file spares a node what others know only if a node that lacked nothing wrote it.
#[test]
fn with_the_state_of_a_tracker_that_was_alone() {
    if !has_redis("cluster::connecting::with_the_state_of_a_tracker_that_was_alone") {
        return;
    }
    let server = RedisServer::start("");
    let scratch = TempDir::new("state-alone");
    let keys = format!("server = \"{}\"\n", server.url());
    // A tick has six seconds.
    let ticks = "[protocol]\ninterval = 60\nmin_interval = 30\npeer_timeout = 126\n";
    let tables = format!("{ticks}[state]\nfile = \"swarms\"\n");
    let node = start_with(scratch.path(), &keys, ticks, &[]);
    let seed = |tracker: &Tracker, torrent: u8| {
        let target = TestTorrent::new(tracker, torrent).target(1, "left=0");
        assert_eq!(fetch(tracker.v4, get_request(&target)).status, 200);
    };
    seed(&node, 1);
    let admin = AdminClient::of(&node);
    wait_for("three ticks", || {
        (admin.stats()["uptime_seconds"].as_u64() >= Some(18)).then_some(())
    });
    let stop = |mut tracker: Tracker| {
        tracker.signal("TERM");
        assert!(tracker.wait_exit().0.success());
        let file = fs::read(scratch.path().join("swarms")).unwrap();
        u64::from_le_bytes(file[28..36].try_into().unwrap())
    };
    let alone = start_with(scratch.path(), "", &tables, &[]);
    seed(&alone, 2);
    assert_eq!(stop(alone), 0);
    let joining = start_with(scratch.path(), &keys, &tables, &[]);
    wait_counts(&joining, 1, 1, 0);
    wait_counts(&joining, 2, 1, 0);
    let admin = AdminClient::of(&joining);
    wait_for("the end of warming", || (admin.get("/health").status == 200).then_some(()));
    assert_ne!(stop(joining), 0);
}

fn the_last_announces_before_a_stop_are_told(engine: Engine) {
    if !has_redis("cluster::connecting::the_last_announces_before_a_stop_are_told") {
        return;
    }
    let server = RedisServer::start("");
    let keys = format!("[cluster]\nserver = \"{}\"\n", server.url());
    let other = Tracker::start(engine, &keys);
    other.assert_logged("cluster: connected to ");
    for round in 1..=5 {
        let mut tracker = Tracker::start(engine, &keys);
        tracker.assert_logged("cluster: connected to ");
        shares(&tracker, &other, 100 + round);
        TestTorrent::new(&tracker, round).announce_ports(tracker.v4, 1..=300, "left=0");
        tracker.signal("TERM");
        let (status, log) = tracker.wait_exit();
        assert!(status.success(), "{log}");
        wait_counts(&other, round, 300, 0);
    }
}

fn both_addresses_of_a_client_are_told(engine: Engine) {
    if !has_redis("cluster::connecting::both_addresses_of_a_client_are_told") {
        return;
    }
    let server = RedisServer::start("");
    let keys = format!(
        "[protocol]\ntrust_ip_parameters = true\n[cluster]\nserver = \"{}\"\n",
        server.url()
    );
    let trackers = [Tracker::start(engine, &keys), Tracker::start(engine, &keys)];
    shares(&trackers[0], &trackers[1], 1);
    let torrent = TestTorrent::new(&trackers[0], 2);
    torrent.announce(7, "left=0&ipv6=2001:db8::1&ipv4=192.0.2.1");
    wait_counts(&trackers[1], 2, 2, 0);
    let mut peers = TestTorrent::new(&trackers[1], 2).announce(1, "left=1").peers;
    peers.retain(|peer| peer.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST));
    let known = |text: &str| peers.iter().any(|peer| peer.to_string() == text);
    assert!(known("192.0.2.1:7"), "{peers:?}");
    torrent.announce(7, "left=0&event=stopped&ipv6=2001:db8::1&ipv4=192.0.2.1");
    wait_counts(&trackers[1], 2, 0, 1);
    // What is not stored is not told.
    assert_eq!(TestTorrent::new(&trackers[1], 3).scrape(), ScrapeCounts::default());
}

impl Authority {
    /// Issues a certificate by which a client is known to a server.
    fn issue_client(&self, name: &str) {
        self.issue_with(name, "client", &format!("DNS:{name}"), KeyKind::P256);
    }
}

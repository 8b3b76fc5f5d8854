//! A Unix socket for proxies on the same host: its clients, and the life of its file.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::support::client::{HttpClient, get_request, request};
use crate::support::proxied_tracker::{UNREACHABLE, external_ip};
use crate::support::requirements::TempDir;
use crate::support::torrent::{
    TestTorrent, failure_reason, parse_announce, parse_scrape, percent_encoded,
};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines, wait_for};

test_both_engines!(
    a_request_header_names_the_client,
    a_proxy_header_names_the_client,
    a_request_header_after_a_proxy_header,
    invalid_requests_are_answered_and_closed,
    requests_in_a_row,
    late_readers_get_all_responses,
    bytes_after_the_last_request_are_harmless,
    many_connections,
    the_proxy_is_not_limited_but_its_clients_are,
    without_a_source_of_client_addresses,
    beside_nothing_else,
    what_is_in_flight_is_answered_at_a_stop,
    the_file_is_for_user_and_group_and_goes_with_the_tracker,
    a_file_left_behind_is_replaced,
    a_file_in_use_is_not,
    a_file_that_is_no_socket_is_kept,
    without_a_directory,
    a_file_of_another_process_is_kept,
);

/// A tracker that listens on Unix sockets, and on TCP for the test's own requests.
pub(crate) struct Local {
    pub(crate) tracker: Tracker,
    scratch: TempDir,
}

impl Local {
    /// Starts one with this header and further tables.
    pub(crate) fn start(engine: Engine, header: &str, tables: &str) -> Local {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let scratch = TempDir::new(&format!("unix-{}-{count}", engine.name()));
        let tracker = Local::launch(engine, &scratch, header, tables);
        let local = Local { tracker, scratch };
        local.is_ready();
        local
    }

    fn launch(engine: Engine, scratch: &TempDir, header: &str, tables: &str) -> Tracker {
        let directory = scratch.path().display();
        let text = format!(
            "listen = [\"127.0.0.1:0\", \"unix:{directory}/plain\", \"unix:{directory}/proxied\"]\n\
             engine = \"{}\"\nworkers = 2\n\
             [proxy]\nheader = \"{header}\"\n\
             protocol_listen = [\"unix:{directory}/proxied\"]\n{tables}\n",
            engine.name()
        );
        let mut tracker = Tracker::launch(&text, &[]);
        let _ = tracker.wait_ready(1);
        tracker
    }

    #[track_caller]
    fn is_ready(&self) {
        for (name, mark) in [("plain", ""), ("proxied", " (PROXY protocol)")] {
            let at = self.path(name);
            self.tracker.assert_logged(&format!("listening on unix:{}{mark}", at.display()));
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    #[track_caller]
    fn connect(&self, name: &str) -> HttpClient<UnixStream> {
        connect(&self.path(name))
    }

    /// Asserts that the torrent's peers have exactly these addresses.
    #[track_caller]
    fn holds(&self, torrent: u8, expected: &[&str]) {
        let swarm = TestTorrent::new(&self.tracker, torrent);
        let mut peers = swarm.announce(1, "left=1").peers;
        swarm.announce(1, "event=stopped");
        peers.sort();
        let mut expected: Vec<SocketAddr> = expected
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), u16::from(torrent) + 100))
            .collect();
        expected.sort();
        assert_eq!(peers, expected);
    }
}

#[track_caller]
fn connect(path: &PathBuf) -> HttpClient<UnixStream> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    HttpClient::new(stream)
}

fn target(torrent: u8) -> String {
    let port = u16::from(torrent) + 100;
    format!("/announce?info_hash={}&port={port}&left=1", percent_encoded(&[torrent; 20]))
}

fn announce(torrent: u8, lines: &str) -> Vec<u8> {
    request("GET", &target(torrent), "HTTP/1.1", lines)
}

fn scrape() -> Vec<u8> {
    get_request(&format!("/scrape?info_hash={}", percent_encoded(&[9; 20])))
}

fn a_request_header_names_the_client(engine: Engine) {
    let local = Local::start(engine, "X-Forwarded-For", "");
    let mut client = local.connect("plain");
    for (value, expected) in [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.8", "203.0.113.8"),
        ("2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "10.0.0.1"),
    ] {
        client.send(announce(1, &format!("X-Forwarded-For: {value}\r\n")));
        let ip = external_ip(&client.read_response());
        assert_eq!(ip, expected.parse::<IpAddr>().unwrap());
    }
    local.holds(1, &["203.0.113.7", "203.0.113.8", "2001:db8::7", "10.0.0.1"]);
    // A missing or impossible address is a failure; a scrape and a page need none.
    let unreachable = UNREACHABLE.map(|ip| (format!("X-Forwarded-For: {ip}\r\n"), "unreadable"));
    let silent = [(String::new(), "missing"), ("X-Forwarded-For: ?\r\n".into(), "unreadable")];
    for (lines, word) in silent.into_iter().chain(unreachable) {
        client.send(announce(2, &lines));
        let said = failure_reason(&client.read_response());
        assert!(said.contains(word), "{lines}: {said}");
        client.send(scrape());
        assert_eq!(parse_scrape(&client.read_response()).len(), 1);
    }
    local.holds(2, &[]);
    local.tracker.assert_logged("the proxy at a Unix socket sent no readable X-Forwarded-For");
    client.send(get_request("/robots.txt"));
    assert_eq!(client.read_response().status, 200);
    client.expect_close();
}

fn a_proxy_header_names_the_client(engine: Engine) {
    let local = Local::start(engine, "", "");
    let v2 = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
        &[203, 0, 113, 9, 1, 1, 1, 1, 0, 1, 0, 2],
    ];
    for (header, expected) in [
        (b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(), "2001:db8::7"),
        (v2.concat(), "203.0.113.9"),
    ] {
        let mut client = local.connect("proxied");
        client.send([&header[..], &announce(1, "")].concat());
        assert_eq!(external_ip(&client.read_response()), expected.parse::<IpAddr>().unwrap());
        client.send(scrape());
        parse_scrape(&client.read_response());
    }
    local.holds(1, &["203.0.113.7", "2001:db8::7", "203.0.113.9"]);
    // A health check comes from the proxy itself, which has no address here.
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut client = local.connect("proxied");
        client.send([header, &scrape()].concat());
        parse_scrape(&client.read_response());
        client.send(announce(2, ""));
        assert!(failure_reason(&client.read_response()).contains("missing"));
    }
    local.holds(2, &[]);
    let mut client = local.connect("proxied");
    client.send(announce(2, ""));
    assert_eq!(client.read_response().status, 400, "no PROXY header");
    client.expect_close();
}

fn a_request_header_after_a_proxy_header(engine: Engine) {
    let trusting = "trusted = [\"10.0.0.0/8\"]";
    let local = Local::start(engine, "X-Forwarded-For", trusting);
    for (named, expected) in [("203.0.113.7", "203.0.113.7"), ("10.1.2.3", "198.51.100.1")] {
        let mut client = local.connect("proxied");
        client.send(format!("PROXY TCP4 {named} 127.0.0.1 1 2\r\n"));
        client.send(announce(1, "X-Forwarded-For: 198.51.100.1\r\n"));
        assert_eq!(external_ip(&client.read_response()), expected.parse::<IpAddr>().unwrap());
    }
    // After a PROXY header the client is not local any more, and its request header is not trusted.
    let mut client = local.connect("proxied");
    client.send("PROXY TCP4 0.0.0.0 127.0.0.1 1 2\r\n");
    client.send(announce(1, "X-Forwarded-For: 198.51.100.2\r\n"));
    failure_reason(&client.read_response());
    local.holds(1, &["203.0.113.7", "198.51.100.1"]);
}

fn invalid_requests_are_answered_and_closed(engine: Engine) {
    let local = Local::start(engine, "X-Forwarded-For", "");
    for (bytes, status) in [
        (&b"\x00\x01\x02 nonsense\r\n\r\n"[..], 400),
        (b"POST / HTTP/1.1\r\n\r\n", 405),
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
    ] {
        let mut client = local.connect("plain");
        client.send(bytes);
        let response = client.read_response();
        assert_eq!((response.status, response.has_connection_close()), (status, true));
        client.expect_close();
    }
    let mut client = local.connect("plain");
    client.send(b"GET / HT");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read_response().status, 400);
    client.expect_close();
    // Closed without a request, and after one.
    drop(local.connect("plain"));
    let mut client = local.connect("plain");
    client.send(scrape());
    drop(client);
    let mut client = local.connect("plain");
    client.send(request("HEAD", &target(1), "HTTP/1.1", "X-Forwarded-For: 203.0.113.7\r\n"));
    assert_eq!(client.read_response_head().status, 200);
    client.send(request("GET", &target(1), "HTTP/1.0", "X-Forwarded-For: 203.0.113.7\r\n"));
    assert!(client.read_response().has_connection_close());
    client.expect_close();
}

fn requests_in_a_row(engine: Engine) {
    let local = Local::start(engine, "X-Forwarded-For", "");
    let mut client = local.connect("plain");
    let one = announce(1, "X-Forwarded-For: 203.0.113.7\r\n");
    for count in [1, 2, 50, 200] {
        client.send(one.repeat(count));
        for _ in 0..count {
            parse_announce(&client.read_response());
        }
    }
    // However they are split.
    for at in 1..one.len() {
        client.send(&one[..at]);
        if at % 16 == 0 {
            thread::yield_now();
        }
        client.send(&one[at..]);
        parse_announce(&client.read_response());
    }
}

/// More than the socket buffers hold, from a client that reads when it has sent everything.
fn late_readers_get_all_responses(engine: Engine) {
    const COUNT: usize = 1500;
    let local = Local::start(engine, "X-Forwarded-For", "");
    TestTorrent::new(&local.tracker, 1).announce_ports(local.tracker.v4, 1..=200, "left=0");
    let one = announce(1, "X-Forwarded-For: 203.0.113.7\r\n");
    let one = String::from_utf8(one).unwrap().replace("&left=1", "&left=1&numwant=200");
    let client = local.connect("plain");
    let mut writer = client.stream.try_clone().unwrap();
    let all = one.repeat(COUNT);
    let writing = thread::spawn(move || {
        std::io::Write::write_all(&mut writer, all.as_bytes()).unwrap();
    });
    thread::sleep(std::time::Duration::from_millis(300));
    let mut client = client;
    for _ in 0..COUNT {
        assert_eq!(parse_announce(&client.read_response()).peers.len(), 200);
    }
    writing.join().unwrap();
}

fn bytes_after_the_last_request_are_harmless(engine: Engine) {
    let local = Local::start(engine, "X-Forwarded-For", "");
    let last = announce(1, "X-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n");
    let mut client = local.connect("plain");
    client.send([&last[..], &scrape().repeat(20)].concat());
    let response = client.read_response();
    parse_announce(&response);
    assert!(response.has_connection_close());
    client.expect_close();
}

fn many_connections(engine: Engine) {
    let local = Local::start(engine, "X-Forwarded-For", "");
    let mut clients: Vec<HttpClient<UnixStream>> =
        (0..300).map(|_| local.connect("plain")).collect();
    for round in 0..3 {
        for (client, number) in clients.iter_mut().zip(0..) {
            let [high, low] = u16::to_be_bytes(number);
            client.send(announce(1, &format!("X-Forwarded-For: 203.0.{high}.{low}\r\n")));
        }
        for client in &mut clients {
            assert!(parse_announce(&client.read_response()).incomplete <= 300, "{round}");
        }
    }
    assert_eq!(TestTorrent::new(&local.tracker, 1).scrape().incomplete, 300);
}

fn the_proxy_is_not_limited_but_its_clients_are(engine: Engine) {
    let limits = "[limits]\nconnections_per_address = 1\nrequests_per_second = 1\n\
                  request_burst = 2\n";
    let local = Local::start(engine, "X-Forwarded-For", limits);
    let mut clients: Vec<HttpClient<UnixStream>> =
        (0..20).map(|_| local.connect("plain")).collect();
    for client in &mut clients {
        client.send(scrape().repeat(5));
        for _ in 0..5 {
            assert_eq!(parse_scrape(&client.read_response()).len(), 1);
        }
    }
    let client = &mut clients[0];
    client.send(announce(1, "X-Forwarded-For: 203.0.113.7\r\n").repeat(30));
    let refused = (0..30).filter(|_| {
        let response = client.read_response();
        assert!(!response.has_connection_close(), "the connection is the proxy's");
        response.body.starts_with(b"d14:failure reason")
    });
    assert!(refused.count() > 0);
    client.send(announce(1, "X-Forwarded-For: 203.0.113.8\r\n"));
    parse_announce(&client.read_response());
    // Connections count for the client in the PROXY header.
    let connect_again = || {
        let mut client = local.connect("proxied");
        client.send([b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n", &scrape()[..]].concat());
        let answered = std::io::Read::read(&mut client.stream, &mut [0; 100]).unwrap_or(0) > 0;
        (client, answered)
    };
    let (_held, answered) = connect_again();
    assert!(answered);
    assert!(!connect_again().1, "a second connection");
}

/// It starts nevertheless: scrapes and health checks need no client address.
fn without_a_source_of_client_addresses(engine: Engine) {
    let local = Local::start(engine, "", "");
    local.tracker.assert_logged("plain\": nothing names the addresses of its clients");
    let mut client = local.connect("plain");
    client.send(scrape());
    assert_eq!(parse_scrape(&client.read_response()).len(), 1);
    client.send(announce(1, "X-Forwarded-For: 203.0.113.7\r\n"));
    assert!(failure_reason(&client.read_response()).contains("does not say your address"));
    local.holds(1, &[]);
}

fn beside_nothing_else(engine: Engine) {
    let scratch = TempDir::new(&format!("unix-alone-{}", engine.name()));
    let path = scratch.path().join("socket");
    let text = format!(
        "listen = [\"unix:{}\"]\nengine = \"{}\"\n[proxy]\nheader = \"X-Real-IP\"\n\
         [operations]\nlisten = [\"127.0.0.1:0\"]\n",
        path.display(),
        engine.name()
    );
    let tracker = Tracker::launch(&text, &[]);
    tracker.assert_logged(&format!("listening on unix:{}", path.display()));
    tracker.assert_logged("operations on 127.0.0.1:");
    let mut client = connect(&path);
    client.send(announce(1, "X-Real-IP: 203.0.113.7\r\n"));
    parse_announce(&client.read_response());
    client.send(scrape());
    parse_scrape(&client.read_response());
    let log = tracker.log();
    let (_, operations) = log.split_once("operations on ").unwrap();
    let mut observer = HttpClient::connect(operations.lines().next().unwrap().parse().unwrap());
    observer.send("GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n");
    let metrics = String::from_utf8(observer.read_all()).unwrap();
    for sample in [
        "annulus_connections_accepted_total{transport=\"http\",family=\"unix\"} 1\n",
        "annulus_requests_total{kind=\"announce\",transport=\"http\",family=\"ipv4\",\
         outcome=\"answered\"} 1\n",
        "annulus_requests_total{kind=\"scrape\",transport=\"http\",family=\"unix\",\
         outcome=\"answered\"} 1\n",
    ] {
        assert!(metrics.contains(sample), "no {sample} in\n{metrics}");
    }
}

fn what_is_in_flight_is_answered_at_a_stop(engine: Engine) {
    let mut local = Local::start(engine, "X-Forwarded-For", "");
    let mut begun: Vec<HttpClient<UnixStream>> = (0..20).map(|_| local.connect("plain")).collect();
    let one = announce(1, "X-Forwarded-For: 203.0.113.7\r\n");
    for client in &mut begun {
        client.send(&one);
        parse_announce(&client.read_response());
        client.send(&one[..20]);
    }
    local.tracker.signal("TERM");
    local.tracker.assert_logged("stopping");
    for mut client in begun {
        client.send(&one[20..]);
        // It may be the last response before the stop, which closes the connection too.
        parse_announce(&client.read_response());
        client.expect_close();
    }
    let (status, log) = local.tracker.wait_exit();
    assert!(status.success(), "{log}");
}

fn the_file_is_for_user_and_group_and_goes_with_the_tracker(engine: Engine) {
    let mut local = Local::start(engine, "X-Forwarded-For", "");
    for name in ["plain", "proxied"] {
        let made = fs::metadata(local.path(name)).unwrap();
        assert!(made.file_type().is_socket());
        assert_eq!(made.permissions().mode() & 0o777, 0o660, "{name}");
    }
    local.tracker.signal("TERM");
    let (status, log) = local.tracker.wait_exit();
    assert!(status.success(), "{log}");
    for name in ["plain", "proxied"] {
        assert!(!local.path(name).exists(), "{name} is still there");
    }
}

/// A killed tracker cannot remove its file.
fn a_file_left_behind_is_replaced(engine: Engine) {
    let mut local = Local::start(engine, "X-Forwarded-For", "");
    for _ in 0..2 {
        local.tracker.signal("KILL");
        let (_, log) = local.tracker.wait_exit();
        assert!(local.path("plain").exists(), "{log}");
        local.tracker = Local::launch(engine, &local.scratch, "X-Forwarded-For", "");
        local.is_ready();
        let mut client = local.connect("plain");
        client.send(announce(1, "X-Forwarded-For: 203.0.113.7\r\n"));
        parse_announce(&client.read_response());
    }
}

fn a_file_in_use_is_not(engine: Engine) {
    let local = Local::start(engine, "X-Forwarded-For", "");
    let (status, log) = Local::launch(engine, &local.scratch, "X-Forwarded-For", "").wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("cannot listen on unix:") && log.contains("another annulus"), "{log}");
    // The first keeps serving.
    let mut client = local.connect("plain");
    client.send(announce(1, "X-Forwarded-For: 203.0.113.7\r\n"));
    parse_announce(&client.read_response());
    // Neither is one in use whose queue is full.
    let scratch = TempDir::new(&format!("unix-full-{}", engine.name()));
    let listener = UnixListener::bind(scratch.path().join("plain")).unwrap();
    let full = socket2::Socket::from(listener);
    full.listen(0).unwrap();
    let _waiting = UnixStream::connect(scratch.path().join("plain")).unwrap();
    let (status, log) = Local::launch(engine, &scratch, "X-Forwarded-For", "").wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("another program"), "{log}");
}

fn a_file_that_is_no_socket_is_kept(engine: Engine) {
    let scratch = TempDir::new(&format!("unix-file-{}", engine.name()));
    let file = scratch.path().join("plain");
    fs::write(&file, "precious").unwrap();
    let (status, log) = Local::launch(engine, &scratch, "X-Forwarded-For", "").wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("a file that is not a socket"), "{log}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

fn without_a_directory(engine: Engine) {
    let scratch = TempDir::new(&format!("unix-nowhere-{}", engine.name()));
    let text = format!("listen = [\"unix:{}/none/plain\"]\n", scratch.path().display());
    let text = format!("{text}engine = \"{}\"\n[proxy]\nheader = \"X-Real-IP\"", engine.name());
    let (status, log) = Tracker::launch(&text, &[]).wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("make its directory first"), "{log}");
}

/// A file that has replace_existing its own is kept.
fn a_file_of_another_process_is_kept(engine: Engine) {
    let mut local = Local::start(engine, "X-Forwarded-For", "");
    let aside = local.path("plain.aside");
    fs::rename(local.path("plain"), &aside).unwrap();
    let ours = UnixListener::bind(local.path("plain")).unwrap();
    local.tracker.signal("TERM");
    let (status, log) = local.tracker.wait_exit();
    assert!(status.success(), "{log}");
    assert!(local.path("plain").exists(), "somebody else's socket was removed");
    assert!(aside.exists());
    wait_for("the other's connection", || UnixStream::connect(local.path("plain")).ok());
    drop(ours);
}

//! Clients that do not read their last response. A part of it stays unsent, and its connection,
//! which was to be closed with it, stays open for the rest: it counts until it is closed.

use std::io::Write;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;

use rustls::version::TLS13;
use socket2::{Domain, Socket, Type};

use super::address;
use crate::support::client::{HttpClient, get_request, request};
use crate::support::proxied_tracker::ProxiedTracker;
use crate::support::tls_client::{client_config, over_tls};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{LOCALHOST, TestTorrent, parse_announce};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines, wait_for};

test_both_engines!(
    unread_connections_count_for_their_address,
    half_closed_connections_count,
    https_connections_count_too,
    connections_count_for_the_client_that_a_proxy_names,
    unread_connections_count_among_all,
);

/// The connections that are tried, and the limit.
const TRIED: usize = 40;
const MAX: usize = 5;

/// Torrents in the last response; their hashes fit one request.
const TORRENTS: u32 = 172;
const TABLES: &str = "[connections]\n\
    header_timeout = 300\nidle_timeout = 300\nsend_timeout = 300\n\
    [protocol]\nmax_scrape_torrents = 172\n";

fn limited() -> String {
    format!("{TABLES}[limits]\nconnections_per_address = {MAX}")
}

/// Requests whose responses fit the socket buffers, and a last one, whose response of 11 kB may not
/// fit.
fn requests(tracker: &Tracker) -> Vec<u8> {
    let mut all = get_request(&TestTorrent::new(tracker, 1).target(1, "")).repeat(100);
    let hash = |number: u32| format!("info_hash=torrent-{number:012}");
    let hashes: Vec<String> = (0..TORRENTS).map(hash).collect();
    let target = format!("/scrape?{}", hashes.join("&"));
    all.extend(request("GET", &target, "HTTP/1.1", "Connection: close\r\n"));
    all
}

/// Connects with so small a receive buffer and maximum segment size that the tracker's send buffer
/// holds only some tens of kilobytes.
fn connect(source: IpAddr, to: SocketAddr) -> HttpClient {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.set_write_timeout(Some(TIMEOUT)).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect_timeout(&to.into(), TIMEOUT).unwrap();
    HttpClient::new(socket.into())
}

/// Sends requests on every connection and reads nothing: the allowed ones stay open, the others do
/// not.
#[track_caller]
fn assert_counted(tracker: &Tracker, mut ask: impl FnMut()) {
    let before = tracker.descriptors();
    (0..TRIED).for_each(|_| ask());
    let what = format!("{MAX} connections of {TRIED} to be open");
    wait_for(what, || (tracker.descriptors() == before + MAX).then_some(()));
}

fn unread_connections_count_for_their_address(engine: Engine) {
    let tracker = Tracker::start(engine, &limited());
    let requests = requests(&tracker);
    let mut held = Vec::new();
    assert_counted(&tracker, || {
        let mut client = connect(address(1), tracker.v4);
        // A refused connection may be reset while the client sends.
        let _ = client.stream.write_all(&requests);
        held.push(client);
    });
    tracker.assert_logged("a connection from 127.0.7.1 is refused");
    // A closed connection makes room for one.
    drop(held);
    wait_for("room for another connection", || {
        let mut client = HttpClient::connect_from(address(1), tracker.v4);
        client.is_answered(get_request(&TestTorrent::new(&tracker, 1).target(1, ""))).then_some(())
    });
}

/// All responses are in the socket buffers, the client has sent FIN, and it still has to read.
fn half_closed_connections_count(engine: Engine) {
    // One worker processes them in order.
    let tracker = Tracker::start_with(engine, 1, &limited(), &[]);
    let requests = get_request(&TestTorrent::new(&tracker, 1).target(1, "")).repeat(100);
    let mut held = Vec::new();
    assert_counted(&tracker, || {
        let mut client = connect(address(1), tracker.v4);
        let _ = client.stream.write_all(&requests);
        let _ = client.stream.shutdown(Shutdown::Write);
        held.push(client);
    });
    let before = tracker.descriptors();
    let mut client = held.swap_remove(0);
    for _ in 0..100 {
        parse_announce(&client.read_response());
    }
    client.expect_close();
    wait_for("the place of who has taken all", || (tracker.descriptors() < before).then_some(()));
}

fn https_connections_count_too(engine: Engine) {
    let site = TlsTracker::start(engine, &limited());
    let settings = Arc::new(client_config(&site.authority, &TLS13));
    let requests = requests(&site.tracker);
    let mut held = Vec::new();
    assert_counted(&site.tracker, || {
        let mut client = over_tls(connect(address(1), site.v4), &settings);
        let _ = client.stream.write_all(&requests);
        held.push(client);
    });
}

fn connections_count_for_the_client_that_a_proxy_names(engine: Engine) {
    let site = ProxiedTracker::start_with(engine, "", &limited());
    let header = b"PROXY TCP4 203.0.113.7 203.0.113.7 1 2\r\n".to_vec();
    let requests = [header, requests(&site.tracker)].concat();
    let mut held = Vec::new();
    assert_counted(&site.tracker, || {
        let mut client = connect(LOCALHOST, site.proxy_protocol);
        let _ = client.stream.write_all(&requests);
        held.push(client);
    });
}

/// Without a limit for each address the limit of all connections applies.
fn unread_connections_count_among_all(engine: Engine) {
    let tables = TABLES.replace("[connections]\n", &format!("[connections]\nmax = {MAX}\n"));
    let tracker = Tracker::start_with(engine, 1, &tables, &[]);
    let requests = requests(&tracker);
    let mut held = Vec::new();
    assert_counted(&tracker, || {
        let mut client = connect(address(1), tracker.v4);
        let _ = client.stream.write_all(&requests);
        held.push(client);
    });
}

//! Memory held by unanswered bytes of many connections: the bound is on memory, not on the number
//! of bytes.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::version::TLS13;
use socket2::{Domain, Socket, Type};

use crate::support::client::{HttpClient, get_request, request};
use crate::support::tls_client::{TlsStream, client_config, client_hello, connect_tls};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines, wait_for};

test_both_engines!(
    the_first_byte_of_a_request_pins_no_more_than_itself,
    nor_does_it_in_tls,
    half_sent_heads_are_bounded_together,
    half_sent_records_are_bounded_together,
    unread_answers_are_bounded_together,
    memory_of_a_burst_of_connections_goes_back,
);

const LONG_TIMEOUTS: &str = "[connections]\n\
    handshake_timeout = 300\nheader_timeout = 300\nidle_timeout = 300\nsend_timeout = 300\n";

/// The bound on bytes held for connections of one worker: `BUFFERED_BYTES_MAX`.
const HELD_BYTES_MAX: u64 = 8 << 20;
/// The allowance above that bound for what one turn receives and sends, and for fragmentation.
const LEEWAY_BYTES: u64 = 12 << 20;
/// The limit of the address space: the process aborts if an allocation exceeds it.
const ADDRESS_SPACE: &[&str] = &["prlimit", "--as=268435456"];

/// Requests that a connection sends in one burst.
const BURST: usize = 100;

fn announce(tracker: &Tracker) -> Vec<u8> {
    get_request(&TestTorrent::new(tracker, 1).target(1, "numwant=0"))
}

/// Asserts that connections take hardly more memory than idle ones when a burst of requests was
/// answered and the first byte of another request, or of a record with one, has been received.
/// `begin` opens one, and returns the bytes that `complete` sends.
#[track_caller]
fn assert_pinned_little<S: Read + Write>(
    tracker: &Tracker,
    mut held: Vec<HttpClient<S>>,
    begin: impl Fn(&mut HttpClient<S>) -> Vec<u8>,
    complete: impl Fn(&mut HttpClient<S>, Vec<u8>),
) {
    for client in &mut held {
        client.send(announce(tracker));
        parse_announce(&client.read_response());
    }
    let idle = tracker.resident_bytes();
    let mut rests = Vec::new();
    for client in &mut held {
        rests.push(begin(client));
        (0..BURST).for_each(|_| drop(parse_announce(&client.read_response())));
    }
    let pinned = tracker.resident_bytes().saturating_sub(idle) / held.len() as u64;
    assert!(pinned <= 2048, "{pinned} bytes a connection");
    for (client, rest) in held.iter_mut().zip(rests) {
        complete(client, rest);
        parse_announce(&client.read_response());
    }
}

fn the_first_byte_of_a_request_pins_no_more_than_itself(engine: Engine) {
    let tracker = Tracker::start(engine, LONG_TIMEOUTS);
    let held = (0..1000).map(|_| HttpClient::connect(tracker.v4)).collect();
    let begin = |client: &mut HttpClient| {
        let mut all = announce(&tracker).repeat(BURST + 1);
        let rest = all.split_off(BURST * all.len() / (BURST + 1) + 1);
        client.send(all);
        rest
    };
    assert_pinned_little(&tracker, held, begin, |client, rest| client.send(rest));
}

fn nor_does_it_in_tls(engine: Engine) {
    let site = TlsTracker::start(engine, LONG_TIMEOUTS);
    let settings = Arc::new(client_config(&site.authority, &TLS13));
    let held = (0..300).map(|_| connect_tls(site.v4, &settings)).collect();
    // Each request in its own record, and the first byte of another record.
    let begin = |client: &mut HttpClient<TlsStream>| {
        let mut seal = |times: usize| {
            let mut records = Vec::new();
            for _ in 0..times {
                let tls = &mut client.stream.conn;
                tls.writer().write_all(&announce(&site.tracker)).unwrap();
                tls.write_tls(&mut records).unwrap();
            }
            records
        };
        let (mut all, mut rest) = (seal(BURST), seal(1));
        all.extend(rest.drain(..1));
        client.stream.sock.write_all(&all).unwrap();
        rest
    };
    let complete = |client: &mut HttpClient<TlsStream>, rest: Vec<u8>| {
        client.stream.sock.write_all(&rest).unwrap()
    };
    assert_pinned_little(&site.tracker, held, begin, complete);
}

/// Makes connections hold more bytes than the bound allows, by `hoard`, while other clients are
/// served.
#[track_caller]
fn assert_bounded(tracker: &Tracker, workers: u64, mut hoard: impl FnMut() -> HttpClient) {
    const HOARDS: usize = 2000;
    let most = workers * HELD_BYTES_MAX + LEEWAY_BYTES;
    let announce = get_request(&TestTorrent::new(tracker, 1).target(1, ""));
    let mut modest = HttpClient::connect(tracker.v4);
    modest.send(&announce[..50]);
    let start = tracker.resident_bytes();
    let descriptors = tracker.descriptors();
    let mut held = Vec::new();
    for at in 0..HOARDS {
        held.push(hoard());
        if at % 100 == 0 {
            let more = tracker.resident_bytes().saturating_sub(start);
            assert!(more <= most, "{more} bytes more than at first");
        }
    }
    tracker.assert_logged("connections hold more than 8 MiB");
    let some = format!("some of {HOARDS} connections to be reset");
    wait_for(some, || (tracker.descriptors() < descriptors + HOARDS).then_some(()));
    // A client whose request comes in two segments is not affected.
    modest.send(&announce[50..]);
    parse_announce(&modest.read_response());
    let more = tracker.resident_bytes().saturating_sub(start);
    assert!(more <= most, "{more} bytes more than at first");
}

fn half_sent_heads_are_bounded_together(engine: Engine) {
    let tracker = Tracker::start_with(engine, 1, LONG_TIMEOUTS, ADDRESS_SPACE);
    let head = format!("GET /announce HTTP/1.1\r\nX-Long: {}", "x".repeat(15_000));
    assert_bounded(&tracker, 1, || {
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&head);
        client
    });
}

/// A handshake message of maximum length without its end.
fn half_sent_records_are_bounded_together(engine: Engine) {
    let site = TlsTracker::start(engine, LONG_TIMEOUTS);
    let mut hello = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03".to_vec();
    hello.resize(15_000, b'x');
    assert_bounded(&site.tracker, 2, || {
        let mut client = HttpClient::connect(site.v4);
        client.send(&hello);
        client
    });
}

fn unread_answers_are_bounded_together(engine: Engine) {
    let tables = format!("{LONG_TIMEOUTS}[protocol]\nmax_scrape_torrents = 170\n");
    let tracker = Tracker::start_with(engine, 1, &tables, ADDRESS_SPACE);
    let hashes: Vec<String> =
        (0..170).map(|number| format!("info_hash=torrent-{number:012}")).collect();
    // Each response has 11 kB; the first may fit the socket buffer, the following ones do not.
    let scrape = request("GET", &format!("/scrape?{}", hashes.join("&")), "HTTP/1.1", "");
    let scrapes = scrape.repeat(8);
    assert_bounded(&tracker, 1, || {
        let mut client = connect_narrow(tracker.v4);
        client.send(&scrapes);
        client
    });
}

/// Within a minute, as freed memory is kept for a while in case that it is needed again. What
/// serving itself takes is there from the first connections on.
fn memory_of_a_burst_of_connections_goes_back(engine: Engine) {
    let site = TlsTracker::start(engine, LONG_TIMEOUTS);
    shake_hands_halfway(&site, 200);
    let most = site.tracker.resident_bytes() * 12 / 10;
    shake_hands_halfway(&site, 2000);
    let what = format!("no more than {most} bytes to be resident");
    wait_for(what, || (site.tracker.resident_bytes() <= most).then_some(()));
    site.assert_serves();
}

/// Panics if the connections take no memory that could go back.
fn shake_hands_halfway(site: &TlsTracker, connections: usize) {
    let before = site.tracker.resident_bytes();
    let hello = client_hello(&Arc::new(client_config(&site.authority, &TLS13)));
    let mut burst: Vec<HttpClient> =
        (0..connections).map(|_| HttpClient::connect(site.v4)).collect();
    burst.iter_mut().for_each(|client| client.send(&hello));
    // Each has a handshake under way.
    burst.iter_mut().for_each(|client| client.stream.read_exact(&mut [0]).unwrap());
    let grown = site.tracker.resident_bytes().saturating_sub(before);
    assert!(grown > connections as u64 * 1024, "{grown} bytes for {connections} connections");
}

/// Connects with so small a receive buffer and maximum segment size that the tracker's send buffer
/// holds only some tens of kilobytes.
fn connect_narrow(to: SocketAddr) -> HttpClient {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.set_write_timeout(Some(TIMEOUT)).unwrap();
    socket.connect_timeout(&to.into(), TIMEOUT).unwrap();
    HttpClient::new(socket.into())
}

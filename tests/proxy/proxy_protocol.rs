//! The PROXY protocol: required, trusted and invalid headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConnection, StreamOwned};

use crate::support::authority::{Authority, KeyKind};
use crate::support::client::{HttpClient, HttpResponse, get_request, request};
use crate::support::proxied_tracker::{CLIENT, ProxiedTracker, UNREACHABLE};
use crate::support::tls_client::{client_config, client_hello, over_tls};
use crate::support::tls_tracker::HOST;
use crate::support::torrent::{
    TestTorrent, failure_reason, parse_announce, parse_scrape, percent_encoded,
};
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};

test_both_engines!(
    every_form,
    split_at_every_byte,
    byte_by_byte,
    tls_where_none_is_spoken,
    invalid_headers,
    unreachable_clients,
    untrusted_proxies,
    a_health_check,
    incomplete_headers_time_out,
    together_with_a_request_header,
    other_listeners,
    certificates_of_addresses,
);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A version 2 header with these bytes of addresses and ports.
fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// Headers for a client at 203.0.113.7, one for each version.
fn headers() -> [Vec<u8>; 2] {
    let addresses = [203, 0, 113, 7, 127, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb];
    [b"PROXY TCP4 203.0.113.7 127.0.0.1 56324 443\r\n".to_vec(), version_2(0x21, 0x11, &addresses)]
}

const CLIENT_IN_HEADER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// Announces after `header`, which is sent in these pieces, with TLS or without.
#[track_caller]
fn announce(site: &ProxiedTracker, torrent: u8, tls: bool, pieces: &[&[u8]]) -> HttpResponse {
    let to = if tls { site.proxy_protocol_tls } else { site.proxy_protocol };
    let mut client = HttpClient::connect(to);
    for (piece, index) in pieces.iter().zip(0..) {
        if index > 0 {
            // Usually long enough for a segment to arrive alone.
            thread::sleep(Duration::from_micros(300));
        }
        client.send(piece);
    }
    let request = site.announce(torrent);
    if tls {
        let mut client = over_tls(client, &site.client_config());
        client.send(&request);
        return client.read_response();
    }
    client.send(&request);
    client.read_response()
}

fn every_form(engine: Engine) {
    let site = ProxiedTracker::start(engine, "");
    let v6: [u8; 16] = "2001:db8::9".parse::<Ipv6Addr>().unwrap().octets();
    let v6 = [&v6[..], &v6, &[0, 1, 0, 2]].concat();
    let mapped = "::ffff:203.0.113.7".parse::<Ipv6Addr>().unwrap().octets();
    let mapped = [&mapped[..], &mapped, &[0, 1, 0, 2, 0x04, 0, 1, 0]].concat();
    let [line, binary] = headers();
    let mut torrent = 0;
    for (header, expected) in [
        (line, "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n".to_vec(), "2001:db8::9"),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN 203.0.113.7 203.0.113.7 1 2\r\n".to_vec(), "127.0.0.1"),
        (binary, "203.0.113.7"),
        (version_2(0x21, 0x21, &v6), "2001:db8::9"),
        (version_2(0x21, 0x21, &mapped), "203.0.113.7"),
        (version_2(0x21, 0x00, &[]), "127.0.0.1"),
        (version_2(0x20, 0x11, &[203, 0, 113, 7, 127, 0, 0, 1, 0, 1, 0, 2]), "127.0.0.1"),
        (version_2(0x20, 0x00, &[]), "127.0.0.1"),
        // A client of UDP or a Unix socket: the header names no usable address.
        (version_2(0x21, 0x12, &[203, 0, 113, 7, 127, 0, 0, 1, 0, 1, 0, 2]), "127.0.0.1"),
        (version_2(0x21, 0x31, &[b'/'; 216]), "127.0.0.1"),
        // Of maximum length.
        (version_2(0x21, 0x11, &[1; 4080]), "1.1.1.1"),
    ] {
        for tls in [false, true] {
            torrent += 1;
            let response = announce(&site, torrent, tls, &[&header]);
            site.assert_client(torrent, &response, expected.parse().unwrap());
        }
    }
}

fn split_at_every_byte(engine: Engine) {
    let site = ProxiedTracker::start(engine, "");
    for header in headers() {
        for tls in [false, true] {
            for at in 1..header.len() {
                let (one, other) = header.split_at(at);
                let response = announce(&site, 1, tls, &[one, other]);
                site.assert_client(1, &response, CLIENT_IN_HEADER);
            }
        }
    }
    // Bytes after a header may arrive with it, in part or complete.
    let request = site.announce(1).repeat(2);
    for header in headers() {
        let whole = [&header[..], &request].concat();
        for at in header.len() - 1..whole.len() {
            let mut client = HttpClient::connect(site.proxy_protocol);
            client.send(&whole[..at]);
            thread::sleep(Duration::from_micros(300));
            client.send(&whole[at..]);
            for _ in 0..2 {
                site.assert_client(1, &client.read_response(), CLIENT_IN_HEADER);
            }
        }
    }
}

fn byte_by_byte(engine: Engine) {
    let site = ProxiedTracker::start(engine, "");
    for header in headers() {
        for tls in [false, true] {
            let pieces: Vec<&[u8]> = header.chunks(1).collect();
            site.assert_client(1, &announce(&site, 1, tls, &pieces), CLIENT_IN_HEADER);
        }
    }
}

/// A client that sends TLS after a header where none is expected gets an HTTP response.
fn tls_where_none_is_spoken(engine: Engine) {
    let site = ProxiedTracker::start(engine, "");
    let hello = client_hello(&site.client_config());
    for header in headers() {
        for together in [true, false] {
            let mut client = HttpClient::connect(site.proxy_protocol);
            if together {
                client.send([&header[..], &hello].concat());
            } else {
                client.send(&header);
                thread::sleep(Duration::from_millis(1));
                client.send(&hello);
            }
            let response = client.read_response();
            assert_eq!((response.status, response.has_connection_close()), (400, true));
            assert!(String::from_utf8(response.body).unwrap().contains("write http://"));
            client.expect_close();
        }
    }
}

/// Asserts that a connection with these first bytes is closed, with a message if it can be read.
#[track_caller]
fn refused(site: &ProxiedTracker, mut client: HttpClient, tls: bool, bytes: &[u8]) {
    client.send(bytes);
    if tls {
        return client.expect_close();
    }
    let response = client.read_response();
    assert_eq!((response.status, response.has_connection_close()), (400, true));
    let said = String::from_utf8(response.body).unwrap();
    assert!(said.contains("PROXY protocol"), "{said}");
    client.expect_close();
    site.assert_peers(1, &[]);
}

fn invalid_headers(engine: Engine) {
    let site = ProxiedTracker::start(engine, "");
    let hello = client_hello(&site.client_config());
    let announce = site.announce(1);
    for bytes in [
        &announce[..],
        &hello,
        b"PROXY TCP4 203.0.113.7\r\n",
        b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\n",
        &[b'P'; 1000],
        &[b"PROXY UNKNOWN ", &[b'x'; 1000][..]].concat(),
        &version_2(0x21, 0x13, &[0; 12]),
        &version_2(0x21, 0x11, &[0; 11]),
        &version_2(0x21, 0x11, &[0; 5000]),
        b"\r\n\r\n\r\n",
    ] {
        for (to, tls) in [(site.proxy_protocol, false), (site.proxy_protocol_tls, true)] {
            let with_request = [bytes, &announce].concat();
            refused(&site, HttpClient::connect(to), tls, bytes);
            refused(&site, HttpClient::connect(to), tls, &with_request);
        }
    }
    let [header, _] = headers();
    let mut client = HttpClient::connect(site.proxy_protocol);
    client.send([&header[..], b"PROXY TCP4 203.0.113.8 127.0.0.1 1 2\r\n"].concat());
    assert_eq!(client.read_response().status, 405, "the second header is the client's own word");
    client.expect_close();
}

/// The announce fails, and the connection stays open.
fn unreachable_clients(engine: Engine) {
    let site = ProxiedTracker::start(engine, "X-Forwarded-For");
    for ip in UNREACHABLE {
        let ip: IpAddr = ip.parse().unwrap();
        let (family, kind, octets) = match ip {
            IpAddr::V4(ip) => ("TCP4", 0x11, ip.octets().to_vec()),
            IpAddr::V6(ip) => ("TCP6", 0x21, ip.octets().to_vec()),
        };
        let line = format!("PROXY {family} {ip} {ip} 1 2\r\n").into_bytes();
        let binary = version_2(0x21, kind, &[&octets[..], &octets, &[0, 1, 0, 2]].concat());
        for header in [line, binary] {
            for tls in [false, true] {
                let said = failure_reason(&announce(&site, 1, tls, &[&header]));
                assert!(said.contains("nobody can reach"), "{ip}: {said}");
            }
            let mut client = HttpClient::connect(site.proxy_protocol);
            client.send([&header[..], &site.announce(1)].concat());
            let response = client.read_response();
            failure_reason(&response);
            assert!(!response.has_connection_close());
            client.send(get_request(&format!("/scrape?info_hash={}", percent_encoded(&[1; 20]))));
            assert_eq!(parse_scrape(&client.read_response()).len(), 1);
        }
    }
    site.assert_peers(1, &[]);
}

/// Only a trusted proxy may send a header.
fn untrusted_proxies(engine: Engine) {
    let site = ProxiedTracker::start(engine, "");
    for header in headers() {
        for (to, tls) in [(site.proxy_protocol, false), (site.proxy_protocol_tls, true)] {
            let bytes = [&header[..], &site.announce(1)].concat();
            refused(&site, HttpClient::connect_from(CLIENT, to), tls, &bytes);
            refused(&site, HttpClient::connect_from(CLIENT, to), tls, &header[..1]);
        }
    }
    site.tracker.assert_logged("a connection to a PROXY listener from 127.0.0.9, which is not");
}

/// A balancer connects, sends LOCAL, and disconnects.
fn a_health_check(engine: Engine) {
    let site = ProxiedTracker::start(engine, "");
    for header in [version_2(0x20, 0x00, &[]), b"PROXY UNKNOWN\r\n".to_vec()] {
        for to in [site.proxy_protocol, site.proxy_protocol_tls] {
            let mut client = HttpClient::connect(to);
            client.send(&header);
            client.shutdown_write();
            client.expect_close();
        }
    }
}

fn incomplete_headers_time_out(engine: Engine) {
    let brief = "[connections]\nheader_timeout = 1\nhandshake_timeout = 1\nidle_timeout = 300";
    let site = ProxiedTracker::start_with(engine, "", brief);
    let baseline = site.tracker.descriptors();
    let [line, binary] = headers();
    let begun = [&line[..], &line[..20], &binary, &binary[..13], &binary[..1]];
    let clients = begun.iter().flat_map(|bytes| {
        [site.proxy_protocol, site.proxy_protocol_tls].map(|to| {
            let mut client = HttpClient::connect(to);
            client.send(bytes);
            client
        })
    });
    // `read_all` fails unless the connection is closed.
    for client in clients.collect::<Vec<HttpClient>>() {
        let said = client.read_all();
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408 "), "{}", said.escape_ascii());
    }
    wait_for("their descriptors", || (site.tracker.descriptors() <= baseline).then_some(()));
}

/// With both configured, the request header counts if the address of the PROXY header is trusted.
fn together_with_a_request_header(engine: Engine) {
    let site = ProxiedTracker::start(engine, "X-Forwarded-For");
    let ask = |named: &str, lines: &str| {
        let mut client = HttpClient::connect(site.proxy_protocol);
        client.send(format!("PROXY TCP4 {named} 127.0.0.1 1 2\r\n"));
        client.send(request("GET", &site.target(1), "HTTP/1.1", lines));
        client.read_response()
    };
    let lines = "X-Forwarded-For: 198.51.100.1\r\n";
    site.assert_client(1, &ask("203.0.113.7", lines), CLIENT_IN_HEADER);
    failure_reason(&ask("10.1.2.3", ""));
    let torrent = TestTorrent::new(&site.tracker, 1);
    let stop = torrent.target(1, "event=stopped");
    let mut client = HttpClient::connect(site.proxy_protocol);
    client.send([&headers()[0][..], &get_request(&stop)].concat());
    parse_announce(&client.read_response());
    site.assert_client(1, &ask("10.1.2.3", lines), "198.51.100.1".parse().unwrap());
}

/// On other listeners a PROXY header is an invalid request.
fn other_listeners(engine: Engine) {
    let site = ProxiedTracker::start(engine, "");
    let statuses = [405, 400];
    for (header, status) in headers().into_iter().zip(statuses) {
        let mut client = HttpClient::connect(site.tracker.v4);
        client.send([&header[..], &site.announce(1)].concat());
        assert_eq!(client.read_response().status, status);
        client.expect_close();
    }
    site.assert_peers(1, &[]);
}

/// A client without SNI gets the certificate of the address that it connected to, which is the
/// proxy's.
fn certificates_of_addresses(engine: Engine) {
    let authority = Authority::new(&[]);
    let own = authority.issue(HOST, KeyKind::P256);
    let of = |name: &str, names: &str| authority.issue_for(name, names, KeyKind::P256);
    let local = of("local", "IP:127.0.0.1");
    let (v4, v6) = (of("v4", "IP:198.51.100.1,IP:127.0.0.1"), of("v6", "IP:2001:db8::2"));
    let files = [HOST, "local", "v4", "v6"]
        .map(|name| format!("{{ chain = \"{name}.pem\", key = \"{name}.key\" }}"));
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\nengine = \"{}\"\n\
         [tls]\nlisten = [\"127.0.0.1:0\"]\ncertificates = [{}]\n\
         [proxy]\ntrusted = [\"127.0.0.1\"]\nprotocol_listen = [\"127.0.0.1:0\"]\n",
        engine.name(),
        files.join(", ")
    );
    let tracker = Tracker::launch_in(authority.directory(), &text, &[]);
    let listening = tracker.wait_listening(" (https, PROXY protocol)", 1);
    let to = listening.unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"))[0];
    let [line, binary] = headers();
    let v6_bytes = |ip: &str| ip.parse::<Ipv6Addr>().unwrap().octets();
    let mapped = [&v6_bytes("2001:db8::9")[..], &v6_bytes("::ffff:198.51.100.1"), &[0, 1, 0, 2]];
    for (header, host, certificate) in [
        (line, "127.0.0.1", &local),
        (binary, "127.0.0.1", &local),
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n".to_vec(), "198.51.100.1", &v4),
        (b"PROXY TCP6 2001:db8::9 2001:db8::2 1 2\r\n".to_vec(), "2001:db8::2", &v6),
        (version_2(0x21, 0x21, &mapped.concat()), "198.51.100.1", &v4),
        // A PROXY header without addresses: the connection's own address decides.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", &local),
        (version_2(0x20, 0x00, &[]), "127.0.0.1", &local),
        (b"PROXY TCP4 203.0.113.7 198.51.100.9 1 2\r\n".to_vec(), HOST, &own),
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n".to_vec(), HOST, &own),
    ] {
        let mut plain = HttpClient::connect(to);
        plain.send(&header);
        let settings = Arc::new(client_config(&authority, &TLS13));
        let host_name = ServerName::try_from(host.to_owned()).unwrap();
        let session = ClientConnection::new(settings, host_name).unwrap();
        let mut client = HttpClient::new(StreamOwned::new(session, plain.stream));
        client.handshake();
        assert_eq!(client.certificate(), certificate, "{}", header.escape_ascii());
    }
}

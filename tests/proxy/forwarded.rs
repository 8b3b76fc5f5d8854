//! The header of a trusted proxy, and of others.

use std::net::IpAddr;

use crate::support::client::{HttpClient, HttpResponse, get_request, request};
use crate::support::proxied_tracker::{CLIENT, ProxiedTracker, UNREACHABLE, external_ip};
use crate::support::torrent::{TestTorrent, failure_reason, parse_scrape, percent_encoded};
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines};

test_both_engines!(
    every_form,
    addresses_that_clients_can_have,
    addresses_that_no_client_can_have,
    ports_without_brackets,
    a_missing_header_is_a_failure,
    an_untrusted_proxy_is_ignored,
    any_name,
    over_ipv6,
    not_configured,
);

/// Announces a torrent with these header lines.
#[track_caller]
fn announce(
    client: &mut HttpClient,
    site: &ProxiedTracker,
    torrent: u8,
    lines: &str,
) -> HttpResponse {
    client.send(request("GET", &site.target(torrent), "HTTP/1.1", lines));
    client.read_response()
}

fn every_form(engine: Engine) {
    let site = ProxiedTracker::start(engine, "X-Forwarded-For");
    let mut client = HttpClient::connect(site.tracker.v4);
    for ((lines, expected), torrent) in [
        ("X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7"),
        ("x-forwarded-for: 203.0.113.7:567\r\n", "203.0.113.7"),
        ("X-FORWARDED-FOR:\t2001:db8::1 \r\n", "2001:db8::1"),
        ("X-Forwarded-For:[2001:db8::1]\n", "2001:db8::1"),
        ("X-Forwarded-For: [2001:db8::1]:567\r\n", "2001:db8::1"),
        ("X-Forwarded-For: ::ffff:203.0.113.7\r\n", "203.0.113.7"),
        // The part that the client sent is on the left.
        ("X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n", "203.0.113.7"),
        ("X-Forwarded-For: 127.0.0.1,203.0.113.7\r\n", "203.0.113.7"),
        ("X-Forwarded-For: unknown, , ?, 203.0.113.7\r\n", "203.0.113.7"),
        ("X-Forwarded-For: 198.51.100.1\r\nx-forwarded-for: 203.0.113.7\r\n", "203.0.113.7"),
        ("X-Forwarded-For: ?\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7"),
        // Trusted proxies are on the right.
        ("X-Forwarded-For: 198.51.100.1, 203.0.113.7 ,10.1.2.3\r\n", "203.0.113.7"),
        ("X-Forwarded-For: 203.0.113.7,10.1.2.3,2001:db8:1::9,127.0.0.1:80\r\n", "203.0.113.7"),
        ("X-Forwarded-For: 203.0.113.7, ::ffff:10.1.2.3\r\n", "203.0.113.7"),
        (
            "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n\
             X-Forwarded-For: 10.9.9.9, 10.1.2.3\r\nX-Forwarded-For: 10.1.2.4\r\n",
            "203.0.113.7",
        ),
        // No other address: a client in a proxy's own network.
        ("X-Forwarded-For: 10.9.9.9, 10.1.2.3\r\n", "10.9.9.9"),
        ("X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-For: 10.1.2.3, 10.1.2.4\r\n", "10.9.9.9"),
        ("X-Forwarded-For: 127.0.0.1\r\n", "127.0.0.1"),
    ]
    .into_iter()
    .zip(1..)
    {
        let response = announce(&mut client, &site, torrent, lines);
        let expected: IpAddr = expected.parse().unwrap();
        assert_eq!(external_ip(&response), expected, "{lines}");
        site.assert_client(torrent, &response, expected);
    }
}

/// Addresses of special ranges that can be reached from a part of the network.
fn addresses_that_clients_can_have(engine: Engine) {
    let site = ProxiedTracker::start(engine, "X-Forwarded-For");
    let mut client = HttpClient::connect(site.tracker.v4);
    for (ip, torrent) in [
        "10.9.9.9",
        "172.16.0.1",
        "192.168.1.2",
        "169.254.3.4",
        "100.64.0.1",
        "127.0.0.2",
        "192.0.2.1",
        "198.18.0.1",
        "223.255.255.255",
        "1.0.0.1",
        "::1",
        "200::1",
        "3ff::1",
        "fc00::1",
        "fd00::1",
        "2001:db8::1",
    ]
    .into_iter()
    .zip(1..)
    {
        let response = announce(&mut client, &site, torrent, &format!("X-Forwarded-For: {ip}\r\n"));
        site.assert_client(torrent, &response, ip.parse().unwrap());
    }
}

fn addresses_that_no_client_can_have(engine: Engine) {
    let site = ProxiedTracker::start(engine, "X-Forwarded-For");
    let mut client = HttpClient::connect(site.tracker.v4);
    for ip in UNREACHABLE {
        let bracketed = if ip.contains(':') { format!("[{ip}]:567") } else { format!("{ip}:567") };
        for value in [ip, &bracketed, &format!("203.0.113.7, {ip}"), &format!("{ip}, 10.1.2.3")] {
            let lines = format!("X-Forwarded-For: {value}\r\n");
            let said = failure_reason(&announce(&mut client, &site, 1, &lines));
            assert!(said.contains("unreadable"), "{value}: {said}");
        }
        // The part that the client sent does not count.
        let lines = format!("X-Forwarded-For: {ip}, 203.0.113.7\r\n");
        let response = announce(&mut client, &site, 2, &lines);
        assert_eq!(external_ip(&response), "203.0.113.7".parse::<IpAddr>().unwrap(), "{ip}");
        client.send(get_request(&format!("/scrape?info_hash={}", percent_encoded(&[1; 20]))));
        assert_eq!(parse_scrape(&client.read_response()).len(), 1);
    }
    site.assert_peers(1, &[]);
    site.assert_peers(2, &["203.0.113.7".parse().unwrap()]);
    site.tracker.assert_logged("the proxy 127.0.0.1 sent no readable X-Forwarded-For");
}

/// As CloudFront writes it.
fn ports_without_brackets(engine: Engine) {
    for header in ["CloudFront-Viewer-Address", "cloudfront-viewer-address"] {
        let site = ProxiedTracker::start(engine, header);
        let mut client = HttpClient::connect(site.tracker.v4);
        for ((value, expected), torrent) in [
            ("198.51.100.10:46532", "198.51.100.10"),
            ("2001:db8::1:46532", "2001:db8::1"),
            ("2001:db8::1:443", "2001:db8::1"),
            ("2001:db8:0:1:2:3:4:5:46532 ", "2001:db8:0:1:2:3:4:5"),
            ("[2001:db8::1]:46532", "2001:db8::1"),
        ]
        .into_iter()
        .zip(1..)
        {
            let lines = format!("CloudFront-Viewer-Address: {value}\r\n");
            let response = announce(&mut client, &site, torrent, &lines);
            site.assert_client(torrent, &response, expected.parse().unwrap());
        }
        for value in
            ["198.51.100.10", "2001:db8::abcd", "2001:db8::1:", "fe80::1:443", ":443", "::443"]
        {
            let lines = format!("CloudFront-Viewer-Address: {value}\r\n");
            let said = failure_reason(&announce(&mut client, &site, 200, &lines));
            assert!(said.contains("unreadable"), "{value}: {said}");
        }
        site.assert_peers(200, &[]);
    }
}

/// The request fails, and the connection stays open.
fn a_missing_header_is_a_failure(engine: Engine) {
    let site = ProxiedTracker::start(engine, "X-Forwarded-For");
    let mut client = HttpClient::connect(site.tracker.v4);
    for (lines, reason) in [
        ("", "missing"),
        ("X-Real-IP: 203.0.113.7\r\nX-Forwarded: 203.0.113.7\r\n", "missing"),
        ("X-Forwarded-For:\r\n", "unreadable"),
        ("X-Forwarded-For: unknown\r\n", "unreadable"),
        ("X-Forwarded-For: tracker.example\r\n", "unreadable"),
        ("X-Forwarded-For: 203.0.113.7:70000\r\n", "unreadable"),
        ("X-Forwarded-For: 203.0.113.7, unknown\r\n", "unreadable"),
        ("X-Forwarded-For: 203.0.113.7,\r\n", "unreadable"),
        ("X-Forwarded-For: 203.0.113.7, unknown, 10.1.2.3\r\n", "unreadable"),
        ("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: \r\n", "unreadable"),
        ("X-Forwarded-For: unknown\r\nX-Forwarded-For: 10.1.2.3\r\n", "unreadable"),
    ] {
        let said = failure_reason(&announce(&mut client, &site, 1, lines));
        assert!(said.contains("proxy") && said.contains(reason), "{lines}: {said}");
        site.assert_peers(1, &[]);
        // A scrape needs no client address.
        client.send(get_request(&format!("/scrape?info_hash={}", percent_encoded(&[1; 20]))));
        assert_eq!(parse_scrape(&client.read_response()).len(), 1);
    }
    let response = announce(&mut client, &site, 1, "X-Forwarded-For: 203.0.113.7\r\n");
    site.assert_client(1, &response, "203.0.113.7".parse().unwrap());
    site.tracker.assert_logged("the proxy 127.0.0.1 sent no readable X-Forwarded-For");

    let close = request("GET", &site.target(2), "HTTP/1.1", "Connection: close\r\n");
    client.send(close);
    let response = client.read_response();
    assert!(response.has_connection_close());
    failure_reason(&response);
    client.expect_close();
}

fn an_untrusted_proxy_is_ignored(engine: Engine) {
    let site = ProxiedTracker::start(engine, "X-Forwarded-For");
    let mut client = HttpClient::connect_from(CLIENT, site.tracker.v4);
    for (lines, torrent) in [
        "",
        "X-Forwarded-For: 203.0.113.7\r\n",
        "X-Forwarded-For: 203.0.113.7, 127.0.0.1\r\n",
        "X-Forwarded-For: unknown\r\n",
    ]
    .into_iter()
    .zip(1..)
    {
        let response = announce(&mut client, &site, torrent, lines);
        site.assert_client(torrent, &response, CLIENT);
    }
}

fn any_name(engine: Engine) {
    for header in ["X-Real-IP", "CF-Connecting-IP", "x-odd~name"] {
        let site = ProxiedTracker::start(engine, header);
        let mut client = HttpClient::connect(site.tracker.v4);
        let lines = format!("X-Forwarded-For: 198.51.100.1\r\n{header}: 203.0.113.7\r\n");
        let lines = [lines.to_ascii_lowercase(), lines.to_ascii_uppercase()];
        for (lines, torrent) in lines.iter().zip(1..) {
            let response = announce(&mut client, &site, torrent, lines);
            site.assert_client(torrent, &response, "203.0.113.7".parse().unwrap());
        }
        let response = announce(&mut client, &site, 3, "X-Forwarded-For: 198.51.100.1\r\n");
        assert!(failure_reason(&response).contains("missing"));
    }
}

fn over_ipv6(engine: Engine) {
    if !has_v6() {
        return;
    }
    let proxy = "[proxy]\ntrusted = [\"::/64\"]\nheader = \"X-Forwarded-For\"";
    let tracker = Tracker::start(engine, proxy);
    let torrent = TestTorrent::new(&tracker, 1);
    let mut client = HttpClient::connect(tracker.v6.unwrap());
    for (lines, expected) in [
        ("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
        ("X-Forwarded-For: 203.0.113.7, ::2\r\n", "203.0.113.7"),
    ] {
        client.send(request("GET", &torrent.target(1, ""), "HTTP/1.1", lines));
        assert_eq!(external_ip(&client.read_response()), expected.parse::<IpAddr>().unwrap());
    }
}

/// Without a configured header all headers are ignored, a trusted proxy's too.
fn not_configured(engine: Engine) {
    let site = ProxiedTracker::start(engine, "");
    let mut client = HttpClient::connect(site.tracker.v4);
    let response = announce(&mut client, &site, 1, "X-Forwarded-For: 203.0.113.7\r\n: x\r\n");
    assert_eq!(response.status, 400, "a header without a name");
    let mut client = HttpClient::connect(site.tracker.v4);
    let response = announce(&mut client, &site, 1, "X-Forwarded-For: 203.0.113.7\r\n");
    site.assert_client(1, &response, "127.0.0.1".parse().unwrap());
}

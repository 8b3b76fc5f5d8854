//! Datagrams that get an error, or no reply.

use std::hash::RandomState;
use std::sync::Arc;

use annulus::config::ProtocolConfig;
use annulus::limits::{CONNECTION_ID_WINDOW_S, REJECTIONS_ANSWERED_PER_S};
use annulus::metrics::labels::{
    AddressFamily, DatagramDrop, FailureReason, RefusalReason, RequestOutcome, RequestType,
    TransportKind,
};
use annulus::rate_limit::{ClientTable, RateLimitConfig, RateLimiter};
use annulus::server::{Server, ServerParts};
use annulus_parser::Error;
use annulus_ring::REPLY_BYTES_MAX;
use quickcheck::quickcheck;

use super::{
    A, Announced, LEECHER, MAGIC, TRANSACTION, address, announce, ask, connect, error_text, header,
    scrape, scraped, server, swarms,
};
use crate::support::server::ask_from;

/// A mistake and what is told of it, which HTTP tells too where it knows the same mistake.
#[test]
fn mistakes_are_told_to_good_ids() {
    let mut server = server(ProtocolConfig::default());
    let from = address("192.0.2.1:1");
    let id = connect(&mut server, from);
    let whole = LEECHER.encode(id);
    let mut unknown = whole.clone();
    unknown[8..12].copy_from_slice(&[0, 0, 0, 3]);
    let cut_hash = [&scrape(id, &[A])[..], b"a"].concat();
    let truncated = FailureReason::Refusal(RefusalReason::Truncated);
    for (request, word, reason) in [
        (&unknown[..], "action is unknown", RefusalReason::ActionUnknown.into()),
        (&unknown[..16], "action is unknown", RefusalReason::ActionUnknown.into()),
        (&whole[..97], "ended before it was whole", truncated),
        (&whole[..16], "ended before it was whole", truncated),
        (&Announced { port: 0, ..LEECHER }.encode(id), "1 to 65535", Error::PortInvalid.into()),
        (&scrape(id, &[]), "info_hash is missing", Error::InfoHashMissing.into()),
        (&cut_hash, "20 bytes", Error::InfoHashLengthWrong.into()),
    ] {
        let failures = |server: &Server| server.counters().failures.sum(|it| it == reason);
        let before = failures(&server);
        let text = error_text(&ask(&mut server, from, request).unwrap()).expect("an error");
        assert!(text.contains(word) && !text.ends_with('\n'), "{text:?}");
        assert_eq!(failures(&server), before + 1, "{text}");
        // Whoever has no id, or that of another address, is told nothing.
        for wrong in [0, id ^ 1, MAGIC] {
            let other = [&wrong.to_be_bytes()[..], &request[8..]].concat();
            assert_eq!(ask(&mut server, from, &other), Err(DatagramDrop::ConnectionId));
        }
        let elsewhere = address("192.0.2.2:1");
        assert_eq!(ask(&mut server, elsewhere, request), Err(DatagramDrop::ConnectionId));
        assert_eq!(failures(&server), before + 1, "{text}");
    }
    // A link-local address, which no other client could use.
    let refused = announce(&mut server, address("[fe80::1]:1"), &LEECHER);
    assert!(refused.unwrap_err().contains("nobody can reach"));
}

#[test]
fn no_requests_and_sources_without_a_host_are_dropped() {
    let mut server = server(ProtocolConfig::default());
    let from = address("192.0.2.1:1");
    let connect_request = header(MAGIC, 0);
    for len in 0..16 {
        let drop = ask(&mut server, from, &connect_request[..len]);
        assert_eq!(drop, Err(DatagramDrop::Malformed));
    }
    assert_eq!(ask(&mut server, from, &header(MAGIC ^ 1, 0)), Err(DatagramDrop::Malformed));
    for source in [
        "192.0.2.1:0",
        "[2001:db8::1]:0",
        "0.0.0.0:1",
        "0.0.0.1:1",
        "224.0.0.1:1",
        "239.255.255.255:1",
        "255.255.255.255:1",
        "[::]:1",
        "[ff02::1]:1",
        "[::ffff:255.255.255.255]:1",
    ] {
        let drop = ask(&mut server, address(source), &connect_request);
        assert_eq!(drop, Err(DatagramDrop::Source), "{source}");
    }
    assert_eq!(server.counters().requests.sum(|_| true), 0);
    for source in ["127.0.0.1:1", "[::1]:1", "[fe80::1]:1", "10.0.0.1:65535"] {
        connect(&mut server, address(source));
    }
}

/// Or a datagram with the tracker's own address as its source would never come to rest.
#[test]
fn a_reply_is_no_request() {
    let mut server = server(ProtocolConfig::default());
    let from = address("127.0.0.1:3000");
    let id = connect(&mut server, from);
    for transaction in [TRANSACTION, 0, 1 << 16, MAGIC as u32] {
        let good = [&LEECHER.encode(id)[..], &scrape(id, &[A]), &header(id, 9)];
        for request in [&header(MAGIC, 0)[..]].into_iter().chain(good) {
            let mut request = request.to_vec();
            request[12..16].copy_from_slice(&transaction.to_be_bytes());
            let mut reply = [0; REPLY_BYTES_MAX];
            let len = server.answer_datagram(from, &request, &mut reply).expect("a reply");
            let mut out = [0; REPLY_BYTES_MAX];
            assert!(server.answer_datagram(from, &reply[..len], &mut out).is_err());
        }
    }
}

/// By every worker, from every port of the address, and for at least two minutes.
#[test]
fn a_connection_id_is_good_for_a_while() {
    let worker = || server(ProtocolConfig::default());
    let (mut one, mut other) = (worker(), worker());
    let start = 1000 * CONNECTION_ID_WINDOW_S;
    for (issued_s, asked_s, is_good) in [
        (start, start, true),
        (start, start + 3 * CONNECTION_ID_WINDOW_S - 1, true),
        (start, start + 3 * CONNECTION_ID_WINDOW_S, false),
        (start + CONNECTION_ID_WINDOW_S - 1, start + 3 * CONNECTION_ID_WINDOW_S - 1, true),
        (start + CONNECTION_ID_WINDOW_S - 1, start + 3 * CONNECTION_ID_WINDOW_S, false),
        // The other worker's turn began before the first one's.
        (start, start - 1, true),
        (0, 3 * CONNECTION_ID_WINDOW_S - 1, true),
        (0, 256 * CONNECTION_ID_WINDOW_S, false),
    ] {
        one.set_now(issued_s);
        let id = connect(&mut one, address("192.0.2.1:1"));
        other.set_now(asked_s);
        let replied = ask(&mut other, address("192.0.2.1:2"), &LEECHER.encode(id));
        assert_eq!(replied.is_ok(), is_good, "{issued_s} {asked_s}");
    }
}

/// Requests over the limit are told so a few times a second. Connects are not charged: their source
/// may be forged.
#[test]
fn the_rate_limit_of_an_address() {
    let config = RateLimitConfig {
        connections_max: 0,
        requests_per_s: 2,
        burst: 5,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        sets: 16,
    };
    let clients = Arc::new(ClientTable::new(config, RandomState::new()));
    let parts = ServerParts::new(swarms(), ProtocolConfig::default(), 1);
    let rate_limiter = Some(RateLimiter::new(clients));
    let mut server = Server::new(ServerParts { rate_limiter, ..parts });
    let (one, other) = (address("192.0.2.1:1"), address("192.0.2.2:1"));
    for (now_s, served) in [(10, 5), (11, 2)] {
        server.set_now(now_s);
        let id = connect(&mut server, one);
        for _ in 0..20 {
            connect(&mut server, one);
            assert!(ask(&mut server, one, &LEECHER.encode(0)).is_err());
        }
        for _ in 0..served {
            assert_eq!(error_text(&ask(&mut server, one, &LEECHER.encode(id)).unwrap()), None);
        }
        for request in [LEECHER.encode(id), scrape(id, &[A]), scrape(id, &[]), header(id, 9)] {
            let text = error_text(&ask(&mut server, one, &request).unwrap()).expect("an error");
            assert!(text.contains("too many requests"), "{text}");
        }
        assert_eq!(REJECTIONS_ANSWERED_PER_S, 4);
        for request in [LEECHER.encode(id), scrape(id, &[A]), header(id, 9)] {
            assert_eq!(ask(&mut server, one, &request), Err(DatagramDrop::AddressRequests));
        }
        connect(&mut server, one);
        announce(&mut server, other, &LEECHER).unwrap();
        // It is one limit for all protocols.
        let response = ask_from(one.ip(), &mut server, "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa");
        assert!(response.contains("too many requests"), "{response}");
    }
}

#[test]
fn requests_are_counted_by_transport() {
    let mut server = server(ProtocolConfig::default());
    let from = address("192.0.2.1:1");
    announce(&mut server, from, &LEECHER).unwrap();
    announce(&mut server, from, &Announced { port: 0, ..LEECHER }).unwrap_err();
    announce(&mut server, address("[2001:db8::1]:1"), &LEECHER).unwrap();
    scraped(&mut server, from, &[A]);
    ask_from(from.ip(), &mut server, "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa");
    assert!(ask(&mut server, from, &LEECHER.encode(0)).is_err());
    let (udp, http) = (TransportKind::Udp, TransportKind::Http);
    let (answered, failed) = (RequestOutcome::Answered, RequestOutcome::Failed);
    let counted: Vec<_> =
        server.counters().requests.iter().filter(|&(_, count)| count > 0).collect();
    let (v4, v6) = (AddressFamily::V4, AddressFamily::V6);
    let expected = [
        (((RequestType::Connect, udp), (v4, answered)), 3),
        (((RequestType::Connect, udp), (v6, answered)), 1),
        (((RequestType::Announce, udp), (v4, answered)), 1),
        (((RequestType::Announce, udp), (v4, failed)), 1),
        (((RequestType::Announce, udp), (v6, answered)), 1),
        (((RequestType::Scrape, http), (v4, answered)), 1),
        (((RequestType::Scrape, udp), (v4, answered)), 1),
    ];
    assert_eq!(counted, expected);
    assert_eq!(server.answered(), 9);
}

quickcheck! {
    /// Whatever is sent, an unproven address is never sent more than it sent, and nobody more than
    /// fits one packet.
    fn replies_are_no_amplification(
        start: (u8, bool, bool),
        rest: Vec<u8>,
        v6: bool,
        len: u16
    ) -> bool {
        let (action, good, magic) = start;
        let mut server = server(ProtocolConfig { max_numwant: 1000, ..Default::default() });
        let from = address(if v6 { "[2001:db8::1]:1" } else { "192.0.2.1:1" });
        let id = connect(&mut server, from);
        let id = if good { id } else if magic { MAGIC } else { id ^ 1 << (len % 64) };
        let mut request = header(id, u32::from(action % 4));
        request.extend(rest.iter().cycle().take(if rest.is_empty() { 0 } else { len.into() }));
        request.truncate(request.len().min(1960));
        match ask(&mut server, from, &request) {
            Ok(reply) => good || reply.len() == 16 && request.len() >= 16,
            Err(drop) => {
                !good || drop == DatagramDrop::Malformed && action.is_multiple_of(4)
            }
        }
    }
}

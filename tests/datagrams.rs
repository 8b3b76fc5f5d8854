//! The server without sockets: what a datagram is answered with (BEP 15), and whether at all.

use std::hash::RandomState;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use annulus::access_list::{AccessList, SharedAccessList};
use annulus::config::ProtocolConfig;
use annulus::connection::{BOUNDS, Handler};
use annulus::limits::{CONNECTION_ID_WINDOW_S, REJECTIONS_ANSWERED_PER_S, RESPONSE_BYTES_MAX};
use annulus::metrics::labels::{
    AddressFamily, DatagramDrop, FailureReason, RefusalReason, RequestOutcome, RequestType,
    TransportKind,
};
use annulus::rate_limit::{ClientTable, RateLimitConfig, RateLimiter};
use annulus::server::{Server, ServerParts};
use annulus_parser::{Error, Parsed, parse_head};
use annulus_ring::REPLY_BYTES_MAX;
use annulus_swarm::{CompactAddr, SwarmConfig, Swarms, TorrentCounts};
use quickcheck::quickcheck;

const MAGIC: u64 = 0x0417_2710_1980;
const TRANSACTION: u32 = 0x0a0b_0c0d;

const A: [u8; 20] = [b'a'; 20];
const B: [u8; 20] = [b'b'; 20];

const NONE: u32 = 0;
const COMPLETED: u32 = 1;
const STARTED: u32 = 2;
const STOPPED: u32 = 3;

fn swarms() -> Arc<Swarms> {
    let config = SwarmConfig {
        torrents_max: 100,
        peers_max: 10_000,
        peers_per_torrent_max: 10_000,
        peers_per_address_max: 0,
        peer_timeout_s: 1000,
    };
    Arc::new(Swarms::new(config, RandomState::new()))
}

fn server(protocol: ProtocolConfig) -> Server {
    Server::new(ServerParts::new(swarms(), protocol, 1))
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// What a client announces; the rest of an announce does not matter here.
#[derive(Clone, Copy, Debug)]
struct Announced {
    info_hash: [u8; 20],
    downloaded: u64,
    left: u64,
    event: u32,
    ip: [u8; 4],
    numwant: i32,
    port: u16,
}

const LEECHER: Announced = Announced {
    info_hash: A,
    downloaded: 5,
    left: 7,
    event: NONE,
    ip: [0; 4],
    numwant: -1,
    port: 6881,
};
const SEEDER: Announced = Announced { left: 0, ..LEECHER };

fn header(connection_id: u64, action: u32) -> Vec<u8> {
    let (action, transaction) = (action.to_be_bytes(), TRANSACTION.to_be_bytes());
    [&connection_id.to_be_bytes()[..], &action, &transaction].concat()
}

impl Announced {
    fn encode(&self, connection_id: u64) -> Vec<u8> {
        let mut out = header(connection_id, 1);
        out.extend(self.info_hash);
        out.extend(b"-XX0000-123456789012");
        [self.downloaded, self.left, 3].iter().for_each(|number| out.extend(number.to_be_bytes()));
        out.extend(self.event.to_be_bytes());
        out.extend(self.ip);
        out.extend(77_u32.to_be_bytes());
        out.extend(self.numwant.to_be_bytes());
        out.extend(self.port.to_be_bytes());
        out
    }
}

fn scrape(connection_id: u64, hashes: &[[u8; 20]]) -> Vec<u8> {
    [&header(connection_id, 2)[..], hashes.as_flattened()].concat()
}

fn ask(server: &mut Server, from: SocketAddr, request: &[u8]) -> Result<Vec<u8>, DatagramDrop> {
    let mut out = [0xee; REPLY_BYTES_MAX];
    let len = server.answer_datagram(from, request, &mut out)?;
    assert!(out[len..].iter().all(|&byte| byte == 0xee), "written behind the end");
    Ok(out[..len].to_vec())
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

fn connect(server: &mut Server, from: SocketAddr) -> u64 {
    let reply = ask(server, from, &header(MAGIC, 0)).expect("a connect is answered");
    assert_eq!(reply.len(), 16);
    assert_eq!((number(&reply[..4]), number(&reply[4..8])), (0, TRANSACTION));
    u64::from_be_bytes(reply[8..].try_into().expect("eight bytes"))
}

/// The reply to an announce: interval, leechers, seeders and peers, or the text of an error.
fn announce(
    server: &mut Server,
    from: SocketAddr,
    announced: &Announced,
) -> Result<(u32, u32, u32, Vec<SocketAddr>), String> {
    let connection_id = connect(server, from);
    let reply = ask(server, from, &announced.encode(connection_id)).expect("it is answered");
    assert_eq!(number(&reply[4..8]), TRANSACTION);
    if let Some(text) = error_text(&reply) {
        return Err(text);
    }
    assert_eq!(number(&reply[..4]), 1);
    let peers = if from.ip().to_canonical().is_ipv4() {
        let (peers, rest) = reply[20..].as_chunks::<6>();
        assert!(rest.is_empty());
        let read = |&[a, b, c, d, high, low]: &[u8; 6]| {
            SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))
        };
        peers.iter().map(read).collect()
    } else {
        let (peers, rest) = reply[20..].as_chunks::<18>();
        assert!(rest.is_empty());
        let read = |peer: &[u8; 18]| {
            let ip: [u8; 16] = peer[..16].try_into().expect("16 bytes");
            SocketAddr::from((ip, u16::from_be_bytes([peer[16], peer[17]])))
        };
        peers.iter().map(read).collect()
    };
    Ok((number(&reply[8..12]), number(&reply[12..16]), number(&reply[16..20]), peers))
}

/// The peers of a reply, in order.
fn peers(server: &mut Server, from: &str, announced: &Announced) -> Vec<String> {
    let (.., peers) = announce(server, address(from), announced).expect("no error");
    let mut peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
    peers.sort();
    peers
}

fn error_text(reply: &[u8]) -> Option<String> {
    let text = (number(&reply[..4]) == 3).then(|| String::from_utf8(reply[8..].to_vec()));
    assert_eq!(number(&reply[4..8]), TRANSACTION);
    text.map(|text| text.expect("text"))
}

/// The counts of a scrape of these torrents.
fn scraped(server: &mut Server, from: SocketAddr, hashes: &[[u8; 20]]) -> Vec<TorrentCounts> {
    let connection_id = connect(server, from);
    let reply = ask(server, from, &scrape(connection_id, hashes)).expect("it is answered");
    assert_eq!((number(&reply[..4]), number(&reply[4..8])), (2, TRANSACTION));
    let (torrents, rest) = reply[8..].as_chunks::<12>();
    assert!(rest.is_empty() && torrents.len() == hashes.len());
    let read = |counts: &[u8; 12]| TorrentCounts {
        complete: number(&counts[..4]),
        downloaded: number(&counts[4..8]),
        incomplete: number(&counts[8..]),
    };
    torrents.iter().map(read).collect()
}

fn by_http(server: &mut Server, client: IpAddr, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\n\r\n");
    let Ok(Parsed::Complete { head, .. }) = parse_head(request.as_bytes(), 0, &BOUNDS) else {
        panic!("{target:?} is no request")
    };
    let mut out = vec![0; RESPONSE_BYTES_MAX];
    let len = server.answer(Some(client), false, &head, &mut out).len;
    String::from_utf8_lossy(&out[..len]).into_owned()
}

#[test]
fn an_announce_is_answered_with_counts_and_peers() {
    let mut server = server(ProtocolConfig::default());
    let first = announce(&mut server, address("192.0.2.1:1000"), &SEEDER).unwrap();
    assert!((1800..=1980).contains(&first.0), "{first:?}");
    assert_eq!((first.1, first.2, first.3), (0, 1, Vec::new()));
    let leecher = Announced { port: 7000, ..LEECHER };
    let second = announce(&mut server, address("192.0.2.2:1000"), &leecher).unwrap();
    assert_eq!((second.1, second.2), (1, 1));
    assert_eq!(second.3, [address("192.0.2.1:6881")]);
    // Seeders are not told of each other, nor a peer of itself.
    assert_eq!(peers(&mut server, "192.0.2.3:1", &SEEDER), ["192.0.2.2:7000"]);
    assert_eq!(
        peers(&mut server, "192.0.2.2:9", &leecher),
        ["192.0.2.1:6881", "192.0.2.3:6881"],
        "from another port"
    );
    assert_eq!(peers(&mut server, "192.0.2.9:1", &Announced { info_hash: B, ..LEECHER }).len(), 0);
}

#[test]
fn clients_by_http_and_by_udp_find_each_other() {
    let mut server = server(ProtocolConfig::default());
    announce(&mut server, address("192.0.2.1:1000"), &SEEDER).unwrap();
    let target = format!("/announce?info_hash={}&port=80&left=1", "a".repeat(20));
    let response = by_http(&mut server, address("203.0.113.9:1").ip(), &target);
    assert!(response.contains("8:completei1e") && response.contains("5:peers6:"), "{response:?}");
    assert_eq!(peers(&mut server, "192.0.2.1:1000", &SEEDER), ["203.0.113.9:80"]);
}

#[test]
fn each_family_is_told_its_own() {
    let mut server = server(ProtocolConfig::default());
    let all = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1"];
    for from in all {
        announce(&mut server, address(from), &LEECHER).unwrap();
    }
    assert_eq!(peers(&mut server, "192.0.2.1:5", &LEECHER), ["192.0.2.2:6881"]);
    assert_eq!(peers(&mut server, "[2001:db8::1]:5", &LEECHER), ["[2001:db8::2]:6881"]);
    // A client by IPv4 at a socket of both families.
    let (_, leechers, _, told) =
        announce(&mut server, address("[::ffff:192.0.2.1]:5"), &LEECHER).unwrap();
    assert_eq!((leechers, told), (4, vec![address("192.0.2.2:6881")]));
}

#[test]
fn the_number_of_peers_is_bounded() {
    let protocol = ProtocolConfig { max_numwant: 500, default_numwant: 20, ..Default::default() };
    let mut server = server(protocol);
    for n in 0..400_u16 {
        let leecher = Announced { port: 1 + n, numwant: 0, ..LEECHER };
        assert_eq!(peers(&mut server, "192.0.2.1:1", &leecher).len(), 0);
        assert_eq!(peers(&mut server, "[2001:db8::1]:1", &leecher).len(), 0);
    }
    for (numwant, v4, v6) in [
        (-1, 20, 20),
        (i32::MIN, 20, 20),
        (0, 0, 0),
        (1, 1, 1),
        (73, 73, 73),
        (74, 74, 73),
        (230, 230, 73),
        (231, 230, 73),
        (i32::MAX, 230, 73),
    ] {
        let leecher = Announced { numwant, ..LEECHER };
        assert_eq!(peers(&mut server, "192.0.2.2:1", &leecher).len(), v4, "of {numwant}");
        assert_eq!(peers(&mut server, "[2001:db8::2]:1", &leecher).len(), v6, "of {numwant}");
    }
}

#[test]
fn events_and_counts() {
    let mut server = server(ProtocolConfig::default());
    let from = address("192.0.2.1:1");
    let counts =
        |complete, incomplete, downloaded| vec![TorrentCounts { complete, incomplete, downloaded }];
    announce(&mut server, from, &Announced { event: STARTED, ..LEECHER }).unwrap();
    assert_eq!(scraped(&mut server, from, &[A]), counts(0, 1, 0));
    for _ in 0..2 {
        announce(&mut server, from, &Announced { event: COMPLETED, ..SEEDER }).unwrap();
        assert_eq!(scraped(&mut server, from, &[A]), counts(1, 0, 1));
    }
    // A client with a magnet link knows of nothing to download yet, and is told of seeders.
    let magnet = Announced { event: STARTED, downloaded: 0, ..SEEDER };
    assert_eq!(peers(&mut server, "192.0.2.2:1", &magnet), ["192.0.2.1:6881"]);
    assert_eq!(peers(&mut server, "192.0.2.2:1", &SEEDER).len(), 0);
    // A peer that leaves gets no peers, and may have no port any more.
    let stopped = Announced { event: STOPPED, port: 0, numwant: 50, ..LEECHER };
    assert_eq!(peers(&mut server, "192.0.2.2:1", &stopped).len(), 0);
    assert_eq!(scraped(&mut server, from, &[A]), counts(2, 0, 1));
    let stopped = Announced { port: 6881, ..stopped };
    assert_eq!(peers(&mut server, "192.0.2.2:1", &stopped).len(), 0);
    assert_eq!(scraped(&mut server, from, &[A, B, A])[0], counts(1, 0, 1)[0]);
}

#[test]
fn scrapes_are_answered_in_order() {
    let mut server = server(ProtocolConfig::default());
    let from = address("[2001:db8::1]:1");
    announce(&mut server, from, &LEECHER).unwrap();
    let (one, none) =
        (TorrentCounts { incomplete: 1, ..Default::default() }, TorrentCounts::default());
    assert_eq!(scraped(&mut server, from, &[B, A, B, A]), [none, one, none, one]);
    assert_eq!(scraped(&mut server, from, &[A; 74]), [one; 74]);
}

#[test]
fn the_bound_of_scrapes_is_told() {
    for (configured, bound) in [(1, 1), (73, 73), (74, 74), (128, 74)] {
        let protocol = ProtocolConfig { max_scrape_torrents: configured, ..Default::default() };
        let mut server = server(protocol);
        let from = address("192.0.2.1:1");
        assert_eq!(scraped(&mut server, from, &vec![A; bound]).len(), bound);
        let connection_id = connect(&mut server, from);
        let over = ask(&mut server, from, &scrape(connection_id, &vec![A; bound + 1])).unwrap();
        let text = error_text(&over).unwrap();
        assert_eq!(text, format!("a scrape may ask for {bound} torrents at most"));
    }
}

#[test]
fn torrents_that_are_not_served() {
    let list = SharedAccessList::new(AccessList::new(vec![B]), false);
    let parts = ServerParts::new(swarms(), ProtocolConfig::default(), 1);
    announce(
        &mut Server::new(ServerParts::new(Arc::clone(&parts.swarms), ProtocolConfig::default(), 1)),
        address("192.0.2.1:1"),
        &Announced { info_hash: B, ..LEECHER },
    )
    .unwrap();
    let mut server = Server::new(ServerParts { access_list: Some(list.cache()), ..parts });
    let from = address("192.0.2.2:1");
    let refused = announce(&mut server, from, &Announced { info_hash: B, ..LEECHER });
    assert_eq!(refused, Err("this tracker does not serve this torrent".to_owned()));
    announce(&mut server, from, &LEECHER).unwrap();
    let [none, one] = scraped(&mut server, from, &[B, A])[..] else { panic!() };
    assert_eq!((none, one.incomplete), (TorrentCounts::default(), 1));
}

/// `ip` has room for IPv4 only, and counts only where clients may name their address.
#[test]
fn named_addresses() {
    for trusted in [false, true] {
        let protocol = ProtocolConfig { trust_ip_parameters: trusted, ..Default::default() };
        let mut server = server(protocol);
        for (from, ip) in [
            ("192.0.2.1:1", [203, 0, 113, 1]),
            // An address that nobody can reach.
            ("192.0.2.2:1", [224, 0, 0, 1]),
            ("[::ffff:192.0.2.3]:1", [203, 0, 113, 3]),
            ("[2001:db8::1]:1", [203, 0, 113, 4]),
        ] {
            announce(&mut server, address(from), &Announced { ip, ..LEECHER }).unwrap();
        }
        let told = peers(&mut server, "192.0.2.9:1", &LEECHER);
        assert_eq!(
            told,
            match trusted {
                true => ["192.0.2.2:6881", "203.0.113.1:6881", "203.0.113.3:6881"],
                false => ["192.0.2.1:6881", "192.0.2.2:6881", "192.0.2.3:6881"],
            }
        );
        assert_eq!(peers(&mut server, "[2001:db8::9]:1", &LEECHER), ["[2001:db8::1]:6881"]);
    }
}

#[test]
fn private_addresses_are_shown_as_configured() {
    let external_ipv4 = Some([198, 51, 100, 1].into());
    let mut server = server(ProtocolConfig { external_ipv4, ..Default::default() });
    for from in ["10.0.0.1:1", "192.0.2.1:1"] {
        announce(&mut server, address(from), &LEECHER).unwrap();
    }
    assert_eq!(
        peers(&mut server, "192.0.2.2:1", &LEECHER),
        ["192.0.2.1:6881", "198.51.100.1:6881"]
    );
    assert_eq!(peers(&mut server, "10.0.0.2:1", &LEECHER).len(), 3);
}

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
        let response = by_http(&mut server, one.ip(), "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa");
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
    by_http(&mut server, from.ip(), "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa");
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

/// A client behind NAT is known by the address that its datagrams come from.
#[test]
fn a_peer_is_where_it_asks_from() {
    let swarms = swarms();
    let parts = ServerParts::new(Arc::clone(&swarms), ProtocolConfig::default(), 1);
    let mut server = Server::new(parts);
    announce(&mut server, address("192.0.2.1:40000"), &LEECHER).unwrap();
    let told = announce(&mut server, address("192.0.2.2:40000"), &LEECHER).unwrap().3;
    assert_eq!(told, [address("192.0.2.1:6881")]);
    let peer = CompactAddr::new(told[0].ip(), told[0].port());
    assert_eq!(peer, CompactAddr::V4([192, 0, 2, 1, 0x1a, 0xe1]));
}

//! Announces and scrapes of one torrent, and the parsing of their responses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::bencode::{Bencode, decode};
use super::client::{HttpClient, HttpResponse, fetch, get_request};
use super::tracker::Tracker;

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A torrent at a tracker.
pub(crate) struct TestTorrent<'t> {
    tracker: &'t Tracker,
    pub(crate) info_hash: [u8; 20],
}

/// A successful announce response.
#[derive(Clone, Debug)]
pub(crate) struct ParsedAnnounce {
    pub(crate) body: Bencode,
    /// The peers of `peers`, then those of `peers6`.
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) complete: i64,
    pub(crate) downloaded: i64,
    pub(crate) incomplete: i64,
}

/// The counts of a torrent in a scrape response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScrapeCounts {
    pub(crate) complete: i64,
    pub(crate) downloaded: i64,
    pub(crate) incomplete: i64,
}

impl<'t> TestTorrent<'t> {
    /// The torrent whose info hash consists of this byte.
    pub(crate) fn new(tracker: &'t Tracker, number: u8) -> TestTorrent<'t> {
        TestTorrent { tracker, info_hash: [number; 20] }
    }

    /// The target `/announce` with the info hash, the port, and `rest` after an `&`.
    pub(crate) fn target(&self, port: u16, rest: &str) -> String {
        format!("/announce?info_hash={}&port={port}&{rest}", percent_encoded(&self.info_hash))
    }

    /// Announces from 127.0.0.1.
    #[track_caller]
    pub(crate) fn announce(&self, port: u16, rest: &str) -> ParsedAnnounce {
        parse_announce(&fetch(self.tracker.v4, get_request(&self.target(port, rest))))
    }

    /// Announces from an address of this machine.
    #[track_caller]
    pub(crate) fn announce_from(&self, source: IpAddr, port: u16, rest: &str) -> ParsedAnnounce {
        let to = if source.is_ipv4() { self.tracker.v4 } else { self.tracker.v6.unwrap() };
        let mut client = HttpClient::connect_from(source, to);
        client.send(get_request(&self.target(port, rest)));
        parse_announce(&client.read_response())
    }

    /// Announces each of the ports over one connection.
    #[track_caller]
    pub(crate) fn announce_ports(
        &self,
        to: SocketAddr,
        ports: impl Iterator<Item = u16>,
        rest: &str,
    ) {
        let mut client = HttpClient::connect(to);
        for port in ports {
            client.send(get_request(&self.target(port, rest)));
            parse_announce(&client.read_response());
        }
    }

    #[track_caller]
    pub(crate) fn scrape(&self) -> ScrapeCounts {
        let target = format!("/scrape?info_hash={}", percent_encoded(&self.info_hash));
        let scraped = parse_scrape(&fetch(self.tracker.v4, get_request(&target)));
        assert_eq!(scraped.len(), 1);
        assert_eq!(scraped[0].0, self.info_hash);
        scraped[0].1
    }
}

/// Parses a response that must be a successful announce response with all mandatory keys.
#[track_caller]
pub(crate) fn parse_announce(response: &HttpResponse) -> ParsedAnnounce {
    assert_eq!(response.status, 200, "{response:?}");
    let whole = decode(&response.body);
    assert_eq!(whole.get("failure reason"), None);
    let mut peers = match whole.get("peers") {
        Some(Bencode::Bytes(bytes)) => compact_v4(bytes),
        Some(Bencode::List(peers)) => peers.iter().map(peer_dictionary).collect(),
        other => panic!("peers is {other:?}"),
    };
    if let Some(Bencode::Bytes(bytes)) = whole.get("peers6") {
        peers.extend(compact_v6(bytes));
    }
    assert!((1800..=1980).contains(&whole.integer("interval")), "{whole:?}");
    assert_eq!(whole.integer("min interval"), 900);
    ParsedAnnounce {
        peers,
        complete: whole.integer("complete"),
        downloaded: whole.integer("downloaded"),
        incomplete: whole.integer("incomplete"),
        body: whole,
    }
}

/// Parses a response that must be a successful scrape response.
#[track_caller]
pub(crate) fn parse_scrape(response: &HttpResponse) -> Vec<(Vec<u8>, ScrapeCounts)> {
    assert_eq!(response.status, 200, "{response:?}");
    let whole = decode(&response.body);
    assert_eq!(whole.keys(), ["files"]);
    let files = whole.get("files").unwrap();
    let read = |(info_hash, file): &(Vec<u8>, Bencode)| {
        assert_eq!(file.keys(), ["complete", "downloaded", "incomplete"]);
        let counts = ScrapeCounts {
            complete: file.integer("complete"),
            downloaded: file.integer("downloaded"),
            incomplete: file.integer("incomplete"),
        };
        (info_hash.clone(), counts)
    };
    files.entries().iter().map(read).collect()
}

/// The failure reason of a response that must be a failure.
#[track_caller]
pub(crate) fn failure_reason(response: &HttpResponse) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    let whole = decode(&response.body);
    assert_eq!(whole.keys(), ["failure reason", "interval", "min interval", "retry in"]);
    assert!((1800..=1980).contains(&whole.integer("interval")), "{whole:?}");
    assert_eq!(whole.integer("min interval"), 900);
    let reason = whole.text("failure reason");
    assert!(!reason.is_empty());
    reason.to_owned()
}

#[track_caller]
pub(crate) fn compact_v4(bytes: &[u8]) -> Vec<SocketAddr> {
    let (peers, rest) = bytes.as_chunks::<6>();
    assert!(rest.is_empty(), "{} bytes", bytes.len());
    let read = |&[a, b, c, d, high, low]: &[u8; 6]| {
        SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))
    };
    peers.iter().map(read).collect()
}

#[track_caller]
pub(crate) fn compact_v6(bytes: &[u8]) -> Vec<SocketAddr> {
    let (peers, rest) = bytes.as_chunks::<18>();
    assert!(rest.is_empty(), "{} bytes", bytes.len());
    let read = |peer: &[u8; 18]| {
        let octets: [u8; 16] = *peer.first_chunk().unwrap();
        SocketAddr::from((Ipv6Addr::from(octets), u16::from_be_bytes([peer[16], peer[17]])))
    };
    peers.iter().map(read).collect()
}

/// A peer in the dictionary form of BEP 3.
#[track_caller]
fn peer_dictionary(peer: &Bencode) -> SocketAddr {
    assert_eq!(peer.keys(), ["ip", "port"]);
    let ip: IpAddr = peer.text("ip").parse().unwrap();
    SocketAddr::new(ip, u16::try_from(peer.integer("port")).unwrap())
}

/// The bytes, all percent-encoded.
pub(crate) fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

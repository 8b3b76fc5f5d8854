//! Datagrams: a second, plain reading agrees with the parser; a reply is one of BEP 15 that fits
//! one packet, and is never longer than its request unless the connection id is good.
#![no_main]

use std::cell::RefCell;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;

use annulus::config::ProtocolConfig;
use annulus::server::{Server, ServerParts};
use annulus_parser::{
    AnnounceEvent, DatagramAction, DatagramAnnounce, DatagramMistake, DatagramQuery,
    DatagramRequest, Numwant, parse_datagram,
};
use annulus_ring::REPLY_BYTES_MAX;
use annulus_swarm::{SwarmConfig, Swarms};
use libfuzzer_sys::fuzz_target;

const MAGIC: u64 = 0x0417_2710_1980;

/// The first byte of the input: what kind of client sends the rest.
const V6: u8 = 1;
/// The connection id in the datagram is replaced by a good one.
const GOOD_ID: u8 = 2;
/// At the server that trusts named addresses and has external ones.
const TRUSTED: u8 = 4;
const PRIVATE: u8 = 8;

fn server(trusted: bool) -> Server {
    let config = SwarmConfig {
        torrents_max: 100,
        peers_max: 5000,
        peers_per_torrent_max: 1000,
        peers_per_address_max: 0,
        peer_timeout_s: 2700,
    };
    let protocol = ProtocolConfig {
        max_numwant: 1000,
        trust_ip_parameters: trusted,
        external_ipv4: trusted.then(|| [198, 51, 100, 1].into()),
        ..ProtocolConfig::default()
    };
    let swarms = Arc::new(Swarms::new(config, RandomState::new()));
    Server::new(ServerParts::new(swarms, protocol, 1))
}

thread_local! {
    static SERVERS: RefCell<[Server; 2]> = RefCell::new([server(false), server(true)]);
}

fuzz_target!(|input: &[u8]| {
    let Some((&kind, datagram)) = input.split_first() else { return };
    check_parser(datagram);
    let from = match (kind & V6 > 0, kind & PRIVATE > 0) {
        (false, false) => "192.0.2.7:6881",
        (false, true) => "10.0.0.7:6881",
        (true, false) => "[2001:db8::7]:6881",
        (true, true) => "[::ffff:10.0.0.7]:6881",
    };
    let from: SocketAddr = from.parse().expect("an address");
    SERVERS.with_borrow_mut(|servers| {
        let server = &mut servers[usize::from(kind & TRUSTED > 0)];
        let mut datagram = datagram.to_vec();
        let id = connect(server, from).to_be_bytes();
        if kind & GOOD_ID > 0
            && let Some(place) = datagram.first_chunk_mut()
        {
            *place = id;
        }
        // The fuzzer watches comparisons, and may find the id by itself.
        let good = datagram.starts_with(&id);
        check_reply(server, from, &datagram, good);
    });
});

fn connect(server: &mut Server, from: SocketAddr) -> u64 {
    let mut out = [0; REPLY_BYTES_MAX];
    let request = [&MAGIC.to_be_bytes()[..], &[0; 8]].concat();
    let len = server.answer_datagram(from, &request, &mut out).expect("a connect is answered");
    assert_eq!(len, 16);
    u64::from_be_bytes(out[8..16].try_into().expect("8 bytes"))
}

fn check_reply(server: &mut Server, from: SocketAddr, datagram: &[u8], good: bool) {
    let mut out = [0xee; REPLY_BYTES_MAX];
    let Ok(len) = server.answer_datagram(from, datagram, &mut out) else {
        // The only request with a good id that is not answered is a connect without its magic.
        assert!(!good || datagram.len() < 16 || datagram[8..12] == [0; 4]);
        return;
    };
    assert!(good || len <= datagram.len(), "more bytes than an unproven address has sent");
    assert!(out[len..].iter().all(|&byte| byte == 0xee), "written behind the end");
    let reply = &out[..len];
    assert_eq!(reply[4..8], datagram[12..16], "another transaction");
    let peer_bytes = if from.ip().to_canonical().is_ipv4() { 6 } else { 18 };
    match number(reply, 0) {
        0 => assert_eq!(len, 16),
        1 => {
            assert!(len >= 20 && (len - 20) % peer_bytes == 0 && len <= 1400);
            let wanted = number(datagram, 92) as i32;
            assert!(wanted < 0 || (len - 20) / peer_bytes <= wanted as usize);
        }
        2 => assert_eq!(len - 8, (datagram.len() - 16) / 20 * 12),
        3 => assert!(str::from_utf8(&reply[8..]).is_ok_and(|text| !text.is_empty())),
        action => panic!("action {action}"),
    }
    assert!(number(reply, 0) == 3 || reply[..4] == datagram[8..12], "another action");
}

/// Reads every field by its offset in BEP 15.
fn check_parser(datagram: &[u8]) {
    let parsed = parse_datagram(datagram);
    let Some(fixed) = datagram.get(..16) else {
        assert!(parsed.is_err(), "shorter than a header");
        return;
    };
    let is_connect = number(fixed, 8) == 0;
    let has_magic = fixed[..8] == MAGIC.to_be_bytes();
    let (header, query) = match parsed {
        Err(_) => return assert!(is_connect && !has_magic),
        Ok(DatagramRequest::Connect { transaction_id }) => {
            assert!(is_connect && has_magic);
            return assert_eq!(transaction_id, number(fixed, 12));
        }
        Ok(DatagramRequest::Identified { header, query }) => (header, query),
    };
    assert_eq!(header.connection_id.to_be_bytes(), fixed[..8]);
    assert_eq!(header.transaction_id, number(fixed, 12));
    let action = match number(fixed, 8) {
        1 => DatagramAction::Announce,
        2 => DatagramAction::Scrape,
        _ => DatagramAction::Unknown,
    };
    assert_eq!(header.action, action);
    match query {
        Ok(DatagramQuery::Announce(announce)) => check_announce(&announce, datagram),
        Ok(DatagramQuery::Scrape(hashes)) => {
            assert_eq!(hashes.as_slice().as_flattened(), &datagram[16..]);
            assert!((1..=74).contains(&hashes.as_slice().len()));
        }
        Err(mistake) => assert!(match mistake {
            DatagramMistake::ActionUnknown => action == DatagramAction::Unknown,
            DatagramMistake::AnnounceTooShort => datagram.len() < 98,
            DatagramMistake::PortInvalid => datagram[96..98] == [0, 0] && number(datagram, 80) != 3,
            DatagramMistake::HashesMissing => datagram.len() == 16,
            DatagramMistake::HashCut => (datagram.len() - 16) % 20 > 0,
            DatagramMistake::TooManyHashes => datagram.len() > 16 + 20 * 74,
        }),
    }
}

fn check_announce(announce: &DatagramAnnounce<'_>, datagram: &[u8]) {
    assert_eq!((&announce.info_hash[..], &announce.peer_id[..]), datagram[16..56].split_at(20));
    let numbers = [announce.downloaded, announce.left, announce.uploaded].map(u64::to_be_bytes);
    assert_eq!(numbers.as_flattened(), &datagram[56..80]);
    let event = match announce.event {
        AnnounceEvent::None => 0,
        AnnounceEvent::Completed => 1,
        AnnounceEvent::Started => 2,
        AnnounceEvent::Stopped => 3,
    };
    assert!(event == number(datagram, 80) || event == 0 && number(datagram, 80) > 3);
    assert_eq!((announce.ip, announce.key), (number(datagram, 84), number(datagram, 88)));
    match announce.numwant {
        Numwant::Default => assert!(datagram[92] >= 128),
        Numwant::AtMost(wanted) => assert_eq!(wanted, number(datagram, 92)),
    }
    assert_eq!(announce.port.to_be_bytes(), datagram[96..98]);
    let pieces: Vec<&[u8]> = announce.url_data().collect();
    assert_eq!(pieces, url_pieces(&datagram[98..]));
}

/// The pieces of the URL (BEP 41), by index.
fn url_pieces(options: &[u8]) -> Vec<&[u8]> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < options.len() && options[at] != 0 {
        if options[at] == 1 {
            at += 1;
            continue;
        }
        let Some(&len) = options.get(at + 1) else { break };
        let (start, end) = (at + 2, at + 2 + usize::from(len));
        if end > options.len() {
            break;
        }
        if options[at] == 2 && len > 0 {
            pieces.push(&options[start..end]);
        }
        at = end;
    }
    pieces
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

//! A whole session: whatever the cuts between reads, a stream of bytes gets the same
//! replies, each of them whole and well formed; and no more is allocated for what waits than it is
//! worth.
#![no_main]

use std::cell::RefCell;
use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use annulus::config::ProtocolConfig;
use annulus::connection::{Action, Connection, Handler, RequestError, Timeouts, TlsBuffers, Turn};
use annulus::server::{Server, ServerParts};
use annulus_swarm::{SwarmConfig, Swarms};
use libfuzzer_sys::fuzz_target;

const TIMEOUTS: Timeouts = Timeouts { handshake_s: 10, header_s: 10, idle_s: 30 };
const PEER: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));

fn server() -> Server {
    let settings = SwarmConfig {
        torrents_max: 100,
        peers_max: 1000,
        peers_per_torrent_max: 100,
        peers_per_address_max: 0,
        peer_timeout_s: 2700,
    };
    let swarms = Arc::new(Swarms::new(settings, RandomState::new()));
    Server::new(ServerParts::new(swarms, ProtocolConfig::default(), 1))
}

thread_local! {
    /// Two servers that have answered the same requests in the same order since the start,
    /// and so must go on answering alike: one sees streams whole, the other in pieces.
    static SERVERS: RefCell<[Server; 2]> = RefCell::new([server(), server()]);
}

/// Feeds the pieces as a worker would, and gathers all replies. `room` is the space for a
/// batch of replies.
fn converse(server: &mut Server, pieces: &[&[u8]], room: usize) -> Vec<u8> {
    let mut connection = Connection::new(PEER, None, 0, &TIMEOUTS);
    let mut out = vec![0; server.response_bytes_max() + room];
    let mut tls_buffers = TlsBuffers::new(0);
    let mut replies = Vec::new();
    for piece in pieces {
        let mut bytes = piece.to_vec();
        loop {
            let (handler, out) = (&mut *server, &mut out[..]);
            let mut turn = Turn { handler, now_s: 0, timeouts: &TIMEOUTS, out };
            let progress = connection.receive(&mut bytes, &mut tls_buffers, &mut turn);
            replies.extend_from_slice(&out[..progress.written]);
            let (allocated, pending) = (connection.allocated_bytes(), connection.pending_bytes());
            assert!(allocated <= 2 * pending + 256, "{allocated} bytes for {pending}");
            match progress.next {
                Action::Receive => break,
                Action::Resume => bytes.clear(),
                Action::Close { .. } | Action::Stream | Action::Reset => return replies,
            }
        }
    }
    let written = connection.abort(RequestError::Truncated, server, &mut tls_buffers, &mut out);
    replies.extend_from_slice(&out[..written]);
    replies
}

/// Takes the replies apart by their own Content-Length: nothing may be left over.
fn check(mut replies: &[u8], head_requests: bool) {
    while !replies.is_empty() {
        assert!(replies.starts_with(b"HTTP/1.1 "), "no status line");
        let end = replies.windows(4).position(|four| four == b"\r\n\r\n").expect("no end of head");
        let head = std::str::from_utf8(&replies[..end]).expect("a head is text");
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .and_then(|length| length.parse().ok())
            .expect("no length");
        let body = &replies[end + 4..];
        if head_requests && (body.is_empty() || body.starts_with(b"HTTP/1.1 ")) {
            replies = body;
            continue;
        }
        assert!(body.len() >= length, "a body is cut short");
        if head.starts_with("HTTP/1.1 200 ") {
            let is_dictionary = body.starts_with(b"d") && body[..length].ends_with(b"e");
            // `/` and `/robots.txt`.
            let is_page = !body.starts_with(b"d") && body[..length].ends_with(b"\n");
            assert!(is_dictionary || is_page, "no dictionary and no page");
        }
        replies = &body[length..];
    }
}

fuzz_target!(|input: &[u8]| {
    // The first bytes say how the others are cut.
    let Some((&[cut, step, room, _], stream)) = input.split_first_chunk::<4>() else { return };
    let whole = SERVERS.with_borrow_mut(|[first, _]| converse(first, &[stream], 1 << 16));
    // The last thing that a client said may be the method alone.
    let asks_for_head = stream.windows(5).any(|five| five == b"HEAD ") || stream.ends_with(b"HEAD");
    check(&whole, asks_for_head);
    let mut pieces = Vec::new();
    let mut rest = stream;
    let mut size = usize::from(cut) + 1;
    while rest.len() > size {
        let (piece, after) = rest.split_at(size);
        pieces.push(piece);
        rest = after;
        size = size * usize::from(step % 7 + 1) % 397 + 1;
    }
    pieces.push(rest);
    let room = usize::from(room) * 8;
    let cut = SERVERS.with_borrow_mut(|[_, second]| converse(second, &pieces, room));
    assert_eq!(cut, whole, "the cuts change the replies");
});

//! TLS: whatever becomes of a client's bytes on their way, it is told nothing that it would
//! not be told in plain, and what is told ends as the protocol wants it.
//!
//! The input begins with a script ([`FuzzScript`]); what follows are plain requests, which a real
//! client encrypts, or bytes that are handed to the server as they are.
#![no_main]

mod client;
mod script;

use std::hash::RandomState;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use annulus::clock::Clock;
use annulus::config::{CertificateFiles, ProtocolConfig};
use annulus::connection::{Action, Connection, Handler, RequestError, Timeouts, TlsBuffers, Turn};
use annulus::limits::{FLIGHT_BYTES_MAX, HEAD_BYTES_MAX, UNFINISHED_RECORDS_BYTES_MAX};
use annulus::os::FileSource;
use annulus::server::{Server, ServerParts};
use annulus::tls::{Certificates, TlsAcceptor, TlsContext, encrypted_bytes_max};
use annulus_swarm::{SwarmConfig, Swarms};
use libfuzzer_sys::fuzz_target;

use client::{CERTIFICATE, FuzzClient, KEY};
use script::{FuzzScript, FuzzedEnd};

const TIMEOUTS: Timeouts = Timeouts { handshake_s: 10, header_s: 10, idle_s: 30 };
const PEER: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));

/// Records that a client sends without a look at what it is told.
const RECORDS_AT_ONCE: usize = 4;

static ACCEPTOR: LazyLock<TlsAcceptor> = LazyLock::new(|| {
    let files =
        CertificateFiles { chain: CERTIFICATE.into(), key: KEY.into(), place: "here".into() };
    let loaded = Certificates::load(&[files], &FileSource::Direct, Clock::unix_s());
    let loaded = loaded.expect("a good certificate");
    TlsContext::new(loaded.certificates, false).expect("randomness").acceptor()
});

/// One connection of a server that has answered nothing before, so that all give the same
/// answers.
struct FuzzedServer {
    server: Server,
    connection: Connection,
    tls_buffers: TlsBuffers,
    out: Vec<u8>,
    closed: bool,
}

impl FuzzedServer {
    fn new(secured: bool, room: usize) -> FuzzedServer {
        let settings = SwarmConfig {
            torrents_max: 100,
            peers_max: 1000,
            peers_per_torrent_max: 100,
            peers_per_address_max: 0,
            peer_timeout_s: 2700,
        };
        let swarms = Arc::new(Swarms::new(settings, RandomState::new()));
        let server = Server::new(ServerParts::new(swarms, ProtocolConfig::default(), 1));
        let replies_bytes = server.response_bytes_max() + room;
        let connection = match secured {
            true => {
                let session = ACCEPTOR.accept().expect("memory");
                Connection::new(PEER, Some(session), 0, &TIMEOUTS)
            }
            false => Connection::new(PEER, None, 0, &TIMEOUTS),
        };
        FuzzedServer {
            server,
            connection,
            tls_buffers: TlsBuffers::new(replies_bytes),
            out: vec![0; encrypted_bytes_max(replies_bytes).max(FLIGHT_BYTES_MAX)],
            closed: false,
        }
    }

    /// Hands it bytes as a worker would. Returns what it sends.
    fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        let FuzzedServer { server, connection, tls_buffers, out, .. } = self;
        let mut bytes = bytes.to_vec();
        let mut sent = Vec::new();
        loop {
            let before = connection.pending_bytes() + bytes.len();
            let mut turn = Turn { handler: &mut *server, now_s: 0, timeouts: &TIMEOUTS, out };
            let progress = connection.receive(&mut bytes, tls_buffers, &mut turn);
            sent.extend_from_slice(&out[..progress.written]);
            match progress.next {
                Action::Receive => break,
                Action::Resume => {
                    let after = connection.pending_bytes();
                    assert!(progress.written > 0 || after < before, "goes round in circles");
                    bytes.clear();
                }
                Action::Close { .. } | Action::Stream | Action::Reset => {
                    self.closed = true;
                    return sent;
                }
            }
        }
        let kept = connection.pending_bytes();
        assert!(kept <= HEAD_BYTES_MAX + UNFINISHED_RECORDS_BYTES_MAX, "{kept} bytes are kept");
        sent
    }

    /// TCP has ended. Returns what it sends.
    fn end(&mut self) -> Vec<u8> {
        self.abort(RequestError::Truncated)
    }

    /// Time is over. Returns what it sends.
    fn expire(&mut self) -> Vec<u8> {
        self.abort(RequestError::Timeout)
    }

    fn abort(&mut self, error: RequestError) -> Vec<u8> {
        let FuzzedServer { server, connection, tls_buffers, out, .. } = self;
        let len = connection.abort(error, server, tls_buffers, out);
        self.closed = true;
        self.out[..len].to_vec()
    }
}

/// What these requests are answered with where nothing is encrypted.
fn answers_in_plain(requests: &[u8]) -> Vec<u8> {
    let mut service = FuzzedServer::new(false, 1 << 16);
    let mut answers = service.receive(requests);
    if !service.closed {
        answers.extend(service.end());
    }
    answers
}

/// A client's conversation; its bytes may change on the way.
fn converse(script: &FuzzScript, requests: &[u8]) {
    let mut service = FuzzedServer::new(true, script.room);
    let mut before = script.resumes.then(|| ACCEPTOR.accept().expect("memory"));
    let mut client = FuzzClient::new(script.old, before.as_mut());
    let mut way = script.way();
    let mut records = script.records(requests);
    let mut left = false;
    loop {
        let sent = way.carry(client.take());
        for piece in script.pieces(&sent) {
            if service.closed {
                break;
            }
            client.hear(&service.receive(piece), script.is_true());
        }
        if service.closed || !(client.may_speak() || client.wants_to_send()) {
            break;
        }
        if !client.may_speak() {
            continue;
        }
        let said = records.by_ref().take(RECORDS_AT_ONCE).map(|record| client.say(record));
        if said.count() > 0 {
            continue;
        }
        if left || script.farewell == FuzzedEnd::None {
            break;
        }
        left = true;
        client.leave();
    }
    let expected = answers_in_plain(requests);
    if script.is_true() {
        assert!(client.may_speak(), "no handshake");
        assert_eq!(client.resumed(), script.resumes, "the session");
        if !service.closed {
            assert!(script.farewell == FuzzedEnd::None, "close_notify is not heeded");
            client.hear(&service.end(), true);
        } else {
            assert!(client.notified, "no close_notify");
        }
        assert_eq!(client.told, expected, "not what is answered in plain");
        return;
    }
    assert!(expected.starts_with(&client.told), "told what nobody said");
    let silent = service.closed && client.may_speak() && !client.notified;
    assert!(!silent, "closed without a word");
    if !service.closed {
        let before = client.told.len();
        client.hear(&service.expire(), false);
        let told = &client.told[before..];
        assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 408 "), "not what ends the wait");
    }
}

/// Bytes that no client made: the server's are records all the same, unless the others are
/// none of TLS from the first on.
fn babble(script: &FuzzScript, bytes: &[u8]) {
    let mut service = FuzzedServer::new(true, script.room);
    let mut sent = Vec::new();
    for piece in script.pieces(bytes) {
        sent.extend(service.receive(piece));
        if service.closed {
            break;
        }
    }
    if !service.closed {
        sent.extend(service.expire());
    }
    let text =
        bytes.first().is_some_and(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if text {
        assert!(service.closed && sent.starts_with(b"HTTP/1.1 400 "), "no refusal");
        return;
    }
    let mut rest = sent.as_slice();
    while let [20..=23, 3, 1..=4, high, low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        assert!(len <= after.len(), "a record is cut short");
        rest = &after[len..];
    }
    assert!(rest.is_empty(), "no record");
}

fuzz_target!(|input: &[u8]| {
    let Some((script, rest)) = FuzzScript::read(input) else { return };
    if script.raw {
        babble(&script, rest);
    // What a plain connection takes for TLS is no request inside of it either.
    } else if !matches!(rest, [21 | 22 | 128..=255, ..]) {
        converse(&script, rest);
    }
});

//! The PROXY protocol in memory, where the position of every split is certain.

use std::io::{Read, Write};
use std::net::IpAddr;

use annulus::config::CertificateFiles;
use annulus::connection::{
    Action, Connection, Disposition, Handler, Progress, RequestError, Response, Timeouts,
    TlsBuffers, Turn,
};
use annulus::limits::FLIGHT_BYTES_MAX;
use annulus::os::FileSource;
use annulus::tls::{Certificates, TlsContext};
use annulus_parser::Head;

use crate::support::authority::{Authority, KeyKind};
use crate::support::tls_client::{VERSIONS, client_config, client_session};
use crate::support::tls_tracker::HOST;

const TIMEOUTS: Timeouts = Timeouts { handshake_s: 10, header_s: 10, idle_s: 30 };
const REQUEST: &[u8] = b"GET /announce HTTP/1.1\r\n\r\n";

/// Responds to every request with the client's address.
struct Mirror;

impl Handler for Mirror {
    fn response_bytes_max(&self) -> usize {
        64
    }

    fn answer(&mut self, peer: Option<IpAddr>, _: bool, _: &Head<'_>, out: &mut [u8]) -> Response {
        let peer = peer.map_or("nobody".to_owned(), |peer| peer.to_string());
        Response { len: put(&format!("{peer};"), out), disposition: Disposition::KeepAlive }
    }

    fn refuse(
        &mut self,
        _: Option<IpAddr>,
        error: RequestError,
        _: &[u8],
        out: &mut [u8],
    ) -> usize {
        put(&format!("{error:?};"), out)
    }
}

fn put(text: &str, out: &mut [u8]) -> usize {
    out[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
}

/// The responses to these pieces, and whether the connection was closed with an error. `keep`: the
/// first piece arrives while the connection waits for its turn.
fn converse(trusted: bool, pieces: &[&[u8]], keep: bool) -> (String, bool) {
    let peer = Some("10.0.0.1".parse().unwrap());
    let mut connection = Connection::new(peer, None, 0, &TIMEOUTS).proxy_protocol(trusted);
    let (mut tls_buffers, mut out) = (TlsBuffers::new(0), [0; 4096]);
    let mut said = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        if keep && index == 0 {
            connection.buffer(piece);
            assert_eq!(connection.pending_bytes(), piece.len());
            continue;
        }
        let (handler, out) = (&mut Mirror, &mut out[..]);
        let mut turn = Turn { handler, now_s: 0, timeouts: &TIMEOUTS, out };
        let Progress { written, next } =
            connection.receive(&mut piece.to_vec(), &mut tls_buffers, &mut turn);
        said += std::str::from_utf8(&out[..written]).unwrap();
        match next {
            Action::Receive => {}
            Action::Close { unread } => {
                assert!(unread);
                return (said, true);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(connection.pending_bytes(), 0);
    (said, false)
}

fn every_cut(stream: &[u8], trusted: bool, expected: (&str, bool)) {
    let expected = (expected.0.to_string(), expected.1);
    for keep in [false, true] {
        for first in 0..=stream.len() {
            let (one, rest) = stream.split_at(first);
            assert_eq!(converse(trusted, &[one, rest], keep), expected, "cut at {first}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(converse(trusted, &bytes, keep), expected);
    }
}

#[test]
fn cuts_never_matter() {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\0\x01\0\x02";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let v1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n";
    for (header, peer) in [
        (&v1[..], "203.0.113.7;203.0.113.7;"),
        (v2, "203.0.113.7;203.0.113.7;"),
        (local, "10.0.0.1;10.0.0.1;"),
        (b"PROXY UNKNOWN\r\n", "10.0.0.1;10.0.0.1;"),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", "203.0.113.7;203.0.113.7;"),
    ] {
        every_cut(&[header, REQUEST, REQUEST].concat(), true, (peer, false));
        every_cut(header, true, ("", false));
        assert_eq!(converse(false, &[&header[..1]], false), ("MissingProxyHeader;".into(), true));
    }
    for broken in [&b"PROXY TCP4 1.2.3.4\r\n"[..], b"\r\n\r\n\0\r\nQUIT\r", REQUEST] {
        every_cut(broken, true, ("MissingProxyHeader;", true));
    }
}

/// TLS begins after the header, wherever that is split.
#[test]
fn tls_comes_after_the_header() {
    let authority = Authority::new(&[]);
    authority.issue(HOST, KeyKind::P256);
    let [chain, key] = ["pem", "key"].map(|end| authority.path(&format!("{HOST}.{end}")));
    let files = CertificateFiles { chain, key, place: String::new() };
    let certificates = Certificates::load(&[files], &FileSource::Direct, 0).unwrap().certificates;
    let acceptor = TlsContext::new(certificates, false).unwrap().acceptor();
    let header = b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n";
    for version in VERSIONS {
        let settings = client_config(&authority, version).into();
        for (keep, cut) in [false, true]
            .into_iter()
            .flat_map(|keep| (0..header.len() + 3).map(move |cut| (keep, cut)))
        {
            let mut client = client_session(&settings);
            let mut stream = header.to_vec();
            client.write_tls(&mut stream).unwrap();
            let mut rest = stream.split_off(cut);

            let (peer, accepted) = (Some("10.0.0.1".parse().unwrap()), acceptor.accept().unwrap());
            let connection = Connection::new(peer, Some(accepted), 0, &TIMEOUTS);
            let mut connection = connection.proxy_protocol(true);
            let (mut tls_buffers, mut out) = (TlsBuffers::new(4096), vec![0; FLIGHT_BYTES_MAX]);
            let mut receive = |connection: &mut Connection, bytes: &mut [u8]| {
                let (handler, out) = (&mut Mirror, &mut out[..]);
                let mut turn = Turn { handler, now_s: 0, timeouts: &TIMEOUTS, out };
                let progress = connection.receive(bytes, &mut tls_buffers, &mut turn);
                assert_eq!(progress.next, Action::Receive, "cut at {cut}");
                out[..progress.written].to_vec()
            };
            let mut responses = Vec::new();
            if keep {
                connection.buffer(&stream);
            } else {
                responses = receive(&mut connection, &mut stream);
                assert_eq!(responses, b"", "cut at {cut}");
            }
            let mut asked = false;
            loop {
                responses.extend(receive(&mut connection, &mut rest));
                client.read_tls(&mut &responses[..]).unwrap();
                client.process_new_packets().unwrap();
                responses.clear();
                if asked {
                    break;
                }
                if !client.is_handshaking() {
                    client.writer().write_all(REQUEST).unwrap();
                    asked = true;
                }
                rest.clear();
                while client.wants_write() {
                    client.write_tls(&mut rest).unwrap();
                }
            }
            let mut said = [0; 12];
            client.reader().read_exact(&mut said).unwrap();
            assert_eq!(&said, b"203.0.113.7;", "cut at {cut}");
            assert_eq!(connection.pending_bytes(), 0);
        }
    }
}

//! A small HTTP client: enough to see that responses are right, and to fill a tracker.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

use crate::servers::ServerKind;
use crate::swarms::NUMWANT;
use crate::tls::client_config;
use crate::torrents::{CHECK_TORRENT, announce};

/// How long a response may take.
const RESPONSE_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Plain,
    Tls,
}

impl Transport {
    pub const ALL: [Transport; 2] = [Transport::Plain, Transport::Tls];
}

/// Whether a connection carries one request or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// Until the client closes.
    Keep,
    /// One request each; the server closes.
    Close,
}

impl KeepAlive {
    /// As the command lines of the load and of the floor have it.
    pub fn word(self) -> &'static str {
        if self == KeepAlive::Keep { "keep" } else { "close" }
    }

    /// The header lines of a request.
    pub fn headers(self) -> &'static str {
        if self == KeepAlive::Keep { "" } else { "Connection: close\r\n" }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub transport: Transport,
}

impl Endpoint {
    pub fn url(self, path: &str) -> String {
        let scheme = if self.transport == Transport::Plain { "http" } else { "https" };
        format!("{scheme}://{}{path}", self.address)
    }
}

pub struct BenchClient {
    stream: ClientStream,
    received: Vec<u8>,
}

enum ClientStream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

#[derive(Debug)]
pub struct BenchResponse {
    pub status: u16,
    pub body: Vec<u8>,
    /// Length of the head, the blank line included.
    pub head_bytes: usize,
}

/// Connects a socket from an address of this machine.
pub fn connect(source: Ipv4Addr, server: SocketAddr, wait: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddrV4::new(source, 0).into())?;
    socket.connect(&server.into())?;
    socket.set_read_timeout(Some(wait))?;
    socket.set_write_timeout(Some(wait))?;
    Ok(socket)
}

impl BenchClient {
    /// Connects from `source`, an address of this machine. A handshake takes place with the first
    /// request.
    pub fn connect(source: Ipv4Addr, server: Endpoint) -> Result<BenchClient> {
        let socket = connect(source, server.address, RESPONSE_WAIT)?;
        socket.set_tcp_nodelay(true)?;
        let stream = match server.transport {
            Transport::Plain => ClientStream::Plain(socket.into()),
            Transport::Tls => {
                let tls = ClientConnection::new(client_config()?, server.address.ip().into())?;
                ClientStream::Tls(Box::new(StreamOwned::new(tls, socket.into())))
            }
        };
        Ok(BenchClient { stream, received: Vec::new() })
    }

    /// The bare socket, for a connection that is only to stay open.
    pub fn into_socket(self) -> TcpStream {
        match self.stream {
            ClientStream::Plain(stream) => stream,
            ClientStream::Tls(stream) => stream.into_parts().1,
        }
    }

    pub fn send(&mut self, requests: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            ClientStream::Plain(stream) => stream.write_all(requests),
            ClientStream::Tls(stream) => stream.write_all(requests),
        }
    }

    /// Receives the next response.
    pub fn receive(&mut self) -> Result<BenchResponse> {
        let head_bytes = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(self.fill()?, "the connection ended within a head");
        };
        let head = &self.received[..head_bytes];
        let (status, length) = read_head(head).context("not an HTTP response")?;
        // Without a length the body lasts until the end of the connection.
        let end = loop {
            match length.map(|bytes| head_bytes + bytes) {
                Some(end) if self.received.len() >= end => break end,
                _ if self.fill()? => {}
                Some(_) => bail!("the connection ended within a body"),
                None => break self.received.len(),
            }
        };
        let body = self.received[head_bytes..end].to_vec();
        self.received.drain(..end);
        Ok(BenchResponse { status, body, head_bytes })
    }

    /// Receives the next response, which has to be a peer list.
    pub fn receive_peers(&mut self) -> Result<BenchResponse> {
        let response = self.receive()?;
        if response.is_peer_list() {
            return Ok(response);
        }
        let body = String::from_utf8_lossy(&response.body);
        bail!("not a peer list: {} {body}", response.status)
    }

    /// Whether the server ends the connection without another byte.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.received.is_empty() && !self.fill()?)
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let count = match &mut self.stream {
            ClientStream::Plain(stream) => stream.read(&mut buffer)?,
            ClientStream::Tls(stream) => stream.read(&mut buffer)?,
        };
        self.received.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }
}

impl BenchResponse {
    /// Whether this is a response to an announce, no failure. aquatic_http ends its body with a
    /// line end.
    fn is_peer_list(&self) -> bool {
        self.status == 200
            && self.body.starts_with(b"d")
            && self.body.trim_ascii_end().ends_with(b"e")
            && find(&self.body, b"5:peers").is_some()
            && find(&self.body, b"14:failure reason").is_none()
    }

    /// Whether the compact form (BEP 23) of this address is in the body.
    fn names(&self, peer: SocketAddrV4) -> bool {
        let mut compact = peer.ip().octets().to_vec();
        compact.extend(peer.port().to_be_bytes());
        find(&self.body, &compact).is_some()
    }
}

fn read_head(head: &[u8]) -> Option<(u16, Option<usize>)> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some((status, length))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Announces as two peers of one torrent: both responses have to be peer lists, a tracker's second
/// has to name the first peer, and the connection has to be kept or closed as was asked. Called
/// before and after a server is timed: a fast wrong response is worth nothing.
pub fn check(server: ServerKind, at: Endpoint, keep_alive: KeepAlive) -> Result<()> {
    let first = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6881);
    let mut client = BenchClient::connect(*first.ip(), at)?;
    ask(&mut client, first.port(), keep_alive)?;
    if keep_alive == KeepAlive::Close {
        match client.is_at_end() {
            Ok(is_at_end) => ensure!(is_at_end, "bytes after the response instead of the end"),
            // Over TLS some end without a close_notify. Ours must not.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && !server.is_ours() => {}
            Err(e) => return Err(e.into()),
        }
        client = BenchClient::connect(*first.ip(), at)?;
    }
    let response = ask(&mut client, first.port() + 1, keep_alive)?;
    let is_missing = server.is_tracker() && !response.names(first);
    ensure!(!is_missing, "a peer that announced is missing from the next response");
    Ok(())
}

/// A server's response to an announce of a torrent.
pub fn response(at: Endpoint, torrent: u64, keep_alive: KeepAlive) -> Result<BenchResponse> {
    let mut client = BenchClient::connect(Ipv4Addr::LOCALHOST, at)?;
    let query = format!("port=6881&left=201000&numwant={NUMWANT}");
    client.send(announce(torrent, 6881, &query, keep_alive.headers()).as_bytes())?;
    client.receive_peers()
}

fn ask(client: &mut BenchClient, port: u16, keep_alive: KeepAlive) -> Result<BenchResponse> {
    let query = format!("port={port}&left=201000&numwant=50");
    let request = announce(CHECK_TORRENT, port.into(), &query, keep_alive.headers());
    client.send(request.as_bytes())?;
    client.receive_peers()
}

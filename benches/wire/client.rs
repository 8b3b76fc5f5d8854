//! The least of an HTTP client: enough to see that answers are right, and to fill a tracker.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

use crate::endpoint::{Endpoint, Transport};
use crate::tls::client_configuration;

/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A connection to a server.
pub(crate) struct Client {
    stream: Stream,
    received: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// Bytes of the head, the blank line included.
    pub(crate) head_bytes: usize,
}

impl Client {
    /// Connects from `source`, an address of this machine.
    ///
    /// # Errors
    ///
    /// Those of the sockets, and of the certificate. The handshake takes place with the first
    /// request.
    pub(crate) fn connect(source: Ipv4Addr, server: Endpoint) -> io::Result<Client> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
        socket.connect(&server.address.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        let stream = match server.transport {
            Transport::Plain => Stream::Plain(stream),
            Transport::Tls => {
                let name = server.address.ip().into();
                let tls = ClientConnection::new(client_configuration()?, name);
                let tls = tls.map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(tls, stream)))
            }
        };
        Ok(Client { stream, received: Vec::new() })
    }

    /// The bare socket, for a connection that is only to stay open.
    pub(crate) fn into_socket(self) -> TcpStream {
        match self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.into_parts().1,
        }
    }

    /// Sends one or more requests.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(crate) fn send(&mut self, requests: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(requests),
            Stream::Tls(stream) => stream.write_all(requests),
        }
    }

    /// Receives the next answer.
    ///
    /// # Errors
    ///
    /// Those of the socket; `InvalidData` for what is not an answer, `UnexpectedEof` for part
    /// of one.
    pub(crate) fn receive(&mut self) -> io::Result<Answer> {
        let head_end = loop {
            match find(&self.received, b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if self.fill()? => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        };
        let (status, length) = read_head(&self.received[..head_end])
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))?;
        let end = loop {
            // Without a length the body lasts until the end of the connection.
            let end = length.map(|bytes| head_end + bytes);
            match end {
                Some(end) if self.received.len() >= end => break end,
                _ if self.fill()? => {}
                Some(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => break self.received.len(),
            }
        };
        let body = self.received[head_end..end].to_vec();
        self.received.drain(..end);
        Ok(Answer { status, body, head_bytes: head_end })
    }

    /// Whether the server ends the connection without another byte.
    ///
    /// # Errors
    ///
    /// Those of the socket, of which a time-out says that the server keeps it; over TLS
    /// `UnexpectedEof`, if the server did not say that it ends it.
    pub(crate) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.received.is_empty() && !self.fill()?)
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let count = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut buffer)?,
            Stream::Tls(stream) => stream.read(&mut buffer)?,
        };
        self.received.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }
}

impl Answer {
    /// Whether this looks like an answer to an announce and not like a failure: what wrk, which
    /// counts bytes and status codes, cannot see. A line's end after it is aquatic_http's.
    pub(crate) fn is_peer_list(&self) -> bool {
        self.status == 200
            && self.body.starts_with(b"d")
            && self.body.trim_ascii_end().ends_with(b"e")
            && find(&self.body, b"5:peers").is_some()
            && find(&self.body, b"14:failure reason").is_none()
    }

    /// Whether the compact form (BEP 23) of this address is in the body.
    pub(crate) fn names(&self, peer: SocketAddrV4) -> bool {
        let mut compact = peer.ip().octets().to_vec();
        compact.extend(peer.port().to_be_bytes());
        find(&self.body, &compact).is_some()
    }
}

/// Status and content length.
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

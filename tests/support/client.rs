//! An HTTP client for tests: it sends given bytes and parses responses strictly. Its connection is
//! TCP or anything that reads and writes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::tracker::TIMEOUT;

pub(crate) struct HttpClient<S = TcpStream> {
    pub(crate) stream: S,
    /// Bytes received that are not yet part of a response.
    unread: Vec<u8>,
}

/// A response, read to its last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    /// Names in lower case, and values.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl HttpResponse {
    /// The value of a header, if there is one; there must not be two.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice: {:?}", self.headers);
        value
    }

    /// Whether it has `Connection: close`.
    pub(crate) fn has_connection_close(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

impl HttpClient {
    pub(crate) fn connect(to: SocketAddr) -> HttpClient {
        HttpClient::of(TcpStream::connect_timeout(&to, TIMEOUT).unwrap())
    }

    /// Connects from an address of this machine, such as any of 127.0.0.0/8.
    pub(crate) fn connect_from(source: IpAddr, to: SocketAddr) -> HttpClient {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect_timeout(&to.into(), TIMEOUT).unwrap();
        HttpClient::of(socket.into())
    }

    /// Connects with so small a receive buffer that the tracker soon has to wait.
    pub(crate) fn connect_small_window(to: SocketAddr) -> HttpClient {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect_timeout(&to.into(), TIMEOUT).unwrap();
        HttpClient::of(socket.into())
    }

    fn of(stream: TcpStream) -> HttpClient {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        HttpClient::new(stream)
    }

    /// Writes `bytes` repeatedly until the socket has no room, beginning at offset `at`, which it
    /// advances. The connection must be non-blocking.
    pub(crate) fn write_until_full(&mut self, bytes: &[u8], at: &mut usize) -> io::Result<()> {
        loop {
            match self.stream.write(&bytes[*at % bytes.len()..]) {
                Ok(written) => *at += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Shuts down the sending side.
    pub(crate) fn shutdown_write(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        let socket = Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Asserts that nothing is received for this long, and that the connection stays open.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let got = self.read_more();
        self.stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let timed_out = got.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(timed_out, "{got:?}, not silence: {:?}", self.unread.escape_ascii().to_string());
    }
}

impl<S: Read + Write> HttpClient<S> {
    /// A client on an established connection.
    pub(crate) fn new(stream: S) -> HttpClient<S> {
        HttpClient { stream, unread: Vec::new() }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads a response with a Content-Length and its body.
    #[track_caller]
    pub(crate) fn read_response(&mut self) -> HttpResponse {
        let mut response = self.read_response_head();
        let length = content_length(&response).expect("a Content-Length");
        while self.unread.len() < length {
            assert!(self.read_more().unwrap() > 0, "ended in a body: {:?}", self.unread);
        }
        response.body = self.unread.drain(..length).collect();
        response
    }

    /// Reads the head of a response that has no body, as to a HEAD request.
    #[track_caller]
    pub(crate) fn read_response_head(&mut self) -> HttpResponse {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            let got = self.read_more().unwrap_or_else(|error| {
                panic!("no reply, but {error}; so far {:?}", self.unread.escape_ascii())
            });
            assert!(got > 0, "ended in a head: {:?}", self.unread.escape_ascii().to_string());
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        read_head(std::str::from_utf8(&head[..end]).unwrap())
    }

    /// Reads a response without a Content-Length to the end of the connection.
    #[track_caller]
    pub(crate) fn read_response_to_end(mut self) -> HttpResponse {
        let mut response = self.read_response_head();
        assert_eq!(content_length(&response), None);
        while self.read_more().unwrap() > 0 {}
        response.body = self.unread;
        response
    }

    /// Asserts that the tracker closes the connection without sending another byte.
    #[track_caller]
    pub(crate) fn expect_close(mut self) {
        self.expect_end();
    }

    /// The same, for a connection that is used further.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        if self.unread.is_empty() {
            let got = self.read_more();
            assert!(
                matches!(got, Ok(0)),
                "{got:?}, not an end: {:?}",
                self.unread.escape_ascii().to_string()
            );
        } else {
            panic!("more than a reply: {:?}", self.unread.escape_ascii().to_string());
        }
    }

    /// Reads until the tracker closes or resets the connection; returns all bytes.
    #[track_caller]
    pub(crate) fn read_all(mut self) -> Vec<u8> {
        loop {
            match self.read_more() {
                Ok(0) => return self.unread,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return self.unread,
                Err(error) => panic!("neither bytes nor an end, but {error}"),
            }
        }
    }

    /// Reads to an orderly end of the connection at this rate. The bytes remain to be parsed as
    /// responses.
    #[track_caller]
    pub(crate) fn read_slowly(&mut self, bytes_per_s: usize) {
        let start = Instant::now();
        let before = self.unread.len();
        let mut space = [0; 1024];
        loop {
            match self.stream.read(&mut space) {
                Ok(0) => return,
                Ok(got) => self.unread.extend_from_slice(&space[..got]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {} bytes", self.unread.len()),
            }
            let due = (self.unread.len() - before) as f64 / bytes_per_s as f64;
            thread::sleep(Duration::from_secs_f64(due).saturating_sub(start.elapsed()));
        }
    }

    /// Whether all received bytes were parsed as responses.
    pub(crate) fn all_read(&self) -> bool {
        self.unread.is_empty()
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut space = [0; 16 * 1024];
        let got = loop {
            match self.stream.read(&mut space) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.unread.extend_from_slice(&space[..got]);
        Ok(got)
    }
}

fn content_length(response: &HttpResponse) -> Option<usize> {
    response.header("content-length").map(|length| length.parse().unwrap())
}

#[track_caller]
fn read_head(head: &str) -> HttpResponse {
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap();
    let code = status.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{status:?}"));
    let (code, reason) = code.split_once(' ').unwrap();
    assert!(!reason.is_empty(), "{status:?}");
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
        assert!(!line.contains(['\r', '\n']), "{line:?}");
        (name.to_ascii_lowercase(), value.to_owned())
    });
    HttpResponse { status: code.parse().unwrap(), headers: headers.collect(), body: Vec::new() }
}

/// A GET request for `target`.
pub(crate) fn get_request(target: &str) -> Vec<u8> {
    request("GET", target, "HTTP/1.1", "")
}

/// A request with these header lines besides `Host`, each with its line end.
pub(crate) fn request(method: &str, target: &str, version: &str, headers: &str) -> Vec<u8> {
    format!("{method} {target} {version}\r\nHost: tracker\r\n{headers}\r\n").into_bytes()
}

/// Sends a request on a new connection and reads the response.
#[track_caller]
pub(crate) fn fetch(to: SocketAddr, request: impl AsRef<[u8]>) -> HttpResponse {
    let mut client = HttpClient::connect(to);
    client.send(request);
    client.read_response()
}

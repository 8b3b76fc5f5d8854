//! What a connection asks of the server.

use std::net::IpAddr;

use annulus_parser::{Error, Head};

use crate::rate_limit::ConnectionPermit;

/// What happens to a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    KeepAlive,
    Close,
    /// The response is too long to be written at once: its rest is streamed, then it is closed.
    Stream,
}

/// A response that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// In bytes.
    pub len: usize,
    pub disposition: Disposition,
}

/// Answers requests.
pub trait Handler {
    /// The most bytes that one response takes.
    fn response_bytes_max(&self) -> usize;

    /// Answers a request of the client at `peer` into `out`, which has room for
    /// [`Handler::response_bytes_max`]. `None` is a proxy at a Unix socket that has not named its
    /// client by the PROXY protocol. `tls`: the request came by HTTPS.
    fn answer(
        &mut self,
        peer: Option<IpAddr>,
        tls: bool,
        head: &Head<'_>,
        out: &mut [u8],
    ) -> Response;

    /// Answers `received`, which cannot be served; the connection closes afterwards.
    fn refuse(
        &mut self,
        peer: Option<IpAddr>,
        error: RequestError,
        received: &[u8],
        out: &mut [u8],
    ) -> usize;

    /// Whether a connection closes with the response to the last whole request received so far.
    fn is_closing(&self) -> bool {
        false
    }

    /// Charges a connection to `client`, whose address has just become known; `None` if it is over
    /// its limits. `tls`: a handshake follows.
    fn admit(&mut self, _client: IpAddr, _tls: bool) -> Option<ConnectionPermit> {
        Some(ConnectionPermit::default())
    }
}

/// Why the bytes of a connection cannot be served, so that it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// According to the parser.
    Malformed(Error),
    /// The client closed its side within a request.
    Truncated,
    /// A request was not complete in time.
    Timeout,
    /// A plain connection begins with TLS.
    UnexpectedTls,
    /// A connection to a TLS listener does not begin with TLS.
    NotTls,
    /// A connection that needs a PROXY header does not begin with one, or comes from an address
    /// that is no trusted proxy.
    MissingProxyHeader,
}

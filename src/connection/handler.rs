//! What a connection asks of whoever answers its requests.

use std::net::IpAddr;

use annulus_parser::{Error, Head};

use crate::rate_limit::ConnectionPermit;

/// What a connection is for after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Another request may come.
    KeepAlive,
    /// Nothing: it is closed.
    Close,
    /// The rest of this reply, which is too long to be written at once.
    Stream,
}

/// A reply that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its bytes.
    pub len: usize,
    /// What follows it.
    pub after: Disposition,
}

/// Who answers requests.
pub trait Handler {
    /// The most bytes that one reply takes.
    fn reply_bytes_max(&self) -> usize;

    /// Answers a request of the client at `peer` into `out`, at least
    /// [`Handler::reply_bytes_max`] long. `None` is a proxy that came by a Unix socket, and has not
    /// named its client ahead of the connection.
    fn answer(&mut self, peer: Option<IpAddr>, head: &Head<'_>, out: &mut [u8]) -> Response;

    /// Answers `said` of `peer`, which is no request that can be served; the connection ends with
    /// it.
    fn refuse(
        &mut self,
        peer: Option<IpAddr>,
        mistake: RequestError,
        said: &[u8],
        out: &mut [u8],
    ) -> usize;

    /// Whether a connection is to end with the answer to the last of its whole requests that are
    /// there.
    fn closes(&self) -> bool {
        false
    }

    /// Lets in a connection whose client has just become known, before a byte of his is looked
    /// at, or does not. `secured`: a TLS handshake is to come.
    fn admit(&mut self, _client: IpAddr, _secured: bool) -> Option<ConnectionPermit> {
        Some(ConnectionPermit::default())
    }
}

/// What was wrong with the bytes of a connection, so that it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The parser's word.
    Malformed(Error),
    /// The client's side ended within a request.
    Truncated,
    /// A request was not completed in time.
    Timeout,
    /// A connection that is not secured begins with TLS.
    UnexpectedTls,
    /// A secured connection does not begin with TLS.
    NotTls,
    /// A connection that a trusted proxy is to introduce does not begin with its header.
    MissingProxyHeader,
}

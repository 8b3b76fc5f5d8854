//! One HTTP or HTTPS connection as a state machine over bytes and seconds, without I/O.
//!
//! Received bytes go in; responses come out in the order of the requests, with the [`Action`] that
//! is due next. A request that arrives whole is parsed in the receive buffer; only an unfinished
//! one is copied. With TLS, a [`TlsSession`] decrypts what arrives and encrypts the responses. A
//! header of the PROXY protocol, where one is expected, is removed before either.

mod handler;
mod tls;

use std::mem;
use std::net::IpAddr;

use annulus_parser::{Bounds, Parsed, Proxied, parse_head, parse_proxy, proxy_destination};

pub use handler::{Disposition, Handler, RequestError, Response};
pub use tls::TlsBuffers;

use crate::buffered::BufferedBytes;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, PROXY_HEADER_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use crate::rate_limit::ConnectionPermit;
use crate::tls::{FINISHED_BYTES_MAX, HandshakeState, TlsSession, encrypted_bytes_max};

/// The bounds of a request's head.
pub const BOUNDS: Bounds = Bounds {
    request_line_bytes_max: REQUEST_LINE_BYTES_MAX,
    head_bytes_max: HEAD_BYTES_MAX,
    headers_max: HEADERS_MAX,
};

/// How long a client may take, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to the end of a TLS handshake.
    pub handshake_s: u32,
    /// From accept, the end of a handshake, or the first byte of a later request, to the end
    /// of its head.
    pub header_s: u32,
    /// Between two requests of a connection that is kept alive.
    pub idle_s: u32,
}

/// What to do with a connection after its responses are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Receive,
    /// Send what is written, then call [`Connection::receive`] without bytes: more requests wait.
    Resume,
    Close {
        /// The client may have sent more than was read: a plain close would send RST, which can
        /// destroy the last response.
        unread: bool,
    },
    /// Send what is written, then [`Connection::stream_chunk`] by chunk, then close.
    Stream,
    /// Close with RST: the client is over its limits.
    Reset,
}

/// What came of some received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Progress {
    /// Bytes of responses that were written.
    pub written: usize,
    pub next: Action,
}

/// What a connection works with while it processes bytes.
pub struct Turn<'a, H> {
    pub handler: &'a mut H,
    pub now_s: u32,
    pub timeouts: &'a Timeouts,
    /// Where responses go. It has room for [`Handler::response_bytes_max`], and with TLS for
    /// [`encrypted_bytes_max`] of that.
    pub out: &'a mut [u8],
}

impl<H> Turn<'_, H> {
    fn with_out<'b>(&'b mut self, out: &'b mut [u8]) -> Turn<'b, H> {
        Turn { handler: self.handler, now_s: self.now_s, timeouts: self.timeouts, out }
    }
}

/// The second at which `after_s` whole seconds have certainly passed: part of the present second
/// is over already.
pub fn deadline_after(now_s: u32, after_s: u32) -> u32 {
    now_s.saturating_add(after_s).saturating_add(1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyHeader {
    /// It was received, or none is expected.
    Done,
    Expected,
    /// One is required, but the connection comes from an address that is not a trusted proxy.
    Denied,
}

/// One client's connection.
pub struct Connection {
    session: Option<Box<TlsSession>>,
    /// Whether there is a session, which is taken out while it processes bytes.
    tls: bool,
    /// Received but not answered: an incomplete PROXY header with all that follows it, an
    /// unfinished request, or requests that wait for room.
    pending: BufferedBytes,
    /// Leading bytes of `pending` that the parser has seen and found unfinished.
    seen: u32,
    deadline_s: u32,
    /// The client: the address that connected, or the one that a proxy has named. A Unix socket
    /// has none.
    peer: Option<IpAddr>,
    proxy_header: ProxyHeader,
    permit: ConnectionPermit,
    /// Something was answered. Until then the header timeout runs from accept, or from the end of
    /// the handshake.
    answered: bool,
    /// Something was received; without TLS only.
    started: bool,
}

impl Connection {
    /// A connection that was just accepted from `peer` or, without an address, on a Unix socket.
    /// With a `session` it speaks TLS.
    pub fn new(
        peer: Option<IpAddr>,
        session: Option<TlsSession>,
        now_s: u32,
        timeouts: &Timeouts,
    ) -> Connection {
        let time_s = if session.is_some() { timeouts.handshake_s } else { timeouts.header_s };
        Connection {
            tls: session.is_some(),
            session: session.map(Box::new),
            pending: BufferedBytes::default(),
            seen: 0,
            deadline_s: deadline_after(now_s, time_s),
            peer: peer.map(|peer| peer.to_canonical()),
            proxy_header: ProxyHeader::Done,
            permit: ConnectionPermit::default(),
            answered: false,
            started: false,
        }
    }

    /// Expects a header of the PROXY protocol first. If the peer is not a `trusted` proxy, the
    /// connection is refused at its first byte.
    pub fn proxy_protocol(mut self, trusted: bool) -> Connection {
        self.proxy_header = if trusted { ProxyHeader::Expected } else { ProxyHeader::Denied };
        self
    }

    pub fn with_permit(self, permit: ConnectionPermit) -> Connection {
        Connection { permit, ..self }
    }

    /// The permit, to be released when the connection is closed.
    pub fn into_permit(self) -> ConnectionPermit {
        self.permit
    }

    /// Whether the TLS handshake has not begun.
    pub fn is_before_hello(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_before_hello())
    }

    /// Whether `bytes`, behind those that are buffered, may contain a costly step of a handshake.
    pub fn may_be_costly(&self, bytes: &[u8]) -> bool {
        let Some(session) = &self.session else { return false };
        // A ClientHello may follow a PROXY header.
        self.proxy_header != ProxyHeader::Done || session.may_be_costly(bytes)
    }

    /// The state of the TLS handshake; `None` without TLS.
    pub fn handshake(&self) -> Option<HandshakeState> {
        self.session.as_ref().map(|session| session.handshake())
    }

    /// Fewer bytes than this contain nothing that needs a response.
    pub fn bytes_awaited(&self) -> u32 {
        match &self.session {
            Some(session) if session.awaits_finished() => FINISHED_BYTES_MAX + 1,
            _ => 1,
        }
    }

    pub fn has_answered(&self) -> bool {
        self.answered
    }

    /// The client, as far as it is known.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    pub fn deadline_s(&self) -> u32 {
        self.deadline_s
    }

    /// Bytes received and not yet answered.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len() + self.session.as_ref().map_or(0, |session| session.unfinished_bytes())
    }

    /// Bytes that are allocated for [`Connection::pending_bytes`].
    pub fn allocated_bytes(&self) -> usize {
        let session = self.session.as_ref().map_or(0, |session| session.allocated_bytes());
        self.pending.allocated() + session
    }

    /// Frees what is pending: nothing more is received or answered.
    pub fn forget_pending(&mut self) {
        self.pending = BufferedBytes::default();
        self.seen = 0;
        if let Some(session) = &mut self.session {
            session.forget_pending();
        }
    }

    /// Buffers bytes until earlier responses are sent.
    pub fn buffer(&mut self, bytes: &[u8]) {
        match &mut self.session {
            Some(session) if self.proxy_header == ProxyHeader::Done => session.buffer(bytes),
            _ => self.pending.extend(bytes),
        }
    }

    /// Answers the requests that `bytes` and the buffered ones before them complete. With TLS,
    /// `bytes` are overwritten.
    pub fn receive(
        &mut self,
        bytes: &mut [u8],
        tls_buffers: &mut TlsBuffers,
        turn: &mut Turn<'_, impl Handler>,
    ) -> Progress {
        if self.proxy_header != ProxyHeader::Done {
            return self.read_proxy_header(bytes, tls_buffers, turn);
        }
        let Some(mut session) = self.session.take() else {
            if !mem::replace(&mut self.started, true) && is_tls(bytes) {
                // A TLS library shows nothing of this response, but a packet capture does.
                return self.refuse(RequestError::UnexpectedTls, bytes, turn);
            }
            return self.process(bytes, false, turn);
        };
        let mut progress = self.process_records(&mut session, bytes, tls_buffers, turn);
        while progress.next == Action::Receive && session.holds_records() {
            let (handler, out) = (&mut *turn.handler, &mut turn.out[progress.written..]);
            if out.len() < encrypted_bytes_max(handler.response_bytes_max()) {
                progress.next = Action::Resume;
                break;
            }
            let mut rest = Turn { handler, out, ..*turn };
            let more = self.process_records(&mut session, &mut [], tls_buffers, &mut rest);
            progress = Progress { written: progress.written + more.written, next: more.next };
        }
        self.session = Some(session);
        progress
    }

    /// Reads a PROXY header from the buffered bytes and `bytes`, then what follows it.
    fn read_proxy_header<H: Handler>(
        &mut self,
        bytes: &[u8],
        tls_buffers: &mut TlsBuffers,
        turn: &mut Turn<'_, H>,
    ) -> Progress {
        self.pending.extend(bytes);
        let header = match self.proxy_header {
            ProxyHeader::Denied => None,
            _ => parse_proxy(self.pending.as_slice(), PROXY_HEADER_BYTES_MAX).ok(),
        };
        let (source, consumed) = match header {
            Some(Proxied::Complete { source, consumed }) => (source, consumed),
            Some(Proxied::Partial) => return Progress { written: 0, next: Action::Receive },
            None => {
                let received = mem::take(&mut self.pending);
                let error = RequestError::MissingProxyHeader;
                let refused = self.refuse(error, received.as_slice(), turn);
                // The client speaks TLS; a plaintext error would be unreadable.
                let written = if self.session.is_some() { 0 } else { refused.written };
                return Progress { written, ..refused };
            }
        };
        self.proxy_header = ProxyHeader::Done;
        self.peer = source.map(|source| source.to_canonical()).or(self.peer);
        // A proxy at a Unix socket that sends its own request is not limited.
        let permit = self.peer.map_or(Some(ConnectionPermit::default()), |peer| {
            turn.handler.admit(peer, self.session.is_some())
        });
        match permit {
            Some(permit) => self.permit = permit,
            None => return Progress { written: 0, next: Action::Reset },
        }
        if let Some(session) = &mut self.session
            && let Some(address) =
                proxy_destination(self.pending.as_slice(), PROXY_HEADER_BYTES_MAX)
        {
            session.connected_to(address);
        }
        let mut rest = mem::take(&mut self.pending);
        rest.consume(consumed.get());
        if rest.is_empty() {
            return Progress { written: 0, next: Action::Receive };
        }
        self.receive(rest.as_mut_slice(), tls_buffers, turn)
    }

    /// Answers the requests that plaintext completes. `more`: further requests may follow it.
    fn process<H: Handler>(
        &mut self,
        bytes: &[u8],
        more: bool,
        turn: &mut Turn<'_, H>,
    ) -> Progress {
        if self.pending.is_empty() {
            let batch = self.process_requests(bytes, 0, more, turn);
            let rest = &bytes[batch.consumed..];
            if !rest.is_empty() {
                self.buffer(rest);
            }
            return self.finish_batch(&batch, false, turn);
        }
        self.pending.extend(bytes);
        let mut pending = mem::take(&mut self.pending);
        let batch = self.process_requests(pending.as_slice(), self.seen as usize, more, turn);
        pending.consume(batch.consumed);
        self.pending = pending;
        let was_unfinished = self.seen > 0 && batch.consumed == 0;
        self.finish_batch(&batch, was_unfinished, turn)
    }

    /// Answers the whole requests in `input`, of which the parser has seen `seen` bytes.
    fn process_requests<H: Handler>(
        &self,
        input: &[u8],
        mut seen: usize,
        more: bool,
        turn: &mut Turn<'_, H>,
    ) -> Batch {
        let Turn { handler, out, .. } = turn;
        let mut batch = Batch { consumed: 0, written: 0, seen: 0, next: Action::Receive };
        while batch.consumed < input.len() {
            if out.len() - batch.written < handler.response_bytes_max() {
                batch.next = Action::Resume;
                return batch;
            }
            let rest = &input[batch.consumed..];
            let out = &mut out[batch.written..];
            match parse_head(rest, seen, &BOUNDS) {
                Ok(Parsed::Complete { mut head, consumed }) => {
                    let asks_for_more = head.keep_alive;
                    if handler.is_closing() {
                        head.keep_alive &= more || begins_with_request(&rest[consumed.get()..]);
                    }
                    let response = handler.answer(self.peer, self.tls, &head, out);
                    batch.consumed += consumed.get();
                    batch.written += response.len;
                    if response.disposition != Disposition::KeepAlive {
                        // A client that did not ask for the close may have sent more already.
                        let unread = batch.consumed < input.len() || asks_for_more;
                        batch.consumed = input.len();
                        batch.next = match response.disposition {
                            Disposition::Stream => Action::Stream,
                            _ => Action::Close { unread },
                        };
                        return batch;
                    }
                }
                Ok(Parsed::Partial) => {
                    // Line ends and NULs between requests do not start one.
                    if rest.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                        batch.consumed = input.len();
                    } else {
                        batch.seen = rest.len();
                    }
                    return batch;
                }
                Err(error) => {
                    let error = RequestError::Malformed(error);
                    batch.written += handler.refuse(self.peer, error, rest, out);
                    batch.consumed = input.len();
                    batch.next = Action::Close { unread: true };
                    return batch;
                }
            }
            seen = 0;
        }
        batch
    }

    /// Records how far the parser has come, and sets the client's next deadline.
    fn finish_batch<H>(
        &mut self,
        batch: &Batch,
        was_unfinished: bool,
        turn: &Turn<'_, H>,
    ) -> Progress {
        self.seen = u32::try_from(batch.seen).unwrap_or(u32::MAX);
        self.answered |= batch.written > 0;
        if batch.seen == 0 {
            if batch.written > 0 {
                self.deadline_s = deadline_after(turn.now_s, turn.timeouts.idle_s);
            }
        } else if !was_unfinished && self.answered {
            // A head's time runs from its first byte; later ones do not prolong it.
            self.deadline_s = deadline_after(turn.now_s, turn.timeouts.header_s);
        }
        Progress { written: batch.written, next: batch.next }
    }

    /// Answers what is no valid request, and closes.
    fn refuse<H: Handler>(
        &self,
        error: RequestError,
        received: &[u8],
        turn: &mut Turn<'_, H>,
    ) -> Progress {
        let written = turn.handler.refuse(self.peer, error, received, turn.out);
        Progress { written, next: Action::Close { unread: true } }
    }

    /// Has `write` fill a part of a long response: how many bytes, and whether more follow.
    pub fn stream_chunk(
        &mut self,
        tls_buffers: &mut TlsBuffers,
        out: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> (usize, bool),
    ) -> (usize, bool) {
        match &mut self.session {
            Some(session) => tls_buffers.stream_chunk(session, out, write),
            None => write(out),
        }
    }

    /// Ends the connection from our side: TLS sends close_notify, plain HTTP sends nothing.
    pub fn close_notify(&mut self, out: &mut [u8]) -> usize {
        self.session.as_mut().map_or(0, |session| session.encrypt(&[], true, out))
    }

    /// Ends a connection whose client sends no more ([`RequestError::Truncated`]) or is out of
    /// time ([`RequestError::Timeout`]), with an error for an unfinished request.
    pub fn abort(
        &mut self,
        error: RequestError,
        handler: &mut impl Handler,
        tls_buffers: &mut TlsBuffers,
        out: &mut [u8],
    ) -> usize {
        let unfinished = mem::take(&mut self.pending);
        if unfinished.is_empty() {
            return self.close_notify(out);
        }
        let peer = self.peer;
        let write =
            |out: &mut [u8]| (handler.refuse(peer, error, unfinished.as_slice(), out), false);
        self.stream_chunk(tls_buffers, out, write).0
    }
}

/// Whether received bytes are those of a TLS client: a handshake or an alert (RFC 8446 section
/// 5.1), or a hello of SSL 2.0, whose first bit is set (RFC 5246 appendix E.2). No request begins
/// with such a byte, and the first decides alone, so that the response does not depend on how bytes
/// arrive.
fn is_tls(received: &[u8]) -> bool {
    matches!(received, [21 | 22 | 128..=255, ..])
}

/// Whether a whole request is there, or an error that is answered like one.
fn begins_with_request(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !matches!(parse_head(bytes, 0, &BOUNDS), Ok(Parsed::Partial))
}

/// How far the requests in some bytes were answered.
struct Batch {
    consumed: usize,
    written: usize,
    seen: usize,
    next: Action,
}

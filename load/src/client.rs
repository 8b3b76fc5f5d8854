//! One connection to the tracker as a state machine without I/O.
//!
//! Requests and received bytes go in; bytes to send and validated responses come out, in the
//! order of the requests. Time is in nanoseconds and given by the caller.

use std::collections::VecDeque;
use std::mem;

use crate::failure::{Failure, FailureKind, Warning, WarningCounts};
use crate::http::{BodyFraming, ResponseHead, join_chunks, parse_head};
use crate::request::RequestKind;
use crate::tls::{TlsClientSession, TlsHandshake};

/// Bytes of a body at most.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that TLS adds to a request at most.
pub const TLS_OVERHEAD_BYTES_MAX: usize = 128;

/// A request without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRequest {
    pub kind: RequestKind,
    /// When it should have been sent.
    pub due_ns: u64,
    /// When it was sent, if it was.
    pub sent_ns: u64,
}

/// Validates responses, and counts the outcome of each request.
pub trait Validator {
    /// A response with status 200 and this body arrived.
    fn on_response(&mut self, request: &PendingRequest, body: &[u8], warnings: WarningCounts);
    /// There is no response with status 200, and none will come.
    fn on_failure(&mut self, request: &PendingRequest, failure: Failure);
    /// A failure that concerns no request.
    fn on_other_failure(&mut self, failure: Failure);
    /// A warning that concerns no body.
    fn on_warning(&mut self, warning: Warning);
    fn on_handshake(&mut self, handshake: TlsHandshake);
}

/// What is to be done with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionStatus {
    Open,
    /// It is to be closed. The server never read the pending requests; they may be sent again.
    Ended,
}

/// A connection, or a sequence of connections one after the other.
#[derive(Default)]
pub struct LoadClient {
    session: Option<Box<TlsClientSession>>,
    /// Whether the handshake is done, if there is a session.
    handshaken: bool,
    /// Requests without a response; the first `in_flight` were sent on this connection.
    pub(crate) pending: VecDeque<PendingRequest>,
    pub(crate) in_flight: usize,
    /// Received bytes of an incomplete response.
    received: Vec<u8>,
    /// The body of a chunked response.
    body: Vec<u8>,
    /// TLS records to send.
    records: Vec<u8>,
    /// Requests sent on this connection.
    pub(crate) sent: u64,
    /// Whether the last of them had "Connection: close".
    closing: bool,
    /// Whether there was a response on this connection.
    responded: bool,
}

impl LoadClient {
    /// Resets the state for a new connection, and begins the handshake if it has a session.
    pub fn begin(&mut self, session: Option<TlsClientSession>) -> Result<(), Failure> {
        *self = LoadClient {
            session: session.map(Box::new),
            pending: mem::take(&mut self.pending),
            received: mem::take(&mut self.received),
            body: mem::take(&mut self.body),
            records: mem::take(&mut self.records),
            ..LoadClient::default()
        };
        self.received.clear();
        self.records.clear();
        match &mut self.session {
            Some(session) => session.open(&[], &mut self.received, &mut self.records),
            None => Ok(()),
        }
    }

    pub fn add_request(&mut self, kind: RequestKind, due_ns: u64) {
        self.pending.push_back(PendingRequest { kind, due_ns, sent_ns: 0 });
    }

    /// Requests without a response, sent or not.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Writes what is to be sent now, with at most `requests_max` requests of this connection in
    /// all. `write` renders a request, the last or not, into a buffer as long as `scratch`; `out`
    /// has room for one, encrypted, after a TLS flight. Returns how many bytes were written to
    /// `out`, and how many requests.
    #[expect(clippy::too_many_arguments, reason = "what a struct would hold has one owner each")]
    pub fn fill(
        &mut self,
        out: &mut [u8],
        scratch: &mut [u8],
        requests_max: u64,
        now_ns: u64,
        mut write: impl FnMut(&mut [u8], RequestKind, bool) -> usize,
    ) -> Result<(usize, u64), Failure> {
        let (mut written, mut requests) = (0, 0);
        while self.may_send(requests_max)
            && out.len() - written >= self.records.len() + scratch.len() + TLS_OVERHEAD_BYTES_MAX
        {
            let request = &mut self.pending[self.in_flight];
            request.sent_ns = now_ns;
            self.in_flight += 1;
            self.sent += 1;
            requests += 1;
            self.closing = self.sent == requests_max;
            match &mut self.session {
                Some(session) => {
                    let len = write(scratch, request.kind, self.closing);
                    session.seal(&scratch[..len], &mut self.records)?;
                }
                None => written += write(&mut out[written..], request.kind, self.closing),
            }
        }
        let len = self.records.len().min(out.len() - written);
        out[written..written + len].copy_from_slice(&self.records[..len]);
        self.records.drain(..len);
        Ok((written + len, requests))
    }

    /// Whether [`LoadClient::fill`] would write anything.
    pub fn has_output(&self, requests_max: u64) -> bool {
        !self.records.is_empty() || self.may_send(requests_max)
    }

    fn may_send(&self, requests_max: u64) -> bool {
        !self.is_handshaking() && self.in_flight < self.pending.len() && self.sent < requests_max
    }

    /// Processes received bytes. When the connection does not stay open, the caller closes it and
    /// calls [`LoadClient::requeue`] or, after an error, [`LoadClient::fail`].
    pub fn receive(
        &mut self,
        bytes: &[u8],
        validator: &mut impl Validator,
    ) -> Result<ConnectionStatus, Failure> {
        let Some(session) = &mut self.session else {
            if !self.received.is_empty() {
                self.received.extend_from_slice(bytes);
                return self.process_received(validator);
            }
            let (used, status) = self.process(bytes, validator)?;
            self.received.extend_from_slice(&bytes[used..]);
            return Ok(status);
        };
        let opened = session.open(bytes, &mut self.received, &mut self.records);
        let peer_closed = session.peer_closed();
        if !self.handshaken
            && let Some(handshake) = session.handshake()
        {
            self.handshaken = true;
            validator.on_handshake(handshake);
        }
        let status = self.process_received(validator)?;
        opened?;
        match status {
            ConnectionStatus::Open if peer_closed => self.end(validator),
            status => Ok(status),
        }
    }

    /// Processes the end of the server's side, which completes a body without a length.
    /// Fails if it ended within a response or in place of one.
    pub fn end(&mut self, validator: &mut impl Validator) -> Result<ConnectionStatus, Failure> {
        if self.is_handshaking() {
            return Err(Failure::new(FailureKind::Tls, "the connection ended in the handshake"));
        }
        let received = mem::take(&mut self.received);
        if let Ok(Some(head)) = parse_head(&received)
            && self.in_flight > 0
            && head.framing == BodyFraming::UntilEnd
        {
            self.deliver(&head, &received[head.bytes..], validator);
            return Ok(ConnectionStatus::Ended);
        }
        // A server may close between two responses; requests that it did not read are sent again
        // (RFC 9112 section 9.3.1).
        if !received.is_empty() || (self.in_flight > 0 && !self.is_between_responses()) {
            return Err(FailureKind::EndedEarly.into());
        }
        if !self.closing {
            validator.on_warning(Warning::ClosedKept);
        }
        Ok(ConnectionStatus::Ended)
    }

    /// Whether a response was complete and nothing of the next one arrived, which is not the last
    /// of the connection.
    pub fn is_between_responses(&self) -> bool {
        self.responded && !self.closing && self.received.is_empty()
    }

    /// All pending requests will be sent on the next connection.
    pub fn requeue(&mut self) {
        self.in_flight = 0;
    }

    pub fn is_handshaking(&self) -> bool {
        self.session.is_some() && !self.handshaken
    }

    /// Fails the requests in flight, or all pending ones if none is in flight.
    pub fn fail(&mut self, failure: &Failure, validator: &mut impl Validator) {
        let failed = if self.in_flight > 0 { self.in_flight } else { self.pending.len() };
        if failed == 0 {
            validator.on_other_failure(failure.clone());
        }
        for request in self.pending.drain(..failed) {
            validator.on_failure(&request, failure.clone());
        }
        self.in_flight = 0;
    }

    fn process_received(
        &mut self,
        validator: &mut impl Validator,
    ) -> Result<ConnectionStatus, Failure> {
        let mut received = mem::take(&mut self.received);
        let (used, status) = self.process(&received, validator)?;
        received.drain(..used);
        self.received = received;
        Ok(status)
    }

    /// Delivers the complete responses in `bytes`. Returns how many bytes they take.
    fn process(
        &mut self,
        bytes: &[u8],
        validator: &mut impl Validator,
    ) -> Result<(usize, ConnectionStatus), Failure> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            if self.in_flight == 0 {
                return Err(FailureKind::Surplus.into());
            }
            let Some(head) = parse_head(rest)? else { break };
            if head.is_interim() {
                used += head.bytes;
                continue;
            }
            let Some(length) = self.deliver_body(&head, &rest[head.bytes..], validator)? else {
                break;
            };
            used += head.bytes + length;
            if !head.keep_alive {
                if used < bytes.len() {
                    validator.on_other_failure(FailureKind::Surplus.into());
                }
                return Ok((bytes.len(), ConnectionStatus::Ended));
            }
        }
        Ok((used, ConnectionStatus::Open))
    }

    /// Delivers the response whose body begins with `bytes`. Returns the length of the body, or
    /// `None` if it is incomplete.
    fn deliver_body(
        &mut self,
        head: &ResponseHead,
        bytes: &[u8],
        validator: &mut impl Validator,
    ) -> Result<Option<usize>, Failure> {
        match head.framing {
            BodyFraming::Length(length) if length > BODY_BYTES_MAX => {
                Err(FailureKind::TooLong.into())
            }
            BodyFraming::Length(length) => {
                let Some(body) = bytes.get(..length) else { return Ok(None) };
                self.deliver(head, body, validator);
                Ok(Some(length))
            }
            BodyFraming::Chunked => {
                let mut body = mem::take(&mut self.body);
                let length = join_chunks(bytes, &mut body, BODY_BYTES_MAX)?;
                if length.is_some() {
                    self.deliver(head, &body, validator);
                }
                self.body = body;
                Ok(length)
            }
            BodyFraming::UntilEnd if bytes.len() > BODY_BYTES_MAX => {
                Err(FailureKind::TooLong.into())
            }
            BodyFraming::UntilEnd => Ok(None),
        }
    }

    /// Passes a response on as that of the oldest request.
    fn deliver(&mut self, head: &ResponseHead, body: &[u8], validator: &mut impl Validator) {
        let Some(request) = self.pending.pop_front() else { return };
        self.in_flight -= 1;
        self.responded = true;
        if !head.keep_alive && !self.closing {
            validator.on_warning(Warning::ClosedKept);
        }
        if head.status != 200 {
            return validator.on_failure(&request, Failure::new(FailureKind::Status, head.status));
        }
        if head.encoded {
            return validator.on_failure(&request, FailureKind::Compressed.into());
        }
        let mut warnings = WarningCounts::default();
        match head.framing {
            BodyFraming::Chunked => warnings.count(Warning::Chunked),
            BodyFraming::UntilEnd => warnings.count(Warning::NoLength),
            BodyFraming::Length(_) => {}
        }
        validator.on_response(&request, body, warnings);
    }
}

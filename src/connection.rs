//! One connection as a state machine over bytes and time, without I/O.
//!
//! Bytes that arrived go in, the replies to them come out in order, with the word on what
//! to do next. A request that arrives whole is parsed where it lies; only what is left of
//! an unfinished one is kept. A secured connection differs in a [`Session`] around all that:
//! it opens what arrives and seals what is answered. Where a proxy is to say who the client is,
//! its header is taken off before all that. Time is a number of seconds given by the
//! caller.

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
use crate::tls::{FINISHED_BYTES_MAX, Handshake, Session, plain_bytes_max, sealed_bytes_max};

/// Whether a client speaks TLS who begins so: a handshake or an alert (RFC 8446 section 5.1), or a
/// hello as SSL 2.0 has it (RFC 5246 appendix E.2). None of these bytes can begin a request.
fn speaks_tls(begun: &[u8]) -> bool {
    matches!(begun, [21 | 22, ..] | [128..=255, _, 1, ..])
}

const BOUNDS: Bounds = Bounds {
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

/// What to do with a connection after its replies are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Receive more.
    Receive,
    /// Send what is written, then call [`Connection::resume`]: more requests are waiting.
    Resume,
    /// Close. If `unread`, the client may have sent more than was read, and a plain close
    /// would reset the last reply away.
    Close {
        /// Whether bytes may follow.
        unread: bool,
    },
    /// Send what is written, then the rest of the reply as the server provides it, then
    /// close.
    Stream,
    /// Close with RST: the client is not to be let in.
    Reset,
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Progress {
    /// Bytes of replies that were written.
    pub written: usize,
    /// What to do when they are sent.
    pub next: Action,
}

/// The second at which `after_s` whole seconds have passed for certain: the present one has
/// begun already.
pub fn deadline_after(now_s: u32, after_s: u32) -> u32 {
    now_s.saturating_add(after_s).saturating_add(1)
}

/// Whose bytes come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyHeader {
    /// The client's.
    Done,
    /// A proxy's: a header of the PROXY protocol.
    Expected,
    /// Those of somebody who may not introduce clients and has to.
    Denied,
}

/// One client's connection.
pub struct Connection {
    session: Option<Box<Session>>,
    /// Received and not yet answered: a proxy's unfinished header with all that is behind it, an
    /// unfinished request, or some that wait.
    pending: BufferedBytes,
    /// Leading bytes of `pending` that the parser has seen and found unfinished.
    seen: u32,
    deadline_s: u32,
    /// The client: who connected, or whom a proxy has named. A Unix socket has no address.
    peer: Option<IpAddr>,
    speaker: ProxyHeader,
    /// What it counts for, once its client is known.
    ticket: ConnectionPermit,
    /// Nothing was answered yet: the time of the first head runs from accept, or from the end
    /// of the handshake.
    first: bool,
    /// Something was received, on a connection that is not secured.
    begun: bool,
}

impl Connection {
    /// A connection that was accepted just now, from `peer`, or by a Unix socket.
    pub fn new(peer: Option<IpAddr>, now_s: u32, patience: &Timeouts) -> Connection {
        let deadline_s = deadline_after(now_s, patience.header_s);
        let peer = peer.map(|peer| peer.to_canonical());
        Connection {
            session: None,
            pending: BufferedBytes::default(),
            seen: 0,
            deadline_s,
            peer,
            speaker: ProxyHeader::Done,
            ticket: ConnectionPermit::default(),
            first: true,
            begun: false,
        }
    }

    /// The same, secured by TLS.
    pub fn secured(
        peer: Option<IpAddr>,
        session: Session,
        now_s: u32,
        patience: &Timeouts,
    ) -> Connection {
        let mut connection = Connection::new(peer, now_s, patience);
        connection.session = Some(Box::new(session));
        connection.deadline_s = deadline_after(now_s, patience.handshake_s);
        connection
    }

    /// The same, but begun by a proxy that says who the client is. Unless it is `trusted`, the
    /// connection is refused as soon as it says anything.
    pub fn introduced(mut self, trusted: bool) -> Connection {
        self.speaker = if trusted { ProxyHeader::Expected } else { ProxyHeader::Denied };
        self
    }

    /// The same, of a client that was let in with this ticket.
    pub fn admitted(self, ticket: ConnectionPermit) -> Connection {
        Connection { ticket, ..self }
    }

    /// What it was let in with, which is to be given back: it is over.
    pub fn into_ticket(self) -> ConnectionPermit {
        self.ticket
    }

    /// Whether the next bytes may begin a TLS handshake.
    pub fn awaits_hello(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.awaits_hello())
    }

    /// Whether `bytes`, behind those that are kept, may bring a costly step of a TLS handshake.
    pub fn may_be_costly(&self, bytes: &[u8]) -> bool {
        let Some(session) = &self.session else { return false };
        // Behind a proxy's header the hello may follow.
        self.speaker != ProxyHeader::Done || session.may_be_costly(bytes)
    }

    /// How its TLS handshake stands, if it has one.
    pub fn handshake(&self) -> Option<Handshake> {
        self.session.as_ref().map(|session| session.handshake())
    }

    /// Fewer bytes than these bring nothing that needs an answer.
    pub fn bytes_awaited(&self) -> u32 {
        match &self.session {
            Some(session) if session.awaits_finished() => FINISHED_BYTES_MAX + 1,
            _ => 1,
        }
    }

    /// Whether a request was answered.
    pub fn has_answered(&self) -> bool {
        !self.first
    }

    /// The second at which the client has had its time.
    pub fn deadline_s(&self) -> u32 {
        self.deadline_s
    }

    /// Bytes received and not yet answered.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len() + self.session.as_ref().map_or(0, |session| session.unfinished_bytes())
    }

    /// Bytes that are allocated for them.
    pub fn allocated_bytes(&self) -> usize {
        let session = self.session.as_ref().map_or(0, |session| session.allocated_bytes());
        self.pending.allocated() + session
    }

    /// Forgets what was received and not yet answered: nothing more is received or answered.
    pub fn forget_pending(&mut self) {
        self.pending = BufferedBytes::default();
        self.seen = 0;
        if let Some(session) = &mut self.session {
            session.forget_pending();
        }
    }

    /// Keeps bytes for later: replies before them are still on their way.
    pub fn keep(&mut self, bytes: &[u8]) {
        match &mut self.session {
            Some(session) if self.speaker == ProxyHeader::Done => session.keep(bytes),
            _ => self.pending.extend(bytes),
        }
    }

    /// Answers what `bytes` and those kept before them complete; a secured connection
    /// overwrites them. `out` must have room for one reply at least, or for
    /// [`sealed_bytes_max`] of it.
    pub fn receive(
        &mut self,
        bytes: &mut [u8],
        server: &mut impl Handler,
        now_s: u32,
        patience: &Timeouts,
        scratch: &mut TlsBuffers,
        out: &mut [u8],
    ) -> Progress {
        if self.speaker != ProxyHeader::Done {
            return self.meet(bytes, server, now_s, patience, scratch, out);
        }
        let Some(mut session) = self.session.take() else {
            if !mem::replace(&mut self.begun, true) && speaks_tls(bytes) {
                // Its library shows nothing of it, but whoever looks for the reason finds it.
                let written = server.refuse(self.peer, RequestError::UnexpectedTls, bytes, out);
                return Progress { written, next: Action::Close { unread: true } };
            }
            return self.take(bytes, false, server, now_s, patience, out);
        };
        let mut progress = self.open(&mut session, bytes, server, now_s, patience, scratch, out);
        while progress.next == Action::Receive && session.holds() {
            let room = &mut out[progress.written..];
            if room.len() < sealed_bytes_max(server.reply_bytes_max()) {
                progress.next = Action::Resume;
                break;
            }
            let more = self.open(&mut session, &mut [], server, now_s, patience, scratch, room);
            progress = Progress { written: progress.written + more.written, next: more.next };
        }
        self.session = Some(session);
        progress
    }

    /// Takes `bytes` and those kept before them for a proxy's header, and for what the client
    /// says behind it.
    fn meet(
        &mut self,
        bytes: &[u8],
        server: &mut impl Handler,
        now_s: u32,
        patience: &Timeouts,
        scratch: &mut TlsBuffers,
        out: &mut [u8],
    ) -> Progress {
        self.pending.extend(bytes);
        let header = match self.speaker {
            ProxyHeader::Denied => None,
            _ => parse_proxy(self.pending.as_slice(), PROXY_HEADER_BYTES_MAX).ok(),
        };
        match header {
            Some(Proxied::Partial) => Progress { written: 0, next: Action::Receive },
            Some(Proxied::Complete { source, consumed }) => {
                self.speaker = ProxyHeader::Done;
                self.peer = source.map(|source| source.to_canonical()).or(self.peer);
                // A proxy at a Unix socket that speaks for itself is never limited.
                let ticket = self.peer.map_or(Some(ConnectionPermit::default()), |peer| {
                    server.admit(peer, self.session.is_some())
                });
                match ticket {
                    Some(ticket) => self.ticket = ticket,
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
                self.receive(rest.as_mut_slice(), server, now_s, patience, scratch, out)
            }
            None => {
                let begun = mem::take(&mut self.pending);
                let refused = server.refuse(
                    self.peer,
                    RequestError::MissingProxyHeader,
                    begun.as_slice(),
                    out,
                );
                // Who comes to a port with TLS would not understand a word.
                let written = if self.session.is_some() { 0 } else { refused };
                Progress { written, next: Action::Close { unread: true } }
            }
        }
    }

    /// The client will send no more: the last of its requests is answered, or was.
    fn finish(&mut self, progress: &mut Progress, server: &mut impl Handler, replies: &mut [u8]) {
        if progress.next != Action::Receive {
            return;
        }
        let room = &mut replies[progress.written..];
        if self.pending.is_empty() {
            progress.next = Action::Close { unread: false };
        } else if room.len() < server.reply_bytes_max() {
            progress.next = Action::Resume;
        } else {
            let broken_off = mem::take(&mut self.pending);
            let said = broken_off.as_slice();
            progress.written += server.refuse(self.peer, RequestError::Truncated, said, room);
            progress.next = Action::Close { unread: false };
        }
    }

    /// Answers what `bytes` complete, as they are. `more`: requests may be behind them.
    fn take(
        &mut self,
        bytes: &[u8],
        more: bool,
        server: &mut impl Handler,
        now_s: u32,
        patience: &Timeouts,
        out: &mut [u8],
    ) -> Progress {
        if !self.pending.is_empty() {
            self.pending.extend(bytes);
            return self.resume(more, server, now_s, patience, out);
        }
        let conversation = self.converse(bytes, 0, more, server, out);
        let rest = &bytes[conversation.used..];
        if !rest.is_empty() {
            self.keep(rest);
        }
        self.settle(&conversation, false, now_s, patience)
    }

    /// Answers what is pending.
    fn resume(
        &mut self,
        more: bool,
        server: &mut impl Handler,
        now_s: u32,
        patience: &Timeouts,
        out: &mut [u8],
    ) -> Progress {
        let mut pending = mem::take(&mut self.pending);
        let seen = self.seen as usize;
        let conversation = self.converse(pending.as_slice(), seen, more, server, out);
        pending.consume(conversation.used);
        self.pending = pending;
        let was_unfinished = self.seen > 0 && conversation.used == 0;
        self.settle(&conversation, was_unfinished, now_s, patience)
    }

    /// Writes a piece of a long reply, as `write` does: how many bytes, and whether more
    /// follow.
    pub fn relay(
        &mut self,
        scratch: &mut TlsBuffers,
        out: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> (usize, bool),
    ) -> (usize, bool) {
        let Some(session) = &mut self.session else { return write(out) };
        let room = scratch.replies.len().min(plain_bytes_max(out.len()));
        let (len, more) = write(&mut scratch.replies[..room]);
        if len == 0 && more {
            return (0, more);
        }
        (session.seal(&scratch.replies[..len], !more, out), more)
    }

    /// The client's side has ended: answers what it left unfinished, or takes leave of it.
    pub fn end(
        &mut self,
        server: &mut impl Handler,
        scratch: &mut TlsBuffers,
        out: &mut [u8],
    ) -> usize {
        self.give_up(RequestError::Truncated, server, scratch, out)
    }

    /// The client has had its time: answers what it left unfinished, or takes leave of it.
    pub fn expire(
        &mut self,
        server: &mut impl Handler,
        scratch: &mut TlsBuffers,
        out: &mut [u8],
    ) -> usize {
        self.give_up(RequestError::Timeout, server, scratch, out)
    }

    /// Says that no more follows, where the protocol has a word for it: TLS, with close_notify.
    pub fn take_leave(&mut self, out: &mut [u8]) -> usize {
        self.session.as_mut().map_or(0, |session| session.seal(&[], true, out))
    }

    /// Answers what is unfinished with `mistake`; takes leave if nothing is.
    fn give_up(
        &mut self,
        mistake: RequestError,
        server: &mut impl Handler,
        scratch: &mut TlsBuffers,
        out: &mut [u8],
    ) -> usize {
        let unfinished = mem::take(&mut self.pending);
        if unfinished.is_empty() {
            return self.take_leave(out);
        }
        let peer = self.peer;
        let write =
            |out: &mut [u8]| (server.refuse(peer, mistake, unfinished.as_slice(), out), false);
        self.relay(scratch, out, write).0
    }

    fn converse(
        &self,
        input: &[u8],
        seen: usize,
        more: bool,
        server: &mut impl Handler,
        out: &mut [u8],
    ) -> ConnectionIo {
        let mut talk = ConnectionIo { used: 0, written: 0, seen: 0, next: Action::Receive };
        let mut seen = seen;
        while talk.used < input.len() {
            if out.len() - talk.written < server.reply_bytes_max() {
                talk.next = Action::Resume;
                return talk;
            }
            let rest = &input[talk.used..];
            let space = &mut out[talk.written..];
            match parse_head(rest, seen, &BOUNDS) {
                Ok(Parsed::Complete { mut head, consumed }) => {
                    let asks_for_more = head.keep_alive;
                    if server.closes() {
                        head.keep_alive &= more || begins_with_request(&rest[consumed.get()..]);
                    }
                    let reply = server.answer(self.peer, &head, space);
                    talk.used += consumed.get();
                    talk.written += reply.len;
                    if reply.after != Disposition::KeepAlive {
                        // Who did not ask for the end may have sent more already.
                        let unread = talk.used < input.len() || asks_for_more;
                        talk.used = input.len();
                        talk.next = match reply.after {
                            Disposition::Stream => Action::Stream,
                            _ => Action::Close { unread },
                        };
                        return talk;
                    }
                }
                Ok(Parsed::Partial) => {
                    // What stands between requests is no request: it keeps none open.
                    if rest.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                        talk.used = input.len();
                    } else {
                        talk.seen = rest.len();
                    }
                    return talk;
                }
                Err(error) => {
                    let mistake = RequestError::Malformed(error);
                    talk.written += server.refuse(self.peer, mistake, rest, space);
                    talk.used = input.len();
                    talk.next = Action::Close { unread: true };
                    return talk;
                }
            }
            seen = 0;
        }
        talk
    }

    /// Takes over where the conversation stands, and gives the client its next deadline.
    fn settle(
        &mut self,
        talk: &ConnectionIo,
        was_unfinished: bool,
        now_s: u32,
        patience: &Timeouts,
    ) -> Progress {
        self.seen = u32::try_from(talk.seen).unwrap_or(u32::MAX);
        self.first &= talk.written == 0;
        if talk.seen == 0 {
            if talk.written > 0 {
                self.deadline_s = deadline_after(now_s, patience.idle_s);
            }
        } else if !was_unfinished && !self.first {
            // The head's time runs from its first byte and is not prolonged by later ones.
            self.deadline_s = deadline_after(now_s, patience.header_s);
        }
        Progress { written: talk.written, next: talk.next }
    }
}

/// Whether a whole request is there, or what is answered as if it were one.
fn begins_with_request(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !matches!(parse_head(bytes, 0, &BOUNDS), Ok(Parsed::Partial))
}

/// How far the requests in some bytes were answered.
struct ConnectionIo {
    used: usize,
    written: usize,
    seen: usize,
    next: Action,
}

//! A connection with TLS: records are decrypted before requests are read, responses encrypted.

use std::mem;

use super::{Action, Connection, Handler, Progress, RequestError, Turn, deadline_after};
use crate::tls::{SessionState, TlsSession, plain_bytes_max};

/// Plaintext of requests and responses: all TLS connections of a worker share one.
pub struct TlsBuffers {
    received: Vec<u8>,
    responses: Box<[u8]>,
}

impl TlsBuffers {
    /// Room for responses of `bytes` at once.
    pub fn new(bytes: usize) -> TlsBuffers {
        TlsBuffers { received: Vec::new(), responses: vec![0; bytes].into() }
    }

    /// As [`Connection::stream_chunk`].
    pub(super) fn stream_chunk(
        &mut self,
        session: &mut TlsSession,
        out: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> (usize, bool),
    ) -> (usize, bool) {
        let room = self.responses.len().min(plain_bytes_max(out.len()));
        let (len, more) = write(&mut self.responses[..room]);
        if len == 0 && more {
            return (0, more);
        }
        (session.encrypt(&self.responses[..len], !more, out), more)
    }
}

impl Connection {
    /// Answers what `bytes` complete, up to the record at which the session holds.
    pub(super) fn process_records<H: Handler>(
        &mut self,
        session: &mut TlsSession,
        bytes: &mut [u8],
        tls_buffers: &mut TlsBuffers,
        turn: &mut Turn<'_, H>,
    ) -> Progress {
        let was_handshaking = session.is_handshaking();
        tls_buffers.received.clear();
        let opened = if !self.pending.is_empty() && self.seen == 0 {
            // Requests wait for room: they come before whatever follows them.
            session.hold(bytes);
            0
        } else {
            session.open(bytes, &mut tls_buffers.received, turn.out)
        };
        if was_handshaking && !session.is_handshaking() {
            self.deadline_s = deadline_after(turn.now_s, turn.timeouts.header_s);
        }
        match session.state() {
            SessionState::NotTls => self.refuse(RequestError::NotTls, bytes, turn),
            SessionState::Failed => {
                Progress { written: opened, next: Action::Close { unread: true } }
            }
            state @ (SessionState::Open | SessionState::Closed) => {
                let TlsBuffers { received, responses } = tls_buffers;
                let room = responses.len().min(plain_bytes_max(turn.out.len() - opened));
                let responses = &mut responses[..room];
                let mut plain = turn.with_out(responses);
                let mut progress = self.process(received, session.holds_records(), &mut plain);
                if state == SessionState::Closed && progress.next == Action::Receive {
                    self.finish(&mut progress, &mut plain);
                }
                let out = &mut turn.out[opened..];
                let sealed = seal(session, &mut progress, responses, received, out);
                Progress { written: opened + sealed, ..progress }
            }
        }
    }

    /// The client has sent close_notify: answers an unfinished request, and closes.
    fn finish<H: Handler>(&mut self, progress: &mut Progress, turn: &mut Turn<'_, H>) {
        let room = &mut turn.out[progress.written..];
        progress.next = Action::Close { unread: false };
        if self.pending.is_empty() {
            return;
        }
        if room.len() < turn.handler.response_bytes_max() {
            progress.next = Action::Resume;
            return;
        }
        let (peer, unfinished) = (self.peer, mem::take(&mut self.pending));
        let error = RequestError::Truncated;
        progress.written += turn.handler.refuse(peer, error, unfinished.as_slice(), room);
    }
}

/// Encrypts the responses that were written, with close_notify after the last. Overwrites
/// `received`.
fn seal(
    session: &mut TlsSession,
    progress: &mut Progress,
    responses: &[u8],
    received: &mut Vec<u8>,
    out: &mut [u8],
) -> usize {
    let mut responses = &responses[..progress.written];
    let mut sealed = 0;
    match &mut progress.next {
        Action::Close { unread } => {
            if session.holds_records() {
                sealed = session.encrypt(mem::take(&mut responses), false, out);
                // Records behind the last request are dropped, but a close_notify counts.
                while session.holds_records() {
                    received.clear();
                    sealed += session.open(&mut [], received, &mut out[sealed..]);
                }
                *unread = session.state() != SessionState::Closed;
            }
            *unread |= session.unfinished_bytes() > 0;
            sealed += session.encrypt(responses, true, &mut out[sealed..]);
        }
        _ if responses.is_empty() => return 0,
        _ => sealed = session.encrypt(responses, false, out),
    }
    if session.state() == SessionState::Failed {
        progress.next = Action::Close { unread: true };
    }
    sealed
}

//! A connection in TLS: its bytes are opened before they are read, and its replies sealed.

use std::mem;

use super::{Action, Connection, Handler, Progress, RequestError, Timeouts, deadline_after};
use crate::tls::{Session, Standing, plain_bytes_max};

/// Room for requests and replies as they are before and after encryption: all secured
/// connections of a worker share one.
pub struct TlsBuffers {
    received: Vec<u8>,
    pub(super) replies: Box<[u8]>,
}

impl TlsBuffers {
    /// Room for replies of `bytes` at once.
    pub fn new(bytes: usize) -> TlsBuffers {
        TlsBuffers { received: Vec::new(), replies: vec![0; bytes].into() }
    }
}

impl Connection {
    /// Answers what `bytes` complete in a secured connection, up to what its session holds.
    #[expect(clippy::too_many_arguments, reason = "a part of `receive`")]
    pub(super) fn open(
        &mut self,
        session: &mut Session,
        bytes: &mut [u8],
        server: &mut impl Handler,
        now_s: u32,
        patience: &Timeouts,
        scratch: &mut TlsBuffers,
        out: &mut [u8],
    ) -> Progress {
        let was_handshaking = session.is_handshaking();
        scratch.received.clear();
        let opened = if !self.pending.is_empty() && self.seen == 0 {
            // Requests wait for room: they come before whatever is behind them.
            session.hold(bytes);
            0
        } else {
            session.open(bytes, &mut scratch.received, out)
        };
        if was_handshaking && !session.is_handshaking() {
            self.deadline_s = deadline_after(now_s, patience.header_s);
        }
        match session.standing() {
            Standing::NotTls => {
                let written = server.refuse(self.peer, RequestError::NotTls, bytes, out);
                Progress { written, next: Action::Close { unread: true } }
            }
            Standing::Broken => Progress { written: opened, next: Action::Close { unread: true } },
            standing @ (Standing::Open | Standing::Ended) => {
                let TlsBuffers { received, replies } = scratch;
                let out = &mut out[opened..];
                let room = replies.len().min(plain_bytes_max(out.len()));
                let replies = &mut replies[..room];
                let mut progress =
                    self.take(received, session.holds(), server, now_s, patience, replies);
                if standing == Standing::Ended {
                    self.finish(&mut progress, server, replies);
                }
                let sealed = seal(session, &mut progress, replies, received, out);
                Progress { written: opened + sealed, ..progress }
            }
        }
    }
}

/// Encrypts the replies that were written, with close_notify after the last. Overwrites `received`.
fn seal(
    session: &mut Session,
    progress: &mut Progress,
    replies: &[u8],
    received: &mut Vec<u8>,
    out: &mut [u8],
) -> usize {
    let mut replies = &replies[..progress.written];
    let mut sealed = 0;
    match &mut progress.next {
        Action::Close { unread } => {
            if session.holds() {
                sealed = session.seal(mem::take(&mut replies), false, out);
                // What is behind the last request is not wanted, unless it says that no more
                // follows.
                while session.holds() {
                    received.clear();
                    sealed += session.open(&mut [], received, &mut out[sealed..]);
                }
                *unread = session.standing() != Standing::Ended;
            }
            *unread |= session.unfinished_bytes() > 0;
            sealed += session.seal(replies, true, &mut out[sealed..]);
        }
        _ if replies.is_empty() => return 0,
        _ => sealed = session.seal(replies, false, out),
    }
    if session.standing() == Standing::Broken {
        progress.next = Action::Close { unread: true };
    }
    sealed
}

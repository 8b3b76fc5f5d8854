//! One connection to the tracker as a state machine over bytes, without I/O.
//!
//! Questions go in and requests come out; bytes that arrived go in and judged answers come out,
//! in the order of the questions. Time is a number of nanoseconds given by the caller.

use std::collections::VecDeque;
use std::mem;

use super::fault::{Fault, Oddities, Oddity, Wrong};
use super::http::{Framing, Head, join_chunks, parse_head};
use super::request::Question;
use crate::tls::ClientSession;
use crate::tls::Resumption;

/// Bytes of a body at most.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that TLS adds to a request at most, of whatever length.
pub const SEALED_EXTRA: usize = 128;

/// A question, and since when it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// When it should have been sent.
    pub due_ns: u64,
    /// When it was sent, if it was.
    pub sent_ns: u64,
}

/// Who judges answers, and counts what becomes of questions.
pub trait Judge {
    /// An answer with status 200 and this body came.
    fn answered(&mut self, asked: &Asked, body: &[u8], oddities: Oddities);
    /// No good answer came, or comes.
    fn failed(&mut self, asked: &Asked, wrong: Wrong);
    /// Something was odd that is no answer's.
    fn odd(&mut self, oddity: Oddity);
    /// Something was wrong that is no answer's.
    fn disturbed(&mut self, wrong: Wrong);
    /// Keys were agreed on.
    fn shaken(&mut self, handshake: Resumption);
}

/// What is to be done with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on.
    Open,
    /// It is over; questions without an answer were never heard and may be asked anew.
    Ended,
}

/// One connection, or the place of successive ones.
#[derive(Default)]
pub struct Client {
    session: Option<Box<ClientSession>>,
    /// Whether keys were agreed on, if there is a session.
    shaken: bool,
    /// Without an answer; the first `sent` of them were sent on this connection.
    asked: VecDeque<Asked>,
    sent: usize,
    /// Received and not used.
    pending: Vec<u8>,
    /// The body of chunks.
    body: Vec<u8>,
    /// What TLS wants to be sent.
    outgoing: Vec<u8>,
    /// Requests made on this connection.
    requests: u64,
    /// Whether the last of them said that it is.
    closing: bool,
    /// Whether any was answered on this connection.
    answered: bool,
}

impl Client {
    /// A connection was made; begins its handshake if it has a session.
    ///
    /// # Errors
    /// TLS cannot begin.
    pub fn begin(&mut self, session: Option<ClientSession>) -> Result<(), Wrong> {
        self.session = session.map(Box::new);
        self.shaken = false;
        self.sent = 0;
        self.requests = 0;
        self.closing = false;
        self.answered = false;
        self.pending.clear();
        self.outgoing.clear();
        match &mut self.session {
            Some(session) => session
                .open(&[], &mut self.pending, &mut self.outgoing)
                .map_err(|what| Wrong::because(Fault::Tls, what)),
            None => Ok(()),
        }
    }

    /// Adds a question.
    pub fn ask(&mut self, question: Question, due_ns: u64) {
        self.asked.push_back(Asked { question, due_ns, sent_ns: 0 });
    }

    /// Questions without an answer.
    pub fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// Questions that were sent and have no answer.
    pub fn in_flight(&self) -> usize {
        self.sent
    }

    /// Requests made on this connection.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The question that has waited longest.
    pub fn first(&self) -> Option<&Asked> {
        self.asked.front()
    }

    /// Writes what is to be sent now: of TLS, and requests, `requests_max` in all of the
    /// connection. `write` renders one, the last or not, into a buffer as long as `scratch`;
    /// `out` has room for one of them, sealed, behind a flight of TLS. Returns how many bytes it
    /// wrote to `out`, and how many requests.
    ///
    /// # Errors
    /// TLS fails.
    pub fn fill(
        &mut self,
        out: &mut [u8],
        scratch: &mut [u8],
        requests_max: u64,
        now_ns: u64,
        mut write: impl FnMut(&mut [u8], Question, bool) -> usize,
    ) -> Result<(usize, u64), Wrong> {
        let (mut written, mut requests) = (0, 0);
        while self.may_ask(requests_max)
            && out.len() - written >= self.outgoing.len() + scratch.len() + SEALED_EXTRA
        {
            let asked = &mut self.asked[self.sent];
            asked.sent_ns = now_ns;
            self.sent += 1;
            self.requests += 1;
            requests += 1;
            self.closing = self.requests == requests_max;
            match &mut self.session {
                Some(session) => {
                    let len = write(scratch, asked.question, self.closing);
                    session
                        .seal(&scratch[..len], &mut self.outgoing)
                        .map_err(|what| Wrong::because(Fault::Tls, what))?;
                }
                None => written += write(&mut out[written..], asked.question, self.closing),
            }
        }
        let len = self.outgoing.len().min(out.len() - written);
        out[written..written + len].copy_from_slice(&self.outgoing[..len]);
        self.outgoing.drain(..len);
        Ok((written + len, requests))
    }

    /// Whether [`Client::fill`] has something to write.
    pub fn has_to_send(&self, requests_max: u64) -> bool {
        !self.outgoing.is_empty() || self.may_ask(requests_max)
    }

    fn may_ask(&self, requests_max: u64) -> bool {
        let ready = self.session.is_none() || self.shaken;
        ready && self.sent < self.asked.len() && self.requests < requests_max
    }

    /// Takes bytes that arrived. Where it does not go on, the caller closes the connection and
    /// says so by [`Client::ended`] or [`Client::broken`].
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn receive(&mut self, bytes: &[u8], judge: &mut impl Judge) -> Result<Standing, Wrong> {
        let Some(session) = &mut self.session else {
            if !self.pending.is_empty() {
                self.pending.extend_from_slice(bytes);
                return self.take_pending(judge);
            }
            let (used, standing) = self.take(bytes, judge)?;
            self.pending.extend_from_slice(&bytes[used..]);
            return Ok(standing);
        };
        let opened = session.open(bytes, &mut self.pending, &mut self.outgoing);
        let ended = session.has_ended();
        if !self.shaken
            && let Some(handshake) = session.handshake()
        {
            self.shaken = true;
            judge.shaken(handshake);
        }
        let standing = self.take_pending(judge)?;
        opened.map_err(|what| Wrong::because(Fault::Tls, what))?;
        if ended && standing == Standing::Open { self.end(judge) } else { Ok(standing) }
    }

    /// The server's side has ended: answers that last up to it are whole.
    ///
    /// # Errors
    /// It ended before an answer did.
    pub fn end(&mut self, judge: &mut impl Judge) -> Result<Standing, Wrong> {
        if self.is_handshaking() {
            return Err(Wrong::because(Fault::Tls, "the connection ended in the handshake"));
        }
        let pending = mem::take(&mut self.pending);
        if let Ok(Some(head)) = parse_head(&pending)
            && self.sent > 0
            && head.framing == Framing::UntilEnd
        {
            self.deliver(&head, &pending[head.bytes..], judge);
            return Ok(Standing::Ended);
        }
        // A server may end a connection between two answers; what it did not hear then is asked
        // anew (RFC 9112 section 9.3.1).
        if !pending.is_empty() || (self.sent > 0 && !self.is_between_answers()) {
            return Err(Fault::EndedEarly.into());
        }
        if !self.closing {
            judge.odd(Oddity::ClosedKept);
        }
        Ok(Standing::Ended)
    }

    /// Whether an answer was whole, and of the next one, which may not be the last of the
    /// connection, nothing has come.
    pub fn is_between_answers(&self) -> bool {
        self.answered && !self.closing && self.pending.is_empty()
    }

    /// What was asked and not answered will be asked anew.
    pub fn ended(&mut self) {
        self.sent = 0;
    }

    /// Whether keys are still being agreed on.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_some() && !self.shaken
    }

    /// What was sent has failed, or all that waits if none was.
    pub fn broken(&mut self, wrong: &Wrong, judge: &mut impl Judge) {
        let failed = if self.sent > 0 { self.sent } else { self.asked.len() };
        if failed == 0 {
            judge.disturbed(wrong.clone());
        }
        for asked in self.asked.drain(..failed) {
            judge.failed(&asked, wrong.clone());
        }
        self.sent = 0;
    }

    fn take_pending(&mut self, judge: &mut impl Judge) -> Result<Standing, Wrong> {
        let mut pending = mem::take(&mut self.pending);
        let (used, standing) = self.take(&pending, judge)?;
        pending.drain(..used);
        self.pending = pending;
        Ok(standing)
    }

    /// Delivers the answers that are whole in `bytes`. Returns how many bytes they take.
    fn take(&mut self, bytes: &[u8], judge: &mut impl Judge) -> Result<(usize, Standing), Wrong> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            if self.sent == 0 {
                return Err(Fault::Surplus.into());
            }
            let Some(head) = parse_head(rest)? else { break };
            if head.is_interim() {
                used += head.bytes;
                continue;
            }
            let body = &rest[head.bytes..];
            let length = match head.framing {
                Framing::Length(length) if length > BODY_BYTES_MAX => {
                    return Err(Fault::TooLong.into());
                }
                Framing::Length(length) if length <= body.len() => length,
                Framing::Chunked => {
                    let mut joined = mem::take(&mut self.body);
                    let length = join_chunks(body, &mut joined, BODY_BYTES_MAX)?;
                    if length.is_some() {
                        self.deliver(&head, &joined, judge);
                    }
                    self.body = joined;
                    match length {
                        Some(length) => {
                            used += head.bytes + length;
                            if !head.keep_alive {
                                return Ok((bytes.len(), Standing::Ended));
                            }
                            continue;
                        }
                        None => break,
                    }
                }
                Framing::UntilEnd if body.len() > BODY_BYTES_MAX => {
                    return Err(Fault::TooLong.into());
                }
                Framing::Length(_) | Framing::UntilEnd => break,
            };
            self.deliver(&head, &body[..length], judge);
            used += head.bytes + length;
            if !head.keep_alive {
                if used < bytes.len() {
                    judge.disturbed(Fault::Surplus.into());
                }
                return Ok((bytes.len(), Standing::Ended));
            }
        }
        Ok((used, Standing::Open))
    }

    /// Has the first question answered.
    fn deliver(&mut self, head: &Head, body: &[u8], judge: &mut impl Judge) {
        let Some(asked) = self.asked.pop_front() else { return };
        self.sent -= 1;
        self.answered = true;
        if !head.keep_alive && !self.closing {
            judge.odd(Oddity::ClosedKept);
        }
        if head.status != 200 {
            return judge.failed(&asked, Wrong::because(Fault::Status, head.status));
        }
        if head.encoded {
            return judge.failed(&asked, Fault::Compressed.into());
        }
        let mut oddities = Oddities::default();
        match head.framing {
            Framing::Chunked => oddities.note(Oddity::Chunked),
            Framing::UntilEnd => oddities.note(Oddity::NoLength),
            Framing::Length(_) => {}
        }
        judge.answered(&asked, body, oddities);
    }
}

#[cfg(test)]
#[path = "client/tests.rs"]
mod tests;

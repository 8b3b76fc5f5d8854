//! A simulated client and the bytes between it and the worker.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use annulus_swarm::Random;

use super::answers::answer_len;
use super::faults::Windows;
use super::tls::{Manner, Session};

/// Bytes that a client's kernel keeps for it until the server receives them.
const TO_SERVER_MAX: usize = 4 * 1024 * 1024;

/// What a request brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// An answer of this status, as long as its Content-Length says.
    Framed(u16),
    /// The same without its body: the request is HEAD.
    HeadOnly(u16),
    /// A full scrape, which ends with the connection, or a refusal of it.
    FullScrape,
    /// Nothing: the connection is over before it is answered.
    Nothing,
}

/// Some bytes that belong together, and what they bring back.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Expected,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = &self.bytes[..self.bytes.len().min(12)];
        write!(f, "{:?} for {} {}…", self.expected, self.bytes.len(), begin.escape_ascii())
    }
}

/// What a client does when everything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Closes when everything is answered.
    Close,
    /// Resets when everything is answered.
    Reset,
    /// Shuts its side at once, and reads on.
    HalfClose,
    /// Leaves it to the server.
    Await,
}

/// How a client misbehaves: in the disturbed run only, so that the calm run says what it
/// would have been told at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// Resets this many milliseconds after it connected.
    ResetsAfter(u64),
    /// Resets after this many bytes.
    ResetsAtByte(usize),
    /// Never reads.
    NeverReads,
    /// Closes as soon as everything is sent, unread answers or not.
    Leaves,
    /// Never closes and goes on sending, whatever the server does.
    Stays,
}

/// One client, as drawn from a seed.
#[derive(Clone, Debug)]
pub(crate) struct ClientScript {
    /// A proxy that comes by a Unix socket has none.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) connect_ms: u64,
    pub(crate) requests: Vec<Request>,
    /// Does not wait for an answer before it sends the next request.
    pub(crate) pipelined: bool,
    /// Milliseconds between two requests, or two pieces of one.
    pub(crate) pause_ms: u64,
    /// Bytes of a piece; 0 is whatever the run says.
    pub(crate) piece: usize,
    pub(crate) ending: Ending,
    pub(crate) trouble: Trouble,
    /// Comes to a listener that speaks TLS.
    pub(crate) https: bool,
    /// Speaks TLS itself, where that is expected or not.
    pub(crate) tls: Option<Manner>,
}

impl ClientScript {
    /// How many answers everything brings.
    pub(crate) fn answers(&self) -> usize {
        answers_of(&self.requests)
    }
}

fn answers_of(requests: &[Request]) -> usize {
    requests.iter().filter(|request| request.expected != Expected::Nothing).count()
}

/// How a side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// One connection's bytes on their way.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) to_server: VecDeque<u8>,
    pub(crate) client_end: Option<End>,
    pub(crate) to_client: VecDeque<u8>,
    /// Bytes of `to_client` at most.
    pub(crate) window: usize,
    pub(crate) server_end: Option<End>,
    /// The server's descriptor is closed: whatever the client still sends is answered by RST.
    pub(crate) closed: bool,
}

impl Wire {
    /// RST to the client: what it has not read is gone.
    pub(crate) fn reset_client(&mut self) {
        self.server_end = Some(End::Reset);
        self.to_client.clear();
    }

    pub(crate) fn space(&self) -> usize {
        self.window.saturating_sub(self.to_client.len())
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.closed {
            self.reset_client();
        } else {
            self.to_server.extend(bytes);
        }
    }
}

/// How a client came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientOutcome {
    /// It closed by itself, with everything it wanted.
    Content,
    /// The server had closed.
    Closed,
    /// It was reset.
    Reset,
    /// It misbehaved and left.
    Left,
    /// Nobody listened any more.
    Refused,
}

/// A client at work.
#[derive(Debug)]
pub(crate) struct SimClient {
    pub(crate) script: ClientScript,
    pub(crate) connected: bool,
    pub(crate) tls: Option<Session>,
    /// What it was told, decrypted.
    pub(crate) received: Vec<u8>,
    pub(crate) outcome: Option<ClientOutcome>,
    /// Answers read in whole, and where the next begins.
    pub(crate) answers: usize,
    framed: usize,
    /// The request being sent, and how far.
    current: usize,
    sent: usize,
    pub(crate) sent_in_all: usize,
    send_at_ms: u64,
    /// When TLS may send the next piece of its records.
    seal_at_ms: u64,
    read_at_ms: u64,
    close_at_ms: Option<u64>,
    /// The faults of this run: bytes of a piece at most, milliseconds between two.
    piece_max: usize,
    gap_ms: u32,
    read_ms: u32,
    /// Bytes that it reads at a time, at most.
    read_max: usize,
    /// When the last byte was read, and when it ended.
    pub(crate) read_last_ms: u64,
    pub(crate) ended_ms: u64,
}

impl SimClient {
    /// A client, with the pace that the run gives it, and its connection.
    pub(crate) fn new(
        script: ClientScript,
        pieces: bool,
        windows: Windows,
        random: &mut Random,
    ) -> (SimClient, Wire) {
        let windows = match windows {
            Windows::Mixed => [Windows::Endless, Windows::Slow, Windows::Tiny, Windows::Trickle]
                [random.below(4) as usize],
            windows => windows,
        };
        let (window, read_ms) = match windows {
            Windows::Endless | Windows::Mixed => (usize::MAX, 0),
            Windows::Slow => (1024 + random.below(8192) as usize, 1 + random.below(40)),
            Windows::Tiny => (16 + random.below(200) as usize, 1),
            Windows::Trickle => (1024 + random.below(8192) as usize, 100 + random.below(1400)),
            Windows::Drip => (4096, 1000),
        };
        let read_max = match windows {
            // Faster than what is cut off for being too slow.
            Windows::Trickle => 400 + random.below(1000) as usize,
            Windows::Drip => 1,
            _ => usize::MAX,
        };
        let split = script.tls.as_ref().is_some_and(|tls| tls.split);
        let (piece_max, gap_ms) = match (script.piece, pieces) {
            // What is encrypted is split instead.
            (0, true) if split => (usize::MAX, random.below(40)),
            (0, true) => (1 + random.below(400) as usize, random.below(40)),
            (0, false) => (usize::MAX, 0),
            (piece, _) => (piece, 0),
        };
        let client = SimClient {
            connected: false,
            tls: script.tls.clone().map(Session::new),
            received: Vec::new(),
            outcome: None,
            answers: 0,
            framed: 0,
            current: 0,
            sent: 0,
            sent_in_all: 0,
            send_at_ms: script.connect_ms,
            seal_at_ms: script.connect_ms,
            read_at_ms: 0,
            close_at_ms: None,
            piece_max,
            gap_ms,
            read_ms,
            read_max,
            read_last_ms: 0,
            ended_ms: 0,
            script,
        };
        let wire = Wire {
            to_server: VecDeque::new(),
            client_end: None,
            to_client: VecDeque::new(),
            window,
            server_end: None,
            closed: false,
        };
        (client, wire)
    }

    pub(crate) fn gone(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether it has finished a TLS handshake.
    pub(crate) fn has_agreed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking())
    }

    fn leave(&mut self, now_ms: u64, outcome: ClientOutcome) {
        self.outcome = Some(outcome);
        self.ended_ms = now_ms;
    }

    /// Closes the client's descriptor: with RST if something of the server's is unread.
    fn close(&mut self, now_ms: u64, wire: &mut Wire, outcome: ClientOutcome) {
        let unread = !wire.to_client.is_empty();
        wire.client_end.get_or_insert(End::Fin);
        if unread {
            self.reset(wire);
        }
        self.leave(now_ms, outcome);
    }

    fn reset(&mut self, wire: &mut Wire) {
        wire.client_end = Some(End::Reset);
        wire.to_client.clear();
    }

    /// Does whatever it is time for.
    pub(crate) fn step(&mut self, now_ms: u64, wire: &mut Wire, random: &mut Random) {
        if self.gone() || !self.connected {
            return;
        }
        let resets = match self.script.trouble {
            Trouble::ResetsAfter(ms) => now_ms >= self.script.connect_ms + ms,
            Trouble::ResetsAtByte(byte) => self.sent_in_all >= byte,
            _ => false,
        };
        if resets || wire.client_end == Some(End::Reset) {
            self.reset(wire);
            return self.leave(now_ms, ClientOutcome::Left);
        }
        if wire.server_end == Some(End::Reset) {
            return self.leave(now_ms, ClientOutcome::Reset);
        }
        self.read(now_ms, wire, random);
        self.send(now_ms, wire, random);
        self.seal(now_ms, wire, random);
        self.end(now_ms, wire);
    }

    fn read(&mut self, now_ms: u64, wire: &mut Wire, random: &mut Random) {
        if self.never_reads() || now_ms < self.read_at_ms {
            return;
        }
        if !wire.to_client.is_empty() {
            let len = wire.to_client.len().min(self.read_max);
            let mut read: Vec<u8> = wire.to_client.drain(..len).collect();
            match &mut self.tls {
                Some(tls) => tls.hear(&read, &mut self.received),
                None => self.received.append(&mut read),
            }
            self.read_last_ms = now_ms;
            self.read_at_ms = now_ms + u64::from(self.read_ms);
            while let Some(expected) = self.awaited(self.answers) {
                let Some(len) = answer_len(&self.received[self.framed..], expected) else { break };
                self.framed += len;
                self.answers += 1;
            }
        } else if wire.server_end == Some(End::Fin) && self.close_at_ms.is_none() {
            self.close_at_ms = Some(now_ms + u64::from(random.below(1 + 2 * self.gap_ms)));
        }
    }

    /// A client that never reads must have read the server's part of a TLS handshake.
    fn never_reads(&self) -> bool {
        let agreed = self.tls.is_none() || self.has_agreed();
        self.script.trouble == Trouble::NeverReads && agreed
    }

    /// What the answer of this number is expected to be.
    fn awaited(&self, answer: usize) -> Option<Expected> {
        let expected = self.script.requests.iter().map(|request| request.expected);
        expected.filter(|&expected| expected != Expected::Nothing).nth(answer)
    }

    fn may_send(&self, wire: &Wire) -> bool {
        let before = &self.script.requests[..self.current.min(self.script.requests.len())];
        self.current < self.script.requests.len()
            && (self.close_at_ms.is_none() || self.script.trouble == Trouble::Stays)
            && wire.client_end.is_none()
            && self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
            && wire.to_server.len() < TO_SERVER_MAX
            && (self.script.pipelined || self.sent > 0 || self.answers >= answers_of(before))
    }

    fn send(&mut self, now_ms: u64, wire: &mut Wire, random: &mut Random) {
        while now_ms >= self.send_at_ms && self.may_send(wire) {
            let request = &self.script.requests[self.current];
            let rest = &request.bytes[self.sent..];
            // A request takes a bounded time, whatever its pieces: what follows the last
            // answer must arrive while the server still lingers.
            let pieces = if request.expected == Expected::Nothing { 6 } else { 40 };
            let least =
                if self.script.piece > 0 { 1 } else { request.bytes.len().div_ceil(pieces) };
            let most = rest.len().min(self.piece_max.max(least));
            let len = match self.script.piece {
                0 if self.piece_max < usize::MAX => {
                    let drawn = 1 + random.below(most as u32) as usize;
                    drawn.max(least.min(most))
                }
                _ => most,
            };
            match &mut self.tls {
                Some(tls) => tls.say(&rest[..len]),
                None => {
                    wire.put(&rest[..len]);
                    self.sent_in_all += len;
                }
            }
            self.sent += len;
            let whole = self.sent == request.bytes.len();
            let pauses = self.script.piece > 0 || (whole && request.expected != Expected::Nothing);
            if whole {
                self.current += 1;
                self.sent = 0;
            }
            let pause = if pauses { self.script.pause_ms } else { 0 };
            self.send_at_ms = now_ms + u64::from(random.below(1 + self.gap_ms)) + pause;
        }
    }

    fn may_seal(&self, wire: &Wire) -> bool {
        let sealed = self.tls.as_ref().is_some_and(|tls| !tls.outgoing.is_empty());
        sealed
            && (self.close_at_ms.is_none() || self.script.trouble == Trouble::Stays)
            && wire.client_end.is_none()
            && wire.to_server.len() < TO_SERVER_MAX
    }

    /// Sends what TLS has made of it.
    fn seal(&mut self, now_ms: u64, wire: &mut Wire, random: &mut Random) {
        if let Some(tls) = &mut self.tls {
            tls.encrypt();
        }
        while now_ms >= self.seal_at_ms && self.may_seal(wire) {
            let Some(tls) = &mut self.tls else { return };
            let piece = tls.next_piece(1 + random.below(400) as usize);
            wire.put(&piece);
            self.sent_in_all += piece.len();
            self.seal_at_ms = now_ms + u64::from(random.below(1 + self.gap_ms));
        }
    }

    fn end(&mut self, now_ms: u64, wire: &mut Wire) {
        let unheeding = matches!(self.script.trouble, Trouble::NeverReads | Trouble::Stays);
        if unheeding && wire.closed {
            return self.close(now_ms, wire, ClientOutcome::Left);
        }
        let stays = self.script.trouble == Trouble::Stays;
        if let Some(at_ms) = self.close_at_ms {
            if now_ms >= at_ms && !stays {
                self.close(now_ms, wire, ClientOutcome::Closed);
            }
            return;
        }
        let said = self.tls.as_ref().is_none_or(Session::has_said_all);
        if self.current < self.script.requests.len() || !said {
            return;
        }
        if self.script.trouble == Trouble::Leaves {
            return self.close(now_ms, wire, ClientOutcome::Left);
        }
        let answered = self.answers == self.script.answers();
        match self.script.ending {
            Ending::Close | Ending::Reset if stays => {}
            Ending::Close if answered => {
                self.take_leave(wire);
                self.close(now_ms, wire, ClientOutcome::Content);
            }
            Ending::Reset if answered => {
                self.reset(wire);
                self.leave(now_ms, ClientOutcome::Content);
            }
            Ending::HalfClose => self.take_leave(wire),
            Ending::Await if answered => {
                if let Some(tls) = &mut self.tls {
                    tls.spoil();
                }
            }
            _ => {}
        }
    }

    /// Says that no more follows: in TLS if it speaks that, and by TCP unless that is enough.
    fn take_leave(&mut self, wire: &mut Wire) {
        let ends = self.tls.as_mut().is_none_or(Session::leave);
        if let Some(tls) = &mut self.tls
            && !tls.outgoing.is_empty()
        {
            wire.put(tls.outgoing.make_contiguous());
            tls.outgoing.clear();
        }
        if ends {
            wire.client_end.get_or_insert(End::Fin);
        }
    }

    /// When it next wants to do something, if nothing happens before.
    pub(crate) fn next_ms(&self, wire: &Wire) -> Option<u64> {
        if self.gone() {
            return None;
        }
        if !self.connected {
            return Some(self.script.connect_ms);
        }
        let reads = !self.never_reads()
            && self.close_at_ms.is_none()
            && (!wire.to_client.is_empty() || wire.server_end.is_some());
        let resets = match self.script.trouble {
            Trouble::ResetsAfter(ms) => Some(self.script.connect_ms + ms),
            _ => None,
        };
        let closes = self.close_at_ms.filter(|_| self.script.trouble != Trouble::Stays);
        [
            reads.then_some(self.read_at_ms),
            self.may_send(wire).then_some(self.send_at_ms),
            self.may_seal(wire).then_some(self.seal_at_ms),
            closes,
            resets,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

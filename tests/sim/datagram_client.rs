//! A simulated client that speaks UDP (BEP 15): it asks, waits, and asks again.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use annulus::metrics::labels::DatagramDrop;
use annulus_ring::DatagramIndex;

use super::datagrams::{Packet, ReplyPacket};

/// The connection id of a connect request.
pub(crate) const CONNECT_ID: u64 = 0x0417_2710_1980;
/// Seconds for which a client uses a connection id (BEP 15).
const ID_S: u32 = 60;
/// Times that a client asks the same.
const ATTEMPTS_MAX: u32 = 4;
/// Milliseconds that it waits for the first reply; for the next it waits twice as long, and so on.
const PATIENCE_MS: u64 = 400;

/// What a datagram brings back, if it arrives whole and its connection id is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Connected,
    Announced,
    /// The counts of so many torrents.
    Scraped(usize),
    /// An error.
    Failed,
    /// No reply.
    Dropped(DatagramDrop),
}

/// The connection id in a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdState {
    /// None is needed.
    Absent,
    /// The worker gave it to the sender's address in this second.
    Told(u32),
    /// The worker did not, or to another address.
    Forged,
}

/// Which connection id a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdChoice {
    /// That of a connect.
    Magic,
    /// The one that it was given, and after a minute a new one.
    Fresh,
    /// The one that it was given, however old.
    Kept,
    /// The same from another address than it was given to.
    Stolen,
    /// The same with some bits flipped.
    Altered(u64),
}

/// What a client does next.
#[derive(Clone)]
pub(crate) enum Step {
    WaitMs(u64),
    /// Sends a datagram as it is.
    Raw {
        from: SocketAddr,
        bytes: Vec<u8>,
        outcome: Outcome,
    },
    /// Sends a connection id, an action, a transaction id and `body`.
    Ask {
        from: SocketAddr,
        id: IdChoice,
        action: u32,
        body: Vec<u8>,
        outcome: Outcome,
    },
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::WaitMs(ms) => write!(f, "wait {ms} ms"),
            Step::Raw { bytes, outcome, .. } => write!(f, "{} bytes: {outcome:?}", bytes.len()),
            Step::Ask { id, action, body, outcome, .. } => {
                write!(f, "action {action}, {id:?}, {} bytes: {outcome:?}", body.len())
            }
        }
    }
}

/// One client, as drawn from a seed.
#[derive(Clone, Debug)]
pub(crate) struct DatagramScript {
    pub(crate) from: SocketAddr,
    pub(crate) socket: DatagramIndex,
    /// The address of the tracker that it asks.
    pub(crate) to: SocketAddr,
    pub(crate) begin_ms: u64,
    pub(crate) steps: Vec<Step>,
    /// Does not wait for a reply before it goes on, and does not ask again.
    pub(crate) hasty: bool,
    pub(crate) pause_ms: u64,
}

/// A connection id that the client was given.
#[derive(Clone, Copy, Debug)]
struct GivenId {
    id: u64,
    told_s: u32,
}

/// What a client has asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    from: SocketAddr,
    /// The step whose reply is waited for.
    step: Option<usize>,
}

/// A client at work.
#[derive(Clone, Debug)]
pub(crate) struct DatagramClient {
    pub(crate) script: DatagramScript,
    number: usize,
    current: usize,
    /// Times that it has asked for the reply that it waits for.
    attempts: u32,
    /// What that is: the reply to a step, or to a connect on behalf of one.
    awaits: Option<Option<usize>>,
    /// By transaction id.
    questions: BTreeMap<u32, Question>,
    given: Option<GivenId>,
    /// Milliseconds on the clock at which it goes on.
    next_ms: u64,
    /// Nobody answers.
    gave_up: bool,
    /// Datagrams that it sent again.
    pub(crate) repeated: u32,
    /// Replies in all, repeated ones too.
    pub(crate) replies: u32,
}

impl DatagramClient {
    pub(crate) fn new(number: usize, script: &DatagramScript) -> DatagramClient {
        DatagramClient {
            script: script.clone(),
            number,
            current: 0,
            attempts: 0,
            awaits: None,
            questions: BTreeMap::new(),
            given: None,
            next_ms: script.begin_ms,
            gave_up: false,
            repeated: 0,
            replies: 0,
        }
    }

    pub(crate) fn gone(&self) -> bool {
        self.gave_up || self.current == self.script.steps.len()
    }

    pub(crate) fn has_asked_everything(&self) -> bool {
        !self.gave_up
    }

    pub(crate) fn next_ms(&self) -> Option<u64> {
        (!self.gone()).then_some(self.next_ms)
    }

    /// Does whatever it is time for.
    pub(crate) fn step(&mut self, now_ms: u64, packets: &mut Vec<Packet>) {
        while !self.gone() && now_ms >= self.next_ms {
            let packet = match self.script.steps[self.current].clone() {
                Step::WaitMs(ms) => {
                    self.go_on(now_ms + ms);
                    None
                }
                Step::Raw { from, bytes, outcome } => {
                    self.go_on(now_ms);
                    Some(self.packet(from, bytes, IdState::Absent, outcome))
                }
                Step::Ask { from, id, action, body, outcome } => match self.given_id(id, now_ms) {
                    Some((state, id)) => self.ask(now_ms, outcome, state).then(|| {
                        let question = Question { from, step: self.awaits.flatten() };
                        let bytes = self.question(question, (id, action), &body);
                        self.packet(from, bytes, state, outcome)
                    }),
                    None if self.ask_again(now_ms, None) => {
                        let from = self.script.from;
                        let question = Question { from, step: None };
                        let bytes = self.question(question, (CONNECT_ID, 0), &[]);
                        Some(self.packet(from, bytes, IdState::Absent, Outcome::Connected))
                    }
                    None => {
                        self.gave_up = true;
                        None
                    }
                },
            };
            packets.extend(packet);
        }
    }

    /// The connection id to send, unless a new one is needed.
    fn given_id(&self, choice: IdChoice, now_ms: u64) -> Option<(IdState, u64)> {
        if choice == IdChoice::Magic {
            return Some((IdState::Absent, CONNECT_ID));
        }
        let GivenId { id, told_s } = self.given?;
        let is_old = now_ms / 1000 >= u64::from(told_s + ID_S);
        match choice {
            IdChoice::Fresh if is_old => None,
            IdChoice::Stolen => Some((IdState::Forged, id)),
            IdChoice::Altered(bits) => Some((IdState::Forged, id ^ bits)),
            _ => Some((IdState::Told(told_s), id)),
        }
    }

    /// Whether to send the datagram of this step, which is waited for if a reply is certain.
    fn ask(&mut self, now_ms: u64, outcome: Outcome, id: IdState) -> bool {
        let is_certain = !matches!(outcome, Outcome::Dropped(_))
            && match id {
                IdState::Absent => true,
                IdState::Told(told_s) => now_ms / 1000 <= u64::from(told_s + ID_S),
                IdState::Forged => false,
            };
        if self.script.hasty || !is_certain {
            self.go_on(now_ms);
            return true;
        }
        let asks = self.ask_again(now_ms, Some(self.current));
        if !asks {
            self.go_on(now_ms);
        }
        asks
    }

    fn go_on(&mut self, now_ms: u64) {
        self.current += 1;
        self.attempts = 0;
        self.awaits = None;
        self.next_ms = now_ms + self.script.pause_ms;
    }

    /// Counts an attempt, whose reply is waited for; false if there were enough.
    fn ask_again(&mut self, now_ms: u64, step: Option<usize>) -> bool {
        self.repeated += u32::from(self.attempts > 0);
        self.attempts += 1;
        self.awaits = Some(step);
        self.next_ms = now_ms + PATIENCE_MS * u64::from(self.attempts);
        self.attempts <= ATTEMPTS_MAX
    }

    fn question(&mut self, question: Question, (id, action): (u64, u32), body: &[u8]) -> Vec<u8> {
        let transaction = (self.number << 16 | self.questions.len()) as u32;
        self.questions.insert(transaction, question);
        let head = [&id.to_be_bytes()[..], &action.to_be_bytes(), &transaction.to_be_bytes()];
        [&head.concat(), body].concat()
    }

    fn packet(&self, from: SocketAddr, bytes: Vec<u8>, id: IdState, outcome: Outcome) -> Packet {
        let (client, socket, to) = (self.number, self.script.socket, self.script.to);
        Packet { client, socket, from, to, bytes, id, outcome }
    }

    /// Takes a reply, which may be one of several to the same question.
    pub(crate) fn hear(&mut self, now_ms: u64, reply: &ReplyPacket) {
        self.replies += 1;
        assert_eq!(reply.from, self.script.to, "a reply from another address than was asked");
        let number = |at: usize| {
            let bytes = reply.bytes[at..at + 4].try_into().expect("four bytes");
            u32::from_be_bytes(bytes)
        };
        let (action, transaction) = (number(0), number(4));
        let Some(&question) = self.questions.get(&transaction) else {
            panic!("a reply to nothing that client {} asked: {reply:?}", self.number);
        };
        assert_eq!(reply.to, question.from, "a reply to another address than asked");
        if action == 0 {
            let id = reply.bytes[8..16].try_into().expect("eight bytes");
            let given = GivenId { id: u64::from_be_bytes(id), told_s: reply.told_s };
            let newer = self.given.is_none_or(|before| before.told_s <= given.told_s);
            // One that was asked for from elsewhere is of no use.
            if newer && question.from.ip() == self.script.from.ip() {
                self.given = Some(given);
            }
        }
        if self.awaits != Some(question.step) {
            return;
        }
        match question.step {
            Some(_) => self.go_on(now_ms),
            // Now the step that the connection id is for.
            None if action == 0 => {
                (self.attempts, self.awaits, self.next_ms) = (0, None, now_ms);
            }
            None => {}
        }
    }
}

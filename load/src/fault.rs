//! What can be wrong with an answer, and what is merely odd, counted by reason.

use std::collections::BTreeMap;
use std::fmt;

/// Different details that are kept of all faults together; the others are counted as one.
const DETAILS_MAX: usize = 64;

/// Characters of a detail that are kept.
const DETAIL_CHARS_MAX: usize = 80;

/// Why a request has not been answered as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection could be made.
    Connect,
    /// No TLS could be agreed on, or it broke.
    Tls,
    /// No answer came in time.
    Silence,
    /// The connection ended before the answer did.
    EndedEarly,
    /// The socket failed.
    Socket,
    /// An arrival for which no connection was free until the end.
    NeverSent,
    /// The answer does not begin like one of HTTP.
    NotHttp,
    /// A header that is none, or contradicts another.
    BadHeader,
    /// Chunks that are none.
    BadChunk,
    /// A status other than 200.
    Status,
    /// The body is compressed, which was not asked for.
    Compressed,
    /// An answer beyond the bounds of this program.
    TooLong,
    /// Bytes that answer nothing.
    Surplus,
    /// The body is not a bencoded dictionary.
    NotBencode,
    /// Bytes of the body after the dictionary.
    TrailingBytes,
    /// A `failure reason`.
    Refused,
    /// A key that must be there is not.
    MissingKey,
    /// A value of another type than its key's.
    WrongType,
    /// An interval that is not positive, or more than clients can keep.
    BadInterval,
    /// Compact peers that are not 6 or 18 bytes each, or an address that is none, or that nobody
    /// can have.
    BadPeers,
    /// A peer that is there twice.
    RepeatedPeer,
    /// More peers than were asked for.
    TooManyPeers,
    /// The peer that asked is among those given.
    OwnAddress,
    /// A peer with port 0.
    PortZero,
    /// A peer that never announced.
    StrangePeer,
    /// A scraped torrent that was not asked for.
    StrangeTorrent,
}

/// Every fault, in the order of reports.
pub const FAULTS: [Fault; 26] = [
    Fault::Connect,
    Fault::Tls,
    Fault::Silence,
    Fault::EndedEarly,
    Fault::Socket,
    Fault::NeverSent,
    Fault::NotHttp,
    Fault::BadHeader,
    Fault::BadChunk,
    Fault::Status,
    Fault::Compressed,
    Fault::TooLong,
    Fault::Surplus,
    Fault::NotBencode,
    Fault::TrailingBytes,
    Fault::Refused,
    Fault::MissingKey,
    Fault::WrongType,
    Fault::BadInterval,
    Fault::BadPeers,
    Fault::RepeatedPeer,
    Fault::TooManyPeers,
    Fault::OwnAddress,
    Fault::PortZero,
    Fault::StrangePeer,
    Fault::StrangeTorrent,
];

impl Fault {
    /// What it is called in reports and in the option `allow`.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Connect => "connect",
            Fault::Tls => "tls",
            Fault::Silence => "silence",
            Fault::EndedEarly => "ended-early",
            Fault::Socket => "socket",
            Fault::NeverSent => "never-sent",
            Fault::NotHttp => "not-http",
            Fault::BadHeader => "bad-header",
            Fault::BadChunk => "bad-chunk",
            Fault::Status => "status",
            Fault::Compressed => "compressed",
            Fault::TooLong => "too-long",
            Fault::Surplus => "surplus",
            Fault::NotBencode => "not-bencode",
            Fault::TrailingBytes => "trailing-bytes",
            Fault::Refused => "refused",
            Fault::MissingKey => "missing-key",
            Fault::WrongType => "wrong-type",
            Fault::BadInterval => "bad-interval",
            Fault::BadPeers => "bad-peers",
            Fault::RepeatedPeer => "repeated-peer",
            Fault::TooManyPeers => "too-many-peers",
            Fault::OwnAddress => "own-address",
            Fault::PortZero => "port-zero",
            Fault::StrangePeer => "strange-peer",
            Fault::StrangeTorrent => "strange-torrent",
        }
    }
}

/// What clients get along with, but a careful tracker does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Keys of a dictionary that are not sorted, or come twice (BEP 3).
    UnsortedKeys,
    /// A line end behind the bencode: all clients known get along with it, and aquatic_http sends
    /// it.
    TrailingLineEnd,
    /// A list of dictionaries though `compact=1` was asked for.
    DictionaryPeers,
    /// The server ended a connection that was to be kept.
    ClosedKept,
    /// A body without Content-Length, up to the end of the connection.
    NoLength,
    /// A body in chunks.
    Chunked,
    /// A `warning message`.
    Warning,
}

/// Every oddity, in the order of reports.
pub const ODDITIES: [Oddity; 7] = [
    Oddity::UnsortedKeys,
    Oddity::TrailingLineEnd,
    Oddity::DictionaryPeers,
    Oddity::ClosedKept,
    Oddity::NoLength,
    Oddity::Chunked,
    Oddity::Warning,
];

impl Oddity {
    /// What it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Oddity::UnsortedKeys => "unsorted-keys",
            Oddity::TrailingLineEnd => "trailing-line-end",
            Oddity::DictionaryPeers => "dictionary-peers",
            Oddity::ClosedKept => "closed-kept-connection",
            Oddity::NoLength => "no-length",
            Oddity::Chunked => "chunked",
            Oddity::Warning => "warning",
        }
    }
}

/// A fault, and what more there is to say of it: a status, a reason, a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Which.
    pub fault: Fault,
    /// Empty where the fault says it all.
    pub detail: String,
}

impl Wrong {
    /// With a detail, as far as it can be shown.
    pub fn because(fault: Fault, detail: impl fmt::Display) -> Wrong {
        let shown = detail.to_string();
        let detail = shown.chars().take(DETAIL_CHARS_MAX);
        let detail = detail.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Wrong { fault, detail }
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Wrong {
        Wrong { fault, detail: String::new() }
    }
}

/// Oddities of one answer or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities([u64; ODDITIES.len()]);

impl Oddities {
    /// Counts one.
    pub fn note(&mut self, oddity: Oddity) {
        self.0[oddity as usize] += 1;
    }

    /// Adds those of `other`.
    pub fn add(&mut self, other: &Oddities) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    /// How many of one kind.
    pub fn count(&self, oddity: Oddity) -> u64 {
        self.0[oddity as usize]
    }
}

/// Faults, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    counts: [u64; FAULTS.len()],
    details: BTreeMap<(usize, String), u64>,
}

impl Faults {
    /// Counts one.
    pub fn note(&mut self, wrong: Wrong) {
        let at = wrong.fault as usize;
        self.counts[at] += 1;
        if !wrong.detail.is_empty() {
            self.detail(at, wrong.detail, 1);
        }
    }

    /// Counts so many that there is nothing more to say of.
    pub fn note_many(&mut self, fault: Fault, count: u64) {
        self.counts[fault as usize] += count;
    }

    fn detail(&mut self, at: usize, detail: String, count: u64) {
        let known = self.details.contains_key(&(at, detail.clone()));
        let detail =
            if known || self.details.len() < DETAILS_MAX { detail } else { "others".to_owned() };
        *self.details.entry((at, detail)).or_default() += count;
    }

    /// Adds those of `other`.
    pub fn add(&mut self, other: Faults) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        for ((at, detail), count) in other.details {
            self.detail(at, detail, count);
        }
    }

    /// How many of one kind.
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The details of one kind, the most frequent first.
    pub fn details(&self, fault: Fault) -> Vec<(&str, u64)> {
        let own = self.details.iter().filter(|((at, _), _)| *at == fault as usize);
        let mut own: Vec<(&str, u64)> = own.map(|((_, text), n)| (text.as_str(), *n)).collect();
        own.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::{DETAILS_MAX, FAULTS, Fault, Faults, ODDITIES, Wrong};

    #[test]
    fn every_kind_has_its_place_and_name() {
        assert!(FAULTS.iter().enumerate().all(|(at, fault)| *fault as usize == at));
        assert!(ODDITIES.iter().enumerate().all(|(at, oddity)| *oddity as usize == at));
        for (at, fault) in FAULTS.iter().enumerate() {
            assert!(FAULTS[..at].iter().all(|other| other.name() != fault.name()));
        }
    }

    #[test]
    fn details_are_bounded_and_nothing_is_lost() {
        let mut faults = Faults::default();
        for number in 0..1000 {
            faults.note(Wrong::because(Fault::Refused, number));
        }
        faults.note(Wrong::because(Fault::Refused, 7));
        let mut twice = faults.clone();
        twice.add(faults);
        assert_eq!(twice.count(Fault::Refused), 2002);
        let details = twice.details(Fault::Refused);
        assert!(details.len() <= DETAILS_MAX + 1);
        assert_eq!(details.iter().map(|(_, count)| count).sum::<u64>(), 2002);
        assert_eq!(details[0].0, "others");
        assert_eq!(details[1], ("7", 4));
    }

    #[test]
    fn details_are_made_fit_to_be_shown() {
        let wrong = Wrong::because(Fault::Refused, "a\x1b[2J\n".to_owned() + &"b".repeat(500));
        assert!(wrong.detail.starts_with("a\u{fffd}[2J\u{fffd}bbb"));
        assert_eq!(wrong.detail.chars().count(), 80);
    }
}

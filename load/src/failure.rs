//! What can be wrong with a response and what is merely unusual, counted by kind.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// Different details that are kept of all failures; the others are counted together.
const DETAILS_MAX: usize = 64;

/// Characters of a detail that are kept.
const DETAIL_CHARS_MAX: usize = 80;

/// An enum whose variants have names for reports, which it lists in their order.
macro_rules! named_kinds {
    ($(#[$about:meta])* $kind:ident { $($(#[$doc:meta])* $variant:ident: $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $kind { $($(#[$doc])* $variant),* }

        impl $kind {
            /// Every kind, in the order of reports.
            pub const ALL: &[$kind] = &[$($kind::$variant),*];

            /// The name in reports.
            pub fn name(self) -> &'static str {
                match self { $($kind::$variant => $name),* }
            }
        }
    };
}

named_kinds!(
    /// Why a request has no correct response. Reports and the option `allow` call it a fault.
    FailureKind {
        Connect: "connect",
        /// The handshake or the decryption failed.
        Tls: "tls",
        /// No response in time.
        Silence: "silence",
        /// The connection ended before the response did.
        EndedEarly: "ended-early",
        Socket: "socket",
        /// No connection was free for a due request until the end of the run.
        NeverSent: "never-sent",
        NotHttp: "not-http",
        /// A malformed or contradictory header.
        BadHeader: "bad-header",
        BadChunk: "bad-chunk",
        /// Another status than 200.
        Status: "status",
        /// A compressed body, which no request accepts.
        Compressed: "compressed",
        /// A response beyond the limits of this program.
        TooLong: "too-long",
        /// Bytes that belong to no request, or by UDP a second response to one.
        Surplus: "surplus",
        /// A datagram with a transaction id that no request of its socket had.
        StrangeTransaction: "strange-transaction",
        /// A datagram with another action than that of its request.
        WrongAction: "wrong-action",
        /// A datagram that is too short, or longer than what it tells.
        BadLength: "bad-length",
        /// The body is not a bencoded dictionary.
        NotBencode: "not-bencode",
        /// Bytes of the body after the dictionary.
        TrailingBytes: "trailing-bytes",
        /// A `failure reason`, or by UDP an error.
        Refused: "refused",
        MissingKey: "missing-key",
        WrongType: "wrong-type",
        /// An interval that is not positive, or has more than 31 bits.
        BadInterval: "bad-interval",
        /// Compact peers of a wrong length, or an address that no peer can have.
        BadPeers: "bad-peers",
        RepeatedPeer: "repeated-peer",
        /// More peers than were asked for.
        TooManyPeers: "too-many-peers",
        /// The announcing peer is in its own response.
        OwnAddress: "own-address",
        PortZero: "port-zero",
        /// A peer that never announced.
        StrangePeer: "strange-peer",
        /// A torrent that was not asked for.
        StrangeTorrent: "strange-torrent",
    }
);

named_kinds!(
    /// What clients cope with, but a careful tracker does not send. Reports call it an oddity.
    Warning {
        /// Keys of a dictionary that are unsorted or repeated (BEP 3).
        UnsortedKeys: "unsorted-keys",
        /// A line end after the bencode. aquatic_http sends one.
        TrailingLineEnd: "trailing-line-end",
        /// A list of dictionaries despite `compact=1`.
        DictionaryPeers: "dictionary-peers",
        /// The server closed a connection that was to be kept.
        ClosedKept: "closed-kept-connection",
        /// A body without Content-Length that ends with the connection.
        NoLength: "no-length",
        Chunked: "chunked",
        /// A `warning message`.
        WarningMessage: "warning",
    }
);

/// A failure and its detail, such as a status, a reason or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// Empty where the kind says it all.
    pub detail: String,
}

impl Failure {
    /// With a detail, shortened and made printable.
    pub fn new(kind: FailureKind, detail: impl fmt::Display) -> Failure {
        let text = detail.to_string();
        let detail = text.chars().take(DETAIL_CHARS_MAX);
        let detail = detail.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Failure { kind, detail }
    }
}

impl From<FailureKind> for Failure {
    fn from(kind: FailureKind) -> Failure {
        Failure { kind, detail: String::new() }
    }
}

/// Warnings of one response or of many, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarningCounts([u64; Warning::ALL.len()]);

impl WarningCounts {
    pub fn count(&mut self, warning: Warning) {
        self.0[warning as usize] += 1;
    }

    pub fn add(&mut self, other: &WarningCounts) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    pub fn of(&self, warning: Warning) -> u64 {
        self.0[warning as usize]
    }
}

/// Failures, counted by kind and detail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts(BTreeMap<(FailureKind, String), u64>);

impl FailureCounts {
    pub fn count(&mut self, failure: Failure) {
        self.count_many(failure, 1);
    }

    fn count_many(&mut self, failure: Failure, count: u64) {
        let mut key = (failure.kind, failure.detail);
        if !key.1.is_empty() && self.0.len() >= DETAILS_MAX && !self.0.contains_key(&key) {
            key.1 = "others".to_owned();
        }
        *self.0.entry(key).or_default() += count;
    }

    pub fn add(&mut self, other: FailureCounts) {
        for ((kind, detail), count) in other.0 {
            self.count_many(Failure { kind, detail }, count);
        }
    }

    fn all_of(&self, kind: FailureKind) -> impl Iterator<Item = (&str, u64)> {
        let of_kind = self.0.iter().filter(move |((other, _), _)| *other == kind);
        of_kind.map(|((_, detail), count)| (detail.as_str(), *count))
    }

    pub fn of(&self, kind: FailureKind) -> u64 {
        self.all_of(kind).map(|(_, count)| count).sum()
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The details of one kind, the most frequent first.
    pub fn details(&self, kind: FailureKind) -> impl Iterator<Item = (&str, u64)> {
        let mut details: Vec<_> = self.all_of(kind).filter(|(text, _)| !text.is_empty()).collect();
        details.sort_by_key(|(_, count)| Reverse(*count));
        details.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::{DETAILS_MAX, Failure, FailureCounts, FailureKind};

    #[test]
    fn details_are_bounded_and_printable() {
        let mut counts = FailureCounts::default();
        (0..1000).for_each(|number| counts.count(Failure::new(FailureKind::Refused, number)));
        counts.count(Failure::new(FailureKind::Refused, 7));
        let mut twice = counts.clone();
        twice.add(counts);
        assert_eq!(twice.of(FailureKind::Refused), 2002);
        let details: Vec<_> = twice.details(FailureKind::Refused).collect();
        assert!(details.len() <= DETAILS_MAX + 1);
        assert_eq!((details[0].0, details[1]), ("others", ("7", 4)));
        let text = "a\x1b[2J\n".to_owned() + &"b".repeat(500);
        let failure = Failure::new(FailureKind::Refused, text);
        assert!(failure.detail.starts_with("a\u{fffd}[2J\u{fffd}bbb"));
        assert_eq!(failure.detail.chars().count(), 80);
    }
}

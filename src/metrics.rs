//! What is counted, and how: numbers that each worker keeps for itself and others only read.
//!
//! [`Counters`] is one worker's block of them, on cache lines that no other core writes to. The
//! worker alone changes it, so that counting is a load and a store without a lock; whoever wants
//! to know adds the blocks up. Nothing here reads a clock or does I/O.
//!
//! A new reason for something that is counted by reason is one line in [`labels`].

pub mod counter;
pub mod histogram;
pub mod labels;

use std::time::Duration;

use counter::{CounterKey, CounterVec, Metric};
use histogram::Histogram;
use labels::{
    AcceptPause, AddressFamily, FailureReason, Rejection, RequestOutcome, RequestType, Resumption,
    TlsVersion, TransportKind, Unstored, WaitingFor,
};

/// What a request is counted by.
pub type RequestKey = (RequestType, AddressFamily, RequestOutcome);
/// What an accepted connection is counted by.
pub type AcceptKey = (TransportKind, AddressFamily);
/// What a completed handshake is counted by.
pub type HandshakeKey = (TlsVersion, Resumption);

/// The numbers of one worker, since its start. They are written by its thread alone.
#[repr(align(128))]
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that were answered.
    pub requests: CounterVec<RequestKey, { RequestKey::COUNT }>,
    /// Requests that failed, and what was refused because it was no request.
    pub failures: CounterVec<FailureReason, { FailureReason::COUNT }>,
    /// Peers that were answered, but not stored for want of room.
    pub unstored: CounterVec<Unstored, { Unstored::COUNT }>,
    /// Peers that another endpoint of their address took the place of.
    pub peers_replaced: Metric,
    /// Torrents that a new one took the place of.
    pub torrents_replaced: Metric,
    /// Connections that were accepted.
    pub accepted: CounterVec<AcceptKey, { AcceptKey::COUNT }>,
    /// Connections that were closed against the client's will.
    pub rejected: CounterVec<Rejection, { Rejection::COUNT }>,
    /// Connections whose client had had its time.
    pub timeouts: CounterVec<WaitingFor, { WaitingFor::COUNT }>,
    /// Connections that were closed to make room for others, by what they were waiting for.
    pub evicted: CounterVec<WaitingFor, { WaitingFor::COUNT }>,
    /// How often accepting paused.
    pub accept_pauses: CounterVec<AcceptPause, { AcceptPause::COUNT }>,
    /// TLS handshakes that were completed.
    pub handshakes: CounterVec<HandshakeKey, { HandshakeKey::COUNT }>,
    /// TLS connections that ended before their handshake did.
    pub handshakes_failed: Metric,
    /// Bytes received, as they came on the wire.
    pub bytes_received: Metric,
    /// Bytes of answers handed to the kernel, as they go on the wire.
    pub bytes_sent: Metric,
    /// Connections held at the end of the last turn.
    pub connections: Metric,
    /// The second of the last turn, counted from the start of the process.
    pub turned_s: Metric,
    /// How long turns of the loop took, without the sleep between them.
    pub turns: Histogram,
    /// How long requests took from when their last bytes were there.
    pub latencies: Histogram,
}

impl Counters {
    /// Notes the end of a turn that began at second `now_s`, took `took` and answered so many
    /// requests, all of which go out with the turn's end.
    pub fn turned(&self, now_s: u32, took: Duration, requests: u32) {
        self.turned_s.set(u64::from(now_s));
        self.turns.observe(took, 1);
        if requests > 0 {
            self.latencies.observe(took, u64::from(requests));
        }
    }

    /// Adds what another worker has counted; of the seconds, the later one stays.
    pub fn absorb(&self, other: &Counters) {
        self.requests.absorb(&other.requests);
        self.failures.absorb(&other.failures);
        self.unstored.absorb(&other.unstored);
        self.peers_replaced.add(other.peers_replaced.get());
        self.torrents_replaced.add(other.torrents_replaced.get());
        self.accepted.absorb(&other.accepted);
        self.rejected.absorb(&other.rejected);
        self.timeouts.absorb(&other.timeouts);
        self.evicted.absorb(&other.evicted);
        self.accept_pauses.absorb(&other.accept_pauses);
        self.handshakes.absorb(&other.handshakes);
        self.handshakes_failed.add(other.handshakes_failed.get());
        self.bytes_received.add(other.bytes_received.get());
        self.bytes_sent.add(other.bytes_sent.get());
        self.connections.add(other.connections.get());
        self.turned_s.set(self.turned_s.get().max(other.turned_s.get()));
        self.turns.absorb(&other.turns);
        self.latencies.absorb(&other.latencies);
    }
}

//! Counters: each worker writes a block of its own, and other threads only read it.
//!
//! [`Counters`] is one worker's block, on cache lines that no other core writes, so that counting
//! is a load and a store without a locked operation. A reader adds the blocks of all workers. A
//! new reason for something that is counted by reason is one line in [`labels`].

pub mod counter;
pub mod histogram;
pub mod labels;

use std::time::Duration;

use counter::{CounterKey, CounterVec, Metric};
use histogram::Histogram;
use labels::{
    AcceptPause, AddressFamily, DatagramDrop, FailureReason, Rejection, RequestOutcome,
    RequestType, Resumption, TlsVersion, TransportKind, Unstored, WaitingFor,
};

pub type RequestKey = ((RequestType, TransportKind), (AddressFamily, RequestOutcome));
pub type AcceptKey = (TransportKind, AddressFamily);
pub type HandshakeKey = (TlsVersion, Resumption);

/// What one worker has counted since its start. Only its own thread writes it.
#[repr(align(128))]
#[derive(Default)]
pub struct Counters {
    /// Requests that were answered.
    pub requests: CounterVec<RequestKey, { RequestKey::COUNT }>,
    /// Failed requests, and input that was rejected because it was no complete request.
    pub failures: CounterVec<FailureReason, { FailureReason::COUNT }>,
    /// Announces of peers that were answered, but not stored for lack of room.
    pub unstored: CounterVec<Unstored, { Unstored::COUNT }>,
    /// Peers replaced by another endpoint of their address.
    pub peers_replaced: Metric,
    /// Torrents replaced by a new one.
    pub torrents_replaced: Metric,
    /// Records for other nodes of the cluster that found no room.
    pub records_dropped: Metric,
    pub accepted: CounterVec<AcceptKey, { AcceptKey::COUNT }>,
    /// Connections reset by the tracker before they got a response.
    pub rejected: CounterVec<Rejection, { Rejection::COUNT }>,
    pub timeouts: CounterVec<WaitingFor, { WaitingFor::COUNT }>,
    /// Connections closed early to make room for new ones.
    pub evicted: CounterVec<WaitingFor, { WaitingFor::COUNT }>,
    /// Datagrams without a reply.
    pub datagrams_dropped: CounterVec<DatagramDrop, { DatagramDrop::COUNT }>,
    pub accept_pauses: CounterVec<AcceptPause, { AcceptPause::COUNT }>,
    /// Completed TLS handshakes.
    pub handshakes: CounterVec<HandshakeKey, { HandshakeKey::COUNT }>,
    /// TLS connections that ended before their handshake was complete.
    pub handshakes_failed: Metric,
    /// Bytes received from clients, TLS included.
    pub bytes_received: Metric,
    /// Bytes of responses passed to the kernel, TLS included.
    pub bytes_sent: Metric,
    /// Connections open at the end of the last turn: a gauge.
    pub connections: Metric,
    /// When the last turn began, in seconds since the start of the process: a gauge.
    pub turned_s: Metric,
    /// Durations of turns of the loop, without the sleep between them.
    pub turns: Histogram,
    /// Durations of requests, from the arrival of their last byte.
    pub latencies: Histogram,
}

impl Counters {
    /// Counts a turn that began at second `now_s`, lasted for `took` and answered `requests`
    /// requests: all their responses are submitted at its end.
    pub fn turned(&self, now_s: u32, took: Duration, requests: u32) {
        self.turned_s.set(u64::from(now_s));
        self.turns.observe(took, 1);
        if requests > 0 {
            self.latencies.observe(took, u64::from(requests));
        }
    }

    /// Adds the counters of another worker; `turned_s` becomes the later of both.
    pub fn absorb(&self, other: &Counters) {
        self.requests.absorb(&other.requests);
        self.failures.absorb(&other.failures);
        self.unstored.absorb(&other.unstored);
        self.peers_replaced.add(other.peers_replaced.get());
        self.torrents_replaced.add(other.torrents_replaced.get());
        self.records_dropped.add(other.records_dropped.get());
        self.accepted.absorb(&other.accepted);
        self.rejected.absorb(&other.rejected);
        self.timeouts.absorb(&other.timeouts);
        self.evicted.absorb(&other.evicted);
        self.datagrams_dropped.absorb(&other.datagrams_dropped);
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

//! One run: clients, a fake ring with its faults, a real worker; and the accounts at its end.

use std::cell::Cell;
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use annulus::config::ProtocolConfig;
use annulus::connection::Timeouts;
use annulus::limits::{
    BUFFERED_BYTES_MAX, FLIGHT_BYTES_MAX, HANDSHAKES_PER_TURN_MAX, REQUESTS_PER_TURN_MAX,
    RESPONSE_BATCH_BYTES, RESPONSE_BYTES_MAX,
};
use annulus::rate_limit::{ClientTable, RateLimitConfig, RateLimiter};
use annulus::server::{Server, ServerParts, response_bytes_max};
use annulus::tls::encrypted_bytes_max;
use annulus::worker::{EvictionCoordinator, Worker, WorkerConfig, WorkerParts};
use annulus_ring::Ring;
use annulus_swarm::{SwarmConfig, Swarms, Sweep};

use super::answers::Responses;
use super::client::{ClientOutcome, ClientScript};
use super::datagram_answers::DatagramReport;
use super::datagram_client::DatagramScript;
use super::datagrams::DATAGRAM_SOCKETS;
use super::faults::Faults;
use super::lanes::Lanes;
use super::ring::{FakeRing, LISTENERS, TIME_MAX_MS, TLS_FROM};
use super::tls::acceptor;
use super::trace::Trace;

/// From accept to the end of a handshake, in seconds, from accept or that to the end of the
/// first request's head, and so on.
pub(crate) const HANDSHAKE_S: u32 = 4;
pub(crate) const HEADER_S: u32 = 6;
pub(crate) const IDLE_S: u32 = 8;
pub(crate) const SEND_S: u32 = 7;
pub(crate) const SHUTDOWN_S: u32 = 5;

/// Requests that one connection is answered at once: no answer is shorter than this many bytes.
pub(crate) const BATCH_REQUESTS_MAX: u32 = (RESPONSE_BATCH_BYTES + RESPONSE_BYTES_MAX) as u32 / 64;

/// All clients of a run.
#[derive(Clone, Copy)]
pub(crate) struct Clients<'a> {
    pub(crate) tcp: &'a [ClientScript],
    pub(crate) udp: &'a [DatagramScript],
}

impl<'a, T: AsRef<[ClientScript]> + ?Sized> From<&'a T> for Clients<'a> {
    fn from(tcp: &'a T) -> Clients<'a> {
        Clients { tcp: tcp.as_ref(), udp: &[] }
    }
}

/// What became of one client.
pub(crate) struct SimReport {
    pub(crate) received: Vec<u8>,
    pub(crate) outcome: ClientOutcome,
    pub(crate) forgiven: bool,
    /// The handshake came to its end, and the server said that no more follows.
    pub(crate) agreed: bool,
    pub(crate) notified: bool,
    /// The server said by an alert that it could not go on.
    pub(crate) alerted: bool,
    /// Bytes of the client's that the worker was handed.
    pub(crate) taken: usize,
    /// Bytes that it had sent when the worker was told to stop, where that can be said.
    pub(crate) sent_at_stop: Option<usize>,
    pub(crate) accepted_ms: Option<u64>,
    /// When it read last, and when it ended.
    pub(crate) read_last_ms: u64,
    pub(crate) ended_ms: u64,
    /// When its descriptor was closed.
    pub(crate) closed_ms: Option<u64>,
}

impl SimReport {
    pub(crate) fn responses(&self, script: &ClientScript, connection: bool) -> Responses {
        Responses::read(&self.received, &script.requests, connection)
    }
}

/// The protocol of all runs: short answers, so that many fit where bytes are counted.
fn protocol() -> ProtocolConfig {
    ProtocolConfig { max_scrape_torrents: 64, full_scrape: true, ..ProtocolConfig::default() }
}

/// Limits of an address in a run: these, and nothing else.
pub(crate) fn client_table(
    connections_max: u16,
    requests_per_s: u32,
    burst: u32,
) -> Arc<ClientTable> {
    let settings = RateLimitConfig {
        connections_max,
        requests_per_s,
        burst,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        sets: 64,
    };
    Arc::new(ClientTable::new(settings, RandomState::new()))
}

/// A worker over a fake ring with these clients, and the clock of both.
pub(crate) fn build<'a>(
    clients: impl Into<Clients<'a>>,
    faults: Faults,
    seed: u64,
    trace: &Trace,
) -> (Worker<FakeRing>, Rc<Cell<u64>>, Arc<Swarms>) {
    build_limited(clients.into(), faults, seed, trace, None)
}

fn empty_swarms() -> Arc<Swarms> {
    let swarm_settings = SwarmConfig {
        torrents_max: 1_000_000,
        peers_max: 1_000_000,
        peers_per_torrent_max: 100_000,
        peers_per_address_max: 0,
        peer_timeout_s: 2700,
    };
    Arc::new(Swarms::new(swarm_settings, RandomState::new()))
}

/// A server that has answered nothing, and gives out the same connection ids as the worker's.
pub(crate) fn reference_server(seed: u64) -> Server {
    Server::new(ServerParts::new(empty_swarms(), protocol(), seed))
}

/// The same, with limits to what one address may take.
fn build_limited(
    clients: Clients<'_>,
    faults: Faults,
    seed: u64,
    trace: &Trace,
    client_table: Option<Arc<ClientTable>>,
) -> (Worker<FakeRing>, Rc<Cell<u64>>, Arc<Swarms>) {
    let swarms = empty_swarms();
    let protocol = protocol();
    let clock_ms = Rc::new(Cell::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let replies_bytes = response_bytes_max(&protocol) + faults.batch_bytes;
    let tls = clients.tcp.iter().any(|script| script.https);
    let config = WorkerConfig {
        listeners: LISTENERS,
        datagram_sockets: DATAGRAM_SOCKETS,
        prefetch_peers_min: 0,
        tls_from: TLS_FROM,
        tls_buffer_bytes: replies_bytes,
        timeouts: Timeouts { handshake_s: HANDSHAKE_S, header_s: HEADER_S, idle_s: IDLE_S },
        send_s: SEND_S,
        shutdown_s: SHUTDOWN_S,
    };
    let mut ring = FakeRing::new(
        clients,
        faults,
        match tls {
            true => encrypted_bytes_max(replies_bytes).max(FLIGHT_BYTES_MAX),
            false => replies_bytes,
        },
        !seed,
        Rc::clone(&clock_ms),
        Arc::clone(&stop),
        trace.clone(),
    );
    let limiter = client_table.map(RateLimiter::new);
    let server = ServerParts::new(Arc::clone(&swarms), protocol, seed);
    (ring.net.counters, ring.net.server_seed) = (Arc::clone(&server.counters), seed);
    let parts = WorkerParts {
        config,
        server: Server::new(ServerParts { rate_limiter: limiter, ..server }),
        acceptor: tls.then(acceptor),
        proxy_protocol: None,
        sweep: Sweep::new(0, 1),
        stop,
        evictions: Arc::new(EvictionCoordinator::alone(Arc::clone(&ring.limit))),
        index: 0,
        now_s: 0,
    };
    (Worker::new(ring, parts), clock_ms, swarms)
}

/// Lets these clients talk to a worker until all have left and it has stopped.
pub(crate) fn run<'a>(
    clients: impl Into<Clients<'a>>,
    faults: Faults,
    seed: u64,
    trace: &Trace,
) -> Vec<SimReport> {
    let (worker, clock_ms, _) = build(clients, faults, seed, trace);
    finish(worker, &clock_ms)
}

/// The same, with what became of the datagrams, which is not checked.
pub(crate) fn run_all<'a>(
    clients: impl Into<Clients<'a>>,
    faults: Faults,
    seed: u64,
    trace: &Trace,
) -> (Vec<SimReport>, DatagramReport) {
    let (worker, clock_ms, _) = build(clients, faults, seed, trace);
    finish_checked(worker, &clock_ms, |_| {})
}

/// The same, with limits to what one address may take; all connections are uncounted at the end.
pub(crate) fn run_limited<'a>(
    clients: impl Into<Clients<'a>>,
    faults: Faults,
    seed: u64,
    trace: &Trace,
    client_table: &Arc<ClientTable>,
) -> (Vec<SimReport>, DatagramReport) {
    let limits = Some(Arc::clone(client_table));
    let (worker, clock_ms, _) = build_limited(clients.into(), faults, seed, trace, limits);
    let counts = client_table.config().connections_max > 0;
    let (reports, datagrams) = finish_checked(worker, &clock_ms, |worker| {
        let permits = client_table.connections();
        let there = if counts { worker.ring().addressed_connections() as u64 } else { 0 };
        assert_eq!(permits, there, "permits, and the connections that are there");
    });
    assert_eq!(client_table.connections(), 0, "connections are counted that are gone");
    (reports, datagrams)
}

/// Turns the worker's loop to its end, and settles the accounts.
pub(crate) fn finish(worker: Worker<FakeRing>, clock_ms: &Cell<u64>) -> Vec<SimReport> {
    let (reports, datagrams) = finish_checked(worker, clock_ms, |_| {});
    datagrams.check();
    reports
}

/// The same, with a check after every turn; what became of the datagrams is not checked.
pub(crate) fn finish_checked(
    mut worker: Worker<FakeRing>,
    clock_ms: &Cell<u64>,
    check: impl Fn(&Worker<FakeRing>),
) -> (Vec<SimReport>, DatagramReport) {
    let now = || Duration::from_millis(clock_ms.get());
    while !worker.finished() {
        worker.wait().expect("the fake ring never breaks");
        worker.act(now().as_secs() as u32);
        worker.ring().check_limit();
        worker.ring().net.check_buffers();
        let there = worker.ring().connections();
        assert_eq!(worker.connections(), there, "connections that are counted, and that are there");
        let kept = worker.count_buffered_bytes();
        assert_eq!(worker.buffered_bytes(), kept, "bytes that connections hold");
        assert!(kept <= BUFFERED_BYTES_MAX, "{kept} bytes are held");
        check(&worker);
        let (handshakes, requests) = worker.turn_work();
        assert!(handshakes <= HANDSHAKES_PER_TURN_MAX, "{handshakes} handshakes in one turn");
        // The last connection that is answered may go on to the end of its batch, and so may those
        // whose handshakes go on in every turn.
        let most = REQUESTS_PER_TURN_MAX + (1 + HANDSHAKES_PER_TURN_MAX) * BATCH_REQUESTS_MAX;
        let most = most + worker.ring().net.delivered_in_turn() as u32;
        assert!(requests <= most, "{requests} requests answered in one turn");
        let quiet = worker.connections() == 0 && worker.ring().quiet();
        if quiet && !worker.ring().stop_asked {
            worker.ring_mut().ask_to_stop();
        }
    }
    worker.run(now).expect("the fake ring never breaks");
    assert!(worker.finished());
    assert_eq!(worker.connections(), 0, "slots are still taken");
    assert_eq!(worker.buffered_bytes(), 0, "bytes of nobody's are counted");
    let datagrams = worker.ring_mut().net.report(clock_ms.get());
    worker.ring_mut().turn(&mut Vec::new(), false).expect("the fake ring never breaks");
    worker.ring().settle_accounts();
    (worker.ring_mut().reports(), datagrams)
}

impl FakeRing {
    /// Connections that the worker was handed and has not given to be closed.
    pub(crate) fn connections(&self) -> usize {
        self.links.iter().filter(|link| link.held).count()
    }

    /// Those of them that did not come by a Unix socket, and so count for an address.
    fn addressed_connections(&self) -> usize {
        let there = self.links.iter().filter(|link| link.held);
        there.filter(|link| link.client.script.peer.is_some()).count()
    }

    /// There are never more connections than there may be.
    pub(crate) fn check_limit(&self) {
        let open = self.descriptors.iter().flatten().count();
        assert!(open <= self.faults.connections_max, "{open} connections");
        assert_eq!(self.limit.open(), open, "places that are taken, and connections");
    }

    /// At the end nothing may be left anywhere.
    pub(crate) fn settle_accounts(&self) {
        assert!(self.queue.is_empty(), "operations are still queued");
        assert!(self.listeners.iter().all(|listener| listener.closed), "a listener is open");
        let open = self.descriptors.iter().flatten().count();
        assert_eq!(open, 0, "descriptors are still open");
        assert_eq!(self.opened, self.closed, "descriptors opened and closed");
        self.net.settle_accounts();
    }

    /// What became of the clients, once they have read what is on its way to them.
    pub(crate) fn reports(&mut self) -> Vec<SimReport> {
        while !self.links.iter().all(|link| link.client.gone()) {
            assert!(self.now_ms() < TIME_MAX_MS, "a client waits for ever");
            self.step_clients();
            self.sleep();
        }
        // Completions that nobody will take any more hold their buffers until here.
        self.lanes = Lanes::default();
        assert_eq!(self.pool.free(), usize::from(self.pool.count()), "buffers are missing");
        let reports = self.links.iter_mut().map(|link| SimReport {
            received: std::mem::take(&mut link.client.received),
            outcome: link.client.outcome.unwrap_or(ClientOutcome::Left),
            forgiven: link.forgiven,
            agreed: link.client.has_agreed(),
            notified: link.client.tls.as_ref().is_some_and(|tls| tls.notified),
            alerted: link.client.tls.as_ref().is_some_and(|tls| tls.alerted),
            taken: link.taken,
            sent_at_stop: link.sent_at_stop,
            accepted_ms: link.accepted_ms,
            read_last_ms: link.client.read_last_ms,
            ended_ms: link.client.ended_ms,
            closed_ms: link.closed_ms,
        });
        reports.collect()
    }
}

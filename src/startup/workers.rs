//! The threads of the workers: what each is made of, and how they start and stop.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use annulus_ring::{
    Capabilities, ConnectionLimit, DatagramIndex, DatagramSocket, EngineChoice, EngineConfig,
    Epoll, Listener, ListenerIndex, Ring, SelectedEngine, TaskWork, Uring, Waker,
};
use annulus_swarm::{SwarmConfig, Swarms, Sweep};
use anyhow::{Context, anyhow, bail};

use crate::access_list::SharedAccessList;
use crate::admin::EngineInfo;
use crate::clock::Clock;
use crate::cluster::{OutboxSlot, WorkerOutbox};
use crate::config::Config;
use crate::limits::{
    ACCEPTS_PER_TURN_MAX, ARENA_BYTES, FLIGHT_BYTES_MAX, PREFETCH_PEERS_MIN, RECV_BUFFER_BYTES,
    RECV_BUFFERS, RESPONSE_BATCH_BYTES, nearly_all,
};
use crate::log;
use crate::metrics::Counters;
use crate::proxy::{Forwarded, ProxyProtocol};
use crate::rate_limit::{ClientTable, RateLimitConfig, RateLimiter};
use crate::server::{ConnectionIds, Server, ServerParts, response_bytes_max};
use crate::tls::{TlsContext, encrypted_bytes_max};
use crate::worker::{EvictionCoordinator, Timeouts, Worker, WorkerConfig, WorkerParts};

/// What the workers are made of.
pub(super) struct WorkersParts<'a> {
    pub(super) config: &'a Config,
    pub(super) engine: SelectedEngine,
    /// The first listener of each worker that is for HTTPS.
    pub(super) tls_from: usize,
    /// For each listener of a worker, whether its connections begin with a PROXY header.
    pub(super) proxy_protocol: Vec<bool>,
    pub(super) connections_max: usize,
    pub(super) tls: Option<&'a TlsContext>,
    pub(super) access_list: Option<&'a SharedAccessList>,
    pub(super) swarms: Arc<Swarms>,
    pub(super) clock: Clock,
}

/// The sockets of one worker.
#[derive(Default)]
pub(super) struct SocketGroup {
    /// Those for HTTPS are last.
    pub(super) listeners: Vec<Listener>,
    pub(super) datagrams: Vec<DatagramSocket>,
}

/// The running workers, and what they share.
pub(super) struct Workers {
    threads: Vec<JoinHandle<io::Result<()>>>,
    pub(super) wakers: Vec<Waker>,
    pub(super) counters: Vec<Arc<Counters>>,
    pub(super) swarms: Arc<Swarms>,
    pub(super) stop: Arc<AtomicBool>,
    evictions: Arc<EvictionCoordinator>,
    clients: Option<Arc<ClientTable>>,
    connection_ids: ConnectionIds,
    /// Their engines, each once.
    pub(super) engines: Vec<EngineInfo>,
    /// Where they leave their records for other nodes; none without a cluster.
    pub(super) slots: Vec<Arc<OutboxSlot>>,
}

impl Workers {
    /// Starts a worker for each of `groups`, over these sockets.
    pub(super) fn start(
        parts: &WorkersParts<'_>,
        groups: Vec<SocketGroup>,
    ) -> anyhow::Result<Workers> {
        let WorkersParts { config, connections_max, .. } = parts;
        let count = groups.len();
        let wakers: io::Result<Vec<Waker>> = (0..count).map(|_| Waker::new()).collect();
        let wakers = wakers.context("eventfd")?;
        let limit = ConnectionLimit::new(*connections_max, nearly_all(*connections_max));
        let rate_limit = RateLimitConfig::new(&config.limits, &config.proxy);
        let mut workers = Workers {
            threads: Vec::new(),
            counters: (0..count).map(|_| Arc::default()).collect(),
            swarms: Arc::clone(&parts.swarms),
            stop: Arc::default(),
            evictions: Arc::new(EvictionCoordinator::new(Arc::new(limit), &wakers)),
            clients: rate_limit.map(|it| Arc::new(ClientTable::new(it, RandomState::new()))),
            connection_ids: ConnectionIds::new([0, 1].map(|n| RandomState::new().hash_one(n))),
            engines: Vec::new(),
            slots: Vec::new(),
            wakers,
        };
        let (started, starts) = mpsc::channel();
        for (index, sockets) in groups.into_iter().enumerate() {
            let thread = workers.thread(parts, index, sockets);
            let started = started.clone();
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || thread.run(&started))
                .with_context(|| format!("cannot start worker {index}"))?;
            workers.threads.push(thread);
        }
        drop(started);
        let mut lines = Vec::new();
        for _ in 0..count {
            let (engine, line) = starts.recv().context("a worker ended before it began")??;
            if !lines.contains(&line) {
                // One line, unless locked memory sufficed for some workers only.
                log::info(format_args!("{line}"));
                lines.push(line);
                workers.engines.push(engine);
            }
        }
        let plural = if count == 1 { "" } else { "s" };
        log::info(format_args!("{count} worker{plural}, at most {connections_max} connections"));
        Ok(workers)
    }

    /// What the worker of this index is made of.
    fn thread(
        &mut self,
        parts: &WorkersParts<'_>,
        index: usize,
        sockets: SocketGroup,
    ) -> WorkerThread {
        let WorkersParts { config, engine, tls, clock, .. } = parts;
        let response_bytes = response_bytes_max(&config.protocol) + RESPONSE_BATCH_BYTES;
        let outbox = (!config.cluster.servers.is_empty()).then(|| {
            let (outbox, slot) = WorkerOutbox::new();
            self.slots.push(slot);
            outbox
        });
        let server = Server::new(ServerParts {
            swarms: Arc::clone(&self.swarms),
            protocol: config.protocol.clone(),
            // A client must not be able to guess it.
            seed: RandomState::new().hash_one(index),
            connection_ids: self.connection_ids,
            forwarded: Forwarded::new(&config.proxy),
            access_list: parts.access_list.map(SharedAccessList::cache),
            rate_limiter: self.clients.clone().map(RateLimiter::new),
            outbox,
            counters: Arc::clone(&self.counters[index]),
        });
        let proxy_listeners = (0..).zip(&parts.proxy_protocol);
        let proxy_listeners = proxy_listeners.fold(0, |bits, (at, is)| bits | u64::from(*is) << at);
        let parts = WorkerParts {
            config: WorkerConfig {
                listeners: sockets.listeners.len() as ListenerIndex,
                datagram_sockets: sockets.datagrams.len() as DatagramIndex,
                prefetch_peers_min: PREFETCH_PEERS_MIN,
                tls_from: parts.tls_from as ListenerIndex,
                tls_buffer_bytes: response_bytes,
                timeouts: Timeouts {
                    handshake_s: config.connections.handshake_timeout_s,
                    header_s: config.connections.header_timeout_s,
                    idle_s: config.connections.idle_timeout_s,
                },
                send_s: config.connections.send_timeout_s,
                shutdown_s: config.connections.shutdown_timeout_s,
            },
            server,
            acceptor: tls.map(TlsContext::acceptor),
            proxy_protocol: ProxyProtocol::new(&config.proxy, proxy_listeners),
            sweep: Sweep::new(index, self.wakers.len()),
            stop: Arc::clone(&self.stop),
            evictions: Arc::clone(&self.evictions),
            index,
            now_s: clock.now_s(),
        };
        WorkerThread {
            parts,
            sockets,
            waker: self.wakers[index].clone(),
            send_buffer_bytes: match tls {
                Some(_) => encrypted_bytes_max(response_bytes).max(FLIGHT_BYTES_MAX),
                None => response_bytes,
            },
            clock: *clock,
            engine: config.engine,
            why_epoll: match engine {
                SelectedEngine::Uring(_) => None,
                SelectedEngine::Epoll(_) => Some(engine.describe()),
            },
        }
    }

    /// Has the workers answer what is in flight, and waits for their end.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.wakers.iter().for_each(Waker::wake);
        for thread in self.threads {
            match thread.join() {
                Ok(result) => result.context("a worker failed while stopping")?,
                Err(_) => bail!("a worker panicked"),
            }
        }
        Ok(())
    }
}

/// Empty swarms, as configured.
pub(super) fn new_swarms(config: &Config) -> Swarms {
    let swarms = Swarms::new(
        SwarmConfig {
            torrents_max: config.swarms.max_torrents as u64,
            peers_max: config.swarms.max_peers as u64,
            peers_per_torrent_max: config.swarms.max_peers_per_torrent,
            peers_per_address_max: config.swarms.max_peers_per_address,
            peer_timeout_s: config.protocol.peer_timeout_s,
        },
        RandomState::new(),
    );
    let exempt = config.limits.exempt.clone();
    match exempt.is_empty() {
        true => swarms,
        false => swarms.with_exemption(move |ip| exempt.iter().any(|range| range.contains(&ip))),
    }
}

/// The start of a worker: its engine, with a line for the log, or why it has none.
type Started = anyhow::Result<(EngineInfo, String)>;

/// What one worker is made of, on the way to its thread: a ring must be built by the thread that
/// uses it.
struct WorkerThread {
    parts: WorkerParts,
    sockets: SocketGroup,
    waker: Waker,
    send_buffer_bytes: usize,
    clock: Clock,
    engine: EngineChoice,
    /// A line for the log, if io_uring is not to be used.
    why_epoll: Option<String>,
}

impl WorkerThread {
    /// Works until it is told to stop. The kernel may refuse the rings of many workers together
    /// what it granted to the trial: unless io_uring is demanded, epoll serves then.
    fn run(mut self, started: &Sender<Started>) -> io::Result<()> {
        let described = match self.why_epoll.take() {
            Some(described) => described,
            None => match Uring::new(self.engine_config(SocketGroup::default())) {
                Ok(mut ring) => {
                    let capabilities = ring.capabilities();
                    let SocketGroup { listeners, datagrams } = mem::take(&mut self.sockets);
                    ring.add(listeners, datagrams)?;
                    let engine = EngineInfo { name: "io_uring", tier: tier(&capabilities) };
                    return self.work(ring, (engine, capabilities.describe()), started);
                }
                Err(error) if self.engine == EngineChoice::IoUring => {
                    // The receiver ends the process, and takes only the first of several.
                    let _ = started.send(Err(anyhow!(error.explain())));
                    return Ok(());
                }
                Err(error) => format!("engine epoll, because {}", error.explain()),
            },
        };
        let sockets = mem::take(&mut self.sockets);
        match Epoll::new(self.engine_config(sockets)) {
            Ok(ring) => {
                let engine = EngineInfo { name: "epoll", tier: "none" };
                self.work(ring, (engine, described), started)
            }
            Err(error) => {
                let _ = started.send(Err(error).context("epoll"));
                Ok(())
            }
        }
    }

    fn engine_config(&self, sockets: SocketGroup) -> EngineConfig {
        EngineConfig {
            listeners: sockets.listeners,
            datagram_sockets: sockets.datagrams,
            waker: self.waker.clone(),
            limit: Arc::clone(self.parts.evictions.limit()),
            accepts_per_turn: ACCEPTS_PER_TURN_MAX,
            send_buffer_bytes: self.send_buffer_bytes,
            arena_bytes: ARENA_BYTES,
            recv_buffers: RECV_BUFFERS,
            recv_buffer_bytes: RECV_BUFFER_BYTES,
        }
    }

    fn work<R: Ring>(
        self,
        ring: R,
        engine: (EngineInfo, String),
        started: &Sender<Started>,
    ) -> io::Result<()> {
        let mut worker = Worker::new(ring, self.parts);
        let _ = started.send(Ok(engine));
        let result = worker.run(|| self.clock.now());
        if let Err(error) = &result {
            // Its listeners would go on collecting connections that no worker serves.
            log::error(format_args!("a worker's ring has broken: {error}"));
            log::flush();
            process::exit(1);
        }
        result
    }
}

/// How much of io_uring the kernel has.
fn tier(capabilities: &Capabilities) -> &'static str {
    match capabilities.task_work {
        TaskWork::Deferred => "defer_taskrun",
        TaskWork::Cooperative if capabilities.multishot_recv => "coop_taskrun",
        TaskWork::Cooperative => "coop_taskrun_without_multishot_receive",
    }
}

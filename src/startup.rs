//! From a configuration to running workers, and from a signal to their end.

mod certificates;
mod listen;
mod operations;
mod reload;
mod watch;
mod workers;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use annulus_ring::{
    ConnectionLimit, Listener, ListenerIndex, SelectedEngine, Waker, close_inherited_on_exec,
    steady_memory,
};
use anyhow::{Context, anyhow, bail};

use crate::access_list::SharedAccessList;
use crate::admin::{EngineInfo, ProcFiles, StatsParts};
use crate::clock::Clock;
use crate::config::{self, Config, widened};
use crate::limits::{
    DESCRIPTORS_PER_WORKER, DESCRIPTORS_RESERVED, FLIGHT_BYTES_MAX, RESPONSE_BATCH_BYTES,
    nearly_all,
};
use crate::log::{self, Logger};
use crate::metrics::Counters;
use crate::os::{
    Notifier, ReloadHealth, Sandbox, Signals, raise_descriptor_limit, raise_locked_memory_limit,
};
use crate::proxy::{Forwarded, ProxyProtocol};
use crate::rate_limit::{ClientTable, RateLimitConfig, RateLimiter};
use crate::server::{Server, ServerParts, response_bytes_max};
use crate::tls::{TlsContext, encrypted_bytes_max};
use crate::worker::{EvictionCoordinator, Timeouts, WorkerConfig, WorkerParts};
use annulus_swarm::{SwarmConfig, Swarms, Sweep};

use listen::{BoundAddress, InheritedSockets, ListenOptions};
use reload::{Reloader, restrict, secure, warn};
use watch::Watch;
use workers::{Plan, Workers, leave};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Why the tracker cannot start or go on, and what would help.
pub fn run(config: &Config) -> anyhow::Result<()> {
    steady_memory();
    let config::LogConfig { level, format } = config.log;
    Logger { level, format }.begin();
    // Before any descriptor is opened, which might take the number of one that was not passed.
    let mut passed = InheritedSockets::take()?;
    // The file broker gets none of the descriptors that this program was started with.
    let _ = close_inherited_on_exec();
    // Before any thread is started, so that all of them leave the signals to this one.
    let signals = Signals::block().context("signals")?;
    let sandbox = Sandbox::plan(config)?;
    // Before anything is opened that a second process should not have too.
    let files = sandbox.file_source()?;
    // While nothing confines the program yet: the socket's path may be out of reach later.
    let notifier = Notifier::connect().unwrap_or_else(|error| {
        log::warning(format_args!("the service manager at NOTIFY_SOCKET cannot be told: {error}"));
        Notifier::default()
    });
    let notifier = Arc::new(notifier);
    // Before the trial, which is charged to it too. Failing to raise it leaves what there was;
    // rings then come out smaller.
    raise_locked_memory_limit();
    let chosen = SelectedEngine::probe(config.engine)
        .map_err(|why| anyhow!("engine \"io_uring\" cannot be had: {why}"))?;
    let workers = match config.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let connections_max = connections_max(config, workers)?;
    // Before the ports are taken, and before anything is told of a start.
    let secured_unix_s = Clock::unix_s();
    files.reset_timeout();
    let tls = secure(&config.tls, &files)?.map(Arc::new);
    let access = restrict(&config.access, &files)?.map(Arc::new);
    let mut groups: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    warn(config.warning().as_slice());
    let https = widened(&config.tls.listen);
    let options = |optional| ListenOptions { config, owner: sandbox.ids(), optional };
    let optional = config.listen.len() > 1 || !https.is_empty();
    let plain = options(optional).listen(&config.listen, &mut passed, &mut groups)?;
    let tls_from = plain.len() as ListenerIndex;
    let optional = https.len() > 1 || !plain.is_empty();
    let secured = options(optional).listen(&https, &mut passed, &mut groups)?;
    let introduced = plain.iter().chain(&secured).enumerate();
    let introduced =
        introduced.fold(0, |bits, (index, bound)| bits | u64::from(bound.proxy_protocol) << index);
    let doors = operations::open(config, &mut passed)?;
    passed.check_all_claimed()?;
    let process = ProcFiles::open().ok();
    let reply_bytes = response_bytes_max(&config.protocol) + RESPONSE_BATCH_BYTES;

    // ---- All files are open: from here on none can be opened. No thread has started yet. ----
    sandbox.enter()?;

    // The first thread, so that no other waits for whoever reads the log.
    log::start_thread().context("cannot start the log's thread")?;
    let stop = Arc::new(AtomicBool::new(false));
    let swarms = Swarms::new(swarm_settings(config), RandomState::new());
    let exempt = config.limits.exempt.clone();
    let swarms = Arc::new(match exempt.is_empty() {
        true => swarms,
        false => swarms.with_exemption(move |ip| exempt.iter().any(|range| range.contains(&ip))),
    });
    let limited = RateLimitConfig::new(&config.limits, &config.proxy);
    let ledger = limited.map(|settings| Arc::new(ClientTable::new(settings, RandomState::new())));
    let clock = Clock::start();
    let (started, starts) = mpsc::channel();
    let mut crew: Workers = Vec::new();
    let counters: Vec<Arc<Counters>> = (0..workers).map(|_| Arc::default()).collect();
    let wakers: io::Result<Vec<Waker>> = (0..workers).map(|_| Waker::new()).collect();
    let wakers = wakers.context("eventfd")?;
    let limit = ConnectionLimit::new(connections_max, nearly_all(connections_max));
    let evictions = Arc::new(EvictionCoordinator::new(Arc::new(limit), &wakers));
    for (index, (listeners, waker)) in groups.into_iter().zip(wakers).enumerate() {
        let server = Server::new(ServerParts {
            swarms: Arc::clone(&swarms),
            protocol: config.protocol.clone(),
            seed: seed(index),
            forwarded: Forwarded::new(&config.proxy),
            access_list: access.as_deref().map(SharedAccessList::cache),
            rate_limiter: ledger.clone().map(RateLimiter::new),
            counters: Arc::clone(&counters[index]),
        });
        let parts = WorkerParts {
            config: WorkerConfig {
                listeners: listeners.len() as ListenerIndex,
                tls_from,
                tls_buffer_bytes: reply_bytes,
                timeouts: Timeouts {
                    handshake_s: config.connections.handshake_timeout_s,
                    header_s: config.connections.header_timeout_s,
                    idle_s: config.connections.idle_timeout_s,
                },
                send_s: config.connections.send_timeout_s,
                shutdown_s: config.connections.shutdown_timeout_s,
            },
            server,
            acceptor: tls.as_deref().map(TlsContext::acceptor),
            proxy_protocol: ProxyProtocol::new(&config.proxy, introduced),
            sweep: Sweep::new(index, workers),
            stop: Arc::clone(&stop),
            evictions: Arc::clone(&evictions),
            index,
            now_s: clock.now_s(),
        };
        let plan = Plan {
            parts,
            listeners,
            waker: waker.clone(),
            reply_bytes: match tls {
                Some(_) => encrypted_bytes_max(reply_bytes).max(FLIGHT_BYTES_MAX),
                None => reply_bytes,
            },
            clock,
        };
        let engine = config.engine;
        let why_epoll = match &chosen {
            SelectedEngine::Uring(_) => None,
            SelectedEngine::Epoll(_) => Some(chosen.describe()),
        };
        let started = started.clone();
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || plan.work(engine, why_epoll, &started))
            .with_context(|| format!("cannot start worker {index}"))?;
        crew.push((thread, waker));
    }
    drop(started);
    let mut engines: Vec<(EngineInfo, String)> = Vec::new();
    for _ in 0..crew.len() {
        match starts.recv() {
            Ok(Ok(engine)) if engines.contains(&engine) => {}
            Ok(Ok(engine)) => engines.push(engine),
            Ok(Err(error)) => bail!(error),
            Err(_) => bail!("a worker ended before it began"),
        }
    }
    // One line, unless locked memory sufficed for some workers only.
    for (_, described) in &engines {
        log::info(format_args!("{described}"));
    }
    let plural = if workers == 1 { "" } else { "s" };
    log::info(format_args!("{workers} worker{plural}, at most {connections_max} connections"));
    let status = Arc::<str>::from(status(plain.iter().chain(&secured)));
    let reload_health = Arc::<ReloadHealth>::default();
    for BoundAddress { address, proxy_protocol, .. } in &plain {
        let mark = if *proxy_protocol { " (PROXY protocol)" } else { "" };
        log::info(format_args!("listening on {address}{mark}"));
    }
    for BoundAddress { address, proxy_protocol, .. } in &secured {
        let mark = if *proxy_protocol { ", PROXY protocol" } else { "" };
        log::info(format_args!("listening on {address} (https{mark})"));
    }
    if !doors.is_empty() {
        let engines = engines.into_iter().map(|(engine, _)| engine).collect();
        let parts = StatsParts {
            info: operations::static_info(config, engines, connections_max as u64),
            clock,
            workers: counters.clone(),
            swarms,
            access: access.clone(),
            tls: tls.clone(),
            stop: Arc::clone(&stop),
            process,
            reload_health: Arc::clone(&reload_health),
        };
        operations::begin(doors, parts)?;
    }
    if let Some(tls) = &tls {
        certificates::watch(Arc::clone(tls), secured_unix_s).context("cannot start a thread")?;
    }
    notifier.ready(&status);
    let broker = files.broker();
    let reloader = Reloader {
        files,
        tls: tls.map(|tls| (tls, config.tls.clone())),
        access: access.map(|access| (access, config.access.clone())),
        wakers: crew.iter().map(|(_, waker)| waker.clone()).collect(),
        notifier: Arc::clone(&notifier),
        status,
        reload_health: Arc::clone(&reload_health),
        clock,
    };
    let reloads = reloader.start()?;
    let watch = Watch {
        signals,
        reloads,
        broker,
        reload_health,
        notifier: Arc::clone(&notifier),
        workers: counters,
        clock,
    };
    watch.until_stop();
    notifier.stopping("answering what is in flight");
    log::info(format_args!("stopping: answering what is in flight"));
    // Unix sockets are removed first: who comes now is to find none, and not one that ends.
    drop(plain);
    stop.store(true, Ordering::Release);
    leave(crew)
}

/// How many connections all workers together may hold under the limit of open files.
fn connections_max(config: &Config, workers: usize) -> anyhow::Result<usize> {
    let limit = raise_descriptor_limit();
    let workers = workers as u64;
    let doors = (config.listen.len() + config.tls.listen.len()) as u64;
    // A thread that waits for a connection has the number of the next one set apart already.
    let operations = 2 * config.operations.listen.len() as u64;
    let own = DESCRIPTORS_RESERVED + operations + workers * (DESCRIPTORS_PER_WORKER + doors);
    let possible = limit.saturating_sub(own);
    if possible == 0 {
        bail!(
            "the limit of open files ({limit}) leaves none for connections: {own} are needed \
             beside them; raise it (ulimit -n, LimitNOFILE=)"
        );
    }
    let wanted = config.connections.max as u64;
    if wanted > possible {
        log::warning(format_args!(
            "connections.max = {wanted} is more than the limit of open files ({limit}) allows: \
             taking {possible} (raise it with ulimit -n or LimitNOFILE=)"
        ));
    }
    let total = if wanted == 0 { possible } else { wanted.min(possible) };
    Ok(usize::try_from(total).unwrap_or(usize::MAX))
}

fn swarm_settings(config: &Config) -> SwarmConfig {
    SwarmConfig {
        torrents_max: config.swarms.max_torrents as u64,
        peers_max: config.swarms.max_peers as u64,
        peers_per_torrent_max: config.swarms.max_peers_per_torrent,
        peers_per_address_max: config.swarms.max_peers_per_address,
        peer_timeout_s: config.protocol.peer_timeout_s,
    }
}

/// A number that no client can guess, from the system's randomness.
fn seed(index: usize) -> u64 {
    RandomState::new().hash_one(index)
}

/// What a service manager shows of a tracker that serves.
fn status<'a>(bound: impl Iterator<Item = &'a BoundAddress>) -> String {
    let addresses: Vec<String> = bound.map(|bound| bound.address.to_string()).collect();
    format!("listening on {}", addresses.join(", "))
}

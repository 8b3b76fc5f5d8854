//! From a configuration to running workers, and from a signal to their end.

mod cluster;
mod listen;
mod reload;
mod reload_thread;
mod state;
mod supervise;
mod udp;
mod workers;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use annulus_ring::{DatagramSocket, Listener, SelectedEngine, close_inherited_on_exec};
use anyhow::{Context, anyhow, bail};

use crate::access_list::SharedAccessList;
use crate::admin::{self, ProcFiles, StaticInfo, StatsParts, StatsSource};
use crate::clock::Clock;
use crate::cluster::{ClusterLink, PubSubServers};
use crate::config::{self, Config, widened};
use crate::limits::{DESCRIPTORS_PER_WORKER, DESCRIPTORS_RESERVED};
use crate::log::{self, Logger};
use crate::os::{
    FileSource, Notifier, ReloadHealth, Sandbox, SandboxReport, Signals, StateDirectory,
    raise_descriptor_limit, raise_locked_memory_limit,
};
use crate::state::{ConfiguredState, StateSaver};
use crate::tls::TlsContext;
use cluster::{NodeConfig, load_servers, start_cluster};
use listen::{BoundAddress, InheritedSockets, ListenOptions};
use reload::{Reloader, load_access_list, load_tls, warn};
use reload_thread::ReloadThread;
use supervise::Supervisor;
use workers::{SocketGroup, Workers, WorkersParts};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The tracker cannot start or go on, with the cure.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let prepared = prepare(config)?;
    // ---- Everything is open. Nothing can be opened from here on, and no thread runs yet. ----
    let ports = prepared.servers.as_ref().map_or_else(Vec::new, PubSubServers::ports);
    let state = prepared.state.as_ref().map(AsFd::as_fd);
    let SandboxReport { user, landlock } = prepared.sandbox.enter(state, &ports)?;
    user.iter().for_each(|user| log::info(format_args!("{user}")));
    match landlock {
        None => {}
        Some(Ok(achieved)) => log::info(format_args!("{achieved}")),
        Some(Err(error)) => log::warning(format_args!("no Landlock: {error}")),
    }
    serve(config, prepared)
}

/// Everything that a tracker needs and that cannot be opened in the sandbox.
struct Prepared<'c> {
    signals: Signals,
    sandbox: Sandbox<'c>,
    files: FileSource,
    notifier: Notifier,
    engine: SelectedEngine,
    connections_max: usize,
    tls: Option<TlsContext>,
    /// When the certificates were checked, in seconds since 1970.
    checked_unix_s: i64,
    access_list: Option<SharedAccessList>,
    /// Of the cluster, if there is one.
    servers: Option<PubSubServers>,
    sockets: Sockets,
    /// `None` if the swarms are not kept on disk.
    state: Option<StateDirectory>,
    /// `None` without /proc.
    proc_files: Option<ProcFiles>,
}

/// All listening sockets.
struct Sockets {
    /// One group for each worker.
    groups: Vec<SocketGroup>,
    http: Vec<BoundAddress>,
    https: Vec<BoundAddress>,
    udp: Vec<BoundAddress>,
    admin: Vec<(SocketAddr, OwnedFd)>,
}

/// Opens and reads everything. The order matters: each comment says why.
fn prepare(config: &Config) -> anyhow::Result<Prepared<'_>> {
    let config::LogConfig { level, format } = config.log;
    Logger { level, format }.begin();
    // Before a program is executed, which must not get them.
    let inherited = InheritedSockets::take()?;
    // Without /proc no program can be executed.
    let _ = close_inherited_on_exec();
    // Before any thread and program is started: they have the signals blocked, too.
    let signals = Signals::block().context("signals")?;
    let sandbox = Sandbox::plan(config)?;
    let files = sandbox.file_source()?;
    // Before the sandbox, where the socket's path may be out of reach.
    let notifier = Notifier::connect().unwrap_or_else(|error| {
        log::warning(format_args!("the service manager at NOTIFY_SOCKET cannot be told: {error}"));
        Notifier::default()
    });
    // Before the trial of io_uring, which is charged to it. With a lower limit rings are smaller.
    raise_locked_memory_limit();
    let engine = SelectedEngine::probe(config.engine)
        .map_err(|why| anyhow!("engine \"io_uring\" cannot be had: {why}"))?;
    let workers = match config.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let connections_max = connections_max(config, workers)?;
    // Before the ports are taken: with a broken file, no client finds a tracker that then ends.
    let checked_unix_s = Clock::unix_s();
    files.reset_timeout();
    let tls = load_tls(&config.tls, &files)?;
    let access_list = load_access_list(&config.access, &files)?;
    let servers = load_servers(&config.cluster)?;
    warn(config.warning().as_slice());
    let state = ConfiguredState::of(&config.state).map(|it| it.open()).transpose()?;
    let sockets = open_sockets(config, inherited, &sandbox, workers)?;
    let proc_files = if sockets.admin.is_empty() { None } else { ProcFiles::open().ok() };
    Ok(Prepared {
        signals,
        sandbox,
        files,
        notifier,
        engine,
        connections_max,
        tls,
        checked_unix_s,
        access_list,
        servers,
        sockets,
        state,
        proc_files,
    })
}

/// The connections that all workers together may hold under the limit of open files.
fn connections_max(config: &Config, workers: usize) -> anyhow::Result<usize> {
    let limit = raise_descriptor_limit();
    let tcp = config.listen.len() + config.tls.listen.len();
    let sockets = (tcp + udp::addresses_max(config)) as u64;
    // A thread that waits for a connection has the number of the next one reserved already.
    let admin = 2 * config.operations.listen.len() as u64;
    let own = DESCRIPTORS_RESERVED + admin + workers as u64 * (DESCRIPTORS_PER_WORKER + sockets);
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

fn open_sockets(
    config: &Config,
    mut inherited: InheritedSockets,
    sandbox: &Sandbox<'_>,
    workers: usize,
) -> anyhow::Result<Sockets> {
    let mut listeners: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    let options = |optional| ListenOptions { config, owner: sandbox.ids(), optional };
    let https = widened(&config.tls.listen);
    let optional = config.listen.len() > 1 || !https.is_empty();
    let http = options(optional).listen(&config.listen, &mut inherited, &mut listeners)?;
    let optional = https.len() > 1 || !http.is_empty();
    let https = options(optional).listen(&https, &mut inherited, &mut listeners)?;
    let mut datagrams: Vec<Vec<DatagramSocket>> = (0..workers).map(|_| Vec::new()).collect();
    let udp = udp::open(config, (&http, &https), &mut inherited, &mut datagrams)?;
    let admin = widened(&config.operations.listen);
    let mut admin_group = [Vec::new()];
    let bound = options(admin.len() > 1).listen(&admin, &mut inherited, &mut admin_group)?;
    inherited.check_all_claimed()?;
    let admin_sockets = admin_group.into_iter().flatten().map(Listener::into_fd);
    let admin = bound.iter().filter_map(|bound| bound.address.tcp()).zip(admin_sockets).collect();
    let groups = listeners.into_iter().zip(datagrams);
    let groups = groups.map(|(listeners, datagrams)| SocketGroup { listeners, datagrams });
    Ok(Sockets { groups: groups.collect(), http, https, udp, admin })
}

/// Starts all threads, and serves until a signal says to stop.
fn serve(config: &Config, prepared: Prepared<'_>) -> anyhow::Result<()> {
    let Prepared { signals, files, sockets, connections_max, .. } = prepared;
    let Sockets { groups, http, https, udp, admin } = sockets;
    start_helping_threads()?;
    let clock = Clock::start();
    let tls = prepared.tls.map(Arc::new);
    let access_list = prepared.access_list.map(Arc::new);
    if !state::lock(prepared.state.as_ref(), config, (&signals, &prepared.notifier))? {
        return Ok(());
    }
    let (swarms, saver) = state::load(prepared.state, config, access_list.as_deref(), clock);
    let parts = WorkersParts {
        config,
        engine: prepared.engine,
        tls_from: http.len(),
        proxy_protocol: http.iter().chain(&https).map(|bound| bound.proxy_protocol).collect(),
        connections_max,
        tls: tls.as_deref(),
        access_list: access_list.as_deref(),
        swarms,
        clock,
    };
    let mut workers = Workers::start(&parts, groups)?;
    let state_age_s = saver.as_ref().and_then(|saver| saver.status.report().whole_age_s());
    let node = NodeConfig { config, servers: prepared.servers, state_age_s, clock };
    let cluster = start_cluster(node, &mut workers, access_list.as_deref())?;
    saver.iter().zip(&cluster).for_each(|(saver, link)| saver.set_cluster(link.view.clone()));
    let status = log_listening(&http, &https, &udp);
    let reload_health = Arc::<ReloadHealth>::default();
    let parts = StatsParts {
        info: static_info(config, &workers, (connections_max, !udp.is_empty())),
        clock,
        workers: workers.counters.clone(),
        swarms: Arc::clone(&workers.swarms),
        access: access_list.clone(),
        tls: tls.clone(),
        stop: Arc::clone(&workers.stop),
        process: prepared.proc_files,
        reload_health: Arc::clone(&reload_health),
        state: saver.as_ref().map(|saver| Arc::clone(&saver.status)),
        cluster: cluster.as_ref().map(|link| link.view.clone()),
    };
    serve_admin(admin, parts)?;
    prepared.notifier.ready(&status);
    let reloads = Arc::new(ReloadThread::new(prepared.notifier, status, reload_health, clock));
    let broker = files.broker();
    let reloader = Reloader {
        files,
        tls: tls.clone().map(|tls| (tls, config.tls.clone())),
        access: access_list.map(|list| (list, config.access.clone())),
        wakers: workers.wakers.clone(),
        thread: Arc::clone(&reloads),
    };
    reloader.start()?;
    saver.as_ref().map_or(Ok(()), state::start)?;
    let supervisor = Supervisor {
        signals,
        reloads: Arc::clone(&reloads),
        broker,
        tls,
        checked_unix_s: prepared.checked_unix_s,
        counters: workers.counters.clone(),
        clock,
    };
    let signals = supervisor.run();
    saver.iter().for_each(|saver| saver.stop());
    reloads.notifier.stopping("answering what is in flight");
    log::info(format_args!("stopping: answering what is in flight"));
    // Removes the Unix sockets: a client that connects from now on is refused at once.
    drop(http);
    stop(workers, cluster.as_ref(), saver.as_ref(), (&signals, &reloads.notifier))
}

fn start_helping_threads() -> anyhow::Result<()> {
    // The first thread, so that no other waits for the reader of the log.
    log::start_thread().context("cannot start the thread of the log")?;
    #[cfg(not(fuzzing))]
    annulus_ring::start_memory_thread().context("cannot start the thread of the allocator")?;
    Ok(())
}

/// Logs all addresses for clients. Returns them as the status for the service manager.
fn log_listening(http: &[BoundAddress], https: &[BoundAddress], udp: &[BoundAddress]) -> String {
    http.iter().for_each(|bound| bound.log(&[]));
    https.iter().for_each(|bound| bound.log(&["https"]));
    udp.iter().for_each(|bound| bound.log(&["udp"]));
    let addresses = http.iter().chain(https).map(|bound| bound.address.to_string());
    let addresses = addresses.chain(udp.iter().map(|bound| format!("{} (udp)", bound.address)));
    format!("listening on {}", addresses.collect::<Vec<String>>().join(", "))
}

/// Ends the workers, then has their last records published, and their swarms written to disk.
fn stop(
    workers: Workers,
    cluster: Option<&ClusterLink>,
    saver: Option<&Arc<StateSaver>>,
    (signals, notifier): (&Signals, &Notifier),
) -> anyhow::Result<()> {
    let stopped = workers.stop();
    if let Some(link) = cluster {
        link.finish();
    }
    if let Some(saver) = saver {
        state::save(saver, signals, notifier);
    }
    stopped?;
    log::info(format_args!("stopped"));
    Ok(())
}

/// What the statistics tell that does not change.
fn static_info(
    config: &Config,
    workers: &Workers,
    (connections_max, udp): (usize, bool),
) -> StaticInfo {
    StaticInfo {
        version: env!("CARGO_PKG_VERSION"),
        started_unix_s: Clock::unix_s(),
        engines: workers.engines.clone(),
        udp,
        connections_max: connections_max as u64,
        torrents_max: config.swarms.max_torrents as u64,
        peers_max: config.swarms.max_peers as u64,
    }
}

fn serve_admin(sockets: Vec<(SocketAddr, OwnedFd)>, parts: StatsParts) -> anyhow::Result<()> {
    if sockets.is_empty() {
        return Ok(());
    }
    let (addresses, sockets): (Vec<SocketAddr>, Vec<OwnedFd>) = sockets.into_iter().unzip();
    admin::serve(sockets, StatsSource::new(parts))
        .context("cannot start the threads of the operations")?;
    for address in addresses {
        if !address.ip().is_loopback() {
            log::warning(format_args!(
                "operations on {address}: everyone who can reach this address can read all \
                 statistics"
            ));
        }
        log::info(format_args!("operations on {address}"));
    }
    Ok(())
}

//! From a configuration to running workers, and from a signal to their end.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annulus_ring::{
    Choice, Chosen, Epoll, Listener, ListenerIndex, Ring, Settings as RingSettings, Signal,
    Signals, Uring, Waker, raise_descriptor_limit, raise_locked_memory_limit, steady_memory,
};

use crate::access::{self, Access, AccessList};
use crate::config::{self, AccessMode, Config, EngineChoice};
use crate::limits::{
    ARENA_BYTES, DESCRIPTORS_PER_WORKER, DESCRIPTORS_RESERVED, FLIGHT_BYTES_MAX, RECV_BUFFER_BYTES,
    RECV_BUFFERS, REPLY_BATCH_BYTES,
};
use crate::log::{self, Log};
use crate::proxy::{Forwarded, Introductions};
use crate::server::{Server, reply_bytes_max};
use crate::swarm::{Settings as SwarmSettings, Swarms, Sweep};
use crate::tls::{Acceptor, Certificates, Loaded, Tls, sealed_bytes_max};
use crate::worker::{Clock, Patience, Settings, Worker};

/// How often a port in use is tried again, and how long after: a second in all.
const BIND_TRIES: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(50);

/// How often to look whether all workers have let go of what was replaced, and how long after:
/// a second in all.
const RETIRE_TRIES: u32 = 200;
const RETIRE_PAUSE: Duration = Duration::from_millis(5);

/// EAFNOSUPPORT of Linux, on every architecture.
const EAFNOSUPPORT: i32 = 97;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Why the tracker cannot start or go on, and what would help.
pub fn run(config: &Config) -> Result<(), String> {
    steady_memory();
    let config::Log { level, format } = config.log;
    Log { level, format, clock: Clock::unix_s }.begin();
    // Before any thread is started, so that all of them leave the signals to this one.
    let signals = Signals::block().map_err(|error| format!("signals: {error}"))?;
    // Before the trial, which is charged to it too. Failing to raise it leaves what there was;
    // rings then come out smaller.
    let _ = raise_locked_memory_limit();
    let chosen = Chosen::by_trying(match config.engine {
        EngineChoice::Auto => Choice::Auto,
        EngineChoice::IoUring => Choice::Uring,
        EngineChoice::Epoll => Choice::Epoll,
    })
    .map_err(|why| format!("engine \"io_uring\" cannot be had: {why}"))?;
    let workers = match config.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let connections_max = connections_max(config, workers)?;
    // Before the ports are taken, and before anything is told of a start.
    let tls = secure(&config.tls)?;
    let access = restrict(&config.access)?;
    let mut groups: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    let plain = listen(config, &config.listen, &mut groups, config.tls.listen.is_empty())?;
    let secured_from = plain.len() as ListenerIndex;
    let secured = listen(config, &config.tls.listen, &mut groups, plain.is_empty())?;
    let introduced = plain.iter().chain(&secured).enumerate();
    let introduced =
        introduced.fold(0, |bits, (index, bound)| bits | u64::from(bound.introduced) << index);
    let reply_bytes = reply_bytes_max(&config.protocol) + REPLY_BATCH_BYTES;

    let stop = Arc::new(AtomicBool::new(false));
    let swarms = Arc::new(Swarms::new(swarm_settings(config), RandomState::new()));
    let clock = Clock::new();
    let (started, starts) = mpsc::channel();
    let mut crew: Crew = Vec::new();
    for (index, listeners) in groups.into_iter().enumerate() {
        let waker = Waker::new().map_err(|error| format!("eventfd: {error}"))?;
        let server = Server::new(Arc::clone(&swarms), config.protocol.clone(), seed(index));
        let plan = Plan {
            settings: Settings {
                listeners: listeners.len() as ListenerIndex,
                secured_from,
                scratch_bytes: reply_bytes,
                connections_max,
                patience: Patience {
                    handshake_s: config.connections.handshake_timeout_s,
                    header_s: config.connections.header_timeout_s,
                    idle_s: config.connections.idle_timeout_s,
                },
                send_s: config.connections.send_timeout_s,
                shutdown_s: config.connections.shutdown_timeout_s,
            },
            listeners,
            waker: waker.clone(),
            reply_bytes: match tls {
                Some(_) => sealed_bytes_max(reply_bytes).max(FLIGHT_BYTES_MAX),
                None => reply_bytes,
            },
            acceptor: tls.as_ref().map(Tls::acceptor),
            introductions: Introductions::new(&config.proxy, introduced),
            server: server
                .behind(Forwarded::new(&config.proxy))
                .guarded(access.as_ref().map(Access::gate)),
            sweep: Swarms::sweep_part(index, workers),
            swarms: Arc::clone(&swarms),
            stop: Arc::clone(&stop),
            clock,
        };
        let engine = config.engine;
        let why_epoll = match &chosen {
            Chosen::Uring(_) => None,
            Chosen::Epoll(_) => Some(chosen.describe()),
        };
        let started = started.clone();
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || plan.work(engine, why_epoll, &started))
            .map_err(|error| format!("cannot start worker {index}: {error}"))?;
        crew.push((thread, waker));
    }
    drop(started);
    let mut engines: Vec<String> = Vec::new();
    for _ in 0..crew.len() {
        match starts.recv() {
            Ok(Ok(engine)) if engines.contains(&engine) => {}
            Ok(Ok(engine)) => engines.push(engine),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err("a worker ended before it began".to_owned()),
        }
    }
    // One line, unless locked memory sufficed for some workers only.
    for engine in engines {
        log::info(format_args!("{engine}"));
    }
    let plural = if workers == 1 { "" } else { "s" };
    log::info(format_args!("{workers} worker{plural}, at most {connections_max} connections each"));
    for Bound { address, introduced } in plain {
        let mark = if introduced { " (PROXY protocol)" } else { "" };
        log::info(format_args!("listening on {address}{mark}"));
    }
    for Bound { address, introduced } in secured {
        let mark = if introduced { ", PROXY protocol" } else { "" };
        log::info(format_args!("listening on {address} (https{mark})"));
    }
    wait_for_stop(&signals, config, tls.as_ref(), access.as_ref(), &crew);
    log::info(format_args!("stopping: answering what is in flight"));
    stop.store(true, Ordering::Release);
    leave(crew)
}

/// The workers' threads, and what wakes them.
type Crew = Vec<(JoinHandle<io::Result<()>>, Waker)>;

/// What a worker tells of its start: its engine, or why there is none.
type Started = Result<String, String>;

/// Everything one worker is made of, on the way to its thread: a ring must be built by the
/// thread that uses it.
struct Plan {
    settings: Settings,
    listeners: Vec<Listener>,
    waker: Waker,
    reply_bytes: usize,
    acceptor: Option<Acceptor>,
    introductions: Option<Introductions>,
    server: Server,
    swarms: Arc<Swarms>,
    sweep: Sweep,
    stop: Arc<AtomicBool>,
    clock: Clock,
}

impl Plan {
    /// Works on the engine that was chosen. What a trial was granted may be refused to the
    /// rings of many workers together: unless io_uring was demanded, epoll serves then.
    fn work(
        mut self,
        engine: EngineChoice,
        why_epoll: Option<String>,
        started: &Sender<Started>,
    ) -> io::Result<()> {
        let described = match why_epoll {
            Some(described) => described,
            None => match Uring::new(self.ring_settings(Vec::new())) {
                Ok(mut ring) => {
                    let described = ring.capabilities().describe();
                    ring.adopt(mem::take(&mut self.listeners));
                    return self.work_on(ring, described, started);
                }
                Err(refusal) if engine == EngineChoice::IoUring => {
                    // The receiver ends the process, and takes only the first of several.
                    let _ = started.send(Err(refusal.explain()));
                    return Ok(());
                }
                Err(refusal) => format!("engine epoll, because {}", refusal.explain()),
            },
        };
        let listeners = mem::take(&mut self.listeners);
        match Epoll::new(self.ring_settings(listeners)) {
            Ok(ring) => self.work_on(ring, described, started),
            Err(error) => {
                let _ = started.send(Err(format!("epoll: {error}")));
                Ok(())
            }
        }
    }

    fn ring_settings(&self, listeners: Vec<Listener>) -> RingSettings {
        RingSettings {
            listeners,
            waker: self.waker.clone(),
            reply_bytes: self.reply_bytes,
            arena_bytes: ARENA_BYTES,
            recv_buffers: RECV_BUFFERS,
            recv_buffer_bytes: RECV_BUFFER_BYTES,
        }
    }

    fn work_on<R: Ring>(
        self,
        ring: R,
        described: String,
        started: &Sender<Started>,
    ) -> io::Result<()> {
        let Plan { settings, acceptor, server, swarms, sweep, stop, clock, .. } = self;
        let now_s = clock.now_s();
        let worker = Worker::new(ring, server, acceptor, swarms, sweep, stop, settings, now_s);
        let mut worker = worker.behind(self.introductions);
        let _ = started.send(Ok(described));
        let result = worker.run(|| clock.now_s());
        if let Err(error) = &result {
            // Its listeners would go on collecting connections that nobody serves.
            log::error(format_args!("a worker's ring has broken: {error}"));
            process::exit(1);
        }
        result
    }
}

/// TLS as configured, or nothing where no address asks for it.
fn secure(config: &config::Tls) -> Result<Option<Tls>, String> {
    if config.listen.is_empty() {
        return Ok(None);
    }
    let Loaded { certificates, warnings } =
        Certificates::load(&config.certificates, Clock::unix_s())
            .map_err(|mistakes| mistakes.join("\n"))?;
    warn(&warnings);
    for certificate in certificates.describe() {
        log::info(format_args!("{certificate}"));
    }
    Tls::new(certificates, config.post_quantum).map(Some)
}

/// Reads the certificates again, and serves the new ones if nothing is wrong with them.
fn reload_certificates(tls: &Tls, config: &config::Tls) {
    match Certificates::load(&config.certificates, Clock::unix_s()) {
        Ok(Loaded { certificates, warnings }) => {
            warn(&warnings);
            let described = certificates.describe();
            // What is said is true: whoever reads it gets the new ones.
            tls.replace(certificates);
            for certificate in described {
                log::info(format_args!("certificates reloaded: {certificate}"));
            }
        }
        Err(mistakes) => keep("certificates", &mistakes),
    }
}

/// Says what works, but should be looked into.
fn warn(warnings: &[String]) {
    for warning in warnings {
        log::warning(format_args!("{warning}"));
    }
}

/// Says why what was to be reloaded stays as it is.
fn keep(what: &str, mistakes: &[String]) {
    for mistake in mistakes {
        log::error(format_args!("{what} kept: {mistake}"));
    }
}

/// An address that is listened on.
struct Bound {
    address: SocketAddr,
    /// Whether connections to it begin with a header of the PROXY protocol.
    introduced: bool,
}

/// The access list as configured, or nothing where all torrents are served.
fn restrict(config: &config::Access) -> Result<Option<Access>, String> {
    let allows = match config.mode {
        AccessMode::Off => return Ok(None),
        AccessMode::Allow => true,
        AccessMode::Deny => false,
    };
    let access::Loaded { list, warnings } =
        AccessList::load(config).map_err(|mistakes| mistakes.join("\n"))?;
    warn(&warnings);
    let access = Access::new(list, allows);
    log::info(format_args!("access list: {}", access.describe()));
    Ok(Some(access))
}

/// Reads the access list again, and goes by the new one if nothing is wrong with it.
fn reload_list(access: &Access, config: &config::Access, crew: &Crew) {
    match AccessList::load(config) {
        Ok(access::Loaded { list, warnings }) => {
            warn(&warnings);
            let before = access.replace(list);
            log::info(format_args!("access list reloaded: {}", access.describe()));
            retire(before, crew);
        }
        Err(mistakes) => keep("access list", &mistakes),
    }
}

/// Waits until no worker has the list any more: the last to let go of a large one is a
/// millisecond at it, and that is better this thread.
fn retire(list: Arc<AccessList>, crew: &Crew) {
    crew.iter().for_each(|(_, waker)| waker.wake());
    for _ in 0..RETIRE_TRIES {
        if Arc::strong_count(&list) == 1 {
            break;
        }
        thread::sleep(RETIRE_PAUSE);
    }
}

/// Adds listeners on every address, one to each worker's `groups`. Returns the addresses
/// bound. `alone`: these addresses are all there are.
fn listen(
    config: &Config,
    addresses: &[SocketAddr],
    groups: &mut [Vec<Listener>],
    alone: bool,
) -> Result<Vec<Bound>, String> {
    let mut bound = Vec::new();
    for &address in addresses {
        let introduced = config.proxy.protocol_listen.contains(&address);
        match bind(address, groups.len()) {
            Ok((address, listeners)) => {
                bound.push(Bound { address, introduced });
                for (group, listener) in groups.iter_mut().zip(listeners) {
                    group.push(listener);
                }
            }
            // A machine without IPv6 has "all IPv6 addresses" served by having none.
            Err(error) if no_ipv6(address, &error) && !(alone && addresses.len() == 1) => {
                log::warning(format_args!("not listening on {address}: this machine has no IPv6"));
            }
            Err(error) => return Err(explain_listen(address, &error)),
        }
    }
    Ok(bound)
}

/// Binds, with some patience: a tracker that was killed a moment ago still holds its port
/// until the kernel has taken its ring apart.
fn bind(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<Listener>)> {
    for _ in 0..BIND_TRIES {
        match Listener::bind_group(address, workers) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => thread::sleep(BIND_PAUSE),
            result => return result,
        }
    }
    Listener::bind_group(address, workers)
}

fn no_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let unavailable =
        error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT);
    address.is_ipv6() && address.ip().is_unspecified() && unavailable
}

fn explain_listen(address: SocketAddr, error: &io::Error) -> String {
    let cure = match error.kind() {
        ErrorKind::AddrInUse => {
            "another program, perhaps another annulus, listens there: stop it, or choose \
             another address with `listen` (two trackers on one port would split every swarm)"
        }
        ErrorKind::PermissionDenied => {
            "ports below net.ipv4.ip_unprivileged_port_start (1024 by default) need \
             CAP_NET_BIND_SERVICE"
        }
        ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "check `listen`",
    };
    format!("cannot listen on {address}: {error}: {cure}")
}

/// How many connections each worker may hold under the limit of open files.
fn connections_max(config: &Config, workers: usize) -> Result<usize, String> {
    let limit = raise_descriptor_limit().map_err(|error| format!("open files: {error}"))?;
    let workers = workers as u64;
    let own = DESCRIPTORS_RESERVED + workers * DESCRIPTORS_PER_WORKER;
    let possible = limit.saturating_sub(own);
    if possible < workers {
        return Err(format!(
            "the limit of open files ({limit}) leaves none for connections: {own} are needed \
             beside them; raise it (ulimit -n, LimitNOFILE=)"
        ));
    }
    let wanted = config.connections.max as u64;
    if wanted > possible {
        log::warning(format_args!(
            "connections.max = {wanted} is more than the limit of open files ({limit}) allows: \
             taking {possible} (raise it with ulimit -n or LimitNOFILE=)"
        ));
    }
    let total = if wanted == 0 { possible } else { wanted.min(possible) };
    Ok(usize::try_from(total.div_ceil(workers)).unwrap_or(usize::MAX))
}

fn swarm_settings(config: &Config) -> SwarmSettings {
    SwarmSettings {
        torrents_max: config.swarms.max_torrents as u64,
        peers_max: config.swarms.max_peers as u64,
        peers_per_torrent_max: config.swarms.max_peers_per_torrent,
        peer_timeout_s: config.protocol.peer_timeout_s,
    }
}

/// A number that no client can guess, from the system's randomness.
fn seed(index: usize) -> u64 {
    RandomState::new().hash_one(index)
}

/// Waits for the signal to stop, reloading when asked to, off the worker threads.
fn wait_for_stop(
    signals: &Signals,
    config: &Config,
    tls: Option<&Tls>,
    access: Option<&Access>,
    crew: &Crew,
) {
    while signals.wait() == Signal::Reload {
        if let Some(tls) = tls {
            reload_certificates(tls, &config.tls);
        }
        if let Some(access) = access {
            reload_list(access, &config.access, crew);
        }
        if tls.is_none() && access.is_none() {
            log::info(format_args!("nothing to reload"));
        }
    }
}

fn leave(crew: Crew) -> Result<(), String> {
    for (_, waker) in &crew {
        waker.wake();
    }
    for (thread, _) in crew {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("a worker failed while stopping: {error}")),
            Err(_) => return Err("a worker panicked".to_owned()),
        }
    }
    log::info(format_args!("stopped"));
    Ok(())
}

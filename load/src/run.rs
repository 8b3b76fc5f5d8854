//! A run: prepares, starts the workers, and collects what they report.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use annulus_ring::{ConnectionLimit, EngineConfig, Epoll, SelectedEngine, Uring, Waker};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::TLS_OVERHEAD_BYTES_MAX;
use crate::datagram::{DatagramTemplates, response_bytes_max};
use crate::options::{LoadOptions, parse_sources};
use crate::plan::LoadPlan;
use crate::report::{LoadReport, live_line};
use crate::request::RequestTemplates;
use crate::schedule::ArrivalSchedule;
use crate::stats::{LoadStats, StatsCollector, WorkerReport};
use crate::tls::{TlsConnector, TrustAnchors};
use crate::tracker_url::{TrackerScheme, TrackerUrl};
use crate::udp_worker::{UdpWorker, UdpWorkerConfig};
use crate::validator::CountingValidator;
use crate::worker::{LoadWorker, LoadWorkerConfig, LoadWorkerParts};

/// Descriptors of the program that are not connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// Bytes of a client's handshake flight at most.
const CLIENT_FLIGHT_BYTES_MAX: usize = 4 * 1024;

/// Bytes of the memory that a worker sends from.
const SEND_ARENA_BYTES: usize = 512 * 1024;

/// Bytes of a receive buffer, more than nearly any response has, and their number.
const RESPONSE_BUFFER_BYTES: u32 = 4096;
const RESPONSE_BUFFERS: u16 = 256;

/// Milliseconds after which a request by UDP is lost where there is no rate.
const LOSS_MS: u64 = 100;

/// Sockets that a worker has by UDP: the fewest, so that trackers with several threads use them,
/// and the most. In between, as many as give batches of so many requests.
const SOCKETS_PER_WORKER: (u32, u32) = (4, 16);
const REQUESTS_PER_SOCKET: u32 = 32;

/// Sockets of all workers so that each source has one.
const SOCKETS_FOR_SOURCES_MAX: u32 = 256;

/// Runs as the options say, and reports to standard output. Returns whether there were responses,
/// and all were correct.
#[expect(clippy::disallowed_methods, reason = "the load measures latencies")]
pub fn run(options: &LoadOptions) -> Result<bool, String> {
    let url = TrackerUrl::parse(&options.url, &options.path_suffix)?;
    let address = resolve(options, &url)?;
    // Before anything is sent: the report of a long run must not be lost.
    check_writable(&options.json)?;
    raise_limits(options, &url)?;
    let engine = SelectedEngine::probe(options.engine)?;
    let engine_name = engine.describe();
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1];
    let signals = SigSet::from_iter(signals);
    // Blocked here, so that no worker gets them.
    signals.thread_block().map_err(|error| error.to_string())?;
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let workers = if options.workers == 0 { cores } else { options.workers };
    let workers = workers.min(options.connections) as u32;
    let is_udp = url.scheme == TrackerScheme::Udp;
    let plan = Arc::new(LoadPlan::new(options)?);
    let sockets = udp_sockets(options, workers, &plan);
    let means = match is_udp {
        true => format!("{sockets} UDP sockets"),
        false => engine_name.split(',').next().unwrap_or_default().to_owned(),
    };
    let place = format!("{address}, {means}");
    let (sender, reports) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let starter = WorkerStarter {
        options,
        url: &url,
        address,
        workers,
        sockets,
        engine,
        plan,
        templates: Arc::new(RequestTemplates::new(&url, options)),
        stop: Arc::clone(&stop),
        reports: sender,
        start: Instant::now(),
    };
    let (threads, wakers): (Vec<_>, Vec<_>) =
        (0..workers).map(|number| starter.start(number)).collect::<Result<_, _>>()?;
    // Only the workers report, so that the channel closes when they have ended.
    drop(starter);
    stop_on_signal(signals, stop, wakers.into_iter().flatten().collect());
    let (collector, seconds) = collect(options, workers, &reports);
    for thread in threads {
        let result = thread.join().map_err(|_| "a worker panicked")?;
        result.map_err(|error| format!("a worker failed: {error}"))?;
    }
    let (points, total) = collector.finish();
    let report = LoadReport { options, place, workers, seconds, points, total };
    write_reports(&report)?;
    Ok(report.is_good())
}

/// The address of the tracker. It is looked up only once, for a name with several addresses may
/// return them in another order the next time.
fn resolve(options: &LoadOptions, url: &TrackerUrl) -> Result<SocketAddr, String> {
    let sources_v4 = parse_sources(&options.sources)?.map(|range| range.addr().is_ipv4());
    let address = url.resolve(sources_v4)?;
    match sources_v4.is_some_and(|v4| v4 != address.is_ipv4()) {
        true => Err(format!("{} cannot be reached from {}", address.ip(), options.sources)),
        false => Ok(address),
    }
}

/// Raises the limit of descriptors, and of memory, to which rings are charged.
fn raise_limits(options: &LoadOptions, url: &TrackerUrl) -> Result<(), String> {
    let raise = |resource| {
        let limit = getrlimit(resource);
        let raised = Rlimit { current: limit.maximum, ..limit };
        let reached = if setrlimit(resource, raised).is_ok() { raised } else { limit };
        reached.current.unwrap_or(u64::MAX)
    };
    raise(Resource::Memlock);
    let descriptors = raise(Resource::Nofile);
    let (sockets, what) = match url.scheme {
        TrackerScheme::Udp => (options.sockets, "sockets"),
        TrackerScheme::Http | TrackerScheme::Https => (options.connections, "connections"),
    };
    match sockets + OTHER_DESCRIPTORS > descriptors {
        true => Err(format!(
            "{sockets} {what} need more descriptors than the limit of {descriptors} (ulimit -Hn)"
        )),
        false => Ok(()),
    }
}

/// Adds the reports of all workers up until they have ended, and shows each interval. Returns how
/// many seconds the run took, too.
fn collect(
    options: &LoadOptions,
    workers: u32,
    reports: &Receiver<WorkerReport>,
) -> (StatsCollector, f64) {
    let mut collector = StatsCollector::new(workers as usize);
    let mut seconds = 0.0;
    let is_terminal = io::stderr().is_terminal();
    while !collector.is_complete()
        && let Ok(report) = reports.recv()
    {
        seconds = report.at_ns as f64 / 1e9;
        if let Some(point) = collector.add(report) {
            let left_s = options.duration as f64 - point.at_s;
            let line = live_line(&point, collector.failures(), left_s);
            let mut err = io::stderr();
            // A terminal shows each line in place of the one before, and does not wrap it
            // (DECAWM). It changes nothing for the run if standard error is closed.
            let _ = match is_terminal {
                true => write!(err, "\r\x1b[K\x1b[?7l{line}\x1b[?7h").and_then(|()| err.flush()),
                false => writeln!(err, "{:4.0} s  {line}", point.at_s),
            };
        }
    }
    if is_terminal {
        let _ = writeln!(io::stderr());
    }
    (collector, seconds)
}

/// Checks that the file of a report can be written, without changing its content.
fn check_writable(path: &str) -> Result<(), String> {
    // To open a pipe and close it again would end its reader.
    let is_file = fs::metadata(path).map_or(true, |found| found.is_file());
    if path.is_empty() || !is_file {
        return Ok(());
    }
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|error| format!("{path}: {error}"))
}

/// Writes both reports, even if the first cannot be written.
fn write_reports(report: &LoadReport<'_>) -> Result<(), String> {
    let path = report.options.json.as_str();
    let written = match path {
        "" => Ok(()),
        _ => fs::write(path, report.json()).map_err(|error| format!("{path}: {error}")),
    };
    let printed = print(&report.text());
    written.and(printed)
}

/// Prints to standard output. It is not an error if the reader closes it early, as `head` does.
pub fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// Ends the run at the first signal; the second one does not wait for responses.
fn stop_on_signal(signals: SigSet, stop: Arc<AtomicBool>, wakers: Vec<Waker>) {
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if stop.swap(true, Ordering::Release) {
                process::exit(1);
            }
            wakers.iter().for_each(Waker::wake);
        }
    });
}

/// The number of the first of `all` things that a worker has, if they are shared evenly.
fn first_of_worker(all: u32, workers: u32, number: u32) -> u32 {
    all / workers * number + number.min(all % workers)
}

/// How many sockets all workers have, if the tracker speaks UDP.
fn udp_sockets(options: &LoadOptions, workers: u32, plan: &LoadPlan) -> u32 {
    let connections = options.connections as u32;
    let sockets = match options.sockets {
        0 => {
            let for_batches = connections / (REQUESTS_PER_SOCKET * workers);
            let per_worker = for_batches.clamp(SOCKETS_PER_WORKER.0, SOCKETS_PER_WORKER.1);
            (per_worker * workers).max(plan.sources().min(SOCKETS_FOR_SOURCES_MAX))
        }
        sockets => sockets as u32,
    };
    sockets.clamp(workers, connections)
}

/// A thread, and what wakes it.
type StartedWorker = (JoinHandle<io::Result<()>>, Option<Waker>);

/// What all workers have in common.
struct WorkerStarter<'a> {
    options: &'a LoadOptions,
    url: &'a TrackerUrl,
    address: SocketAddr,
    workers: u32,
    /// Of all workers, where the tracker speaks UDP.
    sockets: u32,
    engine: SelectedEngine,
    plan: Arc<LoadPlan>,
    templates: Arc<RequestTemplates>,
    stop: Arc<AtomicBool>,
    reports: Sender<WorkerReport>,
    start: Instant,
}

impl WorkerStarter<'_> {
    /// Returns the thread, and what wakes it where it waits for events alone.
    fn start(&self, number: u32) -> Result<StartedWorker, String> {
        let failed = |error| format!("a worker cannot be started: {error}");
        let parts = self.parts(number)?;
        let builder = thread::Builder::new().name(format!("load-{number}"));
        if self.url.scheme == TrackerScheme::Udp {
            let config = self.udp_config(number);
            let thread = builder.spawn(move || UdpWorker::new(parts, config)?.run());
            return Ok((thread.map_err(failed)?, None));
        }
        let waker = Waker::new().map_err(failed)?;
        let engine_config = self.engine_config(waker.clone());
        let is_uring = matches!(self.engine, SelectedEngine::Uring(_));
        let work = move || match is_uring {
            true => match Uring::new(engine_config) {
                Ok(ring) => LoadWorker::new(ring, parts).run(),
                Err(error) => Err(io::Error::other(error.explain())),
            },
            false => LoadWorker::new(Epoll::new(engine_config)?, parts).run(),
        };
        Ok((builder.spawn(work).map_err(failed)?, Some(waker)))
    }

    fn parts(&self, number: u32) -> Result<LoadWorkerParts, String> {
        let options = self.options;
        let schedule = (options.rate > 0).then(|| {
            let workers = f64::from(self.workers);
            let seed = options.seed ^ u64::from(number + 1).rotate_left(32);
            let (rate, offset) = (options.rate as f64 / workers, f64::from(number) / workers);
            ArrivalSchedule::new(rate, options.arrivals, offset, seed)
        });
        let validator = CountingValidator {
            plan: Arc::clone(&self.plan),
            templates: Arc::clone(&self.templates),
            numwant: options.numwant as usize,
            only_ours: options.only_ours,
            local: None,
            source: None,
            now_ns: 0,
            stats: LoadStats::default(),
            settled: 0,
        };
        Ok(LoadWorkerParts {
            config: self.config(number),
            connector: self.connector()?,
            schedule,
            validator,
            reports: self.reports.clone(),
            stop: Arc::clone(&self.stop),
            start: self.start,
        })
    }

    fn udp_config(&self, number: u32) -> UdpWorkerConfig {
        let options = self.options;
        let loss_ms = match (options.loss_timeout, options.rate) {
            (0, 0) => LOSS_MS,
            (0, _) => options.timeout * 1000,
            (milliseconds, _) => milliseconds,
        };
        UdpWorkerConfig {
            first_socket: first_of_worker(self.sockets, self.workers, number),
            sockets: self.sockets,
            own_sockets: self.share(u64::from(self.sockets), number) as u32,
            loss_ns: loss_ms * 1_000_000,
            id_lifetime_ns: options.id_lifetime * 1_000_000_000,
            response_bytes_max: response_bytes_max(options, self.address.is_ipv6()),
            templates: DatagramTemplates::new(self.url, options),
        }
    }

    /// The part of `all` that a worker has.
    fn share(&self, all: u64, number: u32) -> u64 {
        let (count, at) = (u64::from(self.workers), u64::from(number));
        all / count + u64::from(at < all % count)
    }

    fn config(&self, number: u32) -> LoadWorkerConfig {
        let options = self.options;
        let slots = options.connections as u32;
        let share = |all: u64| self.share(all, number);
        let unlimited_if_zero = |number: u64| if number == 0 { u64::MAX } else { number };
        LoadWorkerConfig {
            tracker: self.address,
            first_slot: first_of_worker(slots, self.workers, number),
            slots,
            own_slots: share(options.connections) as u32,
            pipeline: options.pipeline as usize,
            requests_per_connection: unlimited_if_zero(options.requests_per_connection),
            requests: if options.requests == 0 { u64::MAX } else { share(options.requests) },
            scrapes_percent: options.scrapes as u32,
            duration_ns: options.duration * 1_000_000_000,
            timeout_ns: options.timeout * 1_000_000_000,
            seed: options.seed,
        }
    }

    fn connector(&self) -> Result<Option<TlsConnector>, String> {
        let trust = match (self.options.insecure, self.options.ca.as_str()) {
            (true, _) => TrustAnchors::Any,
            (false, "") => TrustAnchors::System,
            (false, path) => TrustAnchors::File(Path::new(path)),
        };
        let connector = || TlsConnector::new(&self.url.host, trust, self.options.resume);
        (self.url.scheme == TrackerScheme::Https).then(connector).transpose()
    }

    fn engine_config(&self, waker: Waker) -> EngineConfig {
        let request = self.templates.bytes_max() + TLS_OVERHEAD_BYTES_MAX;
        EngineConfig {
            listeners: Vec::new(),
            datagram_sockets: Vec::new(),
            waker,
            limit: Arc::new(ConnectionLimit::unlimited()),
            accepts_per_turn: 0,
            send_buffer_bytes: request * self.options.pipeline as usize + CLIENT_FLIGHT_BYTES_MAX,
            arena_bytes: SEND_ARENA_BYTES,
            recv_buffers: RESPONSE_BUFFERS,
            recv_buffer_bytes: RESPONSE_BUFFER_BYTES,
        }
    }
}

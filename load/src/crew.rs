//! The workers of a load: what each is given, on its way to its thread.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use annulus_ring::{ConnectionLimit, EngineConfig, Epoll, SelectedEngine, Uring, Waker};

use super::client::SEALED_EXTRA;
use super::judge::Counter;
use super::options::Options;
use super::plan::Plan;
use super::request::Requests;
use super::schedule::Schedule;
use super::target::Target;
use super::worker::{Report, Settings, Task, Worker, begin};
use crate::tls::{Connector, Trust};

/// Bytes of a client's flight in a handshake at most.
const FLIGHT_BYTES_MAX: usize = 4 * 1024;

/// Bytes of the memory that a worker sends from.
const ARENA_BYTES: usize = 512 * 1024;

/// Bytes of a buffer that a worker receives into: more than nearly any answer has.
const RECV_BUFFER_BYTES: u32 = 4096;

/// Such buffers of a worker.
const RECV_BUFFERS: u16 = 256;

/// Everything the workers share, and how many they are.
pub(super) struct Crew<'a> {
    pub(super) options: &'a Options,
    pub(super) target: &'a Target,
    pub(super) address: SocketAddr,
    pub(super) workers: u32,
    pub(super) engine: SelectedEngine,
    pub(super) plan: Arc<Plan>,
    pub(super) requests: Arc<Requests>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) reports: Sender<Report>,
}

/// A worker's thread, and what wakes it.
pub(super) type Hand = (JoinHandle<io::Result<()>>, Waker);

/// Which engine there is.
///
/// # Errors
/// Why the one that was asked for cannot be had.
pub(super) fn choose_engine(options: &Options) -> Result<SelectedEngine, String> {
    SelectedEngine::probe(options.engine)
}

impl Crew<'_> {
    /// Starts the workers, all at one time.
    ///
    /// # Errors
    /// What a worker lacks: certificates, a thread.
    pub(super) fn start(self) -> Result<Vec<Hand>, String> {
        let start = begin();
        (0..self.workers).map(|number| self.start_one(number, start)).collect()
    }

    fn start_one(&self, number: u32, start: Instant) -> Result<Hand, String> {
        let options = self.options;
        let slots = options.connections as u32;
        let share = |all: u64| {
            let workers = u64::from(self.workers);
            all / workers + u64::from(u64::from(number) < all % workers)
        };
        let own_slots = share(options.connections) as u32;
        let before = |number: u32| slots / self.workers * number + number.min(slots % self.workers);
        let unless_zero = |number: u64| if number == 0 { u64::MAX } else { number };
        let settings = Settings {
            target: self.address,
            first_slot: before(number),
            slots,
            own_slots,
            pipeline: options.pipeline as usize,
            requests_per_connection: unless_zero(options.requests_per_connection),
            requests: if options.requests == 0 { u64::MAX } else { share(options.requests) },
            scrapes_percent: options.scrapes as u32,
            duration_ns: options.duration * 1_000_000_000,
            timeout_ns: options.timeout * 1_000_000_000,
            seed: options.seed,
        };
        let workers = f64::from(self.workers);
        let schedule = (options.rate > 0).then(|| {
            let rate = options.rate as f64 / workers;
            let seed = options.seed ^ u64::from(number + 1).rotate_left(32);
            Schedule::new(rate, options.arrivals, f64::from(number) / workers, seed)
        });
        let (plan, requests) = (Arc::clone(&self.plan), Arc::clone(&self.requests));
        let numwant = options.numwant as usize;
        let judge =
            Counter::new(Arc::clone(&plan), Arc::clone(&requests), numwant, options.only_ours);
        let connector = self.connector()?;
        let waker = Waker::new().map_err(|error| format!("no worker can be started: {error}"))?;
        let ring_settings = self.ring_settings(waker.clone());
        let task = Task {
            settings,
            plan,
            requests,
            connector,
            schedule,
            judge,
            reports: self.reports.clone(),
            stop: Arc::clone(&self.stop),
            start,
        };
        let uring = matches!(self.engine, SelectedEngine::Uring(_));
        let work = move || match uring {
            true => match Uring::new(ring_settings) {
                Ok(ring) => Worker::new(ring, task).run(),
                Err(refusal) => Err(io::Error::other(refusal.explain())),
            },
            false => Worker::new(Epoll::new(ring_settings)?, task).run(),
        };
        let thread = thread::Builder::new().name(format!("load-{number}")).spawn(work);
        let thread = thread.map_err(|error| format!("no worker can be started: {error}"))?;
        Ok((thread, waker))
    }

    /// TLS, where the target wants it.
    fn connector(&self) -> Result<Option<Connector>, String> {
        if !self.target.secure {
            return Ok(None);
        }
        let trust = match (self.options.insecure, self.options.ca.as_str()) {
            (true, _) => Trust::Anyone,
            (false, "") => Trust::System,
            (false, path) => Trust::File(Path::new(path)),
        };
        Connector::new(&self.target.host, trust, self.options.resume).map(Some)
    }

    fn ring_settings(&self, waker: Waker) -> EngineConfig {
        let request = self.requests.bytes_max() + SEALED_EXTRA;
        let batch = request * self.options.pipeline as usize + FLIGHT_BYTES_MAX;
        EngineConfig {
            listeners: Vec::new(),
            waker,
            limit: Arc::new(ConnectionLimit::unlimited()),
            accepts_per_turn: 0,
            send_buffer_bytes: batch,
            arena_bytes: ARENA_BYTES,
            recv_buffers: RECV_BUFFERS,
            recv_buffer_bytes: RECV_BUFFER_BYTES,
        }
    }
}

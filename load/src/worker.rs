//! One thread of the load: the ring's events on one side, clients on the other.
//!
//! A turn of the loop passes due requests to slots, waits for events, reads the clock once, and
//! has all that arrived validated. Then every slot that something happened to resumes: it takes
//! requests, sends, connects or closes.
//!
//! A latency begins when its request is due: by the schedule if there is one, and otherwise in the
//! turn in which its slot was free. It ends at the start of the turn that received the response. So
//! time that this program takes counts against the tracker, never for it.

mod events;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::mem;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use annulus_ring::{Connect, Key, RecvMode, Socket};

use crate::client::LoadClient;
use crate::failure::Failure;
use crate::request::RequestSequence;
use crate::schedule::ArrivalSchedule;
use crate::stats::WorkerReport;
use crate::tls::TlsConnector;
use crate::validator::CountingValidator;

/// Nanoseconds before another attempt when a connection could not be made.
const RETRY_NS: u64 = 100_000_000;

/// What the options mean for one worker.
#[derive(Clone, Copy, Debug)]
pub struct LoadWorkerConfig {
    pub tracker: SocketAddr,
    /// The number of its first slot among those of all workers.
    pub first_slot: u32,
    /// Slots of all workers, each for one connection at a time.
    pub slots: u32,
    pub own_slots: u32,
    pub pipeline: usize,
    pub requests_per_connection: u64,
    pub requests: u64,
    pub scrapes_percent: u32,
    pub duration_ns: u64,
    pub timeout_ns: u64,
    pub seed: u64,
}

/// Everything that a worker consists of besides its ring.
pub struct LoadWorkerParts {
    pub config: LoadWorkerConfig,
    /// For HTTPS.
    pub connector: Option<TlsConnector>,
    pub schedule: Option<ArrivalSchedule>,
    pub validator: CountingValidator,
    pub reports: Sender<WorkerReport>,
    /// Set to end the run early. The ring has to be woken then.
    pub stop: Arc<AtomicBool>,
    /// The start of all workers.
    pub start: Instant,
}

pub struct LoadWorker<R> {
    ring: R,
    parts: LoadWorkerParts,
    slots: Vec<ConnectionSlot>,
    /// Slots that can take an arrival, where there is a schedule.
    free: VecDeque<u32>,
    /// Slots that resume in this turn.
    scheduled: Vec<u32>,
    /// Slots that could not connect, and when they try again.
    backoff: Vec<u32>,
    backoff_until_ns: u64,
    /// A request before it is encrypted.
    scratch: Vec<u8>,
    /// Requests that were passed to slots, or were due with none free.
    requests: u64,
    /// Whether the time is up.
    over: bool,
    now_ns: u64,
}

/// The place of one connection at a time.
#[derive(Default)]
struct ConnectionSlot {
    client: LoadClient,
    sequence: RequestSequence,
    socket: Option<Socket>,
    generation: u32,
    /// The local address of the connection, if it is known.
    source: Option<IpAddr>,
    /// When connecting began.
    connect_ns: u64,
    connecting: bool,
    recv_pending: bool,
    /// Whether an owned send is pending.
    send_pending: bool,
    /// Whether the connection is closed, with RST if `Some(true)`, once nothing is pending.
    closing: Option<bool>,
    /// Whether the slot is in the lists of [`LoadWorker`] with these names.
    in_backoff: bool,
    free: bool,
    scheduled: bool,
}

impl ConnectionSlot {
    fn key(&self, at: u32) -> Key {
        Key::new(at, self.generation)
    }
}

impl<R: Connect> LoadWorker<R> {
    pub fn new(ring: R, parts: LoadWorkerParts) -> LoadWorker<R> {
        let LoadWorkerConfig { first_slot, slots, own_slots, scrapes_percent, seed, .. } =
            parts.config;
        let peers = parts.validator.plan.peers();
        let slot = |at| {
            let number = first_slot + at;
            let sequence = RequestSequence::new(number, slots, peers, scrapes_percent, seed);
            ConnectionSlot { sequence, ..ConnectionSlot::default() }
        };
        LoadWorker {
            ring,
            slots: (0..own_slots).map(slot).collect(),
            free: VecDeque::new(),
            scheduled: Vec::new(),
            backoff: Vec::new(),
            backoff_until_ns: 0,
            scratch: vec![0; parts.validator.templates.bytes_max()],
            requests: 0,
            over: false,
            now_ns: 0,
            parts,
        }
    }

    /// Runs until the time is up or all requests are sent, and every request has its outcome.
    /// Connections that are open then are closed with the process.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        (0..self.parts.config.own_slots).for_each(|at| self.schedule(at));
        loop {
            self.now_ns = self.elapsed_ns();
            self.parts.validator.now_ns = self.now_ns;
            for event in events.drain(..) {
                self.on_event(event);
            }
            self.end_backoff();
            self.assign_arrivals();
            while let Some(at) = self.scheduled.pop() {
                self.slots[at as usize].scheduled = false;
                self.resume(at);
            }
            self.check_time();
            if !self.may_request() && self.requests == self.parts.validator.settled {
                break;
            }
            match self.wait_max() {
                Some(wait_max) => self.ring.turn_within(&mut events, wait_max)?,
                None => self.ring.turn(&mut events, true)?,
            }
        }
        self.parts.validator.stats.cpu_ns = thread_cpu_ns();
        self.report(true);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the load measures latencies")]
    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.parts.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long the next turn may wait, if something is due that is not an event.
    fn wait_max(&self) -> Option<Duration> {
        let may_assign = self.may_request() && !self.free.is_empty();
        let schedule = self.parts.schedule.as_ref().filter(|_| may_assign);
        let arrival_ns = schedule.map(ArrivalSchedule::next_ns);
        let backoff_ns = (!self.backoff.is_empty()).then_some(self.backoff_until_ns);
        let due_ns = arrival_ns.into_iter().chain(backoff_ns).min()?;
        Some(Duration::from_nanos(due_ns.saturating_sub(self.elapsed_ns())))
    }

    fn end_backoff(&mut self) {
        if self.now_ns >= self.backoff_until_ns {
            for at in mem::take(&mut self.backoff) {
                self.slots[at as usize].in_backoff = false;
                self.schedule(at);
            }
        }
    }

    /// Ends the run if the time is up and no free slot can take what arrived by then. There were
    /// too few connections for the arrivals that are left.
    fn check_time(&mut self) {
        let LoadWorkerConfig { duration_ns, requests, .. } = self.parts.config;
        let end_ns = self.now_ns.min(duration_ns - 1);
        let stopped = self.parts.stop.load(Ordering::Acquire);
        if self.over || (self.now_ns < duration_ns && !stopped) {
            return;
        }
        if let Some(schedule) = &mut self.parts.schedule {
            let more = self.requests < requests && schedule.next_ns() <= end_ns;
            if more && !stopped && !self.free.is_empty() {
                return;
            }
            let more_max = requests - self.requests;
            self.requests += self.parts.validator.count_unsent(schedule, end_ns, more_max);
        }
        self.over = true;
    }

    fn assign_arrivals(&mut self) {
        let until_ns = self.now_ns.min(self.parts.config.duration_ns - 1);
        while self.may_request()
            && let Some(schedule) = &mut self.parts.schedule
            && let Some(&at) = self.free.front()
            && let Some(due_ns) = schedule.take(until_ns)
        {
            self.free.pop_front();
            self.slots[at as usize].free = false;
            self.add_request(at, due_ns);
            self.schedule(at);
            self.set_free(at);
        }
    }

    fn add_request(&mut self, at: u32, due_ns: u64) {
        self.requests += 1;
        let slot = &mut self.slots[at as usize];
        slot.client.add_request(slot.sequence.next_request(), due_ns);
    }

    /// Lets a slot take an arrival, if it can take one more.
    fn set_free(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        let has_room = slot.client.pending() < self.parts.config.pipeline;
        if has_room && !slot.free && !slot.in_backoff {
            slot.free = true;
            self.free.push_back(at);
        }
    }

    /// Has a slot resume in this turn.
    fn schedule(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if !mem::replace(&mut slot.scheduled, true) {
            self.scheduled.push(at);
        }
    }

    fn may_request(&self) -> bool {
        !self.over && self.requests < self.parts.config.requests
    }

    /// Does what a slot can do next.
    fn resume(&mut self, at: u32) {
        let LoadWorkerConfig { pipeline, requests_per_connection, .. } = self.parts.config;
        if self.parts.schedule.is_some() {
            self.set_free(at);
        } else {
            while self.may_request() && self.slots[at as usize].client.pending() < pipeline {
                self.add_request(at, self.now_ns);
            }
        }
        let slot = &mut self.slots[at as usize];
        if slot.closing.is_some() || slot.connecting || slot.in_backoff {
            return;
        }
        if slot.socket.is_none() {
            if slot.client.pending() > 0 {
                self.connect(at);
            }
            return;
        }
        if slot.client.in_flight == 0 && slot.client.sent >= requests_per_connection {
            slot.client.requeue();
            return self.close(at, false);
        }
        if !slot.send_pending && slot.client.has_output(requests_per_connection) {
            self.send(at);
        }
        self.receive(at);
    }

    fn connect(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        slot.generation = (slot.generation + 1) % Key::GENERATIONS;
        slot.connecting = true;
        slot.connect_ns = self.now_ns;
        let plan = &self.parts.validator.plan;
        slot.source =
            slot.client.pending.front().and_then(|request| plan.source(request.kind.peer()));
        self.ring.connect(slot.key(at), slot.source, self.parts.config.tracker);
    }

    fn send(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        let CountingValidator { plan, templates, stats, .. } = &mut self.parts.validator;
        let write = |out: &mut [u8], kind, last| templates.write(out, plan, kind, last);
        let requests_max = self.parts.config.requests_per_connection;
        let out = self.ring.send_buffer();
        match slot.client.fill(out, &mut self.scratch, requests_max, self.now_ns, write) {
            Ok((len, requests)) => {
                stats.requests_sent += requests;
                if let Some(socket) = slot.socket.as_ref().filter(|_| len > 0) {
                    self.ring.send(slot.key(at), socket, len);
                }
            }
            Err(failure) => self.fail(at, &failure),
        }
    }

    fn receive(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if let Some(socket) = slot.socket.as_ref().filter(|_| !slot.recv_pending) {
            slot.recv_pending = true;
            let mode = match self.parts.config.requests_per_connection {
                1 => RecvMode::Once,
                _ => RecvMode::Multishot,
            };
            self.ring.recv(slot.key(at), socket, mode);
        }
    }

    /// Fails the requests of a connection, and resets it.
    fn fail(&mut self, at: u32, failure: &Failure) {
        self.slots[at as usize].client.fail(failure, &mut self.parts.validator);
        self.close(at, true);
    }

    /// Closes a connection as soon as nothing of it is in the kernel.
    fn close(&mut self, at: u32, reset: bool) {
        let slot = &mut self.slots[at as usize];
        if slot.closing.is_none() {
            slot.closing = Some(reset);
            if let Some(socket) = slot.socket.as_ref().filter(|_| slot.send_pending) {
                self.ring.shutdown(socket, Shutdown::Both);
            } else if slot.recv_pending {
                self.ring.cancel_recv(slot.key(at));
            }
        }
        self.close_if_idle(at);
    }

    fn close_if_idle(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if slot.recv_pending || slot.send_pending {
            return;
        }
        let Some(reset) = slot.closing.take() else { return };
        if let Some(socket) = slot.socket.take() {
            if reset { self.ring.reset(socket) } else { self.ring.close(socket) }
        }
        self.schedule(at);
    }

    fn report(&mut self, last: bool) {
        let stats = mem::take(&mut self.parts.validator.stats);
        let in_flight = self.slots.iter().map(|slot| slot.client.in_flight as u64).sum();
        // It fails when another worker has failed and the run is over.
        let report = WorkerReport { at_ns: self.now_ns, stats, in_flight, last };
        let _ = self.parts.reports.send(report);
    }
}

/// How long this thread was on a processor (Documentation/scheduler/sched-stats.rst); 0 if the
/// kernel does not count it.
pub(crate) fn thread_cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

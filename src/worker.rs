//! One worker thread: a ring's events on one side, connections and the server on the other.
//!
//! A turn of the loop is [`Worker::wait`], in which the ring submits, sleeps and collects
//! completions, and [`Worker::act`] on what it brought. A request that arrives whole is parsed in
//! the buffer that the kernel filled, and answered into the buffer that the kernel sends from.
//!
//! What keeps a connection's bytes in order and its memory bounded:
//! - One batch of responses a turn and connection. What arrives after it waits for the next turn,
//!   when it is known whether the batch went out whole ([`slot::Slot::sent_turn`]).
//! - While a client does not read ([`slot::Slot::send_pending`]), no more of its requests are
//!   answered, and beyond a bound no more are received.
//! - A connection stays open as long as its client acknowledges responses ([`timeouts`]).
//! - A slot is freed when no operation of it is in the kernel.
//! - Everything that clients can cause in a turn has a bound. What exceeds it waits for the next
//!   turn, in the order of arrival.
//!
//! The worker is generic over the ring: the simulator (`tests/sim`) puts a hostile one under it.

mod accept;
mod close;
mod datagrams;
mod eviction;
mod eviction_lists;
mod io;
mod memory;
mod prefetch;
mod shutdown;
mod slot;
mod timeouts;
mod timer_wheel;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use annulus_ring::{AcceptEnd, DatagramIndex, Event, Key, ListenerIndex, Ring};

use crate::clock::whole_seconds;
pub use crate::connection::Timeouts;
use crate::connection::TlsBuffers;
use crate::limits::{EVENTS_SORTED_MIN, HANDSHAKES_PER_TURN_MAX, REQUESTS_PER_TURN_MAX};
use crate::log::WarningLimiter;
use crate::metrics::Counters;
use crate::metrics::labels::AcceptPause;
use crate::proxy::ProxyProtocol;
use crate::server::Server;
use crate::tls::TlsAcceptor;
use accept::Listeners;
use annulus_swarm::{BATCH_MAX, Sweep, SweepStatus};
use eviction::Eviction;
pub use eviction::EvictionCoordinator;
use slot::Slots;
use timer_wheel::TimerWheel;

/// What is configured of a worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// How many listeners its ring has.
    pub listeners: ListenerIndex,
    /// The first listener with TLS; all after it have TLS too.
    pub tls_from: ListenerIndex,
    /// How many sockets for datagrams its ring has.
    pub datagram_sockets: DatagramIndex,
    /// Bytes of responses that are encrypted at once.
    pub tls_buffer_bytes: usize,
    /// With so many peers in the swarms, what requests need of them is prefetched.
    pub prefetch_peers_min: u64,
    pub timeouts: Timeouts,
    /// Seconds that a client may take to acknowledge any of its responses.
    pub send_s: u32,
    /// Seconds that a shutdown may take.
    pub shutdown_s: u32,
}

/// What a worker is made of, besides its ring.
pub struct WorkerParts {
    pub config: WorkerConfig,
    pub server: Server,
    /// For the listeners with TLS.
    pub acceptor: Option<TlsAcceptor>,
    /// For the listeners that expect a PROXY header.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The worker's share of the swarms, to remove expired peers from.
    pub sweep: Sweep,
    /// Set when the worker is to stop; its ring is woken then.
    pub stop: Arc<AtomicBool>,
    /// Shared by all workers, with the limit of connections that their rings have.
    pub evictions: Arc<EvictionCoordinator>,
    /// Its number among the workers, from 0.
    pub index: usize,
    pub now_s: u32,
}

/// One worker.
pub struct Worker<R> {
    ring: R,
    server: Server,
    acceptor: Option<TlsAcceptor>,
    proxy_protocol: Option<ProxyProtocol>,
    tls_buffers: TlsBuffers,
    sweep: Sweep,
    sweeping: bool,
    /// The records of the last turn could not be handed over.
    records_wait: bool,
    stop: Arc<AtomicBool>,
    config: WorkerConfig,
    slots: Slots,
    timers: TimerWheel,
    /// Slots whose timer is over.
    due: Vec<u32>,
    listeners: Listeners,
    /// Sockets for datagrams that are not closed.
    datagram_sockets_open: DatagramIndex,
    eviction: Eviction,
    events: Vec<Event>,
    /// Events of this turn that come last.
    late_events: Vec<Event>,
    /// Connections that resume as soon as a turn has time for them.
    resume_queue: VecDeque<Key>,
    /// The same, for handshakes.
    handshake_queue: VecDeque<Key>,
    /// Connections that the next chunk of a full scrape can be sent to.
    stream_queue: VecDeque<Key>,
    /// The sum of [`slot::Slot::buffered_bytes`].
    buffered_bytes: usize,
    buffered_warning: WarningLimiter,
    /// Bytes of responses in this turn.
    sent_bytes: usize,
    /// Costly handshake steps in this turn.
    handshake_steps: u32,
    /// [`Server::answered`] when this turn began.
    answered_before: u32,
    /// Never 0.
    turn: u32,
    now_s: u32,
    /// The second at which a shutdown is out of time.
    shutdown_at_s: Option<u32>,
    counters: Arc<Counters>,
}

impl<R: Ring> Worker<R> {
    /// A worker that accepts at once. [`Worker::run`] ends when `stop` is set and the ring woken.
    pub fn new(mut ring: R, parts: WorkerParts) -> Worker<R> {
        let WorkerParts { config, server, acceptor, now_s, .. } = parts;
        let mut listeners = Listeners::new(config.listeners);
        listeners.accept_all(&mut ring);
        let counters = Arc::clone(server.counters());
        counters.turned_s.set(u64::from(now_s));
        let tls_bytes = if acceptor.is_some() { config.tls_buffer_bytes } else { 0 };
        let mut worker = Worker {
            ring,
            server,
            acceptor,
            proxy_protocol: parts.proxy_protocol,
            tls_buffers: TlsBuffers::new(tls_bytes),
            sweep: parts.sweep,
            sweeping: false,
            records_wait: false,
            stop: parts.stop,
            config,
            slots: Slots::default(),
            timers: TimerWheel::new(now_s),
            due: Vec::new(),
            listeners,
            datagram_sockets_open: 0,
            eviction: Eviction::new(parts.evictions, parts.index),
            events: Vec::new(),
            late_events: Vec::new(),
            resume_queue: VecDeque::new(),
            handshake_queue: VecDeque::new(),
            stream_queue: VecDeque::new(),
            buffered_bytes: 0,
            buffered_warning: WarningLimiter::default(),
            sent_bytes: 0,
            handshake_steps: 0,
            answered_before: 0,
            turn: 1,
            now_s,
            shutdown_at_s: None,
            counters,
        };
        worker.receive_datagrams();
        worker
    }

    /// Turns the loop until a shutdown is complete; `clock` is the time since the start.
    ///
    /// # Errors
    /// The ring has failed.
    pub fn run(&mut self, clock: impl Fn() -> Duration) -> std::io::Result<()> {
        loop {
            while !self.finished() {
                self.wait()?;
                let began = clock();
                self.act(whole_seconds(began));
                let took = clock().saturating_sub(began);
                self.counters.turned(self.now_s, took, self.server.take_answered());
            }
            // Submits the last closes.
            self.ring.turn(&mut self.events, false)?;
            if self.events.is_empty() {
                self.server.finish_records();
                return Ok(());
            }
            self.act(whole_seconds(clock()));
        }
    }

    /// Submits what is queued, and waits for an event unless there is more to do.
    ///
    /// # Errors
    /// The ring has failed.
    pub fn wait(&mut self) -> std::io::Result<()> {
        let idle = self.resume_queue.is_empty()
            && self.handshake_queue.is_empty()
            && self.stream_queue.is_empty()
            && self.due.is_empty()
            && !self.sweeping
            && !self.records_wait;
        self.ring.turn(&mut self.events, idle)
    }

    /// Acts on the events.
    pub fn act(&mut self, now_s: u32) {
        self.begin_turn(now_s);
        let mut events = mem::take(&mut self.events);
        // Short sends of the last turn come first: nothing may be sent before their rest.
        for event in events.extract_if(.., |event| matches!(event, Event::SendIncomplete { .. })) {
            self.on_event(event);
        }
        self.resume_queued();
        self.move_new_clients_last(&mut events);
        let mut coming = events.drain(..);
        while !coming.as_slice().is_empty() {
            let next = coming.len().min(BATCH_MAX);
            self.look_ahead(&coming.as_slice()[..next]);
            coming.by_ref().take(next).for_each(|event| self.on_event(event));
        }
        drop(coming);
        self.events = events;
        self.resume_handshakes();
        self.send_next_chunk();
        self.check_deadlines();
        if self.shutdown_at_s.is_none() && self.stop.load(Ordering::Acquire) {
            self.begin_shutdown();
        }
        self.enforce_memory_limit();
        self.make_room();
        self.listeners.accept_after_close(&mut self.ring);
        self.counters.connections.set(self.slots.len() as u64);
        self.records_wait = self.server.hand_over_records();
        if self.sweeping {
            self.sweeping = self.server.sweep(&mut self.sweep) == SweepStatus::Pending;
        }
    }

    fn begin_turn(&mut self, now_s: u32) {
        self.now_s = now_s;
        self.turn = self.turn.wrapping_add(1).max(1);
        self.sent_bytes = 0;
        self.handshake_steps = 0;
        self.answered_before = self.server.answered();
        self.server.set_now(now_s);
        self.eviction.begin_turn();
        if self.server.refresh_access_list() {
            self.sweep.start_full_round();
            self.sweeping = true;
        }
    }

    /// Whether a shutdown is complete.
    pub fn finished(&self) -> bool {
        self.shutdown_at_s.is_some()
            && self.slots.len() == 0
            && self.listeners.all_closed()
            && self.datagram_sockets_open == 0
    }

    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// Bytes that are allocated for unanswered requests and unsent responses.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// [`Worker::buffered_bytes`], counted anew: for tests.
    pub fn count_buffered_bytes(&self) -> usize {
        self.slots.iter().map(|(_, slot)| slot.buffered_bytes()).sum()
    }

    /// Costly handshake steps, and requests answered, in the last turn.
    pub fn turn_work(&self) -> (u32, u32) {
        (self.handshake_steps, self.server.answered().wrapping_sub(self.answered_before))
    }

    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// For tests, which act on what their ring simulates.
    pub fn ring_mut(&mut self) -> &mut R {
        &mut self.ring
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Received { key, buffer, more } => self.on_received(key, buffer, more),
            Event::Accepted { listener, socket, peer } => {
                self.on_accepted(listener, socket, peer.map(|peer| peer.ip()));
            }
            Event::RecvEnded { key, end } => self.on_recv_ended(key, end),
            Event::SendIncomplete { key, rest } => self.on_send_incomplete(key, rest),
            Event::Sent { key, result } => self.on_sent(key, result),
            Event::AcceptEnded { listener, cause } => {
                match cause {
                    AcceptEnd::LimitReached { waiting } => self.on_limit_reached(waiting),
                    AcceptEnd::Exhausted(_) => self.count_pause(AcceptPause::Exhausted),
                    AcceptEnd::Error(_) => self.count_pause(AcceptPause::Error),
                    AcceptEnd::Finished => {}
                }
                self.listeners.on_accept_ended(listener, cause, self.now_s);
            }
            Event::Datagram(datagram) => self.on_datagram(&datagram),
            Event::DatagramUnsent { .. } => self.on_datagram_unsent(),
            Event::DatagramsFinished { socket } => self.on_datagrams_finished(socket),
            // A tracker connects to nothing.
            Event::Connected { .. } => debug_assert!(false),
            Event::Tick => self.on_tick(),
            // Every turn checks what a wake can be for, but for a connection that another worker
            // has closed.
            Event::Wake => self.listeners.accept_all(&mut self.ring),
        }
    }

    fn count_pause(&self, pause: AcceptPause) {
        self.counters.accept_pauses.add(pause);
    }

    /// Whether this turn may not answer more requests.
    fn is_request_budget_spent(&self) -> bool {
        let (_, answered) = self.turn_work();
        answered >= REQUESTS_PER_TURN_MAX
    }

    /// Whether a costly handshake step that has just arrived must wait.
    fn must_queue_handshake(&self) -> bool {
        self.handshake_steps >= HANDSHAKES_PER_TURN_MAX || !self.handshake_queue.is_empty()
    }

    /// Resumes connections that could not go on in the last turn.
    fn resume_queued(&mut self) {
        // Connections that are queued anew have had their share of this turn.
        for _ in 0..self.resume_queue.len() {
            if self.is_request_budget_spent() {
                break;
            }
            let Some(key) = self.resume_queue.pop_front() else { break };
            self.resume_scheduled(key);
        }
    }

    /// Resumes handshakes, the longest waiting first, and some in every turn: requests may use up
    /// the budget of one turn after the other.
    fn resume_handshakes(&mut self) {
        for resumed in 0..self.handshake_queue.len() {
            let has_had_share = resumed >= HANDSHAKES_PER_TURN_MAX as usize;
            if self.handshake_steps >= HANDSHAKES_PER_TURN_MAX
                || has_had_share && self.is_request_budget_spent()
            {
                break;
            }
            let Some(key) = self.handshake_queue.pop_front() else { break };
            self.resume_scheduled(key);
        }
    }

    fn resume_scheduled(&mut self, key: Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.scheduled = false;
            self.resume(key);
        }
    }

    /// Moves the events of new connections behind those of connections that have been answered
    /// before: these are few, and have waited while new ones were accepted.
    fn move_new_clients_last(&mut self, events: &mut Vec<Event>) {
        if events.len() < EVENTS_SORTED_MIN {
            return;
        }
        let mut late = mem::take(&mut self.late_events);
        let is_late = |event: &mut Event| match event {
            Event::Received { key, .. } | Event::RecvEnded { key, .. } => {
                self.slots.get_mut(*key).is_some_and(|slot| !slot.connection.has_answered())
            }
            Event::Accepted { .. } | Event::AcceptEnded { .. } => true,
            _ => false,
        };
        late.extend(events.extract_if(.., is_late));
        events.append(&mut late);
        self.late_events = late;
    }
}

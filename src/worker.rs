//! One thread: a ring's events on one side, connections and the server on the other.
//!
//! A turn of the loop is [`Worker::wait`] (the ring submits, sleeps, harvests) and
//! [`Worker::act`] on what it brought. A request that arrives whole is parsed in the buffer
//! that the kernel filled, answered into the arena that the kernel sends from, and forgotten.
//!
//! The rules that keep a connection's bytes in order and its memory bounded:
//! - one reply batch a turn and connection; what arrives after it waits for the next turn,
//!   when it is known whether the batch went out whole ([`Slot::sent_turn`]);
//! - while a client does not read ([`Slot::sending`]), nothing more of it is answered, and
//!   beyond a bound nothing more is received;
//! - a connection whose answers are on their way lives as long as its client takes some of them;
//! - closing is a join: a slot is free when nothing of it is in the kernel.
//!
//! The worker is generic over the ring, so that the tests can put a hostile one under it.

mod budget;
mod close;
mod eviction;
mod eviction_lists;
mod io;
mod listeners;
mod memory;
mod progress;
mod slot;
mod streaming;
mod timer_wheel;

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use annulus_ring::{
    AcceptEnd, Event, Key, ListenerIndex, RecvMode, Ring, Socket, sort_freed_memory,
};
use slab::Slab;

use crate::clock::whole_seconds;
pub use crate::connection::Timeouts;
use crate::connection::{Connection, Handler, TlsBuffers, deadline_after};
use crate::log::WarningLimiter;
use crate::metrics::Counters;
use crate::metrics::labels::{AcceptPause, AddressFamily, Rejection, TransportKind};
use crate::proxy::ProxyProtocol;
use crate::rate_limit::ConnectionPermit;
use crate::server::Server;
use crate::tls::{HandshakeState, TlsAcceptor};
use annulus_swarm::{Sweep, SweepStatus};
pub use eviction::EvictionCoordinator;
use eviction_lists::{EvictionList, EvictionLists};
use listeners::Listeners;
use slot::{Phase, Slot};
use timer_wheel::TimerWheel;

/// What a worker is told by configuration.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// Listeners of its ring.
    pub listeners: ListenerIndex,
    /// The first of them that speaks TLS; all after it do too.
    pub tls_from: ListenerIndex,
    /// Bytes of replies that are encrypted at once.
    pub tls_buffer_bytes: usize,
    /// How long clients may take to ask.
    pub timeouts: Timeouts,
    /// Seconds that a client may go without taking anything of its answers.
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

/// One worker: a ring, a server, and the connections between them.
pub struct Worker<R> {
    ring: R,
    server: Server,
    acceptor: Option<TlsAcceptor>,
    proxy_protocol: Option<ProxyProtocol>,
    scratch: TlsBuffers,
    sweep: Sweep,
    sweeping: bool,
    stop: Arc<AtomicBool>,
    settings: WorkerConfig,
    slots: Slab<Slot>,
    wheel: TimerWheel,
    order: EvictionLists,
    doors: Listeners,
    room: Arc<EvictionCoordinator>,
    /// Which of the workers it is.
    seat: usize,
    /// Nearly as many connections are open as may be, with all workers.
    crowded: bool,
    /// Accepting has stopped because all places were taken, and none was accepted since.
    full: bool,
    /// Another worker was asked to make room, and no connection was accepted since.
    asked_others: bool,
    /// The last second in which none of those that are over could be closed at once.
    lingering_tried_s: u32,
    /// Connections that were found waiting for a place in this turn.
    newcomers: u32,
    events: Vec<Event>,
    /// Connections that go on in the next turn, or as soon as a turn has time for them.
    queue: VecDeque<Key>,
    /// Connections whose handshakes go on when a turn has time for them.
    handshake_queue: VecDeque<Key>,
    /// Events of the turn at hand that come last.
    late_events: Vec<Event>,
    /// Connections whose last answer was sent in this turn: see [`Phase::Departing`].
    departing: Vec<Key>,
    due: Vec<u32>,
    /// Connections that the next piece of a full scrape can be sent to.
    streams: VecDeque<Key>,
    /// Bytes that connections hold: see [`memory`].
    kept: usize,
    held_too_much: WarningLimiter,
    /// Bytes of replies in this turn.
    replied: usize,
    /// Costly steps of handshakes in this turn.
    handshakes: u32,
    /// Requests that had been answered when this turn began.
    answered_before: u32,
    generation: u32,
    turn: u32,
    now_s: u32,
    /// The second at which a shutdown stops waiting.
    shutdown_at_s: Option<u32>,
    counters: Arc<Counters>,
}

impl<R: Ring> Worker<R> {
    /// A worker that accepts at once. [`Worker::run`] ends when `stop` is set and the ring woken.
    pub fn new(mut ring: R, parts: WorkerParts) -> Worker<R> {
        let WorkerParts { config, server, acceptor, now_s, .. } = parts;
        let mut doors = Listeners::new(config.listeners);
        doors.open(&mut ring);
        let counters = Arc::clone(server.counters());
        counters.turned_s.set(u64::from(now_s));
        let tls_bytes = if acceptor.is_some() { config.tls_buffer_bytes } else { 0 };
        Worker {
            ring,
            server,
            acceptor,
            proxy_protocol: parts.proxy_protocol,
            scratch: TlsBuffers::new(tls_bytes),
            sweep: parts.sweep,
            sweeping: false,
            stop: parts.stop,
            settings: config,
            slots: Slab::new(),
            wheel: TimerWheel::new(now_s),
            order: EvictionLists::new(),
            doors,
            room: parts.evictions,
            seat: parts.index,
            crowded: false,
            full: false,
            asked_others: false,
            lingering_tried_s: 0,
            newcomers: 0,
            events: Vec::new(),
            queue: VecDeque::new(),
            handshake_queue: VecDeque::new(),
            late_events: Vec::new(),
            departing: Vec::new(),
            due: Vec::new(),
            streams: VecDeque::new(),
            kept: 0,
            held_too_much: WarningLimiter::default(),
            replied: 0,
            handshakes: 0,
            answered_before: 0,
            generation: 0,
            turn: 1,
            now_s,
            shutdown_at_s: None,
            counters,
        }
    }

    /// Turns the loop until told to stop and done; `clock` tells the time since the start.
    ///
    /// # Errors
    /// When the ring has broken.
    pub fn run(&mut self, clock: impl Fn() -> Duration) -> std::io::Result<()> {
        loop {
            while !self.finished() {
                self.wait()?;
                let began = clock();
                self.act(whole_seconds(began));
                let took = clock().saturating_sub(began);
                self.counters.turned(self.now_s, took, self.server.take_answered());
            }
            // The last closes are queued: submit them.
            self.ring.turn(&mut self.events, false)?;
            if self.events.is_empty() {
                return Ok(());
            }
            self.act(whole_seconds(clock()));
        }
    }

    /// Submits what is queued and waits until something has happened.
    ///
    /// # Errors
    /// When the ring has broken.
    pub fn wait(&mut self) -> std::io::Result<()> {
        let queued = !(self.queue.is_empty()
            && self.handshake_queue.is_empty()
            && self.streams.is_empty()
            && self.due.is_empty());
        let idle = !queued && self.departing.is_empty() && !self.sweeping;
        self.ring.turn(&mut self.events, idle)
    }

    /// Acts on what has happened.
    pub fn act(&mut self, now_s: u32) {
        self.now_s = now_s;
        self.turn = self.turn.wrapping_add(1).max(1);
        self.replied = 0;
        self.handshakes = 0;
        self.answered_before = self.server.answered();
        self.server.set_now(now_s);
        self.crowded = self.room.limit().is_nearly_reached();
        if self.server.refresh_access_list() {
            self.sweep.start_full_round();
            self.sweeping = true;
        }
        let mut events = mem::take(&mut self.events);
        // What fell short in the last turn comes first: nothing more may be sent before it.
        for event in events.extract_if(.., |event| matches!(event, Event::SendIncomplete { .. })) {
            self.on_event(event);
        }
        self.let_go();
        self.go_on_with_queued();
        self.sort_newcomers_last(&mut events);
        for event in events.drain(..) {
            self.on_event(event);
        }
        self.events = events;
        self.shake_hands();
        self.stream_some();
        self.look_at_deadlines();
        if self.shutdown_at_s.is_none() && self.stop.load(Ordering::Acquire) {
            self.begin_shutdown();
        }
        self.reset_largest();
        self.make_room();
        self.doors.open_freed(&mut self.ring);
        self.counters.connections.set(self.slots.len() as u64);
        if self.sweeping {
            self.sweeping = self.server.sweep(&mut self.sweep) == SweepStatus::Pending;
            sort_freed_memory();
        }
    }

    /// Whether a shutdown is complete.
    pub fn finished(&self) -> bool {
        self.shutdown_at_s.is_some() && self.slots.is_empty() && self.doors.closed()
    }

    /// Connections held.
    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// Bytes that are allocated for what connections have sent and not been answered, and for
    /// answers that they have not read.
    pub fn kept_bytes(&self) -> usize {
        self.kept
    }

    /// The same, counted one by one: for accounts of the whole.
    pub fn count_kept_bytes(&self) -> usize {
        self.slots.iter().map(|(_, slot)| slot.held_bytes()).sum()
    }

    /// Costly steps of handshakes, and requests answered, in the last turn.
    pub fn turn_work(&self) -> (u32, u32) {
        (self.handshakes, self.server.answered().wrapping_sub(self.answered_before))
    }

    /// The ring, for accounts of what it holds.
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// The ring, to act on what the test has it simulate.
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
            Event::SendIncomplete { key, rest, socket } => self.on_incomplete(key, rest, socket),
            Event::Sent { key, result } => self.on_sent(key, result),
            Event::AcceptEnded { listener, cause } => {
                match cause {
                    AcceptEnd::LimitReached { waiting } => self.on_full(waiting),
                    AcceptEnd::Exhausted(_) => self.note_pause(AcceptPause::Exhausted),
                    AcceptEnd::Error(_) => self.note_pause(AcceptPause::Error),
                    AcceptEnd::Finished => {}
                }
                self.doors.ended(listener, cause, self.now_s);
            }
            // A server connects to nobody.
            Event::Connected { .. } => debug_assert!(false),
            Event::Tick => self.on_tick(),
            // What there is to see is looked at once a turn, but for a place that has become free.
            Event::Wake => self.doors.open(&mut self.ring),
        }
    }

    /// The slot of a connection that is not gone, nor about to.
    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.slot() as usize)?;
        let there = slot.generation == key.generation() && slot.phase != Phase::Departing;
        there.then_some(slot)
    }

    fn note_pause(&self, pause: AcceptPause) {
        self.counters.accept_pauses.add(pause);
    }

    fn on_accepted(&mut self, listener: ListenerIndex, socket: Socket, peer: Option<IpAddr>) {
        (self.full, self.asked_others) = (false, false);
        let acceptor = match &self.acceptor {
            Some(acceptor) if listener >= self.settings.tls_from => Some(acceptor),
            _ => None,
        };
        let introduced = match &mut self.proxy_protocol {
            Some(proxy_protocol) if proxy_protocol.expected_at(listener) => {
                Some(proxy_protocol.may_come_from(peer, self.now_s))
            }
            _ => None,
        };
        let ticket = match (introduced, peer) {
            // The client is let in, or not, when the proxy has said who it is; and the proxy at a
            // Unix socket is.
            (Some(true), _) | (_, None) => Some(ConnectionPermit::default()),
            (_, Some(peer)) => self.server.admit(peer, acceptor.is_some()),
        };
        let Some(ticket) = ticket else { return self.ring.reset(socket) };
        let timeouts = &self.settings.timeouts;
        let connection = match acceptor.map(TlsAcceptor::accept) {
            Some(Some(mut session)) => {
                if acceptor.is_some_and(TlsAcceptor::needs_local_address)
                    && let Ok(address) = socket.local_address()
                {
                    session.connected_to(address.ip());
                }
                Connection::new(peer, Some(session), self.now_s, timeouts)
            }
            Some(None) => {
                self.server.release(ticket);
                return self.reject(socket, Rejection::NoMemory);
            }
            None => Connection::new(peer, None, self.now_s, timeouts),
        };
        let connection = match introduced {
            Some(trusted) => connection.proxy_protocol(trusted),
            None => connection,
        };
        let transport = if acceptor.is_some() { TransportKind::Https } else { TransportKind::Http };
        self.counters.accepted.add((transport, AddressFamily::of(peer)));
        let connection = connection.with_permit(ticket);
        let key = self.insert(connection, socket);
        if self.shutdown_at_s.is_some() {
            self.note_owed(key);
        }
        self.receive(key, RecvMode::Immediate);
    }

    /// Closes a connection that is not to be served.
    fn reject(&mut self, socket: Socket, rejection: Rejection) {
        self.counters.rejected.add(rejection);
        self.ring.reset(socket);
    }

    fn insert(&mut self, connection: Connection, socket: Socket) -> Key {
        self.generation = (self.generation + 1) % Key::GENERATIONS;
        let entry = self.slots.vacant_entry();
        let index = entry.key();
        let slot = entry.insert(Slot::new(connection, socket, self.generation));
        self.wheel.set(index as u32, slot.deadline_s);
        let key = slot.key(index);
        self.order.append(index as u32, EvictionList::Unanswered);
        key
    }

    /// Takes a connection out; its socket is the caller's to close.
    fn remove(&mut self, key: Key) -> Socket {
        self.end_stream(key);
        let slot = self.slots.remove(key.slot() as usize);
        debug_assert!(slot.generation == key.generation() && !slot.armed && !slot.sending);
        self.kept -= slot.held_bytes();
        if slot.connection.handshake() == Some(HandshakeState::InProgress) {
            self.counters.handshakes_failed.add(1);
        }
        self.wheel.remove(key.slot());
        self.order.remove(key.slot());
        if slot.evicted {
            self.room.evicted_is_gone();
        }
        self.doors.freed();
        self.server.release(slot.connection.into_permit());
        slot.socket
    }

    fn receive(&mut self, key: Key, expect: RecvMode) {
        let slot = &mut self.slots[key.slot() as usize];
        if !slot.armed && !slot.ended {
            slot.armed = true;
            self.ring.recv(key, &slot.socket, expect);
        }
    }

    fn set_deadline(&mut self, key: Key, after_s: u32) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.deadline_s = deadline_after(self.now_s, after_s);
        self.wheel.set(key.slot(), slot.deadline_s);
    }
}

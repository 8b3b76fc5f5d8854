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
//! - closing is a join: a slot is free when nothing of it is in the kernel.
//!
//! The worker is generic over the ring, so that the tests can put a hostile one under it.

mod doors;
mod slot;
mod wheel;

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use annulus_ring::{Event, Expect, Half, Key, ListenerIndex, RecvBuf, RecvEnd, Ring, Socket};
use slab::Slab;

pub use crate::connection::Patience;
use crate::connection::{Connection, Next, Progress, Scratch, deadline_after};
use crate::limits::{
    HANDSHAKES_PER_TURN_MAX, KEPT_BYTES_MAX, LINGER_BYTES_MAX, LINGER_S, TOGETHER_S,
    UNREAD_BYTES_MAX, UNREAD_BYTES_PAUSE,
};
use crate::proxy::Introductions;
use crate::server::Server;
use crate::swarm::{InfoHash, Swarms, Sweep, Swept};
use crate::tls::Acceptor;
use doors::Doors;
use slot::{Phase, Slot};
use wheel::Wheel;

/// What a worker is told by configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Listeners of its ring.
    pub listeners: ListenerIndex,
    /// The first of them that speaks TLS; all after it do too.
    pub secured_from: ListenerIndex,
    /// Bytes of replies that are encrypted at once.
    pub scratch_bytes: usize,
    /// Connections held at once; beyond, new ones wait in the kernel.
    pub connections_max: usize,
    /// How long clients may take to ask.
    pub patience: Patience,
    /// Seconds a client may take to read an answer.
    pub send_s: u32,
    /// Seconds that a shutdown may take.
    pub shutdown_s: u32,
}

/// One worker: a ring, a server, and the connections between them.
pub struct Worker<R> {
    ring: R,
    server: Server,
    acceptor: Option<Acceptor>,
    introductions: Option<Introductions>,
    scratch: Scratch,
    swarms: Arc<Swarms>,
    sweep: Sweep,
    sweeping: bool,
    stop: Arc<AtomicBool>,
    settings: Settings,
    slots: Slab<Slot>,
    wheel: Wheel,
    doors: Doors,
    events: Vec<Event>,
    /// Connections that go on in the next turn.
    queue: Vec<Key>,
    due: Vec<u32>,
    /// The connection that the server streams to.
    stream: Option<Key>,
    /// Bytes that connections have sent and not been answered.
    kept: usize,
    /// Handshakes begun in this turn.
    handshakes: u32,
    generation: u32,
    turn: u32,
    now_s: u32,
    /// The second at which a shutdown stops waiting.
    shutdown_at_s: Option<u32>,
}

impl<R: Ring> Worker<R> {
    /// A worker that accepts at once. It leaves when `stop` is set and its ring is woken.
    /// `acceptor` is for the listeners that speak TLS, where there are any.
    #[expect(clippy::too_many_arguments, reason = "the one place where a worker is put together")]
    pub fn new(
        mut ring: R,
        server: Server,
        acceptor: Option<Acceptor>,
        swarms: Arc<Swarms>,
        sweep: Sweep,
        stop: Arc<AtomicBool>,
        settings: Settings,
        now_s: u32,
    ) -> Worker<R> {
        let mut doors = Doors::new(settings.listeners);
        doors.open(&mut ring);
        Worker {
            ring,
            server,
            scratch: Scratch::new(if acceptor.is_some() { settings.scratch_bytes } else { 0 }),
            acceptor,
            introductions: None,
            swarms,
            sweep,
            sweeping: false,
            stop,
            settings,
            slots: Slab::new(),
            wheel: Wheel::new(now_s),
            doors,
            events: Vec::new(),
            queue: Vec::new(),
            due: Vec::new(),
            stream: None,
            kept: 0,
            handshakes: 0,
            generation: 0,
            turn: 1,
            now_s,
            shutdown_at_s: None,
        }
    }

    /// The same, with listeners on which proxies introduce clients.
    pub fn behind(mut self, introductions: Option<Introductions>) -> Worker<R> {
        self.introductions = introductions;
        self
    }

    /// Turns the loop until told to stop and done; `clock` tells seconds since the start.
    ///
    /// # Errors
    /// When the ring has broken.
    pub fn run(&mut self, clock: impl Fn() -> u32) -> io::Result<()> {
        loop {
            while !self.finished() {
                self.wait()?;
                self.act(clock());
            }
            // The last replies and closes are queued: submit them. A reply that falls short
            // brings its connection back.
            self.ring.turn(&mut self.events, false)?;
            if self.events.is_empty() {
                return Ok(());
            }
            self.act(clock());
        }
    }

    /// Submits what is queued and waits until something has happened.
    ///
    /// # Errors
    /// When the ring has broken.
    pub fn wait(&mut self) -> io::Result<()> {
        let idle = self.queue.is_empty() && !self.sweeping;
        self.ring.turn(&mut self.events, idle)
    }

    /// Acts on what has happened.
    pub fn act(&mut self, now_s: u32) {
        self.now_s = now_s;
        self.turn = self.turn.wrapping_add(1).max(1);
        self.handshakes = 0;
        self.server.set_now(now_s);
        if self.server.renew_access() {
            self.sweep.hurry();
            self.sweeping = true;
        }
        let mut events = mem::take(&mut self.events);
        // What fell short in the last turn comes first: nothing more may be sent before it.
        for event in events.extract_if(.., |event| matches!(event, Event::SendIncomplete { .. })) {
            self.on_event(event);
        }
        for key in mem::take(&mut self.queue) {
            if let Some(slot) = self.slot(key) {
                slot.queued = false;
                self.go_on(key);
            }
        }
        for event in events.drain(..) {
            self.on_event(event);
        }
        self.events = events;
        if self.slots.len() < self.settings.connections_max {
            self.doors.open_freed(&mut self.ring);
        }
        if self.sweeping {
            let keep = |info_hash: &InfoHash| self.server.serves(info_hash);
            self.sweeping = self.swarms.sweep(&mut self.sweep, now_s, keep) == Swept::More;
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

    /// Bytes that connections have sent and not been answered.
    pub fn kept_bytes(&self) -> usize {
        self.kept
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
                self.on_accepted(listener, socket, peer.ip());
            }
            Event::RecvEnded { key, end } => self.on_recv_ended(key, end),
            Event::SendIncomplete { key, rest, socket } => self.on_incomplete(key, rest, socket),
            Event::Sent { key, result } => self.on_sent(key, result),
            Event::AcceptEnded { listener, cause } => {
                self.doors.ended(&mut self.ring, listener, cause, self.now_s);
            }
            Event::Tick => self.on_tick(),
            Event::Wake => {
                if self.stop.load(Ordering::Acquire) && self.shutdown_at_s.is_none() {
                    self.begin_shutdown();
                }
            }
        }
    }

    /// The slot of a connection that is not gone.
    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.slot() as usize)?;
        (slot.generation == key.generation()).then_some(slot)
    }

    fn on_accepted(&mut self, listener: ListenerIndex, socket: Socket, peer: IpAddr) {
        let patience = &self.settings.patience;
        let connection = match &self.acceptor {
            Some(acceptor) if listener >= self.settings.secured_from => match acceptor.accept() {
                Some(session) => Connection::secured(peer, session, self.now_s, patience),
                None => return self.ring.reset(socket),
            },
            _ => Connection::new(peer, self.now_s, patience),
        };
        let connection = match &mut self.introductions {
            Some(introductions) if introductions.expected_at(listener) => {
                connection.introduced(introductions.may_come_from(peer, self.now_s))
            }
            _ => connection,
        };
        let key = self.insert(connection, socket, Phase::Serving);
        self.receive(key, Expect::Now);
    }

    fn insert(&mut self, connection: Connection, socket: Socket, phase: Phase) -> Key {
        self.generation = (self.generation + 1) % Key::GENERATIONS;
        let entry = self.slots.vacant_entry();
        let index = entry.key();
        let slot = entry.insert(Slot::new(connection, socket, self.generation, phase));
        self.wheel.set(index as u32, slot.deadline_s);
        let key = slot.key(index);
        if self.slots.len() >= self.settings.connections_max {
            self.doors.shut(&mut self.ring);
        }
        key
    }

    /// Takes a connection out; its socket is the caller's to close.
    fn remove(&mut self, key: Key) -> Socket {
        let slot = self.slots.remove(key.slot() as usize);
        debug_assert!(slot.generation == key.generation() && !slot.armed && !slot.sending);
        self.kept -= slot.connection.pending_bytes();
        self.wheel.remove(key.slot());
        if self.stream == Some(key) {
            self.stream = None;
            self.server.end_stream();
        }
        if self.slots.len() < self.settings.connections_max {
            self.doors.freed();
        }
        slot.socket
    }

    fn receive(&mut self, key: Key, expect: Expect) {
        let slot = &mut self.slots[key.slot() as usize];
        if !slot.armed && !slot.ended {
            slot.armed = true;
            self.ring.recv(key, &slot.socket, expect);
        }
    }

    fn on_received(&mut self, key: Key, mut buffer: RecvBuf, more: bool) {
        let turn = self.turn;
        let busy = self.handshakes >= HANDSHAKES_PER_TURN_MAX;
        let Some(slot) = self.slot(key) else { return };
        slot.armed = more;
        let later = slot.sending || slot.queued || slot.sent_turn == turn;
        match slot.phase {
            Phase::Serving if later || (busy && slot.connection.awaits_hello()) => {
                slot.connection.keep(&buffer);
                let pending = slot.connection.pending_bytes();
                let (much, armed) = (pending > UNREAD_BYTES_PAUSE, slot.armed);
                self.kept += buffer.len();
                if pending > UNREAD_BYTES_MAX || (much && self.kept > KEPT_BYTES_MAX) {
                    self.end(key, true);
                } else {
                    if much && armed {
                        self.ring.cancel_recv(key);
                    }
                    self.queue(key);
                }
            }
            Phase::Serving => {
                let full = buffer.is_full();
                self.serve(key, &mut buffer, full);
            }
            Phase::Lingering => {
                slot.dropped = slot.dropped.saturating_add(buffer.len() as u32);
                if slot.dropped > LINGER_BYTES_MAX {
                    self.end(key, true);
                } else {
                    self.receive(key, Expect::Later);
                }
            }
            Phase::Streaming | Phase::Flushing => {}
            Phase::Ending { .. } => self.join(key),
        }
    }

    /// Answers what `bytes` and those kept before them complete. `full`: the receive buffer
    /// was full, so the socket may hold more than was read.
    fn serve(&mut self, key: Key, bytes: &mut [u8], full: bool) {
        let out = self.ring.reply_space();
        let Settings { patience, .. } = &self.settings;
        let (server, scratch) = (&mut self.server, &mut self.scratch);
        let connection = &mut self.slots[key.slot() as usize].connection;
        self.handshakes += u32::from(connection.awaits_hello());
        let before = connection.pending_bytes();
        let progress = connection.receive(bytes, server, self.now_s, patience, scratch, out);
        self.kept = self.kept + connection.pending_bytes() - before;
        self.follow(key, progress, full);
    }

    /// Sends what was written and does what is next.
    fn follow(&mut self, key: Key, progress: Progress, full: bool) {
        let Progress { written, next } = progress;
        let slot = &mut self.slots[key.slot() as usize];
        let last = matches!(next, Next::Close { unread: false }) && !full && !slot.armed;
        if last && written > 0 {
            let socket = self.remove(key);
            self.ring.send_and_close(key, socket, written);
            return;
        }
        if written > 0 {
            slot.sent_turn = self.turn;
            self.ring.send(key, &slot.socket, written);
        }
        match next {
            Next::Receive if slot.ended && written == 0 => self.answer_end(key),
            Next::Receive if slot.ended => self.queue(key),
            Next::Receive => {
                // While the client has more than is read at a time, it is read by the piece: a
                // multishot receive would bring much more than a turn answers.
                let expect = if full { Expect::Now } else { slot.expect() };
                self.await_bytes(key);
                self.receive(key, expect);
            }
            Next::Resume => self.queue(key),
            Next::Stream => {
                slot.phase = Phase::Streaming;
                self.stream = Some(key);
                self.set_deadline(key, self.settings.send_s);
                self.queue(key);
            }
            Next::Close { .. } => {
                slot.phase = Phase::Flushing;
                self.set_deadline(key, LINGER_S);
                self.queue(key);
            }
        }
    }

    /// Sets how many bytes of the client are worth a wake, and until when they have to come.
    fn await_bytes(&mut self, key: Key) {
        let soon_s = self.now_s.saturating_add(TOGETHER_S);
        let slot = &mut self.slots[key.slot() as usize];
        let bytes = slot.connection.bytes_awaited();
        slot.deadline_s = slot.connection.deadline_s();
        if bytes > 1 {
            // Fewer than these may have come by then: `expire` has them read.
            slot.deadline_s = slot.deadline_s.min(soon_s);
        }
        if mem::replace(&mut slot.bytes_awaited, bytes) != bytes {
            self.ring.await_bytes(&slot.socket, bytes);
        }
        self.wheel.set(key.slot(), slot.deadline_s);
    }

    fn set_deadline(&mut self, key: Key, after_s: u32) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.deadline_s = deadline_after(self.now_s, after_s);
        self.wheel.set(key.slot(), slot.deadline_s);
    }

    /// Has the next turn go on with a connection, unless a send of it ends first.
    fn queue(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        if !slot.queued && !slot.sending {
            slot.queued = true;
            self.queue.push(key);
        }
    }

    /// Goes on with a connection whose replies are all out.
    fn go_on(&mut self, key: Key) {
        let busy = self.handshakes >= HANDSHAKES_PER_TURN_MAX;
        let Some(slot) = self.slot(key).filter(|slot| !slot.sending) else { return };
        match slot.phase {
            Phase::Serving if slot.connection.awaits_hello() && busy => self.queue(key),
            Phase::Serving if slot.connection.pending_bytes() > 0 => {
                self.serve(key, &mut [], false);
            }
            Phase::Serving | Phase::Flushing if slot.ended => self.end(key, false),
            Phase::Serving => {
                let expect = slot.expect();
                self.receive(key, expect);
            }
            Phase::Streaming => self.stream_on(key),
            Phase::Flushing => self.linger(key),
            Phase::Lingering | Phase::Ending { .. } => {}
        }
    }

    /// Everything is sent: shuts our side, and reads what the client may still have sent,
    /// lest the kernel answers it with RST and the client loses the last reply.
    fn linger(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.phase = Phase::Lingering;
        self.ring.shutdown(&slot.socket, Half::Write);
        self.set_deadline(key, LINGER_S);
        self.receive(key, Expect::Later);
    }

    /// Sends the next piece of a long reply.
    fn stream_on(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot() as usize];
        let (out, server) = (self.ring.reply_space(), &mut self.server);
        let (len, more) = slot.connection.relay(&mut self.scratch, out, |out| server.stream(out));
        if len > 0 {
            slot.sent_turn = self.turn;
            self.ring.send(key, &slot.socket, len);
        }
        if !more {
            slot.phase = Phase::Flushing;
            self.stream = None;
            self.server.end_stream();
        }
        self.set_deadline(key, self.settings.send_s);
        self.queue(key);
    }

    fn on_recv_ended(&mut self, key: Key, end: RecvEnd) {
        let turn = self.turn;
        let Some(slot) = self.slot(key) else { return };
        slot.armed = false;
        match (slot.phase, end) {
            (Phase::Ending { .. }, _) => self.join(key),
            (_, RecvEnd::Error(_)) => self.end(key, true),
            (Phase::Serving | Phase::Lingering, RecvEnd::NoBuffers) => {
                // Of a secured connection that much may be an unfinished record and a head.
                let paused = (slot.sending || slot.queued)
                    && slot.connection.pending_bytes() > UNREAD_BYTES_PAUSE;
                let expect = slot.expect();
                if !paused {
                    self.receive(key, expect);
                }
            }
            (_, RecvEnd::NoBuffers) => {}
            // Received again when what is pending has been answered.
            (Phase::Serving, RecvEnd::Cancelled) => self.queue(key),
            // Cancelled while a reply was late, and lingering has begun since.
            (Phase::Lingering, RecvEnd::Cancelled) => self.receive(key, Expect::Later),
            (_, RecvEnd::Cancelled) => {}
            (phase, RecvEnd::Eof) => {
                slot.ended = true;
                match phase {
                    Phase::Serving if slot.sending || slot.queued => {}
                    Phase::Serving if slot.sent_turn == turn => self.queue(key),
                    Phase::Serving => self.answer_end(key),
                    Phase::Lingering => self.end(key, false),
                    Phase::Streaming | Phase::Flushing | Phase::Ending { .. } => {}
                }
            }
        }
    }

    /// The client's side has ended: a request that it broke off is answered.
    fn answer_end(&mut self, key: Key) {
        let out = self.ring.reply_space();
        let slot = &mut self.slots[key.slot() as usize];
        let before = slot.connection.pending_bytes();
        let written = slot.connection.end(&mut self.server, &mut self.scratch, out);
        self.kept = self.kept + slot.connection.pending_bytes() - before;
        if written > 0 && !slot.armed {
            let socket = self.remove(key);
            self.ring.send_and_close(key, socket, written);
        } else {
            self.end(key, false);
        }
    }

    fn on_incomplete(&mut self, key: Key, rest: Result<Box<[u8]>, i32>, socket: Option<Socket>) {
        let (key, rest) = match (socket, rest) {
            (Some(socket), Err(_)) => return self.ring.close(socket),
            // The connection was thought closed: it is given a slot again for the rest.
            (Some(socket), Ok(rest)) => {
                let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                let connection = Connection::new(nobody, self.now_s, &self.settings.patience);
                (self.insert(connection, socket, Phase::Flushing), rest)
            }
            (None, rest) if self.slot(key).is_some() => match rest {
                Ok(rest) => (key, rest),
                Err(_) => return self.end(key, true),
            },
            (None, _) => return,
        };
        let slot = &mut self.slots[key.slot() as usize];
        if matches!(slot.phase, Phase::Ending { .. }) {
            return;
        }
        slot.sending = true;
        self.ring.send_owned(key, &slot.socket, rest);
        if slot.armed {
            // It does not read: it need not be heard until it does.
            self.ring.cancel_recv(key);
        }
        self.set_deadline(key, self.settings.send_s);
    }

    fn on_sent(&mut self, key: Key, result: Result<(), i32>) {
        let idle_s = self.settings.patience.idle_s;
        let Some(slot) = self.slot(key) else { return };
        slot.sending = false;
        match (slot.phase, result) {
            (Phase::Ending { .. }, _) => self.join(key),
            (_, Err(_)) => self.end(key, true),
            (_, Ok(())) => {
                self.set_deadline(key, idle_s);
                self.go_on(key);
            }
        }
    }

    /// Ends a connection, with RST or orderly, now or when the kernel has let go of it.
    fn end(&mut self, key: Key, reset: bool) {
        let slot = &mut self.slots[key.slot() as usize];
        slot.phase = Phase::Ending { reset };
        if slot.armed || slot.sending {
            let socket = &slot.socket;
            self.ring.shutdown(socket, Half::Both);
            self.set_deadline(key, LINGER_S);
        } else {
            self.join(key);
        }
    }

    /// Closes an ending connection of which nothing is in the kernel any more.
    fn join(&mut self, key: Key) {
        let slot = &self.slots[key.slot() as usize];
        let Phase::Ending { reset } = slot.phase else { return };
        if slot.armed || slot.sending {
            return;
        }
        let socket = self.remove(key);
        if reset {
            self.ring.reset(socket);
        } else {
            self.ring.close(socket);
        }
    }

    fn on_tick(&mut self) {
        let mut due = mem::take(&mut self.due);
        self.wheel.advance(self.now_s, &mut due);
        for index in due.drain(..) {
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let key = slot.key(index as usize);
            if slot.deadline_s > self.now_s {
                self.wheel.set(index, slot.deadline_s);
            } else {
                self.expire(key);
            }
        }
        self.due = due;
        self.sweeping = true;
        if self.slots.len() < self.settings.connections_max {
            self.doors.open(&mut self.ring);
        }
        match self.shutdown_at_s {
            None => {}
            Some(at_s) if self.now_s < at_s => self.close_idle(),
            Some(_) => {
                let all: Vec<Key> = self.slots.iter().map(|(at, slot)| slot.key(at)).collect();
                for key in all {
                    self.end(key, true);
                }
            }
        }
    }

    /// A connection has had its time.
    fn expire(&mut self, key: Key) {
        let turn = self.turn;
        let slot = &mut self.slots[key.slot() as usize];
        match slot.phase {
            Phase::Serving if slot.queued || slot.sent_turn == turn => {
                self.set_deadline(key, 1);
            }
            // A few bytes may have come that were not worth a wake: they are read now.
            Phase::Serving if slot.bytes_awaited > 1 => {
                let soon_s = self.now_s.saturating_add(1);
                slot.bytes_awaited = 1;
                self.ring.await_bytes(&slot.socket, 1);
                slot.deadline_s = slot.connection.deadline_s().max(soon_s);
                self.wheel.set(key.slot(), slot.deadline_s);
            }
            Phase::Serving if !slot.sending => {
                let out = self.ring.reply_space();
                let before = slot.connection.pending_bytes();
                let written = slot.connection.expire(&mut self.server, &mut self.scratch, out);
                self.kept = self.kept + slot.connection.pending_bytes() - before;
                if written > 0 {
                    let next = Next::Close { unread: true };
                    self.follow(key, Progress { written, next }, true);
                } else {
                    self.end(key, false);
                }
            }
            _ => self.end(key, true),
        }
    }

    /// Accepts no more, and has every connection end with its next answer; those that wait
    /// between two requests end now.
    fn begin_shutdown(&mut self) {
        self.shutdown_at_s = Some(self.now_s.saturating_add(self.settings.shutdown_s));
        self.server.close_connections();
        self.doors.finish(&mut self.ring);
        self.close_idle();
    }

    /// Closes the connections that wait between two requests, but for those whose last reply
    /// may yet fall short.
    fn close_idle(&mut self) {
        let turn = self.turn;
        let idle: Vec<Key> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                let Slot { connection, phase, sending, sent_turn, .. } = slot;
                let waits = *phase == Phase::Serving && connection.has_answered() && !sending;
                waits && *sent_turn != turn && connection.pending_bytes() == 0
            })
            .map(|(index, slot)| slot.key(index))
            .collect();
        for key in idle {
            let slot = &mut self.slots[key.slot() as usize];
            let written = slot.connection.take_leave(self.ring.reply_space());
            let progress = Progress { written, next: Next::Close { unread: true } };
            self.follow(key, progress, true);
        }
    }
}

/// Seconds since the process began to serve: the one clock of connections and swarms.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::new_without_default, reason = "a clock's start is an event, not a default")]
    pub fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Whole seconds since the start.
    pub fn now_s(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Seconds since 1970, for what is dated: certificates.
    pub fn unix_s() -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}

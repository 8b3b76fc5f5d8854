//! The fake ring: what the worker asks of it, and whether it may.
//!
//! This half checks the user's promises and queues operations; `kernel.rs` carries them out.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use annulus::limits::{UNREAD_BYTES_MAX, nearly_all};
use annulus_ring::{
    ConnectionLimit, Event, Key, ListenerIndex, Pool, RecvMode, Ring, Socket, Unsent,
};
use annulus_ring::{Datagram, DatagramIndex};
use annulus_swarm::Random;

use super::client::{End, SimClient, Wire};
use super::datagrams::DatagramNet;
use super::faults::Faults;
use super::lanes::Lanes;
use super::run::Clients;
use super::trace::Trace;

/// Listeners of every fake ring: for IPv4 and IPv6, plain and then with TLS.
pub(crate) const LISTENERS: ListenerIndex = 4;
/// The first listener with TLS.
pub(crate) const TLS_FROM: ListenerIndex = 2;
/// The lowest descriptor, so that a slot or an index is not mistaken for one.
pub(crate) const DESCRIPTOR_MIN: i32 = 1000;
/// Turns after which a run is thought to go round in circles.
const TURNS_MAX: u64 = 400_000;
/// Virtual milliseconds after which a run is thought to be stuck.
pub(crate) const TIME_MAX_MS: u64 = 3_000_000;

/// What waits to be submitted.
pub(super) enum FakeOperation {
    Accept(ListenerIndex),
    FinishAccepting(ListenerIndex),
    Receive { link: usize, key: Key, expect: RecvMode },
    Cancel(Key),
    Send { link: usize, key: Key, bytes: Vec<u8> },
    SendOwned { link: usize, key: Key, bytes: Box<[u8]> },
    Close { link: usize, reset: bool },
}

/// An owned send in the kernel.
pub(super) struct Owned {
    pub(super) key: Key,
    pub(super) bytes: Box<[u8]>,
    pub(super) sent: usize,
}

/// One connection, from the client's first step to the close of the descriptor.
pub(super) struct FakeLink {
    pub(super) client: SimClient,
    pub(super) wire: Wire,
    /// Its descriptor, while one is open.
    pub(super) descriptor: Option<i32>,
    /// The worker has the socket, as opposed to having given it to be closed.
    pub(super) held: bool,
    /// Its names so far.
    pub(super) keys: Vec<Key>,
    /// In the kernel.
    pub(super) receive: Option<(Key, RecvMode)>,
    /// Bytes for which a receive waits.
    pub(super) awaited: u32,
    pub(super) owned: Option<Owned>,
    /// As far as the worker knows: until it has been handed the last event.
    pub(super) receive_known: bool,
    pub(super) owned_known: bool,
    /// A send fell short, and its rest has not been sent.
    pub(super) owes: bool,
    pub(super) sent_turn: u64,
    /// Shut down by [`Shutdown::Both`].
    pub(super) shut: bool,
    /// Reset by the network, or by bad luck: nothing can be asked of its answers.
    pub(super) forgiven: bool,
    /// Bytes handed to the worker since it was told that the client does not read.
    pub(super) unread_bytes: usize,
    /// Bytes handed to the worker in all.
    pub(super) taken: usize,
    /// The last receive had room for more: what is there since came later.
    pub(super) late: bool,
    /// Receive buffers filled in this turn: the kernel stops after some.
    pub(super) filled: u32,
    /// Bytes that the client had sent when the worker was told to stop, of a plain connection.
    pub(super) sent_at_stop: Option<usize>,
    /// Seconds of note, for the tests of deadlines.
    pub(super) accepted_ms: Option<u64>,
    pub(super) closed_ms: Option<u64>,
}

/// A listener, as the kernel has it and as the worker knows it.
#[derive(Default)]
pub(super) struct FakeListener {
    pub(super) backlog: VecDeque<usize>,
    pub(super) armed: bool,
    pub(super) finishing: bool,
    pub(super) closed: bool,
    pub(super) armed_known: bool,
    pub(super) finish_asked: bool,
}

/// The third engine behind [`Ring`]: a kernel, a network and their clients, all simulated.
pub(crate) struct FakeRing {
    pub(super) faults: Faults,
    pub(super) random: Random,
    pub(super) clock_ms: Rc<Cell<u64>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) stop_asked: bool,
    pub(super) pool: Rc<Pool>,
    pub(super) links: Vec<FakeLink>,
    /// Which link each open descriptor is, counted from [`DESCRIPTOR_MIN`].
    pub(super) descriptors: Vec<Option<usize>>,
    pub(super) listeners: Vec<FakeListener>,
    pub(super) names: HashMap<Key, usize>,
    pub(super) queue: VecDeque<FakeOperation>,
    pub(super) lanes: Lanes,
    pub(crate) net: DatagramNet,
    /// Sends that fell short: reported by the turn that submitted them.
    pub(super) short: Vec<Event>,
    /// Connections that may be open, and whether the worker is to be woken when one is closed.
    pub(super) limit: Arc<ConnectionLimit>,
    pub(super) is_awaited: bool,
    pub(super) tick_ms: u64,
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) sabotaged: bool,
    pub(super) trace: Trace,
    /// Bytes that the worker had sent in the turn at hand.
    pub(super) sent_in_turn: usize,
    space: Vec<u8>,
    space_given: bool,
    turns: u64,
}

impl FakeRing {
    #[expect(clippy::too_many_arguments, reason = "one call")]
    pub(crate) fn new(
        clients: Clients<'_>,
        faults: Faults,
        space_bytes: usize,
        seed: u64,
        clock_ms: Rc<Cell<u64>>,
        stop: Arc<AtomicBool>,
        trace: Trace,
    ) -> FakeRing {
        let mut random = Random::seeded(seed);
        let links = clients.tcp.iter().map(|script| {
            let (client, wire) =
                SimClient::new(script.clone(), faults.pieces, faults.windows, &mut random);
            FakeLink {
                client,
                wire,
                descriptor: None,
                held: false,
                keys: Vec::new(),
                receive: None,
                awaited: 1,
                owned: None,
                receive_known: false,
                owned_known: false,
                owes: false,
                sent_turn: 0,
                shut: false,
                forgiven: false,
                unread_bytes: 0,
                taken: 0,
                late: false,
                filled: 0,
                sent_at_stop: None,
                accepted_ms: None,
                closed_ms: None,
            }
        });
        FakeRing {
            links: links.collect(),
            pool: Pool::new(faults.buffers, faults.buffer_bytes).expect("memory for buffers"),
            descriptors: Vec::new(),
            listeners: (0..LISTENERS).map(|_| FakeListener::default()).collect(),
            names: HashMap::new(),
            queue: VecDeque::new(),
            lanes: Lanes::default(),
            net: DatagramNet::new(clients.udp, &faults, seed),
            short: Vec::new(),
            limit: Arc::new(limit_of(&faults)),
            is_awaited: false,
            tick_ms: 1000,
            opened: 0,
            closed: 0,
            sabotaged: false,
            sent_in_turn: 0,
            space: vec![0; space_bytes],
            space_given: false,
            turns: 0,
            stop_asked: false,
            faults,
            random,
            clock_ms,
            stop,
            trace,
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock_ms.get()
    }

    /// True with this chance in a thousand.
    pub(super) fn odds(&mut self, chance: u32) -> bool {
        chance > 0 && self.random.below(1000) < chance
    }

    /// Whether this is the one moment to be what the run's sabotage says.
    pub(super) fn sabotages(&mut self, sabotage: super::faults::Sabotage) -> bool {
        let now = self.faults.sabotage == Some(sabotage) && !self.sabotaged;
        self.sabotaged |= now;
        now
    }

    /// The link that a socket is, which the worker must still have.
    fn link(&self, socket: &Socket) -> usize {
        let index = socket.raw().checked_sub(DESCRIPTOR_MIN).expect("a descriptor of ours");
        let link = self.descriptors.get(index as usize).copied().flatten();
        let link = link.expect("the descriptor is not open");
        assert!(self.links[link].held, "the socket was given away");
        link
    }

    /// The same, for an operation under `key`, which must name no other.
    fn named(&mut self, key: Key, socket: &Socket) -> usize {
        let link = self.link(socket);
        let before = self.names.insert(key, link);
        assert!(before.is_none_or(|before| before == link), "{key:?} names two connections");
        if before.is_none() {
            self.links[link].keys.push(key);
        }
        link
    }

    fn push(&mut self, operation: FakeOperation) {
        self.queue.push_back(operation);
        if self.odds(self.faults.early) {
            self.flush();
        }
    }

    fn take_space(&mut self, len: usize) -> Vec<u8> {
        assert!(self.space_given, "reply_space was not asked for");
        assert!(len > 0 && len <= self.space.len(), "{len} bytes of {}", self.space.len());
        self.space_given = false;
        self.net.take_space();
        let bytes = self.space[..len].to_vec();
        self.space[..len].fill(0xaa);
        bytes
    }

    /// Takes the bytes of a send that the worker may make now.
    fn begin_send(&mut self, link: usize, len: usize) -> Vec<u8> {
        let turns = self.turns;
        let state = &mut self.links[link];
        assert!(state.sent_turn != turns + 1, "two sends of one connection in one turn");
        assert!(!state.owned_known, "a send overtakes an owned send");
        assert!(!state.owes, "a send overtakes the rest of an earlier one");
        state.sent_turn = turns + 1;
        self.sent_in_turn += len;
        self.take_space(len)
    }

    /// Takes the socket from the worker, which may close it only when nothing is armed.
    fn give_away(&mut self, socket: Socket) -> usize {
        let link = self.link(&socket);
        let state = &mut self.links[link];
        assert!(!state.receive_known, "closed with a receive armed");
        assert!(!state.owned_known, "closed with an owned send under way");
        state.held = false;
        link
    }

    /// Hands events out, and notes what the worker knows by them.
    fn hand_out(&mut self, event: Event, events: &mut Vec<Event>) {
        let link = match &event {
            Event::Received { key, .. }
            | Event::RecvEnded { key, .. }
            | Event::Sent { key, .. }
            | Event::SendIncomplete { key, .. } => self.names.get(key).copied(),
            _ => None,
        };
        self.trace.note(|| match &event {
            Event::SendIncomplete { key, rest: Ok(rest) } => {
                format!("{:>6} ms  {link:?}: {} bytes left of {key:?}", self.now_ms(), rest.len())
            }
            _ => format!("{:>6} ms  {link:?}: {event:?}", self.now_ms()),
        });
        self.net.hand_out(&event, self.clock_ms.get());
        if let Event::AcceptEnded { listener, .. } = event {
            let listener = &mut self.listeners[usize::from(listener)];
            listener.armed_known = false;
        }
        if let Event::Accepted { socket, .. } = &event {
            let link = self.descriptors[(socket.raw() - DESCRIPTOR_MIN) as usize];
            self.links[link.expect("the descriptor is open")].held = true;
        }
        if let Some(link) = link {
            let state = &mut self.links[link];
            match &event {
                Event::Received { buffer, more, .. } => {
                    state.receive_known = *more;
                    state.unread_bytes += buffer.len();
                    state.taken += buffer.len();
                    let bound = UNREAD_BYTES_MAX + self.faults.buffer_bytes as usize;
                    let bounded = state.unread_bytes <= bound || !state.owned_known || state.shut;
                    assert!(bounded, "{} bytes unread and still received", state.unread_bytes);
                }
                Event::RecvEnded { .. } => state.receive_known = false,
                Event::Sent { .. } => {
                    state.owned_known = false;
                    state.unread_bytes = 0;
                }
                Event::SendIncomplete { rest, .. } => {
                    state.owes = rest.is_ok();
                    state.unread_bytes = 0;
                }
                _ => {}
            }
        }
        events.push(event);
    }
}

impl Ring for FakeRing {
    fn accept(&mut self, listener: ListenerIndex) {
        let state = &mut self.listeners[usize::from(listener)];
        assert!(!state.armed_known, "accepting already");
        assert!(!state.finish_asked, "accepting after the end");
        state.armed_known = true;
        self.push(FakeOperation::Accept(listener));
    }

    fn finish_accepting(&mut self, listener: ListenerIndex) {
        let state = &mut self.listeners[usize::from(listener)];
        assert!(!state.finish_asked, "finished twice");
        state.finish_asked = true;
        self.push(FakeOperation::FinishAccepting(listener));
    }

    fn recv(&mut self, key: Key, socket: &Socket, expect: RecvMode) {
        let link = self.named(key, socket);
        assert!(!self.links[link].receive_known, "two receives of one connection");
        self.links[link].receive_known = true;
        self.push(FakeOperation::Receive { link, key, expect });
    }

    fn cancel_recv(&mut self, key: Key) {
        self.push(FakeOperation::Cancel(key));
    }

    fn send_buffer(&mut self) -> &mut [u8] {
        if self.odds(self.faults.early) {
            self.flush();
        }
        self.space_given = true;
        &mut self.space
    }

    fn send(&mut self, key: Key, socket: &Socket, len: usize) {
        let link = self.named(key, socket);
        let bytes = self.begin_send(link, len);
        self.push(FakeOperation::Send { link, key, bytes });
    }

    fn send_and_close(&mut self, socket: Socket, len: usize) -> Result<(), Unsent> {
        let descriptor = socket.raw();
        let link = self.give_away(socket);
        let bytes = self.begin_send(link, len);
        let Some(rest) = self.send_now(link, &bytes) else {
            self.push(FakeOperation::Close { link, reset: false });
            return Ok(());
        };
        let state = &mut self.links[link];
        state.held = true;
        state.owes = rest.is_ok();
        state.unread_bytes = 0;
        Err(Unsent { socket: Socket::from_raw(descriptor), rest })
    }

    fn send_owned(&mut self, key: Key, socket: &Socket, bytes: Box<[u8]>) {
        let link = self.named(key, socket);
        let state = &mut self.links[link];
        assert!(!state.owned_known, "two owned sends of one connection");
        assert!(!bytes.is_empty(), "nothing to send");
        state.owned_known = true;
        state.owes = false;
        self.push(FakeOperation::SendOwned { link, key, bytes });
    }

    fn set_rcvlowat(&mut self, socket: &Socket, bytes: u32) {
        let link = self.link(socket);
        self.trace.note(|| format!("        await {bytes} bytes of {link}"));
        self.links[link].awaited = bytes;
    }

    fn unsent_bytes(&self, _: Key, socket: &Socket) -> usize {
        let link = self.link(socket);
        let queued = self.queue.iter().map(|operation| match operation {
            FakeOperation::Send { link: to, bytes, .. } if *to == link => bytes.len(),
            FakeOperation::SendOwned { link: to, bytes, .. } if *to == link => bytes.len(),
            _ => 0,
        });
        let FakeLink { client, wire, owned, .. } = &self.links[link];
        if client.gone() || wire.client_end == Some(End::Reset) {
            return 0;
        }
        let owned = owned.as_ref().map_or(0, |owned| owned.bytes.len() - owned.sent);
        let on_the_way = wire.to_client.len();
        let fin = wire.server_end.is_some() && on_the_way > 0;
        queued.sum::<usize>() + owned + on_the_way + usize::from(fin)
    }

    fn unread_bytes(&self, socket: &Socket) -> usize {
        self.links[self.link(socket)].wire.to_server.len()
    }

    fn shutdown(&mut self, socket: &Socket, how: Shutdown) {
        let link = self.link(socket);
        let turns = self.turns;
        let state = &mut self.links[link];
        self.trace.note(|| format!("        shutdown {link}: {how:?}"));
        if how == Shutdown::Write {
            assert!(state.sent_turn != turns + 1, "shut before a send was submitted");
            assert!(!state.owned_known && !state.owes, "shut before everything is sent");
        }
        self.shut_link(link, how);
    }

    fn close(&mut self, socket: Socket) {
        let link = self.give_away(socket);
        self.push(FakeOperation::Close { link, reset: false });
    }

    fn reset(&mut self, socket: Socket) {
        let link = self.give_away(socket);
        self.push(FakeOperation::Close { link, reset: true });
    }

    fn receive_datagrams(&mut self, socket: DatagramIndex) {
        self.net.receive(socket, self.clock_ms.get());
    }

    fn finish_datagrams(&mut self, socket: DatagramIndex) {
        self.net.finish(socket, self.clock_ms.get());
    }

    fn datagram_buffer(&mut self) -> &mut [u8] {
        self.net.buffer()
    }

    fn send_datagram(&mut self, to: &Datagram, len: usize) {
        self.trace.note(|| format!("        reply of {len} bytes to {:?}", to.from()));
        self.net.send(to, len, self.clock_ms.get());
    }

    fn turn(&mut self, events: &mut Vec<Event>, wait: bool) -> io::Result<()> {
        self.flush();
        self.net.begin_turn(self.now_ms());
        self.space_given = false;
        self.sent_in_turn = 0;
        if self.odds(self.faults.creeps) {
            self.clock_ms.set(self.now_ms() + self.faults.turn_ms);
        }
        loop {
            self.progress();
            let must = wait && self.short.is_empty();
            let (held, reordered) = (self.faults.held, self.faults.reordered);
            let taken = self.lanes.take(held, reordered, must, &mut self.random);
            let short = std::mem::take(&mut self.short);
            let found = !taken.is_empty() || !short.is_empty();
            // The worker must find what fell short wherever it stands.
            let middle = self.random.below(1 + taken.len() as u32) as usize;
            let mut taken = taken.into_iter();
            for event in taken.by_ref().take(middle).collect::<Vec<Event>>() {
                self.hand_out(event, events);
            }
            for event in short {
                self.hand_out(event, events);
            }
            for event in taken {
                self.hand_out(event, events);
            }
            if found || !wait {
                break;
            }
            self.sleep();
        }
        self.turns += 1;
        self.net.end_turn();
        for link in &mut self.links {
            link.filled = 0;
        }
        assert!(self.turns < TURNS_MAX, "the worker goes round in circles");
        assert!(self.now_ms() < TIME_MAX_MS, "the run is stuck");
        Ok(())
    }
}

fn limit_of(faults: &Faults) -> ConnectionLimit {
    ConnectionLimit::new(faults.connections_max, nearly_all(faults.connections_max))
}

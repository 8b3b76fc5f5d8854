//! Datagrams of the fake ring: what the worker asks for, and whether it may.
//!
//! This half checks the user's promises and queues operations; `network.rs` carries them out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use annulus::metrics::Counters;
use annulus_ring::{
    DATAGRAM_BUFFER_BYTES, DATAGRAM_BYTES_MAX, Datagram, DatagramIndex, Event, Pool,
    REPLY_BYTES_MAX,
};
use annulus_swarm::Random;

use super::datagram_answers::DatagramReport;
use super::datagram_client::{DatagramClient, DatagramScript, IdState, Outcome};
use super::faults::{DatagramFaults, Faults, Sabotage};

/// Where the sockets of every fake ring are bound: of each family to all addresses and to one. The
/// third receives IPv4 too.
pub(crate) const BOUND: [&str; 4] =
    ["0.0.0.0:3000", "192.0.2.1:3001", "[::]:3002", "[2001:db8::3]:3003"];
pub(crate) const DATAGRAM_SOCKETS: DatagramIndex = BOUND.len() as DatagramIndex;

/// The shortest reply: an error without a message.
const REPLY_BYTES_MIN: usize = 8;

/// A datagram from a client, and what its sender knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) client: usize,
    pub(crate) socket: DatagramIndex,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    pub(crate) id: IdState,
    pub(crate) outcome: Outcome,
}

/// A datagram to a client.
#[derive(Clone, Debug)]
pub(crate) struct ReplyPacket {
    pub(crate) client: usize,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    /// The second of the worker's clock at which it was written.
    pub(crate) told_s: u32,
}

/// A datagram that the worker was handed, and what became of it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) packet: Packet,
    /// The payload, as far as the buffer had room.
    pub(crate) taken: usize,
    pub(crate) at_s: u32,
    /// The worker had been told to stop.
    pub(crate) late: bool,
    pub(crate) reply: Option<Vec<u8>>,
}

impl Delivery {
    pub(crate) fn is_truncated(&self) -> bool {
        self.taken < self.packet.bytes.len()
    }
}

/// What waits to be submitted.
pub(super) enum DatagramOperation {
    Receive(DatagramIndex),
    Finish(DatagramIndex),
    Send { socket: DatagramIndex, reply: ReplyPacket },
}

/// A socket, as the kernel has it and as the worker knows it.
pub(super) struct FakeDatagramSocket {
    pub(super) bound: SocketAddr,
    pub(super) queue: VecDeque<Packet>,
    pub(super) armed: bool,
    /// Datagrams that are delivered before the socket is closed.
    pub(super) finishing: Option<usize>,
    pub(super) closed: bool,
    /// Delivered in this turn.
    pub(super) filled: u32,
    /// Delivered, and not handed out.
    pub(super) in_lanes: usize,
    /// The turn that handed out the last datagram.
    pub(super) last_turn: u64,
    pub(super) receive_asked: bool,
    pub(super) finish_asked: bool,
    pub(super) finished_known: bool,
}

/// The network, the kernel and the clients, as far as datagrams go.
pub(crate) struct DatagramNet {
    pub(super) faults: DatagramFaults,
    pub(super) early: u32,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) random: Random,
    pub(super) pool: Rc<Pool>,
    pub(super) sockets: Vec<FakeDatagramSocket>,
    pub(crate) clients: Vec<DatagramClient>,
    /// On their way, by the millisecond of their arrival and the order in which they were sent.
    pub(super) to_server: BTreeMap<(u64, u64), Packet>,
    pub(super) to_clients: BTreeMap<(u64, u64), ReplyPacket>,
    pub(super) sent: u64,
    pub(super) queue: VecDeque<DatagramOperation>,
    /// Datagrams in lanes, by the address of their payload.
    pub(super) in_lanes: HashMap<usize, Packet>,
    /// The same for those that the worker was handed, as numbers of deliveries.
    pub(super) held: HashMap<usize, usize>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Events that were handed out.
    pub(crate) unsent: u64,
    /// Failed sends, to be reported.
    pub(super) failed: Vec<DatagramIndex>,
    /// Deliveries before this turn.
    pub(super) handed_before: usize,
    pub(super) space: Vec<u8>,
    pub(super) space_given: bool,
    pub(super) turn: u64,
    /// What the worker counts.
    pub(crate) counters: Arc<Counters>,
    /// Of its server.
    pub(crate) server_seed: u64,
}

pub(super) fn place(datagram: &Datagram) -> usize {
    datagram.payload().as_ptr() as usize
}

impl DatagramNet {
    pub(crate) fn new(scripts: &[DatagramScript], faults: &Faults, seed: u64) -> DatagramNet {
        let socket = |bound: &&str| FakeDatagramSocket {
            bound: bound.parse().expect("an address"),
            queue: VecDeque::new(),
            armed: false,
            finishing: None,
            closed: false,
            filled: 0,
            in_lanes: 0,
            last_turn: 0,
            receive_asked: false,
            finish_asked: false,
            finished_known: false,
        };
        let head = (DATAGRAM_BUFFER_BYTES - DATAGRAM_BYTES_MAX) as u32;
        let buffer_bytes = head + faults.datagrams.payload_bytes;
        let clients = scripts.iter().enumerate();
        DatagramNet {
            early: faults.early,
            sabotage: faults.sabotage,
            random: Random::seeded(seed),
            pool: Pool::new(faults.datagrams.buffers, buffer_bytes).expect("memory for buffers"),
            sockets: BOUND.iter().map(socket).collect(),
            clients: clients.map(|(at, script)| DatagramClient::new(at, script)).collect(),
            to_server: BTreeMap::new(),
            to_clients: BTreeMap::new(),
            sent: 0,
            queue: VecDeque::new(),
            in_lanes: HashMap::new(),
            held: HashMap::new(),
            deliveries: Vec::new(),
            unsent: 0,
            failed: Vec::new(),
            handed_before: 0,
            space: vec![0; REPLY_BYTES_MAX],
            space_given: false,
            turn: 0,
            counters: Arc::default(),
            server_seed: 0,
            faults: faults.datagrams.clone(),
        }
    }

    pub(super) fn odds(&mut self, chance: u32) -> bool {
        chance > 0 && self.random.below(1000) < chance
    }

    pub(super) fn sabotages(&mut self, sabotage: Sabotage) -> bool {
        self.sabotage.take_if(|given| *given == sabotage).is_some()
    }

    pub(crate) fn receive(&mut self, socket: DatagramIndex, now_ms: u64) {
        let state = &mut self.sockets[usize::from(socket)];
        assert!(!state.receive_asked, "receiving already");
        state.receive_asked = true;
        self.push(DatagramOperation::Receive(socket), now_ms);
    }

    pub(crate) fn finish(&mut self, socket: DatagramIndex, now_ms: u64) {
        let state = &mut self.sockets[usize::from(socket)];
        assert!(state.receive_asked, "finished before it began");
        assert!(!state.finish_asked, "finished twice");
        state.finish_asked = true;
        self.push(DatagramOperation::Finish(socket), now_ms);
    }

    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        self.space_given = true;
        &mut self.space
    }

    /// A send or a turn has spoilt the space for a reply.
    pub(crate) fn take_space(&mut self) {
        self.space_given = false;
        self.space.fill(0xaa);
    }

    pub(crate) fn send(&mut self, to: &Datagram, len: usize, now_ms: u64) {
        assert!(self.space_given, "datagram_buffer was not asked for");
        assert!((REPLY_BYTES_MIN..=REPLY_BYTES_MAX).contains(&len), "a reply of {len} bytes");
        let bytes = self.space[..len].to_vec();
        self.take_space();
        let number = *self.held.get(&place(to)).expect("the datagram was delivered");
        let delivery = &mut self.deliveries[number];
        let packet = &delivery.packet;
        assert!(delivery.reply.is_none(), "two replies to {packet:?}");
        let state = &self.sockets[usize::from(to.socket())];
        assert!(!state.finished_known, "a reply after the end");
        let (reply_to, asked) = (to.from().expect("an address"), to.to());
        assert_eq!((to.socket(), reply_to), (packet.socket, packet.from), "the datagram changed");
        let asked = asked.map_or(state.bound, |ip| SocketAddr::new(ip, state.bound.port()));
        delivery.reply = Some(bytes.clone());
        let (client, told_s) = (packet.client, delivery.at_s);
        let reply = ReplyPacket { client, from: asked, to: reply_to, bytes, told_s };
        self.push(DatagramOperation::Send { socket: to.socket(), reply }, now_ms);
    }

    fn push(&mut self, operation: DatagramOperation, now_ms: u64) {
        self.queue.push_back(operation);
        if self.odds(self.early) {
            self.flush(now_ms);
        }
    }

    /// Hands an event out, and notes what the worker knows by it.
    pub(crate) fn hand_out(&mut self, event: &Event, now_ms: u64) {
        match event {
            Event::Datagram(datagram) => {
                let place = place(datagram);
                let packet = self.in_lanes.remove(&place).expect("the datagram was delivered");
                let state = &mut self.sockets[usize::from(packet.socket)];
                assert!(!state.finished_known, "a datagram after the end");
                state.in_lanes -= 1;
                state.last_turn = self.turn;
                self.held.insert(place, self.deliveries.len());
                let taken = datagram.payload().len();
                let (at_s, late) = ((now_ms / 1000) as u32, state.finish_asked);
                self.deliveries.push(Delivery { packet, taken, at_s, late, reply: None });
            }
            Event::DatagramUnsent { .. } => self.unsent += 1,
            Event::DatagramsFinished { socket } => {
                self.sockets[usize::from(*socket)].finished_known = true;
            }
            _ => {}
        }
    }

    /// A turn begins: whatever space was given for a reply is lost.
    pub(crate) fn begin_turn(&mut self, now_ms: u64) {
        self.flush(now_ms);
        self.take_space();
        self.handed_before = self.deliveries.len();
    }

    pub(crate) fn end_turn(&mut self) {
        self.turn += 1;
        for socket in &mut self.sockets {
            socket.filled = 0;
        }
    }

    /// Datagrams that were handed out by the last turn.
    pub(crate) fn delivered_in_turn(&self) -> usize {
        self.deliveries.len() - self.handed_before
    }

    /// What became of the datagrams, as far as the worker can have acted on them.
    pub(crate) fn report(&mut self, now_ms: u64) -> DatagramReport {
        for reply in std::mem::take(&mut self.to_clients).into_values() {
            self.clients[reply.client].hear(now_ms, &reply);
        }
        DatagramReport {
            deliveries: std::mem::take(&mut self.deliveries),
            unsent: self.unsent,
            clients: self.clients.clone(),
            counters: Arc::clone(&self.counters),
            seed: self.server_seed,
        }
    }

    /// Between two turns the worker has no datagram.
    pub(crate) fn check_buffers(&self) {
        let taken = usize::from(self.pool.count()) - self.pool.free();
        assert_eq!(taken, self.in_lanes.len(), "buffers of datagrams that the worker keeps");
    }

    /// At the end nothing may be left anywhere.
    pub(crate) fn settle_accounts(&self) {
        assert!(self.queue.is_empty(), "datagrams are still queued");
        let finished = |socket: &FakeDatagramSocket| socket.closed && socket.finished_known;
        assert!(self.sockets.iter().all(finished), "a socket for datagrams is open");
        assert!(self.in_lanes.is_empty(), "datagrams were not handed out");
        let all = usize::from(self.pool.count());
        assert_eq!(self.pool.free(), all, "buffers of datagrams are missing");
    }
}

//! An engine under test, its listeners, and the helpers of all tests.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ring::{
    Connect, ConnectionLimit, DatagramIndex, DatagramSocket, EngineConfig, Epoll, Errno, Event,
    Key, Listener, Pool, RecvBuf, RecvEnd, RecvMode, Ring, Socket, UnsentRest, Uring, Waker,
};
use socket2::SockRef;

/// The longest wait for a single event.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest time of a whole test; then the process is aborted with the test's name.
const BOUND: Duration = Duration::from_secs(60);

/// A way to make an engine.
pub(crate) trait EngineKind: 'static {
    type Ring: Connect;
    /// Whether a receive armed with [`RecvMode::Multishot`] outlives its first event.
    const STAYS_ARMED: bool;

    fn build(config: EngineConfig) -> Result<Self::Ring, String>;
    fn pool(ring: &Self::Ring) -> &Rc<Pool>;
}

/// io_uring with everything that this kernel has.
pub(crate) struct UringNewest;
/// io_uring with what Linux 5.19 has.
pub(crate) struct UringOldest;
/// epoll.
pub(crate) struct ByEpoll;

impl EngineKind for UringNewest {
    type Ring = Uring;
    const STAYS_ARMED: bool = true;

    fn build(config: EngineConfig) -> Result<Uring, String> {
        let ring = Uring::new(config).map_err(|refusal| refusal.explain())?;
        if ring.capabilities().multishot_recv {
            Ok(ring)
        } else {
            Err("no multishot receive: all that is tried as the oldest kernel's".to_owned())
        }
    }

    fn pool(ring: &Uring) -> &Rc<Pool> {
        ring.pool()
    }
}

impl EngineKind for UringOldest {
    type Ring = Uring;
    const STAYS_ARMED: bool = false;

    fn build(config: EngineConfig) -> Result<Uring, String> {
        Uring::with_oldest_features(config).map_err(|refusal| refusal.explain())
    }

    fn pool(ring: &Uring) -> &Rc<Pool> {
        ring.pool()
    }
}

impl EngineKind for ByEpoll {
    type Ring = Epoll;
    const STAYS_ARMED: bool = true;

    fn build(config: EngineConfig) -> Result<Epoll, String> {
        Epoll::new(config).map_err(|error| error.to_string())
    }

    fn pool(ring: &Epoll) -> &Rc<Pool> {
        ring.pool()
    }
}

/// Makes a `#[test]` per engine of each function.
macro_rules! on_every_engine {
    ($($test:ident),+ $(,)?) => {
        on_every_engine!(uring_newest: UringNewest, $($test),+);
        on_every_engine!(uring_oldest: UringOldest, $($test),+);
        on_every_engine!(epoll: ByEpoll, $($test),+);
    };
    ($module:ident: $kind:ident, $($test:ident),+) => {
        mod $module {
            $(#[test]
            fn $test() {
                crate::harness::run::<crate::harness::$kind>(
                    super::$test::<crate::harness::$kind>,
                );
            })+
        }
    };
}
pub(crate) use on_every_engine;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Serialises the tests, because some count the descriptors of the process.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test alone and within its bound, and checks that it leaves no descriptor open.
pub(crate) fn run<K: EngineKind>(test: fn()) {
    let _alone = alone();
    if let Err(why) = K::build(trial(Vec::new())) {
        println!("SKIPPED: {why}");
        return;
    }
    let (done, is_done) = mpsc::channel::<()>();
    let name = thread::current().name().unwrap_or_default().to_owned();
    let watchdog = thread::spawn(move || {
        if is_done.recv_timeout(BOUND) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    let before = descriptors();
    test();
    let after = descriptors();
    drop(done);
    watchdog.join().unwrap();
    assert_eq!(before, after, "descriptors open before and after");
}

/// The least that an engine can be built from.
pub(crate) fn trial(datagram_sockets: Vec<DatagramSocket>) -> EngineConfig {
    EngineConfig {
        listeners: Vec::new(),
        datagram_sockets,
        waker: Waker::new().unwrap(),
        limit: Arc::new(ConnectionLimit::unlimited()),
        accepts_per_turn: 1,
        send_buffer_bytes: 64,
        arena_bytes: 128,
        recv_buffers: 1,
        recv_buffer_bytes: 64,
    }
}

/// The open descriptors of this process.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The parameters of a bench.
pub(crate) struct Shape {
    pub(crate) address: &'static str,
    pub(crate) send_buffer_bytes: usize,
    pub(crate) arena_bytes: usize,
    pub(crate) recv_buffers: u16,
    pub(crate) recv_buffer_bytes: u32,
    pub(crate) connections_max: usize,
    pub(crate) accepts_per_turn: usize,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            address: "127.0.0.1:0",
            send_buffer_bytes: 4096,
            arena_bytes: 1 << 16,
            recv_buffers: 16,
            recv_buffer_bytes: 2048,
            connections_max: usize::MAX,
            accepts_per_turn: 256,
        }
    }
}

/// One engine with one listener.
pub(crate) struct Bench<K: EngineKind> {
    pub(crate) ring: K::Ring,
    pub(crate) waker: Waker,
    pub(crate) address: SocketAddr,
    pub(crate) ticks: usize,
    pool: Rc<Pool>,
    waiting: VecDeque<Event>,
    slots: u32,
}

impl<K: EngineKind> Bench<K> {
    /// The default shape, accepting.
    pub(crate) fn new() -> Bench<K> {
        Bench::shaped(Shape::default())
    }

    /// This shape, accepting.
    pub(crate) fn shaped(shape: Shape) -> Bench<K> {
        let mut bench = Bench::<K>::silent(shape);
        bench.ring.accept(0);
        bench
    }

    /// This shape, not yet accepting.
    pub(crate) fn silent(shape: Shape) -> Bench<K> {
        let (address, mut group) = Listener::bind_group(shape.address.parse().unwrap(), 1).unwrap();
        Bench::over(shape, address, group.pop().unwrap())
    }

    /// This listener, not yet accepting.
    pub(crate) fn over(shape: Shape, address: SocketAddr, listener: Listener) -> Bench<K> {
        let limit = ConnectionLimit::new(shape.connections_max, shape.connections_max);
        Bench::sharing(Arc::new(limit), shape, address, vec![listener])
    }

    /// These listeners, with a limit that other benches may share.
    pub(crate) fn sharing(
        limit: Arc<ConnectionLimit>,
        shape: Shape,
        address: SocketAddr,
        listeners: Vec<Listener>,
    ) -> Bench<K> {
        Bench::with_sockets(limit, shape, (address, listeners), Vec::new())
    }

    /// The default shape, accepting, with sockets for datagrams, receiving.
    pub(crate) fn receiving(datagram_sockets: Vec<DatagramSocket>) -> Bench<K> {
        let limit = Arc::new(ConnectionLimit::unlimited());
        let shape = Shape::default();
        let listening = Listener::bind_group(shape.address.parse().unwrap(), 1).unwrap();
        let count = datagram_sockets.len() as DatagramIndex;
        let mut bench = Bench::<K>::with_sockets(limit, shape, listening, datagram_sockets);
        bench.ring.accept(0);
        for socket in 0..count {
            bench.ring.receive_datagrams(socket);
        }
        bench
    }

    fn with_sockets(
        limit: Arc<ConnectionLimit>,
        shape: Shape,
        (address, listeners): (SocketAddr, Vec<Listener>),
        datagram_sockets: Vec<DatagramSocket>,
    ) -> Bench<K> {
        let waker = Waker::new().unwrap();
        let ring = K::build(EngineConfig {
            listeners,
            datagram_sockets,
            waker: waker.clone(),
            limit,
            accepts_per_turn: shape.accepts_per_turn,
            send_buffer_bytes: shape.send_buffer_bytes,
            arena_bytes: shape.arena_bytes,
            recv_buffers: shape.recv_buffers,
            recv_buffer_bytes: shape.recv_buffer_bytes,
        })
        .unwrap();
        let pool = Rc::clone(K::pool(&ring));
        Bench { ring, waker, address, ticks: 0, pool, waiting: VecDeque::new(), slots: 0 }
    }

    /// A key that is unique in this bench.
    pub(crate) fn key(&mut self) -> Key {
        self.slots += 1;
        Key::new(self.slots, self.slots * 7)
    }

    /// One turn; its events, except ticks, are kept for [`Bench::next`].
    pub(crate) fn turn(&mut self, wait: bool) {
        let mut events = Vec::new();
        self.ring.turn(&mut events, wait).unwrap();
        assert!(!wait || !events.is_empty(), "a wait that ended without an event");
        for event in events {
            match event {
                Event::Tick => self.ticks += 1,
                event => self.waiting.push_back(event),
            }
        }
    }

    /// One turn; returns its events except ticks.
    pub(crate) fn batch(&mut self, wait: bool) -> Vec<Event> {
        self.turn(wait);
        self.waiting.drain(..).collect()
    }

    /// The next event that is not a tick.
    pub(crate) fn next(&mut self) -> Event {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            assert!(Instant::now() < deadline, "nothing happens");
            self.turn(true);
        }
    }

    /// Turns for `duration`, in which only ticks may come.
    pub(crate) fn stays_quiet(&mut self, duration: Duration) {
        let deadline = Instant::now() + duration;
        loop {
            self.turn(false);
            assert!(self.waiting.is_empty(), "unexpected: {:?}", self.waiting);
            if Instant::now() > deadline {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The next event, which must be a connection.
    pub(crate) fn accepted(&mut self) -> (Socket, SocketAddr) {
        match self.next() {
            Event::Accepted { listener: 0, socket, peer: Some(peer) } => (socket, peer),
            other => panic!("not a connection: {other:?}"),
        }
    }

    /// The next event, which must be bytes of `key`.
    pub(crate) fn received(&mut self, key: Key) -> (RecvBuf, bool) {
        match self.next() {
            Event::Received { key: of, buffer, more } if of == key => {
                assert!(!buffer.is_empty());
                (buffer, more)
            }
            other => panic!("not bytes of {key:?}: {other:?}"),
        }
    }

    /// The next event, which must be the end of the receive of `key`.
    pub(crate) fn recv_ended(&mut self, key: Key) -> RecvEnd {
        match self.next() {
            Event::RecvEnded { key: of, end } if of == key => end,
            other => panic!("not the end of {key:?}'s receive: {other:?}"),
        }
    }

    /// The next event, which must be the end of the owned send of `key`.
    pub(crate) fn sent(&mut self, key: Key) -> Result<(), Errno> {
        match self.next() {
            Event::Sent { key: of, result } if of == key => result,
            other => panic!("not the end of {key:?}'s send: {other:?}"),
        }
    }

    /// The next event, which must be a short send of `key`.
    pub(crate) fn incomplete(&mut self, key: Key) -> UnsentRest {
        match self.next() {
            Event::SendIncomplete { key: of, rest } if of == key => rest,
            other => panic!("not a short send of {key:?}: {other:?}"),
        }
    }

    /// Receives until the end and returns all bytes; arms again when a receive ends.
    pub(crate) fn read_to_end(&mut self, key: Key, socket: &Socket, expect: RecvMode) -> Vec<u8> {
        let mut all = Vec::new();
        self.ring.recv(key, socket, expect);
        loop {
            match self.next() {
                Event::Received { key: of, buffer, more } if of == key => {
                    assert!(!more || (expect == RecvMode::Multishot && K::STAYS_ARMED));
                    all.extend_from_slice(&buffer);
                    if !more {
                        self.ring.recv(key, socket, expect);
                    }
                }
                Event::RecvEnded { key: of, end: RecvEnd::Eof } if of == key => return all,
                // The coming turn returns the buffer of the last event.
                Event::RecvEnded { key: of, end: RecvEnd::NoBuffers } if of == key => {
                    self.ring.recv(key, socket, expect);
                }
                other => panic!("unexpected while reading {key:?}: {other:?}"),
            }
        }
    }

    /// A client that has sent nothing yet: the kernel does not report it to the engine before.
    pub(crate) fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }

    /// A client that has sent `first`, and its accepted connection with those bytes unread.
    pub(crate) fn pair(&mut self, first: &[u8]) -> (TcpStream, Key, Socket) {
        let mut client = self.client();
        client.write_all(first).unwrap();
        let (socket, peer) = self.accepted();
        assert_eq!(peer, client.local_addr().unwrap());
        (client, self.key(), socket)
    }

    /// The same, with those bytes read.
    pub(crate) fn greeted(&mut self) -> (TcpStream, Key, Socket) {
        let (client, key, socket) = self.pair(b"hello");
        self.ring.recv(key, &socket, RecvMode::Immediate);
        let (bytes, more) = self.received(key);
        assert_eq!((&bytes[..], more), (&b"hello"[..], false));
        (client, key, socket)
    }

    /// Writes `reply` into the send buffer.
    pub(crate) fn fill_reply(&mut self, reply: &[u8]) {
        self.ring.send_buffer()[..reply.len()].copy_from_slice(reply);
    }

    /// Drops the engine as it is, and closes the sockets in events that were delivered.
    pub(crate) fn abandon(mut self) {
        for event in self.waiting.drain(..) {
            match event {
                Event::Accepted { socket, .. } | Event::Connected { result: Ok(socket), .. } => {
                    self.ring.close(socket)
                }
                _ => {}
            }
        }
    }

    /// Ends the test: no event may come any more, and every receive buffer must be free, which
    /// taking all of them at once shows.
    pub(crate) fn finish(mut self) {
        self.stays_quiet(Duration::from_millis(20));
        let size = K::pool(&self.ring).take().map_or(2048, |buffer| buffer.len());
        let count = usize::from(self.pool.count());
        let mut client = self.client();
        client.write_all(b"x").unwrap();
        let (socket, _) = self.accepted();
        let key = self.key();
        let writer = thread::spawn(move || {
            let _ = client.write_all(&vec![1; (count + 2) * size]);
            client
        });
        let mut held = Vec::new();
        loop {
            self.ring.recv(key, &socket, RecvMode::Immediate);
            match self.next() {
                Event::Received { buffer, more: false, .. } => held.push(buffer),
                Event::RecvEnded { end: RecvEnd::NoBuffers, .. } => break,
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert_eq!(held.len(), count, "receive buffers that are still there");
        drop(held);
        self.ring.reset(socket);
        self.stays_quiet(Duration::from_millis(5));
        writer.join().unwrap();
        let Bench { ring, pool, .. } = self;
        drop(ring);
        assert_eq!(Rc::strong_count(&pool), 1, "somebody still holds a buffer");
    }
}

/// Bytes that depend on their position, so that loss, repetition and reordering show.
pub(crate) fn pattern(seed: u32, len: usize) -> Vec<u8> {
    let words = (0..len as u32 / 4 + 1).map(|at| (at ^ seed).wrapping_mul(0x9e37_79b1));
    words.flat_map(u32::to_le_bytes).take(len).collect()
}

/// Limits the send buffer of the engine's side of a connection.
pub(crate) fn limit_send_buffer(socket: &Socket, bytes: usize) {
    // SAFETY: the descriptor stays open: its owner is borrowed during the call.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.raw()) };
    SockRef::from(&fd).set_send_buffer_size(bytes).unwrap();
}

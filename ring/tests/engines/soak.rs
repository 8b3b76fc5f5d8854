//! Many clients with random behaviour against a server that obeys the rules of the trait; every
//! byte is compared.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ring::{Errno, Event, Key, RecvEnd, RecvMode, Ring, Socket, Unsent, UnsentRest};
use socket2::SockRef;

use crate::harness::{Bench, EngineKind, Shape, limit_send_buffer, on_every_engine, pattern};

on_every_engine!(random_clients_get_every_byte);

const CLIENTS: u32 = 16;
const DURATION: Duration = Duration::from_millis(1000);
const REPLY: usize = 256 * 1024;

/// A request has 12 bytes: the length of the reply, its seed, and what to do after it.
const REQUEST: usize = 12;
const KEEP: u32 = 0;
const CLOSE: u32 = 1;

fn random_clients_get_every_byte<K: EngineKind>() {
    let bench = Bench::<K>::shaped(Shape {
        send_buffer_bytes: REPLY,
        arena_bytes: 2 * REPLY,
        recv_buffers: 8,
        recv_buffer_bytes: 128,
        ..Shape::default()
    });
    let (address, waker) = (bench.address, bench.waker.clone());
    thread::scope(|scope| {
        let until = Instant::now() + DURATION;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|seed| scope.spawn(move || SoakClient { random: seed + 1 }.run(address, until)))
            .collect();
        scope.spawn(move || {
            let answers: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
            println!("{answers} answers");
            waker.wake();
        });
        let mut server = SoakServer {
            bench,
            connections: HashMap::new(),
            generation: 0,
            turn: 0,
            woken: false,
            short_sends: 0,
            deferred: Vec::new(),
        };
        server.serve();
        println!("{} short sends", server.short_sends);
        assert!(server.short_sends > 0, "no answer fell short: nothing was tried");
        server.bench.finish();
    });
}

struct SoakConnection {
    key: Key,
    /// `None` after `send_and_close`.
    socket: Option<Socket>,
    armed: bool,
    cancelling: bool,
    /// An owned send is pending.
    sending: bool,
    /// The turn of the last send: the next turn reports whether it was short.
    sent_in: u64,
    /// The peer sends no more, or gets no more.
    leaving: bool,
    pending: Vec<u8>,
}

struct SoakServer<K: EngineKind> {
    bench: Bench<K>,
    connections: HashMap<u32, SoakConnection>,
    generation: u32,
    turn: u64,
    woken: bool,
    short_sends: usize,
    /// To be continued in the coming turn.
    deferred: Vec<Key>,
}

impl<K: EngineKind> SoakServer<K> {
    /// Serves until the clients are done, which a wake reports, and all connections are closed.
    fn serve(&mut self) {
        while !(self.woken && self.connections.is_empty()) {
            let events = self.bench.batch(self.deferred.is_empty());
            self.turn += 1;
            if K::STAYS_ARMED && self.woken && events.is_empty() && self.deferred.is_empty() {
                self.end_missed();
            }
            let deferred = std::mem::take(&mut self.deferred);
            for event in events {
                self.on_event(event);
            }
            for key in deferred {
                if self.connections.get(&key.slot()).is_some_and(|known| known.key == key) {
                    self.go_on(key);
                }
            }
        }
    }

    /// Ends connections that are quiet though their clients are gone. Linux 6.18 may miss the
    /// end of the stream in a multishot receive if it arrives just after bytes (liburing issue
    /// 1549). A server's timeouts do the same. Their bytes must have been received.
    fn end_missed(&mut self) {
        for connection in self.connections.values_mut() {
            let socket = connection.socket.as_ref().unwrap();
            assert!(connection.armed && self.bench.ring.unread_bytes(socket) == 0);
            self.bench.ring.shutdown(socket, Shutdown::Both);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Accepted { socket, .. } => self.welcome(socket),
            Event::Received { key, buffer, more } => {
                let connection = self.known(key);
                connection.armed = more;
                connection.pending.extend_from_slice(&buffer);
                drop(buffer);
                self.go_on(key);
            }
            Event::RecvEnded { key, end } => {
                let connection = self.known(key);
                assert!(connection.armed, "an end of what was not armed");
                (connection.armed, connection.cancelling) = (false, false);
                match end {
                    RecvEnd::NoBuffers | RecvEnd::Cancelled => {}
                    // Requests before the end are still answered.
                    RecvEnd::Eof => connection.leaving = connection.pending.len() < REQUEST,
                    RecvEnd::Error(Errno::CONNRESET) => connection.leaving = true,
                    RecvEnd::Error(_) => panic!("{end:?}"),
                }
                self.go_on(key);
            }
            Event::SendIncomplete { key, rest } => {
                assert_eq!(self.known(key).sent_in + 1, self.turn, "told late");
                self.on_short_send(key, rest);
            }
            Event::Sent { key, result } => {
                let connection = self.known(key);
                connection.sending = false;
                connection.leaving |= result.is_err();
                self.go_on(key);
            }
            Event::Wake => self.woken = true,
            other => panic!("unexpected: {other:?}"),
        }
    }

    /// The connection of `key`; no event may come for a closed one.
    fn known(&mut self, key: Key) -> &mut SoakConnection {
        let connection = self.connections.get_mut(&key.slot()).expect("an event of the dead");
        assert_eq!(connection.key, key, "an event of the slot's earlier tenant");
        connection
    }

    fn welcome(&mut self, socket: Socket) {
        // The lowest free slot: slots are reused at once, only generations differ.
        let slot = (0..).find(|slot| !self.connections.contains_key(slot)).unwrap();
        self.generation += 1;
        let key = Key::new(slot, self.generation);
        if self.generation.is_multiple_of(3) {
            // Larger replies are short sends.
            limit_send_buffer(&socket, 8192);
        }
        self.bench.ring.recv(key, &socket, RecvMode::Immediate);
        let connection = SoakConnection {
            key,
            socket: Some(socket),
            armed: true,
            cancelling: false,
            sending: false,
            sent_in: 0,
            leaving: false,
            pending: Vec::new(),
        };
        self.connections.insert(slot, connection);
    }

    fn on_short_send(&mut self, key: Key, rest: UnsentRest) {
        let connection = self.known(key);
        let Ok(bytes) = rest else {
            connection.leaving = true;
            return self.go_on(key);
        };
        connection.sending = true;
        self.short_sends += 1;
        let connection = self.connections.get_mut(&key.slot()).unwrap();
        self.bench.ring.send_owned(key, connection.socket.as_ref().unwrap(), bytes);
        if connection.armed && !connection.cancelling {
            connection.cancelling = true;
            self.bench.ring.cancel_recv(key);
        }
    }

    /// Replies, closes if nothing is pending, or waits for more.
    fn go_on(&mut self, key: Key) {
        let connection = self.connections.get_mut(&key.slot()).unwrap();
        let ring = &mut self.bench.ring;
        if connection.sending {
            return;
        }
        if connection.sent_in == self.turn {
            return self.deferred.push(key);
        }
        if connection.leaving {
            if connection.armed {
                ring.shutdown(connection.socket.as_ref().unwrap(), Shutdown::Both);
                return;
            }
            if let Some(socket) = connection.socket.take() {
                ring.close(socket);
            }
            self.connections.remove(&key.slot());
            return;
        }
        let socket = connection.socket.as_ref().unwrap();
        if connection.pending.len() < REQUEST {
            if !connection.armed {
                ring.recv(key, socket, RecvMode::Multishot);
                connection.armed = true;
            }
            return;
        }
        let mut words = connection.pending.chunks(4).map(|word| word.try_into().unwrap());
        let mut word = || u32::from_le_bytes(words.next().unwrap());
        let (len, seed, after) = (word() as usize, word(), word());
        connection.pending.drain(..REQUEST);
        connection.leaving = after == CLOSE;
        if len > REPLY {
            ring.send_owned(key, socket, pattern(seed, len).into());
            connection.sending = true;
            return;
        }
        ring.send_buffer()[..len].copy_from_slice(&pattern(seed, len));
        if connection.leaving && !connection.armed {
            let sent = ring.send_and_close(connection.socket.take().unwrap(), len);
            if let Err(Unsent { socket, rest }) = sent {
                connection.socket = Some(socket);
                return self.on_short_send(key, rest);
            }
        } else {
            ring.send(key, socket, len);
        }
        connection.sent_in = self.turn;
        self.deferred.push(key);
    }
}

struct SoakClient {
    random: u32,
}

impl SoakClient {
    fn below(&mut self, bound: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random % bound
    }

    /// Connects repeatedly until the deadline; returns the number of correct replies.
    fn run(mut self, address: SocketAddr, until: Instant) -> usize {
        let mut answers = 0;
        while Instant::now() < until {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.set_nodelay(true).unwrap();
            match self.below(8) {
                // One request, closed with the reply.
                0..=2 => answers += self.exchange(&mut stream, 1, CLOSE),
                // Keep-alive, one request at a time.
                3 | 4 => {
                    for _ in 0..self.below(20) {
                        answers += self.exchange(&mut stream, 1, KEEP);
                    }
                }
                // Pipelined, the last one closing.
                5 => {
                    let count = 1 + self.below(10);
                    answers += self.exchange(&mut stream, count, CLOSE);
                }
                // Sends requests and does not read.
                6 => {
                    let request = self.request(KEEP).0;
                    let (half, other) = request.split_at(1 + self.below(11) as usize);
                    stream.write_all(half).unwrap();
                    if self.below(2) == 0 {
                        stream.write_all(other).unwrap();
                    }
                    if self.below(2) == 0 {
                        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                }
                // Sends everything, shuts down its side, then reads.
                _ => {
                    let (request, expected) = self.request(CLOSE);
                    stream.write_all(&request).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    answers += self.check(&mut stream, &expected);
                }
            }
        }
        answers
    }

    fn request(&mut self, after: u32) -> (Vec<u8>, Vec<u8>) {
        let len = match self.below(50) {
            0 => REPLY + self.below(REPLY as u32) as usize,
            1..=4 => self.below(REPLY as u32) as usize,
            _ => 1 + self.below(600) as usize,
        };
        let seed = self.below(u32::MAX);
        let request = [len as u32, seed, after].map(u32::to_le_bytes).concat();
        (request, pattern(seed, len))
    }

    /// Sends `count` requests in pieces, then reads all replies, perhaps late.
    fn exchange(&mut self, stream: &mut TcpStream, count: u32, last: u32) -> usize {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for at in 1..=count {
            let (request, answer) = self.request(if at == count { last } else { KEEP });
            requests.extend(request);
            expected.extend(answer);
        }
        let piece = 1 + self.below(40) as usize;
        for piece in requests.chunks(piece) {
            stream.write_all(piece).unwrap();
        }
        if self.below(10) == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        let answers = self.check(stream, &expected);
        if last == CLOSE {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "more than was asked for");
        }
        answers * count as usize
    }

    fn check(&mut self, stream: &mut TcpStream, expected: &[u8]) -> usize {
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == expected, "{} bytes differ", expected.len());
        1
    }
}

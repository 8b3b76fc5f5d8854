//! More work in one turn than the queues, the arena or the pool hold.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use annulus_ring::{Event, RecvEnd, RecvMode, Ring, Socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Bench, EngineKind, Shape, on_every_engine, pattern};

on_every_engine!(
    more_replies_than_the_arena_holds_are_right,
    more_replies_than_the_submission_queue_holds_are_right,
    thousands_of_receives_armed_at_once_all_complete,
    more_completions_than_the_queue_holds_are_all_delivered,
);

/// As many connections as asked for, or as the limit of descriptors allows.
fn affordable(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let limit = limit.maximum.map_or(usize::MAX, |limit| limit as usize);
    let affordable = limit.saturating_sub(200) / 2;
    if affordable < wanted {
        println!("only {affordable} of {wanted} connections: the limit of descriptors is {limit}");
    }
    wanted.min(affordable)
}

/// Connected clients, each of which has sent its number, in that order.
fn connect_clients<K: EngineKind>(bench: &Bench<K>, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::with_capacity(count);
    for number in 0..count as u32 {
        let mut client = bench.client();
        client.write_all(&number.to_le_bytes()).unwrap();
        clients.push(client);
    }
    clients
}

fn number_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

fn more_replies_than_the_arena_holds_are_right<K: EngineKind>() {
    // About 700 bytes each.
    replies_in_one_turn_are_right::<K>(1 << 16);
}

fn more_replies_than_the_submission_queue_holds_are_right<K: EngineKind>() {
    // The queue holds 1024, and the arena all of them.
    replies_in_one_turn_are_right::<K>(1 << 23);
}

fn replies_in_one_turn_are_right<K: EngineKind>(arena_bytes: usize) {
    let mut bench =
        Bench::<K>::shaped(Shape { send_buffer_bytes: 1500, arena_bytes, ..Shape::default() });
    let mut clients = connect_clients(&bench, affordable(3000));
    let len_of = |number: u32| 400 + (number as usize * 37) % 600;
    let mut pending = Vec::new();
    for _ in 0..clients.len() {
        let (socket, _) = bench.accepted();
        pending.push((bench.key(), socket));
    }
    let mut requests = Vec::new();
    for (key, socket) in pending {
        bench.ring.recv(key, &socket, RecvMode::Immediate);
        let (bytes, _) = bench.received(key);
        requests.push((number_of(&bytes), key, socket));
    }
    let mut kept = Vec::new();
    for (number, key, socket) in requests {
        let reply = pattern(number, len_of(number));
        bench.fill_reply(&reply);
        match number % 3 {
            0 => bench.ring.send_and_close(socket, reply.len()).unwrap(),
            1 => {
                bench.ring.send(key, &socket, reply.len());
                kept.push((key, socket));
            }
            _ => {
                // The receive is queued between a reply and the next send buffer.
                bench.ring.send(key, &socket, reply.len());
                bench.ring.recv(key, &socket, RecvMode::Multishot);
                kept.push((key, socket));
            }
        }
    }
    bench.turn(false);
    bench.turn(false);
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = pattern(number as u32, len_of(number as u32));
        let mut got = vec![0; expected.len()];
        client.read_exact(&mut got).unwrap();
        assert!(got == expected, "reply {number}");
        if number % 3 == 0 {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    }
    let armed = clients.len() / 3;
    drop(clients);
    for _ in 0..armed {
        assert!(matches!(bench.next(), Event::RecvEnded { end: RecvEnd::Eof, .. }));
    }
    for (_, socket) in kept {
        bench.ring.close(socket);
    }
    bench.finish();
}

fn thousands_of_receives_armed_at_once_all_complete<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let count = affordable(3000);
    let mut clients = connect_clients(&bench, count);
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(Some((bench.accepted().0, bench.key())));
    }
    let base = sockets[0].as_ref().unwrap().1.slot();
    for (socket, key) in sockets.iter().flatten() {
        bench.ring.recv(*key, socket, RecvMode::Immediate);
    }
    // The pool is far too small for all at once: receives without a buffer are repeated.
    let mut seen = vec![false; count];
    for _ in 0..2 {
        let mut open = count;
        while open > 0 {
            let (key, got) = match bench.next() {
                Event::Received { key, buffer, .. } => (key, Some(number_of(&buffer))),
                Event::RecvEnded { key, end: RecvEnd::NoBuffers } => (key, None),
                other => panic!("unexpected: {other:?}"),
            };
            let (socket, of) = sockets[(key.slot() - base) as usize].as_ref().unwrap();
            assert_eq!(*of, key);
            match got {
                Some(number) => {
                    assert!(!std::mem::replace(&mut seen[number as usize], true), "twice");
                    open -= 1;
                }
                None => bench.ring.recv(key, socket, RecvMode::Immediate),
            }
        }
        assert!(seen.iter().all(|seen| *seen));
        seen.fill(false);
        // Once more, with all of them armed before any bytes arrive.
        for (socket, key) in sockets.iter().flatten() {
            bench.ring.recv(*key, socket, RecvMode::Immediate);
        }
        bench.turn(false);
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&(number as u32).to_le_bytes()).unwrap();
        }
    }
    drain_all(&mut bench, count);
    for (socket, _) in sockets.into_iter().flatten() {
        bench.ring.close(socket);
    }
    drop(clients);
    bench.finish();
}

/// Waits for the last event of each of `count` receives.
fn drain_all<K: EngineKind>(bench: &mut Bench<K>, count: usize) {
    for _ in 0..count {
        match bench.next() {
            Event::Received { more: false, .. } | Event::RecvEnded { .. } => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
}

fn more_completions_than_the_queue_holds_are_all_delivered<K: EngineKind>() {
    // The completion queue of io_uring holds 8192. Every client below causes several completions
    // before the engine's next turn.
    let mut bench = Bench::<K>::shaped(Shape {
        recv_buffers: 16384,
        recv_buffer_bytes: 64,
        ..Shape::default()
    });
    let count = affordable(300);
    let mut clients = connect_clients(&bench, count);
    let sockets: Vec<Socket> = (0..count).map(|_| bench.accepted().0).collect();
    for (number, socket) in sockets.iter().enumerate() {
        bench.ring.recv(annulus_ring::Key::new(number as u32, 1), socket, RecvMode::Multishot);
    }
    let mut heard = vec![Vec::new(); count];
    receive_all(&mut bench, &sockets, &mut heard, 4);
    // 300 clients, each with bytes for 40 buffers.
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&pattern(number as u32, 40 * 64)).unwrap();
    }
    receive_all(&mut bench, &sockets, &mut heard, 4 + 40 * 64);
    let mut numbers: Vec<u32> = heard.iter().map(|bytes| number_of(&bytes[..4])).collect();
    for (bytes, number) in heard.iter().zip(&numbers) {
        assert!(bytes[4..] == pattern(*number, 40 * 64), "bytes of client {number}");
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..count as u32));
    drop(clients);
    for _ in 0..count {
        assert!(matches!(bench.next(), Event::RecvEnded { end: RecvEnd::Eof, .. }));
    }
    for socket in sockets {
        bench.ring.close(socket);
    }
    bench.stays_quiet(Duration::from_millis(20));
}

/// Receives until each connection has `len` bytes; arms again when a receive ends.
fn receive_all<K: EngineKind>(
    bench: &mut Bench<K>,
    sockets: &[annulus_ring::Socket],
    heard: &mut [Vec<u8>],
    len: usize,
) {
    while heard.iter().any(|bytes| bytes.len() < len) {
        let (key, more) = match bench.next() {
            Event::Received { key, buffer, more } => {
                heard[key.slot() as usize].extend_from_slice(&buffer);
                (key, more)
            }
            Event::RecvEnded { key, end: RecvEnd::NoBuffers } => (key, false),
            other => panic!("unexpected: {other:?}"),
        };
        if !more {
            bench.ring.recv(key, &sockets[key.slot() as usize], RecvMode::Multishot);
        }
    }
}

//! Short sends, to peers that do not read: the rest comes back, and the client gets every byte
//! once.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annulus_ring::{Errno, Event, Key, RecvEnd, RecvMode, Ring, Socket, Unsent};
use socket2::{Domain, SockAddr, SockRef, Socket as PlainSocket, Type};

use crate::harness::{Bench, EngineKind, Shape, limit_send_buffer, on_every_engine, pattern};

/// More than the buffers of two sockets hold, so that it cannot be sent at once.
const LARGE: usize = 12 << 20;

on_every_engine!(
    the_rest_of_a_reply_comes_back_and_can_be_sent,
    unsent_bytes_counts_what_the_client_has_not_read,
    the_rest_of_a_last_reply_comes_back_with_the_socket,
    a_full_socket_takes_nothing_and_loses_nothing,
    several_short_sends_of_one_turn_are_reported_singly,
    a_short_send_is_reported_before_new_bytes,
    a_slow_reader_gets_every_byte,
    shutting_down_aborts_a_send_to_a_slow_reader,
    receiving_goes_on_beside_an_owned_send,
    shutting_down_aborts_an_owned_send,
    a_reset_by_the_peer_aborts_an_owned_send,
    a_short_send_is_reported_by_its_key_though_its_socket_is_closed,
);

fn large<K: EngineKind>() -> Bench<K> {
    Bench::shaped(Shape { send_buffer_bytes: LARGE, ..Shape::default() })
}

/// An accepted connection of a client with a small window; its first bytes are read.
fn narrow<K: EngineKind>(bench: &mut Bench<K>) -> (TcpStream, Key, Socket) {
    let client = PlainSocket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(4096).unwrap();
    client.connect(&SockAddr::from(bench.address)).unwrap();
    client.send(b"?").unwrap();
    let (socket, _) = bench.accepted();
    let key = bench.key();
    bench.ring.recv(key, &socket, RecvMode::Immediate);
    assert_eq!(&bench.received(key).0[..], b"?");
    let client = TcpStream::from(client);
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (client, key, socket)
}

/// Reads `len` bytes, or to the end, in another thread.
fn reader(mut client: TcpStream, len: Option<usize>) -> JoinHandle<(TcpStream, Vec<u8>)> {
    thread::spawn(move || {
        let mut got = vec![0; len.unwrap_or(0)];
        match len {
            Some(_) => client.read_exact(&mut got).unwrap(),
            None => {
                client.read_to_end(&mut got).unwrap();
            }
        }
        (client, got)
    })
}

fn the_rest_of_a_reply_comes_back_and_can_be_sent<K: EngineKind>() {
    let mut bench = large::<K>();
    let (client, key, socket) = narrow(&mut bench);
    let reply = pattern(1, LARGE);
    bench.fill_reply(&reply);
    bench.ring.send(key, &socket, LARGE);
    let rest = bench.incomplete(key).unwrap();
    assert!(!rest.is_empty() && rest.len() < LARGE);
    assert!(*rest == reply[LARGE - rest.len()..]);
    bench.ring.send_owned(key, &socket, rest);
    bench.stays_quiet(Duration::from_millis(20));
    let reading = reader(client, Some(LARGE));
    assert_eq!(bench.sent(key), Ok(()));
    // The connection still works.
    let (mut client, got) = reading.join().unwrap();
    assert!(got == reply);
    bench.fill_reply(b"next");
    bench.ring.send(key, &socket, 4);
    bench.turn(false);
    let mut next = [0; 4];
    client.read_exact(&mut next).unwrap();
    assert_eq!(&next, b"next");
    bench.ring.close(socket);
    bench.finish();
}

fn unsent_bytes_counts_what_the_client_has_not_read<K: EngineKind>() {
    let mut bench = large::<K>();
    let (client, key, socket) = narrow(&mut bench);
    let reply = pattern(3, LARGE);
    bench.fill_reply(&reply);
    assert_eq!(bench.ring.unsent_bytes(key, &socket), 0);
    bench.ring.send(key, &socket, LARGE);
    let rest = bench.incomplete(key);
    bench.ring.send_owned(key, &socket, rest.unwrap());
    bench.stays_quiet(Duration::from_millis(20));
    // Less the few kilobytes that fit into the client's buffer.
    let unsent = bench.ring.unsent_bytes(key, &socket);
    assert!((LARGE / 2..LARGE).contains(&unsent), "{unsent} of {LARGE} bytes");
    let reading = reader(client, Some(LARGE));
    assert_eq!(bench.sent(key), Ok(()));
    let (client, _) = reading.join().unwrap();
    let start = Instant::now();
    while bench.ring.unsent_bytes(key, &socket) > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "acknowledged, and not known");
        bench.turn(false);
    }
    drop(client);
    bench.ring.close(socket);
    bench.finish();
}

fn the_rest_of_a_last_reply_comes_back_with_the_socket<K: EngineKind>() {
    let mut bench = large::<K>();
    let (client, key, socket) = narrow(&mut bench);
    let fd = socket.raw();
    let reply = pattern(2, LARGE);
    bench.fill_reply(&reply);
    let Unsent { socket, rest } = bench.ring.send_and_close(socket, LARGE).unwrap_err();
    assert_eq!(socket.raw(), fd);
    bench.ring.send_owned(key, &socket, rest.unwrap());
    let reading = reader(client, None);
    assert_eq!(bench.sent(key), Ok(()));
    bench.ring.close(socket);
    bench.turn(false);
    assert!(reading.join().unwrap().1 == reply);
    bench.finish();
}

fn a_full_socket_takes_nothing_and_loses_nothing<K: EngineKind>() {
    let mut bench = large::<K>();
    let (client, key, socket) = narrow(&mut bench);
    let first = pattern(3, LARGE);
    bench.fill_reply(&first);
    bench.ring.send(key, &socket, LARGE);
    let rest = bench.incomplete(key);
    let taken = LARGE - rest.unwrap().len();
    bench.stays_quiet(Duration::from_millis(100));
    // There is some room again while segments reach the client; then there is none.
    let mut expected = first[..taken].to_vec();
    for round in 0.. {
        let reply = pattern(10 + round, LARGE);
        bench.fill_reply(&reply);
        bench.ring.send(key, &socket, LARGE);
        let rest = bench.incomplete(key).unwrap();
        assert!(*rest == reply[LARGE - rest.len()..]);
        expected.extend_from_slice(&reply[..LARGE - rest.len()]);
        if rest.len() == LARGE {
            break;
        }
        assert!(round < 100, "the socket never fills");
        bench.stays_quiet(Duration::from_millis(20));
    }
    let reading = reader(client, Some(expected.len()));
    assert!(reading.join().unwrap().1 == expected);
    bench.ring.close(socket);
    bench.finish();
}

fn several_short_sends_of_one_turn_are_reported_singly<K: EngineKind>() {
    let mut bench = large::<K>();
    let mut peers: Vec<_> = (0..6).map(|_| narrow(&mut bench)).collect();
    let mut readings = Vec::new();
    let mut keys = Vec::new();
    let mut sockets = Vec::new();
    for (at, (client, key, socket)) in peers.drain(..).enumerate() {
        // Small replies, which are sent completely, between the large ones.
        let len = if at % 2 == 0 { LARGE } else { 1000 };
        let reply = pattern(at as u32, len);
        bench.fill_reply(&reply);
        bench.ring.send(key, &socket, len);
        readings.push((client, reply));
        keys.push(key);
        sockets.push(socket);
    }
    let mut short = Vec::new();
    while short.len() < 3 {
        match bench.next() {
            Event::SendIncomplete { key, rest: Ok(rest) } => {
                let at = keys.iter().position(|of| *of == key).unwrap();
                assert_eq!(at % 2, 0, "a small one fell short");
                bench.ring.send_owned(key, &sockets[at], rest);
                short.push(key);
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    let readings: Vec<_> = readings
        .into_iter()
        .map(|(client, reply)| (reader(client, Some(reply.len())), reply))
        .collect();
    for _ in 0..3 {
        match bench.next() {
            Event::Sent { key, result: Ok(()) } if short.contains(&key) => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
    for (reading, reply) in readings {
        assert!(reading.join().unwrap().1 == reply);
    }
    for socket in sockets {
        bench.ring.close(socket);
    }
    bench.finish();
}

/// Otherwise the next request would be answered ahead of the rest of this reply.
fn a_short_send_is_reported_before_new_bytes<K: EngineKind>() {
    let mut bench = large::<K>();
    let peers: Vec<_> = (0..3).map(|_| narrow(&mut bench)).collect();
    let (client, key, socket) = &peers[2];
    bench.ring.recv(*key, socket, RecvMode::Multishot);
    bench.turn(false);
    SockRef::from(client).send(b"next request").unwrap();
    // Two of these fill the arena: the third send buffer makes the engine submit, and find the
    // request, in the middle of the turn.
    for (_, key, socket) in &peers {
        bench.fill_reply(&pattern(key.slot(), LARGE));
        bench.ring.send(*key, socket, LARGE);
    }
    let mut told = Vec::new();
    while told.len() < 4 {
        match bench.next() {
            Event::SendIncomplete { key, rest: Ok(_) } => told.push((key, "short")),
            Event::Received { key, .. } => told.push((key, "received")),
            other => panic!("unexpected: {other:?}"),
        }
    }
    let place = |event| told.iter().position(|told| *told == (*key, event)).unwrap();
    assert!(place("short") < place("received"), "{told:?}");
    if K::STAYS_ARMED {
        bench.ring.shutdown(socket, Shutdown::Both);
        assert_eq!(bench.recv_ended(*key), RecvEnd::Eof);
    }
    for (_client, _, socket) in peers {
        bench.ring.reset(socket);
    }
    bench.finish();
}

/// The kernel polls for room 128 times and then continues in a thread of its own, which so many
/// bytes through so small a buffer reach (24 MiB, 4 KiB).
fn a_slow_reader_gets_every_byte<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = narrow(&mut bench);
    limit_send_buffer(&socket, 4096);
    let bytes = pattern(4, 24 << 20);
    let expected = bytes.clone();
    bench.ring.send_owned(key, &socket, bytes.into());
    let reading = thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        for chunk in got.chunks_mut(3000) {
            client.read_exact(chunk).unwrap();
        }
        assert!(got == expected);
        client
    });
    assert_eq!(bench.sent(key), Ok(()));
    reading.join().unwrap();
    bench.ring.close(socket);
    bench.finish();
}

fn shutting_down_aborts_a_send_to_a_slow_reader<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (client, key, socket) = narrow(&mut bench);
    limit_send_buffer(&socket, 4096);
    bench.ring.send_owned(key, &socket, pattern(4, 24 << 20).into());
    let waker = bench.waker.clone();
    let reading = thread::spawn(move || {
        let client = reader(client, Some(16 << 20)).join().unwrap().0;
        waker.wake();
        client
    });
    assert!(matches!(bench.next(), Event::Wake));
    let _client = reading.join().unwrap();
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.shutdown(&socket, Shutdown::Both);
    assert_eq!(bench.sent(key), Err(Errno::PIPE));
    bench.ring.reset(socket);
    bench.finish();
}

fn receiving_goes_on_beside_an_owned_send<K: EngineKind>() {
    let mut bench = large::<K>();
    let (client, key, socket) = narrow(&mut bench);
    let reply = pattern(5, LARGE);
    bench.ring.send_owned(key, &socket, reply.clone().into());
    bench.ring.recv(key, &socket, RecvMode::Multishot);
    bench.stays_quiet(Duration::from_millis(20));
    for round in 0..10u8 {
        SockRef::from(&client).send(&[round]).unwrap();
        let (bytes, more) = bench.received(key);
        assert_eq!(&bytes[..], [round]);
        if !more {
            bench.ring.recv(key, &socket, RecvMode::Multishot);
        }
    }
    let reading = reader(client, Some(LARGE));
    assert_eq!(bench.sent(key), Ok(()));
    assert!(reading.join().unwrap().1 == reply);
    // The reader's socket is closed with its thread.
    assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
    bench.ring.close(socket);
    bench.finish();
}

fn shutting_down_aborts_an_owned_send<K: EngineKind>() {
    let mut bench = large::<K>();
    for armed in [false, true] {
        let (_client, key, socket) = narrow(&mut bench);
        bench.ring.send_owned(key, &socket, pattern(6, LARGE).into());
        if armed {
            bench.ring.recv(key, &socket, RecvMode::Multishot);
        }
        bench.stays_quiet(Duration::from_millis(20));
        bench.ring.shutdown(&socket, Shutdown::Both);
        let (mut sent, mut ended) = (false, !armed);
        while !(sent && ended) {
            match bench.next() {
                Event::Sent { key: of, result: Err(Errno::PIPE) } if of == key => sent = true,
                Event::RecvEnded { key: of, .. } if of == key => ended = true,
                other => panic!("unexpected: {other:?}"),
            }
        }
        bench.ring.reset(socket);
    }
    bench.finish();
}

fn a_reset_by_the_peer_aborts_an_owned_send<K: EngineKind>() {
    let mut bench = large::<K>();
    let (client, key, socket) = narrow(&mut bench);
    bench.ring.send_owned(key, &socket, pattern(7, LARGE).into());
    bench.stays_quiet(Duration::from_millis(20));
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let result = bench.sent(key);
    assert!(matches!(result, Err(Errno::CONNRESET | Errno::PIPE)), "{result:?}");
    bench.ring.close(socket);
    bench.finish();
}

fn a_short_send_is_reported_by_its_key_though_its_socket_is_closed<K: EngineKind>() {
    let mut bench = large::<K>();
    let (client, key, socket) = narrow(&mut bench);
    bench.fill_reply(&pattern(8, LARGE));
    bench.ring.send(key, &socket, LARGE);
    bench.ring.close(socket);
    assert!(bench.incomplete(key).is_ok());
    drop(client);
    bench.finish();
}

//! Sends that complete at once, and all ways to end a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use annulus_ring::{Errno, Event, RecvEnd, RecvMode, Ring, Socket, Unsent};
use socket2::SockRef;

use crate::harness::{Bench, EngineKind, on_every_engine, pattern};

on_every_engine!(
    a_complete_reply_has_no_event,
    a_reply_and_a_receive_in_one_turn,
    a_last_reply_arrives_whole_and_then_the_end,
    unread_bytes_do_not_cost_the_last_reply,
    a_last_reply_is_not_delayed_by_waiting,
    an_empty_owned_send_is_sent,
    sending_to_a_peer_that_reset_fails,
    a_last_reply_to_a_peer_that_reset_returns_the_socket,
    an_owned_send_to_a_peer_that_reset_fails,
    shutting_down_writes_leaves_reading,
    a_reset_is_a_reset,
    closing_is_an_end,
);

fn a_complete_reply_has_no_event<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.greeted();
    for round in 0..10 {
        let reply = pattern(round, 4096 - round as usize);
        bench.fill_reply(&reply);
        bench.ring.send(key, &socket, reply.len());
        bench.stays_quiet(Duration::from_millis(5));
        let mut got = vec![0; reply.len()];
        client.read_exact(&mut got).unwrap();
        assert!(got == reply);
    }
    bench.ring.close(socket);
    bench.finish();
}

fn a_reply_and_a_receive_in_one_turn<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.greeted();
    let mut armed = false;
    for round in 0..50u8 {
        bench.fill_reply(&[round]);
        bench.ring.send(key, &socket, 1);
        if !armed {
            bench.ring.recv(key, &socket, RecvMode::Multishot);
        }
        bench.turn(false);
        let mut got = [0];
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, [round]);
        client.write_all(&[round]).unwrap();
        let (bytes, more) = bench.received(key);
        assert_eq!(&bytes[..], [round]);
        armed = more;
    }
    drop(client);
    if !armed {
        bench.ring.recv(key, &socket, RecvMode::Multishot);
    }
    // The client has not read the last reply, so its close may be a reset.
    let end = bench.recv_ended(key);
    assert!(matches!(end, RecvEnd::Eof | RecvEnd::Error(Errno::CONNRESET)), "{end:?}");
    bench.ring.close(socket);
    bench.finish();
}

fn a_last_reply_arrives_whole_and_then_the_end<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    for len in [1, 245, 4096] {
        let (client, _, socket) = bench.greeted();
        let reply = pattern(len, len as usize);
        ends_with_the_whole(&mut bench, client, socket, &reply);
    }
    bench.finish();
}

/// Sends a last reply; the client gets every byte and then the end.
fn ends_with_the_whole<K: EngineKind>(
    bench: &mut Bench<K>,
    mut client: TcpStream,
    socket: Socket,
    reply: &[u8],
) {
    bench.fill_reply(reply);
    bench.ring.send_and_close(socket, reply.len()).unwrap();
    bench.turn(false);
    bench.turn(false);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == reply);
}

/// A close with unread bytes would be a reset, and drop the reply.
fn unread_bytes_do_not_cost_the_last_reply<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    for word in [&b"x"[..], &[b'x'; 5000]] {
        let (mut client, _, socket) = bench.greeted();
        client.write_all(word).unwrap();
        let start = Instant::now();
        while bench.ring.unread_bytes(&socket) < word.len() {
            assert!(start.elapsed() < Duration::from_secs(10), "the word does not arrive");
        }
        let reply = pattern(7, 4096);
        ends_with_the_whole(&mut bench, client, socket, &reply);
    }
    bench.finish();
}

/// The last segment is held back for the FIN: an engine that slept before the close would delay the
/// bytes by 200 ms and the end by more.
fn a_last_reply_is_not_delayed_by_waiting<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let (mut client, _, socket) = bench.greeted();
        bench.fill_reply(b"bye");
        bench.ring.send_and_close(socket, 3).unwrap();
        let (waker, start) = (bench.waker.clone(), Instant::now());
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            waker.wake();
            (got, start.elapsed())
        });
        assert!(matches!(bench.next(), Event::Wake));
        let (got, elapsed) = reader.join().unwrap();
        assert_eq!(got, b"bye");
        fastest = fastest.min(elapsed);
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    bench.finish();
}

fn an_empty_owned_send_is_sent<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (_client, key, socket) = bench.greeted();
    bench.ring.send_owned(key, &socket, Box::default());
    assert_eq!(bench.sent(key), Ok(()));
    bench.ring.close(socket);
    bench.finish();
}

/// Makes the peer reset the connection.
fn reset(client: std::net::TcpStream) {
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
}

fn sending_to_a_peer_that_reset_fails<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (client, key, socket) = bench.greeted();
    reset(client);
    bench.fill_reply(b"hello");
    bench.ring.send(key, &socket, 5);
    let rest = bench.incomplete(key);
    assert!(matches!(rest, Err(Errno::CONNRESET | Errno::PIPE)), "{rest:?}");
    bench.ring.close(socket);
    bench.finish();
}

fn a_last_reply_to_a_peer_that_reset_returns_the_socket<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (client, _, socket) = bench.greeted();
    let fd = socket.raw();
    reset(client);
    bench.fill_reply(b"hello");
    let Unsent { socket, rest } = bench.ring.send_and_close(socket, 5).unwrap_err();
    assert!(matches!(rest, Err(Errno::CONNRESET | Errno::PIPE)), "{rest:?}");
    assert_eq!(socket.raw(), fd);
    bench.ring.close(socket);
    bench.finish();
}

fn an_owned_send_to_a_peer_that_reset_fails<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (client, key, socket) = bench.greeted();
    reset(client);
    bench.ring.send_owned(key, &socket, b"hello"[..].into());
    assert!(matches!(bench.sent(key), Err(Errno::CONNRESET | Errno::PIPE)));
    bench.ring.close(socket);
    bench.finish();
}

fn shutting_down_writes_leaves_reading<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    for expect in [RecvMode::Immediate, RecvMode::Multishot] {
        let (mut client, key, socket) = bench.greeted();
        bench.fill_reply(b"bye");
        bench.ring.send(key, &socket, 3);
        bench.turn(false);
        bench.ring.shutdown(&socket, Shutdown::Write);
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"bye");
        bench.ring.recv(key, &socket, expect);
        client.write_all(b"one more thing").unwrap();
        let (bytes, more) = bench.received(key);
        assert_eq!(&bytes[..], b"one more thing");
        client.shutdown(Shutdown::Write).unwrap();
        if !more {
            bench.ring.recv(key, &socket, expect);
        }
        assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
        bench.ring.close(socket);
    }
    bench.finish();
}

fn a_reset_is_a_reset<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, _, socket) = bench.greeted();
    bench.ring.reset(socket);
    bench.turn(false);
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    bench.finish();
}

fn closing_is_an_end<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, _, socket) = bench.greeted();
    bench.ring.close(socket);
    bench.turn(false);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    bench.finish();
}

//! Receiving: every byte once and in order, and all ways in which a receive ends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use annulus_ring::{Errno, Event, Key, RecvEnd, RecvMode, Ring, Socket};
use socket2::SockRef;

use crate::harness::{Bench, EngineKind, Shape, on_every_engine, pattern};

on_every_engine!(
    one_receive_now_is_one_event,
    one_receive_for_later_waits_and_is_one_event,
    fewer_bytes_than_rcvlowat_do_not_complete_a_receive,
    fewer_bytes_than_rcvlowat_are_delivered_at_the_end,
    a_receive_for_later_stays_armed,
    bytes_that_came_before_the_receive_are_delivered,
    the_end_is_reported,
    bytes_and_end_together_are_both_reported,
    many_buffers_of_bytes_and_the_end_come_in_order,
    the_end_after_a_fruitless_receive_now_is_reported,
    a_reset_is_an_error,
    a_cancelled_receive_ends_and_can_be_armed_again,
    cancelling_loses_no_bytes,
    cancelling_nothing_is_silent,
    without_buffers_the_bytes_wait,
    one_greedy_peer_does_not_starve_another,
    shutting_down_ends_an_armed_receive,
    a_completion_carries_the_key_it_was_queued_with,
);

fn one_receive_now_is_one_event<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.greeted();
    client.write_all(b"more").unwrap();
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.recv(key, &socket, RecvMode::Immediate);
    assert_eq!(&bench.received(key).0[..], b"more");
    bench.ring.close(socket);
    bench.finish();
}

fn one_receive_for_later_waits_and_is_one_event<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.greeted();
    for round in 0..20u8 {
        bench.ring.recv(key, &socket, RecvMode::Once);
        bench.stays_quiet(Duration::from_millis(5));
        client.write_all(&[round; 100]).unwrap();
        let (bytes, more) = bench.received(key);
        assert_eq!(&bytes[..], [round; 100]);
        assert!(!more, "it ends with its first event");
    }
    client.write_all(b"unasked").unwrap();
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.recv(key, &socket, RecvMode::Once);
    assert_eq!(&bench.received(key).0[..], b"unasked");
    // Nothing is armed, so the last reply can end the connection.
    bench.ring.send_buffer()[..3].copy_from_slice(b"bye");
    bench.ring.send_and_close(socket, 3).unwrap();
    bench.stays_quiet(Duration::from_millis(20));
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
    bench.finish();
}

fn fewer_bytes_than_rcvlowat_do_not_complete_a_receive<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.greeted();
    bench.ring.set_rcvlowat(&socket, 10);
    bench.ring.recv(key, &socket, RecvMode::Once);
    client.write_all(b"four").unwrap();
    bench.stays_quiet(Duration::from_millis(30));
    client.write_all(b" and six").unwrap();
    assert_eq!(&bench.received(key).0[..], b"four and six");
    // Waiting bytes are delivered when the bound is lowered.
    bench.ring.recv(key, &socket, RecvMode::Once);
    client.write_all(b"few").unwrap();
    bench.stays_quiet(Duration::from_millis(30));
    bench.ring.set_rcvlowat(&socket, 1);
    assert_eq!(&bench.received(key).0[..], b"few");
    bench.ring.close(socket);
    bench.finish();
}

fn fewer_bytes_than_rcvlowat_are_delivered_at_the_end<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.greeted();
    bench.ring.set_rcvlowat(&socket, 10);
    bench.ring.recv(key, &socket, RecvMode::Once);
    client.write_all(b"four").unwrap();
    bench.stays_quiet(Duration::from_millis(20));
    drop(client);
    assert_eq!(&bench.received(key).0[..], b"four");
    bench.ring.recv(key, &socket, RecvMode::Once);
    assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
    bench.ring.close(socket);
    bench.finish();
}

fn a_receive_for_later_stays_armed<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.greeted();
    bench.ring.recv(key, &socket, RecvMode::Multishot);
    for round in 0..20u8 {
        bench.stays_quiet(Duration::from_millis(5));
        client.write_all(&[round; 100]).unwrap();
        let (bytes, more) = bench.received(key);
        assert_eq!(&bytes[..], [round; 100]);
        assert_eq!(more, K::STAYS_ARMED);
        if !more {
            bench.ring.recv(key, &socket, RecvMode::Multishot);
        }
    }
    drop(client);
    assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
    bench.ring.close(socket);
    bench.finish();
}

fn bytes_that_came_before_the_receive_are_delivered<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.pair(b"first");
    bench.ring.recv(key, &socket, RecvMode::Multishot);
    let (bytes, more) = bench.received(key);
    assert_eq!(&bytes[..], b"first");
    drop(bytes);
    if more {
        bench.ring.cancel_recv(key);
        assert_eq!(bench.recv_ended(key), RecvEnd::Cancelled);
    }
    // Again, now that the engine may poll the socket.
    client.write_all(b"second").unwrap();
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.recv(key, &socket, RecvMode::Multishot);
    assert_eq!(&bench.received(key).0[..], b"second");
    bench.ring.cancel_recv(key);
    if K::STAYS_ARMED {
        assert_eq!(bench.recv_ended(key), RecvEnd::Cancelled);
    }
    bench.ring.close(socket);
    bench.finish();
}

fn the_end_is_reported<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    for expect in [RecvMode::Immediate, RecvMode::Multishot] {
        for armed_before in [false, true] {
            let (client, key, socket) = bench.greeted();
            if armed_before {
                bench.ring.recv(key, &socket, expect);
                bench.stays_quiet(Duration::from_millis(10));
            }
            client.shutdown(Shutdown::Write).unwrap();
            if !armed_before {
                bench.stays_quiet(Duration::from_millis(10));
                bench.ring.recv(key, &socket, expect);
            }
            assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
            // A second receive reports the end again.
            bench.ring.recv(key, &socket, expect);
            assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
            bench.ring.close(socket);
        }
    }
    bench.finish();
}

fn bytes_and_end_together_are_both_reported<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    for second in [RecvMode::Immediate, RecvMode::Multishot] {
        for round in 0..25 {
            // Before the first receive.
            let mut client = bench.client();
            client.write_all(b"request").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let (socket, _) = bench.accepted();
            let key = bench.key();
            bench.ring.recv(key, &socket, RecvMode::Immediate);
            assert_eq!(&bench.received(key).0[..], b"request");
            bench.ring.recv(key, &socket, second);
            assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
            bench.ring.close(socket);

            // With an armed receive: one report may cover both.
            let (mut client, key, socket) = bench.greeted();
            bench.ring.recv(key, &socket, second);
            bench.turn(false);
            client.write_all(b"again").unwrap();
            if round % 2 == 0 {
                client.shutdown(Shutdown::Write).unwrap();
            } else {
                drop(client);
            }
            let (bytes, more) = bench.received(key);
            assert_eq!(&bytes[..], b"again");
            if !more {
                bench.ring.recv(key, &socket, second);
            }
            assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
            bench.ring.close(socket);
        }
    }
    bench.finish();
}

fn many_buffers_of_bytes_and_the_end_come_in_order<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let size = Shape::default().recv_buffer_bytes as usize;
    // Exactly full buffers are the difficult case: a full read may or may not be the last.
    for len in [1, size - 1, size, size + 1, 4 * size, 15 * size + 1, 300 * size] {
        for expect in [RecvMode::Immediate, RecvMode::Multishot] {
            let (mut client, key, socket) = bench.greeted();
            let sent = pattern(len as u32, len);
            let copy = sent.clone();
            let writer = thread::spawn(move || client.write_all(&copy).unwrap());
            assert!(bench.read_to_end(key, &socket, expect) == sent, "{len} bytes, {expect:?}");
            writer.join().unwrap();
            bench.ring.close(socket);
        }
    }
    bench.finish();
}

fn the_end_after_a_fruitless_receive_now_is_reported<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.greeted();
    bench.ring.recv(key, &socket, RecvMode::Immediate);
    bench.stays_quiet(Duration::from_millis(20));
    client.write_all(b"x").unwrap();
    let (bytes, more) = bench.received(key);
    assert_eq!((&bytes[..], more), (&b"x"[..], false));
    drop((client, bytes));
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.recv(key, &socket, RecvMode::Multishot);
    assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
    bench.ring.close(socket);
    bench.finish();
}

fn a_reset_is_an_error<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    for expect in [RecvMode::Immediate, RecvMode::Multishot] {
        for armed_before in [false, true] {
            let (client, key, socket) = bench.greeted();
            if armed_before {
                bench.ring.recv(key, &socket, expect);
                bench.stays_quiet(Duration::from_millis(10));
            }
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            if !armed_before {
                bench.stays_quiet(Duration::from_millis(10));
                bench.ring.recv(key, &socket, expect);
            }
            assert_eq!(bench.recv_ended(key), RecvEnd::Error(Errno::CONNRESET));
            bench.ring.close(socket);
        }
    }
    bench.finish();
}

fn a_cancelled_receive_ends_and_can_be_armed_again<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut client, key, socket) = bench.greeted();
    for expect in
        [RecvMode::Immediate, RecvMode::Multishot, RecvMode::Immediate, RecvMode::Multishot]
    {
        for submitted in [false, true] {
            bench.ring.recv(key, &socket, expect);
            if submitted {
                bench.stays_quiet(Duration::from_millis(5));
            }
            bench.ring.cancel_recv(key);
            assert_eq!(bench.recv_ended(key), RecvEnd::Cancelled);
        }
    }
    client.write_all(b"still there").unwrap();
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.recv(key, &socket, RecvMode::Immediate);
    assert_eq!(&bench.received(key).0[..], b"still there");
    bench.ring.close(socket);
    bench.finish();
}

fn cancelling_loses_no_bytes<K: EngineKind>() {
    // More buffers than one burst fills, so that it is the cancellation that ends the receive.
    let mut bench = Bench::<K>::shaped(Shape { recv_buffers: 512, ..Shape::default() });
    let (mut client, key, socket) = bench.greeted();
    let sent = pattern(7, 3 << 20);
    let copy = sent.clone();
    let writer = thread::spawn(move || {
        for chunk in copy.chunks(1234) {
            client.write_all(chunk).unwrap();
        }
    });
    let (mut all, mut received, mut cancelled) = (Vec::new(), 0, 0);
    bench.ring.recv(key, &socket, RecvMode::Multishot);
    loop {
        match bench.next() {
            Event::Received { buffer, more, .. } => {
                all.extend_from_slice(&buffer);
                received += 1;
                if !more {
                    bench.ring.recv(key, &socket, RecvMode::Multishot);
                } else if received % 5 == 0 {
                    bench.ring.cancel_recv(key);
                }
            }
            Event::RecvEnded { end: RecvEnd::Eof, .. } => break,
            Event::RecvEnded { end: end @ (RecvEnd::Cancelled | RecvEnd::NoBuffers), .. } => {
                cancelled += usize::from(end == RecvEnd::Cancelled);
                bench.ring.recv(key, &socket, RecvMode::Multishot);
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert!(all == sent);
    assert_eq!(cancelled > 0, K::STAYS_ARMED);
    writer.join().unwrap();
    bench.ring.close(socket);
    bench.finish();
}

fn cancelling_nothing_is_silent<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    bench.ring.cancel_recv(Key::new(3, 3));
    let (_client, key, socket) = bench.greeted();
    bench.ring.cancel_recv(key);
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.close(socket);
    bench.finish();
}

fn without_buffers_the_bytes_wait<K: EngineKind>() {
    let mut bench =
        Bench::<K>::shaped(Shape { recv_buffers: 4, recv_buffer_bytes: 256, ..Shape::default() });
    for expect in [RecvMode::Immediate, RecvMode::Multishot] {
        let (mut client, key, socket) = bench.greeted();
        let sent = pattern(9, 64 * 256 + 3);
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut all, mut held, mut shortages) = (Vec::new(), Vec::new(), 0);
        bench.ring.recv(key, &socket, expect);
        loop {
            match bench.next() {
                Event::Received { buffer, more, .. } => {
                    all.extend_from_slice(&buffer);
                    held.push(buffer);
                    assert!(held.len() <= 4);
                    if !more {
                        bench.ring.recv(key, &socket, expect);
                    }
                }
                Event::RecvEnded { end: RecvEnd::NoBuffers, .. } => {
                    assert_eq!(held.len(), 4, "buffers held when there were none left");
                    shortages += 1;
                    held.clear();
                    bench.ring.recv(key, &socket, expect);
                }
                Event::RecvEnded { end: RecvEnd::Eof, .. } => break,
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert!(all == sent);
        assert!(shortages >= 15, "{shortages} shortages");
        drop(held);
        bench.ring.close(socket);
    }
    bench.finish();
}

fn one_greedy_peer_does_not_starve_another<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (mut greedy, greedy_key, greedy_socket) = bench.greeted();
    let (mut modest, modest_key, modest_socket) = bench.greeted();
    let flood = thread::spawn(move || {
        let block = vec![1; 1 << 20];
        while greedy.write_all(&block).is_ok() {}
    });
    bench.ring.recv(greedy_key, &greedy_socket, RecvMode::Multishot);
    let mut answered = 0;
    modest.write_all(b"?").unwrap();
    bench.ring.recv(modest_key, &modest_socket, RecvMode::Multishot);
    let mut flooded = 0usize;
    while answered < 20 {
        assert!(flooded < 1 << 30, "{answered} answers to the modest peer in a gigabyte");
        let (key, socket) = match bench.next() {
            Event::Received { key, buffer, more } => {
                if key == modest_key {
                    answered += 1;
                    modest.write_all(b"?").unwrap();
                } else {
                    flooded += buffer.len();
                }
                if more {
                    continue;
                }
                (key, if key == modest_key { &modest_socket } else { &greedy_socket })
            }
            Event::RecvEnded { key, end: RecvEnd::NoBuffers } => {
                (key, if key == modest_key { &modest_socket } else { &greedy_socket })
            }
            other => panic!("unexpected: {other:?}"),
        };
        bench.ring.recv(key, socket, RecvMode::Multishot);
    }
    for (key, socket) in [(greedy_key, greedy_socket), (modest_key, modest_socket)] {
        end_receive(&mut bench, key, &socket);
        bench.ring.reset(socket);
    }
    bench.turn(false);
    flood.join().unwrap();
    bench.finish();
}

/// Cancels a receive; it and that of another connection may deliver bytes until then.
fn end_receive<K: EngineKind>(bench: &mut Bench<K>, key: Key, socket: &Socket) {
    bench.ring.shutdown(socket, Shutdown::Both);
    bench.ring.cancel_recv(key);
    loop {
        match bench.next() {
            Event::Received { key: of, more: false, .. } if of == key => return,
            Event::RecvEnded { key: of, .. } if of == key => return,
            Event::Received { .. } => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
}

fn shutting_down_ends_an_armed_receive<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    for expect in [RecvMode::Immediate, RecvMode::Multishot] {
        for submitted in [false, true] {
            let (_client, key, socket) = bench.greeted();
            bench.ring.recv(key, &socket, expect);
            if submitted {
                bench.stays_quiet(Duration::from_millis(5));
            }
            bench.ring.shutdown(&socket, Shutdown::Both);
            assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
            bench.ring.close(socket);
        }
    }
    bench.finish();
}

fn a_completion_carries_the_key_it_was_queued_with<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let slot = 5;
    let mut previous: Option<(TcpStream, Key)> = None;
    for generation in [0, 1, 2, Key::GENERATIONS - 1, 0] {
        let (client, _, socket) = bench.pair(b"x");
        let key = Key::new(slot, generation);
        bench.ring.recv(key, &socket, RecvMode::Immediate);
        assert_eq!(&bench.received(key).0[..], b"x");
        bench.ring.recv(key, &socket, RecvMode::Multishot);
        // The slot's earlier connection is gone: its operations and completions must not affect
        // this one.
        if let Some((mut earlier, earlier_key)) = previous.replace((client, key)) {
            let _ = earlier.write_all(b"too late");
            bench.ring.cancel_recv(earlier_key);
        }
        bench.stays_quiet(Duration::from_millis(10));
        bench.ring.shutdown(&socket, Shutdown::Both);
        assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
        bench.ring.close(socket);
        bench.turn(false);
    }
    bench.finish();
}

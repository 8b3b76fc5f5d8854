//! Sockets for datagrams that stop receiving.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use annulus_ring::{DatagramSocket, Errno, Event, Ring};

use crate::datagrams::{bind, client, datagram, reply};
use crate::harness::{Bench, EngineKind, on_every_engine};

on_every_engine!(
    finishing_delivers_what_waits_and_frees_the_port,
    a_socket_can_be_finished_before_it_receives,
    an_inherited_socket_keeps_its_queue,
    a_dropped_engine_frees_the_port,
);

/// Datagrams that wait when a socket is finished.
const COUNT: usize = 300;

/// The next turn of a bench in which something happens: answers its datagrams, and returns how
/// many, and whether the socket was closed after them.
fn answer_some<K: EngineKind>(bench: &mut Bench<K>) -> (usize, bool) {
    let (mut answered, mut finished) = (0, false);
    for event in bench.batch(true) {
        assert!(!finished, "after the end: {event:?}");
        match event {
            Event::Datagram(datagram) => {
                let request = datagram.payload().to_vec();
                reply(bench, &datagram, &request);
                answered += 1;
            }
            Event::DatagramsFinished { socket: 0 } => finished = true,
            other => panic!("unexpected: {other:?}"),
        }
    }
    (answered, finished)
}

fn finishing_delivers_what_waits_and_frees_the_port<K: EngineKind>() {
    for armed in [false, true] {
        let (socket, address) = bind("127.0.0.1:0");
        let mut bench = Bench::<K>::receiving(vec![socket]);
        if armed {
            bench.turn(false);
        }
        let clients: Vec<_> = (0..4).map(|_| client(address)).collect();
        for number in 0..COUNT {
            clients[number % 4].send(&number.to_be_bytes()).unwrap();
        }
        bench.ring.finish_datagrams(0);
        let mut answered = 0;
        loop {
            let (more, finished) = answer_some(&mut bench);
            answered += more;
            if finished {
                break;
            }
        }
        assert_eq!(answered, COUNT);
        // Without SO_REUSEPORT: the port is free.
        UdpSocket::bind(address).unwrap();
        for number in 0..COUNT {
            let mut answer = [0; 8];
            clients[number % 4].recv(&mut answer).unwrap();
            assert_eq!(usize::from_be_bytes(answer) % 4, number % 4);
        }
        bench.finish();
    }
}

fn a_socket_can_be_finished_before_it_receives<K: EngineKind>() {
    let (first, first_address) = bind("127.0.0.1:0");
    let (second, second_address) = bind("127.0.0.1:0");
    let mut bench = Bench::<K>::receiving(vec![first, second]);
    let client = client(second_address);
    client.send(b"request").unwrap();
    let last = datagram(&mut bench);
    for _ in 0..2 {
        bench.ring.finish_datagrams(0);
    }
    let finished = |event| matches!(event, Event::DatagramsFinished { socket: 0 });
    assert!(finished(bench.next()));
    UdpSocket::bind(first_address).unwrap();
    bench.ring.finish_datagrams(1);
    assert!(matches!(bench.next(), Event::DatagramsFinished { socket: 1 }));
    // Too late.
    reply(&mut bench, &last, b"reply");
    match bench.next() {
        Event::DatagramUnsent { socket: 1, errno: Errno::BADF } => {}
        other => panic!("not a failure: {other:?}"),
    }
    drop(last);
    bench.finish();
}

fn an_inherited_socket_keeps_its_queue<K: EngineKind>() {
    let kept = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = kept.local_addr().unwrap();
    let inherited = OwnedFd::from(kept.try_clone().unwrap());
    let mut bench = Bench::<K>::receiving(vec![DatagramSocket::inherited(inherited).unwrap()]);
    let client = client(address);
    client.send(b"request").unwrap();
    let last = datagram(&mut bench);
    bench.turn(false);
    for number in 0..COUNT {
        client.send(&number.to_be_bytes()).unwrap();
    }
    bench.ring.finish_datagrams(0);
    reply(&mut bench, &last, b"reply");
    drop(last);
    assert!(matches!(bench.next(), Event::DatagramsFinished { socket: 0 }));
    let mut bytes = [0; 8];
    assert_eq!(client.recv(&mut bytes).unwrap(), 5);
    kept.set_nonblocking(true).unwrap();
    for number in 0..COUNT {
        assert_eq!(kept.recv(&mut bytes).unwrap(), 8);
        assert_eq!(usize::from_be_bytes(bytes), number);
    }
    bench.finish();
}

fn a_dropped_engine_frees_the_port<K: EngineKind>() {
    for turns in 0..3 {
        let (socket, address) = bind("127.0.0.1:0");
        let mut bench = Bench::<K>::receiving(vec![socket]);
        for _ in 0..turns {
            client(address).send(b"request").unwrap();
            bench.turn(false);
        }
        client(address).send(b"request").unwrap();
        bench.abandon();
        UdpSocket::bind(address).unwrap();
    }
}

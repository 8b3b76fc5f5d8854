//! Datagrams and their replies.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use annulus_ring::{Datagram, DatagramSocket, Event, RecvMode, Ring};

use crate::harness::{Bench, EngineKind, on_every_engine};

on_every_engine!(
    a_datagram_is_answered,
    many_datagrams_are_answered_beside_a_connection,
    empty_and_long_datagrams_arrive,
);

const PATIENCE: Duration = Duration::from_secs(10);

/// One socket on the loopback address, and where it is.
fn bind(address: &str) -> (DatagramSocket, SocketAddr) {
    let mut group = DatagramSocket::bind_group(address.parse().unwrap(), 1).unwrap();
    let socket = group.pop().unwrap();
    let address = socket.address();
    (socket, address)
}

/// A client that is connected: it receives nothing from any other address.
fn client(to: SocketAddr) -> UdpSocket {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::LOCALHOST, 0).into(),
    };
    let client = UdpSocket::bind(any).unwrap();
    client.connect(to).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// The next event, which must be a datagram.
fn datagram<K: EngineKind>(bench: &mut Bench<K>) -> Datagram {
    match bench.next() {
        Event::Datagram(datagram) => datagram,
        other => panic!("not a datagram: {other:?}"),
    }
}

fn reply<K: EngineKind>(bench: &mut Bench<K>, to: &Datagram, bytes: &[u8]) {
    bench.ring.datagram_buffer()[..bytes.len()].copy_from_slice(bytes);
    bench.ring.send_datagram(to, bytes.len());
}

fn a_datagram_is_answered<K: EngineKind>() {
    let (socket, address) = bind("127.0.0.1:0");
    let mut bench = Bench::<K>::receiving(vec![socket]);
    let client = client(address);
    for round in 0..100_u8 {
        let request = vec![round; 1 + usize::from(round)];
        client.send(&request).unwrap();
        let datagram = datagram(&mut bench);
        assert_eq!(datagram.payload(), request);
        assert_eq!(datagram.from(), Some(client.local_addr().unwrap()));
        assert_eq!((datagram.to(), datagram.socket()), (None, 0));
        assert!(!datagram.is_truncated());
        let answer = vec![!round; 1000 + usize::from(round)];
        reply(&mut bench, &datagram, &answer);
        drop(datagram);
        bench.turn(false);
        let mut received = [0; 2048];
        let len = client.recv(&mut received).unwrap();
        assert_eq!(received[..len], answer);
    }
    bench.finish();
}

fn many_datagrams_are_answered_beside_a_connection<K: EngineKind>() {
    const COUNT: usize = 1000;
    const CLIENTS: usize = 10;
    let (first, first_address) = bind("127.0.0.1:0");
    let (second, second_address) = bind("[::1]:0");
    let mut bench = Bench::<K>::receiving(vec![first, second]);
    let (mut stream, key, socket) = bench.greeted();
    bench.ring.recv(key, &socket, RecvMode::Multishot);
    // So many that the replies fit their queues.
    let addresses = [first_address, second_address].into_iter().cycle();
    let clients: Vec<_> = addresses.take(CLIENTS).map(client).collect();
    for number in 0..COUNT {
        clients[number % CLIENTS].send(&number.to_be_bytes()).unwrap();
    }
    stream.write_all(b"ping").unwrap();
    let (mut answered, mut pongs) = (0, 0);
    while answered < COUNT || pongs < 50 {
        for event in bench.batch(true) {
            match event {
                Event::Datagram(datagram) => {
                    let mut answer = datagram.payload().to_vec();
                    answer.push(b'!');
                    answered += 1;
                    reply(&mut bench, &datagram, &answer);
                }
                Event::Received { buffer, more, .. } => {
                    assert_eq!(&buffer[..], b"ping");
                    bench.fill_reply(b"pong");
                    bench.ring.send(key, &socket, 4);
                    if !more {
                        bench.ring.recv(key, &socket, RecvMode::Multishot);
                    }
                    pongs += 1;
                    bench.turn(false);
                    let mut pong = [0; 4];
                    stream.read_exact(&mut pong).unwrap();
                    assert_eq!(&pong, b"pong");
                    if pongs < 50 {
                        stream.write_all(b"ping").unwrap();
                    }
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
    bench.turn(false);
    let mut numbers: Vec<usize> = (0..COUNT)
        .map(|number| {
            let mut answer = [0; 16];
            let len = clients[number % CLIENTS].recv(&mut answer).unwrap();
            assert_eq!((len, answer[8]), (9, b'!'));
            usize::from_be_bytes(answer[..8].try_into().unwrap())
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
    bench.ring.cancel_recv(key);
    bench.recv_ended(key);
    bench.ring.close(socket);
    bench.finish();
}

fn empty_and_long_datagrams_arrive<K: EngineKind>() {
    let (socket, address) = bind("127.0.0.1:0");
    let mut bench = Bench::<K>::receiving(vec![socket]);
    let client = client(address);
    for len in [0, 0, 1, 1936, 0, 1937, 9000, 0, 1472] {
        client.send(&vec![7; len]).unwrap();
        let datagram = datagram(&mut bench);
        assert_eq!(datagram.payload(), vec![7; len.min(1936)]);
        assert_eq!(datagram.is_truncated(), len > 1936);
        assert_eq!(datagram.from().map(|from| from.ip()), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    bench.finish();
}

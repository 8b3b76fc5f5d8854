//! Connecting, cancelling, and bounded waits.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use annulus_ring::{Connect, Errno, Event, Key, RecvEnd, RecvMode, Ring, Socket};
use socket2::{Domain, SockAddr, Type};

use crate::harness::{Bench, EngineKind, on_every_engine, pattern};

on_every_engine!(
    a_connection_carries_bytes_both_ways,
    a_connection_has_the_given_source_address,
    source_addresses_are_of_the_destinations_family,
    a_refused_connection_is_an_errno,
    a_source_of_another_host_is_an_errno,
    many_connections_in_one_turn,
    a_connect_can_be_cancelled,
    an_engine_may_be_dropped_while_it_connects,
    a_bounded_wait_ends_without_an_event,
    a_bounded_wait_ends_with_an_event,
);

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl<K: EngineKind> Bench<K> {
    /// The next event, which must be the end of `key`'s connect.
    fn connected(&mut self, key: Key) -> Result<Socket, Errno> {
        match self.next() {
            Event::Connected { key: of, result } if of == key => result,
            other => panic!("not the end of {key:?}'s connecting: {other:?}"),
        }
    }

    /// A connection to a listener, and its accepted side.
    fn dialed(&mut self, listener: &TcpListener) -> (TcpStream, Key, Socket) {
        let key = self.key();
        self.ring.connect(key, None, listener.local_addr().unwrap());
        let socket = self.connected(key).unwrap();
        (listener.accept().unwrap().0, key, socket)
    }
}

fn a_connection_carries_bytes_both_ways<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (listener, _) = listener();
    for expect in [RecvMode::Once, RecvMode::Multishot] {
        let (mut other, key, socket) = bench.dialed(&listener);
        let mut armed = false;
        for round in 0..20 {
            let sent = pattern(round, 300);
            bench.fill_reply(&sent);
            bench.ring.send(key, &socket, sent.len());
            if !armed {
                bench.ring.recv(key, &socket, expect);
            }
            bench.turn(false);
            let mut got = vec![0; sent.len()];
            other.read_exact(&mut got).unwrap();
            assert!(got == sent);
            other.write_all(&got[..100]).unwrap();
            let (bytes, more) = bench.received(key);
            assert!(bytes[..] == sent[..100]);
            armed = more;
        }
        drop(other);
        if !armed {
            bench.ring.recv(key, &socket, expect);
        }
        assert_eq!(bench.recv_ended(key), RecvEnd::Eof);
        bench.ring.close(socket);
    }
    bench.finish();
}

fn a_connection_has_the_given_source_address<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (listener, address) = listener();
    for last in [2, 77, 250] {
        let from = IpAddr::V4(Ipv4Addr::new(127, 3, 2, last));
        let key = bench.key();
        bench.ring.connect(key, Some(from), address);
        let socket = bench.connected(key).unwrap();
        let (_other, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), from);
        assert_eq!(socket.local_address(), Ok(peer));
        bench.ring.close(socket);
    }
    bench.finish();
}

fn source_addresses_are_of_the_destinations_family<K: EngineKind>() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let address = listener.local_addr().unwrap();
    let mut bench = Bench::<K>::new();
    let key = bench.key();
    bench.ring.connect(key, Some(address.ip()), address);
    let socket = bench.connected(key).unwrap();
    assert_eq!(socket.local_address().map(|it| it.ip()), Ok(address.ip()));
    bench.ring.close(socket);
    let key = bench.key();
    bench.ring.connect(key, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), address);
    bench.connected(key).unwrap_err();
    bench.finish();
}

fn a_refused_connection_is_an_errno<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (listener, address) = listener();
    drop(listener);
    let key = bench.key();
    bench.ring.connect(key, None, address);
    assert_eq!(bench.connected(key), Err(Errno::CONNREFUSED));
    bench.finish();
}

fn a_source_of_another_host_is_an_errno<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (_listener, address) = listener();
    let key = bench.key();
    // TEST-NET-1 (RFC 5737), which no host has.
    bench.ring.connect(key, Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))), address);
    assert_eq!(bench.connected(key), Err(Errno::ADDRNOTAVAIL));
    bench.finish();
}

fn many_connections_in_one_turn<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (listener, address) = listener();
    let keys: Vec<Key> = (0..100).map(|_| bench.key()).collect();
    for &key in &keys {
        bench.ring.connect(key, None, address);
    }
    let mut sockets = Vec::new();
    for _ in &keys {
        match bench.next() {
            Event::Connected { key, result: Ok(socket) } => sockets.push((key, socket)),
            other => panic!("not a connection: {other:?}"),
        }
        drop(listener.accept().unwrap());
    }
    sockets.sort_by_key(|(key, _)| key.slot());
    assert!(sockets.iter().map(|(key, _)| *key).eq(keys));
    for (_, socket) in sockets {
        bench.ring.close(socket);
    }
    bench.finish();
}

/// A listener whose full queue answers no handshake.
fn deaf() -> (socket2::Socket, SocketAddr, Vec<socket2::Socket>) {
    let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let fillers = (0..4).map(|_| {
        let filler = socket2::Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
        let _ = filler.connect(&address);
        filler
    });
    let fillers = fillers.collect();
    (listener, address.as_socket().unwrap(), fillers)
}

fn a_connect_can_be_cancelled<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (_listener, address, _fillers) = deaf();
    let key = bench.key();
    bench.ring.connect(key, None, address);
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.cancel_connect(key);
    assert_eq!(bench.connected(key), Err(Errno::CANCELED));
    bench.finish();
}

fn an_engine_may_be_dropped_while_it_connects<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (_listener, address, _fillers) = deaf();
    let (open, open_address) = listener();
    for to in [address, open_address] {
        let key = bench.key();
        bench.ring.connect(key, None, to);
    }
    bench.turn(false);
    drop(open);
    bench.abandon();
}

fn a_bounded_wait_ends_without_an_event<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let mut events = Vec::new();
    for _ in 0..20 {
        bench.ring.turn_within(&mut events, Duration::from_micros(500)).unwrap();
    }
    assert!(events.iter().all(|event| matches!(event, Event::Tick)), "{events:?}");
    bench.finish();
}

fn a_bounded_wait_ends_with_an_event<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (listener, _) = listener();
    let (mut other, key, socket) = bench.dialed(&listener);
    bench.ring.recv(key, &socket, RecvMode::Once);
    let mut events = Vec::new();
    bench.ring.turn_within(&mut events, Duration::ZERO).unwrap();
    other.write_all(b"x").unwrap();
    // Longer than the bound of a test: only the byte can end the wait.
    for _ in 0..100 {
        bench.ring.turn_within(&mut events, Duration::from_secs(600)).unwrap();
        if events.iter().any(|event| matches!(event, Event::Received { .. })) {
            break;
        }
    }
    let received = events.iter().any(|event| match event {
        Event::Received { key: of, buffer, .. } => *of == key && buffer[..] == *b"x",
        _ => false,
    });
    assert!(received, "{events:?}");
    drop(events);
    bench.ring.close(socket);
    bench.finish();
}

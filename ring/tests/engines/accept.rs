//! Listeners: who is accepted, when, and by which engine.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use annulus_ring::{AcceptEnd, Event, Expect, Inherited, Listener, RecvEnd, Ring};
use socket2::{Domain, SockRef, Socket as PlainSocket, Type};

use crate::harness::{Bench, Kind, Shape, alone, on_every_engine};

on_every_engine!(
    peers_have_their_ipv4_address,
    peers_have_their_ipv6_address,
    a_burst_is_accepted_whole,
    stopping_leaves_clients_in_the_queue,
    accepting_twice_is_accepting_once,
    finishing_serves_the_queue_then_refuses,
    finishing_while_accepting_serves_the_queue,
    a_group_spreads_over_two_engines,
    a_busy_engine_leaves_a_shared_socket_to_the_others,
    a_passed_socket_keeps_its_queue,
    a_client_that_reset_before_it_was_accepted_harms_nobody,
);

fn peers_have_their_ipv4_address<K: Kind>() {
    let mut bench = Bench::<K>::new();
    let (client, _, socket) = bench.pair(b"x");
    assert!(client.local_addr().unwrap().is_ipv4());
    bench.ring.close(socket);
    bench.finish();
}

fn peers_have_their_ipv6_address<K: Kind>() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        println!("SKIPPED: no IPv6 loopback: {error}");
        return;
    }
    let mut bench = Bench::<K>::shaped(Shape { address: "[::1]:0", ..Shape::default() });
    let (client, _, socket) = bench.pair(b"x");
    assert!(client.local_addr().unwrap().is_ipv6());
    bench.ring.close(socket);
    bench.finish();
}

fn a_burst_is_accepted_whole<K: Kind>() {
    let mut bench = Bench::<K>::new();
    // More than the epoll engine accepts in one turn.
    let mut clients: Vec<TcpStream> = (0..600).map(|_| bench.client()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    let mut peers: HashSet<SocketAddr> =
        clients.iter().map(|client| client.local_addr().unwrap()).collect();
    while !peers.is_empty() {
        let (socket, peer) = bench.accepted();
        assert!(peers.remove(&peer), "{peer} is nobody or came twice");
        bench.ring.close(socket);
    }
    bench.finish();
}

fn stopping_leaves_clients_in_the_queue<K: Kind>() {
    let mut bench = Bench::<K>::new();
    for _ in 0..3 {
        let (_client, _, socket) = bench.pair(b"x");
        bench.ring.close(socket);
        bench.ring.stop_accepting(0);
        assert_eq!(accept_ended(&mut bench), AcceptEnd::Stopped);
        let mut client = bench.client();
        client.write_all(b"x").unwrap();
        bench.stays_quiet(Duration::from_millis(100));
        bench.ring.accept(0);
        let (socket, peer) = bench.accepted();
        assert_eq!(peer, client.local_addr().unwrap());
        bench.ring.close(socket);
    }
    bench.finish();
}

fn accepting_twice_is_accepting_once<K: Kind>() {
    let mut bench = Bench::<K>::new();
    bench.ring.accept(0);
    let (_client, _, socket) = bench.pair(b"x");
    bench.ring.accept(0);
    bench.ring.stop_accepting(0);
    bench.ring.stop_accepting(0);
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Stopped);
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.accept(0);
    bench.ring.close(socket);
    bench.finish();
}

fn finishing_serves_the_queue_then_refuses<K: Kind>() {
    let mut bench = Bench::<K>::new();
    bench.ring.stop_accepting(0);
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Stopped);
    finish_with_a_queue(bench);
}

fn finishing_while_accepting_serves_the_queue<K: Kind>() {
    let mut bench = Bench::<K>::new();
    bench.turn(false);
    finish_with_a_queue(bench);
}

/// Clients that had spoken when the listener finished are served; later ones are refused.
fn finish_with_a_queue<K: Kind>(mut bench: Bench<K>) {
    let mut clients: Vec<TcpStream> = (0..20).map(|_| bench.client()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    bench.ring.finish_accepting(0);
    let sockets: Vec<_> = clients.iter().map(|_| bench.accepted().0).collect();
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Finished);
    for socket in sockets {
        let key = bench.key();
        // A byte that is unread at the close would turn it into a reset.
        bench.ring.recv(key, &socket, Expect::Now);
        drop(bench.received(key));
        bench.fill_reply(b"served");
        bench.ring.send_and_close(key, socket, 6);
    }
    bench.stays_quiet(Duration::from_millis(20));
    for client in &mut clients {
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "served");
    }
    let refused = TcpStream::connect(bench.address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    bench.ring.accept(0);
    bench.stays_quiet(Duration::from_millis(20));
}

fn a_group_spreads_over_two_engines<K: Kind>() {
    const CLIENTS: usize = 128;
    let (address, group) = Listener::bind_group("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let mut benches: Vec<Bench<K>> = group
        .into_iter()
        .map(|listener| Bench::over(Shape::default(), address, listener))
        .collect();
    for bench in &mut benches {
        bench.ring.accept(0);
        bench.turn(false);
    }
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| benches[0].client()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    let shares: Vec<usize> = benches.iter_mut().map(take_all).collect();
    assert_eq!(shares.iter().sum::<usize>(), CLIENTS);
    // Fewer than 16 of 128 by chance: once in 10^19 runs.
    assert!(shares.iter().all(|&share| share >= 16), "{shares:?}");
}

/// Engines over one socket that was passed to them, accepting; and the socket, as its owner
/// keeps it.
fn over_one_socket<K: Kind>(engines: usize) -> (TcpListener, Vec<Bench<K>>) {
    let owner = TcpListener::bind("127.0.0.1:0").unwrap();
    let passed = Inherited::new(owner.try_clone().unwrap().into(), "test").unwrap();
    let address = passed.address.tcp().unwrap();
    let benches = Inherited::spread(&[passed], engines).unwrap().into_iter().map(|listener| {
        let mut bench = Bench::<K>::over(Shape::default(), address, listener);
        bench.ring.accept(0);
        bench.turn(false);
        bench
    });
    let benches = benches.collect();
    (owner, benches)
}

fn a_busy_engine_leaves_a_shared_socket_to_the_others<K: Kind>() {
    let (_owner, mut benches) = over_one_socket::<K>(2);
    // The first in line never turns its loop again. It is woken once, and may have accepted what
    // it was woken for.
    let mut clients: Vec<TcpStream> = (0..20).map(|_| benches[1].client()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    let mut left: HashSet<SocketAddr> =
        clients.iter().map(|client| client.local_addr().unwrap()).collect();
    while left.len() > 1 {
        for event in benches[1].batch(true) {
            match event {
                Event::Accepted { socket, peer: Some(peer), .. } => {
                    assert!(left.remove(&peer), "{peer} is nobody or came twice");
                    benches[1].ring.close(socket);
                }
                Event::AcceptEnded { cause: AcceptEnd::Retired, .. } => benches[1].ring.accept(0),
                other => panic!("{other:?}"),
            }
        }
        assert!(benches[1].ticks < 10, "{left:?} were left waiting");
    }
    take_all(&mut benches[1]);
}

fn a_passed_socket_keeps_its_queue<K: Kind>() {
    let (owner, mut benches) = over_one_socket::<K>(1);
    let mut bench = benches.pop().unwrap();
    bench.ring.stop_accepting(0);
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Stopped);
    let mut client = bench.client();
    client.write_all(b"x").unwrap();
    bench.ring.finish_accepting(0);
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Finished);
    // The client is still where whoever listens next finds it.
    let (_, peer) = owner.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
}

/// Closes all that is in the queue, and counts it.
fn take_all<K: Kind>(bench: &mut Bench<K>) -> usize {
    let mut events = Vec::new();
    for _ in 0..3 {
        bench.ring.turn(&mut events, false).unwrap();
    }
    let mut count = 0;
    for event in events {
        if let Event::Accepted { socket, .. } = event {
            bench.ring.close(socket);
            count += 1;
        }
    }
    bench.turn(false);
    count
}

fn a_client_that_reset_before_it_was_accepted_harms_nobody<K: Kind>() {
    let mut bench = Bench::<K>::new();
    bench.ring.stop_accepting(0);
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Stopped);
    let mut gone = bench.client();
    gone.write_all(b"x").unwrap();
    SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
    drop(gone);
    let mut stays = bench.client();
    stays.write_all(b"x").unwrap();
    bench.ring.accept(0);
    let (mut socket, mut peer) = bench.accepted();
    if peer != stays.local_addr().unwrap() {
        // The engine may hand it out while its address is still known: it is good for
        // nothing.
        let useless = socket;
        (socket, peer) = bench.accepted();
        let key = bench.key();
        loop {
            bench.ring.recv(key, &useless, Expect::Now);
            match bench.next() {
                Event::Received { .. } => {}
                Event::RecvEnded { end: RecvEnd::Error(libc::ECONNRESET), .. } => break,
                other => panic!("unexpected: {other:?}"),
            }
        }
        bench.ring.close(useless);
    }
    assert_eq!(peer, stays.local_addr().unwrap());
    bench.ring.close(socket);
    bench.finish();
}

fn accept_ended<K: Kind>(bench: &mut Bench<K>) -> AcceptEnd {
    match bench.next() {
        Event::AcceptEnded { listener: 0, cause } => cause,
        other => panic!("not the end of accepting: {other:?}"),
    }
}

#[test]
fn an_address_in_use_is_refused() {
    let _alone = alone();
    let any = "127.0.0.1:0".parse().unwrap();
    let in_use = |address| match Listener::bind_group(address, 1) {
        Err(error) => error.kind() == ErrorKind::AddrInUse,
        Ok(_) => false,
    };

    let ours = Listener::bind_group(any, 2).unwrap();
    assert!(in_use(ours.0), "another group of ours");
    let address = ours.0;
    drop(ours);
    assert!(!in_use(address), "nobody any more");

    let plain = TcpListener::bind(any).unwrap();
    assert!(in_use(plain.local_addr().unwrap()), "a plain listener");

    let shared = PlainSocket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    shared.set_reuse_address(true).unwrap();
    shared.set_reuse_port(true).unwrap();
    shared.bind(&any.into()).unwrap();
    shared.listen(1).unwrap();
    let address = shared.local_addr().unwrap().as_socket().unwrap();
    assert!(in_use(address), "one that would share");
}

#[test]
fn an_address_of_closed_connections_is_free() {
    let _alone = alone();
    let (address, group) = Listener::bind_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    drop(group);
    let plain = TcpListener::bind(address).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let (served, _) = plain.accept().unwrap();
    // The server closes first, so its side waits in TIME_WAIT.
    drop((served, plain));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    drop(client);
    assert_eq!(Listener::bind_group(address, 2).unwrap().0, address);
}

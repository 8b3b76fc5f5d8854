//! Listeners: which connections are accepted, when, and by which engine.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus_ring::{
    AcceptEnd, ConnectionLimit, Errno, Event, Listener, RecvEnd, RecvMode, Ring, Socket,
};
use socket2::{Domain, SockRef, Socket as PlainSocket, Type};

use crate::harness::{Bench, EngineKind, Shape, alone, on_every_engine};

on_every_engine!(
    peers_have_their_ipv4_address,
    peers_have_their_ipv6_address,
    a_burst_is_accepted_whole,
    at_the_limit_clients_wait_in_the_queue,
    engines_share_their_limit,
    a_turn_accepts_a_bounded_number_from_all_listeners,
    finishing_at_the_limit_resets_waiting_clients,
    accepting_twice_is_accepting_once,
    finishing_serves_the_queue_then_refuses,
    finishing_while_accepting_serves_the_queue,
    a_group_spreads_over_two_engines,
    a_busy_engine_leaves_a_shared_socket_to_the_others,
    an_inherited_socket_keeps_its_queue,
    a_client_that_reset_before_it_was_accepted_is_harmless,
);

fn peers_have_their_ipv4_address<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let (client, _, socket) = bench.pair(b"x");
    assert!(client.local_addr().unwrap().is_ipv4());
    bench.ring.close(socket);
    bench.finish();
}

fn peers_have_their_ipv6_address<K: EngineKind>() {
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

fn a_burst_is_accepted_whole<K: EngineKind>() {
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

fn at_the_limit_clients_wait_in_the_queue<K: EngineKind>() {
    let mut bench = Bench::<K>::shaped(Shape { connections_max: 2, ..Shape::default() });
    let (_first, _, first) = bench.pair(b"x");
    let (_second, _, mut last) = bench.pair(b"x");
    for _ in 0..3 {
        let mut clients = [bench.client(), bench.client()];
        clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
        let end = accept_ended(&mut bench);
        let AcceptEnd::LimitReached { waiting: 1..=2 } = end else { panic!("{end:?}") };
        bench.stays_quiet(Duration::from_millis(50));
        // Each close makes room for one.
        for client in clients {
            bench.ring.close(last);
            assert!(matches!(bench.next(), Event::Wake));
            bench.ring.accept(0);
            let peer;
            (last, peer) = bench.accepted();
            assert_eq!(peer, client.local_addr().unwrap());
            drop(client);
            bench.turn(false);
            // The next one in the queue, if there is one.
            while let Some(event) = bench.batch(false).pop() {
                assert!(matches!(
                    event,
                    Event::AcceptEnded { cause: AcceptEnd::LimitReached { .. }, .. }
                ));
            }
        }
    }
    bench.ring.close(first);
    bench.ring.close(last);
    bench.turn(false);
    bench.turn(false);
}

fn engines_share_their_limit<K: EngineKind>() {
    const MAX: usize = 10;
    let limit = Arc::new(ConnectionLimit::new(MAX, MAX));
    let (address, group) = Listener::bind_group("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let mut benches: Vec<Bench<K>> = group
        .into_iter()
        .map(|listener| {
            let mut bench =
                Bench::<K>::sharing(Arc::clone(&limit), Shape::default(), address, vec![listener]);
            bench.ring.accept(0);
            bench
        })
        .collect();
    let mut clients: Vec<TcpStream> = (0..5 * MAX).map(|_| benches[0].client()).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
    let mut held: Vec<(usize, Socket)> = Vec::new();
    let mut left: HashSet<SocketAddr> =
        clients.iter().map(|client| client.local_addr().unwrap()).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !left.is_empty() {
        assert!(Instant::now() < deadline, "{} are never accepted", left.len());
        for (at, bench) in benches.iter_mut().enumerate() {
            for event in bench.batch(false) {
                match event {
                    Event::Accepted { socket, peer, .. } => {
                        assert!(left.remove(&peer.unwrap()), "{peer:?} is nobody or came twice");
                        held.push((at, socket));
                    }
                    Event::AcceptEnded { cause: AcceptEnd::LimitReached { waiting }, .. } => {
                        assert!(waiting > 0);
                    }
                    Event::Wake => bench.ring.accept(0),
                    other => panic!("{other:?}"),
                }
            }
            assert!(held.len() <= MAX && limit.open() <= MAX, "{} at once", held.len());
        }
        if held.len() == MAX {
            // A place released by one engine serves either.
            let (at, socket) = held.swap_remove(0);
            benches[at].ring.close(socket);
        }
    }
    for (at, socket) in held {
        benches[at].ring.close(socket);
    }
    benches.iter_mut().for_each(|bench| bench.turn(false));
    assert_eq!(limit.open(), 0);
}

fn a_turn_accepts_a_bounded_number_from_all_listeners<K: EngineKind>() {
    const BOUND: usize = 32;
    let any = "127.0.0.1:0".parse().unwrap();
    let (listeners, addresses): (Vec<Listener>, Vec<SocketAddr>) = (0..2)
        .map(|_| {
            let (address, mut group) = Listener::bind_group(any, 1).unwrap();
            (group.pop().unwrap(), address)
        })
        .unzip();
    let shape = Shape { accepts_per_turn: BOUND, ..Shape::default() };
    let limit = Arc::new(ConnectionLimit::unlimited());
    let mut bench = Bench::<K>::sharing(limit, shape, addresses[0], listeners);
    let mut clients: Vec<TcpStream> =
        (0..600).map(|at| TcpStream::connect(addresses[at % 2]).unwrap()).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
    bench.ring.accept(0);
    bench.ring.accept(1);
    let (mut turns, mut most, mut accepted) = (0, 0, [0; 2]);
    while accepted != [300; 2] {
        let mut now = [0; 2];
        for event in bench.batch(true) {
            let Event::Accepted { listener, socket, .. } = event else { panic!("{event:?}") };
            now[usize::from(listener)] += 1;
            bench.ring.close(socket);
        }
        let sum = now[0] + now[1];
        assert!(sum <= BOUND, "{sum} accepted in one turn");
        most = most.max(sum);
        turns += 1;
        for (all, now) in accepted.iter_mut().zip(now) {
            *all += now;
        }
        // No listener waits until the other's queue is empty.
        assert!(accepted[0].abs_diff(accepted[1]) <= 3 * BOUND, "{accepted:?}");
    }
    assert_eq!(most, BOUND);
    assert!(turns < 60, "{turns} turns for 600 connections");
    bench.turn(false);
}

fn accepting_twice_is_accepting_once<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    bench.ring.accept(0);
    let (_client, _, socket) = bench.pair(b"x");
    bench.ring.accept(0);
    bench.stays_quiet(Duration::from_millis(20));
    bench.ring.close(socket);
    bench.finish();
}

fn finishing_serves_the_queue_then_refuses<K: EngineKind>() {
    finish_with_a_queue(Bench::<K>::silent(Shape::default()));
}

fn finishing_while_accepting_serves_the_queue<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    bench.turn(false);
    finish_with_a_queue(bench);
}

/// Clients that had sent bytes when the listener finished are served; later ones are refused.
fn finish_with_a_queue<K: EngineKind>(mut bench: Bench<K>) {
    let mut clients: Vec<TcpStream> = (0..20).map(|_| bench.client()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    bench.ring.finish_accepting(0);
    let sockets: Vec<_> = clients.iter().map(|_| bench.accepted().0).collect();
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Finished);
    for socket in sockets {
        let key = bench.key();
        // A byte that is unread at the close would make it a reset.
        bench.ring.recv(key, &socket, RecvMode::Immediate);
        drop(bench.received(key));
        bench.fill_reply(b"served");
        bench.ring.send_and_close(socket, 6).unwrap();
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

fn finishing_at_the_limit_resets_waiting_clients<K: EngineKind>() {
    let mut bench = Bench::<K>::silent(Shape { connections_max: 3, ..Shape::default() });
    let mut clients: Vec<TcpStream> = (0..5).map(|_| bench.client()).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
    bench.ring.finish_accepting(0);
    let sockets: Vec<Socket> = (0..3).map(|_| bench.accepted().0).collect();
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Finished);
    let reset = |client: &mut TcpStream| client.read(&mut [0; 1]).is_err();
    assert_eq!(clients[3..].iter_mut().filter_map(|client| reset(client).then_some(())).count(), 2);
    for socket in sockets {
        bench.ring.close(socket);
    }
    bench.turn(false);
    bench.turn(false);
}

fn a_group_spreads_over_two_engines<K: EngineKind>() {
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
    // By chance fewer than 16 of 128 only once in 10^19 runs.
    assert!(shares.iter().all(|&share| share >= 16), "{shares:?}");
}

/// Accepting engines over one inherited socket, and the socket of its owner.
fn over_one_socket<K: EngineKind>(engines: usize) -> (TcpListener, Vec<Bench<K>>) {
    let owner = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = owner.local_addr().unwrap();
    let benches = (0..engines).map(|_| {
        let passed = owner.try_clone().unwrap().into();
        let listener = Listener::inherited(passed, engines > 1).unwrap();
        let mut bench = Bench::<K>::over(Shape::default(), address, listener);
        bench.ring.accept(0);
        bench.turn(false);
        bench
    });
    let benches = benches.collect();
    (owner, benches)
}

fn a_busy_engine_leaves_a_shared_socket_to_the_others<K: EngineKind>() {
    let (_owner, mut benches) = over_one_socket::<K>(2);
    // The first engine never turns again. The kernel wakes it once, and it may have accepted the
    // connection that it was woken for.
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
                other => panic!("{other:?}"),
            }
        }
        assert!(benches[1].ticks < 10, "{left:?} were left waiting");
    }
    take_all(&mut benches[1]);
}

fn an_inherited_socket_keeps_its_queue<K: EngineKind>() {
    let (owner, mut benches) = over_one_socket::<K>(1);
    let mut bench = benches.pop().unwrap();
    let mut client = bench.client();
    client.write_all(b"x").unwrap();
    bench.ring.finish_accepting(0);
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Finished);
    // The client is still in the queue for the next process.
    let (_, peer) = owner.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
}

/// Accepts and closes what is in the queue; returns the number.
fn take_all<K: EngineKind>(bench: &mut Bench<K>) -> usize {
    let (mut count, mut quiet_turns) = (0, 0);
    while quiet_turns < 3 {
        quiet_turns += 1;
        for event in bench.batch(false) {
            if let Event::Accepted { socket, .. } = event {
                bench.ring.close(socket);
                count += 1;
                quiet_turns = 0;
            }
        }
    }
    bench.turn(false);
    count
}

fn a_client_that_reset_before_it_was_accepted_is_harmless<K: EngineKind>() {
    let mut bench = Bench::<K>::silent(Shape::default());
    let mut gone = bench.client();
    gone.write_all(b"x").unwrap();
    SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
    drop(gone);
    let mut stays = bench.client();
    stays.write_all(b"x").unwrap();
    bench.ring.accept(0);
    let (mut socket, mut peer) = bench.accepted();
    if peer != stays.local_addr().unwrap() {
        // The engine may still deliver it while the kernel knows its address; it is unusable.
        let useless = socket;
        (socket, peer) = bench.accepted();
        let key = bench.key();
        loop {
            bench.ring.recv(key, &useless, RecvMode::Immediate);
            match bench.next() {
                Event::Received { .. } => {}
                Event::RecvEnded { end: RecvEnd::Error(Errno::CONNRESET), .. } => break,
                other => panic!("unexpected: {other:?}"),
            }
        }
        bench.ring.close(useless);
    }
    assert_eq!(peer, stays.local_addr().unwrap());
    bench.ring.close(socket);
    bench.finish();
}

fn accept_ended<K: EngineKind>(bench: &mut Bench<K>) -> AcceptEnd {
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
    // The server closes first, so TIME_WAIT is on its side.
    drop((served, plain));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    drop(client);
    assert_eq!(Listener::bind_group(address, 2).unwrap().0, address);
}

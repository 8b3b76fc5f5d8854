//! Datagrams and their replies.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use annulus_ring::{Datagram, DatagramSocket, Errno, Event, RecvMode, Ring, Uring};
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{Bench, EngineKind, alone, on_every_engine, trial};

on_every_engine!(
    a_datagram_is_answered,
    many_datagrams_are_answered_beside_a_connection,
    empty_and_long_datagrams_arrive,
    replies_leave_from_the_address_asked,
    replies_to_mapped_addresses_leave_from_the_address_asked,
    without_buffers_datagrams_wait,
    a_reply_that_cannot_be_sent_disturbs_no_other,
    engines_that_share_a_socket_get_each_datagram_once,
    quiet_shared_sockets_let_the_engine_sleep,
);

const PATIENCE: Duration = Duration::from_secs(10);

/// One socket on the loopback address, and where it is.
pub(crate) fn bind(address: &str) -> (DatagramSocket, SocketAddr) {
    let mut group = DatagramSocket::bind_group(address.parse().unwrap(), 1).unwrap();
    let socket = group.pop().unwrap();
    let address = socket.address();
    (socket, address)
}

/// A client that is connected: it receives nothing from any other address.
pub(crate) fn client(to: SocketAddr) -> UdpSocket {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    let client = UdpSocket::bind(any).unwrap();
    client.connect(to).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// The next event, which must be a datagram.
pub(crate) fn datagram<K: EngineKind>(bench: &mut Bench<K>) -> Datagram {
    match bench.next() {
        Event::Datagram(datagram) => datagram,
        other => panic!("not a datagram: {other:?}"),
    }
}

pub(crate) fn reply<K: EngineKind>(bench: &mut Bench<K>, to: &Datagram, bytes: &[u8]) {
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

/// A request from a client, and its reply.
fn exchange<K: EngineKind>(bench: &mut Bench<K>, client: &UdpSocket) -> Datagram {
    client.send(b"request").unwrap();
    let datagram = datagram(bench);
    assert_eq!(datagram.payload(), b"request");
    reply(bench, &datagram, b"reply");
    bench.turn(false);
    let mut received = [0; 16];
    let len = client.recv(&mut received).unwrap();
    assert_eq!(&received[..len], b"reply");
    datagram
}

fn replies_leave_from_the_address_asked<K: EngineKind>() {
    let (first, first_address) = bind("0.0.0.0:0");
    let (second, second_address) = bind("[::]:0");
    let mut bench = Bench::<K>::receiving(vec![first, second]);
    for ip in ["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        let port = if ip.is_ipv4() { first_address.port() } else { second_address.port() };
        let client = client((ip, port).into());
        let datagram = exchange(&mut bench, &client);
        assert_eq!(datagram.to(), Some(ip));
        assert_eq!(datagram.from(), Some(client.local_addr().unwrap()));
        assert_eq!(datagram.socket(), u16::from(ip.is_ipv6()));
    }
    bench.finish();
}

/// An inherited socket may serve IPv4 and IPv6.
fn replies_to_mapped_addresses_leave_from_the_address_asked<K: EngineKind>() {
    let dual = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
    dual.set_only_v6(false).unwrap();
    dual.set_nonblocking(true).unwrap();
    let any: SocketAddr = "[::]:0".parse().unwrap();
    dual.bind(&any.into()).unwrap();
    let socket = DatagramSocket::inherited(dual.into()).unwrap();
    let port = socket.address().port();
    let mut bench = Bench::<K>::receiving(vec![socket]);
    for ip in ["127.0.0.2", "::1", "127.0.0.1"] {
        let ip: IpAddr = ip.parse().unwrap();
        let client = client((ip, port).into());
        let datagram = exchange(&mut bench, &client);
        assert_eq!(datagram.to().map(|to| to.to_canonical()), Some(ip));
        let from = datagram.from().unwrap();
        assert_eq!(from.ip().to_canonical(), client.local_addr().unwrap().ip());
        assert!(from.is_ipv6());
    }
    bench.finish();
}

fn without_buffers_datagrams_wait<K: EngineKind>() {
    const COUNT: usize = 400;
    let (first, first_address) = bind("127.0.0.1:0");
    let (second, second_address) = bind("127.0.0.1:0");
    let mut bench = Bench::<K>::receiving(vec![first, second]);
    let clients = [client(first_address), client(second_address)];
    for number in 0..COUNT {
        clients[number % 2].send(&number.to_be_bytes()).unwrap();
    }
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let held = all_that_come(&mut bench);
        assert!(!held.is_empty() && numbers.len() + held.len() < COUNT, "{} held", held.len());
        // Connections are served meanwhile.
        let (_client, _, socket) = bench.greeted();
        bench.ring.close(socket);
        sleeps_until_a_tick(&mut bench);
        numbers.extend(held.iter().map(number_of));
    }
    while numbers.len() < COUNT {
        numbers.push(number_of(&datagram(&mut bench)));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
    bench.finish();
}

/// Datagrams until no more come.
fn all_that_come<K: EngineKind>(bench: &mut Bench<K>) -> Vec<Datagram> {
    let mut all = Vec::new();
    let mut fruitless = 0;
    while fruitless < 10 {
        let events = bench.batch(false);
        if events.is_empty() {
            fruitless += 1;
            thread::sleep(Duration::from_millis(1));
        }
        all.extend(events.into_iter().map(|event| match event {
            Event::Datagram(datagram) => datagram,
            other => panic!("not a datagram: {other:?}"),
        }));
    }
    all
}

fn number_of(datagram: &Datagram) -> usize {
    usize::from_be_bytes(datagram.payload().try_into().unwrap())
}

fn sleeps_until_a_tick<K: EngineKind>(bench: &mut Bench<K>) {
    let (ticks, sleeps) = (bench.ticks, sleeps());
    while bench.ticks == ticks {
        bench.turn(true);
    }
    assert_ne!(sleeps, self::sleeps(), "it does not sleep");
}

/// How often this thread has slept.
fn sleeps() -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
    line.unwrap().to_owned()
}

/// Nobody can be answered at port 0, which only a forged datagram comes from.
fn a_reply_that_cannot_be_sent_disturbs_no_other<K: EngineKind>() {
    let Ok(forger) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)) else {
        println!("SKIPPED: a raw socket needs privileges");
        return;
    };
    let (socket, address) = bind("127.0.0.1:0");
    let mut bench = Bench::<K>::receiving(vec![socket]);
    let gone = client(address);
    gone.send(b"gone").unwrap();
    drop(gone);
    let client = client(address);
    let mut datagrams = vec![datagram(&mut bench)];
    for forged in [true, false, true, true, false] {
        if forged {
            // Source, destination, length, and no checksum.
            let mut bytes = [0; 10];
            bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
            bytes[4..6].copy_from_slice(&10_u16.to_be_bytes());
            forger.send_to(&bytes, &address.into()).unwrap();
        } else {
            client.send(b"good").unwrap();
        }
        let datagram = datagram(&mut bench);
        assert_eq!(datagram.from().unwrap().port() == 0, forged);
        datagrams.push(datagram);
    }
    for datagram in &datagrams {
        reply(&mut bench, datagram, b"reply");
    }
    for _ in 0..3 {
        match bench.next() {
            Event::DatagramUnsent { socket: 0, errno: Errno::INVAL } => {}
            other => panic!("not a failure: {other:?}"),
        }
    }
    let mut received = [0; 16];
    for _ in 0..2 {
        assert_eq!(client.recv(&mut received).unwrap(), 5);
    }
    drop(datagrams);
    exchange(&mut bench, &client);
    bench.finish();
}

fn engines_that_share_a_socket_get_each_datagram_once<K: EngineKind>() {
    const COUNT: usize = 200;
    let shared = UdpSocket::bind("127.0.0.1:0").unwrap();
    let inherit = || DatagramSocket::inherited(shared.try_clone().unwrap().into()).unwrap();
    let mut benches: Vec<_> = (0..2).map(|_| Bench::<K>::receiving(vec![inherit()])).collect();
    let client = client(shared.local_addr().unwrap());
    let mut numbers = Vec::new();
    for number in 0..COUNT {
        client.send(&number.to_be_bytes()).unwrap();
        if number % 3 == 0 {
            let more = benches.iter_mut().flat_map(|bench| bench.batch(false));
            numbers.extend(more.collect::<Vec<_>>());
        }
    }
    while numbers.len() < COUNT {
        let more = benches.iter_mut().flat_map(|bench| bench.batch(false));
        numbers.extend(more.collect::<Vec<_>>());
    }
    let mut numbers: Vec<usize> = numbers
        .into_iter()
        .map(|event| match event {
            Event::Datagram(datagram) => number_of(&datagram),
            other => panic!("not a datagram: {other:?}"),
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
    benches.into_iter().for_each(Bench::finish);
}

/// They are tried once a second, more of them than a turn tries.
fn quiet_shared_sockets_let_the_engine_sleep<K: EngineKind>() {
    let shared: Vec<_> = (0..6).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let inherit =
        |socket: &UdpSocket| DatagramSocket::inherited(socket.try_clone().unwrap().into());
    let sockets = shared.iter().map(|socket| inherit(socket).unwrap()).collect();
    let mut bench = Bench::<K>::receiving(sockets);
    for _ in 0..2 {
        sleeps_until_a_tick(&mut bench);
    }
    let client = client(shared[5].local_addr().unwrap());
    exchange(&mut bench, &client);
    bench.finish();
}

/// Otherwise the tests above would try the oldest kernel's ways twice.
#[test]
fn the_newest_engine_uses_what_the_kernel_has() {
    let _alone = alone();
    let Ok(ring) = Uring::new(trial(vec![bind("127.0.0.1:0").0])) else {
        println!("SKIPPED: no io_uring");
        return;
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    let capabilities = ring.capabilities();
    assert!(capabilities.multishot_recv || version < (6, 0));
    assert!(capabilities.multishot_recvmsg || version < (6, 0));
    assert!(capabilities.skip_success_sends || version < (6, 1));
    assert!(capabilities.send_to || version < (6, 2));
}

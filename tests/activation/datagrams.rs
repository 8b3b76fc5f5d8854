//! Passed sockets for datagrams: how they are shared and kept, and why some are refused.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{set_socket_recv_buffer_size_force, socket_recv_buffer_size};
use socket2::{Domain, Socket, Type};

use super::manager::{Service, WITHOUT_UDP, announce};
use super::restart::restarted_under_load;
use crate::support::tracker::{Engine, TIMEOUT, has_v6, test_both_engines, wait_for};

test_both_engines!(
    one_is_shared_by_the_workers,
    each_of_a_group_is_served,
    those_of_http_and_udp_are_told_apart,
    restarts_lose_no_request,
);

/// A connect request of BEP 15: protocol, action and transaction id.
const CONNECT: [u8; 16] = [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 1, 2, 3, 4];

/// Sends a request, and waits for its reply.
fn ask(address: SocketAddr) -> Result<(), String> {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client.send(&CONNECT).map_err(|error| format!("sending: {error}"))?;
    let mut reply = [0; 64];
    loop {
        match client.recv(&mut reply) {
            Ok(16) if reply[..8] == CONNECT[8..] => return Ok(()),
            Ok(len) => return Err(format!("answered {:?}", &reply[..len])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("receiving: {error}")),
        }
    }
}

fn bound(address: &str) -> (OwnedFd, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (socket.into(), address)
}

/// A service of two workers with these sockets, which receives datagrams at `address`.
fn service(engine: Engine, address: SocketAddr, sockets: Vec<OwnedFd>) -> Service {
    let mut service = Service::new(engine, &["127.0.0.1:0".parse().unwrap()], sockets);
    let udp = format!("udp.listen = [\"{address}\"]\n");
    service.config = service.config.replace(WITHOUT_UDP, &udp);
    service
}

fn one_is_shared_by_the_workers(engine: Engine) {
    let (passed, address) = bound("127.0.0.1:0");
    let tracker = service(engine, address, vec![passed]).start(1);
    tracker.assert_logged(&format!("{address} (udp) was passed (first.socket)"));
    tracker.assert_logged(&format!("listening on {address} (udp)"));
    for _ in 0..64 {
        ask(address).unwrap();
    }
}

/// Two sockets with one address, between which the kernel distributes clients.
fn group() -> (Vec<OwnedFd>, SocketAddr) {
    let bind = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (OwnedFd::from(socket), address)
    };
    let (first, address) = bind("127.0.0.1:0".parse().unwrap());
    (vec![first, bind(address).0], address)
}

fn each_of_a_group_is_served(engine: Engine) {
    let (sockets, address) = group();
    let _tracker = service(engine, address, sockets).start(1);
    // The chance that all 64 land in one of two queues is 1 in 10^19.
    for _ in 0..64 {
        ask(address).unwrap();
    }
}

/// Both have the address of `listen`, which `udp.listen` follows by default.
fn those_of_http_and_udp_are_told_apart(engine: Engine) {
    let (udp, http, address) = wait_for("a port that is free for both", || {
        let (udp, address) = bound("127.0.0.1:0");
        let http = TcpListener::bind(address).ok()?;
        Some((udp, OwnedFd::from(http), address))
    });
    let mut service = Service::new(engine, &[address], vec![udp, http]);
    service.config = service.config.replace(WITHOUT_UDP, "");
    let tracker = service.start(1);
    tracker.assert_logged(&format!("{address} (udp) was passed (first.socket)"));
    tracker.assert_logged(&format!("{address} was passed (second.socket)"));
    ask(address).unwrap();
    announce(address).unwrap();
}

/// What a stopping tracker does not answer waits in the manager's socket for the next one.
fn restarts_lose_no_request(engine: Engine) {
    let (passed, address) = bound("127.0.0.1:0");
    restarted_under_load(&service(engine, address, vec![passed]), || ask(address));
}

#[test]
fn more_sockets_than_workers_are_refused() {
    let (sockets, address) = group();
    let mut service = service(Engine::Epoll, address, sockets);
    service.config = service.config.replace("workers = 2", "workers = 1");
    service.refused(&[
        &format!("2 sockets were passed for {address} (udp) (first.socket)"),
        "1 workers",
        "ListenDatagram=",
    ]);
}

/// Those of HTTP do not claim it.
#[test]
fn a_socket_that_is_not_configured_is_refused() {
    let (passed, address) = bound("127.0.0.1:0");
    let service = Service::new(Engine::Epoll, &[address], vec![passed]);
    let what = format!("{address} (udp) (first.socket)");
    service.refused(&[&what, "add it to `udp.listen`", "ListenDatagram="]);
}

#[test]
fn a_socket_that_is_wider_or_narrower_than_configured_is_refused() {
    for (passed, ours) in [("0.0.0.0:0", "127.0.0.1"), ("127.0.0.1:0", "0.0.0.0")] {
        let (passed, address) = bound(passed);
        let ours = SocketAddr::new(ours.parse().unwrap(), address.port());
        let service = service(Engine::Epoll, ours, vec![passed]);
        let (ours, address) = (format!("{ours} (udp)"), format!("{address} (udp)"));
        service.refused(&[&ours, &address, "first.socket", "includes", "ListenDatagram="]);
    }
}

#[test]
fn a_socket_for_both_families_is_refused() {
    if !has_v6() {
        eprintln!("skipped: no IPv6 loopback");
        return;
    }
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let service = service(Engine::Epoll, address, vec![socket.into()]);
    service.refused(&["descriptor 3", "first.socket", "BindIPv6Only=ipv6-only"]);
}

/// The manager may ask for more than a tracker without privileges may.
#[test]
fn the_queue_of_a_passed_socket_is_not_shortened() {
    let (passed, address) = bound("127.0.0.1:0");
    if let Err(error) =
        set_socket_recv_buffer_size_force(&passed, 2 * annulus_ring::DATAGRAM_QUEUE_BYTES)
    {
        eprintln!("skipped: {error}");
        return;
    }
    let given = socket_recv_buffer_size(&passed).unwrap();
    let service = service(Engine::Epoll, address, vec![passed]);
    drop(service.start(1));
    assert_eq!(socket_recv_buffer_size(&service.sockets[0]).unwrap(), given);
}

//! Passed sockets: which are accepted, and why others are refused.

use std::env::temp_dir;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;

use socket2::{Domain, Socket, Type};

use super::manager::{Service, announce, socket};
use crate::support::authority::{Authority, KeyKind};
use crate::support::requirements::TempDir;
use crate::support::tracker::{Engine, TIMEOUT, Tracker, has_v6, test_both_engines};

test_both_engines!(
    one_is_passed_and_one_is_bound,
    each_of_a_group_is_served,
    those_for_https_and_operations_are_served,
    unix_sockets_are_served_and_kept,
);

fn one_is_passed_and_one_is_bound(engine: Engine) {
    let (passed, address) = socket();
    let ours: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let tracker = Service::new(engine, &[ours, address], vec![passed]).start(2);
    tracker.assert_logged(&format!("{address} was passed (first.socket)"));
    let listening = tracker.wait_listening("", 2).unwrap();
    assert_eq!(listening[1], address);
    for address in listening {
        announce(address).unwrap();
    }
}

/// Two sockets with one address, between which the kernel distributes connections.
pub(crate) fn group() -> (Vec<OwnedFd>, SocketAddr) {
    let listen = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (OwnedFd::from(socket), address)
    };
    let (first, address) = listen("127.0.0.1:0".parse().unwrap());
    (vec![first, listen(address).0], address)
}

fn each_of_a_group_is_served(engine: Engine) {
    let (sockets, address) = group();
    let _tracker = Service::new(engine, &[address], sockets).start(1);
    // The chance that all 64 land in one of two queues is 1 in 10^19.
    for _ in 0..64 {
        announce(address).unwrap();
    }
}

fn those_for_https_and_operations_are_served(engine: Engine) {
    let authority = Authority::new(&[Ipv4Addr::LOCALHOST.into()]);
    authority.issue("tracker.test", KeyKind::P256);
    let (chain, key) = (authority.path("tracker.test.pem"), authority.path("tracker.test.key"));
    let ((secured, https), (observed, operations)) = (socket(), socket());
    let mut service = Service::new(engine, &[address_of_any()], vec![secured, observed]);
    service.config += &format!(
        "[tls]\nlisten = [\"{https}\"]\n\
         certificates = [{{ chain = {chain:?}, key = {key:?} }}]\n\
         [operations]\nlisten = [\"{operations}\"]\n"
    );
    let tracker = service.start(1);
    tracker.assert_logged(&format!("{https} was passed (first.socket)"));
    tracker.assert_logged(&format!("{operations} was passed (second.socket)"));
    tracker.assert_logged(&format!("operations on {operations}"));
    // Only a listener with TLS answers this.
    assert!(announce(https).unwrap_err().contains("This port speaks TLS"));
    let mut stream = TcpStream::connect(operations).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
}

/// As `ListenStream=/run/annulus/http.sock` creates one.
fn unix_sockets_are_served_and_kept(engine: Engine) {
    let scratch = TempDir::new(&format!("passed-unix-{}", engine.name()));
    let path = scratch.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let address = format!("unix:{}", path.display());
    let mut service = Service::new(engine, &[address_of_any()], vec![listener.into()]);
    let listen = format!("listen = [\"{address}\", ");
    service.config = service.config.replacen("listen = [", &listen, 1);
    service.config += "[proxy]\nheader = \"X-Real-IP\"\n";
    for _ in 0..2 {
        let mut tracker = service.start(1);
        tracker.assert_logged(&format!("{address} was passed (first.socket)"));
        // Both workers accept from it.
        for _ in 0..20 {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            let request = "GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&port=1 HTTP/1.1\r\n\
                           X-Real-IP: 203.0.113.7\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.windows(4).any(|bytes| bytes == [203, 0, 113, 7]));
        }
        tracker.signal("TERM");
        let (status, log) = tracker.wait_exit();
        assert!(status.success(), "{log}");
        assert!(path.exists(), "it is not the tracker's to remove");
    }
}

#[test]
fn more_sockets_than_workers_are_refused() {
    let (sockets, address) = group();
    let mut service = Service::new(Engine::Epoll, &[address], sockets);
    service.config = service.config.replace("workers = 2", "workers = 1");
    service.refused(&["2 sockets were passed", &address.to_string(), "1 workers", "first.socket"]);
}

#[test]
fn a_socket_that_is_not_configured_is_refused() {
    let (passed, address) = socket();
    let ours = "127.0.0.1:0".parse().unwrap();
    let service = Service::new(Engine::Epoll, &[ours], vec![passed]);
    service.refused(&[&address.to_string(), "first.socket", "add it to `listen`"]);
}

#[test]
fn a_socket_that_is_wider_or_narrower_than_configured_is_refused() {
    for (passed, ours) in [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")] {
        let passed: OwnedFd = TcpListener::bind((passed, 0)).unwrap().into();
        let address = TcpListener::from(passed.try_clone().unwrap()).local_addr().unwrap();
        let ours = SocketAddr::new(ours.parse().unwrap(), address.port());
        let service = Service::new(Engine::Epoll, &[ours], vec![passed]);
        service.refused(&[&ours.to_string(), &address.to_string(), "first.socket", "includes"]);
    }
}

#[test]
fn a_socket_for_both_families_is_refused() {
    if !has_v6() {
        eprintln!("skipped: no IPv6 loopback");
        return;
    }
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(1).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let service = Service::new(Engine::Epoll, &[address], vec![socket.into()]);
    service.refused(&["descriptor 3", "first.socket", "BindIPv6Only=ipv6-only"]);
}

#[test]
fn sockets_of_other_kinds_are_refused() {
    let (good, address) = socket();
    let (unix, _) = UnixDatagram::pair().unwrap();
    let service = Service::new(Engine::Epoll, &[address], vec![good, unix.into()]);
    service.refused(&["descriptor 4", "second.socket", "not a TCP or UDP socket"]);

    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    deaf.bind(&address_of_any().into()).unwrap();
    let service = Service::new(Engine::Epoll, &[address], vec![deaf.into()]);
    service.refused(&["descriptor 3", "does not listen"]);
}

fn address_of_any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[test]
fn a_missing_descriptor_is_refused() {
    let (sockets, address) = group();
    let mut service = Service::new(Engine::Epoll, &[address], sockets);
    service.environment.push("LISTEN_FDS=40".to_owned());
    service.refused(&["LISTEN_FDS=40", "descriptor 5 is not open"]);
}

#[test]
fn sockets_for_another_process_are_ignored() {
    let service = Service::new(Engine::Epoll, &[address_of_any()], Vec::new());
    let mut command = Command::new("env");
    command.args(["LISTEN_PID=1", "LISTEN_FDS=7", env!("CARGO_BIN_EXE_annulus")]);
    let tracker = Tracker::spawn(command, &temp_dir(), &service.config);
    announce(tracker.wait_listening("", 1).unwrap()[0]).unwrap();
}

#[test]
fn a_passed_socket_has_defer_accept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let passed = listener.try_clone().unwrap().into();
    drop(Service::new(Engine::Epoll, &[address], vec![passed]).start(1));
    let _silent = TcpStream::connect(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

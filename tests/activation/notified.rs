//! What the manager is told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::process::id;

use crate::manager::Service;
use crate::tracker::{Engine, PATIENCE, Tracker};

/// The next message, line by line.
#[track_caller]
fn told(socket: &UnixDatagram) -> Vec<String> {
    let mut message = [0; 4096];
    let length = socket.recv(&mut message).expect("a message");
    String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned).collect()
}

/// Runs a service whose manager listens at `name`, from its start to its end.
fn told_of_a_life(socket: &UnixDatagram, name: &str) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let ours = "127.0.0.1:0".parse().unwrap();
    let mut service = Service::new(Engine::Epoll, &[ours], Vec::new());
    service.environment.push(format!("NOTIFY_SOCKET={name}"));
    let mut tracker: Tracker = service.launch();

    let ready = told(socket);
    let address = tracker.listening("", 1).unwrap()[0];
    assert_eq!(ready, ["READY=1".to_owned(), format!("STATUS=listening on {address}")]);

    tracker.signal("HUP");
    let [reloading, at] = told(socket).try_into().unwrap();
    assert_eq!(reloading, "RELOADING=1");
    let at_us: u64 = at.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let up_s: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    assert!(at_us > 0 && at_us as f64 <= (up_s + 1.0) * 1e6, "{at_us} of {up_s} s");
    assert_eq!(told(socket), ready);

    tracker.signal("TERM");
    assert_eq!(told(socket)[0], "STOPPING=1");
    let (status, log) = tracker.ended();
    assert!(status.success(), "{log}");
}

#[test]
fn at_an_abstract_name() {
    let name = format!("annulus-test-{}", id());
    let address = UnixAddress::from_abstract_name(&name).unwrap();
    told_of_a_life(&UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}"));
}

#[test]
fn at_a_path() {
    let path = std::env::temp_dir().join(format!("annulus-test-{}.notify", id()));
    let socket = UnixDatagram::bind(&path).unwrap();
    told_of_a_life(&socket, path.to_str().unwrap());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_manager_that_is_not_there_is_no_reason_not_to_serve() {
    let ours = "127.0.0.1:0".parse().unwrap();
    let mut service = Service::new(Engine::Epoll, &[ours], Vec::new());
    service.environment.push("NOTIFY_SOCKET=/nonexistent/notify".to_owned());
    service.start(1).assert_logged("the service manager at NOTIFY_SOCKET cannot be told");
}

//! Notifications to the service manager.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::manager::{Service, WITHOUT_UDP};
use super::traced::Traced;
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines};

test_both_engines!(a_stuck_worker_stops_the_messages_to_the_watchdog);

/// The lines of the next message.
#[track_caller]
fn told(socket: &UnixDatagram) -> Vec<String> {
    let mut message = [0; 4096];
    // A wait with a timeout may end early because the process was stopped meanwhile (signal(7)).
    let length = loop {
        match socket.recv(&mut message) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => break received.expect("a message"),
        }
    };
    String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned).collect()
}

/// Runs a service from start to stop; its manager listens on `name`.
fn notifies_of_start_reload_and_stop(socket: &UnixDatagram, name: &str) {
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let ours = "127.0.0.1:0".parse().unwrap();
    let mut service = Service::new(Engine::Epoll, &[ours], Vec::new());
    service.config = service.config.replace(WITHOUT_UDP, "");
    service.environment.push(format!("NOTIFY_SOCKET={name}"));
    let mut tracker: Tracker = service.launch();

    let ready = told(socket);
    let address = tracker.wait_listening("", 1).unwrap()[0];
    let udp = tracker.wait_listening(" (udp)", 1).unwrap()[0];
    let status = format!("STATUS=listening on {address}, {udp} (udp)");
    assert_eq!(ready, ["READY=1".to_owned(), status]);

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
    let (status, log) = tracker.wait_exit();
    assert!(status.success(), "{log}");
}

#[test]
fn at_an_abstract_name() {
    let name = format!("annulus-test-{}", id());
    let address = UnixAddress::from_abstract_name(&name).unwrap();
    notifies_of_start_reload_and_stop(
        &UnixDatagram::bind_addr(&address).unwrap(),
        &format!("@{name}"),
    );
}

#[test]
fn at_a_path() {
    let path = std::env::temp_dir().join(format!("annulus-test-{}.notify", id()));
    let socket = UnixDatagram::bind(&path).unwrap();
    notifies_of_start_reload_and_stop(&socket, path.to_str().unwrap());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_missing_manager_does_not_prevent_serving() {
    let ours = "127.0.0.1:0".parse().unwrap();
    let mut service = Service::new(Engine::Epoll, &[ours], Vec::new());
    service.environment.push("NOTIFY_SOCKET=/nonexistent/notify".to_owned());
    service.start(1).assert_logged("the service manager at NOTIFY_SOCKET cannot be told");
}

/// A service with these watchdog variables, which must or must not send watchdog messages.
fn watched(engine: Engine, environment: &[&str]) -> (UnixDatagram, Tracker) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("annulus-watchdog-{}-{count}", id());
    let socket = UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut service = Service::new(engine, &["127.0.0.1:0".parse().unwrap()], Vec::new());
    service.environment.push(format!("NOTIFY_SOCKET=@{name}"));
    service.environment.extend(environment.iter().map(|it| (*it).to_owned()));
    let tracker = service.start(1);
    (socket, tracker)
}

const ALIVE: &str = "WATCHDOG=1";

/// Without an admin listener too, and beside all other messages.
#[test]
fn the_watchdog_gets_messages() {
    for pid in ["WATCHDOG_PID=own", "A=b"] {
        let (socket, mut tracker) = watched(Engine::Epoll, &["WATCHDOG_USEC=200000", pid]);
        let mut alive = 0;
        let mut others = Vec::new();
        while alive < 20 {
            match told(&socket).swap_remove(0) {
                first if first == ALIVE => alive += 1,
                first => others.push(first),
            }
            if alive == 10 && others.len() == 1 {
                tracker.signal("HUP");
            }
        }
        assert_eq!(others[0], "READY=1");
        assert!(others[1..].chunks(2).all(|pair| pair == ["RELOADING=1", "READY=1"]), "{others:?}");
        assert!(others.len() >= 3, "{others:?}");
        tracker.assert_logged("the service manager's watchdog is told every 100ms");
        tracker.signal("TERM");
        assert!(tracker.wait_exit().0.success());
    }
}

/// The watchdog variables are absent, are for another process, or have no period.
#[test]
fn a_watchdog_for_another_process_gets_no_messages() {
    for (environment, warning) in [
        (&["WATCHDOG_USEC=100000", "WATCHDOG_PID=1"][..], None),
        (&["WATCHDOG_PID=own"], None),
        (&["WATCHDOG_USEC=soon"], Some("WATCHDOG_USEC=\"soon\" is no number")),
        (&["WATCHDOG_USEC=0"], Some("WATCHDOG_USEC=0 is no time")),
        (&["WATCHDOG_USEC=-1"], Some("WATCHDOG_USEC=\"-1\" is no number")),
        (&["WATCHDOG_USEC=100000", "WATCHDOG_PID=x"], Some("WATCHDOG_PID=\"x\" is no number")),
    ] {
        let (socket, mut tracker) = watched(Engine::Epoll, environment);
        warning.into_iter().for_each(|warning| tracker.assert_logged(warning));
        // Some periods of a service that sends messages.
        thread::sleep(Duration::from_millis(300));
        tracker.signal("HUP");
        for expected in ["READY=1", "RELOADING=1", "READY=1"] {
            assert_eq!(told(&socket)[0], expected, "{environment:?}");
        }
        tracker.signal("TERM");
        assert_eq!(told(&socket)[0], "STOPPING=1");
        assert!(tracker.wait_exit().0.success());
    }
}

/// The watchdog has the same view as `/health`: one stuck worker is a failure.
fn a_stuck_worker_stops_the_messages_to_the_watchdog(engine: Engine) {
    let (socket, tracker) = watched(engine, &["WATCHDOG_USEC=200000"]);
    assert_eq!([told(&socket).swap_remove(0), told(&socket).swap_remove(0)], ["READY=1", ALIVE]);
    let stopped = Traced::stop(tracker.pid(), "worker-1");
    tracker.assert_logged("error: worker 1 is stuck for ");
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 64]).is_ok() {}
    // Some periods.
    thread::sleep(Duration::from_millis(500));
    let said = socket.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(said.kind(), ErrorKind::WouldBlock);
    socket.set_nonblocking(false).unwrap();
    drop(stopped);
    let log = tracker.log();
    assert_eq!(log.matches("is stuck for").count(), 1, "{log}");
    for _ in 0..3 {
        assert_eq!(told(&socket), [ALIVE]);
    }
}

/// The tracker does not wait for the manager.
#[test]
fn a_manager_that_does_not_read_does_not_block() {
    let (_unread, mut tracker) = watched(Engine::Epoll, &["WATCHDOG_USEC=20000"]);
    // More than its socket queues (net.unix.max_dgram_qlen).
    thread::sleep(Duration::from_millis(500));
    tracker.signal("TERM");
    let (status, log) = tracker.wait_exit();
    assert!(status.success() && log.ends_with("stopped"), "{log}");
}

//! What a stop and a restart keep, and where UDP is served at all.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use crate::activation::manager::{Service, WITHOUT_UDP};
use crate::support::requirements::TempDir;
use crate::support::torrent::{ScrapeCounts, TestTorrent};
use crate::support::tracker::{Engine, Tracker, config, has_v6, test_both_engines, wait_for};
use crate::support::udp_client::{UdpAnnounce, UdpClient, UdpReply};

test_both_engines!(
    nothing_is_served_if_no_address_is_listed,
    other_addresses_than_those_of_http_are_served,
    all_that_was_sent_before_a_stop_is_answered,
    the_port_is_free_after_a_stop,
    peers_survive_a_restart,
    a_restart_with_passed_sockets_loses_no_request,
);

/// A connected client is told so by ICMP.
fn nothing_is_served_if_no_address_is_listed(engine: Engine) {
    let tracker = Tracker::start(engine, "[udp]\nlisten = []\n");
    for to in [tracker.v4].into_iter().chain(tracker.v6) {
        let mut client = UdpClient::new(to);
        client.send_connect();
        let got = client.socket.recv(&mut [0; 100]);
        assert!(got.as_ref().is_err_and(|it| it.kind() == ErrorKind::ConnectionRefused), "{got:?}");
    }
    TestTorrent::new(&tracker, 1).announce(1, "");
}

fn other_addresses_than_those_of_http_are_served(engine: Engine) {
    let tracker = Tracker::start(engine, "[udp]\nlisten = [\"127.0.0.5:0\", \"127.0.0.6:0\"]\n");
    let listening = tracker.wait_listening(" (udp)", 2).unwrap();
    for (to, port) in listening.into_iter().zip(1..) {
        let mut client = UdpClient::connected(to);
        assert_eq!(client.announce(&UdpAnnounce::new(1, port)).leechers, u32::from(port));
    }
    assert_eq!(TestTorrent::new(&tracker, 1).scrape().incomplete, 2);
}

fn all_that_was_sent_before_a_stop_is_answered(engine: Engine) {
    const CLIENTS: usize = 16;
    const REQUESTS: usize = 40;
    let mut tracker = Tracker::start(engine, "");
    let targets = tracker.udp_addresses();
    let mut clients: Vec<UdpClient> =
        (0..CLIENTS).map(|at| UdpClient::connected(targets[at % targets.len()])).collect();
    for _ in 0..REQUESTS {
        for (client, port) in clients.iter_mut().zip(1..) {
            client.send_announce(&UdpAnnounce::new(1, port));
        }
    }
    tracker.signal("TERM");
    for client in &mut clients {
        let last = client.last_transaction();
        for expected in last - REQUESTS as u32 + 1..=last {
            let (transaction, reply) = client.next_reply();
            assert!(matches!(reply, UdpReply::Announce(_)), "{reply:?}");
            assert_eq!(transaction, expected);
        }
    }
    let (status, log) = tracker.wait_exit();
    assert!(status.success(), "{log}");
}

/// After the process is gone the kernel may need a moment.
fn the_port_is_free_after_a_stop(engine: Engine) {
    let mut tracker = Tracker::start(engine, "");
    let targets = tracker.udp_addresses();
    for to in &targets {
        UdpClient::connected(*to);
    }
    tracker.signal("TERM");
    let (status, log) = tracker.wait_exit();
    assert!(status.success(), "{log}");
    for to in targets {
        wait_for(format!("{to} to be free"), || UdpSocket::bind(to).ok());
    }
}

/// With a file for the state, and on the same port at once.
fn peers_survive_a_restart(engine: Engine) {
    let directory = TempDir::new(&format!("udp-state-{}", engine.name()));
    fs::create_dir(directory.path().join("state")).unwrap();
    let state = "[state]\nfile = \"state/swarms.state\"\n";
    let mut text = config(engine, 2, state);
    let mut port = 0;
    for round in 0..3 {
        let mut tracker = Tracker::launch_in(directory.path(), &text, &[]);
        let ready = tracker.wait_ready(1 + usize::from(has_v6()));
        ready.unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
        if round == 0 {
            port = tracker.v4.port();
            text = text.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
        }
        assert_eq!(tracker.v4.port(), port);
        for (to, torrent) in tracker.udp_addresses().into_iter().zip(1..) {
            let mut client = UdpClient::connected(to);
            let expected = ScrapeCounts { complete: 1, downloaded: 0, incomplete: 1 };
            let expected = if round == 0 { ScrapeCounts::default() } else { expected };
            assert_eq!(client.scrape(&[torrent]), [expected], "round {round}");
            let told = client.announce(&UdpAnnounce::new(torrent, 1));
            assert_eq!(told.ports(), if round == 0 { vec![] } else { vec![2] });
            client.announce(&UdpAnnounce::seeder(torrent, 2));
        }
        tracker.signal("TERM");
        let (status, log) = tracker.wait_exit();
        assert!(status.success(), "{log}");
    }
}

/// The manager holds the sockets, so requests wait in their queues meanwhile. Connects are
/// answered by any process; an announce with the id of the process before is not.
fn a_restart_with_passed_sockets_loses_no_request(engine: Engine) {
    const CLIENTS: usize = 4;
    const RESTARTS: usize = 4;
    const REQUESTS: u32 = 200;
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to: SocketAddr = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(to).unwrap();
    let mut service = Service::new(engine, &[to], vec![tcp.into(), udp.into()]);
    service.config = service.config.replace(WITHOUT_UDP, "");
    let (stop, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // Fails if there is no reply.
                        UdpClient::connected(to);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let stopping = StopOnDrop(&stop);
        for _ in 0..RESTARTS {
            let mut tracker = service.start(1);
            let enough = answered.load(Ordering::Relaxed) + REQUESTS;
            wait_for("replies", || (answered.load(Ordering::Relaxed) >= enough).then_some(()));
            UdpClient::connected(to).announce(&UdpAnnounce::new(1, 1));
            tracker.signal("TERM");
            let (status, log) = tracker.wait_exit();
            assert!(status.success(), "{log}");
        }
        let _last = service.start(1);
        drop(stopping);
        clients.into_iter().for_each(|client| client.join().expect("all replies"));
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

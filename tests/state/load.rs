//! Restarts under load: with sockets that the service manager holds, nobody is refused, and every
//! peer whose announce was answered is there afterwards.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::{StateDir, stop};
use crate::activation::manager::{Service, announce_as, socket};
use crate::support::client::{fetch, get_request};
use crate::support::torrent::{parse_announce, percent_encoded};
use crate::support::tracker::{Engine, test_both_engines, wait_for};

test_both_engines!(loses_and_refuses_nobody);

const CLIENTS: usize = 6;
const RESTARTS: u32 = 6;
/// Announces that are answered between two restarts.
const ANNOUNCES: u32 = 300;
/// As many as one response has.
const PEERS_PER_TORRENT: u32 = 150;

/// The torrent and the port of the peer of this number.
fn peer(number: u32) -> (String, u16) {
    let hash = [&(number / PEERS_PER_TORRENT).to_be_bytes()[..], &[5; 16]].concat();
    (percent_encoded(&hash), 1000 + (number % PEERS_PER_TORRENT) as u16)
}

fn loses_and_refuses_nobody(engine: Engine) {
    let directory = StateDir::new("load");
    let (socket, address) = socket();
    let mut service = Service::new(engine, &[address], vec![socket]);
    // Written in the background as well.
    let file = directory.file();
    service.config += &format!("[state]\nfile = \"{}\"\ninterval = 1\n", file.display());
    let (stopping, next) = (AtomicBool::new(false), AtomicU32::new(0));
    let (answered, failures) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let (mut answered, mut failures) = (Vec::new(), Vec::new());
                    while !stopping.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let (info_hash, port) = peer(number);
                        match announce_as(address, &info_hash, port) {
                            Ok(()) => answered.push(number),
                            Err(what) => failures.push(what),
                        }
                    }
                    (answered, failures)
                })
            })
            .collect();
        // Also on a panic: the scope waits for its threads.
        let stop_clients = StopOnDrop(&stopping);
        for _ in 0..RESTARTS {
            let tracker = service.start(1);
            let enough = next.load(Ordering::Relaxed) + ANNOUNCES;
            wait_for("announces", || (next.load(Ordering::Relaxed) >= enough).then_some(()));
            stop(tracker);
        }
        let last = service.start(1);
        drop(stop_clients);
        let results = clients.into_iter().map(|client| client.join().unwrap());
        let (answered, failures): (Vec<_>, Vec<_>) = results.unzip();
        stop(last);
        (answered.concat(), failures.concat())
    });
    assert_eq!(failures, Vec::<String>::new());
    assert!(answered.len() as u32 >= RESTARTS * (ANNOUNCES - CLIENTS as u32), "{}", answered.len());
    let tracker = service.start(1);
    assert_all_there(address, &answered);
    stop(tracker);
}

#[track_caller]
fn assert_all_there(address: SocketAddr, answered: &[u32]) {
    let torrents: BTreeSet<u32> = answered.iter().map(|it| it / PEERS_PER_TORRENT).collect();
    for torrent in torrents {
        let of_torrent = answered.iter().filter(|it| *it / PEERS_PER_TORRENT == torrent);
        let expected: BTreeSet<u16> = of_torrent.map(|&number| peer(number).1).collect();
        let (info_hash, _) = peer(torrent * PEERS_PER_TORRENT);
        let target = format!("/announce?info_hash={info_hash}&port=9&left=1&numwant=200");
        let found = parse_announce(&fetch(address, get_request(&target))).peers;
        let found: BTreeSet<u16> = found.iter().map(SocketAddr::port).collect();
        assert_eq!(found, expected, "torrent {torrent}");
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

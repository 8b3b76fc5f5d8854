//! Restarts under load: while the manager holds the sockets, no connection is refused.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::manager::{Service, announce, socket};
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};

test_both_engines!(
    refuses_no_connection,
    refuses_no_connection_on_a_socket_per_worker,
    after_a_crash_serves_queued_connections,
);

const CLIENTS: usize = 8;
const RESTARTS: usize = 6;
/// Answers between two restarts.
const ANNOUNCES: u32 = 200;

fn refuses_no_connection(engine: Engine) {
    let (socket, address) = socket();
    let service = Service::new(engine, &[address], vec![socket]);
    restarted_under_load(&service, || announce(address));
}

fn refuses_no_connection_on_a_socket_per_worker(engine: Engine) {
    let (sockets, address) = super::passed::group();
    let service = Service::new(engine, &[address], sockets);
    restarted_under_load(&service, || announce(address));
}

fn after_a_crash_serves_queued_connections(engine: Engine) {
    let (sockets, address) = super::passed::group();
    let service = Service::new(engine, &[address], sockets);
    under_load(
        || announce(address),
        |answered| {
            for _ in 0..RESTARTS {
                let tracker = service.start(1);
                let enough = answered.load(Ordering::Relaxed) + ANNOUNCES;
                wait_for("answers", || (answered.load(Ordering::Relaxed) >= enough).then_some(()));
                // Killed.
                drop(tracker);
            }
            // Connections that a killed tracker had accepted are lost; those in the queue are not.
            service.start(1)
        },
    );
}

/// Restarts while clients `ask` all the time: each must be answered.
pub(super) fn restarted_under_load(service: &Service, ask: impl Fn() -> Result<(), String> + Sync) {
    let failures = under_load(ask, |answered| {
        for _ in 0..RESTARTS {
            let mut tracker = service.start(1);
            let enough = answered.load(Ordering::Relaxed) + ANNOUNCES;
            wait_for("answers", || (answered.load(Ordering::Relaxed) >= enough).then_some(()));
            tracker.signal("TERM");
            let (status, log) = tracker.wait_exit();
            assert!(status.success(), "{log}");
        }
        service.start(1)
    });
    assert_eq!(failures, Vec::<String>::new());
}

/// Has clients `ask` all the time, while `act` runs; the tracker that `act` returns serves those
/// that still wait. Returns their errors.
fn under_load(
    ask: impl Fn() -> Result<(), String> + Sync,
    act: impl FnOnce(&AtomicU32) -> Tracker,
) -> Vec<String> {
    let (stop, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match ask() {
                            Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                            Err(what) => failures.push(what),
                        }
                    }
                    failures
                })
            })
            .collect();
        // Stopped also on a panic: the scope waits for its threads.
        let stopping = StopOnDrop(&stop);
        let _last = act(&answered);
        drop(stopping);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! A given rate, and trackers that do not keep up with it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::fake::{Fake, GOOD, kept};
use crate::run::Run;
use crate::support::{TestEngine, on_both_engines};

on_both_engines!(
    a_stall_counts_for_all_that_arrive_in_it,
    more_than_there_are_connections_for,
    a_rate_ends_with_its_requests,
);

/// How long the tracker says nothing.
const STALL: Duration = Duration::from_secs(1);

/// A tracker that stalls once, at its 50th answer of the first connection.
fn stalling() -> Fake {
    let stalled = Arc::new(AtomicBool::new(false));
    Fake::start(move |number, stream| {
        if number == 49 && !stalled.swap(true, Ordering::AcqRel) {
            thread::sleep(STALL);
        }
        stream.write_all(&kept(GOOD)).is_ok()
    })
}

/// One connection, on which nothing else goes on in the meantime.
const ONE: [&str; 6] = ["--connections", "1", "--duration", "3", "--arrivals", "even"];

fn a_stall_counts_for_all_that_arrive_in_it(engine: TestEngine) {
    // As fast as is answered: the stall is one slow answer among very many.
    let closed = Run::of(engine, &stalling().url(), &ONE);
    assert_eq!(closed.status, 0, "{}", closed.text);
    assert!(closed.latency_ms("max") >= 900.0, "{}", closed.text);
    // 200 arrive in each of three seconds, and a third of them while nothing is said: those
    // that arrive late in it wait less. A tenth of all waits for more than half of it.
    let open = Run::of(engine, &stalling().url(), &[&ONE[..], &["--rate", "200"]].concat());
    assert_eq!(open.status, 0, "{}", open.text);
    assert_eq!((open.number("good"), open.number("latencies")), (600, 600));
    assert!(open.latency_ms("max") >= 900.0, "{}", open.text);
    assert!(open.latency_ms("p90") >= 500.0, "{}", open.text);
    assert!(closed.latency_ms("p90") < open.latency_ms("p90"));
}

fn more_than_there_are_connections_for(engine: TestEngine) {
    let fake = Fake::start(|_, stream| {
        thread::sleep(Duration::from_millis(50));
        stream.write_all(&kept(GOOD)).is_ok()
    });
    // 20 a second can be answered.
    let arguments = ["--connections", "1", "--duration", "2", "--rate", "1000"];
    let run = Run::of(engine, &fake.url(), &[&arguments[..], &["--arrivals", "even"]].concat());
    assert_eq!(run.status, 1, "{}", run.text);
    let (good, unsent) = (run.number("good"), run.faults("never-sent"));
    assert!((1..=41).contains(&good), "{}", run.text);
    assert_eq!((good + unsent, run.number("latencies")), (2000, 2000), "{}", run.text);
    assert!(run.latency_ms("p50") >= 500.0, "{}", run.text);
}

fn a_rate_ends_with_its_requests(engine: TestEngine) {
    let fake = Fake::start(|_, stream| {
        thread::sleep(Duration::from_millis(300));
        stream.write_all(&kept(GOOD)).is_ok()
    });
    let arguments = ["--requests", "7", "--rate", "1000", "--duration", "3600"];
    Run::of(engine, &fake.url(), &arguments).is_good(7);
}

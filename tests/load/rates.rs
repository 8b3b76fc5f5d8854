//! A given rate, and trackers that do not keep up with it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::LoadRun;
use super::fake_tracker::{FakeTracker, GOOD_BODY, response};
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(
    a_stall_counts_for_all_requests_due_in_it,
    more_requests_than_connections_can_take,
    a_rate_ends_with_its_requests,
);

/// A tracker that takes `delay` for every response, or only once for the 50th of a connection.
fn delaying(delay: Duration, once: bool) -> FakeTracker {
    let stalled = Arc::new(AtomicBool::new(false));
    FakeTracker::start(move |number, stream| {
        if !once || (number == 49 && !stalled.swap(true, Ordering::AcqRel)) {
            thread::sleep(delay);
        }
        stream.write_all(&response(GOOD_BODY)).is_ok()
    })
}

const ONE: &str = "--connections 1 --duration 3 --arrivals even";

fn a_stall_counts_for_all_requests_due_in_it(engine: Engine) {
    let stalling = || delaying(Duration::from_secs(1), true);
    // Without a rate, the stall is one slow response among very many.
    let closed = LoadRun::of(engine, &stalling().url(), ONE);
    assert_eq!(closed.status, 0, "{}", closed.text);
    assert!(closed.latency_ms("max") >= 900.0, "{}", closed.text);
    // 200 requests are due in each of three seconds, a third of them during the stall; a tenth of
    // all waits for more than half of it.
    let open = LoadRun::of(engine, &stalling().url(), &format!("{ONE} --rate 200"));
    assert_eq!(open.status, 0, "{}", open.text);
    assert_eq!((open.number("good"), open.number("latencies")), (600, 600));
    assert!(open.latency_ms("max") >= 900.0, "{}", open.text);
    assert!(open.latency_ms("p90") >= 500.0, "{}", open.text);
    assert!(closed.latency_ms("p90") < open.latency_ms("p90"));
}

fn more_requests_than_connections_can_take(engine: Engine) {
    // 20 responses a second.
    let fake = delaying(Duration::from_millis(50), false);
    let arguments = "--connections 1 --duration 2 --rate 1000 --arrivals even";
    let run = LoadRun::of(engine, &fake.url(), arguments);
    let (good, unsent) = (run.number("good"), run.faults("never-sent"));
    assert!(run.status == 1 && (1..=41).contains(&good), "{}", run.text);
    assert_eq!((good + unsent, run.number("latencies")), (2000, 2000), "{}", run.text);
    assert!(run.latency_ms("p50") >= 500.0, "{}", run.text);
}

fn a_rate_ends_with_its_requests(engine: Engine) {
    let fake = delaying(Duration::from_millis(300), false);
    LoadRun::of(engine, &fake.url(), "--requests 7 --rate 1000 --duration 3600").assert_good(7);
}

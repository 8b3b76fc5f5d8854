//! How long a turn of the loop lasts while ten million peers expire.
//!
//! `cargo bench --bench expiry`. A real worker on a real ring, with swarms filled before and a peer
//! timeout so short that everything expires within seconds, far faster than any configuration
//! allows. Every turn is timed from the ring's wake-up to its next wait: that long a client waits
//! that comes in that turn. Nothing is asserted of times. The memory of the peers is printed too.
#![allow(clippy::disallowed_methods, reason = "it measures times")]

mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus::clock::Clock;
use annulus_bench::process::status;
use annulus_bench::swarms::{announce_request, unbounded};
use annulus_ring::{Waker, start_memory_thread};
use annulus_swarm::{Random, Sample};
use worker::worker;

const PEERS: u32 = 10_000_000;
const PEER_TIMEOUT_S: u32 = 60;
/// When freed memory is to be with the kernel again.
const AFTERWARDS: Duration = Duration::from_secs(60);
const GIVE_UP: Duration = Duration::from_secs(200);

fn main() {
    // As the tracker does.
    start_memory_thread().expect("a thread");
    run("10 million peers over 1 million torrents", 1_000_000);
    run("10 million peers in one torrent", 1);
}

fn run(name: &str, torrents: u32) {
    let swarms = Arc::new(unbounded(PEER_TIMEOUT_S));
    let mut worker = worker(&swarms, Waker::new().expect("an eventfd"), Vec::new());
    let at_start = resident_bytes();
    let mut random = Random::seeded(1);
    let mut sample = Sample::with_capacity(1);
    for client in 0..PEERS {
        let announce = announce_request(random.below(torrents), client, 0);
        swarms.announce(&announce, 0, &mut random, &mut sample);
    }
    assert_eq!(swarms.totals().peers, u64::from(PEERS));
    let full = resident_bytes();
    println!("{name}: {:.1} bytes of memory each", (full - at_start) as f64 / f64::from(PEERS));

    let clock = Clock::start();
    let start = Instant::now();
    let mut turns: Vec<u64> = Vec::new();
    let mut expiring = Duration::ZERO;
    while swarms.totals().peers > 0 && start.elapsed() < GIVE_UP {
        worker.wait().expect("the engine goes on");
        let turn = Instant::now();
        let before = swarms.totals().peers;
        worker.act(clock.now_s());
        let took = turn.elapsed();
        turns.push(took.as_nanos() as u64);
        if swarms.totals().peers < before {
            expiring += took;
        }
    }
    assert_eq!(swarms.totals().peers, 0, "not everything expired in time");
    turns.sort_unstable();
    let at = |share: f64| turns[((turns.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    let long = turns.iter().filter(|&&nanos| nanos > 1_000_000).count();
    println!(
        "{name}: {} turns, p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, longest {:.1} us, \
         {long} over 1 ms; {:.2} s of expiry in all, {:.0} ns a peer",
        turns.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        expiring.as_secs_f64(),
        expiring.as_nanos() as f64 / f64::from(PEERS),
    );
    let expired = Instant::now();
    while expired.elapsed() < AFTERWARDS {
        worker.wait().expect("the engine goes on");
        worker.act(clock.now_s());
    }
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{name}: {:.1} MB resident at the start, {:.1} when full, {:.1} {} s after the last expiry",
        mb(at_start),
        mb(full),
        mb(resident_bytes()),
        AFTERWARDS.as_secs(),
    );
}

fn resident_bytes() -> u64 {
    status("self", "VmRSS:").expect("proc(5)") * 1024
}

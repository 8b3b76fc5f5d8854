//! What limits more cores than there are here, calculated: a closed network of queues.
//!
//! Each core goes from request to request: for some time it needs nothing that others need, then a
//! shared thing (a lock, or a cache line that all write), for which it may have to wait. Mean value
//! analysis (Reiser and Lavenberg, "Mean-value analysis of closed multichain queuing networks",
//! JACM 1980) gives the throughput exactly for times of use with an exponential distribution, and
//! too much waiting for times that vary less. Waiting cores are taken to spin, not to sleep.

use annulus_swarm::Random;

use crate::costs::{Costs, LINES, LINES_HELD};
use crate::threads::OTHER_WORK;

const SHARDS: usize = 2048;

const CORES: [u32; 3] = [16, 64, 128];

/// What each of `cores` cores gets done.
#[derive(Clone, Copy, Debug)]
struct Throughput {
    /// Requests a second of all cores.
    requests_s: f64,
    /// The part of the time in which the busiest shared thing is in use.
    busiest: f64,
    /// Nanoseconds that a request waits for others.
    wait_ns: f64,
    /// The part of requests that wait.
    waits: f64,
}

/// Cores whose requests take `alone_ns` by themselves, and use each shared thing for `uses` on
/// average.
fn throughput(cores: u32, alone_ns: f64, uses: &[(f64, f64)]) -> Throughput {
    let used_ns: f64 = uses.iter().map(|(share, ns)| share * ns).sum();
    let mut queues = vec![0.0; uses.len()];
    let mut result = Throughput { requests_s: 0.0, busiest: 0.0, wait_ns: 0.0, waits: 0.0 };
    let mut rate = 0.0;
    for cores in 1..=cores {
        // Whoever comes finds what the others would have left (arrival theorem).
        result.waits = uses.iter().map(|(share, ns)| share * (rate * share * ns)).sum();
        let stays: Vec<f64> = uses
            .iter()
            .zip(&queues)
            .map(|((share, ns), queue)| share * ns * (1.0 + queue))
            .collect();
        let stay: f64 = stays.iter().sum();
        rate = f64::from(cores) / (alone_ns + stay);
        queues.iter_mut().zip(&stays).for_each(|(queue, stay)| *queue = rate * stay);
        result.wait_ns = stay - used_ns;
    }
    result.requests_s = rate * 1e9;
    result.busiest = uses.iter().map(|(share, ns)| rate * share * ns).fold(0.0, f64::max);
    result
}

/// The shards' shares of the announces, if torrents have these.
fn shards(torrents: &[f64]) -> Vec<f64> {
    let mut random = Random::seeded(1);
    let mut shards = vec![0.0; SHARDS];
    torrents.iter().for_each(|share| shards[random.below(SHARDS as u32) as usize] += share);
    shards
}

/// Cache lines that every core writes: how often for a request, and the other work of a request.
const SHARED_LINES: [(&str, f64, f64); 3] = [
    ("one count of peers, each announce new", 1.0, 4000.0),
    ("the count of peers as it is, 64 at once", 1.0 / 64.0, 4000.0),
    ("open connections, one request each", 2.0, 12_000.0),
];

pub(crate) fn print(costs: &[Costs], transfer_ns: f64) {
    print_check(costs, transfer_ns);
    print_locks(costs, transfer_ns);
    println!("\na line that all cores write: part of the linear, in use, wait");
    for (name, uses, other_ns) in SHARED_LINES {
        for cores in CORES {
            let model = throughput(cores, other_ns, &[(1.0, uses * transfer_ns)]);
            let linear = f64::from(cores) / (other_ns + uses * transfer_ns) * 1e9;
            println!(
                "{name:<40} {cores:>4} cores {:>4.0} % {:>4.0} % {:>7.1} ns",
                100.0 * model.requests_s / linear,
                100.0 * model.busiest,
                model.wait_ns,
            );
        }
    }
}

fn print_check(costs: &[Costs], transfer_ns: f64) {
    println!("\nthe model on two cores: waits of 1,000 announces, and ns an announce");
    for load in costs {
        let shards = shards(&load.shares);
        for (name, seen) in [("single", &load.single), ("worker", &load.worker)] {
            let alone_ns = seen[0].elapsed_ns - load.held_ns[0];
            let moved_ns = (LINES - LINES_HELD) * transfer_ns / 2.0;
            let uses: Vec<_> =
                shards.iter().map(|&share| (share, load.held_at(2, transfer_ns))).collect();
            let model = throughput(2, alone_ns + moved_ns, &uses);
            println!(
                "{:<9} {name:<8} {:>7.2} calculated, {:>7.2} seen; {:>5.0} ns calculated, \
                 {:>5.0} seen",
                load.kind.name(),
                model.waits * 1000.0,
                seen[1].waits,
                2e9 / model.requests_s,
                seen[1].elapsed_ns * 2.0,
            );
        }
    }
}

fn print_locks(costs: &[Costs], transfer_ns: f64) {
    println!(
        "\nmore cores, {} ns of other work a request: requests a second, part of the linear, \
         busiest lock, wait",
        OTHER_WORK.as_nanos()
    );
    for load in costs {
        let shards = shards(&load.shares);
        for cores in CORES {
            let others = f64::from(cores - 1) / f64::from(cores);
            let uses: Vec<_> =
                shards.iter().map(|&share| (share, load.held_at(cores, transfer_ns))).collect();
            let alone_ns = load.worker[0].elapsed_ns - load.held_ns[0];
            let moved_ns = (LINES - LINES_HELD) * transfer_ns * others;
            let model = throughput(cores, alone_ns + moved_ns, &uses);
            let linear = f64::from(cores) / load.worker[0].elapsed_ns * 1e9;
            println!(
                "{:<9} {cores:>4} cores {:>6.2} million/s {:>4.0} % {:>4.0} % {:>7.1} ns",
                load.kind.name(),
                model.requests_s / 1e6,
                100.0 * model.requests_s / linear,
                100.0 * model.busiest,
                model.wait_ns,
            );
        }
    }
}

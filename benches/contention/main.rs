//! What threads cost each other that announce to the same swarms, and what follows for more cores
//! than this machine has.
//!
//! `cargo bench --bench contention`. Threads announce as workers do that have nothing else to do,
//! one by one or in batches: what they wait for each other is counted and timed (`threads.rs`).
//! Then it is measured what a lock is held for, and what a cache line costs that another core has
//! written (`costs.rs`); a model of queues (`model.rs`) calculates with these what limits 16, 64
//! and 128 cores, and is compared with the two cores here.
#![allow(clippy::disallowed_methods, reason = "it measures times")]

mod costs;
mod loads;
mod model;
mod threads;

use costs::Costs;
use loads::{LOADS, Load};
use threads::{ANNOUNCES, Pace, THREADS};

fn main() {
    println!("of 1,000 announces: waits for a lock, sleeps, preemptions; CPU ns an announce\n");
    println!("{:<9} {:<8} threads    waits   sleeps preempted  CPU ns", "load", "pace");
    for kind in LOADS {
        let load = Load::new(kind);
        for pace in [Pace::Single, Pace::Batches, Pace::Worker] {
            for threads in THREADS {
                let announces = if pace == Pace::Worker { ANNOUNCES / 4 } else { ANNOUNCES };
                let seen = threads::announce(&load, pace, threads, announces, false);
                println!(
                    "{:<9} {:<8} {threads:>7} {:>8.2} {:>8.2} {:>9.2} {:>7.0}",
                    kind.name(),
                    pace.name(),
                    seen.waits,
                    seen.sleeps,
                    seen.preempted,
                    seen.cpu_ns
                );
            }
        }
    }
    let transfer_ns = costs::transfer_ns();
    println!("\na cache line from core to core: {transfer_ns:.0} ns\n");
    let costs = LOADS.map(|kind| Costs::measure(&Load::new(kind)));
    costs.iter().for_each(|costs| costs.print(transfer_ns));
    model::print(&costs, transfer_ns);
}

//! What sharing costs a worker: the same tracker with a cluster and without, in the same rounds.

use std::time::Duration;

use annulus_bench::process::SERVER_CPU;
use annulus_bench::stats;
use anyhow::{Context, Result, ensure};

use crate::run::{WORKER, start_load};
use crate::site::{Node, Redis};

/// Seconds of a measurement: the first is for the caches.
const SECONDS: u64 = 3;

const REQUESTS: &str = "annulus_requests_total";

/// CPU of a worker and the requests that it has answered.
fn counted(node: &Node) -> Result<(Duration, u64)> {
    let worker = *node.cpu_by_thread()?.get(WORKER).context("no thread of a worker")?;
    Ok((worker, node.metric(REQUESTS)?))
}

/// Nanoseconds of a worker's CPU for an announce at full speed over kept connections.
fn measure(node: &Node) -> Result<f64> {
    let before = counted(node)?;
    ensure!(start_load(node, 0, 0, SECONDS)?.wait()?.success(), "annulus-load has failed");
    let after = counted(node)?;
    Ok((after.0 - before.0).as_nanos() as f64 / (after.1 - before.1) as f64)
}

pub(crate) fn compare(rounds: usize) -> Result<()> {
    let cpu = SERVER_CPU.to_string();
    let redis = Redis::start(&cpu)?;
    let alone = Node::start("alone", &cpu, None)?;
    let sharing = Node::start("sharing", &cpu, Some(&redis))?;
    let mut pairs = Vec::new();
    for round in 0..rounds {
        // Neither is always the first.
        let pair = if round % 2 == 0 {
            let first = measure(&alone)?;
            [first, measure(&sharing)?]
        } else {
            let first = measure(&sharing)?;
            [measure(&alone)?, first]
        };
        pairs.push(pair);
    }
    let row = |name: &str, value: fn(&[f64; 2]) -> f64| {
        vec![name.to_owned(), stats::spread(pairs.iter().map(value), 0)]
    };
    let rows = [
        row("without a cluster", |[alone, _]| *alone),
        row("with one", |[_, sharing]| *sharing),
        row("difference within a round", |[alone, sharing]| sharing - alone),
    ];
    let titles = ["a worker's CPU, kept connections", "ns an announce"];
    println!("### a worker\n\n{}", stats::table(&titles, rows));
    Ok(())
}

//! What it costs to share swarms: a real Redis server and three real trackers, and a simulation of
//! larger clusters.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it waits and measures")]

mod costs;
mod delay;
mod injection;
mod run;
mod simulation;
mod site;
mod worker;

use std::process::ExitCode;

use annulus_bench::servers::installed;
use annulus_bench::{load, machine, stats};
use anyhow::{Context, Result, bail, ensure};
use lexopt::{Arg, Parser, ValueExt};

use run::{Run, Source};
use simulation::Inputs;

const USAGE: &str = "\
usage: cargo bench --bench cluster -- [OPTIONS]
  --row ROW      only this row: costs (of records, in memory and at the server), worker (an announce
                 with and without a cluster), announces (at the rates below 100,000) or injected (at
                 the others); may be repeated
  --rate N       only this rate of records a second (default 10000, 100000 and 500000); may be
                 repeated
  --seconds S    seconds of each measurement (default 10)
  --rounds N     rounds of the row worker (default 5)
  --simulate     only a simulation of 1 to 16 nodes; --NAME VALUE replaces an input, which it lists
It needs redis-server, setpriv, taskset, openssl and two CPUs. The trackers and the server have the
first CPU, and both at 300,000 records a second and more; load and probes have the second.";

const ROWS: [&str; 4] = ["costs", "worker", "announces", "injected"];

/// Up to this rate records come of announces.
const ANNOUNCED_TO: u64 = 99_999;

struct Options {
    rows: Vec<String>,
    rates: Vec<u64>,
    seconds: u64,
    rounds: usize,
    /// To be simulated, with inputs that replace what is known.
    simulated: Option<Vec<(String, f64)>>,
}

fn main() -> ExitCode {
    annulus_bench::init!();
    annulus_bench::run(USAGE, &[], || {
        let options = parse()?;
        if let Some(changes) = &options.simulated {
            simulate(changes)?;
            return Ok(true);
        }
        annulus_bench::prepare(4096)?;
        installed("redis-server").context("redis-server is not installed")?;
        load::build()?;
        for (name, fact) in machine::facts() {
            println!("- {name}: {fact}");
        }
        println!();
        measure(&options)
    })
}

fn parse() -> Result<Options> {
    let mut options =
        Options { rows: Vec::new(), rates: Vec::new(), seconds: 10, rounds: 5, simulated: None };
    let mut inputs = Vec::new();
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            // Added by cargo.
            Arg::Long("bench") => {}
            Arg::Long("row") => {
                let row = parser.value()?.string()?;
                ensure!(ROWS.contains(&row.as_str()), "no such row: {row} ({})", ROWS.join(", "));
                options.rows.push(row);
            }
            Arg::Long("rate") => options.rates.push(parser.value()?.parse()?),
            Arg::Long("seconds") => options.seconds = parser.value()?.parse()?,
            Arg::Long("rounds") => options.rounds = parser.value()?.parse()?,
            Arg::Long("simulate") => options.simulated = Some(Vec::new()),
            Arg::Long(name) if simulation::INPUTS.iter().any(|(known, ..)| *known == name) => {
                let name = name.to_owned();
                inputs.push((name, parser.value()?.parse()?));
            }
            argument => return Err(argument.unexpected().into()),
        }
    }
    if options.rows.is_empty() {
        options.rows = ROWS.map(str::to_owned).into();
    }
    if options.rates.is_empty() {
        options.rates = vec![10_000, 100_000, 500_000];
    }
    if options.simulated.is_none() && !inputs.is_empty() {
        bail!("--{} is for --simulate", inputs[0].0);
    }
    options.simulated = options.simulated.map(|_| inputs);
    Ok(options)
}

fn simulate(changes: &[(String, f64)]) -> Result<()> {
    let mut inputs = Inputs::default();
    for (name, value) in changes {
        ensure!(value.is_finite() && *value > 0.0, "--{name} must be above 0");
        inputs.set(name, *value);
    }
    simulation::print(&inputs);
    Ok(())
}

/// Returns whether nothing was lost.
fn measure(options: &Options) -> Result<bool> {
    let names = |row: &str| options.rows.iter().any(|named| named == row);
    if names("costs") {
        costs::print()?;
    }
    if names("worker") {
        worker::compare(options.rounds)?;
    }
    let mut lines = Vec::new();
    let mut nothing_lost = true;
    for &rate in &options.rates {
        let (row, source) = match rate {
            ..=ANNOUNCED_TO => ("announces", Source::Announces),
            _ => ("injected", Source::Injector),
        };
        if names(row) {
            let run = Run::at(rate, source, options.seconds)?;
            nothing_lost &= run.lost == 0;
            lines.push(run.line());
        }
    }
    if !lines.is_empty() {
        println!("### three nodes\n\n{}", stats::table(&Run::TITLES, lines));
    }
    Ok(nothing_lost)
}

//! The comparison: Annulus and its peers under the same load, kept as JSON, tables and charts.
//!
//! It measures what `wire` measures, and beside that latencies at a given rate, and this tracker
//! with one worker and with two.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use annulus_bench::net::{KeepAlive, Transport};
use annulus_bench::options::{BenchOptions, Known};
use annulus_bench::results::{Results, Row};
use annulus_bench::servers::{DESCRIPTORS, ServerKind};
use annulus_bench::{charts, load, machine, memory, repository, rows, scratch, tables, udp};
use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo bench --bench compare -- [OPTIONS]
  --rounds N      measurements of each server and row (default 3)
  --seconds S     seconds of each measurement (default 3)
  --row ROW       only these rows: keep, close (and at a rate), each with TLS beside, memory,
                  workers (this tracker with one and with two) or udp; may be repeated
  --server NAME   only this server: floor, annulus, annulus-epoll, nginx, opentracker,
                  aquatic_http, aquatic_udp or torrust-tracker; may be repeated
  --with-torrust  torrust-tracker too, which takes twenty minutes to build
  --slow          fill aquatic_http's memory too (three to five minutes)
  --render        measure nothing: make charts and tables again from the results
Writes docs/performance/ and the tables of docs/performance.md; with --row or --server, which make
a trial, it prints tables instead. Servers are found in the path, in /usr/sbin or ~/.cargo/bin:
  apt-get install nginx opentracker hitch openssl
  cargo install aquatic_http --version 0.9.0 --locked
  cargo install aquatic_udp --version 0.9.0 --features io-uring
  apt-get install pkg-config libssl-dev libsqlite3-dev
  cargo install torrust-tracker --version 3.0.0 --locked
It needs setpriv, taskset, openssl and two CPUs.";

const ROWS: [&str; 5] = ["keep", "close", "memory", "workers", "udp"];
const FLAGS: [&str; 3] = ["slow", "with-torrust", "render"];

fn main() -> ExitCode {
    annulus_bench::init!();
    annulus_bench::run(USAGE, &[], || {
        let known = Known { rows: &ROWS, servers: &ServerKind::all(), flags: &FLAGS };
        let mut options = BenchOptions::parse(&known)?;
        let is_trial = !options.rows.is_empty() || options.names_servers;
        if options.rows.is_empty() {
            options.rows = ROWS.map(str::to_owned).into();
        }
        compare(&options, is_trial).map(|()| true)
    })
}

fn compare(options: &BenchOptions, is_trial: bool) -> Result<()> {
    let file = repository("docs/performance/results.json");
    if !options.has_flag("render") {
        let results = measure(options)?;
        if is_trial {
            let trial = scratch("compare-trial.json");
            write(&trial, &results.json()?)?;
            for table in tables::NAMES.split(' ').filter_map(|name| tables::of(&results, name)) {
                println!("{table}");
            }
            println!("The results are in {}.", trial.display());
            return Ok(());
        }
        write(&file, &results.json()?)?;
    }
    let results: Results = serde_json::from_str(&fs::read_to_string(&file)?)?;
    for (name, svg) in charts::all(&results) {
        write(&file.with_file_name(name), &svg)?;
    }
    let document = repository("docs/performance.md");
    write(&document, &tables::fill(&fs::read_to_string(&document)?, &results)?)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn measure(options: &BenchOptions) -> Result<Results> {
    annulus_bench::prepare(DESCRIPTORS)?;
    load::build()?;
    let given =
        |flag: &str| if options.has_flag(flag) { format!(" --{flag}") } else { String::new() };
    let flags = given("slow") + &given("with-torrust");
    let (rounds, seconds) = (options.rounds as u64, options.seconds);
    let program = "cargo bench --bench compare --";
    let command = format!("{program} --rounds {rounds} --seconds {seconds}{flags}");
    let facts = machine::facts();
    let mut results = Results { command, facts, rounds, seconds, ..Results::default() };
    for (keep_alive, at_rate) in [(KeepAlive::Keep, false), (KeepAlive::Close, true)] {
        if options.names(keep_alive.word()) {
            let rows = Transport::ALL.map(|transport| Row::of(keep_alive, transport));
            rows::measure(keep_alive, &rows, at_rate, options, &mut results);
        }
    }
    if options.names("memory") {
        // Both engines keep the same.
        results.memory = memory::measure_all(&options.servers, |server| {
            server.is_tracker()
                && server.serves(KeepAlive::Close, Transport::Plain)
                && server != ServerKind::AnnulusEpoll
                && (options.has_flag("slow") || server != ServerKind::Aquatic)
        });
    }
    if options.names("workers") {
        results.workers = rows::measure_workers(options);
    }
    if options.names("udp") {
        udp::measure(options, &mut results);
    }
    Ok(results)
}

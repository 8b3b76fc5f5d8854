//! The wire benchmark: what an announce costs the server, over real sockets.
//!
//! It starts the floor (the least that any server could cost), this tracker on both of its engines,
//! another build of it that `ANNULUS` names, and nginx, opentracker (over TLS behind hitch) and
//! aquatic_http if they are installed. `annulus-load` loads them in turn, round after round. The
//! server has a CPU to itself and the load has another. What counts is the ratio of CPU times: of a
//! plain response to the floor, of one over TLS to the same server's plain one and a bare
//! handshake.

use std::env;
use std::fs::{self, File};
use std::process::ExitCode;

use annulus::clock::Clock;
use annulus::state::write_swarms;
use annulus_bench::net::{KeepAlive, Transport};
use annulus_bench::options::{BenchOptions, Known};
use annulus_bench::results::{Results, Row};
use annulus_bench::servers::{DESCRIPTORS, ServerKind};
use annulus_bench::{idle, large, load, machine, memory, rows, tables, udp, wrk};
use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo bench --bench wire -- [OPTIONS]
  --rounds N      measurements of each server and row (default 3)
  --seconds S     seconds of each measurement (default 3)
  --row ROW       only this row: keep, close, wrk-keep, wrk-close (the same two under wrk),
                  tls-keep, tls-close (with the plain one beside it, in the same rounds), memory,
                  idle or udp; may be repeated
  --server NAME   only this server besides the floor: annulus, annulus-epoll, annulus-reference,
                  nginx, opentracker, aquatic_http or aquatic_udp; may be repeated
  --large         the rows keep, close and udp also with ten million peers of a million torrents,
                  which this tracker reads at its start, and with a load over all of these
  --slow          fill opentracker's memory too, one connection an announce (about a minute)
With ANNULUS=path in the environment that build is measured too, as annulus-reference.
It needs setpriv, taskset, openssl and two CPUs, and for two of the rows wrk.";

const ROWS: [&str; 9] =
    ["keep", "close", "wrk-keep", "wrk-close", "tls-keep", "tls-close", "memory", "idle", "udp"];

fn main() -> ExitCode {
    annulus_bench::init!();
    annulus_bench::run(USAGE, &[], || {
        let known = Known { rows: &ROWS, servers: &ServerKind::all(), flags: &["slow", "large"] };
        let mut options = BenchOptions::parse(&known)?;
        if options.rows.is_empty() {
            let all = ["wrk-keep", "wrk-close", "tls-keep", "tls-close", "udp", "memory", "idle"];
            options.rows = all.map(str::to_owned).into();
        }
        if !options.servers.contains(&ServerKind::Floor) {
            options.servers.insert(0, ServerKind::Floor);
        }
        measure(&options)
    })
}

/// The rows that were asked for with connections of this kind.
fn rows_of(keep_alive: KeepAlive, options: &BenchOptions) -> Vec<Row> {
    let [plain, tls] = Transport::ALL.map(|transport| Row::of(keep_alive, transport));
    let (wrk, word) = match keep_alive {
        KeepAlive::Keep => (Row::WrkKeep, "keep"),
        KeepAlive::Close => (Row::WrkClose, "close"),
    };
    let names = |before: &str| options.names(&format!("{before}{word}"));
    let mut rows = Vec::new();
    if names("") || names("tls-") {
        rows.push(plain);
    }
    if names("wrk-") {
        match wrk::missing() {
            None => rows.push(wrk),
            Some(why) => println!("### {}\n\nskipped: {why}\n", wrk.title()),
        }
    }
    if names("tls-") {
        rows.push(tls);
    }
    rows
}

/// Returns whether the floor, the handshakes and this tracker came through without an error.
fn measure(options: &BenchOptions) -> Result<bool> {
    annulus_bench::prepare(DESCRIPTORS)?;
    load::build()?;
    let (rounds, seconds) = (options.rounds as u64, options.seconds);
    let command = env::args().skip(1).collect::<Vec<_>>().join(" ");
    let facts = machine::facts();
    let mut results = Results { command, facts, rounds, seconds, ..Results::default() };
    println!("{}", tables::of(&results, "facts").unwrap_or_default());
    if options.has_flag("large") {
        write_large_state().context("the state of large swarms")?;
    }
    for keep_alive in [KeepAlive::Keep, KeepAlive::Close] {
        let rows = rows_of(keep_alive, options);
        if !rows.is_empty() {
            rows::measure(keep_alive, &rows, false, options, &mut results);
        }
    }
    if options.names("udp") {
        udp::measure(options, &mut results);
        for rows in [Row::UDP, Row::UDP_LARGE] {
            let title = if rows == Row::UDP { "UDP" } else { rows[0].title() };
            if !results.row(rows[0]).is_empty() {
                println!("### {title}\n\n{}", tables::udp(&results, &rows));
            }
        }
    }
    let _ = fs::remove_file(large::state_file());
    if options.names("memory") {
        results.memory = memory::measure_all(&options.servers, |server| match server {
            // A constant response keeps nothing, and both engines keep the same.
            ServerKind::Annulus | ServerKind::Reference => true,
            _ => server == ServerKind::Opentracker && options.has_flag("slow"),
        });
    }
    let rows = Row::FULL_SPEED.into_iter().chain(Row::WRK).chain(Row::LARGE);
    for row in rows.filter(|row| !results.row(*row).is_empty()) {
        println!("### {}\n\n{}", row.title(), tables::full_speed(&results, row));
    }
    for (name, is_empty) in
        [("handshakes", results.handshakes.is_empty()), ("memory", results.memory.is_empty())]
    {
        if !is_empty {
            println!("### {name}\n\n{}", tables::of(&results, name).unwrap_or_default());
        }
    }
    let idle = if options.names("idle") { idle::measure_all(&options.servers) } else { Vec::new() };
    if !idle.is_empty() {
        println!(
            "### memory of an idle connection, without the kernel's part\n\n{}",
            idle::table(&idle)
        );
    }
    let is_ours = |name: &str| name == "floor" || name.starts_with("annulus");
    let runs = results.runs.iter().map(|run| (&run.server, run.outcome.done().is_ok()));
    let memory = results.memory.iter().map(|it| (&it.server, it.outcome.done().is_ok()));
    let idle = idle.iter().map(|it| (&it.server, it.bytes.iter().all(Result::is_ok)));
    Ok(runs.chain(memory).chain(idle).all(|(server, is_done)| is_done || !is_ours(server)))
}

/// Writes what this tracker is to read at its start.
fn write_large_state() -> Result<()> {
    let file = File::create(large::state_file())?;
    let unix_s = u64::try_from(Clock::unix_s())?;
    write_swarms(&large::swarms(), file, (unix_s, 0), || 0, || true)?;
    Ok(())
}

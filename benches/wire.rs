//! The wire benchmark: what an announce costs the server, over real sockets.
//!
//! `cargo bench --bench wire` starts the floor (the least that any server could cost, see
//! `floor.rs`), this tracker on both of its engines, and nginx and opentracker where they are
//! installed. It lets wrk load them in turn, round after round, so that whatever disturbs the
//! machine disturbs all of them, and prints the server's CPU time for each answer. The server
//! has a CPU to itself and the load has another. What counts is the ratio to the floor.
//!
//! It needs wrk, setpriv and taskset, and two CPUs.

use std::io;
use std::process::ExitCode;

#[path = "wire/check.rs"]
mod check;
#[path = "wire/client.rs"]
mod client;
#[path = "floor/server.rs"]
mod floor;
#[path = "wire/load.rs"]
mod load;
#[path = "wire/machine.rs"]
mod machine;
#[path = "wire/memory.rs"]
mod memory;
#[path = "wire/options.rs"]
mod options;
#[path = "wire/process.rs"]
mod process;
#[path = "wire/servers.rs"]
mod servers;
#[path = "wire/table.rs"]
mod table;
#[path = "wire/torrents.rs"]
mod torrents;

use check::check;
use floor::Connections;
use load::Load;
use memory::Memory;
use options::{Options, USAGE};
use process::{CpuTime, pin_self};
use servers::{Running, SERVE_FLOOR, Server, installed};
use table::{Round, Series};
use torrents::LOAD_TORRENTS;

/// Seconds of load before the first measurement: one pass over all the load's announces.
const WARM_UP_SECONDS: u64 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, address, connections] = arguments.as_slice()
        && word == SERVE_FLOOR
    {
        return serve_floor(address, connections);
    }
    // `cargo test --all-targets` runs benchmarks too, but without this argument.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(arguments.into_iter()) {
        Ok(options) => options,
        Err(complaint) => {
            eprintln!("{complaint}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(missing) = ["wrk", "setpriv", "taskset"].iter().find(|p| installed(p).is_none()) {
        eprintln!("wire: {missing} is needed and not installed");
        return ExitCode::FAILURE;
    }
    if let Err(error) = pin_self() {
        eprintln!("wire: two CPUs are needed: {error}");
        return ExitCode::FAILURE;
    }

    machine::print();
    println!("- {} rounds of {} s for each server and row", options.rounds, options.seconds);
    let mut sound = true;
    for row in &options.rows {
        sound &= measure_row(*row, &options);
    }
    if options.memory {
        sound &= measure_memory(&options);
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve_floor(address: &str, connections: &str) -> ExitCode {
    let (Ok(address), Some(connections)) = (address.parse(), Connections::parse(connections))
    else {
        return ExitCode::FAILURE;
    };
    let error = floor::serve(address, connections).unwrap_err();
    eprintln!("floor: {error}");
    ExitCode::FAILURE
}

/// Measures and prints one row. Returns whether the floor and this tracker came through it
/// without an error.
fn measure_row(connections: Connections, options: &Options) -> bool {
    let servers = options.servers.iter().filter(|server| server.serves(connections));
    let mut all = Vec::new();
    for server in servers {
        let started = start_and_warm_up(*server, connections).map_err(|e| e.to_string());
        all.push((*server, started.map(|running| (running, Vec::new()))));
    }
    for round in 0..options.rounds {
        // Another server goes first each time.
        let count = all.len();
        for turn in 0..count {
            let (server, state) = &mut all[(turn + round) % count];
            let Ok((running, rounds)) = state else { continue };
            eprintln!("wire: {connections}, round {}, {}", round + 1, server.name());
            match measure(running, connections, options.seconds) {
                Ok(measured) => rounds.push(measured),
                Err(error) => *state = Err(error.to_string()),
            }
        }
    }
    let all: Vec<Series> = all
        .into_iter()
        .map(|(server, state)| {
            let rounds = state.and_then(|(running, rounds)| {
                // Still right, after all that?
                check(server, &running, connections).map_err(|error| error.to_string())?;
                Ok(rounds)
            });
            Series { server, rounds }
        })
        .collect();
    let title = match connections {
        Connections::Keep => "plain, keep-alive",
        Connections::Close => "plain, one request a connection",
    };
    table::print(title, &all);
    all.iter().filter(|series| series.server == Server::Floor || series.server.is_ours()).all(
        |series| {
            series.rounds.as_ref().is_ok_and(|rounds| {
                rounds.iter().all(|r| r.load.socket_errors == 0 && r.load.status_errors == 0)
            })
        },
    )
}

fn start_and_warm_up(server: Server, connections: Connections) -> io::Result<Running> {
    let running = server.start(connections, LOAD_TORRENTS)?;
    check(server, &running, connections)?;
    Load::drive(running.address, connections, WARM_UP_SECONDS)?;
    Ok(running)
}

/// Measures one round; a second time if something else ran on the server's CPU, and then the
/// less disturbed one counts.
fn measure(running: &Running, connections: Connections, seconds: u64) -> io::Result<Round> {
    let round = measure_once(running, connections, seconds)?;
    if !round.is_disturbed() {
        return Ok(round);
    }
    let again = measure_once(running, connections, seconds)?;
    Ok(if again.waited() < round.waited() { again } else { round })
}

fn measure_once(running: &Running, connections: Connections, seconds: u64) -> io::Result<Round> {
    let before = CpuTime::of(running.pid())?;
    let load = Load::drive(running.address, connections, seconds)?;
    let cpu = CpuTime::of(running.pid())?.since(before);
    if load.answers == 0 {
        return Err(io::Error::other("answered nothing"));
    }
    if cpu.ran.is_zero() {
        return Err(io::Error::other(
            "its CPU time is unknown: no scheduler statistics, or its threads ended",
        ));
    }
    Ok(Round { load, cpu })
}

/// Measures and prints the trackers' memory. Returns whether this tracker's is known.
fn measure_memory(options: &Options) -> bool {
    let mut all = Vec::new();
    for server in options.servers.iter().copied() {
        let connections = match server {
            Server::Annulus => Connections::Keep,
            Server::Opentracker if options.slow => Connections::Close,
            // A constant answer keeps nothing, and both engines keep the same.
            _ => continue,
        };
        eprintln!("wire: memory, {}", server.name());
        all.push((server, Memory::measure(server, connections).map_err(|e| e.to_string())));
    }
    if !all.is_empty() {
        memory::print(&all);
    }
    all.iter().filter(|(server, _)| server.is_ours()).all(|(_, memory)| memory.is_ok())
}

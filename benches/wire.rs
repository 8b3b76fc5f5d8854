//! The wire benchmark: what an announce costs the server, over real sockets.
//!
//! `cargo bench --bench wire` starts the floor (the least that any server could cost, see
//! `floor.rs`), this tracker on both of its engines, and nginx, opentracker (over TLS behind
//! hitch) and aquatic_http where they are installed. It lets wrk load them in turn, round after
//! round, so that whatever disturbs the machine disturbs all of them, and prints the server's CPU
//! time for each answer. The server has a CPU to itself and the load has another. What counts is
//! the ratio: of a plain answer to the floor, of one over TLS to the same server's plain one and
//! a bare handshake.
//!
//! It needs wrk, setpriv, taskset and prlimit, and two CPUs; for TLS openssl and a C compiler.

use std::process::ExitCode;

#[path = "wire/check.rs"]
mod check;
#[path = "wire/client.rs"]
mod client;
#[path = "wire/configurations.rs"]
mod configurations;
#[path = "wire/endpoint.rs"]
mod endpoint;
#[path = "floor/server.rs"]
mod floor;
#[path = "wire/handshake.rs"]
mod handshake;
#[path = "wire/idle.rs"]
mod idle;
#[path = "wire/load.rs"]
#[expect(dead_code, reason = "what the load costs wrk is not measured here")]
mod load;
#[path = "wire/machine.rs"]
mod machine;
#[path = "wire/memory.rs"]
mod memory;
#[path = "wire/options.rs"]
mod options;
#[path = "wire/process.rs"]
mod process;
#[path = "wire/row.rs"]
mod row;
#[path = "wire/servers.rs"]
mod servers;
#[path = "wire/table.rs"]
mod table;
#[path = "wire/tls.rs"]
mod tls;
#[path = "wire/torrents.rs"]
mod torrents;

use configurations::DESCRIPTORS;
use endpoint::Transport;
use floor::{Connections, Service};
use handshake::MEASURE_HANDSHAKES;
use idle::Idle;
use memory::Memory;
use options::{Options, USAGE};
use process::{pin_self, raise_descriptors};
use servers::{SERVE_FLOOR, Server, installed};

/// The programs without which nothing can be measured.
const NEEDED: [&str; 4] = ["wrk", "setpriv", "taskset", "prlimit"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [word, arguments @ ..] if word == SERVE_FLOOR => return serve_floor(arguments),
        [word, arguments @ ..] if word == MEASURE_HANDSHAKES => {
            return measure_handshakes(arguments);
        }
        _ => {}
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
    if let Err(complaint) = prepare(&options) {
        eprintln!("wire: {complaint}");
        return ExitCode::FAILURE;
    }

    machine::print();
    println!("- {} rounds of {} s for each server and row", options.rounds, options.seconds);
    let mut sound = true;
    for row in &options.rows {
        sound &= row.measure(&options);
    }
    if options.memory {
        sound &= measure_memory(&options);
    }
    if options.idle {
        sound &= measure_idle(&options);
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve_floor(arguments: &[String]) -> ExitCode {
    let Some(service) = Service::parse(arguments) else { return ExitCode::FAILURE };
    let error = floor::serve(service).unwrap_err();
    eprintln!("floor: {error}");
    ExitCode::FAILURE
}

fn measure_handshakes(arguments: &[String]) -> ExitCode {
    let Err(error) = handshake::print_median(arguments) else { return ExitCode::SUCCESS };
    eprintln!("{error}");
    ExitCode::FAILURE
}

/// Makes this process and what TLS takes ready, or says what is missing.
fn prepare(options: &Options) -> Result<(), String> {
    if let Some(missing) = NEEDED.iter().find(|program| installed(program).is_none()) {
        return Err(format!("{missing} is needed and not installed"));
    }
    pin_self().map_err(|error| format!("two CPUs are needed: {error}"))?;
    raise_descriptors(DESCRIPTORS).map_err(|error| format!("too few descriptors: {error}"))?;
    if options.has_tls() {
        tls::prepare().map_err(|error| format!("no TLS: {error}"))?;
    }
    Ok(())
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

/// Measures and prints what idle connections keep. Returns whether this tracker's are known.
fn measure_idle(options: &Options) -> bool {
    let mut all = Vec::new();
    for server in options.servers.iter().copied() {
        if server.serves(Connections::Keep, Transport::Tls) {
            eprintln!("wire: idle, {}", server.name());
            all.push((server, Idle::measure(server)));
        }
    }
    idle::print(&all);
    all.iter().filter(|(server, _)| server.is_ours()).all(|(_, idle)| idle.is_known())
}

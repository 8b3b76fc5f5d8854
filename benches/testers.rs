//! The load testers themselves: how much one core of each can drive.
//!
//! `cargo bench --bench testers` has `annulus-load`, wrk and aquatic_http_load_test, where they
//! are installed, ask the same server in turn, round after round, each on one and the same CPU
//! beside the server's. A tester that is faster than the server waits for it: so what counts is
//! requests per second of the tester's own CPU time, and requests per second stand beside.
//!
//! Plain connections go to the floor (see `floor.rs`): it costs less than any tracker, so that
//! the testers' own limit is as near as can be, and gives all of them the same answers. It
//! speaks no TLS; handshakes go to this tracker. The servers, wrk's script and the library that
//! keeps it from resuming sessions are those of `wire.rs`, the calls of `annulus-load` those of
//! `compare.rs`.
//!
//! It needs setpriv, taskset, prlimit, openssl and a C compiler, and two CPUs.

use std::io;
use std::process::ExitCode;

#[path = "testers/aquatic.rs"]
mod aquatic;
#[path = "wire/configurations.rs"]
mod configurations;
#[path = "wire/endpoint.rs"]
#[expect(dead_code, reason = "a row has one transport")]
mod endpoint;
#[path = "floor/server.rs"]
mod floor;
#[path = "compare/json.rs"]
#[expect(dead_code, reason = "of a report only numbers are read")]
mod json;
#[path = "compare/load.rs"]
mod load;
#[path = "wire/machine.rs"]
mod machine;
#[path = "testers/options.rs"]
mod options;
#[path = "wire/process.rs"]
#[expect(dead_code, reason = "what the servers cost is not measured here")]
mod process;
#[path = "compare/row.rs"]
#[expect(dead_code, reason = "there are fewer rows")]
mod row;
#[path = "wire/servers.rs"]
#[expect(dead_code, reason = "what the servers cost is not measured here")]
mod servers;
#[path = "compare/spread.rs"]
mod spread;
#[path = "testers/table.rs"]
mod table;
#[path = "testers/tester.rs"]
mod tester;
#[path = "wire/tls.rs"]
#[expect(dead_code, reason = "no client of our own is used here")]
mod tls;
#[path = "wire/torrents.rs"]
#[expect(dead_code, reason = "the testers write the requests")]
mod torrents;
#[path = "wire/load.rs"]
#[expect(dead_code, reason = "the answers' lengths and latencies are not looked at")]
mod wrk;

use configurations::DESCRIPTORS;
use endpoint::Transport;
use floor::{Connections, Service, body};
use load::{LOAD_ANNOUNCES, Load};
use options::{Options, USAGE};
use process::{pin_self, raise_descriptors};
use row::Row;
use servers::{Running, SERVE_FLOOR, Server, Setup, installed};
use table::Series;
use tester::Tester;
use torrents::LOAD_TORRENTS;

/// The programs without which nothing can be measured.
const NEEDED: [&str; 3] = ["setpriv", "taskset", "prlimit"];

/// The rows.
const ROWS: [Row; 3] = [Row::Keep, Row::Close, Row::TlsClose];

/// Peers in the floor's answers: each number up to that for which the testers ask, in turn.
const PEERS_MAX: usize = 50;

/// Seconds of load at most until the tracker knows every peer of the load.
const FILL_SECONDS_MAX: u64 = 12;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, arguments @ ..] = arguments.as_slice()
        && word == SERVE_FLOOR
    {
        let Some(service) = Service::parse(arguments) else { return ExitCode::FAILURE };
        return failed(&floor::serve(service).unwrap_err());
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
    match measure_all(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("testers: {error}");
    ExitCode::FAILURE
}

fn measure_all(options: &Options) -> io::Result<()> {
    if let Some(missing) = NEEDED.iter().find(|program| installed(program).is_none()) {
        return Err(io::Error::other(format!("{missing} is needed and not installed")));
    }
    // Before CPU time is measured: it may have to be built.
    load::program()?;
    pin_self()?;
    raise_descriptors(DESCRIPTORS)?;
    tls::prepare()?;
    machine::print();
    println!("- aquatic_http_load_test: {}", aquatic::version());
    println!("- {} rounds of {} s", options.rounds, options.seconds);
    for row in ROWS {
        let running = start(row)?;
        table::print(row, &measure(row, &running, options));
    }
    println!("\n{}", table::NOTES);
    Ok(())
}

/// Starts the server of a row; a tracker is filled, so that its answers stay alike.
fn start(row: Row) -> io::Result<Running> {
    let connections = connections(row);
    if row.is_tls() {
        let running = Server::Annulus.start(Setup::both(connections, LOAD_TORRENTS))?;
        let plain = running.endpoint(Transport::Plain)?;
        let fill = Load::full(Server::Annulus, plain, connections, FILL_SECONDS_MAX);
        Load { requests: LOAD_ANNOUNCES, ..fill }.drive()?;
        return Ok(running);
    }
    let lengths = (0..=PEERS_MAX).map(|peers| {
        let list = format!("5:peers{}:", peers * 6);
        (0..).find(|bytes| body(*bytes).contains(&list)).unwrap_or_default()
    });
    let setup = Setup::plain(connections, LOAD_TORRENTS);
    Server::Floor.start(Setup { body_bytes: lengths.collect(), ..setup })
}

fn connections(row: Row) -> Connections {
    if row == Row::Keep { Connections::Keep } else { Connections::Close }
}

/// Lets every tester have its turn in every round, another one first each time. One that fails
/// is not asked again.
fn measure(row: Row, running: &Running, options: &Options) -> Vec<Series> {
    let mut all = Tester::ALL.map(|tester| Series { tester, rounds: Ok(Vec::new()) });
    for round in 0..options.rounds {
        for turn in 0..all.len() {
            let Series { tester, rounds } = &mut all[(turn + round) % Tester::ALL.len()];
            let Ok(done) = rounds else { continue };
            eprintln!("testers: {}, {}", row.title(), tester.name());
            match tester.drive(row, running, options.seconds) {
                Ok(driven) => done.push(driven),
                Err(error) => {
                    eprintln!("testers: {error}");
                    *rounds = Err(error.to_string());
                }
            }
        }
    }
    all.into()
}

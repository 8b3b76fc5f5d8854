//! Rows by UDP (BEP 15): all servers under the same load, round after round, with more and more
//! requests in flight.

use anyhow::Result;

use crate::load::LoadJob;
use crate::net::{KeepAlive, Transport};
use crate::options::BenchOptions;
use crate::results::{Results, Row, ServerRun};
use crate::rows::{FILL_SECONDS_MAX, in_turn, run, run_undisturbed};
use crate::servers::{RunningServer, ServerKind, Setup};
use crate::torrents::{LOAD_TORRENTS, UDP_ANNOUNCES};

/// Requests in flight while a server is filled: few, so that none is lost.
const FILL_IN_FLIGHT: u64 = 64;

/// A server, or why it cannot be measured.
type Started = (ServerKind, Result<RunningServer, String>);

/// Measures all servers, and adds the runs to `results`.
pub fn measure(options: &BenchOptions, results: &mut Results) {
    let servers = options.servers.iter().copied().filter(|server| server.serves_udp());
    let mut all: Vec<Started> = servers.map(|server| (server, start(server))).collect();
    for round in 0..options.rounds {
        for row in Row::UDP {
            for at in in_turn(all.len(), round) {
                results.runs.push(measure_one(&mut all[at], row, options.seconds));
            }
        }
    }
}

/// A server that fails is not measured again.
fn measure_one((server, started): &mut Started, row: Row, seconds: u64) -> ServerRun {
    let name = server.name();
    eprintln!("{row:?}, {name}");
    let outcome = started.as_ref().map_err(Clone::clone).and_then(|running| {
        let job = job(*server, running, row.in_flight(), seconds).map_err(shown)?;
        run_undisturbed(|| run(running, job)).map_err(shown)
    });
    if let Err(why) = &outcome {
        eprintln!("{name}: {why}");
        *started = Err(why.clone());
    }
    ServerRun { row, server: name.to_owned(), workers: 1, outcome: outcome.into() }
}

/// Starts a server, and makes every announce of the load once: until then responses name fewer
/// peers. The load validates them.
fn start(server: ServerKind) -> Result<RunningServer, String> {
    eprintln!("udp, warming up {}", server.name());
    let started = || {
        let setup = Setup { udp: true, ..Setup::plain(KeepAlive::Keep, LOAD_TORRENTS) };
        let running = server.start(&setup)?;
        let fill = job(server, &running, FILL_IN_FLIGHT, FILL_SECONDS_MAX)?;
        LoadJob { requests: UDP_ANNOUNCES, ..fill }.run()?;
        Ok(running)
    };
    started().map_err(shown)
}

fn job(
    server: ServerKind,
    running: &RunningServer,
    in_flight: u64,
    seconds: u64,
) -> Result<LoadJob> {
    let at = running.endpoint(Transport::Plain)?;
    let job = LoadJob::full_speed(server, at, KeepAlive::Keep, seconds);
    Ok(LoadJob { udp_in_flight: in_flight, ..job })
}

fn shown(error: anyhow::Error) -> String {
    format!("{error:#}")
}

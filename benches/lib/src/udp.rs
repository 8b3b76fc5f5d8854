//! Rows by UDP (BEP 15): all servers under the same load, round after round, with more and more
//! requests in flight.

use anyhow::Result;

use crate::load::LoadJob;
use crate::net::{KeepAlive, Transport};
use crate::options::BenchOptions;
use crate::results::{Results, Row, ServerRun};
use crate::rows::{FILL_SECONDS_MAX, in_turn, run, run_undisturbed};
use crate::servers::{RunningServer, ServerKind, Setup};
use crate::torrents::SwarmSize;

/// Requests in flight while a server is filled: few, so that none is lost.
const FILL_IN_FLIGHT: u64 = 64;

/// A server, or why it cannot be measured.
struct UdpSubject {
    server: ServerKind,
    size: SwarmSize,
    state: Result<RunningServer, String>,
}

/// Measures all servers, and adds the runs to `results`; with the flag `large`, this tracker with
/// large swarms too.
pub fn measure(options: &BenchOptions, results: &mut Results) {
    let servers = options.servers.iter().copied().filter(|server| server.serves_udp());
    let start = |size| move |server| UdpSubject { server, size, state: start(server, size) };
    let mut all: Vec<UdpSubject> = servers.map(start(SwarmSize::Usual)).collect();
    if options.has_flag("large") {
        all.extend(options.with_large_swarms().into_iter().map(start(SwarmSize::Large)));
    }
    for round in 0..options.rounds {
        for rows in Row::UDP.into_iter().zip(Row::UDP_LARGE) {
            for at in in_turn(all.len(), round) {
                let row = if all[at].size == SwarmSize::Usual { rows.0 } else { rows.1 };
                results.runs.push(measure_one(&mut all[at], row, options.seconds));
            }
        }
    }
}

/// A server that fails is not measured again.
fn measure_one(subject: &mut UdpSubject, row: Row, seconds: u64) -> ServerRun {
    let UdpSubject { server, size, state } = subject;
    let name = server.name();
    eprintln!("{row:?}, {name}");
    let outcome = state.as_ref().map_err(Clone::clone).and_then(|running| {
        let job = job(*server, running, row.in_flight(), seconds).map_err(shown)?;
        run_undisturbed(|| run(running, LoadJob { size: *size, ..job })).map_err(shown)
    });
    if let Err(why) = &outcome {
        eprintln!("{name}: {why}");
        *state = Err(why.clone());
    }
    ServerRun { row, server: name.to_owned(), workers: 1, outcome: outcome.into() }
}

/// Starts a server, and makes every announce of the load once: until then responses name fewer
/// peers. The load validates them.
fn start(server: ServerKind, size: SwarmSize) -> Result<RunningServer, String> {
    eprintln!("udp, warming up {}", server.name());
    let started = || {
        let setup = Setup { udp: true, size, ..Setup::plain(KeepAlive::Keep, size.torrents()) };
        let running = server.start(&setup)?;
        let fill = job(server, &running, FILL_IN_FLIGHT, FILL_SECONDS_MAX)?;
        LoadJob { requests: size.announces(true), size, ..fill }.run()?;
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

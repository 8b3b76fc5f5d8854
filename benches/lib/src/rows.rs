//! Timed rows: all servers under the same load, round after round, plain and over TLS in the same
//! rounds, so that whatever disturbs the machine disturbs all of them.

use std::rc::Rc;

use anyhow::{Result, anyhow, ensure};

use crate::handshake::BareHandshake;
use crate::load::LoadJob;
use crate::net::{Endpoint, KeepAlive, Transport, check, response};
use crate::options::BenchOptions;
use crate::results::{LoadedRun, Results, Row, ServerRun};
use crate::servers::{RunningServer, ServerKind, Setup};
use crate::stats::Spread;
use crate::torrents::{CHECK_TORRENT, LOAD_TORRENTS, SwarmSize};

/// Waiting for the CPU, as a share of the CPU time used, beyond which a measurement counts as
/// disturbed: something else ran on the server's CPU.
const WAITED_MAX: f64 = 0.05;

/// Seconds of load at most until every announce of the load was made once.
pub(crate) const FILL_SECONDS_MAX: u64 = 12;

/// Different lengths of the constant responses. One cannot stand for all: to TCP, a long response
/// and a short one are more than two of their mean. They take turns, by a step without a common
/// factor.
const LENGTHS: usize = 64;
const LENGTH_STEP: usize = 37;

/// One server on one transport.
struct Subject {
    server: ServerKind,
    row: Row,
    keep_alive: KeepAlive,
    transport: Transport,
    size: SwarmSize,
    /// Or why it cannot be measured.
    state: Result<(Rc<RunningServer>, Endpoint), String>,
}

/// Measures all servers with connections of this kind in these rows, and adds the runs to
/// `results`. With `at_rate`, also at a rate that all trackers can keep; with the flag `large`,
/// this tracker with large swarms too, and a floor with responses as long as it gives then.
pub fn measure(
    keep_alive: KeepAlive,
    rows: &[Row],
    at_rate: bool,
    options: &BenchOptions,
    results: &mut Results,
) {
    let mut all = start_all(&options.servers, keep_alive, rows, SwarmSize::Usual);
    if options.has_flag("large") {
        let servers = options.with_large_swarms();
        let row = Row::with_size(keep_alive, SwarmSize::Large);
        all.extend(start_all(&servers, keep_alive, &[row], SwarmSize::Large));
    }
    for round in 0..options.rounds {
        for at in in_turn(all.len(), round) {
            let row = all[at].row;
            all[at].measure(row, 0, options.seconds, &mut results.runs);
        }
        if rows.contains(&Row::TlsClose) {
            eprintln!("bare handshakes, round {}", round + 1);
            match BareHandshake::measure() {
                Ok(bare) => results.handshakes.push(bare),
                Err(error) => eprintln!("{error:#}"),
            }
        }
    }
    for (row, transport) in Row::AT_RATE.into_iter().zip(Transport::ALL).filter(|_| at_rate) {
        let is_meant = |subject: &Subject| subject.row == Row::of(keep_alive, transport);
        all.sort_by_key(|subject| !is_meant(subject));
        let count = all.iter().filter(|subject| is_meant(subject)).count();
        let Some(rate) = half_of_the_slowest(&all[..count], results) else { continue };
        for round in 0..options.rounds {
            for at in in_turn(count, round) {
                all[at].measure(row, rate, options.seconds, &mut results.runs);
            }
        }
    }
    // A server that gives wrong responses after all that loses its figures.
    for subject in all {
        let Ok((_, at)) = subject.state else { continue };
        if let Err(error) = check(subject.server, at, keep_alive) {
            let server = subject.server.name().to_owned();
            let outcome = Err(format!("wrong after the load: {error:#}")).into();
            results.runs.push(ServerRun { row: subject.row, server, workers: 1, outcome });
        }
    }
}

/// Measures this tracker with one worker and with two, on both CPUs with the load, in turn.
pub fn measure_workers(options: &BenchOptions) -> Vec<ServerRun> {
    let mut all = Vec::new();
    for (row, keep_alive) in [(Row::Keep, KeepAlive::Keep), (Row::Close, KeepAlive::Close)] {
        let server = ServerKind::Annulus;
        let started = [1, 2].map(|workers| {
            let setup = Setup::plain(keep_alive, LOAD_TORRENTS);
            let running = server.start(&Setup { spread: Some(workers), ..setup });
            let running = running.and_then(|running| {
                let at = running.endpoint(Transport::Plain)?;
                warm_up(server, at, keep_alive, SwarmSize::Usual)?;
                Ok((running, at))
            });
            (workers, running.map_err(shown))
        });
        for round in 0..options.rounds {
            for turn in in_turn(started.len(), round) {
                let (workers, started) = &started[turn];
                eprintln!("workers, {row:?}, {workers}");
                let outcome = started.as_ref().map_err(Clone::clone).and_then(|(running, at)| {
                    let plan = LoadJob::full_speed(server, *at, keep_alive, options.seconds);
                    run(running, LoadJob { spread: true, ..plan }).map_err(shown)
                });
                let server = server.name().to_owned();
                all.push(ServerRun { row, server, workers: *workers, outcome: outcome.into() });
            }
        }
    }
    all
}

fn start_all(
    servers: &[ServerKind],
    keep_alive: KeepAlive,
    rows: &[Row],
    size: SwarmSize,
) -> Vec<Subject> {
    let has_tls = rows.iter().any(|row| row.is_tls());
    let setup = Setup { tls: has_tls, size, ..Setup::plain(keep_alive, size.torrents()) };
    let lengths = response_bytes(keep_alive, size).map_err(shown);
    let servers = servers.iter().filter(|it| it.serves(keep_alive, Transport::Plain));
    let started: Vec<_> = servers
        .map(|server| {
            let running = start(*server, &setup, &lengths).map(Rc::new);
            (*server, running.map_err(shown))
        })
        .collect();
    let mut all = Vec::new();
    for &row in rows {
        let transport = row.transport();
        for (server, running) in started.iter().filter(|it| it.0.serves(keep_alive, transport)) {
            eprintln!("{row:?}, warming up {}", server.name());
            let state = running.clone().and_then(|running| {
                let at = running.endpoint(transport).and_then(|at| {
                    if transport == Transport::Plain || *server == ServerKind::Aquatic {
                        warm_up(*server, at, keep_alive, size)?;
                    } else {
                        check(*server, at, keep_alive)?;
                        LoadJob::full_speed(*server, at, keep_alive, 1).run()?;
                    }
                    Ok(at)
                });
                Ok((running, at.map_err(shown)?))
            });
            all.push(Subject { server: *server, row, keep_alive, transport, size, state });
        }
    }
    all
}

impl Subject {
    /// Measures one round. A server that fails is not measured again.
    fn measure(&mut self, row: Row, rate: u64, seconds: u64, runs: &mut Vec<ServerRun>) {
        let name = self.server.name();
        eprintln!("{row:?}, {name}");
        let outcome = self.state.clone().and_then(|(running, at)| {
            let plan = LoadJob::full_speed(self.server, at, self.keep_alive, seconds);
            let is_wrk = row.is_under_wrk();
            let once = || run(&running, LoadJob { rate, size: self.size, is_wrk, ..plan });
            match self.server.waits_for_itself(self.transport) {
                true => once().map_err(shown),
                false => run_undisturbed(once).map_err(shown),
            }
        });
        if let Err(why) = &outcome {
            eprintln!("{name}: {why}");
            self.state = Err(why.clone());
        }
        let server = name.to_owned();
        runs.push(ServerRun { row, server, workers: 1, outcome: outcome.into() });
    }
}

/// Measures once, and a second time if something else ran on the server's CPU; then the less
/// disturbed run counts.
pub(crate) fn run_undisturbed(once: impl Fn() -> Result<LoadedRun>) -> Result<LoadedRun> {
    let first = once()?;
    if first.waited() <= WAITED_MAX {
        return Ok(first);
    }
    let again = once()?;
    Ok(if again.waited() < first.waited() { again } else { first })
}

fn shown(error: anyhow::Error) -> String {
    format!("{error:#}")
}

/// The order of a round: another one goes first each time.
pub(crate) fn in_turn(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round) % count)
}

/// One run of the load, and what the server had of the CPU meanwhile.
pub(crate) fn run(running: &RunningServer, plan: LoadJob) -> Result<LoadedRun> {
    let before = running.cpu_time()?;
    let report = plan.run()?;
    let cpu = running.cpu_time()?.since(before);
    ensure!(!cpu.ran.is_zero(), "CPU time unknown: no scheduler statistics, or threads ended");
    Ok(LoadedRun {
        allowed: plan.allowed(),
        server_ns: cpu.ran.as_nanos() as f64,
        waited_ns: cpu.waited.as_nanos() as f64,
        report,
    })
}

fn half_of_the_slowest(subjects: &[Subject], results: &Results) -> Option<u64> {
    let trackers = subjects.iter().filter(|subject| subject.server.is_tracker());
    let rates = trackers.filter_map(|subject| {
        let rounds = results.row(subject.row);
        let own = rounds.iter().find(|rounds| rounds.server == subject.server.name())?;
        own.median(LoadedRun::rate)
    });
    Spread::of(rates).map(|rates| (rates.least / 2.0) as u64).filter(|rate| *rate > 0)
}

/// Lengths of this tracker's responses to the load, heads included. Torrents are announced by
/// Zipf's law: as many announces go to ranks below a number as its logarithm has of that of all.
fn response_bytes(keep_alive: KeepAlive, size: SwarmSize) -> Result<Vec<usize>> {
    let setup = Setup { size, ..Setup::plain(keep_alive, size.torrents()) };
    let running = ServerKind::Annulus.start(&setup)?;
    let at = running.endpoint(Transport::Plain)?;
    warm_up(ServerKind::Annulus, at, keep_alive, size)?;
    let length = |step: usize| {
        let share = ((step * LENGTH_STEP % LENGTHS) as f64 + 0.5) / LENGTHS as f64;
        let torrent = (size.torrents() as f64).powf(share) as u64 - 1;
        let response = response(at, torrent, keep_alive)?;
        Ok(response.head_bytes + response.body.len())
    };
    (0..LENGTHS).map(length).collect()
}

/// Starts a server; one with constant responses with those lengths.
fn start(
    server: ServerKind,
    setup: &Setup,
    response_bytes: &Result<Vec<usize>, String>,
) -> Result<RunningServer> {
    let running = server.start(setup)?;
    if server.is_tracker() {
        return Ok(running);
    }
    // The rest of the response is the head, of which only the server knows the length.
    let at = running.endpoint(Transport::Plain)?;
    let head_bytes = response(at, CHECK_TORRENT, setup.keep_alive)?.head_bytes;
    drop(running);
    let mut body_bytes = response_bytes.clone().map_err(|why| anyhow!(why))?;
    body_bytes.iter_mut().for_each(|bytes| *bytes = bytes.saturating_sub(head_bytes));
    server.start(&Setup { body_bytes, ..setup.clone() })
}

/// Sees that the responses are right, and makes every announce of the load once: until then
/// responses name fewer peers.
fn warm_up(server: ServerKind, at: Endpoint, keep_alive: KeepAlive, size: SwarmSize) -> Result<()> {
    check(server, at, keep_alive)?;
    let plan = LoadJob::full_speed(server, at, keep_alive, FILL_SECONDS_MAX);
    LoadJob { requests: size.announces(false), size, ..plan }.run().map(drop)
}

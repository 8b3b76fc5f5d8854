//! The timed rows: all servers under the same load, round after round, plain and over TLS.

use std::io;
use std::rc::Rc;

use crate::check::{check, head_bytes};
use crate::endpoint::{Endpoint, Transport};
use crate::floor::{Connections, body};
use crate::handshake::BareHandshake;
use crate::load::{LOAD_ANNOUNCES, Load};
use crate::options::Options;
use crate::results::{Handshake, Measured, Results, Run};
use crate::row::Row;
use crate::servers::{Running, Server, Setup};
use crate::spread::Spread;
use crate::torrents::LOAD_TORRENTS;

/// Seconds of load at most until every announce of the load was made once.
const FILL_SECONDS_MAX: u64 = 12;

/// Seconds of load before the first measurement over TLS, where the swarms are full already.
const WARM_UP_SECONDS: u64 = 1;

/// The share of its CPU time for which a server may have waited for it: more is a disturbance.
const WAITED_MAX: f64 = 0.05;

/// Bytes of a compact address in the floor's answers.
const PEER_BYTES: usize = 6;

/// One server on one transport.
struct Subject {
    server: Server,
    transport: Transport,
    connections: Connections,
    /// Or why it cannot be measured.
    state: Result<(Rc<Running>, Endpoint), String>,
}

/// Measures all rows with connections of this kind, and adds what comes of it to `results`.
pub(crate) fn measure(connections: Connections, options: &Options, results: &mut Results) {
    let mut all = start(connections, options);
    for round in 0..options.rounds {
        for at in in_turn(all.len(), round) {
            let row = all[at].row();
            all[at].measure(row, 0, options.seconds, &mut results.runs);
        }
        if connections == Connections::Close {
            eprintln!("compare: bare handshakes, round {}", round + 1);
            match BareHandshake::measure() {
                Ok(bare) => results.handshakes.push(Handshake {
                    back_to_back_ns: bare.back_to_back.as_nanos() as f64,
                    paused_ns: bare.paused.as_nanos() as f64,
                    beside_load_ns: bare.beside_load.as_nanos() as f64,
                }),
                Err(error) => eprintln!("compare: {error}"),
            }
        }
    }
    if connections == Connections::Close {
        for (row, transport) in Row::AT_RATE.into_iter().zip(Transport::ALL) {
            all.sort_by_key(|subject| subject.transport != transport);
            let count = all.iter().filter(|subject| subject.transport == transport).count();
            let Some(rate) = half_of_the_slowest(&all[..count], results) else { continue };
            for round in 0..options.rounds {
                for at in in_turn(count, round) {
                    all[at].measure(row, rate, options.seconds, &mut results.runs);
                }
            }
        }
    }
    for subject in all {
        subject.finish(&mut results.runs);
    }
}

/// The order of a round: another one goes first each time.
fn in_turn(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round) % count)
}

/// Half of what the slowest tracker answered a second.
fn half_of_the_slowest(subjects: &[Subject], results: &Results) -> Option<u64> {
    let trackers = subjects.iter().filter(|subject| subject.server.is_tracker());
    let rates = trackers.filter_map(|subject| {
        let rounds = results.row(subject.row());
        let of_it = rounds.iter().find(|rounds| rounds.server == subject.server.name())?;
        Some(of_it.spread(Measured::rate)?.median)
    });
    Spread::of(rates).map(|rates| (rates.least / 2.0) as u64).filter(|rate| *rate > 0)
}

/// Starts and warms up all servers, each of them once for both transports.
fn start(connections: Connections, options: &Options) -> Vec<Subject> {
    let answer_bytes = answer_bytes(connections).map_err(|error| error.to_string());
    let servers = options.servers.iter().copied();
    let started: Vec<(Server, Result<Rc<Running>, String>)> = servers
        .filter(|server| server.serves(connections, Transport::Plain))
        .map(|server| {
            let started = answer_bytes.clone().and_then(|bytes| {
                start_one(server, connections, bytes).map_err(|error| error.to_string())
            });
            (server, started.map(Rc::new))
        })
        .collect();
    let mut all = Vec::new();
    for transport in Transport::ALL {
        for (server, running) in &started {
            if !server.serves(connections, transport) {
                continue;
            }
            eprintln!("compare: {transport}, {connections}, warming up {}", server.name());
            let state = running.clone().and_then(|running| {
                let at = prepare(*server, &running, transport, connections);
                Ok((running, at.map_err(|error| error.to_string())?))
            });
            all.push(Subject { server: *server, transport, connections, state });
        }
    }
    all
}

/// Starts a server; one that gives a constant answer with one as long as `answer_bytes`.
fn start_one(server: Server, connections: Connections, answer_bytes: usize) -> io::Result<Running> {
    let setup = Setup::both(connections, LOAD_TORRENTS);
    if !server.answers_at_length() {
        return server.start(setup);
    }
    // The rest of the answer is the head, of which only the server knows the length.
    let running = server.start(setup.clone())?;
    let head_bytes = head_bytes(running.endpoint(Transport::Plain)?, connections)?;
    drop(running);
    let longest = answer_bytes.saturating_sub(head_bytes);
    let whole = (0..=longest).rev().find(|bytes| has_whole_peers(&body(*bytes)));
    server.start(Setup { body_bytes: vec![whole.unwrap_or(0)], ..setup })
}

/// Whether the peers in the floor's answer are whole addresses, as the load demands of all.
fn has_whole_peers(body: &str) -> bool {
    let after = body.split("5:peers").nth(1).and_then(|rest| rest.split(':').next());
    after
        .and_then(|bytes| bytes.parse().ok())
        .is_some_and(|bytes: usize| bytes.is_multiple_of(PEER_BYTES))
}

/// The mean length of this tracker's answers to the load, their heads included.
fn answer_bytes(connections: Connections) -> io::Result<usize> {
    let running = Server::Annulus.start(Setup::plain(connections, LOAD_TORRENTS))?;
    let at = running.endpoint(Transport::Plain)?;
    fill(Server::Annulus, at, connections)?;
    let report = Load::full(Server::Annulus, at, connections, WARM_UP_SECONDS).drive()?;
    let number = |name| report.number(name).map_err(io::Error::other);
    Ok((number("received_bytes")? / number("good")?) as usize)
}

/// Sees that the answers are right, and fills the swarms: until then answers name fewer peers.
fn prepare(
    server: Server,
    running: &Running,
    transport: Transport,
    connections: Connections,
) -> io::Result<Endpoint> {
    let at = running.endpoint(transport)?;
    check(server, at, connections)?;
    if transport == Transport::Plain || !server.shares_swarms() {
        fill(server, at, connections)?;
    } else {
        Load::full(server, at, connections, WARM_UP_SECONDS).drive()?;
    }
    Ok(at)
}

fn fill(server: Server, at: Endpoint, connections: Connections) -> io::Result<()> {
    let load = Load::full(server, at, connections, FILL_SECONDS_MAX);
    Load { requests: LOAD_ANNOUNCES, ..load }.drive().map(drop)
}

impl Subject {
    /// The row in which it is asked as fast as it answers.
    fn row(&self) -> Row {
        match (self.transport, self.connections) {
            (Transport::Plain, Connections::Keep) => Row::Keep,
            (Transport::Plain, Connections::Close) => Row::Close,
            (Transport::Tls, Connections::Keep) => Row::TlsKeep,
            (Transport::Tls, Connections::Close) => Row::TlsClose,
        }
    }

    /// Measures one round. A server that fails is not asked again.
    fn measure(&mut self, row: Row, rate: u64, seconds: u64, runs: &mut Vec<Run>) {
        let name = self.server.name();
        eprintln!("compare: {}, {name}", row.name());
        let outcome = match &self.state {
            Ok((running, at)) => {
                let load = Load::full(self.server, *at, self.connections, seconds);
                let load = Load { rate, ..load };
                match self.server.waits_for_itself(self.transport) {
                    true => measure_once(running, load),
                    false => measure_undisturbed(running, load),
                }
                .map_err(|error| error.to_string())
            }
            Err(why) => Err(why.clone()),
        };
        if let Err(why) = &outcome {
            eprintln!("compare: {name}: {why}");
            self.state = Err(why.clone());
        }
        runs.push(Run { row, server: name.to_owned(), outcome });
    }

    /// Sees that the server is still right after all that, or else takes back its figures.
    fn finish(self, runs: &mut Vec<Run>) {
        let Ok((_, at)) = &self.state else { return };
        let Err(error) = check(self.server, *at, self.connections) else { return };
        let outcome = Err(format!("wrong after the load: {error}"));
        runs.push(Run { row: self.row(), server: self.server.name().to_owned(), outcome });
    }
}

/// Measures a second time if something else ran on the server's CPU; then the less disturbed
/// one counts.
fn measure_undisturbed(running: &Running, load: Load) -> io::Result<Measured> {
    let measured = measure_once(running, load)?;
    let waited = |of: &Measured| of.waited_ns / of.server_ns;
    if waited(&measured) <= WAITED_MAX {
        return Ok(measured);
    }
    let again = measure_once(running, load)?;
    Ok(if waited(&again) < waited(&measured) { again } else { measured })
}

/// One run of the load, and what the server had of the CPU meanwhile.
///
/// # Errors
///
/// The load fails, or the server is gone.
pub(crate) fn measure_once(running: &Running, load: Load) -> io::Result<Measured> {
    let before = running.cpu_time()?;
    let report = load.drive()?;
    let cpu = running.cpu_time()?.since(before);
    if cpu.ran.is_zero() {
        return Err(io::Error::other("its CPU time is unknown"));
    }
    Ok(Measured {
        allowed: load.allowed(),
        server_ns: cpu.ran.as_nanos() as f64,
        waited_ns: cpu.waited.as_nanos() as f64,
        report,
    })
}

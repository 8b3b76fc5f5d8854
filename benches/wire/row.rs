//! A timed row: all servers under the same load, round after round, plain and over TLS in the
//! same rounds.

use std::io;
use std::rc::Rc;

use crate::check::{check, head_bytes};
use crate::endpoint::{Endpoint, Transport};
use crate::floor::Connections;
use crate::handshake::BareHandshake;
use crate::load::{LOAD_ANNOUNCES, Load};
use crate::options::Options;
use crate::servers::{Running, Server, Setup};
use crate::table::{self, Round, Series};
use crate::torrents::LOAD_TORRENTS;

/// Seconds of load before the first measurement.
const WARM_UP_SECONDS: u64 = 2;

/// Seconds of load at most until a whole pass over the load's announces was made.
const FILL_SECONDS_MAX: u64 = 12;

/// Seconds of load from which the lengths of the answers are taken.
const LENGTH_SECONDS: u64 = 1;

/// What is asked of the servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Whether a connection carries one request or many.
    pub(crate) connections: Connections,
    /// Whether TLS is measured beside the plain connections.
    pub(crate) tls: bool,
}

/// One server on one transport.
struct Subject {
    server: Server,
    transport: Transport,
    /// Or why it cannot be measured.
    state: Result<Loaded, String>,
}

/// A server that answers, and what was measured of it.
struct Loaded {
    running: Rc<Running>,
    at: Endpoint,
    rounds: Vec<Round>,
}

impl Row {
    /// Measures and prints the row. Returns whether the floors, the handshakes and this tracker
    /// came through it without an error.
    pub(crate) fn measure(self, options: &Options) -> bool {
        let mut all = self.start(options);
        let mut handshakes = Ok(Vec::new());
        for round in 0..options.rounds {
            // Another server goes first each time.
            let count = all.len();
            for turn in 0..count {
                let subject = &mut all[(turn + round) % count];
                subject.measure(self.connections, options.seconds, round);
            }
            if self.has_handshakes() {
                eprintln!("wire: bare handshakes, round {}", round + 1);
                handshakes = handshakes.and_then(|mut costs: Vec<BareHandshake>| {
                    costs.push(BareHandshake::measure().map_err(|error| error.to_string())?);
                    Ok(costs)
                });
            }
        }
        let all: Vec<Series> =
            all.into_iter().map(|subject| subject.finish(self.connections)).collect();
        let handshakes = self.has_handshakes().then_some(handshakes);
        table::print(self, &all, handshakes.as_ref());
        all.iter().all(Series::is_sound) && handshakes.is_none_or(|costs| costs.is_ok())
    }

    /// Whether the servers shake hands for every request.
    fn has_handshakes(self) -> bool {
        self.tls && self.connections == Connections::Close
    }

    /// Starts and warms up all servers, each of them once for both transports.
    fn start(self, options: &Options) -> Vec<Subject> {
        let answer_bytes = self.answer_lengths().map_err(|error| error.to_string());
        let servers = options.servers.iter().copied();
        let started: Vec<(Server, Result<Rc<Running>, String>)> = servers
            .filter(|server| server.serves(self.connections, Transport::Plain))
            .map(|server| (server, self.start_one(server, answer_bytes.clone())))
            .collect();
        let mut all = Vec::new();
        for transport in Transport::ALL {
            if transport == Transport::Tls && !self.tls {
                continue;
            }
            for (server, running) in &started {
                if !server.serves(self.connections, transport) {
                    continue;
                }
                let state =
                    running.clone().and_then(|running| self.prepare(*server, running, transport));
                all.push(Subject { server: *server, transport, state });
            }
        }
        all
    }

    fn start_one(
        self,
        server: Server,
        answer_bytes: Result<Vec<usize>, String>,
    ) -> Result<Rc<Running>, String> {
        let setup = Setup { tls: self.tls, ..Setup::plain(self.connections, LOAD_TORRENTS) };
        let start = |setup| server.start(setup).map_err(|error| error.to_string());
        if !server.answers_at_length() {
            return start(setup).map(Rc::new);
        }
        // The rest of the answer is the head, of which only the server knows the length.
        let head_bytes = start(setup.clone())?
            .endpoint(Transport::Plain)
            .and_then(|at| head_bytes(at, self.connections))
            .map_err(|error| error.to_string())?;
        let mut body_bytes = answer_bytes?;
        body_bytes.iter_mut().for_each(|bytes| *bytes = bytes.saturating_sub(head_bytes));
        start(Setup { body_bytes, ..setup }).map(Rc::new)
    }

    /// The lengths of this tracker's answers to the load, their heads included.
    fn answer_lengths(self) -> io::Result<Vec<usize>> {
        let running = Server::Annulus.start(Setup::plain(self.connections, LOAD_TORRENTS))?;
        let at = running.endpoint(Transport::Plain)?;
        fill(at, self.connections)?;
        Load::answer_lengths(at, self.connections, LENGTH_SECONDS)
    }

    fn prepare(
        self,
        server: Server,
        running: Rc<Running>,
        transport: Transport,
    ) -> Result<Loaded, String> {
        let at = running.endpoint(transport).map_err(|error| error.to_string())?;
        eprintln!("wire: {transport}, {}, warming up {}", self.connections, server.name());
        check(server, at, self.connections)
            .and_then(|()| {
                if transport == Transport::Plain || !server.shares_swarms() {
                    return fill(at, self.connections);
                }
                Load::drive(at, self.connections, WARM_UP_SECONDS).map(drop)
            })
            .map_err(|error| error.to_string())?;
        Ok(Loaded { running, at, rounds: Vec::new() })
    }
}

impl Subject {
    fn measure(&mut self, connections: Connections, seconds: u64, round: usize) {
        let Ok(loaded) = &mut self.state else { return };
        let (transport, name) = (self.transport, self.server.name());
        eprintln!("wire: {transport}, {connections}, round {}, {name}", round + 1);
        let measured = match self.server.waits_for_itself(self.transport) {
            true => loaded.measure_once(connections, seconds),
            false => loaded.measure(connections, seconds),
        };
        match measured {
            Ok(measured) => loaded.rounds.push(measured),
            Err(error) => self.state = Err(error.to_string()),
        }
    }

    /// What was measured, if the server is still right after all that.
    fn finish(self, connections: Connections) -> Series {
        let rounds = self.state.and_then(|loaded| {
            check(self.server, loaded.at, connections).map_err(|error| error.to_string())?;
            Ok(loaded.rounds)
        });
        Series { server: self.server, transport: self.transport, rounds }
    }
}

impl Loaded {
    /// Measures one round; a second time if something else ran on the server's CPU, and then
    /// the less disturbed one counts.
    fn measure(&self, connections: Connections, seconds: u64) -> io::Result<Round> {
        let round = self.measure_once(connections, seconds)?;
        if !round.is_disturbed() {
            return Ok(round);
        }
        let again = self.measure_once(connections, seconds)?;
        Ok(if again.waited() < round.waited() { again } else { round })
    }

    fn measure_once(&self, connections: Connections, seconds: u64) -> io::Result<Round> {
        let before = self.running.cpu_time()?;
        let load = Load::drive(self.at, connections, seconds)?;
        let cpu = self.running.cpu_time()?.since(before);
        if cpu.ran.is_zero() {
            return Err(io::Error::other(
                "its CPU time is unknown: no scheduler statistics, or its threads ended",
            ));
        }
        Ok(Round { load, cpu })
    }
}

/// Warms up a server and fills its swarms: until then answers name fewer peers. Every run of the
/// load starts with the first announce, so one of them has to make the whole pass.
fn fill(at: Endpoint, connections: Connections) -> io::Result<()> {
    let (mut seconds, mut left) = (WARM_UP_SECONDS, FILL_SECONDS_MAX);
    loop {
        let load = Load::drive(at, connections, seconds)?;
        left -= seconds;
        if load.answers >= LOAD_ANNOUNCES || left == 0 {
            return Ok(());
        }
        seconds = (LOAD_ANNOUNCES * seconds / load.answers + 1).min(left);
    }
}

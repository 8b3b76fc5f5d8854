//! One worker and two: this tracker on both CPUs, and the load squeezed in.

use std::io;

use crate::check::check;
use crate::endpoint::Transport;
use crate::floor::Connections;
use crate::load::{LOAD_ANNOUNCES, Load};
use crate::measure::measure_once;
use crate::options::Options;
use crate::results::Measured;
use crate::row::Row;
use crate::servers::{Running, Server, Setup};
use crate::sharing::Shared;
use crate::torrents::LOAD_TORRENTS;

/// Seconds of load at most until every announce of the load was made once.
const FILL_SECONDS_MAX: u64 = 12;

/// Measures each kind of connections with one worker and with two, in turn; another one goes
/// first in each round.
pub(crate) fn measure(options: &Options) -> Vec<Shared> {
    let mut all = Vec::new();
    for (row, connections) in [(Row::Keep, Connections::Keep), (Row::Close, Connections::Close)] {
        let started = [1, 2].map(|workers| (workers, start(connections, workers)));
        for round in 0..options.rounds {
            for turn in 0..started.len() {
                let (workers, running) = &started[(turn + round) % started.len()];
                eprintln!("compare: {}, workers: {workers}", row.name());
                let outcome = match running {
                    Ok(running) => ask(running, connections, options.seconds),
                    Err(error) => Err(io::Error::other(error.to_string())),
                };
                let outcome = outcome.map_err(|error| error.to_string());
                all.push(Shared { row, workers: *workers, outcome });
            }
        }
    }
    all
}

/// Starts it and fills its swarms.
fn start(connections: Connections, workers: u64) -> io::Result<Running> {
    let setup = Setup::plain(connections, LOAD_TORRENTS);
    let running = Server::Annulus.start(Setup { spread: Some(workers), ..setup })?;
    let at = running.endpoint(Transport::Plain)?;
    check(Server::Annulus, at, connections)?;
    let fill = Load::full(Server::Annulus, at, connections, FILL_SECONDS_MAX);
    Load { requests: LOAD_ANNOUNCES, ..fill }.drive()?;
    Ok(running)
}

fn ask(running: &Running, connections: Connections, seconds: u64) -> io::Result<Measured> {
    let at = running.endpoint(Transport::Plain)?;
    let load = Load::full(Server::Annulus, at, connections, seconds);
    measure_once(running, Load { spread: true, ..load })
}

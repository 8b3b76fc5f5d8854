//! The command line of the benchmark.

use crate::floor::Connections;
use crate::row::Row;
use crate::servers::Server;

/// How to call it.
pub(crate) const USAGE: &str = "\
usage: cargo bench --bench wire -- [OPTIONS]
  --rounds N      measurements of each server and row (default 3)
  --seconds S     seconds of each measurement (default 3)
  --row ROW       only this row: keep, close, tls-keep, tls-close (with the plain one beside
                  it, in the same rounds), memory or idle; may be repeated
  --server NAME   only this server besides the floor: annulus, annulus-epoll, nginx,
                  opentracker or aquatic_http; may be repeated
  --slow          fill opentracker's memory too, one connection an announce (about a minute)";

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options {
    /// Measurements of each server in each row; at least 1.
    pub(crate) rounds: usize,
    /// Seconds of each measurement; at least 1.
    pub(crate) seconds: u64,
    /// The timed rows.
    pub(crate) rows: Vec<Row>,
    /// Whether memory is measured.
    pub(crate) memory: bool,
    /// Whether the memory of idle connections is measured.
    pub(crate) idle: bool,
    /// Whether the memory of a server that takes one announce a connection is measured.
    pub(crate) slow: bool,
    /// The servers, in the order of [`Server::ALL`].
    pub(crate) servers: Vec<Server>,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    ///
    /// The argument that is not understood.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            rounds: 3,
            seconds: 3,
            rows: Vec::new(),
            memory: false,
            idle: false,
            slow: false,
            servers: Vec::new(),
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                // Added by cargo.
                "--bench" => {}
                "--slow" => options.slow = true,
                "--rounds" => options.rounds = positive(&value()?)? as usize,
                "--seconds" => options.seconds = positive(&value()?)?,
                "--row" => match value()?.as_str() {
                    "memory" => options.memory = true,
                    "idle" => options.idle = true,
                    row => options.add_row(row)?,
                },
                "--server" => {
                    let name = value()?;
                    let server = Server::ALL.into_iter().find(|server| server.name() == name);
                    options.servers.push(server.ok_or(format!("no such server: {name}"))?);
                }
                _ => return Err(format!("not understood: {argument}")),
            }
        }
        if options.rows.is_empty() && !options.memory && !options.idle {
            options.add_row("tls-keep")?;
            options.add_row("tls-close")?;
            (options.memory, options.idle) = (true, true);
        }
        let asked = std::mem::take(&mut options.servers);
        options.servers = Server::ALL.into();
        if !asked.is_empty() {
            options.servers.retain(|server| server.is_floor() || asked.contains(server));
        }
        Ok(options)
    }

    /// Whether anything of this takes TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.idle || self.rows.iter().any(|row| row.tls)
    }

    /// Adds a timed row, or TLS to one that is there.
    fn add_row(&mut self, name: &str) -> Result<(), String> {
        let (kind, tls) = name.strip_prefix("tls-").map_or((name, false), |kind| (kind, true));
        let connections = Connections::parse(kind).ok_or(format!("no such row: {name}"))?;
        match self.rows.iter_mut().find(|row| row.connections == connections) {
            Some(row) => row.tls |= tls,
            None => self.rows.push(Row { connections, tls }),
        }
        Ok(())
    }
}

fn positive(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or(format!("not 1 to 1000: {text}"))
}

//! The command line of the comparison.

use crate::servers::Server;

/// How to call it.
pub(crate) const USAGE: &str = "\
usage: cargo bench --bench compare -- [OPTIONS]
  --rounds N      measurements of each server and row (default 3)
  --seconds S     seconds of each measurement (default 3)
  --row ROW       only these rows: keep, close (and at a rate), each with TLS beside,
                  memory, workers (this tracker with one and with two) or tables (its tables
                  under 1 to 16 threads); may be repeated
  --server NAME   only this server: floor, annulus, annulus-epoll, nginx, opentracker or
                  aquatic_http; may be repeated
  --slow          fill aquatic_http's memory too (three to five minutes)
  --render        measure nothing: write the document and its charts from the results
Writes docs/performance.md and docs/performance/; with --row or --server, which make a trial,
it prints the document instead. Peers are found in the path, in /usr/sbin or ~/.cargo/bin:
  apt-get install nginx opentracker hitch openssl
  cargo install aquatic_http --version 0.9.0 --locked";

/// What to do.
#[derive(Debug)]
pub(crate) struct Options {
    /// Measurements of each server in each row; at least 1.
    pub(crate) rounds: usize,
    /// Seconds of each measurement; at least 1.
    pub(crate) seconds: u64,
    /// Whether connections that are kept are measured.
    pub(crate) keep: bool,
    /// Whether connections of one request are measured.
    pub(crate) close: bool,
    /// Whether memory is measured.
    pub(crate) memory: bool,
    /// Whether one worker is compared with two.
    pub(crate) workers: bool,
    /// Whether waits and cache misses at the tables are counted.
    pub(crate) tables: bool,
    /// Whether the memory of a server that takes one announce after the other is measured.
    pub(crate) slow: bool,
    /// The servers, in the order of [`Server::ALL`].
    pub(crate) servers: Vec<Server>,
    /// Whether this is a trial, of which nothing is to be kept.
    pub(crate) trial: bool,
    /// Whether only the document is to be written.
    pub(crate) render: bool,
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
            keep: false,
            close: false,
            memory: false,
            workers: false,
            tables: false,
            slow: false,
            servers: Vec::new(),
            trial: false,
            render: false,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                // Added by cargo.
                "--bench" => {}
                "--slow" => options.slow = true,
                "--render" => options.render = true,
                "--rounds" => options.rounds = positive(&value()?)? as usize,
                "--seconds" => options.seconds = positive(&value()?)?,
                "--row" => match value()?.as_str() {
                    "keep" => options.keep = true,
                    "close" => options.close = true,
                    "memory" => options.memory = true,
                    "workers" => options.workers = true,
                    "tables" => options.tables = true,
                    row => return Err(format!("no such row: {row}")),
                },
                "--server" => {
                    let name = value()?;
                    let server = all().find(|server| server.name() == name);
                    options.servers.push(server.ok_or(format!("no such server: {name}"))?);
                }
                _ => return Err(format!("not understood: {argument}")),
            }
        }
        let rows = [options.keep, options.close, options.memory, options.workers, options.tables];
        let all_rows = !rows.contains(&true);
        options.trial = !all_rows || !options.servers.is_empty();
        if all_rows {
            (options.keep, options.close, options.memory) = (true, true, true);
            (options.workers, options.tables) = (true, true);
        }
        let asked = std::mem::take(&mut options.servers);
        options.servers =
            all().filter(|server| asked.is_empty() || asked.contains(server)).collect();
        Ok(options)
    }
}

/// One floor suffices: that with answers as long as this tracker's.
fn all() -> impl Iterator<Item = Server> {
    Server::ALL.into_iter().filter(|server| *server != Server::ShortFloor)
}

fn positive(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or(format!("not 1 to 1000: {text}"))
}

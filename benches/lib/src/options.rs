//! The command line that the benchmarks share.

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt};

use crate::servers::ServerKind;

/// What may be asked for.
pub struct Known<'a> {
    pub rows: &'a [&'a str],
    pub servers: &'a [ServerKind],
    /// Flags without a value, without their dashes.
    pub flags: &'a [&'a str],
}

/// What was asked for.
#[derive(Debug, Default)]
pub struct BenchOptions {
    /// Measurements of each server in each row, 1 to 1000.
    pub rounds: usize,
    /// Length of each measurement, 1 to 1000.
    pub seconds: u64,
    /// Empty if none was named.
    pub rows: Vec<String>,
    /// Those named, in the order of [`Known::servers`]; all if none was named.
    pub servers: Vec<ServerKind>,
    pub flags: Vec<String>,
    pub names_servers: bool,
}

impl BenchOptions {
    /// Reads this program's command line.
    pub fn parse(known: &Known<'_>) -> Result<BenchOptions> {
        let mut options = BenchOptions { rounds: 3, seconds: 3, ..BenchOptions::default() };
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                // Added by cargo.
                Arg::Long("bench") => {}
                Arg::Long("rounds") => options.rounds = count(&mut parser)? as usize,
                Arg::Long("seconds") => options.seconds = count(&mut parser)?,
                Arg::Long("row") => {
                    let row = parser.value()?.string()?;
                    if !known.rows.contains(&row.as_str()) {
                        bail!("no such row: {row} (there are {})", known.rows.join(", "));
                    }
                    options.rows.push(row);
                }
                Arg::Long("server") => {
                    let name = parser.value()?.string()?;
                    let server = known.servers.iter().find(|server| server.name() == name);
                    options.servers.push(*server.with_context(|| format!("no server {name}"))?);
                }
                Arg::Long(flag) if known.flags.contains(&flag) => {
                    options.flags.push(flag.to_owned());
                }
                argument => return Err(argument.unexpected().into()),
            }
        }
        options.names_servers = !options.servers.is_empty();
        let named = std::mem::take(&mut options.servers);
        let with_torrust = options.has_flag("with-torrust");
        let is_asked = |server: &ServerKind| match named.is_empty() {
            true => *server != ServerKind::Torrust || with_torrust,
            false => named.contains(server),
        };
        options.servers = known.servers.iter().copied().filter(is_asked).collect();
        Ok(options)
    }

    pub fn names(&self, row: &str) -> bool {
        self.rows.iter().any(|named| named == row)
    }

    /// The servers that are measured with [`SwarmSize::Large`](crate::torrents::SwarmSize): the
    /// floor, and this tracker, which reads them at its start.
    pub fn with_large_swarms(&self) -> Vec<ServerKind> {
        let is_measured = |it: &ServerKind| it.is_ours() || *it == ServerKind::Floor;
        self.servers.iter().copied().filter(is_measured).collect()
    }

    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }
}

fn count(parser: &mut Parser) -> Result<u64> {
    let count: u64 = parser.value()?.parse()?;
    if (1..=1000).contains(&count) { Ok(count) } else { bail!("not 1 to 1000: {count}") }
}

//! aquatic_http_load_test 0.9: how it is called, and what it prints.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::endpoint::{Endpoint, Transport};
use crate::floor::Connections;
use crate::process::{LOAD_CPU, pinned};
use crate::servers::installed;
use crate::tester::Driven;
use crate::torrents::LOAD_TORRENTS;

/// Its name.
pub(crate) const PROGRAM: &str = "aquatic_http_load_test";

/// It counts, and looks at the clock, once in so many seconds.
const INTERVAL_SECONDS: u64 = 5;

/// Connections at once, of each thread.
const CONNECTIONS: u32 = 64;

/// What it says of itself; `unknown` where it is not installed.
pub(crate) fn version() -> String {
    let program = installed(PROGRAM);
    let output = program.and_then(|program| Command::new(program).arg("-v").output().ok());
    let said = output.filter(|output| output.status.success()).map(|output| output.stdout);
    let said = said.and_then(|said| String::from_utf8(said).ok());
    said.map_or("unknown".to_owned(), |said| said.trim().to_owned())
}

/// Has it ask `server` for `seconds`, or some more. The CPU time is not known here.
///
/// # Errors
///
/// If it is not installed or fails, or there was no answer, or a refusal for more than one in a
/// thousand (its ports are random, and 0 is among them).
pub(crate) fn drive(
    server: Endpoint,
    connections: Connections,
    seconds: u64,
) -> io::Result<Driven> {
    let program = installed(PROGRAM).ok_or_else(|| io::Error::other("not installed"))?;
    let seconds = seconds.next_multiple_of(INTERVAL_SECONDS);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("testers-aquatic.toml");
    fs::write(&file, configuration(server, connections, seconds))?;
    let mut command = pinned(LOAD_CPU, program);
    let output = command.arg("-c").arg(&file).stdin(Stdio::null()).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    // Each interval's rate, of answers of this kind.
    let all = |name: &str| -> f64 {
        let rates = printed.lines().filter_map(|line| line.trim().strip_prefix(name));
        let rates = rates.filter_map(|rate| rate.trim().parse::<f64>().ok());
        rates.sum::<f64>() * INTERVAL_SECONDS as f64
    };
    let (answers, refusals) = (all("- Announce responses:"), all("- Failure responses:"));
    if !output.status.success() || answers == 0.0 {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().last().unwrap_or("answered nothing");
        return Err(io::Error::other(last.to_owned()));
    }
    if refusals > answers / 1000.0 {
        return Err(io::Error::other(format!("{refusals} refusals")));
    }
    Ok(Driven { answers, seconds: seconds as f64, cpu: 0.0 })
}

fn configuration(server: Endpoint, connections: Connections, seconds: u64) -> String {
    let keep_alive = connections == Connections::Keep;
    // Of several threads and intervals those with which it does most for its CPU time. With an
    // interval of 0 a thread makes one connection after the other, otherwise one a millisecond.
    let (threads, interval) = match (connections, server.transport) {
        (Connections::Keep, _) => (1, 1),
        (Connections::Close, Transport::Plain) => (8, 0),
        (Connections::Close, Transport::Tls) => (4, 1),
    };
    format!(
        "server_address = \"{}\"
num_workers = {threads}
num_connections = {CONNECTIONS}
connection_creation_interval_ms = {interval}
duration = {seconds}
keep_alive = {keep_alive}
enable_tls = {}
[torrents]
number_of_torrents = {LOAD_TORRENTS}
peer_seeder_probability = 0.5
weight_announce = 1
weight_scrape = 0
",
        server.address,
        server.transport == Transport::Tls
    )
}

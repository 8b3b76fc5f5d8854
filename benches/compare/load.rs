//! The load: one run of `annulus-load`, and its report.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::endpoint::{Endpoint, Transport};
use crate::floor::Connections;
use crate::json::Value;
use crate::process::{BOTH_CPUS, LOAD_CPU, pinned};
use crate::row::NEVER_SENT;
use crate::servers::Server;
use crate::torrents::{LOAD_TORRENTS, write_list};

/// Different announces, each of a peer of its own.
pub(crate) const LOAD_ANNOUNCES: u64 = 60_000;

/// Connections that ask as fast as they are answered.
const CONNECTIONS: u64 = 64;

/// Connections at a given rate: enough for all requests that a slow server has to hold at once.
const CONNECTIONS_AT_RATE: u64 = 256;

/// The load tester. It belongs to another package, which cargo does not build for these benches:
/// the first call has it built.
///
/// # Errors
///
/// If it cannot be built.
pub(crate) fn program() -> io::Result<&'static str> {
    static BUILT: OnceLock<bool> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--release", "--package", "annulus-load"]);
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        status.is_ok_and(|status| status.success())
    });
    // Beside the tracker.
    let program = concat!(env!("CARGO_BIN_EXE_annulus"), "-load");
    if *built { Ok(program) } else { Err(io::Error::other("annulus-load cannot be built")) }
}

/// What is to be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Of whom.
    pub(crate) server: Server,
    /// Where it listens.
    pub(crate) at: Endpoint,
    /// Whether a connection carries one request or many.
    pub(crate) connections: Connections,
    /// Seconds for which is asked.
    pub(crate) seconds: u64,
    /// Requests a second; 0 asks as fast as is answered.
    pub(crate) rate: u64,
    /// Requests at most; 0 is no bound.
    pub(crate) requests: u64,
    /// Whether it shares both CPUs with the server, with a worker for each.
    pub(crate) spread: bool,
}

impl Load {
    /// As fast as is answered, for so many seconds.
    pub(crate) fn full(
        server: Server,
        at: Endpoint,
        connections: Connections,
        seconds: u64,
    ) -> Load {
        Load { server, at, connections, seconds, rate: 0, requests: 0, spread: false }
    }

    /// Runs it, on a CPU of its own if it is not spread. Returns the report, without the options:
    /// they are the same in all runs, but for files that are nobody else's.
    ///
    /// # Errors
    ///
    /// If the program cannot be run, or any answer is not as it should be and not allowed to
    /// that server: with what the program said.
    pub(crate) fn drive(self) -> io::Result<Value> {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (list, report) = (scratch.join("compare-torrents"), scratch.join("compare-report"));
        write_list(&list, LOAD_TORRENTS)?;
        let connections = if self.rate == 0 { CONNECTIONS } else { CONNECTIONS_AT_RATE };
        let program = program()?;
        let mut command = match self.spread {
            true => pinned(BOTH_CPUS, program),
            false => pinned(LOAD_CPU, program),
        };
        command.arg(format!("{}://{}/announce", self.at.scheme(), self.at.address));
        command.arg("--torrents-file").arg(&list).arg("--json").arg(&report);
        command.args(["--allow", &self.allowed()]);
        for (option, value) in [
            ("--workers", 1 + u64::from(self.spread)),
            ("--peers", LOAD_ANNOUNCES),
            ("--connections", connections),
            ("--duration", self.seconds),
            ("--rate", self.rate),
            ("--requests", self.requests),
            ("--requests-per-connection", u64::from(self.connections == Connections::Close)),
        ] {
            command.args([option, &value.to_string()]);
        }
        if self.at.transport == Transport::Tls {
            // What a client checks costs the server nothing, but makes the load the slower side:
            // then the server's core idles between flights, and is measured cold.
            command.arg("--insecure");
        }
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(io::Error::other(complaint(&output.stdout, &output.stderr)));
        }
        let report = Value::parse(&fs::read_to_string(report)?).map_err(io::Error::other)?;
        let fields = report.fields().iter().filter(|(name, _)| name != "options");
        Ok(Value::Object(fields.cloned().collect()))
    }

    /// Faults that answers may have, by the names of `annulus-load`, with commas.
    pub(crate) fn allowed(self) -> String {
        let mut allowed = Vec::new();
        if self.server == Server::Opentracker {
            // It does not leave out the peer that asks.
            allowed.push("own-address");
        }
        if self.rate > 0 {
            // Arrivals of the last moment, where all connections are still busy.
            allowed.push(NEVER_SENT);
        }
        allowed.join(",")
    }
}

/// What the program said of faults, or else last.
fn complaint(stdout: &[u8], stderr: &[u8]) -> String {
    let printed = String::from_utf8_lossy(stdout);
    let faults: Vec<&str> = printed.lines().filter(|line| line.starts_with("FAULT")).collect();
    if faults.is_empty() {
        let said = String::from_utf8_lossy(stderr);
        return said.lines().last().unwrap_or("the load has failed").to_owned();
    }
    faults.join(", ")
}

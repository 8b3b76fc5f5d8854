//! One run of `annulus-load`, and its report.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::net::{Endpoint, KeepAlive, Transport};
use crate::process::{BOTH_CPUS, LOAD_CPU, pinned};
use crate::servers::ServerKind;
use crate::torrents::{SwarmSize, write_list};
use crate::{repository, scratch, tracker, wrk};

/// Connections at full speed; and at a given rate, enough for all requests that a slow server has
/// to hold at once.
pub(crate) const CONNECTIONS: u64 = 64;
const CONNECTIONS_AT_RATE: u64 = 256;

/// The fault of a request that was due, at a given rate, and found no connection free until the
/// end.
pub const NEVER_SENT: &str = "never-sent";

#[derive(Clone, Copy, Debug)]
pub struct LoadJob {
    pub server: ServerKind,
    pub at: Endpoint,
    pub keep_alive: KeepAlive,
    pub seconds: u64,
    /// Requests a second; 0 sends as fast as the server answers.
    pub rate: u64,
    /// Requests at most; 0 is no bound.
    pub requests: u64,
    /// Requests in flight by UDP; 0 is HTTP.
    pub udp_in_flight: u64,
    /// Whether it shares both CPUs with the server, with a worker for each.
    pub spread: bool,
    pub size: SwarmSize,
    /// Whether it is wrk, at full speed.
    pub is_wrk: bool,
}

/// Builds `annulus-load`, which cargo does not build for benchmarks of another package.
pub fn build() -> Result<()> {
    let is_debug = tracker().parent().is_some_and(|directory| directory.ends_with("debug"));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--package", "annulus-load", "--profile"]);
    cargo.arg(if is_debug { "dev" } else { "release" });
    let status = cargo.current_dir(repository("")).status().context("cargo cannot be run")?;
    ensure!(status.success(), "annulus-load cannot be built");
    Ok(())
}

fn program() -> PathBuf {
    tracker().with_file_name("annulus-load")
}

impl LoadJob {
    /// As fast as the server answers, for so many seconds.
    pub fn full_speed(
        server: ServerKind,
        at: Endpoint,
        keep_alive: KeepAlive,
        seconds: u64,
    ) -> LoadJob {
        LoadJob {
            server,
            at,
            keep_alive,
            seconds,
            rate: 0,
            requests: 0,
            udp_in_flight: 0,
            spread: false,
            size: SwarmSize::Usual,
            is_wrk: false,
        }
    }

    /// Runs it, on a CPU of its own if it is not spread. Returns the report, without the options:
    /// they are the same in all runs.
    pub fn run(self) -> Result<Value> {
        if self.is_wrk {
            return wrk::run(&self);
        }
        let (list, report) = (scratch("load-torrents"), scratch("load-report"));
        write_list(&list, self.size.torrents())?;
        let (url, connections) = match self.udp_in_flight {
            0 if self.rate == 0 => (self.at.url("/announce"), CONNECTIONS),
            0 => (self.at.url("/announce"), CONNECTIONS_AT_RATE),
            in_flight => (format!("udp://{}", self.at.address), in_flight),
        };
        let mut command = match self.spread {
            true => pinned(BOTH_CPUS, program()),
            false => pinned(LOAD_CPU, program()),
        };
        command.arg(url);
        command.arg("--torrents-file").arg(&list).arg("--json").arg(&report);
        command.args(["--allow", &self.allowed()]);
        for (option, value) in [
            ("--workers", 1 + u64::from(self.spread)),
            ("--peers", self.size.announces(self.udp_in_flight > 0)),
            ("--connections", connections),
            ("--duration", self.seconds),
            ("--rate", self.rate),
            ("--requests", self.requests),
            ("--requests-per-connection", u64::from(self.keep_alive == KeepAlive::Close)),
        ] {
            command.args([option, &value.to_string()]);
        }
        if self.at.transport == Transport::Tls {
            // Verification costs the server nothing, but makes the load the slower side: then the
            // server's core idles between flights, and is measured cold.
            command.arg("--insecure");
        }
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!(complaint(&output.stdout, &output.stderr));
        }
        let mut report: Value = serde_json::from_str(&fs::read_to_string(report)?)?;
        report.as_object_mut().context("the report is no object")?.remove("options");
        Ok(report)
    }

    /// Faults that responses may have, by the names of `annulus-load`, with commas.
    pub fn allowed(self) -> String {
        let mut allowed = Vec::new();
        if self.server == ServerKind::Opentracker {
            // It gives an announcing peer its own address.
            allowed.push("own-address");
        }
        if self.rate > 0 {
            // Arrivals of the last moment, when all connections are still busy.
            allowed.push(NEVER_SENT);
        }
        allowed.join(",")
    }
}

/// The faults that the program printed, or else its last line.
fn complaint(stdout: &[u8], stderr: &[u8]) -> String {
    let printed = String::from_utf8_lossy(stdout);
    let faults: Vec<&str> = printed.lines().filter(|line| line.starts_with("FAULT")).collect();
    if faults.is_empty() {
        let printed = String::from_utf8_lossy(stderr);
        return printed.lines().last().unwrap_or("annulus-load failed").to_owned();
    }
    faults.join(", ")
}

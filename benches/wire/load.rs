//! The load: one run of wrk, and what it counted.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::floor::Connections;
use crate::process::{LOAD_CPU, pinned};
use crate::torrents::{LOAD_TORRENTS, write_list};

/// Connections that wrk holds open. Its single thread saturates with far fewer.
const CONNECTIONS: u32 = 64;

/// What wrk counted in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Whole answers received.
    pub(crate) answers: u64,
    /// From the first connection to the last answer.
    pub(crate) took: Duration,
    /// Bytes of all answers, heads included.
    pub(crate) bytes: u64,
    /// Failed connects, reads and writes, and time-outs.
    pub(crate) socket_errors: u64,
    /// Answers with a status other than 2xx or 3xx.
    pub(crate) status_errors: u64,
    /// Half of the answers came within this time.
    pub(crate) latency_p50: Duration,
    /// All but one in a hundred of the answers came within this time.
    pub(crate) latency_p99: Duration,
}

impl Load {
    /// Drives `server` for `seconds` from a CPU of its own.
    ///
    /// # Errors
    ///
    /// If wrk cannot be started, fails, or prints no result.
    pub(crate) fn drive(
        server: SocketAddr,
        connections: Connections,
        seconds: u64,
    ) -> io::Result<Load> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/wire/announce.lua");
        let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wire-torrents");
        write_list(&list, LOAD_TORRENTS)?;
        let output = pinned(LOAD_CPU, "wrk")
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")])
            .args(["-s", script, &format!("http://{server}/"), "--", &connections.to_string()])
            .arg(&list)
            .stdin(Stdio::null())
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        printed.lines().find_map(|line| Load::parse(line.strip_prefix("wire: ")?)).ok_or_else(
            || {
                let complaint = String::from_utf8_lossy(&output.stderr);
                io::Error::other(format!("wrk gave no result: {printed}{complaint}"))
            },
        )
    }

    /// Reads the line that `announce.lua` prints at the end.
    fn parse(line: &str) -> Option<Load> {
        let numbers: Vec<u64> =
            line.split_whitespace().map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let &[answers, took, bytes, connect, read, write, timeout, status, p50, p99] =
            numbers.as_slice()
        else {
            return None;
        };
        Some(Load {
            answers,
            took: Duration::from_micros(took),
            bytes,
            socket_errors: connect + read + write + timeout,
            status_errors: status,
            latency_p50: Duration::from_micros(p50),
            latency_p99: Duration::from_micros(p99),
        })
    }
}

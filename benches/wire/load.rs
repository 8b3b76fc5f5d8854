//! The load: one run of wrk, and what it counted.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::endpoint::{Endpoint, Transport};
use crate::floor::Connections;
use crate::process::{LOAD_CPU, pinned};
use crate::tls;
use crate::torrents::{LOAD_TORRENTS, write_list};

/// Different announces, as many as `announce.lua` makes.
pub(crate) const LOAD_ANNOUNCES: u64 = 60_000;

/// Connections that wrk holds open. Its single thread saturates with far fewer.
const CONNECTIONS: u32 = 64;

/// What wrk counted in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Whole answers received; at least 1.
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
    /// CPU time that wrk took to make the requests, before it sent any.
    pub(crate) set_up: Duration,
}

impl Load {
    /// Drives `server` for `seconds` from a CPU of its own. Over TLS every handshake is a full
    /// one.
    ///
    /// # Errors
    ///
    /// If wrk cannot be started, fails, or prints no result; if there was no answer; if a
    /// handshake was not full, or missing.
    pub(crate) fn drive(
        server: Endpoint,
        connections: Connections,
        seconds: u64,
    ) -> io::Result<Load> {
        Load::run(server, connections, seconds, None).map(|(load, _)| load)
    }

    /// Drives `server` as [`Load::drive`] does. Returns the lengths of its answers in bytes,
    /// heads included: as many as `announce.lua` writes, spaced evenly among all that came, in
    /// an order in which short and long ones take turns.
    ///
    /// # Errors
    ///
    /// Those of [`Load::drive`].
    pub(crate) fn answer_lengths(
        server: Endpoint,
        connections: Connections,
        seconds: u64,
    ) -> io::Result<Vec<usize>> {
        let (load, printed) = Load::run(server, connections, seconds, Some("lengths"))?;
        let bodies: Vec<usize> = printed
            .lines()
            .find_map(|line| line.strip_prefix("lengths:"))
            .and_then(|line| line.split_whitespace().map(|n| n.parse().ok()).collect())
            .filter(|bodies: &Vec<usize>| !bodies.is_empty())
            .ok_or_else(|| io::Error::other(format!("wrk gave no lengths: {printed}")))?;
        let mean_body = bodies.iter().sum::<usize>() / bodies.len();
        let head = ((load.bytes / load.answers) as usize).saturating_sub(mean_body);
        Ok(bodies.into_iter().map(|body| head + body).collect())
    }

    fn run(
        server: Endpoint,
        connections: Connections,
        seconds: u64,
        more: Option<&str>,
    ) -> io::Result<(Load, String)> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/wire/announce.lua");
        let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wire-torrents");
        write_list(&list, LOAD_TORRENTS)?;
        let mut command = match server.transport {
            Transport::Plain => pinned(LOAD_CPU, "wrk"),
            Transport::Tls => pinned(LOAD_CPU, "env"),
        };
        if server.transport == Transport::Tls {
            command.args([&tls::preload(), "wrk"]);
        }
        let url = format!("{}://{}/", server.scheme(), server.address);
        let output = command
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")])
            .args(["-s", script, &url, "--", &connections.to_string()])
            .arg(&list)
            .args(more)
            .stdin(Stdio::null())
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        let load = Load::parse(&printed)
            .ok_or_else(|| io::Error::other(format!("wrk gave no result: {printed}{complaint}")))?;
        if load.answers == 0 {
            return Err(io::Error::other("answered nothing"));
        }
        if server.transport == Transport::Tls {
            let expected = match connections {
                Connections::Keep => u64::from(CONNECTIONS),
                Connections::Close => load.answers,
            };
            judge_handshakes(&complaint, expected)?;
        }
        Ok((load, printed.into_owned()))
    }

    /// Reads the lines that `announce.lua` prints: when all is made, and at the end.
    fn parse(printed: &str) -> Option<Load> {
        let behind = |name| printed.lines().find_map(|line| line.strip_prefix(name));
        let set_up = behind("set-up: ")?.parse().ok()?;
        let numbers: Vec<u64> =
            behind("wire: ")?.split_whitespace().map(|n| n.parse().ok()).collect::<Option<_>>()?;
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
            set_up: Duration::try_from_secs_f64(set_up).ok()?,
        })
    }
}

/// Reads what `full_handshakes.c` writes: there have to be at least `expected` full handshakes,
/// and nothing else.
fn judge_handshakes(written: &str, expected: u64) -> io::Result<()> {
    let counts = written.lines().find_map(|line| {
        let (full, resumed) = line.strip_prefix("handshakes: ")?.split_once(' ')?;
        Some((full.parse::<u64>().ok()?, resumed.parse::<u64>().ok()?))
    });
    match counts {
        Some((full, 0)) if full >= expected => Ok(()),
        Some((full, resumed)) => Err(io::Error::other(format!(
            "{full} full and {resumed} resumed handshakes instead of {expected} full ones"
        ))),
        None => Err(io::Error::other("wrk's handshakes were not counted")),
    }
}

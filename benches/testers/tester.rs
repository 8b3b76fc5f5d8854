//! The testers, and what each run of one came to.

use std::fs;
use std::io;

use crate::aquatic;
use crate::connections;
use crate::endpoint::Transport;
use crate::load::Load;
use crate::row::Row;
use crate::servers::{Running, Server, installed};
use crate::wrk;

/// More requests than any tester can make in a second: the bound of a run.
const RATE_MAX: u64 = 1_000_000;

/// Ticks a second in which the kernel tells times of processes (USER_HZ, time(7)).
const TICKS: f64 = 100.0;

/// A load tester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tester {
    /// `annulus-load`.
    Ours,
    /// wrk, with a script that varies the announces.
    Wrk,
    /// aquatic_http_load_test.
    Aquatic,
}

/// What came of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Driven {
    /// Requests that were answered.
    pub(crate) answers: f64,
    /// Seconds for which was asked.
    pub(crate) seconds: f64,
    /// CPU seconds of the tester's process, user and system.
    pub(crate) cpu: f64,
}

impl Driven {
    /// Answers for each second of the tester's CPU time.
    pub(crate) fn per_cpu_second(&self) -> f64 {
        self.answers / self.cpu
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answers / self.seconds
    }

    /// The share of its core that the tester used, in percent.
    pub(crate) fn busy_percent(&self) -> f64 {
        100.0 * self.cpu / self.seconds
    }
}

impl Tester {
    /// In the order of the tables.
    pub(crate) const ALL: [Tester; 3] = [Tester::Ours, Tester::Wrk, Tester::Aquatic];

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tester::Ours => "annulus-load",
            Tester::Wrk => "wrk",
            Tester::Aquatic => aquatic::PROGRAM,
        }
    }

    /// Has it ask the server of a row for `seconds` from its core.
    ///
    /// # Errors
    ///
    /// If it is not installed, fails, or finds fault with the answers.
    pub(crate) fn drive(self, row: Row, running: &Running, seconds: u64) -> io::Result<Driven> {
        let at = running.endpoint(if row.is_tls() { Transport::Tls } else { Transport::Plain })?;
        let before = children_cpu_seconds()?;
        let mut driven = match self {
            Tester::Ours => {
                let server = if row.is_tls() { Server::Annulus } else { Server::Floor };
                let load = Load::full(server, at, connections(row), seconds);
                let load = Load { requests: RATE_MAX * seconds, ..load };
                let report = load.drive()?;
                let number = |name| report.number(name).map_err(io::Error::other);
                let (answers, seconds) = (number("good")?, number("seconds")?);
                Driven { answers, seconds, cpu: 0.0 }
            }
            Tester::Wrk => {
                if installed("wrk").is_none() {
                    return Err(io::Error::other("not installed"));
                }
                let load = wrk::Load::drive(at, connections(row), seconds)?;
                let errors = load.socket_errors + load.status_errors;
                if errors > 0 {
                    return Err(io::Error::other(format!("{errors} errors")));
                }
                let (took, set_up) = (load.took.as_secs_f64(), load.set_up.as_secs_f64());
                Driven { answers: load.answers as f64, seconds: took, cpu: -set_up }
            }
            Tester::Aquatic => aquatic::drive(at, connections(row), seconds)?,
        };
        driven.cpu += children_cpu_seconds()? - before;
        Ok(driven)
    }
}

/// User and system time of all that this process started and that has ended.
fn children_cpu_seconds() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // proc_pid_stat(5): the name is in parentheses and may contain some itself; `cutime` and
    // `cstime` are the fourteenth and the fifteenth field after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: Vec<f64> = fields.skip(13).take(2).filter_map(|field| field.parse().ok()).collect();
    match ticks.as_slice() {
        [user, system] => Ok((user + system) / TICKS),
        _ => Err(io::Error::other("/proc/self/stat is not as it should be")),
    }
}

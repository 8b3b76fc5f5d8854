//! What was measured: as it is kept in a file, and what follows from it.

use std::fmt::Write;

use crate::json::Value;
use crate::row::{NEVER_SENT, Row};
use crate::sharing::{Contended, Shared};
use crate::spread::Spread;

/// The share of a CPU from which on the load is taken for the limit and not the server.
const LOAD_BUSY_MAX: f64 = 0.9;

/// Seconds from which on an interval of a report counts as a whole second: the last one, which
/// waits for answers, is far shorter.
const WHOLE_SECOND: f64 = 0.5;

/// Everything that was measured, and where.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Results {
    /// The command that repeats it.
    pub(crate) command: String,
    /// Machine, kernel, date, commit and versions, by name.
    pub(crate) facts: Vec<(String, String)>,
    /// Measurements of each server and row.
    pub(crate) rounds: u64,
    /// Seconds of each measurement.
    pub(crate) seconds: u64,
    /// The measurements, in their order in time.
    pub(crate) runs: Vec<Run>,
    /// Handshakes in memory, a measurement each round.
    pub(crate) handshakes: Vec<Handshake>,
    /// Memory of the trackers.
    pub(crate) memory: Vec<Filled>,
    /// This tracker with one worker and with two.
    pub(crate) workers: Vec<Shared>,
    /// Its tables under several threads.
    pub(crate) tables: Vec<Contended>,
}

/// One run of the load against one server.
#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    /// What was asked.
    pub(crate) row: Row,
    /// The server's name.
    pub(crate) server: String,
    /// What came of it; or why there is nothing.
    pub(crate) outcome: Result<Measured, String>,
}

/// What one run measured.
#[derive(Debug, PartialEq)]
pub(crate) struct Measured {
    /// Faults that were no failure, as given to `--allow`.
    pub(crate) allowed: String,
    /// CPU time of the server's processes, nanoseconds.
    pub(crate) server_ns: f64,
    /// Time for which they could have run but something else did, nanoseconds.
    pub(crate) waited_ns: f64,
    /// The report of `annulus-load`.
    pub(crate) report: Value,
}

/// What a full handshake costs rustls as a server, medians in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Handshake {
    /// One after another.
    pub(crate) back_to_back_ns: f64,
    /// With a pause before each of the client's flights.
    pub(crate) paused_ns: f64,
    /// One after another, while the load's core does the same.
    pub(crate) beside_load_ns: f64,
}

/// A tracker's memory before and after it was filled; or why it is not known.
#[derive(Debug, PartialEq)]
pub(crate) struct Filled {
    /// The server's name.
    pub(crate) server: String,
    /// Announces, and bytes resident before and after them.
    pub(crate) outcome: Result<[f64; 3], String>,
}

impl Measured {
    /// The same, once everything is there that is asked for later.
    ///
    /// # Errors
    ///
    /// The field that is missing.
    fn checked(self) -> Result<Measured, String> {
        for name in ["good", "seconds", "cpu_ns", "offered_rate"] {
            self.report.number(name)?;
        }
        let latencies = self.report.get("latency_ms").ok_or("lacks \"latency_ms\"")?;
        for name in ["p50", "p99", "p99.9"] {
            latencies.number(name)?;
        }
        Ok(self)
    }

    fn reported(&self, name: &str) -> f64 {
        self.report.number(name).unwrap_or(f64::NAN)
    }

    /// Answers without a fault.
    pub(crate) fn good(&self) -> f64 {
        self.reported("good")
    }

    /// Answers, with those of which the faults are allowed.
    pub(crate) fn answers(&self) -> f64 {
        self.good() + self.faults(|name| name != NEVER_SENT)
    }

    /// Requests that were due and never sent.
    pub(crate) fn never_sent(&self) -> f64 {
        self.faults(|name| name == NEVER_SENT)
    }

    fn faults(&self, counts: impl Fn(&str) -> bool) -> f64 {
        let faults = self.report.get("faults").map_or(&[][..], Value::fields);
        let counted = faults.iter().filter(|(name, _)| counts(name));
        counted.filter_map(|(_, fault)| fault.number("count").ok()).sum()
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answers() / self.reported("seconds")
    }

    /// CPU time of the server for each answer, microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.server_ns / 1e3 / self.answers()
    }

    /// The share of its CPU that the server used.
    pub(crate) fn server_busy(&self) -> f64 {
        self.server_ns / 1e9 / self.reported("seconds")
    }

    /// The share of its CPU that the load used.
    pub(crate) fn load_busy(&self) -> f64 {
        self.reported("cpu_ns") / 1e9 / self.reported("seconds")
    }

    /// Milliseconds within which so many of the answers came, `p50`, `p99` or `p99.9`: the median
    /// over the whole seconds of the run, without the first, in which the load itself warms up.
    /// Of a run that has no other, that of all answers.
    pub(crate) fn latency_ms(&self, percentile: &str) -> f64 {
        let of = |value: &Value| value.get("latency_ms")?.number(percentile).ok();
        let pairs = self.report.list("series").windows(2);
        let whole = pairs.filter_map(|pair| {
            let [from, to] = [pair[0].number("at_s").ok()?, pair[1].number("at_s").ok()?];
            of(&pair[1]).filter(|_| to - from >= WHOLE_SECOND)
        });
        let steady = Spread::of(whole).map(|seconds| seconds.median);
        steady.or_else(|| of(&self.report)).unwrap_or(f64::NAN)
    }
}

/// All rounds of one server in one row.
pub(crate) struct Rounds<'a> {
    /// The server's name.
    pub(crate) server: &'a str,
    /// Its runs; or the first failure.
    pub(crate) runs: Result<Vec<&'a Measured>, &'a str>,
}

impl Rounds<'_> {
    /// The median of a figure over the rounds, and the least and the greatest.
    pub(crate) fn spread(&self, figure: impl Fn(&Measured) -> f64) -> Option<Spread> {
        let runs = self.runs.as_ref().ok()?;
        Spread::of(runs.iter().map(|run| figure(run)))
    }

    /// Whether the load was what bounded the rate.
    pub(crate) fn is_bound_by_load(&self) -> bool {
        self.spread(Measured::load_busy).is_some_and(|busy| busy.median > LOAD_BUSY_MAX)
    }
}

impl Results {
    /// The servers of a row, in the order in which they were measured first.
    pub(crate) fn row(&self, row: Row) -> Vec<Rounds<'_>> {
        let mut all: Vec<Rounds<'_>> = Vec::new();
        for run in self.runs.iter().filter(|run| run.row == row) {
            let at = all.iter().position(|rounds| rounds.server == run.server);
            let at = at.unwrap_or_else(|| {
                all.push(Rounds { server: &run.server, runs: Ok(Vec::new()) });
                all.len() - 1
            });
            match (&mut all[at].runs, &run.outcome) {
                (Ok(runs), Ok(measured)) => runs.push(measured),
                (runs @ Ok(_), Err(why)) => *runs = Err(why),
                (Err(_), _) => {}
            }
        }
        all
    }

    /// Requests a second that were to be made in a row.
    pub(crate) fn offered_rate(&self, row: Row) -> Option<f64> {
        let mut runs = self.runs.iter().filter(|run| run.row == row);
        runs.find_map(|run| run.outcome.as_ref().ok()?.report.number("offered_rate").ok())
    }

    /// Reads the file that [`Results::json`] makes.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Results, String> {
        let value = Value::parse(text)?;
        let facts = value.get("facts").map_or(&[][..], Value::fields);
        let fact = |(name, fact): &(String, Value)| match fact {
            Value::Text(fact) => Ok((name.clone(), fact.clone())),
            _ => Err(format!("the fact \"{name}\" is no text")),
        };
        let handshake = |value: &Value| {
            Ok(Handshake {
                back_to_back_ns: value.number("back_to_back_ns")?,
                paused_ns: value.number("paused_ns")?,
                beside_load_ns: value.number("beside_load_ns")?,
            })
        };
        Ok(Results {
            command: value.text("command")?.to_owned(),
            facts: facts.iter().map(fact).collect::<Result<_, String>>()?,
            rounds: value.number("rounds")? as u64,
            seconds: value.number("seconds")? as u64,
            runs: value.list("runs").iter().map(Run::read).collect::<Result<_, String>>()?,
            handshakes: value
                .list("handshakes")
                .iter()
                .map(handshake)
                .collect::<Result<_, String>>()?,
            memory: value.list("memory").iter().map(Filled::read).collect::<Result<_, String>>()?,
            workers: value.list("workers").iter().map(Shared::read).collect::<Result<_, _>>()?,
            tables: value.list("tables").iter().map(Contended::read).collect::<Result<_, _>>()?,
        })
    }

    /// The file: one object, with a line for every measurement.
    pub(crate) fn json(&self) -> String {
        let facts = self.facts.iter().map(|(name, fact)| (name.clone(), fact.as_str().into()));
        let handshakes = self.handshakes.iter().map(|handshake| {
            Value::object([
                ("back_to_back_ns", handshake.back_to_back_ns.into()),
                ("paused_ns", handshake.paused_ns.into()),
                ("beside_load_ns", handshake.beside_load_ns.into()),
            ])
        });
        let mut text = String::from("{\n");
        for (name, value) in [
            ("command", self.command.as_str().into()),
            ("facts", Value::Object(facts.collect())),
            ("rounds", Value::Number(self.rounds as f64)),
            ("seconds", Value::Number(self.seconds as f64)),
        ] {
            let _ = writeln!(text, "\"{name}\":{value},");
        }
        let lists = [
            ("runs", lines(self.runs.iter().map(Run::written))),
            ("handshakes", lines(handshakes)),
            ("memory", lines(self.memory.iter().map(Filled::written))),
            ("workers", lines(self.workers.iter().map(Shared::written))),
            ("tables", lines(self.tables.iter().map(Contended::written))),
        ];
        let lists = lists.iter().filter(|(_, lines)| !lines.is_empty());
        let lists = lists.map(|(name, lines)| format!("\"{name}\":[\n{lines}\n]"));
        text + &lists.collect::<Vec<String>>().join(",\n") + "\n}\n"
    }
}

impl Run {
    fn read(value: &Value) -> Result<Run, String> {
        let outcome = read_outcome(value)?;
        Ok(Run { row: read_row(value)?, server: value.text("server")?.to_owned(), outcome })
    }

    fn written(&self) -> Value {
        let row = ("row", self.row.name().into());
        let server = ("server", self.server.as_str().into());
        written_outcome(&[row, server], &self.outcome)
    }
}

/// The row that a measurement is of.
///
/// # Errors
///
/// There is no such row.
pub(crate) fn read_row(value: &Value) -> Result<Row, String> {
    let name = value.text("row")?;
    Row::named(name).ok_or_else(|| format!("no such row: {name}"))
}

/// What came of a measurement.
///
/// # Errors
///
/// The field that is missing.
pub(crate) fn read_outcome(value: &Value) -> Result<Result<Measured, String>, String> {
    let Some(report) = value.get("report") else {
        return Ok(Err(value.text("failure")?.to_owned()));
    };
    let measured = Measured {
        allowed: value.text("allowed")?.to_owned(),
        server_ns: value.number("server_ns")?,
        waited_ns: value.number("waited_ns")?,
        report: report.clone(),
    };
    measured.checked().map(Ok)
}

/// An object of these fields and of what came of a measurement.
pub(crate) fn written_outcome(
    fields: &[(&str, Value)],
    outcome: &Result<Measured, String>,
) -> Value {
    let rest = match outcome {
        Err(why) => vec![("failure", why.as_str().into())],
        Ok(measured) => vec![
            ("allowed", measured.allowed.as_str().into()),
            ("server_ns", measured.server_ns.into()),
            ("waited_ns", measured.waited_ns.into()),
            ("report", measured.report.clone()),
        ],
    };
    let all = fields.iter().cloned().chain(rest);
    Value::Object(all.map(|(name, value)| (name.to_owned(), value)).collect())
}

impl Filled {
    /// Bytes resident for each announce.
    pub(crate) fn bytes_each(&self) -> Option<f64> {
        self.outcome.as_ref().ok().map(|[announces, _, after]| after / announces)
    }

    fn read(value: &Value) -> Result<Filled, String> {
        let outcome = match value.get("failure") {
            Some(_) => Err(value.text("failure")?.to_owned()),
            None => Ok([
                value.number("announces")?,
                value.number("before_bytes")?,
                value.number("after_bytes")?,
            ]),
        };
        Ok(Filled { server: value.text("server")?.to_owned(), outcome })
    }

    fn written(&self) -> Value {
        let server = ("server", self.server.as_str().into());
        match &self.outcome {
            Err(why) => Value::object([server, ("failure", why.as_str().into())]),
            Ok([announces, before, after]) => Value::object([
                server,
                ("announces", (*announces).into()),
                ("before_bytes", (*before).into()),
                ("after_bytes", (*after).into()),
            ]),
        }
    }
}

/// What a server of the results is called in the document; over TLS, who speaks it is named too.
pub(crate) fn title(server: &str, tls: bool) -> &str {
    match server {
        "annulus" => "Annulus",
        "annulus-epoll" => "Annulus, epoll",
        "nginx" => "nginx, constant answer",
        "floor" => "floor, constant answer",
        "opentracker" if tls => "hitch + opentracker",
        other => other,
    }
}

/// Whether a server of the results keeps peers, and does not only give a constant answer.
pub(crate) fn is_tracker(server: &str) -> bool {
    !matches!(server, "floor" | "nginx")
}

fn lines(values: impl Iterator<Item = Value>) -> String {
    values.map(|value| value.to_string()).collect::<Vec<String>>().join(",\n")
}

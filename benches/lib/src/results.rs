//! Results of the comparison: as they are kept in a file, and what follows from them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::handshake::BareHandshake;
use crate::load::NEVER_SENT;
use crate::net::{KeepAlive, Transport};
use crate::stats::Spread;
use crate::torrents::SwarmSize;

/// The share of a CPU from which on the load counts as the limit and not the server.
const LOAD_BUSY_MAX: f64 = 0.9;

/// Seconds from which on an interval of a report counts as whole: the last one is far shorter.
const WHOLE_SECOND: f64 = 0.5;

/// What is sent to every server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// Kept connections, as fast as the server answers.
    Keep,
    /// One request a connection, as fast as the server answers.
    Close,
    /// The same two under wrk instead of `annulus-load`.
    WrkKeep,
    WrkClose,
    TlsKeep,
    /// Every request takes a full handshake.
    TlsClose,
    /// One request a connection, at a rate that all servers can keep.
    Latency,
    TlsLatency,
    /// By UDP with so many requests in flight, as fast as the server answers.
    Udp64,
    Udp512,
    Udp4096,
    /// The same with [`SwarmSize::Large`].
    KeepLarge,
    CloseLarge,
    Udp64Large,
    Udp512Large,
    Udp4096Large,
}

impl Row {
    pub const FULL_SPEED: [Row; 4] = [Row::Keep, Row::Close, Row::TlsKeep, Row::TlsClose];
    pub const WRK: [Row; 2] = [Row::WrkKeep, Row::WrkClose];
    pub const UDP: [Row; 3] = [Row::Udp64, Row::Udp512, Row::Udp4096];
    pub const LARGE: [Row; 2] = [Row::KeepLarge, Row::CloseLarge];
    pub const UDP_LARGE: [Row; 3] = [Row::Udp64Large, Row::Udp512Large, Row::Udp4096Large];
    pub const AT_RATE: [Row; 2] = [Row::Latency, Row::TlsLatency];

    pub fn of(keep_alive: KeepAlive, transport: Transport) -> Row {
        match (keep_alive, transport) {
            (KeepAlive::Keep, Transport::Plain) => Row::Keep,
            (KeepAlive::Close, Transport::Plain) => Row::Close,
            (KeepAlive::Keep, Transport::Tls) => Row::TlsKeep,
            (KeepAlive::Close, Transport::Tls) => Row::TlsClose,
        }
    }

    /// The row of plain connections with swarms of a size.
    pub fn with_size(keep_alive: KeepAlive, size: SwarmSize) -> Row {
        match (keep_alive, size) {
            (_, SwarmSize::Usual) => Row::of(keep_alive, Transport::Plain),
            (KeepAlive::Keep, SwarmSize::Large) => Row::KeepLarge,
            (KeepAlive::Close, SwarmSize::Large) => Row::CloseLarge,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Row::Keep => "Plain, keep-alive",
            Row::Close | Row::Latency => "Plain, one request a connection",
            Row::WrkKeep => "Plain, keep-alive, under wrk",
            Row::WrkClose => "Plain, one request a connection, under wrk",
            Row::TlsKeep => "TLS 1.3, keep-alive",
            Row::TlsClose | Row::TlsLatency => {
                "TLS 1.3 (P-256), one request a connection, full handshakes"
            }
            Row::Udp64 => "UDP, 64 requests in flight",
            Row::Udp512 => "UDP, 512 requests in flight",
            Row::Udp4096 => "UDP, 4096 requests in flight",
            Row::KeepLarge => "Plain, keep-alive, a million torrents with ten million peers",
            Row::CloseLarge => {
                "Plain, one request a connection, a million torrents with ten million peers"
            }
            Row::Udp64Large | Row::Udp512Large | Row::Udp4096Large => {
                "UDP, a million torrents with ten million peers"
            }
        }
    }

    /// Requests in flight by UDP; 0 for rows of HTTP.
    pub fn in_flight(self) -> u64 {
        match self {
            Row::Udp64 | Row::Udp64Large => 64,
            Row::Udp512 | Row::Udp512Large => 512,
            Row::Udp4096 | Row::Udp4096Large => 4096,
            _ => 0,
        }
    }

    pub fn transport(self) -> Transport {
        if self.is_tls() { Transport::Tls } else { Transport::Plain }
    }

    pub fn is_under_wrk(self) -> bool {
        Row::WRK.contains(&self)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Row::TlsKeep | Row::TlsClose | Row::TlsLatency)
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The command that repeats it.
    pub command: String,
    /// Machine, kernel, date, commit and versions, by name.
    pub facts: Vec<(String, String)>,
    /// Measurements of each server and row.
    pub rounds: u64,
    pub seconds: u64,
    pub runs: Vec<ServerRun>,
    pub handshakes: Vec<BareHandshake>,
    pub memory: Vec<Filled>,
    /// This tracker with one worker and with two, tracker and load on both CPUs.
    pub workers: Vec<ServerRun>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measurement<T> {
    Failed { failure: String },
    Done(T),
}

impl<T> From<Result<T, String>> for Measurement<T> {
    fn from(result: Result<T, String>) -> Measurement<T> {
        result.map_or_else(|failure| Measurement::Failed { failure }, Measurement::Done)
    }
}

impl<T> Measurement<T> {
    pub fn done(&self) -> Result<&T, &str> {
        match self {
            Measurement::Done(done) => Ok(done),
            Measurement::Failed { failure } => Err(failure),
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerRun {
    pub row: Row,
    pub server: String,
    /// More than one only in [`Results::workers`].
    pub workers: u64,
    #[serde(flatten)]
    pub outcome: Measurement<LoadedRun>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedRun {
    /// Faults that were no failure, as given to `--allow`.
    pub allowed: String,
    pub server_ns: f64,
    /// Time for which they could have run but something else did.
    pub waited_ns: f64,
    /// The report of `annulus-load`.
    pub report: Value,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Filled {
    pub server: String,
    #[serde(flatten)]
    pub outcome: Measurement<Memory>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub announces: f64,
    pub before_bytes: f64,
    pub after_bytes: f64,
}

impl LoadedRun {
    /// Waiting for the CPU, as a share of the CPU time that the server used.
    pub fn waited(&self) -> f64 {
        self.waited_ns / self.server_ns
    }

    fn reported(&self, name: &str) -> f64 {
        self.report[name].as_f64().unwrap_or(f64::NAN)
    }

    pub fn good(&self) -> f64 {
        self.reported("good")
    }

    /// Responses, with those of which the faults are allowed.
    pub fn responses(&self) -> f64 {
        let faults = self.report["faults"].as_object().into_iter().flatten();
        let answered = faults.filter(|(name, _)| *name != NEVER_SENT);
        self.good() + answered.filter_map(|(_, fault)| fault["count"].as_f64()).sum::<f64>()
    }

    /// Requests by UDP without a response, as a share of all.
    pub fn lost(&self) -> f64 {
        self.reported("lost") / self.reported("sent")
    }

    /// Responses a second.
    pub fn rate(&self) -> f64 {
        self.responses() / self.reported("seconds")
    }

    /// CPU time of the server for each response, microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.server_ns / 1e3 / self.responses()
    }

    pub fn server_busy(&self) -> f64 {
        self.server_ns / 1e9 / self.reported("seconds")
    }

    pub fn load_busy(&self) -> f64 {
        self.reported("cpu_ns") / 1e9 / self.reported("seconds")
    }

    /// Milliseconds within which so many of the responses came, `p50`, `p99` or `p99.9`: the median
    /// over the whole seconds of the run, without the first, in which the load itself warms up. Of
    /// a run that has no other, that of all responses.
    pub fn latency_ms(&self, percentile: &str) -> f64 {
        let of = |value: &Value| value["latency_ms"][percentile].as_f64();
        let pairs = self.report["series"].as_array().map_or(&[][..], Vec::as_slice).windows(2);
        let whole = pairs.filter_map(|pair| {
            let seconds = pair[1]["at_s"].as_f64()? - pair[0]["at_s"].as_f64()?;
            of(&pair[1]).filter(|_| seconds >= WHOLE_SECOND)
        });
        let steady = Spread::of(whole).map(|seconds| seconds.median);
        steady.or_else(|| of(&self.report)).unwrap_or(f64::NAN)
    }
}

impl Memory {
    pub fn bytes_each(&self) -> f64 {
        self.after_bytes / self.announces
    }
}

/// All rounds of one server in one row.
pub struct Rounds<'a> {
    pub server: &'a str,
    /// Its runs; or the first failure.
    pub runs: Result<Vec<&'a LoadedRun>, &'a str>,
}

impl Rounds<'_> {
    /// The spread of a figure over the rounds; `None` for a server that failed.
    pub fn spread(&self, figure: impl Fn(&LoadedRun) -> f64) -> Option<Spread> {
        Spread::of(self.runs.as_ref().ok()?.iter().map(|run| figure(run)))
    }

    /// A figure of each round; none of a server that failed.
    pub fn each(&self, figure: impl Fn(&LoadedRun) -> f64) -> Vec<f64> {
        self.runs.iter().flatten().map(|run| figure(run)).collect()
    }

    pub fn median(&self, figure: impl Fn(&LoadedRun) -> f64) -> Option<f64> {
        self.spread(figure).map(|spread| spread.median)
    }

    /// Whether the load was what bounded the rate.
    pub fn is_bound_by_load(&self) -> bool {
        self.median(LoadedRun::load_busy).is_some_and(|busy| busy > LOAD_BUSY_MAX)
    }
}

impl Results {
    /// The servers of a row, in the order in which they were measured first.
    pub fn row(&self, row: Row) -> Vec<Rounds<'_>> {
        let mut all: Vec<Rounds<'_>> = Vec::new();
        for run in self.runs.iter().filter(|run| run.row == row) {
            let at = all.iter().position(|rounds| rounds.server == run.server);
            let at = at.unwrap_or_else(|| {
                all.push(Rounds { server: &run.server, runs: Ok(Vec::new()) });
                all.len() - 1
            });
            match (&mut all[at].runs, run.outcome.done()) {
                (Ok(runs), Ok(run)) => runs.push(run),
                (runs @ Ok(_), Err(why)) => *runs = Err(why),
                (Err(_), _) => {}
            }
        }
        all
    }

    pub fn offered_rate(&self, row: Row) -> Option<f64> {
        let mut runs = self.runs.iter().filter(|run| run.row == row);
        runs.find_map(|run| run.outcome.done().ok()?.report["offered_rate"].as_f64())
    }

    /// The file: one object, with a line for every measurement.
    pub fn json(&self) -> serde_json::Result<String> {
        let Value::Object(fields) = serde_json::to_value(self)? else { unreachable!("a struct") };
        let line = |(name, value): (String, Value)| {
            let value = match value {
                Value::Array(values) if values.iter().all(Value::is_object) => {
                    let lines: Vec<String> = values.iter().map(Value::to_string).collect();
                    format!("[\n{}\n]", lines.join(",\n"))
                }
                value => value.to_string(),
            };
            format!("\"{name}\":{value}")
        };
        Ok(format!("{{\n{}\n}}\n", fields.into_iter().map(line).collect::<Vec<_>>().join(",\n")))
    }
}

/// What a server of the results is called in tables; over TLS, what speaks it is named too.
pub fn title(server: &str, tls: bool) -> &str {
    match server {
        "annulus" => "Annulus",
        "annulus-epoll" => "Annulus, epoll",
        "nginx" => "nginx, constant response",
        "floor" => "floor, constant response",
        "opentracker" if tls => "hitch + opentracker",
        other => other,
    }
}

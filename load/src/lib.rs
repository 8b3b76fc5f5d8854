//! `annulus-load`: asks a tracker as many clients would, as fast as it answers or at a given
//! rate, and judges every answer.
//!
//! ```text
//! options ─→ plan ─→ worker ─→ client ─→ request        questions → bytes
//!                      │          ├────→ http, tls      bytes → bodies
//!                      │          └────→ judge ─→ check  bodies → good, odd, wrong
//!                      └────→ tally ─→ series ─→ report, plot
//! ```
//!
//! [`worker`] is the page to read first. What is asked, and in which order on each connection,
//! follows from the options alone; [`plan`] says how.
#![forbid(unsafe_code)]

mod bencode;
pub mod check;
pub mod client;
mod crew;
pub mod fault;
pub mod file;
pub mod flags;
pub mod http;
pub mod judge;
mod key_share;
pub mod option;
pub mod options;
pub mod plan;
pub mod plot;
mod popularity;
pub mod random;
pub mod report;
pub mod request;
mod schedule;
pub mod series;
pub mod sources;
pub mod tally;
pub mod target;
mod text;
pub mod tls;
pub mod worker;

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use annulus_ring::Waker;
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crew::{Crew, choose_engine};
use options::Options;
use plan::Plan;
use report::{Outcome, live_line};
use request::Requests;
use series::Series;
use sources::AddressRange;
use target::Target;

/// The SHA-1 hash that names a torrent (BEP 3).
pub type InfoHash = [u8; 20];

/// Descriptors of a worker and of the program itself that are no connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// Does what the options say, and reports to standard output. Returns whether every answer was
/// as it should be, and there was one.
///
/// # Errors
/// The run cannot begin, or its reports cannot be written.
pub fn run(options: &Options) -> Result<bool, String> {
    let target = Target::parse(&options.url, &options.path_suffix)?;
    let sources = options.sources.parse::<AddressRange>().ok();
    let from_v4 = sources.map(|range| range.address(0).is_ipv4());
    // Once: a name with several addresses may have them in another order the next time.
    let address = target.resolve(from_v4)?;
    if from_v4.is_some_and(|v4| v4 != address.is_ipv4()) {
        return Err(format!("{} cannot be reached from {}", address.ip(), options.sources));
    }
    // Before anything is asked: a day's run should not end in a report that has no place.
    [&options.json, &options.plot].into_iter().try_for_each(|path| see_writable(path))?;
    let descriptors = raise_limit(Resource::Nofile);
    if options.connections + OTHER_DESCRIPTORS > descriptors {
        return Err(format!(
            "{} connections need more descriptors than the limit of {descriptors} (ulimit -Hn)",
            options.connections
        ));
    }
    // Rings are charged to it.
    raise_limit(Resource::Memlock);
    let engine = choose_engine(options)?;
    let place = format!("{address}, {}", engine.describe().split(',').next().unwrap_or_default());
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1];
    let signals = SigSet::from_iter(signals);
    signals.thread_block().map_err(|error| error.to_string())?;
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let workers = if options.workers == 0 { cores } else { options.workers };
    let workers = workers.min(options.connections) as u32;
    let (reports, told) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let crew = Crew {
        options,
        target: &target,
        address,
        workers,
        engine,
        plan: Arc::new(Plan::new(options)?),
        requests: Arc::new(Requests::new(&target, options.numwant, options.hashes_per_scrape)),
        stop: Arc::clone(&stop),
        reports,
    };
    let hands = crew.start()?;
    stop_by_signal(signals, stop, hands.iter().map(|(_, waker)| waker.clone()).collect());

    let mut series = Series::new(workers as usize);
    let mut seconds = 0.0;
    let mut live = Live::new();
    while !series.is_complete()
        && let Ok(report) = told.recv()
    {
        seconds = report.at_ns as f64 / 1e9;
        if let Some(point) = series.take(report) {
            let left_s = options.duration as f64 - point.at_s;
            live.say(point.at_s, &live_line(&point, series.faults(), left_s));
        }
    }
    live.end();
    for (thread, _) in hands {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("a worker has failed: {error}")),
            Err(_) => return Err("a worker has panicked".to_owned()),
        }
    }
    let (points, total) = series.finish();
    let outcome = Outcome { options, place, workers, seconds, points, total };
    write_reports(&outcome)?;
    Ok(outcome.is_good())
}

/// Sees that a report can be written to `path`, if there is to be one. What is in the file stays.
fn see_writable(path: &str) -> Result<(), String> {
    // A pipe's reader would take the trial for the whole.
    let is_file = fs::metadata(path).map_or(true, |found| found.is_file());
    if path.is_empty() || !is_file {
        return Ok(());
    }
    let trial = OpenOptions::new().append(true).create(true).open(path);
    trial.map(drop).map_err(|error| format!("{path}: {error}"))
}

/// Writes all reports that can be written, even if one of them cannot.
fn write_reports(outcome: &Outcome<'_>) -> Result<(), String> {
    let Options { json, plot, url, .. } = outcome.options;
    let write = |path: &str, text: String| match path.is_empty() {
        true => Ok(()),
        false => fs::write(path, text).map_err(|error| format!("{path}: {error}")),
    };
    let mut out = io::stdout().lock();
    let printed = out.write_all(outcome.text().as_bytes()).and_then(|()| out.flush());
    let written = write(json, outcome.json());
    let drawn = write(plot, plot::draw(url, &outcome.points));
    let printed = match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}"))
        }
        _ => Ok(()),
    };
    written.and(drawn).and(printed)
}

/// Raises a soft limit to the hard one. Returns the limit that holds then.
fn raise_limit(resource: Resource) -> u64 {
    let limit = getrlimit(resource);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let reached = if setrlimit(resource, raised).is_ok() { raised } else { limit };
    reached.current.unwrap_or(u64::MAX)
}

/// Ends the run when a signal says so, whichever: there is nothing to read again, and with its
/// terminal it should go too. A second one does not wait for answers.
fn stop_by_signal(signals: SigSet, stop: Arc<AtomicBool>, wakers: Vec<Waker>) {
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if stop.swap(true, Ordering::Release) {
                process::exit(1);
            }
            wakers.iter().for_each(Waker::wake);
        }
    });
}

/// The line about the present, on standard error: always the same one on a terminal, and one
/// after the other elsewhere.
struct Live {
    terminal: bool,
}

impl Live {
    fn new() -> Live {
        Live { terminal: io::stderr().is_terminal() }
    }

    fn say(&mut self, at_s: f64, line: &str) {
        let mut err = io::stderr();
        // Nobody reading it changes nothing. A terminal too narrow for the line shows its
        // beginning: wrapped, it would not be one line (DECAWM).
        let _ = match self.terminal {
            true => write!(err, "\r\x1b[K\x1b[?7l{line}\x1b[?7h").and_then(|()| err.flush()),
            false => writeln!(err, "{at_s:4.0} s  {line}"),
        };
    }

    fn end(&mut self) {
        if self.terminal {
            let _ = writeln!(io::stderr());
        }
    }
}

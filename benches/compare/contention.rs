//! What threads wait for when they announce to the same tables at the same time, and how much of
//! it the caches miss.
//!
//! Each measurement is a process of its own, so that a tool can count its cache misses: perf
//! where the processor's counters can be had, else cachegrind (valgrind), which simulates them.
//! What the table's filling takes is measured alone and taken off.

use std::env;
use std::fs;
use std::hash::RandomState;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Barrier;
use std::thread;

use annulus_swarm::{Random, Sample, SwarmConfig, Swarms};

use crate::announcement::announcement;
use crate::process::{BOTH_CPUS, pinned};
use crate::servers::installed;
use crate::sharing::{Contended, Misses, SIMULATED};

/// The argument with which this executable contends.
pub(crate) const CONTEND: &str = "contend";

/// All announce one torrent.
const HOT: &str = "hot";

/// Every torrent is as likely as any other.
const UNIFORM: &str = "uniform";

/// Threads that announce at the same time.
const THREADS: [u64; 5] = [1, 2, 4, 8, 16];

/// Peers in the tables.
const PEERS: u32 = 50_000;

/// Torrents of the uniform load.
const TORRENTS: u32 = 10_000;

/// What a client asks for that says nothing.
const WANT: u32 = 50;

/// Announces of all threads: enough for every number of threads to be preempted often.
const ANNOUNCES: u64 = 4_000_000;

/// The same where a simulator counts, some fifty times slower.
const ANNOUNCES_SIMULATED: u64 = 200_000;

/// Misses of the first and the last level, as perf calls them.
const EVENTS: [&str; 2] = ["L1-dcache-load-misses", "cache-misses"];

/// Counts for all numbers of threads.
///
/// # Errors
///
/// The process that contends fails.
pub(crate) fn measure() -> Result<Vec<Contended>, String> {
    let counter = Counter::find();
    let mut all = Vec::new();
    for torrents in [HOT, UNIFORM] {
        let filling = counter.misses(torrents, 1, 0)?;
        for threads in THREADS {
            eprintln!("compare: tables, {torrents}, threads: {threads}");
            let printed = run(torrents, threads, ANNOUNCES)?;
            let numbers: Vec<f64> =
                printed.split_whitespace().map_while(|number| number.parse().ok()).collect();
            let [waits, sleeps, preempted] = numbers[..] else {
                return Err(format!("{CONTEND} printed {printed:?}"));
            };
            let announces = counter.announces();
            let all_misses = counter.misses(torrents, threads, announces)?;
            let misses = all_misses.zip(filling).map(|(all, filling)| {
                let each = |at: usize| (all[at] - filling[at]).max(0.0) / announces as f64;
                Misses { by: counter.name().to_owned(), first: each(0), last: each(1) }
            });
            let announces = ANNOUNCES as f64;
            let torrents = torrents.to_owned();
            all.push(Contended { torrents, threads, announces, waits, sleeps, preempted, misses });
        }
    }
    Ok(all)
}

/// Who counts cache misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    Perf,
    Cachegrind,
    Nobody,
}

impl Counter {
    /// Whoever can.
    fn find() -> Counter {
        match perf(&["true"]) {
            Ok(Some(_)) => Counter::Perf,
            _ if installed("valgrind").is_some() => Counter::Cachegrind,
            _ => Counter::Nobody,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Counter::Perf => "perf",
            Counter::Cachegrind => SIMULATED,
            Counter::Nobody => "nobody",
        }
    }

    fn announces(self) -> u64 {
        if self == Counter::Cachegrind { ANNOUNCES_SIMULATED } else { ANNOUNCES }
    }

    /// Misses of a whole process, of the first and the last level.
    fn misses(
        self,
        torrents: &str,
        threads: u64,
        announces: u64,
    ) -> Result<Option<[f64; 2]>, String> {
        let own = env::current_exe().map_err(|error| error.to_string())?;
        let own = own.to_string_lossy();
        let arguments = arguments(torrents, threads, announces);
        let arguments: Vec<&str> =
            [&*own].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let counted = match self {
            Counter::Perf => perf(&arguments),
            Counter::Cachegrind => cachegrind(&arguments).map(Some),
            Counter::Nobody => Ok(None),
        };
        counted.map_err(|error| format!("{}: {error}", self.name()))
    }
}

/// What the processor counts of a command, if it does.
fn perf(command: &[&str]) -> io::Result<Option<[f64; 2]>> {
    let mut perf = pinned(BOTH_CPUS, "perf");
    perf.args(["stat", "-x", ",", "-e", &EVENTS.join(","), "--"]).args(command);
    let output = perf.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    // perf-stat(1), "CSV format": the count, its unit, the event.
    let count = |event: &str| {
        let line = text.lines().find(|line| line.contains(event))?;
        line.split(',').next()?.parse::<f64>().ok()
    };
    let [first, last] = EVENTS.map(count);
    Ok(first.zip(last).map(|(first, last)| [first, last]))
}

/// What a simulator counts of a command.
fn cachegrind(command: &[&str]) -> io::Result<[f64; 2]> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contention.cachegrind");
    let mut valgrind = pinned(BOTH_CPUS, "valgrind");
    valgrind.args(["--tool=cachegrind", "--cache-sim=yes", "-q"]);
    valgrind.arg(format!("--cachegrind-out-file={}", file.display())).args(command);
    let output = valgrind.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(said.lines().last().unwrap_or("failed").to_owned()));
    }
    // Cachegrind's manual, "Cachegrind output file format".
    let text = fs::read_to_string(file)?;
    let after = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect::<Vec<String>>()
    };
    let (events, sums) = (after("events:"), after("summary:"));
    let sum = |names: [&str; 2]| {
        let counts = names.iter().filter_map(|name| {
            let at = events.iter().position(|event| event == name)?;
            sums.get(at)?.parse::<f64>().ok()
        });
        let counts: Vec<f64> = counts.collect();
        if counts.len() == names.len() { Some(counts.iter().sum()) } else { None }
    };
    let (first, last) = (sum(["D1mr", "D1mw"]), sum(["DLmr", "DLmw"]));
    let lacking = || io::Error::other("its file lacks misses");
    Ok([first.ok_or_else(lacking)?, last.ok_or_else(lacking)?])
}

fn arguments(torrents: &str, threads: u64, announces: u64) -> [String; 4] {
    [CONTEND, torrents, &threads.to_string(), &announces.to_string()].map(str::to_owned)
}

/// Runs one measurement. Returns what it printed.
fn run(torrents: &str, threads: u64, announces: u64) -> Result<String, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let mut command = pinned(BOTH_CPUS, own);
    command.args(arguments(torrents, threads, announces)).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// One measurement, as the arguments say: [`HOT`] or [`UNIFORM`], threads, and announces of all of
/// them. Returns waits, sleeps and preemptions, with spaces between; `None` for other arguments.
pub(crate) fn contend(arguments: &[String]) -> Option<String> {
    let [torrents, threads, announces] = arguments else { return None };
    let torrents = match torrents.as_str() {
        HOT => 1,
        UNIFORM => TORRENTS,
        _ => return None,
    };
    let (threads, announces): (usize, u64) = (threads.parse().ok()?, announces.parse().ok()?);
    let settings = SwarmConfig {
        torrents_max: u64::MAX,
        peers_max: u64::MAX,
        peers_per_torrent_max: u32::MAX,
        peers_per_address_max: 16,
        peer_timeout_s: 2700,
    };
    let swarms = Swarms::new(settings, RandomState::new());
    let mut random = Random::seeded(1);
    let mut sample = Sample::with_capacity(WANT);
    for client in 0..PEERS {
        swarms.announce(&announcement(client % torrents, client, 0), 0, &mut random, &mut sample);
    }
    let barrier = Barrier::new(threads);
    let work = |number: usize| {
        let mut random = Random::seeded(number as u64);
        let mut sample = Sample::with_capacity(WANT);
        barrier.wait();
        let before = switches();
        for _ in 0..announces / threads as u64 {
            let client = random.below(PEERS);
            let again = announcement(client % torrents, client, WANT);
            let counts = swarms.announce(&again, 1, &mut random, &mut sample);
            assert!(counts.complete + counts.incomplete >= PEERS / torrents);
        }
        let after = switches();
        [after[0] - before[0], after[1] - before[1]]
    };
    let [sleeps, preempted] = thread::scope(|scope| {
        let work = &work;
        let all: Vec<_> = (0..threads).map(|number| scope.spawn(move || work(number))).collect();
        all.into_iter().fold([0, 0], |[sleeps, preempted], one| {
            let own = one.join().expect("no thread panics");
            [sleeps + own[0], preempted + own[1]]
        })
    });
    assert_eq!(swarms.totals().peers, u64::from(PEERS));
    Some(format!("{} {sleeps} {preempted}", swarms.lock_waits()))
}

/// Voluntary and involuntary context switches of this thread, see proc_pid_status(5).
fn switches() -> [u64; 2] {
    let text = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"].map(|name| {
        let count = text.lines().find_map(|line| line.strip_prefix(name));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    })
}

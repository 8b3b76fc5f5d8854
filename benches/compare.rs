//! The comparison: Annulus and its peers under the same load, and the document about it.
//!
//! `cargo bench --bench compare` starts the floor (see `floor.rs`), this tracker on both of its
//! engines, and nginx, opentracker (over TLS behind hitch) and aquatic_http where they are
//! installed, each pinned to one CPU, has `annulus-load` ask them in turn from another, and
//! writes `docs/performance.md` with its charts and the raw results. `--render` writes the
//! document again from the committed results. The servers and their configurations are those
//! of `wire.rs`.
//!
//! Beside that it asks this tracker with one worker and with two, on both CPUs, and counts what
//! threads wait for and miss in its tables.
//!
//! It needs setpriv, taskset, prlimit, openssl and a C compiler, and two CPUs; cache misses are
//! counted by perf, where the processor's counters can be had, or by valgrind.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

#[path = "tables/announcement.rs"]
mod announcement;
#[path = "compare/chart.rs"]
mod chart;
#[path = "wire/check.rs"]
mod check;
#[path = "wire/client.rs"]
#[expect(dead_code, reason = "idle connections are not measured here")]
mod client;
#[path = "wire/configurations.rs"]
mod configurations;
#[path = "compare/contention.rs"]
mod contention;
#[path = "compare/document.rs"]
mod document;
#[path = "wire/endpoint.rs"]
mod endpoint;
#[path = "compare/figures.rs"]
mod figures;
#[path = "floor/server.rs"]
mod floor;
#[path = "wire/handshake.rs"]
mod handshake;
#[path = "compare/json.rs"]
mod json;
#[path = "compare/load.rs"]
mod load;
#[path = "wire/machine.rs"]
#[expect(dead_code, reason = "the facts go into a document")]
mod machine;
#[path = "compare/measure.rs"]
mod measure;
#[path = "wire/memory.rs"]
#[expect(dead_code, reason = "the figures go into a document")]
mod memory;
#[path = "compare/options.rs"]
mod options;
#[path = "wire/process.rs"]
mod process;
#[path = "compare/results.rs"]
mod results;
#[path = "compare/row.rs"]
mod row;
#[path = "compare/scaling.rs"]
mod scaling;
#[path = "wire/servers.rs"]
#[expect(dead_code, reason = "the document has titles of its own")]
mod servers;
#[path = "compare/sharing.rs"]
mod sharing;
#[path = "compare/spread.rs"]
mod spread;
#[path = "wire/tls.rs"]
#[expect(dead_code, reason = "wrk is not used here")]
mod tls;
#[path = "wire/torrents.rs"]
mod torrents;

use configurations::DESCRIPTORS;
use contention::CONTEND;
use figures::CHARTS;
use floor::{Connections, Service};
use handshake::MEASURE_HANDSHAKES;
use memory::{ANNOUNCES, Memory};
use options::{Options, USAGE};
use process::{pin_self, raise_descriptors};
use results::{Filled, Results};
use servers::{SERVE_FLOOR, Server, installed};

/// The programs without which nothing can be measured.
const NEEDED: [&str; 3] = ["setpriv", "taskset", "prlimit"];

/// Where the document goes, below the root of the repository.
const DOCUMENT: &str = "docs/performance.md";

/// Where its charts and the results go.
const BESIDE: &str = "docs/performance";

/// The results' file.
const RESULTS: &str = "results.json";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [word, arguments @ ..] if word == SERVE_FLOOR => return serve_floor(arguments),
        [word, arguments @ ..] if word == MEASURE_HANDSHAKES => {
            return measure_handshakes(arguments);
        }
        [word, arguments @ ..] if word == CONTEND => return contend(arguments),
        _ => {}
    }
    // `cargo test --all-targets` runs benchmarks too, but without this argument.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(arguments.into_iter()) {
        Ok(options) => options,
        Err(complaint) => {
            eprintln!("{complaint}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(complaint) = compare(&options) {
        eprintln!("compare: {complaint}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve_floor(arguments: &[String]) -> ExitCode {
    let Some(service) = Service::parse(arguments) else { return ExitCode::FAILURE };
    let error = floor::serve(service).unwrap_err();
    eprintln!("floor: {error}");
    ExitCode::FAILURE
}

fn measure_handshakes(arguments: &[String]) -> ExitCode {
    let Err(error) = handshake::print_median(arguments) else { return ExitCode::SUCCESS };
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn contend(arguments: &[String]) -> ExitCode {
    let Some(counted) = contention::contend(arguments) else { return ExitCode::FAILURE };
    println!("{counted}");
    ExitCode::SUCCESS
}

fn compare(options: &Options) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join(BESIDE).join(RESULTS);
    let failed = |path: &Path, error| format!("{}: {error}", path.display());
    if !options.render {
        load::program().map_err(|error| error.to_string())?;
        let measured = measure(options)?;
        if options.trial {
            let trial = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare-trial.json");
            fs::write(&trial, measured.json()).map_err(|error| failed(&trial, error))?;
            println!("{}\nThe results are in {}.", document::write(&measured), trial.display());
            return Ok(());
        }
        fs::create_dir_all(root.join(BESIDE)).map_err(|error| failed(&file, error))?;
        fs::write(&file, measured.json()).map_err(|error| failed(&file, error))?;
    }
    let text = fs::read_to_string(&file).map_err(|error| failed(&file, error))?;
    let results = Results::parse(&text)?;
    let drawn =
        CHARTS.iter().map(|chart| (format!("{BESIDE}/{}", chart.file), chart.svg(&results)));
    for (path, text) in drawn.chain([(DOCUMENT.to_owned(), document::write(&results))]) {
        let path = root.join(path);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

fn measure(options: &Options) -> Result<Results, String> {
    if let Some(missing) = NEEDED.iter().find(|program| installed(program).is_none()) {
        return Err(format!("{missing} is needed and not installed"));
    }
    pin_self().map_err(|error| format!("two CPUs are needed: {error}"))?;
    raise_descriptors(DESCRIPTORS).map_err(|error| format!("too few descriptors: {error}"))?;
    tls::prepare().map_err(|error| format!("no TLS: {error}"))?;
    let facts = machine::facts().into_iter();
    let (rounds, seconds) = (options.rounds as u64, options.seconds);
    let slow = if options.slow { " --slow" } else { "" };
    let program = "cargo bench --bench compare --";
    let mut results = Results {
        command: format!("{program} --rounds {rounds} --seconds {seconds}{slow}"),
        facts: facts.map(|(name, fact)| (name.to_owned(), fact)).collect(),
        rounds,
        seconds,
        ..Results::default()
    };
    if options.keep {
        measure::measure(Connections::Keep, options, &mut results);
    }
    if options.close {
        measure::measure(Connections::Close, options, &mut results);
    }
    if options.memory {
        // Both engines keep the same.
        let one_engine = |server: &&Server| **server != Server::AnnulusEpoll;
        let trackers = options.servers.iter().filter(|server| server.is_tracker());
        let in_time = |server: &&Server| options.slow || server.takes_pipelined();
        let measured = trackers.filter(one_engine).filter(in_time);
        results.memory = measured.map(|server| fill(*server)).collect();
    }
    if options.workers {
        results.workers = scaling::measure(options);
    }
    if options.tables {
        results.tables = contention::measure()?;
    }
    Ok(results)
}

/// Measures a tracker's memory, in the way in which it takes announces fastest.
fn fill(server: Server) -> Filled {
    eprintln!("compare: memory, {}", server.name());
    let connections = match server {
        Server::Opentracker => Connections::Close,
        _ => Connections::Keep,
    };
    let outcome = Memory::measure(server, connections);
    let outcome = outcome.map_err(|error| error.to_string());
    let outcome =
        outcome.map(|memory| [ANNOUNCES, memory.before, memory.after].map(|number| number as f64));
    Filled { server: server.name().to_owned(), outcome }
}

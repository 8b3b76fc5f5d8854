//! What the benchmarks share: servers under test, load, CPU accounting, statistics and tables.
//!
//! Server and load run on this machine, each pinned to a CPU of its own. A benchmark names what
//! cargo built for it with [`init!`], and starts with [`run`].
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "clients that may block")]

pub mod charts;
pub mod floor;
mod floor_udp;
pub mod handshake;
pub mod idle;
pub mod large;
pub mod load;
pub mod machine;
pub mod memory;
pub mod net;
pub mod options;
pub mod process;
pub mod results;
pub mod rows;
pub mod servers;
pub mod stats;
pub mod swarms;
pub mod tables;
pub mod tls;
pub mod torrents;
pub mod turns;
pub mod udp;
pub mod wrk;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use annulus_ring::Jemalloc;
use anyhow::{Context, Result};

/// As the tracker: what a benchmark does in memory costs what it costs there.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

static PATHS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();

/// Cargo names these paths to the benchmark only, when it compiles it.
#[macro_export]
macro_rules! init {
    () => {
        $crate::set_paths(env!("CARGO_BIN_EXE_annulus"), env!("CARGO_TARGET_TMPDIR"))
    };
}

pub fn set_paths(tracker: &str, scratch: &str) {
    PATHS.get_or_init(|| (tracker.into(), scratch.into()));
}

pub fn tracker() -> &'static Path {
    &PATHS.get().expect("init! comes first").0
}

/// A file in cargo's directory for what benchmarks write.
pub fn scratch(name: &str) -> PathBuf {
    PATHS.get().expect("init! comes first").1.join(name)
}

/// A file of the repository.
pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// A measurement that runs in a process of its own: this program, started again with the helper's
/// name as its first argument.
pub type Helper = (&'static str, fn(&[String]) -> Result<()>);

/// The `main` of a benchmark. `measure` returns whether everything of ours was without an error.
pub fn run(usage: &str, helpers: &[Helper], measure: impl FnOnce() -> Result<bool>) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let helpers = [floor::HELPER, handshake::HELPER].iter().chain(helpers);
    let helper = helpers.into_iter().find(|(name, _)| arguments.first().is_some_and(|a| a == name));
    let outcome = match helper {
        Some((_, helper)) => helper(&arguments[1..]).map(|()| true),
        // `cargo test --all-targets` runs benchmarks too, but without this argument.
        None if !arguments.iter().any(|argument| argument == "--bench") => {
            println!("{usage}");
            Ok(true)
        }
        None => measure(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let program = usage.split_whitespace().nth(4).unwrap_or_default();
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Moves this process to the load's CPU, raises its limit of descriptors and makes certificates.
pub fn prepare(descriptors: u64) -> Result<()> {
    for program in ["setpriv", "taskset", "openssl"] {
        servers::installed(program).with_context(|| format!("{program} is not installed"))?;
    }
    process::pin_self().context("two CPUs are needed")?;
    process::raise_descriptors(descriptors).context("too few descriptors")?;
    tls::prepare().context("no TLS")
}

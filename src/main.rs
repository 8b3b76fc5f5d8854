//! The program, from the command line to the exit status.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use annulus::access_list::AccessList;
use annulus::cli::{self, Command};
use annulus::clock::Clock;
use annulus::cluster::PubSubServers;
use annulus::config::{AccessMode, Config, DEFAULT_TOML};
use annulus::log;
use annulus::os::{FILE_BROKER, FileSource, Sandbox, run_file_broker};
use annulus::state::ConfiguredState;
use annulus::tls::Certificates;
use annulus_ring::Jemalloc;
use anyhow::Context;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// The exit status for a wrong configuration or a failure.
const FAILURE: u8 = 1;
/// The exit status for a wrong command line.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).peekable();
    if arguments.next_if(|word| word == FILE_BROKER).is_some() {
        return run_file_broker(arguments);
    }
    let command = match cli::parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            report(&format!("annulus: {error}\nannulus --help explains the flags"));
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let done = match command {
        Command::Run(path) => return serve(path.as_deref()),
        Command::CheckConfig(path) => check(path.as_deref()),
        Command::PrintConfig => print(DEFAULT_TOML),
        Command::Help => print(cli::HELP),
        Command::Version => print(cli::VERSION),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("{error:#}"));
            ExitCode::from(FAILURE)
        }
    }
}

/// Runs the tracker until it is told to stop.
fn serve(path: Option<&Path>) -> ExitCode {
    let done =
        Config::load(path).map_err(anyhow::Error::from).and_then(|config| annulus::run(&config));
    if let Err(error) = &done {
        log::failure(&format!("{error:#}"));
    }
    log::flush();
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
}

/// Checks the configuration and all files that it names.
fn check(path: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let warn = |warning: &String| report(warning);
    config.warning().iter().chain(&config.tls.warning()).for_each(warn);
    let source = FileSource::Direct;
    if !config.tls.certificates.is_empty() {
        let files = &config.tls.certificates;
        let loaded = Certificates::load(files, &source, Clock::unix_s()).map_err(joined)?;
        loaded.warnings.iter().for_each(warn);
    }
    if config.access.mode != AccessMode::Off {
        let loaded = AccessList::load(&config.access, &source).map_err(joined)?;
        loaded.warnings.iter().chain(&loaded.list.warning(&config.access)).for_each(warn);
    }
    let ids = Sandbox::plan(&config)?.ids();
    if let Some(state) = ConfiguredState::of(&config.state) {
        state.check(ids)?.iter().for_each(warn);
    }
    if let Some(loaded) = PubSubServers::load(&config.cluster).map_err(joined)? {
        loaded.warnings.iter().for_each(warn);
    }
    match path {
        Some(path) => print(&format!("{}: ok\n", path.display())),
        None => print("defaults: ok\n"),
    }
}

fn joined(errors: Vec<String>) -> anyhow::Error {
    anyhow::Error::msg(errors.join("\n"))
}

/// Writes to standard output. A reader that closes it early (`annulus -p | head`) is no failure; a
/// full disk is.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("annulus: standard output")
        }
        _ => Ok(()),
    }
}

/// Writes to standard error. If that fails too, the exit status is all that is left.
fn report(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

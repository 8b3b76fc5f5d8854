//! The program: from a command line to an exit status.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use annulus::access_list::{AccessList, LoadedAccessList};
use annulus::cli::{self, Command};
use annulus::clock::Clock;
use annulus::config::{AccessMode, Config, DEFAULT_TOML};
use annulus::log;
use annulus::os::{FILE_BROKER, FileSource, Sandbox, run_file_broker};
use annulus::tls::{Certificates, LoadedCertificates};

/// A wrong configuration, or a failure.
const FAILED: u8 = 1;
/// A wrong command line.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).peekable();
    if arguments.next_if(|word| word == FILE_BROKER).is_some() {
        return run_file_broker(arguments);
    }
    let command = match cli::parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            complain(&format!("annulus: {error}\nannulus --help explains the flags"));
            return ExitCode::from(MISUSED);
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
        Err(what) => {
            complain(&what);
            ExitCode::from(FAILED)
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
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn check(path: Option<&Path>) -> Result<(), String> {
    let config = Config::load(path).map_err(|errors| errors.to_string())?;
    config.warning().iter().for_each(|warning| complain(warning));
    config.tls.warning().iter().for_each(|warning| complain(warning));
    if !config.tls.certificates.is_empty() {
        let certificates = &config.tls.certificates;
        let LoadedCertificates { warnings, .. } =
            Certificates::load(certificates, &FileSource::Direct, Clock::unix_s())
                .map_err(|mistakes| mistakes.join("\n"))?;
        warnings.iter().for_each(|warning| complain(warning));
    }
    if config.access.mode != AccessMode::Off {
        let LoadedAccessList { list, warnings } =
            AccessList::load(&config.access, &FileSource::Direct)
                .map_err(|mistakes| mistakes.join("\n"))?;
        warnings.iter().chain(&list.warning(&config.access)).for_each(|it| complain(it));
    }
    Sandbox::plan(&config).map_err(|error| format!("{error:#}"))?;
    match path {
        Some(path) => print(&format!("{}: ok\n", path.display())),
        None => print("defaults: ok\n"),
    }
}

/// A reader that has seen enough (`annulus -p | head`) is no failure; a full disk is.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("annulus: standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// To standard error; if that is gone too, the exit status has to say it.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

//! The program: from the command line to an exit status.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use annulus_load::options::{LOAD_TOML, LoadCommand, help, parse_arguments};
use annulus_load::run::{print, run};
use annulus_ring::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A failure, or a response that is not correct.
const STATUS_FAILED: u8 = 1;
const STATUS_WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let done = match parse_arguments(env::args_os().skip(1)) {
        Ok(LoadCommand::Run(options)) => run(&options),
        Ok(LoadCommand::PrintConfig) => print(LOAD_TOML).map(|()| true),
        Ok(LoadCommand::Help) => print(&help()).map(|()| true),
        Ok(LoadCommand::Version) => {
            print(concat!("annulus-load ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| true)
        }
        Err(mistakes) => {
            complain(&format!("{mistakes}\nannulus-load --help explains the flags"));
            return ExitCode::from(STATUS_WRONG_USAGE);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(STATUS_FAILED),
        Err(error) => {
            complain(&error);
            ExitCode::from(STATUS_FAILED)
        }
    }
}

/// If standard error is closed, the exit status is left.
fn complain(error: &str) {
    let _ = writeln!(io::stderr(), "annulus-load: {error}");
}

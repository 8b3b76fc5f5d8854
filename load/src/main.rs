//! The program: from a command line to an exit status.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use annulus_load::file::print_default;
use annulus_load::flags::{self, Action};
use annulus_load::run;

/// A failure, or an answer that is not as it should be.
const FAILED: u8 = 1;
/// A wrong command line, or wrong options.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let done = match flags::parse(env::args_os().skip(1)) {
        Ok(Action::Run(options)) => run(&options),
        Ok(Action::PrintConfig) => print(&print_default()).map(|()| true),
        Ok(Action::Help) => print(&flags::help()).map(|()| true),
        Err(what) => {
            complain(&format!("{what}\nannulus-load --help explains the flags"));
            return ExitCode::from(MISUSED);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(what) => {
            complain(&what);
            ExitCode::from(FAILED)
        }
    }
}

/// A reader that has seen enough (`annulus-load -p | head`) is no failure; a full disk is.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// To standard error; if that is gone too, the exit status has to say it.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "annulus-load: {what}");
}

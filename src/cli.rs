//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use lexopt::{Arg, Error, Parser};

use crate::suggest::{did_you_mean, suggest};

/// What `-h` prints.
pub const HELP: &str = concat!(
    env!("CARGO_PKG_DESCRIPTION"),
    "

Usage: annulus [-c FILE] [-p] [--check-config] [-h] [-V]

  -c, --config FILE   Read the configuration from FILE; without it, use the defaults
  -p, --print-config  Print the default configuration, with comments, and exit
      --check-config  List the errors of the configuration, if any, and exit
  -h, --help          Print this help and exit
  -V, --version       Print the version and exit

Exit status: 0 done, 1 wrong configuration or failure, 2 wrong command line.
"
);

/// What `-V` prints.
pub const VERSION: &str = concat!("annulus ", env!("CARGO_PKG_VERSION"), "\n");

const LONG: [&str; 5] = ["config", "print-config", "check-config", "help", "version"];
const SHORT: [&str; 4] = ["-c", "-p", "-h", "-V"];

/// What the command line asks for. The path is that of the configuration file, if one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Run(Option<PathBuf>),
    CheckConfig(Option<PathBuf>),
    PrintConfig,
    Help,
    Version,
}

/// What is wrong with a command line, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for UsageError {}

/// Parses the arguments after the program's name. The first `-h` or `-V` decides; what follows it
/// is not read.
///
/// # Errors
/// A flag is unknown, lacks its value or has one too many, is given twice, or does not go with
/// another; or an argument is not a flag.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut parser = Parser::from_args(args);
    let mut config = None;
    let mut given = Vec::new();
    while let Some(arg) = parser.next()? {
        let flag = match arg {
            Arg::Short('c') | Arg::Long("config") => "config",
            Arg::Short('p') | Arg::Long("print-config") => "print-config",
            Arg::Long("check-config") => "check-config",
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            other => return Err(other.unexpected().into()),
        };
        if given.contains(&flag) {
            return Err(UsageError(format!("--{flag} is given twice")));
        }
        given.push(flag);
        if flag == "config" {
            config = Some(parser.value()?.into());
        }
    }
    let prints = given.contains(&"print-config");
    match given.iter().find(|flag| **flag != "print-config") {
        Some(other) if prints => {
            Err(UsageError(format!("--print-config does not go with --{other}")))
        }
        _ if prints => Ok(Command::PrintConfig),
        _ if given.contains(&"check-config") => Ok(Command::CheckConfig(config)),
        _ => Ok(Command::Run(config)),
    }
}

impl From<Error> for UsageError {
    fn from(error: Error) -> UsageError {
        UsageError(match error {
            Error::UnexpectedOption(flag) => {
                let hint = did_you_mean(known_flag(&flag).as_deref());
                format!("unknown flag \"{flag}\"{hint}")
            }
            Error::UnexpectedArgument(word) if word == "load" => {
                "the load tester is a program of its own: annulus-load".to_owned()
            }
            Error::UnexpectedArgument(word) => {
                format!("unknown argument \"{}\"", word.to_string_lossy())
            }
            Error::UnexpectedValue { option, value } => {
                format!("{option} takes no value, but got \"{}\"", value.to_string_lossy())
            }
            Error::MissingValue { option } => {
                format!("{} lacks its value", option.as_deref().unwrap_or("a flag"))
            }
            other => other.to_string(),
        })
    }
}

/// The flag that was probably meant by `flag`; both with their dashes.
fn known_flag(flag: &str) -> Option<String> {
    let Some(word) = flag.strip_prefix("--") else {
        let short = SHORT.iter().find(|short| short.eq_ignore_ascii_case(flag));
        return short.map(|short| short.to_string());
    };
    let begun = || LONG.into_iter().find(|long| !word.is_empty() && long.starts_with(word));
    suggest(word, LONG).or_else(begun).map(|long| format!("--{long}"))
}

//! The command line: one table of flags, by which it is parsed and explained.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use lexopt::{Arg, Error, Parser};

use crate::suggest::suggest;

/// One flag of the command line.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The letter after one dash.
    pub short: Option<char>,
    /// The word after two dashes.
    pub long: &'static str,
    /// What its value is called, if it takes one.
    pub value: Option<&'static str>,
    /// What it does, in less than a line.
    pub about: &'static str,
    meaning: Meaning,
}

#[derive(Clone, Copy, Debug)]
enum Meaning {
    ConfigFile,
    Do(Action),
}

/// Every flag, in the order of the help.
pub const FLAGS: &[Flag] = &[
    Flag {
        short: Some('c'),
        long: "config",
        value: Some("FILE"),
        about: "Read the configuration from FILE; without it, run on the defaults",
        meaning: Meaning::ConfigFile,
    },
    Flag {
        short: Some('p'),
        long: "print-config",
        value: None,
        about: "Print the default configuration, with comments, and exit",
        meaning: Meaning::Do(Action::PrintConfig),
    },
    Flag {
        short: None,
        long: "check-config",
        value: None,
        about: "Say what is wrong with the configuration, if anything, and exit",
        meaning: Meaning::Do(Action::CheckConfig),
    },
    Flag {
        short: Some('h'),
        long: "help",
        value: None,
        about: "Print this and exit",
        meaning: Meaning::Do(Action::Help),
    },
    Flag {
        short: Some('V'),
        long: "version",
        value: None,
        about: "Print the version and exit",
        meaning: Meaning::Do(Action::Version),
    },
];

/// What the program is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Be a tracker.
    Run,
    /// Print the default configuration.
    PrintConfig,
    /// Say what is wrong with the configuration.
    CheckConfig,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// A command line that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// What to do.
    pub action: Action,
    /// The configuration file, if one was named. Only with [`Action::Run`] and
    /// [`Action::CheckConfig`].
    pub config: Option<PathBuf>,
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

/// Parses the arguments that follow the program's name. The first `-h` or `-V` decides, and
/// nothing after it is looked at.
///
/// # Errors
/// A flag is unknown, lacks its value or has one too many, is given twice, or does not go with
/// another; or an argument is no flag.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Flags, UsageError> {
    let mut parser = Parser::from_args(args);
    let mut flags = Flags { action: Action::Run, config: None };
    let mut given: Vec<&Flag> = Vec::new();
    while let Some(arg) = parser.next().map_err(usage)? {
        let flag = match arg {
            Arg::Value(value) => return Err(usage(Error::UnexpectedArgument(value))),
            Arg::Short(letter) => FLAGS.iter().find(|flag| flag.short == Some(letter)),
            Arg::Long(word) => FLAGS.iter().find(|flag| flag.long == word),
        };
        let Some(flag) = flag else { return Err(usage(arg.unexpected())) };
        if given.iter().any(|other| other.long == flag.long) {
            return Err(UsageError(format!("--{} is given twice", flag.long)));
        }
        match flag.meaning {
            Meaning::ConfigFile => flags.config = Some(parser.value().map_err(usage)?.into()),
            Meaning::Do(action @ (Action::Help | Action::Version)) => {
                return Ok(Flags { action, config: None });
            }
            Meaning::Do(action) => flags.action = action,
        }
        given.push(flag);
    }
    // It reads no file and leaves nothing for another flag to do.
    let prints = |flag: &&Flag| matches!(flag.meaning, Meaning::Do(Action::PrintConfig));
    if let Some(printing) = given.iter().copied().find(prints)
        && let Some(other) = given.iter().find(|flag| flag.long != printing.long)
    {
        let (printing, other) = (printing.long, other.long);
        return Err(UsageError(format!("--{printing} does not go with --{other}")));
    }
    Ok(flags)
}

fn usage(error: Error) -> UsageError {
    UsageError(match error {
        Error::UnexpectedOption(flag) => match nearest_flag(&flag) {
            Some(meant) => format!("unknown flag \"{flag}\"; did you mean \"{meant}\"?"),
            None => format!("unknown flag \"{flag}\""),
        },
        Error::UnexpectedArgument(value) if value == "load" => {
            "the load tester is a program of its own: annulus-load".to_owned()
        }
        Error::UnexpectedArgument(value) => {
            format!("unknown argument \"{}\"", value.to_string_lossy())
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

/// `flag` has its dashes, and so has what is returned.
fn nearest_flag(flag: &str) -> Option<String> {
    match flag.strip_prefix("--") {
        Some(word) => {
            let words = || FLAGS.iter().map(|flag| flag.long);
            let begun = || words().find(|long| !word.is_empty() && long.starts_with(word));
            suggest(word, words()).or_else(begun).map(|long| format!("--{long}"))
        }
        None => FLAGS
            .iter()
            .filter_map(|known| known.short)
            .map(|short| format!("-{short}"))
            .find(|short| short.eq_ignore_ascii_case(flag)),
    }
}

/// What `-h` prints.
pub fn help() -> String {
    let names: Vec<String> = FLAGS
        .iter()
        .map(|flag| {
            let short = flag.short.map_or("   ".to_string(), |short| format!("-{short},"));
            let value = flag.value.map_or(String::new(), |value| format!(" {value}"));
            format!("{short} --{}{value}", flag.long)
        })
        .collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let usage: String = FLAGS.iter().map(usage_of).collect();
    let mut text = format!("{}\n\nUsage: annulus{usage}\n\n", env!("CARGO_PKG_DESCRIPTION"));
    for (names, flag) in names.iter().zip(FLAGS) {
        text += &format!("  {names:width$}  {}\n", flag.about);
    }
    text += "\nExit status: 0 done, 1 wrong configuration or failure, 2 wrong command line.\n";
    text
}

/// ` [-c FILE]`.
fn usage_of(flag: &Flag) -> String {
    let name = flag.short.map_or(format!("--{}", flag.long), |short| format!("-{short}"));
    match flag.value {
        Some(value) => format!(" [{name} {value}]"),
        None => format!(" [{name}]"),
    }
}

/// What `-V` prints.
pub fn version() -> String {
    format!("annulus {}\n", env!("CARGO_PKG_VERSION"))
}

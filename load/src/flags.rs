//! The command line of `annulus-load`: every option is a flag, and a few more.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use super::file;
use super::options::{OPTIONS, Options};
use crate::text::did_you_mean;
use crate::text::nearest;

/// A flag that is no option.
pub struct Flag {
    /// The letter after one dash.
    pub short: char,
    /// The word after two dashes.
    pub long: &'static str,
    /// What its value is called, if it takes one.
    pub value: Option<&'static str>,
    /// What it does, in less than a line.
    pub about: &'static str,
}

/// The flags that are no options, in the order of the help.
pub const FLAGS: [Flag; 3] = [
    Flag {
        short: 'c',
        long: "config",
        value: Some("FILE"),
        about: "Read options from FILE; those of the command line have the last word",
    },
    Flag {
        short: 'p',
        long: "print-config",
        value: None,
        about: "Print the default options, with comments, and exit",
    },
    Flag { short: 'h', long: "help", value: None, about: "Print this and exit" },
];

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A run.
    Run(Box<Options>),
    /// The default options.
    PrintConfig,
    /// The help.
    Help,
}

/// Parses the arguments that follow the program's name.
///
/// # Errors
/// What is wrong with them or with the file they name, in one or more lines.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, String> {
    let mut parser = Parser::from_args(args);
    let mut path: Option<PathBuf> = None;
    let mut given: Vec<(usize, String)> = Vec::new();
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        let word = match arg {
            Arg::Short('h') => return Ok(Action::Help),
            Arg::Short('p') => return Ok(Action::PrintConfig),
            Arg::Short('c') => "config",
            Arg::Short(letter) => return Err(format!("unknown flag \"-{letter}\"")),
            Arg::Long("help") => return Ok(Action::Help),
            Arg::Long("print-config") => return Ok(Action::PrintConfig),
            Arg::Long(word) => word,
            Arg::Value(url) => {
                let url = url.string().map_err(|error| error.to_string())?;
                give(&mut given, 0, url)?;
                continue;
            }
        };
        if word == "config" {
            let value = parser.value().map_err(|error| error.to_string())?;
            match path.replace(value.into()) {
                Some(_) => return Err("--config is given twice".to_owned()),
                None => continue,
            }
        }
        let Some(at) = OPTIONS.iter().position(|option| option.flag() == word) else {
            return Err(unknown(word));
        };
        let value = match OPTIONS[at].is_switch() {
            true => "true".to_owned(),
            false => {
                let value = parser.value().map_err(|error| error.to_string())?;
                value.string().map_err(|error| error.to_string())?
            }
        };
        give(&mut given, at, value)?;
    }
    let mut options = match path {
        Some(path) => file::load(&path)?,
        None => Options::default(),
    };
    for (at, value) in given {
        let option = &OPTIONS[at];
        let wrong = |what| format!("--{} {value}: {what}", option.flag());
        option.read(&value, &mut options).map_err(wrong)?;
    }
    Ok(Action::Run(Box::new(options)))
}

fn give(given: &mut Vec<(usize, String)>, at: usize, value: String) -> Result<(), String> {
    if given.iter().any(|(other, _)| *other == at) {
        return Err(format!("--{} is given twice", OPTIONS[at].flag()));
    }
    given.push((at, value));
    Ok(())
}

fn unknown(word: &str) -> String {
    let flags: Vec<String> = OPTIONS.iter().map(|option| option.flag()).collect();
    let words = flags.iter().map(String::as_str).chain(FLAGS.iter().map(|flag| flag.long));
    let guess = nearest(word, words).map(|word| format!("--{word}"));
    format!("unknown flag \"--{word}\"{}", did_you_mean(guess.as_deref()))
}

/// What `annulus-load -h` prints.
pub fn help() -> String {
    let own = FLAGS.iter().map(|flag| {
        let value = flag.value.map_or(String::new(), |value| format!(" {value}"));
        (format!("-{}, --{}{value}", flag.short, flag.long), flag.about)
    });
    let options = OPTIONS.iter().map(|option| {
        (format!("    --{} {}", option.flag(), option.value).trim_end().to_owned(), option.about)
    });
    let lines: Vec<(String, &str)> = own.chain(options).collect();
    let width = lines.iter().map(|(names, _)| names.len()).max().unwrap_or(0);
    let mut text = "Asks a tracker as many clients would, and judges every answer\n\n\
                    Usage: annulus-load [-c FILE] [URL] [OPTIONS]\n\n"
        .to_owned();
    for (names, about) in lines {
        text += &format!("  {names:width$}  {about}\n");
    }
    text += "\nExit status: 0 every answer was as it should be, 1 some was not or a failure, 2 \
             wrong command line\nor options.\n";
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Action, help, parse};
    use crate::options::{OPTIONS, Options};

    fn run(args: &[&str]) -> Result<Action, String> {
        parse(args.iter().map(OsString::from))
    }

    fn options(change: impl FnOnce(&mut Options)) -> Result<Action, String> {
        let mut options = Options::default();
        change(&mut options);
        Ok(Action::Run(Box::new(options)))
    }

    #[test]
    fn flags_are_options() {
        assert_eq!(run(&[]), options(|_| {}));
        assert_eq!(
            run(&["http://[::1]:7/announce"]),
            options(|it| it.url = "http://[::1]:7/announce".into())
        );
        let both = run(&["--rate=5", "--hashes-per-scrape", "7", "--insecure"]);
        assert_eq!(both, options(|it| (it.rate, it.hashes_per_scrape, it.insecure) = (5, 7, true)));
        assert_eq!(run(&["-h", "--x"]), Ok(Action::Help));
        assert_eq!(run(&["--rate", "1", "-p"]), Ok(Action::PrintConfig));
        assert_eq!(run(&["-c", "/dev/null", "--seed", "4"]), options(|it| it.seed = 4));
    }

    #[test]
    fn mistakes_say_what_was_meant() {
        for (args, what) in [
            (
                &["--conections", "4"][..],
                "unknown flag \"--conections\"; did you mean \"--connections\"?",
            ),
            (&["-x"], "unknown flag \"-x\""),
            (&["--rate"], "missing argument for option '--rate'"),
            (&["--rate", "x"], "--rate x: must be 0 to 100_000_000 requests a second"),
            (&["--rate", "1", "--rate", "1"], "--rate is given twice"),
            (&["http://a/", "http://b/"], "--url is given twice"),
            (&["127.0.0.1:80"], "--url 127.0.0.1:80: must begin with http:// or https://"),
            (&["-c", "a", "-c", "b"], "--config is given twice"),
        ] {
            assert_eq!(run(args), Err(what.to_owned()), "{args:?}");
        }
    }

    #[test]
    fn help_explains_every_option() {
        let help = help();
        for option in OPTIONS {
            let names = format!("      --{} ", option.flag());
            let line = help.lines().find(|line| line.starts_with(&names));
            assert!(line.is_some_and(|line| line.ends_with(option.about)), "{names}\n{help}");
        }
        assert!(help.lines().all(|line| line.len() <= 110), "{help}");
    }
}

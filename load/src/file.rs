//! Options from a file in TOML, and the file that `annulus-load -p` prints.

use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::option::{Notation, Opt};
use super::options::{OPTIONS, Options};
use crate::text::nearest;
use crate::text::{did_you_mean, wrapped};

/// The default options as a file: [`read`] makes [`Options::default`] of it.
pub fn print_default() -> String {
    let mut defaults = Options::default();
    let mut text = wrapped(
        "What annulus-load asks of a tracker, in TOML. Every key may be left out; shown are the \
         defaults. Every key is a flag too, with dashes for underscores, and flags have the last \
         word.",
    );
    for option in OPTIONS {
        text += "\n";
        text += &option.printed(&mut defaults);
    }
    text
}

/// The options of the file at `path`, on top of the defaults.
///
/// # Errors
/// All that is wrong with it, one line each, with the file's name and the line.
pub fn load(path: &Path) -> Result<Options, String> {
    let name = path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    read(&text, &name)
}

/// The options that `text` describes, on top of the defaults. `name` stands for the file.
///
/// # Errors
/// All that is wrong with it, one line each, in the order of the file.
pub fn read(text: &str, name: &str) -> Result<Options, String> {
    let mut options = Options::default();
    let mut mistakes: Vec<(usize, String)> = Vec::new();
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or_default();
        let mut what = error.message().to_owned();
        if what == "duplicate key" {
            let key = text.get(span.clone()).unwrap_or_default();
            what += &format!(" \"{}\"", key.lines().next().unwrap_or_default());
        }
        mistakes.push((line(text, span.start), what));
    }
    // What follows from wrong syntax is no news.
    if mistakes.is_empty() {
        for (key, value) in root.get_ref() {
            let key_name = key.get_ref().as_ref();
            let at = line(text, key.span().start);
            let read = match OPTIONS.iter().find(|option| option.name == key_name) {
                Some(option) => read_value(option, value.get_ref(), &mut options).map_err(|what| {
                    let shown = text.get(value.span()).unwrap_or_default();
                    let shown = shown.lines().next().unwrap_or_default();
                    format!("{key_name} = {shown}: {what}")
                }),
                None => {
                    let guess = nearest(key_name, OPTIONS.iter().map(|option| option.name));
                    Err(format!("unknown key \"{key_name}\"{}", did_you_mean(guess)))
                }
            };
            mistakes.extend(read.err().map(|what| (at, what)));
        }
    }
    if mistakes.is_empty() {
        return Ok(options);
    }
    mistakes.sort();
    let lines: Vec<String> =
        mistakes.iter().map(|(line, what)| format!("{name}:{line}: {what}")).collect();
    Err(lines.join("\n"))
}

fn read_value(option: &Opt, value: &DeValue<'_>, options: &mut Options) -> Result<(), String> {
    match (option.notation(), value) {
        (Notation::Number, DeValue::Integer(digits)) if digits.radix() == 10 => {
            option.read(digits.as_str(), options)
        }
        (Notation::Number, DeValue::Float(digits)) => option.read(digits.as_str(), options),
        (Notation::Switch, DeValue::Boolean(on)) => option.read(&on.to_string(), options),
        (Notation::Quoted, DeValue::String(text)) => option.read(text, options),
        _ => Err(format!("expected {}", option.form(options))),
    }
}

fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::{print_default, read};
    use crate::options::{Arrivals, OPTIONS, Options};

    #[test]
    fn what_is_printed_is_the_default() {
        assert_eq!(read(&print_default(), "x"), Ok(Options::default()));
        assert_eq!(read("", "x"), Ok(Options::default()));
        assert!(print_default().lines().all(|line| line.len() <= 80));
        for option in OPTIONS {
            assert!(print_default().contains(&format!("\n{} = ", option.name)));
        }
    }

    #[test]
    fn values_are_read() {
        let text = "rate = 1_000\narrivals = \"even\"\ninsecure = true\nzipf_exponent = 1.5\n";
        let options = read(text, "x").unwrap();
        assert_eq!((options.rate, options.arrivals), (1000, Arrivals::Even));
        assert!(options.insecure && options.zipf_exponent == 1.5);
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        for (text, what) in [
            ("\nrates = 1", "x:2: unknown key \"rates\"; did you mean \"rate\"?"),
            ("connections = 0", "x:1: connections = 0: must be 1 to 1_000_000 connections"),
            ("pipeline = \"4\"", "x:1: pipeline = \"4\": expected 1 to 64 requests"),
            ("seeders = 101", "x:1: seeders = 101: must be 0 to 100 percent"),
            ("insecure = 1", "x:1: insecure = 1: expected true or false"),
            (
                "arrivals = \"evn\"",
                "x:1: arrivals = \"evn\": must be \"random\" or \"even\"; \
                 did you mean \"even\"?",
            ),
            (
                "zipf_exponent = -1.0",
                "x:1: zipf_exponent = -1.0: must be a number above 0, at most 10",
            ),
            (
                "allow = \"own-adress\"",
                "x:1: allow = \"own-adress\": there is no fault \"own-adress\"; \
                 did you mean \"own-address\"?",
            ),
            ("url = \"ftp://x/\"", "x:1: url = \"ftp://x/\": must begin with http:// or https://"),
            (
                "sources = \"127.0.0.1/8\"",
                "x:1: sources = \"127.0.0.1/8\": there are bits set after the first 8: \
                 write \"127.0.0.0/8\"",
            ),
            ("[load]\nrate = 1", "x:1: unknown key \"load\""),
            ("rate = 1\nseed = 2\nrate = 3", "x:3: duplicate key \"rate\""),
            ("rate = \nseed = 1", "x:1: string values must be quoted, expected literal string"),
        ] {
            assert_eq!(read(text, "x"), Err(what.to_owned()));
        }
        let both = read("seed = -1\nrates = 2", "x").unwrap_err();
        assert_eq!(both.lines().count(), 2, "{both}");
    }
}

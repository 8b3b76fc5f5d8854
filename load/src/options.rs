//! The options of a run: one struct, which [`LOAD_TOML`] documents and gives its defaults; a file
//! and the command line replace values of it, key by key.

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;

use annulus_ring::EngineChoice;
use ipnet::IpNet;
use lexopt::{Arg, Parser, ValueExt};
use serde::{Deserialize, Serialize};
use strsim::osa_distance;
use toml::de::{DeTable, Error};
use toml::{Table, Value};

use crate::failure::FailureKind;
use crate::tracker_url::{TrackerScheme, TrackerUrl};

/// Every key with its default and its documentation.
pub const LOAD_TOML: &str = include_str!("load.toml");

/// See [`LOAD_TOML`], which also states the values that are allowed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "load.toml documents the keys")]
pub struct LoadOptions {
    pub url: String,
    pub path_suffix: String,
    pub workers: u64,
    pub connections: u64,
    pub duration: u64,
    pub requests: u64,
    pub requests_per_connection: u64,
    pub pipeline: u64,
    pub rate: u64,
    pub arrivals: Arrivals,
    pub timeout: u64,
    pub loss_timeout: u64,
    pub id_lifetime: u64,
    pub sockets: u64,
    pub torrents: u64,
    pub torrents_file: String,
    pub popularity: Popularity,
    pub zipf_exponent: f64,
    pub gamma_shape: f64,
    pub gamma_scale: f64,
    pub peers: u64,
    pub seeders: u64,
    pub scrapes: u64,
    pub hashes_per_scrape: u64,
    pub numwant: u64,
    pub sources: String,
    pub only_ours: bool,
    pub allow: String,
    pub insecure: bool,
    pub ca: String,
    pub resume: bool,
    #[serde(with = "EngineName")]
    pub engine: EngineChoice,
    pub seed: u64,
    pub json: String,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        toml::from_str(LOAD_TOML).expect("load.toml has every key")
    }
}

/// How the requests of a given rate are spread in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Independent of each other, like those of many clients (Poisson).
    Random,
    /// At equal intervals.
    Even,
}

/// How likely each torrent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Popularity {
    /// The torrent of rank r has weight 1 / r^exponent.
    Zipf,
    /// Like aquatic's load tests: a gamma distribution, cut off at 101 and scaled.
    Gamma,
    /// All alike.
    Even,
}

/// The names of [`EngineChoice`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "EngineChoice", rename_all = "snake_case")]
enum EngineName {
    Auto,
    IoUring,
    Epoll,
}

fn defaults() -> Table {
    toml::from_str(LOAD_TOML).expect("load.toml is TOML")
}

/// The comment above a key of [`LOAD_TOML`], in one line.
fn comment_of(key: &str) -> String {
    let (above, _) = LOAD_TOML.split_once(&format!("\n{key} = ")).unwrap_or_default();
    let paragraph = above.rsplit("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = paragraph.lines().map(|line| line.trim_matches(['#', ' '])).collect();
    lines.join(" ")
}

/// What the comment above a key says is allowed, such as `1 to 64 requests`.
fn allowed_values(key: &str) -> String {
    let comment = comment_of(key);
    let allowed = comment.rsplit_once("Allowed: ").map(|(_, allowed)| allowed);
    allowed.map_or("text in quotes", |allowed| allowed.trim_end_matches('.')).to_owned()
}

/// Sets a key of `table` if the value is allowed.
fn set(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let allowed = allowed_values(key);
    let numbers = allowed.split([' ', ',']).filter_map(|word| word.replace('_', "").parse().ok());
    let numbers: Vec<f64> = numbers.collect();
    let (value, is_allowed) = match (&table[key], value) {
        (Value::Float(_), Value::Integer(number)) => {
            return set(table, key, Value::Float(number as f64));
        }
        (Value::Integer(_), Value::Integer(number)) => {
            (Value::Integer(number), (numbers[0]..=numbers[1]).contains(&(number as f64)))
        }
        // Above the first number, and at most the second.
        (Value::Float(_), Value::Float(number)) => {
            (Value::Float(number), number > numbers[0] && number <= numbers[1])
        }
        (Value::String(_), Value::String(text)) => {
            check_text(key, &text)?;
            let words: Vec<&str> = allowed.split('"').skip(1).step_by(2).collect();
            if !words.is_empty() && !words.contains(&text.as_str()) {
                return Err(format!("must be {allowed}{}", suggest(&text, words.into_iter())));
            }
            (Value::String(text), true)
        }
        (Value::Boolean(_), Value::Boolean(on)) => (Value::Boolean(on), true),
        (_, value) => (value, false),
    };
    if !is_allowed {
        return Err(format!("must be {allowed}"));
    }
    table.insert(key.to_owned(), value);
    Ok(())
}

/// Checks text that is more than a word or a path.
fn check_text(key: &str, text: &str) -> Result<(), String> {
    let is_path = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    match key {
        "url" => TrackerUrl::parse(text, "").map(|_| ()),
        "sources" => parse_sources(text).map(|_| ()),
        "allow" => allowed_names(text).try_for_each(|name| {
            let names = || FailureKind::ALL.iter().map(|kind| kind.name());
            match names().any(|known| known == name) {
                true => Ok(()),
                false => Err(format!("there is no fault \"{name}\"{}", suggest(name, names()))),
            }
        }),
        "path_suffix" if !text.bytes().all(is_path) => {
            Err("must be ASCII text without spaces, ? and #".to_owned())
        }
        _ => Ok(()),
    }
}

/// `; did you mean "WORD"?`, with the most similar of `words` if one is similar enough.
fn suggest<'w>(typed: &str, words: impl Iterator<Item = &'w str>) -> String {
    let distance = |word: &str| osa_distance(&typed.replace('-', "_"), &word.replace('-', "_"));
    let similar = words.filter(|word| distance(word) <= (word.len() / 3).max(1));
    let best = similar.min_by_key(|word| distance(word));
    best.map_or(String::new(), |word| format!("; did you mean \"{word}\"?"))
}

/// The range of [`LoadOptions::sources`]; `None` if it is empty.
pub fn parse_sources(text: &str) -> Result<Option<IpNet>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let range = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    let range = range.map_err(|_| "must be an address, or a range like \"127.0.0.0/8\"")?;
    match range.trunc() {
        first if first == range => Ok(Some(range)),
        first => {
            let bits = range.prefix_len();
            Err(format!("there are bits set after the first {bits}: write \"{first}\""))
        }
    }
}

/// The names in a list with commas.
pub(crate) fn allowed_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Sets the keys of `table` that `text` has. `name` is the name of the file.
/// Fails with all mistakes, one line each, with the file's name and the line.
fn read_toml(text: &str, name: &str, table: &mut Table) -> Result<(), String> {
    let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let syntax = |error: Error| {
        let span = error.span().unwrap_or_default();
        let part = text.get(span.clone()).and_then(|part| part.lines().next()).unwrap_or_default();
        format!("{name}:{}: {} at \"{part}\"", line(span.start), error.message())
    };
    let places = DeTable::parse(text).map_err(syntax)?.into_inner();
    let mut mistakes = Vec::new();
    for (key, value) in toml::from_str::<Table>(text).map_err(syntax)? {
        let place = places.get_key_value(key.as_str()).map_or(0, |(key, _)| key.span().start);
        let known = table.keys().map(String::as_str);
        let result = match table.contains_key(&key) {
            false => Err(format!("unknown key \"{key}\"{}", suggest(&key, known))),
            true => {
                let shown = format!("{key} = {value}");
                set(table, &key, value).map_err(|what| format!("{shown}: {what}"))
            }
        };
        mistakes.extend(result.err().map(|what| (line(place), what)));
    }
    mistakes.sort();
    let lines = mistakes.iter().map(|(line, what)| format!("{name}:{line}: {what}"));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadCommand {
    Run(Box<LoadOptions>),
    PrintConfig,
    Help,
    Version,
}

/// Keys that mean nothing to trackers by UDP, and those that mean nothing to others.
const NOT_OF_UDP: [&str; 6] =
    ["requests_per_connection", "pipeline", "insecure", "ca", "resume", "engine"];
const ONLY_OF_UDP: [&str; 3] = ["loss_timeout", "id_lifetime", "sockets"];

/// Checks that no key has a value of its own that means nothing to the tracker.
fn check_scheme(table: &Table) -> Result<(), String> {
    let url = table["url"].as_str().unwrap_or_default();
    let (keys, scheme) = match TrackerUrl::parse(url, "")?.scheme {
        TrackerScheme::Udp => (&NOT_OF_UDP[..], "udp://"),
        TrackerScheme::Http | TrackerScheme::Https => (&ONLY_OF_UDP[..], "http:// and https://"),
    };
    let defaults = defaults();
    match keys.iter().find(|key| table[**key] != defaults[**key]) {
        Some(key) => Err(format!("{key}: has no meaning for {scheme}")),
        None => Ok(()),
    }
}

/// Parses the arguments after the program's name.
pub fn parse_arguments(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<LoadCommand, String> {
    let mut parser = Parser::from_args(arguments);
    let mut table = defaults();
    let mut flags: Vec<(String, String)> = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let (word, mut value) = match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(LoadCommand::Help),
            Arg::Short('p') | Arg::Long("print-config") => return Ok(LoadCommand::PrintConfig),
            Arg::Short('V') | Arg::Long("version") => return Ok(LoadCommand::Version),
            Arg::Short('c') => ("config".to_owned(), None),
            Arg::Short(letter) => return Err(format!("unknown flag \"-{letter}\"")),
            Arg::Long(word) => (word.to_owned(), None),
            Arg::Value(url) => ("url".to_owned(), Some(url)),
        };
        let is_known = !word.contains('_') && table.contains_key(&word.replace('-', "_"));
        if word != "config" && !is_known {
            let known: Vec<String> = table.keys().map(|key| key.replace('_', "-")).collect();
            let known = known.iter().map(String::as_str).chain(["config", "print-config"]);
            let guess = suggest(&word, known).replace("mean \"", "mean \"--");
            return Err(format!("unknown flag \"--{word}\"{guess}"));
        }
        if flags.iter().any(|(other, _)| *other == word) {
            return Err(format!("--{word} is given twice"));
        }
        if table.get(&word.replace('-', "_")).is_some_and(Value::is_bool) {
            value = Some("true".into());
        } else if value.is_none() {
            value = Some(parser.value().map_err(|error| error.to_string())?);
        }
        let value = value.unwrap_or_default().string().map_err(|error| error.to_string())?;
        flags.push((word, value));
    }
    if let Some((_, path)) = flags.iter().find(|(word, _)| word == "config") {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("{path}: cannot be read: {error}"))?;
        read_toml(&text, path, &mut table)?;
    }
    for (word, text) in flags.into_iter().filter(|(word, _)| word != "config") {
        let key = word.replace('-', "_");
        // What is not of the key's type stays text, which is not allowed then.
        let value = match &table[&key] {
            Value::Integer(_) => text.replace('_', "").parse().map(Value::Integer).ok(),
            Value::Float(_) => text.parse().map(Value::Float).ok(),
            Value::Boolean(_) => Some(Value::Boolean(true)),
            _ => None,
        };
        let value = value.unwrap_or_else(|| Value::String(text.clone()));
        set(&mut table, &key, value).map_err(|what| format!("--{word} {text}: {what}"))?;
    }
    check_scheme(&table)?;
    let options = table.try_into().map_err(|error| error.to_string())?;
    Ok(LoadCommand::Run(Box::new(options)))
}

/// What `annulus-load -h` prints: of every key its first sentence in [`LOAD_TOML`].
pub fn help() -> String {
    let own = [
        ("-c, --config FILE", "Read options from FILE; flags override them"),
        ("-p, --print-config", "Print the default options with comments"),
        ("-h, --help", "Print this"),
        ("-V, --version", "Print the version"),
    ];
    let mut lines = own.map(|(flag, about)| (flag.to_owned(), about.to_owned())).to_vec();
    let defaults = defaults();
    let keys = LOAD_TOML.lines().filter_map(|line| line.split_once(" = "));
    for (key, _) in keys.filter(|(key, _)| defaults.contains_key(*key)) {
        let comment = comment_of(key);
        let value = match &defaults[key] {
            Value::Integer(_) => " N",
            Value::Float(_) => " X",
            Value::Boolean(_) => "",
            _ if comment.starts_with("A file ") => " FILE",
            _ => " TEXT",
        };
        let end = comment.find([';', ':']).into_iter().chain(comment.find(". ")).min();
        let about = comment[..end.unwrap_or(comment.len())].trim_end_matches('.');
        lines.push((format!("    --{}{value}", key.replace('_', "-")), about.to_owned()));
    }
    let width = lines.iter().map(|(flag, _)| flag.len()).max().unwrap_or(0);
    let lines: String =
        lines.iter().map(|(flag, about)| format!("  {flag:width$}  {about}\n")).collect();
    format!(
        "{}\n\nUsage: annulus-load [-c FILE] [URL] [OPTIONS]\n\n{lines}\n\
         Exit status: 0 all responses are correct, 1 some are not or a failure, 2 wrong usage.\n",
        env!("CARGO_PKG_DESCRIPTION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LoadOptions, String> {
        let mut table = defaults();
        read_toml(text, "x", &mut table)?;
        Ok(table.try_into().unwrap())
    }

    fn run(arguments: &[&str]) -> Result<LoadCommand, String> {
        parse_arguments(arguments.iter().map(OsString::from))
    }

    fn options(change: impl FnOnce(&mut LoadOptions)) -> Result<LoadCommand, String> {
        let mut options = LoadOptions::default();
        change(&mut options);
        Ok(LoadCommand::Run(Box::new(options)))
    }

    #[test]
    fn the_file_documents_every_key_and_is_the_default() {
        assert_eq!(read(LOAD_TOML), Ok(LoadOptions::default()));
        assert_eq!(read(""), Ok(LoadOptions::default()));
        let fields = Table::try_from(LoadOptions::default()).unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), defaults().keys().collect::<Vec<_>>());
        for (key, value) in fields {
            let comment = comment_of(&key);
            assert!(
                comment.len() > 20 && (value.is_str() || comment.contains("Allowed: ")),
                "{key}"
            );
            assert!(help().contains(&format!("\n      --{}", key.replace('_', "-"))), "{key}");
        }
        assert!(LOAD_TOML.lines().chain(help().lines()).all(|line| line.len() <= 110));
    }

    #[test]
    fn files_and_flags_set_values() {
        let text = "rate = 1_000\narrivals = \"even\"\ninsecure = true\nzipf_exponent = 2\n";
        let of_file = read(text).unwrap();
        assert_eq!((of_file.rate, of_file.arrivals), (1000, Arrivals::Even));
        assert!(of_file.insecure && of_file.zipf_exponent == 2.0);
        let url = "http://[::1]:7/announce";
        assert_eq!(run(&[url]), options(|it| it.url = url.to_owned()));
        let both = run(&["--rate=5", "--hashes-per-scrape", "7", "--insecure"]);
        assert_eq!(both, options(|it| (it.rate, it.hashes_per_scrape, it.insecure) = (5, 7, true)));
        let engine = run(&["-c", "/dev/null", "--engine", "io_uring"]);
        assert_eq!(engine, options(|it| it.engine = EngineChoice::IoUring));
        assert_eq!(run(&["-h", "--x"]), Ok(LoadCommand::Help));
        assert_eq!(run(&["--rate", "1", "-p"]), Ok(LoadCommand::PrintConfig));
    }

    #[test]
    fn mistakes_name_file_line_and_key_or_the_flag() {
        for (text, what) in [
            ("\nrates = 1", "x:2: unknown key \"rates\"; did you mean \"rate\"?"),
            ("connections = 0", "x:1: connections = 0: must be 1 to 1_000_000 connections"),
            ("insecure = 1", "x:1: insecure = 1: must be true or false"),
            (
                "arrivals = \"evn\"",
                "x:1: arrivals = \"evn\": must be \"random\" or \"even\"; did you mean \"even\"?",
            ),
            ("gamma_scale = -1", "x:1: gamma_scale = -1: must be a number above 0, at most 10000"),
            (
                "allow = \"own-adress\"",
                "x:1: allow = \"own-adress\": there is no fault \"own-adress\"; \
                 did you mean \"own-address\"?",
            ),
            (
                "url = \"ftp://x/\"",
                "x:1: url = \"ftp://x/\": must begin with http://, https:// or udp://",
            ),
            (
                "sources = \"127.0.0.1/8\"",
                "x:1: sources = \"127.0.0.1/8\": there are bits set after the first 8: \
                 write \"127.0.0.0/8\"",
            ),
            ("[load]\nrate = 1", "x:1: unknown key \"load\""),
            ("rate = 1\nseed = 2\nrate = 3", "x:3: duplicate key at \"rate\""),
            (
                "seeders = 101\nrates = 2",
                "x:1: seeders = 101: must be 0 to 100 percent\n\
                 x:2: unknown key \"rates\"; did you mean \"rate\"?",
            ),
        ] {
            assert_eq!(read(text), Err(what.to_owned()));
        }
        for (arguments, what) in [
            (
                &["--hashes_per_scrape", "4"][..],
                "unknown flag \"--hashes_per_scrape\"; did you mean \"--hashes-per-scrape\"?",
            ),
            (&["-x"], "unknown flag \"-x\""),
            (&["--rate"], "missing argument for option '--rate'"),
            (&["--rate", "x"], "--rate x: must be 0 to 100_000_000 requests a second"),
            (&["--rate", "1", "--rate", "1"], "--rate is given twice"),
            (&["-c", "a", "-c", "b"], "--config is given twice"),
        ] {
            assert_eq!(run(arguments), Err(what.to_owned()), "{arguments:?}");
        }
    }
}

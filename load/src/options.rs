//! The options of a run: one struct, which [`LOAD_TOML`] documents and gives its defaults; a file
//! and the command line replace values of it, key by key.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use annulus_ring::EngineChoice;
use ipnet::IpNet;
use lexopt::{Arg, Parser, ValueExt};
use serde::{Deserialize, Serialize};
use strsim::osa_distance;
use toml::de::{DeTable, Error};
use toml::{Table, Value};

use crate::failure::FailureKind;
use crate::tracker_url::TrackerUrl;

/// Every key with its default and its documentation.
pub const LOAD_TOML: &str = include_str!("load.toml");

/// See [`LOAD_TOML`]. Values are within the bounds of [`RULES`].
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

/// What the value of a key must be.
enum ValueRule {
    Integer {
        min: i64,
        max: i64,
        unit: &'static str,
    },
    /// Above 0.
    Float {
        max: f64,
    },
    Switch,
    Choice(&'static [&'static str]),
    File,
    /// Anything without a mistake that the function describes.
    Text(fn(&str) -> Result<(), String>),
}

use ValueRule::{Choice, File, Float, Switch, Text};

const fn integer(min: i64, max: i64, unit: &'static str) -> ValueRule {
    ValueRule::Integer { min, max, unit }
}

/// Every key, in the order of the file.
const RULES: &[(&str, ValueRule)] = &[
    ("url", Text(|url| TrackerUrl::parse(url, "").map(|_| ()))),
    ("path_suffix", Text(check_suffix)),
    ("workers", integer(0, 1024, "threads")),
    ("connections", integer(1, 1_000_000, "connections")),
    ("duration", integer(1, 86_400, "seconds")),
    ("requests", integer(0, 1_000_000_000_000, "requests")),
    ("requests_per_connection", integer(0, 1_000_000_000, "requests")),
    ("pipeline", integer(1, 64, "requests")),
    ("rate", integer(0, 100_000_000, "requests a second")),
    ("arrivals", Choice(&["random", "even"])),
    ("timeout", integer(1, 3600, "seconds")),
    ("torrents", integer(1, 50_000_000, "torrents")),
    ("torrents_file", File),
    ("popularity", Choice(&["zipf", "gamma", "even"])),
    ("zipf_exponent", Float { max: 10.0 }),
    ("gamma_shape", Float { max: 1000.0 }),
    ("gamma_scale", Float { max: 10_000.0 }),
    ("peers", integer(1, 100_000_000, "peers")),
    ("seeders", integer(0, 100, "percent")),
    ("scrapes", integer(0, 100, "percent")),
    ("hashes_per_scrape", integer(1, 64, "torrents")),
    ("numwant", integer(0, 10_000, "peers")),
    ("sources", Text(|text| parse_sources(text).map(|_| ()))),
    ("only_ours", Switch),
    ("allow", Text(|text| allowed_names(text).try_for_each(check_name))),
    ("insecure", Switch),
    ("ca", File),
    ("resume", Switch),
    ("engine", Choice(&["auto", "io_uring", "epoll"])),
    ("seed", integer(0, i64::MAX, "as the seed")),
    ("json", File),
];

impl ValueRule {
    /// What a value must be, to follow "must be".
    fn form(&self) -> String {
        match self {
            ValueRule::Integer { min, max, unit } => {
                format!("{} to {} {unit}", grouped(*min), grouped(*max))
            }
            Float { max } => format!("a number above 0, at most {max}"),
            Switch => "true or false".to_owned(),
            Choice(words) => {
                let (last, others) = words.split_last().expect("there are words");
                format!("\"{}\" or \"{last}\"", others.join("\", \""))
            }
            File | Text(_) => "text in quotes".to_owned(),
        }
    }

    /// The value if it is allowed; else what is wrong with it.
    fn check(&self, value: Value) -> Result<Value, String> {
        match (self, value) {
            (ValueRule::Integer { min, max, .. }, Value::Integer(number))
                if (min..=max).contains(&&number) =>
            {
                Ok(Value::Integer(number))
            }
            (Float { .. }, Value::Integer(number)) => self.check(Value::Float(number as f64)),
            (Float { max }, Value::Float(number)) if number > 0.0 && number <= *max => {
                Ok(Value::Float(number))
            }
            (Switch, Value::Boolean(on)) => Ok(Value::Boolean(on)),
            (File, Value::String(path)) => Ok(Value::String(path)),
            (Choice(words), Value::String(word)) if words.contains(&word.as_str()) => {
                Ok(Value::String(word))
            }
            (Choice(words), Value::String(word)) => {
                Err(format!("must be {}{}", self.form(), suggest(&word, words.iter().copied())))
            }
            (Text(check), Value::String(text)) => check(&text).map(|()| Value::String(text)),
            _ => Err(format!("must be {}", self.form())),
        }
    }

    /// A value of the command line. What cannot be read stays text, which [`Self::check`] refuses.
    fn read_flag(&self, text: &str) -> Value {
        let number = text.replace('_', "");
        match self {
            ValueRule::Integer { .. } => number.parse().map(Value::Integer).ok(),
            Float { .. } => number.parse().map(Value::Float).ok(),
            _ => None,
        }
        .unwrap_or_else(|| Value::String(text.to_owned()))
    }

    /// What stands for the value in the help.
    fn placeholder(&self) -> String {
        match self {
            ValueRule::Integer { .. } => " N".to_owned(),
            Float { .. } => " X".to_owned(),
            Switch => String::new(),
            Choice(words) => format!(" {}", words.join("|")),
            File => " FILE".to_owned(),
            Text(_) => " TEXT".to_owned(),
        }
    }
}

fn find_rule(key: &str) -> Option<&'static ValueRule> {
    RULES.iter().find(|(name, _)| *name == key).map(|(_, rule)| rule)
}

/// Digits in groups of three from a million on, with the underscores of TOML.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    if digits.len() < 7 {
        return digits;
    }
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().flat_map(str::from_utf8).collect();
    groups.join("_")
}

/// `; did you mean "WORD"?`, with the most similar of `words` if one is similar enough.
fn suggest<'w>(typed: &str, words: impl Iterator<Item = &'w str>) -> String {
    let distance = |word: &str| osa_distance(&typed.replace('-', "_"), &word.replace('-', "_"));
    let similar = words.filter(|word| distance(word) <= (word.len() / 3).max(1));
    let best = similar.min_by_key(|word| distance(word));
    best.map_or(String::new(), |word| format!("; did you mean \"{word}\"?"))
}

fn check_suffix(text: &str) -> Result<(), String> {
    match text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#')) {
        true => Ok(()),
        false => Err("must be ASCII text without spaces, ? and #".to_owned()),
    }
}

/// The range of [`LoadOptions::sources`]; `None` if it is empty.
///
/// # Errors
/// It is neither an address nor a range, or a range whose first address is another one.
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

fn check_name(name: &str) -> Result<(), String> {
    let mut names = FailureKind::ALL.iter().map(|kind| kind.name());
    match names.clone().any(|known| known == name) {
        true => Ok(()),
        false => Err(format!("there is no fault \"{name}\"{}", suggest(name, &mut names))),
    }
}

/// Replaces the values in `table` by those of the file at `path`.
///
/// # Errors
/// All mistakes in the file, one line each, with the file's name and the line.
fn read_file(path: &Path, table: &mut Table) -> Result<(), String> {
    let name = path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    read_toml(&text, &name, table)
}

fn read_toml(text: &str, name: &str, table: &mut Table) -> Result<(), String> {
    let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let syntax = |error: Error| {
        let span = error.span().unwrap_or_default();
        let part = text.get(span.clone()).and_then(|part| part.lines().next()).unwrap_or_default();
        let part = if part.is_empty() { String::new() } else { format!(" \"{part}\"") };
        format!("{name}:{}: {}{part}", line(span.start), error.message())
    };
    let places = DeTable::parse(text).map_err(syntax)?.into_inner();
    let values: Table = toml::from_str(text).map_err(syntax)?;
    let mut mistakes = Vec::new();
    for (key, value) in values {
        let place = places.get_key_value(key.as_str()).map_or((0, 0..0), |(key, value)| {
            let span: std::ops::Range<usize> = value.span();
            (key.span().start, span)
        });
        let shown = text.get(place.1).and_then(|value| value.lines().next()).unwrap_or_default();
        let checked = match find_rule(&key) {
            Some(rule) => rule.check(value).map_err(|what| format!("{key} = {shown}: {what}")),
            None => {
                let guess = suggest(&key, RULES.iter().map(|(name, _)| *name));
                Err(format!("unknown key \"{key}\"{guess}"))
            }
        };
        match checked {
            Ok(value) => _ = table.insert(key, value),
            Err(what) => mistakes.push((line(place.0), what)),
        }
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

/// Parses the arguments after the program's name.
///
/// # Errors
/// The mistakes in them or in the file they name, one line each.
pub fn parse_arguments(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<LoadCommand, String> {
    let mut parser = Parser::from_args(arguments);
    let mut file: Option<PathBuf> = None;
    let mut flags: Vec<(String, Value)> = Vec::new();
    let mut seen = BTreeSet::new();
    let text = |value: OsString| value.string().map_err(|error| error.to_string());
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let (word, mut given) = match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(LoadCommand::Help),
            Arg::Short('p') | Arg::Long("print-config") => return Ok(LoadCommand::PrintConfig),
            Arg::Short('V') | Arg::Long("version") => return Ok(LoadCommand::Version),
            Arg::Short('c') => ("config".to_owned(), None),
            Arg::Short(letter) => return Err(format!("unknown flag \"-{letter}\"")),
            Arg::Long(word) => (word.to_owned(), None),
            Arg::Value(url) => ("url".to_owned(), Some(url)),
        };
        if !seen.insert(word.clone()) {
            return Err(format!("--{word} is given twice"));
        }
        let mut value = || match given.take() {
            Some(value) => Ok(value),
            None => parser.value().map_err(|error| error.to_string()),
        };
        let key = word.replace('-', "_");
        match find_rule(&key) {
            _ if word == "config" => file = Some(value()?.into()),
            Some(Switch) => flags.push((key, Value::Boolean(true))),
            Some(rule) if !word.contains('_') => {
                let value = rule.read_flag(&text(value()?)?);
                flags.push((key, value));
            }
            _ => {
                let keys = RULES.iter().map(|(name, _)| name.replace('_', "-"));
                let known: Vec<String> =
                    keys.chain(["config", "print-config", "help"].map(str::to_owned)).collect();
                let known = known.iter().map(String::as_str);
                let guess = suggest(&word, known).replace("mean \"", "mean \"--");
                return Err(format!("unknown flag \"--{word}\"{guess}"));
            }
        }
    }
    let mut table: Table = toml::from_str(LOAD_TOML).expect("load.toml is TOML");
    if let Some(path) = file {
        read_file(&path, &mut table)?;
    }
    for (key, value) in flags {
        let rule = find_rule(&key).expect("only keys are flags");
        let (flag, shown) = (key.replace('_', "-"), shown(&value));
        let value = rule.check(value).map_err(|what| format!("--{flag} {shown}: {what}"))?;
        table.insert(key, value);
    }
    let options = table.try_into().map_err(|error| error.to_string())?;
    Ok(LoadCommand::Run(Box::new(options)))
}

/// A value as on the command line.
fn shown(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// What `annulus-load -h` prints: of every key its first sentence in [`LOAD_TOML`].
pub fn help() -> String {
    let mut lines = vec![
        ("-c, --config FILE".to_owned(), "Read options from FILE; flags override them".to_owned()),
        ("-p, --print-config".to_owned(), "Print the default options with comments".to_owned()),
        ("-h, --help".to_owned(), "Print this".to_owned()),
        ("-V, --version".to_owned(), "Print the version".to_owned()),
    ];
    for (key, rule) in RULES {
        let flag = format!("    --{}{}", key.replace('_', "-"), rule.placeholder());
        let comment = comment_of(key);
        let end = comment.find([';', ':']).into_iter().chain(comment.find(". ")).min();
        let about = &comment[..end.unwrap_or(comment.len())];
        lines.push((flag, about.trim_end_matches('.').to_owned()));
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

/// The comment above a key of [`LOAD_TOML`], in one line.
fn comment_of(key: &str) -> String {
    let (above, _) = LOAD_TOML.split_once(&format!("\n{key} = ")).unwrap_or_default();
    let paragraph = above.rsplit("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = paragraph.lines().map(|line| line.trim_matches(['#', ' '])).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LoadOptions, String> {
        let mut table: Table = toml::from_str(LOAD_TOML).unwrap();
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
        assert_eq!(fields.len(), RULES.len());
        let help = help();
        for (key, rule) in RULES {
            assert!(fields.contains_key(*key), "{key}");
            let comment = comment_of(key);
            if !matches!(rule, File | Text(_)) {
                let allowed = format!("Allowed: {}.", rule.form());
                assert!(comment.ends_with(&allowed), "{key}: {allowed}\n{comment}");
            }
            let flag = format!("  --{}{}  ", key.replace('_', "-"), rule.placeholder());
            let line = help.lines().find(|line| line.contains(&flag)).unwrap_or_default();
            assert!(line.len() > 50 && line.len() <= 120, "{key}: {line}");
        }
        assert!(LOAD_TOML.lines().all(|line| line.len() <= 100));
    }

    #[test]
    fn files_and_flags_set_values() {
        let text = "rate = 1_000\narrivals = \"even\"\ninsecure = true\nzipf_exponent = 2\n";
        let options_of_file = read(text).unwrap();
        assert_eq!((options_of_file.rate, options_of_file.arrivals), (1000, Arrivals::Even));
        assert!(options_of_file.insecure && options_of_file.zipf_exponent == 2.0);
        assert_eq!(run(&[]), options(|_| {}));
        let url = "http://[::1]:7/announce";
        assert_eq!(run(&[url]), options(|it| it.url = url.to_owned()));
        let both = run(&["--rate=5", "--hashes-per-scrape", "7", "--insecure"]);
        assert_eq!(both, options(|it| (it.rate, it.hashes_per_scrape, it.insecure) = (5, 7, true)));
        assert_eq!(run(&["--engine", "io_uring"]), options(|it| it.engine = EngineChoice::IoUring));
        assert_eq!(run(&["-h", "--x"]), Ok(LoadCommand::Help));
        assert_eq!(run(&["--rate", "1", "-p"]), Ok(LoadCommand::PrintConfig));
        assert_eq!(run(&["-c", "/dev/null", "--seed", "4"]), options(|it| it.seed = 4));
    }

    #[test]
    fn mistakes_in_a_file_name_file_line_and_key() {
        for (text, what) in [
            ("\nrates = 1", "x:2: unknown key \"rates\"; did you mean \"rate\"?"),
            ("connections = 0", "x:1: connections = 0: must be 1 to 1_000_000 connections"),
            ("pipeline = \"4\"", "x:1: pipeline = \"4\": must be 1 to 64 requests"),
            ("seeders = 101", "x:1: seeders = 101: must be 0 to 100 percent"),
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
            ("url = \"ftp://x/\"", "x:1: url = \"ftp://x/\": must begin with http:// or https://"),
            (
                "sources = \"127.0.0.1/8\"",
                "x:1: sources = \"127.0.0.1/8\": there are bits set after the first 8: \
                 write \"127.0.0.0/8\"",
            ),
            ("[load]\nrate = 1", "x:1: unknown key \"load\""),
            ("rate = 1\nseed = 2\nrate = 3", "x:3: duplicate key \"rate\""),
            (
                "seed = -1\nrates = 2",
                "x:1: seed = -1: must be 0 to 9_223_372_036_854_775_807 as \
              the seed\nx:2: unknown key \"rates\"; did you mean \"rate\"?",
            ),
        ] {
            assert_eq!(read(text), Err(what.to_owned()));
        }
        assert!(read("seed = 1\nrate = \n").unwrap_err().starts_with("x:2: "));
    }

    #[test]
    fn mistakes_in_arguments_name_the_flag() {
        for (arguments, what) in [
            (
                &["--conections", "4"][..],
                "unknown flag \"--conections\"; did you mean \"--connections\"?",
            ),
            (
                &["--hashes_per_scrape", "4"],
                "unknown flag \"--hashes_per_scrape\"; did you mean \
              \"--hashes-per-scrape\"?",
            ),
            (&["-x"], "unknown flag \"-x\""),
            (&["--rate"], "missing argument for option '--rate'"),
            (&["--rate", "x"], "--rate x: must be 0 to 100_000_000 requests a second"),
            (&["--rate", "1", "--rate", "1"], "--rate is given twice"),
            (&["http://a/", "http://b/"], "--url is given twice"),
            (&["127.0.0.1:80"], "--url 127.0.0.1:80: must begin with http:// or https://"),
            (&["-c", "a", "-c", "b"], "--config is given twice"),
        ] {
            assert_eq!(run(arguments), Err(what.to_owned()), "{arguments:?}");
        }
    }
}

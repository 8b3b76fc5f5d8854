//! A configuration file as a TOML document: where its keys stand, and what is wrong with it.
//!
//! An error never ends the reading. The value it is about is noted and taken out of the document,
//! and the rest is read again, so that all errors of a file are found at once. Only an error of
//! the syntax stands alone: what follows it cannot be trusted.

use std::fmt;
use std::mem;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use crate::limits::CONFIG_ERRORS_MAX;
use crate::suggest::{did_you_mean, suggest};

/// What an entry of `tls.certificates` looks like.
const CERTIFICATE_FORM: &str = "{ chain = \"fullchain.pem\", key = \"privkey.pem\" }";

/// Keys whose values no message repeats: they may have passwords.
const SECRET_KEYS: [&str; 2] = ["cluster.server", "cluster.password"];

/// Characters of the file that a message repeats at most.
const SHOWN_CHARS_MAX: usize = 48;

/// What is wrong with a configuration, in the order of the file: at least one line, each of which
/// begins with the file's name, and the line's number where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.join("\n").fmt(f)
    }
}

impl std::error::Error for ConfigErrors {}

/// A key, with its table; the lowest and the highest value; and their unit, in the plural.
pub(super) struct NumericKey(
    pub(super) &'static str,
    pub(super) u64,
    pub(super) u64,
    pub(super) &'static str,
);

/// What does not hold between two keys whose values are each allowed.
pub(super) struct Constraint {
    /// The key that the message is about.
    pub(super) key: &'static str,
    /// The key whose value it contradicts.
    pub(super) because_of: &'static str,
    /// Completes "must be".
    pub(super) must_be: String,
}

pub(super) struct Document<'t> {
    /// Its name.
    file: &'t str,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    /// All keys and tables of the file, whatever is taken out of `root`.
    places: Vec<KeySpan>,
    /// The keys that had values which were taken out.
    refused: Vec<String>,
    /// With their lines.
    errors: Vec<(usize, String)>,
}

/// Where a key and its value stand, as bytes of the text.
struct KeySpan {
    /// With its table.
    name: String,
    key: Range<usize>,
    value: Range<usize>,
}

impl<'t> Document<'t> {
    /// `bounds` explain what should have stood where a number is broken.
    ///
    /// # Errors
    /// The syntax is wrong.
    pub(super) fn parse(
        text: &'t str,
        file: &'t str,
        bounds: &[NumericKey],
    ) -> Result<Document<'t>, ConfigErrors> {
        // Some editors begin a file with a byte order mark. TOML allows it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut places = Vec::new();
        list_places(root.get_ref(), "", &mut places);
        let document = Document { file, text, root, places, refused: vec![], errors: vec![] };
        match errors.first() {
            None => Ok(document),
            Some(error) => Err(ConfigErrors(vec![document.syntax_error(error, bounds)])),
        }
    }

    fn syntax_error(&self, error: &Error, bounds: &[NumericKey]) -> String {
        let span = error.span().unwrap_or_default();
        let before = self.text.get(..span.start).unwrap_or_default();
        let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
        let message = error.message().trim_end_matches(", expected nothing");
        let what = match self.places.iter().find(|place| place.value == span) {
            _ if message == "duplicate key" && before.trim_end().ends_with('[') => {
                format!("duplicate table [{}]", self.excerpt(&span))
            }
            _ if message == "duplicate key" => self.duplicate(&span),
            // `30s` is read as text without quotes. That it is no number helps more.
            Some(KeySpan { name, .. }) => {
                let bounds = bounds.iter().find(|NumericKey(key, ..)| key == name);
                let what = bounds.map_or(message.to_string(), NumericKey::form);
                match self.value_excerpt(name, &span) {
                    shown if shown.is_empty() => format!("{name} has no value: {what}"),
                    shown => format!("{name} = {shown}: {what}"),
                }
            }
            None => message.to_string(),
        };
        format!("{}:{}:{column}: {what}", self.file, self.line(span.start))
    }

    /// What to say of a key that stands at `span` and once before that.
    fn duplicate(&self, span: &Range<usize>) -> String {
        let name = self.excerpt(span);
        let name = name.trim_matches(['"', '\'']);
        let same = |place: &&KeySpan| {
            place.key.start < span.start && place.name.rsplit('.').next() == Some(name)
        };
        match self.places.iter().filter(same).max_by_key(|place| place.key.start) {
            Some(KeySpan { name, key, .. }) => {
                format!("duplicate key \"{name}\", first on line {}", self.line(key.start))
            }
            None => format!("duplicate key \"{name}\""),
        }
    }

    /// Refuses values that are tables in `known` and not here, and entries of `tls.certificates`
    /// that are not tables: serde would accept a list as a struct.
    pub(super) fn check_tables(&mut self, known: &Document<'_>) {
        for (name, value) in known.root.get_ref() {
            let name = name.get_ref().as_ref();
            match self.value(name).filter(|_| is_table(value)) {
                Some(given) if !is_table(given) => {
                    let what = format!("write [{name}] on a line and its keys below it");
                    self.refuse(name, given.span(), format!("\"{name}\" is a table: {what}"));
                }
                _ => {}
            }
        }
        let name = "tls.certificates";
        while let Some(value) = self.value(name) {
            let (wrong, form) = match value.get_ref() {
                DeValue::Array(entries) => match entries.iter().find(|entry| !is_table(entry)) {
                    Some(entry) => (entry, CERTIFICATE_FORM.to_string()),
                    None => break,
                },
                _ => (value, format!("a list like [{CERTIFICATE_FORM}]")),
            };
            let what = format!("{name} = {}: expected {form}", self.shown(wrong));
            self.refuse(name, wrong.span(), what);
        }
    }

    /// Refuses values that have to be numbers and are not, or are out of bounds.
    pub(super) fn check_bounds(&mut self, all: &[NumericKey]) {
        for bounds @ NumericKey(key, min, max, unit) in all {
            let Some(value) = self.value(key) else { continue };
            let what = match value.get_ref() {
                // Digits too many for 64 bits are out of bounds like any number too large.
                DeValue::Integer(digits) => {
                    let number = u64::from_str_radix(digits.as_str(), digits.radix());
                    if number.is_ok_and(|number| (*min..=*max).contains(&number)) {
                        continue;
                    }
                    format!("must be {} to {} {unit}", grouped(*min), grouped(*max))
                }
                _ => bounds.form(),
            };
            let what = format!("{key} = {}: {what}", self.shown(value));
            self.refuse(key, value.span(), what);
        }
    }

    /// Deserializes what is valid, and notes the rest as errors. `known` has every key.
    pub(super) fn deserialize<T: DeserializeOwned + Default>(&mut self, known: &Document<'_>) -> T {
        while self.errors.len() < CONFIG_ERRORS_MAX {
            let error = match T::deserialize(Deserializer::from(self.root.clone())) {
                Ok(config) => return config,
                Err(error) => error,
            };
            let (span, message) = (error.span().unwrap_or_default(), error.message());
            let Some((name, value)) = take(self.root.get_mut(), &span, "") else {
                self.errors.push((self.line(span.start), message.to_string()));
                break;
            };
            let what = match message.split_once(' ').map_or("", |(word, _)| word) {
                "unknown" => known.unknown(&name, is_table(&value), message),
                "missing" => format!("{name}: {}", plain(message)),
                _ if SECRET_KEYS.contains(&name.as_str()) => {
                    format!("{name} = ...: {}", plain(message))
                }
                _ => format!("{name} = {}: {}", self.shown(&value), plain(message)),
            };
            self.note(&name, &span, what);
        }
        T::default()
    }

    /// Notes a constraint that is broken, unless that follows from another error.
    pub(super) fn check(&mut self, broken: Constraint, defaults: &Document<'_>) {
        let Constraint { key, because_of, must_be } = broken;
        let [own, other] = [key, because_of].map(|key| self.place(key));
        let Some(at) = own.or(other).map(|place| place.key.clone()) else { return };
        let is_refused = |key| {
            let rest = |name: &String| name.strip_prefix(key).map(|rest| rest.chars().next());
            self.refused.iter().filter_map(rest).any(|next| next.is_none_or(|next| next == '.'))
        };
        if is_refused(key) || is_refused(because_of) {
            return;
        }
        let line = self.line(at.start);
        let described = |name, place: Option<&KeySpan>| match place {
            None => {
                let value = defaults.place(name).map(|place| defaults.excerpt(&place.value));
                format!("{name} = {} (the default)", value.unwrap_or_default())
            }
            Some(place) => {
                let value = self.value_excerpt(name, &place.value);
                let own = self.line(place.key.start);
                let elsewhere = format!(" (line {own})");
                format!("{name} = {value}{}", if own == line { "" } else { &elsewhere })
            }
        };
        let (one, two) = (described(key, own), described(because_of, other));
        self.errors.push((line, format!("{one}: must be {must_be}, because of {two}")));
    }

    /// # Errors
    /// There are errors in the document.
    pub(super) fn finish(mut self) -> Result<(), ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(());
        }
        self.errors.sort_by_key(|(line, _)| *line);
        let lines = self.errors.iter().take(CONFIG_ERRORS_MAX);
        let mut lines: Vec<String> =
            lines.map(|(line, what)| format!("{}:{line}: {what}", self.file)).collect();
        if self.errors.len() >= CONFIG_ERRORS_MAX {
            lines.push(format!("{}: more than can be listed", self.file));
        }
        Err(ConfigErrors(lines))
    }

    /// `FILE:LINE` of a key, to begin messages with; empty if the file does not have it.
    pub(super) fn location(&self, name: &str) -> String {
        self.place(name).map_or(String::new(), |place| self.location_of(place.key.start))
    }

    /// The same of the entries of a list.
    pub(super) fn entry_locations(&self, name: &str) -> Vec<String> {
        match self.value(name).map(Spanned::get_ref) {
            Some(DeValue::Array(entries)) => {
                entries.iter().map(|entry| self.location_of(entry.span().start)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn location_of(&self, at: usize) -> String {
        format!("{}:{}", self.file, self.line(at))
    }

    fn place(&self, name: &str) -> Option<&KeySpan> {
        self.places.iter().find(|place| place.name == name)
    }

    fn value(&self, name: &str) -> Option<&Spanned<DeValue<'t>>> {
        let root = self.root.get_ref();
        match name.split_once('.') {
            None => root.get(name),
            Some((table, key)) => match root.get(table)?.get_ref() {
                DeValue::Table(keys) => keys.get(key),
                _ => None,
            },
        }
    }

    fn refuse(&mut self, name: &str, span: Range<usize>, what: String) {
        take(self.root.get_mut(), &span, "");
        self.note(name, &span, what);
    }

    fn note(&mut self, name: &str, span: &Range<usize>, what: String) {
        self.errors.push((self.line(span.start), what));
        self.refused.push(name.to_string());
    }

    /// The message for the key `name`, which is not in this document of all keys. serde's
    /// `message` lists the keys of its table.
    fn unknown(&self, name: &str, is_table: bool, message: &str) -> String {
        let (table, key) = name.rsplit_once('.').unwrap_or(("", name));
        let is_known_table =
            |name: &str| matches!(self.value(name), Some(value) if self::is_table(value));
        let known = message.rsplit_once("`, expected").map_or("", |(_, known)| known);
        let known = known.split('`').skip(1).step_by(2);
        let known: Vec<&str> =
            known.filter(|name| !table.is_empty() || is_known_table(name) == is_table).collect();
        let full = |key: &str| if table.is_empty() { key.into() } else { format!("{table}.{key}") };
        let elsewhere = || {
            let same = |place: &&KeySpan| place.name.rsplit('.').next() == Some(key);
            self.places.iter().find(same).map(|place| place.name.clone())
        };
        let guess = suggest(key, known.iter().copied()).map(full);
        let hint = match guess.or_else(|| elsewhere().filter(|_| !is_table)) {
            Some(guess) if !table.is_empty() && !guess.contains('.') => {
                format!("; did you mean \"{guess}\"? It goes above the first [table]")
            }
            Some(guess) => did_you_mean(Some(&guess)),
            None if is_table && table.is_empty() => {
                format!("; the tables are {}", known.join(", "))
            }
            None => format!("; the keys here are {}", known.join(", ")),
        };
        let kind = if is_table && table.is_empty() { "table" } else { "key" };
        format!("unknown {kind} \"{}\"{hint}", printable(name))
    }

    /// A value of the document, in a message.
    fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        // The span of a table is that of its header, which reads like a list.
        if is_table(value) { "a table".to_string() } else { self.excerpt(&value.span()) }
    }

    /// The value of the key `name`, in a message.
    fn value_excerpt(&self, name: &str, span: &Range<usize>) -> String {
        match self.excerpt(span) {
            shown if shown.len() > 2 && SECRET_KEYS.contains(&name) => "...".to_string(),
            shown => shown,
        }
    }

    fn excerpt(&self, span: &Range<usize>) -> String {
        printable(self.text.get(span.clone()).unwrap_or_default())
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
    }
}

impl NumericKey {
    fn form(&self) -> String {
        let NumericKey(_, min, max, unit) = self;
        format!("expected a whole number of {unit}, {} to {}", grouped(*min), grouped(*max))
    }
}

fn is_table(value: &Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::Table(_))
}

/// Adds the places of all keys of `table`, whose own name `prefix` is, and of its tables.
fn list_places(table: &DeTable<'_>, prefix: &str, places: &mut Vec<KeySpan>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(keys) = value.get_ref() {
            list_places(keys, &format!("{name}."), places);
        }
        places.push(KeySpan { name, key: key.span(), value: value.span() });
    }
}

/// Takes out the key, the value or the entry of a list that stands at `span`. It returns the full
/// name and the value. Of a list it takes out the whole entry that has it.
fn take<'t>(
    table: &mut DeTable<'t>,
    span: &Range<usize>,
    prefix: &str,
) -> Option<(String, Spanned<DeValue<'t>>)> {
    let here = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
    if let Some(key) = here.map(|(key, _)| key.get_ref().to_string()) {
        return table.remove(key.as_str()).map(|value| (format!("{prefix}{key}"), value));
    }
    table.iter_mut().find_map(|(key, value)| {
        let name = format!("{prefix}{}", key.get_ref());
        let entries = match value.get_mut() {
            DeValue::Table(keys) => return take(keys, span, &format!("{name}.")),
            DeValue::Array(entries) => entries,
            _ => return None,
        };
        let (at, found) = entries.iter_mut().enumerate().find_map(|(at, entry)| {
            let found = match entry.get_mut() {
                DeValue::Table(keys) => take(keys, span, &format!("{name}.")),
                _ => None,
            };
            let own = || (entry.span() == *span).then(|| (name.clone(), entry.clone()));
            Some((at, found.or_else(own)?))
        })?;
        let all = mem::replace(entries, DeArray::new()).into_iter().enumerate();
        *entries = all.filter(|(index, _)| *index != at).map(|(_, entry)| entry).collect();
        Some(found)
    })
}

/// A message of serde, in the words of this file.
fn plain(message: &str) -> String {
    let message = match message.find("expected") {
        Some(at) if message.starts_with("invalid type") => &message[at..],
        _ => message,
    };
    let message = message.replace("missing field", "lacks").replace('`', "\"");
    message.replace("expected a boolean", "expected true or false")
}

/// In groups of three from a million on, with the underscores that TOML allows.
fn grouped(number: u64) -> String {
    let mut digits = number.to_string();
    if number >= 1_000_000 {
        (1..digits.len()).rev().skip(2).step_by(3).for_each(|at| digits.insert(at, '_'));
    }
    digits
}

/// A list on one line, or else the first line of `text`, shortened, without control characters.
/// Later lines may be those of a private key.
fn printable(text: &str) -> String {
    let listed = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_secret = text.contains("-----BEGIN");
    let text = if text.starts_with('[') && !is_secret { &listed } else { text };
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.trim_end().len() {
        shown += "...";
    }
    shown.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

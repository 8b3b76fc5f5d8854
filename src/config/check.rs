//! From the text of a file to a [`Config`], or to all that is wrong with it.
//!
//! One walk over the parsed tables against the tables of keys. A mistake never ends the
//! walk. What may only follow from another mistake is not reported: nothing is said of a
//! value on a line whose syntax is wrong, of relations between keys while any syntax is, or
//! of how a value that was refused relates to others.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::key::{Key, Kind, Relation, Table, Wrong, did_you_mean};
use super::tables::TOP;
use super::tls::{CERTIFICATE, CERTIFICATE_FORM, CertificateFiles};
use super::{Config, Mistakes, Privileges, TABLES};
use crate::limits::CONFIG_MISTAKES_MAX;
use crate::nearest::nearest;

/// Characters of the file that a message repeats at most.
const SHOWN_CHARS_MAX: usize = 48;

/// See [`Config::parse`].
pub(super) fn read(text: &str, file: &str) -> Result<Config, Mistakes> {
    // Editors of another system begin a file with it. TOML allows it; in columns it would
    // count.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (blanked, mut errors) = without_valueless_lines(text);
    let (root, others) = DeTable::parse_recoverable(&blanked);
    errors.extend(others);
    let config = Config::default();
    let mut reader = Reader { text, file, config, mistakes: vec![], seen: vec![], lists: vec![] };
    reader.walk_top(root.get_ref());
    if errors.is_empty() {
        TABLES.iter().flat_map(|table| table.relations).for_each(|rule| reader.relate(rule));
    }
    reader.add_syntax(&errors);
    if reader.mistakes.is_empty() {
        reader.note_places();
        return Ok(reader.config);
    }
    reader.mistakes.sort_by_key(|mistake| mistake.line);
    let line = |Mistake { line, column, what, .. }: &Mistake| match column {
        Some(column) => format!("{file}:{line}:{column}: {what}"),
        None => format!("{file}:{line}: {what}"),
    };
    let mut lines: Vec<String> =
        reader.mistakes.iter().map(line).take(CONFIG_MISTAKES_MAX).collect();
    if reader.mistakes.len() >= CONFIG_MISTAKES_MAX {
        lines.push(format!("{file}: more than can be listed"));
    }
    Err(Mistakes(lines))
}

/// `text` with spaces for every line that has a key and no `=`, and the errors of these
/// lines: at the first of them the parser, which recovers from all else, stops taking keys.
fn without_valueless_lines(text: &str) -> (Cow<'_, str>, Vec<Error>) {
    let (_, mut errors) = DeTable::parse_recoverable(text);
    errors.retain(|error| error.message().starts_with("key with no value"));
    let mut blanked = Cow::Borrowed(text);
    for error in errors.iter().take(CONFIG_MISTAKES_MAX) {
        let at = error.span().unwrap_or_default().start;
        let Some((before, after)) = text.split_at_checked(at) else { continue };
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = at + after.find('\n').unwrap_or(after.len());
        // As many bytes, so that what is found further on is where it is in the file.
        blanked.to_mut().replace_range(start..end, &" ".repeat(end - start));
    }
    (blanked, errors)
}

struct Reader<'t> {
    text: &'t str,
    /// Its name.
    file: &'t str,
    config: Config,
    mistakes: Vec<Mistake>,
    /// The known keys of the file, in no particular order.
    seen: Vec<Seen>,
    /// Where the lists of the file are.
    lists: Vec<Range<usize>>,
}

struct Mistake {
    line: usize,
    /// In characters; only for syntax.
    column: Option<usize>,
    /// The value it is about, as bytes of the file.
    value: Option<Range<usize>>,
    what: String,
}

struct Seen {
    /// With its table.
    name: String,
    /// Where the key stands, as bytes of the file.
    span: Range<usize>,
    /// The value was not taken.
    refused: bool,
}

impl Reader<'_> {
    fn walk_top(&mut self, root: &DeTable<'_>) {
        for (key, value) in root {
            let name = key.get_ref().as_ref();
            let table = TABLES.iter().find(|table| !table.name.is_empty() && table.name == name);
            match (table, value.get_ref()) {
                (Some(table), DeValue::Table(keys)) => {
                    for (key, value) in keys {
                        self.read_key(table, key.get_ref(), key.span(), value);
                    }
                }
                (Some(table), _) => {
                    let name = table.name;
                    let what = format!(
                        "\"{name}\" is a table: write [{name}] on a line and its keys below it"
                    );
                    self.mistake(key.span(), None, what);
                }
                (None, _) => self.read_key(&TOP, name, key.span(), value),
            }
        }
    }

    fn read_key(
        &mut self,
        table: &Table,
        name: &str,
        span: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) {
        if matches!(value.get_ref(), DeValue::Array(_)) {
            self.lists.push(value.span());
        }
        let Some(key) = table.keys.iter().find(|key| key.name == name) else {
            return self.mistake(span, Some(value.span()), unknown(table, name, value.get_ref()));
        };
        let name = table.full_name(key.name);
        let mistakes = self.mistakes.len();
        match (&key.kind, value.get_ref()) {
            (Kind::Certificates { at }, DeValue::Array(entries)) => {
                for entry in entries {
                    self.read_certificate(*at, entry);
                }
            }
            _ => self.read_value(key, &name, &span, value),
        }
        let refused = self.mistakes.len() > mistakes;
        self.seen.push(Seen { name, span, refused });
    }

    /// Reads `value` for the key `name`, which stands at `span`.
    fn read_value(
        &mut self,
        key: &Key,
        name: &str,
        span: &Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) {
        for Wrong { span: part, what } in key.kind.read(value, &mut self.config) {
            let line_at = if matches!(value.get_ref(), DeValue::Table(_)) { span } else { &part };
            let what = match self.shown(value, &part) {
                "" => format!("{name} has no value: {what}"),
                shown => format!("{name} = {}: {what}", printable(shown)),
            };
            self.mistake(line_at.clone(), Some(part), what);
        }
    }

    /// Adds `entry` to the list of certificates that is found by `list`.
    fn read_certificate(
        &mut self,
        list: fn(&mut Config) -> &mut Vec<CertificateFiles>,
        entry: &Spanned<DeValue<'_>>,
    ) {
        let Table { name, keys, .. } = CERTIFICATE;
        let DeValue::Table(given) = entry.get_ref() else {
            let shown = printable(self.shown(entry, &entry.span()));
            let what = format!("{name} = {shown}: expected {CERTIFICATE_FORM}");
            return self.mistake(entry.span(), Some(entry.span()), what);
        };
        let place = format!("{}:{}", self.file, self.line(entry.span().start));
        list(&mut self.config).push(CertificateFiles { place, ..CertificateFiles::default() });
        let mistakes = self.mistakes.len();
        for (key, value) in given {
            self.read_key(&CERTIFICATE, key.get_ref(), key.span(), value);
        }
        // A key that is mistyped is not missing as well.
        let missing = keys.iter().find(|key| !given.contains_key(key.name));
        if let Some(key) = missing.filter(|_| self.mistakes.len() == mistakes) {
            let what = format!("{name}: lacks \"{}\": expected {CERTIFICATE_FORM}", key.name);
            self.mistake(entry.span(), Some(entry.span()), what);
        }
    }

    /// Notes where the keys are that cannot be judged without a look at the machine.
    fn note_places(&mut self) {
        let place = |name| {
            let seen = self.seen_at(name)?;
            Some(format!("{}:{}", self.file, self.line(seen.span.start)))
        };
        let [list, user, group, chroot] =
            ["access.file", "privileges.user", "privileges.group", "privileges.chroot"].map(place);
        let Config { access, privileges, .. } = &mut self.config;
        let Privileges { places, .. } = privileges;
        for (place, is_empty, at) in [
            (list, access.file.as_os_str().is_empty(), &mut access.place),
            (user, privileges.user.is_empty(), &mut places.user),
            (group, privileges.group.is_empty(), &mut places.group),
            (chroot, privileges.chroot.as_os_str().is_empty(), &mut places.chroot),
        ] {
            if !is_empty {
                *at = place.unwrap_or_default();
            }
        }
    }

    /// The part of the file to show for `part` of `value`.
    fn shown(&self, value: &Spanned<DeValue<'_>>, part: &Range<usize>) -> &str {
        match value.get_ref() {
            // Its span is that of its header, which reads like a list.
            DeValue::Table(_) => "a table",
            _ => self.text.get(part.clone()).unwrap_or_default(),
        }
    }

    /// Reports `relation` if it is broken by values that were both taken.
    fn relate(&mut self, relation: &Relation) {
        let Some(must_be) = (relation.broken)(&self.config) else { return };
        let [first, second] = relation.keys.map(|name| self.seen_at(name));
        let Some(span) = first.or(second).map(|seen| seen.span.clone()) else { return };
        if [first, second].into_iter().flatten().any(|seen| seen.refused) {
            return;
        }
        let line = self.line(span.start);
        let [one, other] = relation.keys.map(|name| self.described(name, line));
        self.mistake(span, None, format!("{one}: must be {must_be}, because of {other}"));
    }

    fn seen_at(&self, name: &str) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.name == name)
    }

    /// `protocol.interval = 600 (line 3)`, in a message about `line`.
    fn described(&self, name: &str, line: usize) -> String {
        let mut config = self.config.clone();
        let value =
            keys().find(|(full, _)| full == name).map(|(_, key)| key.kind.value(&mut config));
        let value = printable(&value.unwrap_or_default());
        match self.seen_at(name).map(|seen| self.line(seen.span.start)) {
            Some(own) if own == line => format!("{name} = {value}"),
            Some(own) => format!("{name} = {value} (line {own})"),
            None => format!("{name} = {value} (the default)"),
        }
    }

    /// Adds the mistakes of syntax, one a line and one a list, and drops what follows from
    /// them.
    fn add_syntax(&mut self, errors: &[Error]) {
        let mut syntax: Vec<Mistake> = Vec::new();
        let mut broken_lists: Vec<Range<usize>> = Vec::new();
        for error in errors.iter().take(CONFIG_MISTAKES_MAX) {
            let span = error.span().unwrap_or_default();
            let line = self.line(span.start);
            // `interval = 30s` is read as text for which only quotes are missing. That it is
            // no number helps more.
            let explained = self.mistakes.iter().any(|known| known.value.as_ref() == Some(&span));
            // A list that is not closed makes an entry, and an error, of every line below.
            let follows = broken_lists.iter().any(|list| touches(list, span.start));
            if explained || follows || syntax.iter().any(|earlier| earlier.line == line) {
                continue;
            }
            let before = self.text.get(..span.start).unwrap_or_default();
            let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
            let mut what = match error.message() {
                "duplicate key" => self.duplicate(&span),
                message => message.trim_end_matches(", expected nothing").to_string(),
            };
            if let Some(list) = self.lists.iter().find(|list| touches(list, span.start)) {
                broken_lists.push(list.clone());
                what += &format!(" (in the list that begins on line {})", self.line(list.start));
            }
            syntax.push(Mistake { line, column: Some(column), value: None, what });
        }
        self.mistakes.retain(|Mistake { line, value, .. }| {
            let in_list = |list| value.as_ref().is_some_and(|value| touches(list, value.start));
            syntax.iter().all(|error| error.line != *line) && !broken_lists.iter().any(in_list)
        });
        self.mistakes.append(&mut syntax);
    }

    /// What to say of a key that stands at `span` and stood in the file before.
    fn duplicate(&self, span: &Range<usize>) -> String {
        let name = self.text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']);
        let before = self.text.get(..span.start).unwrap_or_default();
        if before.trim_end().ends_with('[') {
            return format!("duplicate table [{}]", printable(name));
        }
        let mut earlier = self.seen.iter().filter(|seen| {
            let last = seen.name.rsplit('.').next();
            last == Some(name) && seen.span.start < span.start
        });
        match (earlier.next(), earlier.next()) {
            (Some(seen), None) => {
                let line = self.line(seen.span.start);
                format!("duplicate key \"{}\", first on line {line}", seen.name)
            }
            // Which of several tables it is in cannot be told from the error.
            _ => format!("duplicate key \"{}\"", printable(name)),
        }
    }

    fn mistake(&mut self, at: Range<usize>, value: Option<Range<usize>>, what: String) {
        if self.mistakes.len() < CONFIG_MISTAKES_MAX {
            let line = self.line(at.start);
            self.mistakes.push(Mistake { line, column: None, value, what });
        }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
    }
}

/// Whether `at` is in `list` or right behind it, where the closing bracket is missed.
fn touches(list: &Range<usize>, at: usize) -> bool {
    (list.start..=list.end).contains(&at)
}

/// All keys with their full names.
fn keys() -> impl Iterator<Item = (String, &'static Key)> {
    TABLES.iter().flat_map(|table| table.keys.iter().map(|key| (table.full_name(key.name), key)))
}

/// What to say of the key `name` of `table`, which there is none of.
fn unknown(table: &Table, name: &str, value: &DeValue<'_>) -> String {
    let full = table.full_name(name);
    let tables = || TABLES.iter().map(|table| table.name).filter(|name| !name.is_empty());
    if matches!(value, DeValue::Table(_)) && table.name.is_empty() {
        let guess = nearest(name, tables());
        let known: Vec<&str> = tables().collect();
        let known = format!("; the tables are {}", known.join(", "));
        let hint = if guess.is_some() { did_you_mean(guess) } else { known };
        return format!("unknown table \"{}\"{hint}", printable(name));
    }
    // In its own table first; then the right name in a wrong place.
    let own = nearest(name, table.keys.iter().map(|key| key.name));
    let own = own.map(|own| table.full_name(own));
    let elsewhere = || keys().find(|(_, key)| key.name == name).map(|(full, _)| full);
    let hint = match own.or_else(elsewhere) {
        Some(guess) if !guess.contains('.') && full.contains('.') => {
            format!("; did you mean \"{guess}\"? It goes above the first [table]")
        }
        Some(guess) => did_you_mean(Some(&guess)),
        None => {
            let own: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
            format!("; the keys here are {}", own.join(", "))
        }
    };
    format!("unknown key \"{}\"{hint}", printable(&full))
}

/// `text` as part of one line: its first line, shortened, without control characters.
fn printable(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.trim_end().len() {
        shown += "...";
    }
    shown.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

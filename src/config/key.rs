//! What a key is: its name, its kind of value, and the words that explain it.
//!
//! A key reaches its field through one accessor, used to read a file into it and to print
//! its default, so that the two cannot mean different fields.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use annulus_ring::ListenAddress;
use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::public::PublicAddress;
use super::tls::{CERTIFICATE_FORM, CertificateFiles};
use super::{Config, Explained, Range as IpRange, listen, proxy, range};
use crate::limits::LOCATION_BYTES_MAX;
use crate::nearest::nearest;

/// Keys that stand together under a `[name]`.
pub(super) struct Table {
    /// Without brackets; empty for the keys above the first table.
    pub(super) name: &'static str,
    /// What its keys are about, in a sentence.
    pub(super) about: &'static str,
    pub(super) keys: &'static [Key],
    /// What must hold between keys whose values are each fine by themselves.
    pub(super) relations: &'static [Relation],
}

/// One key of a [`Table`].
pub(super) struct Key {
    /// Without its table.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What it means, in whole sentences.
    pub(super) about: &'static str,
    /// Why the default is what it is: what goes after "Default: ", full stop included.
    pub(super) reason: &'static str,
}

/// What the values of a key are, and where they go.
pub(super) enum Kind {
    Whole {
        at: fn(&mut Config) -> &mut dyn Number,
        bounds: Bounds,
    },
    Switch {
        at: fn(&mut Config) -> &mut bool,
    },
    Word {
        at: fn(&mut Config) -> &mut dyn Word,
    },
    /// Where a visitor is sent: an http or https URL, or empty.
    Url {
        at: fn(&mut Config) -> &mut String,
    },
    /// Where to listen by TCP.
    Addresses {
        at: fn(&mut Config) -> &mut Vec<SocketAddr>,
    },
    /// Where to listen, by TCP or a Unix socket.
    ListenAddresses {
        at: fn(&mut Config) -> &mut Vec<ListenAddress>,
    },
    Certificates {
        at: fn(&mut Config) -> &mut Vec<CertificateFiles>,
    },
    Path {
        at: fn(&mut Config) -> &mut PathBuf,
    },
    Ranges {
        at: fn(&mut Config) -> &mut Vec<IpRange>,
    },
    HeaderName {
        at: fn(&mut Config) -> &mut String,
    },
    /// An address of one family that anybody can reach, or none.
    PublicAddress {
        at: fn(&mut Config) -> &mut dyn PublicAddress,
    },
    /// Empty for none.
    PathOrNone {
        at: fn(&mut Config) -> &mut PathBuf,
    },
    /// A user or a group: a name, a number, or empty for none.
    Account {
        at: fn(&mut Config) -> &mut String,
    },
}

/// The values of a [`Kind::Whole`], both ends allowed.
pub(super) struct Bounds {
    pub(super) min: u64,
    pub(super) max: u64,
    /// In the plural.
    pub(super) unit: &'static str,
    /// Why there can be no more, where it is not plain; follows "as many as".
    pub(super) ceiling: Option<&'static str>,
}

/// A field that holds a whole number.
pub(super) trait Number {
    fn value(&self) -> u64;
    /// `value` is within the bounds of the key, which are within those of the type.
    fn set(&mut self, value: u64);
}

impl Number for u32 {
    fn value(&self) -> u64 {
        u64::from(*self)
    }
    fn set(&mut self, value: u64) {
        *self = u32::try_from(value).expect("the key's bounds are within the type's");
    }
}

impl Number for usize {
    fn value(&self) -> u64 {
        *self as u64
    }
    fn set(&mut self, value: u64) {
        *self = usize::try_from(value).expect("the key's bounds are within the type's");
    }
}

/// A field that holds one of a few named choices.
pub(crate) trait Word {
    /// The names of all choices.
    fn words(&self) -> &'static [&'static str];
    /// The present choice, as an index into [`Word::words`].
    fn index(&self) -> usize;
    fn set(&mut self, index: usize);
}

/// What must hold between two keys.
pub(super) struct Relation {
    /// Full names. The first is the one that the message is about.
    pub(super) keys: [&'static str; 2],
    /// What the first would have to be, if it is not: completes "must be ...".
    pub(super) broken: fn(&Config) -> Option<String>,
}

/// Something wrong with a value.
pub(super) struct Wrong {
    /// The bytes of the file that show it: the value or a part of it.
    pub(super) span: Range<usize>,
    pub(super) what: String,
}

impl Kind {
    /// Reads `value` into its field of `config`. The field keeps what it had if anything is
    /// wrong, which is when the list is not empty. A list of certificates has keys of its own
    /// and is not read here.
    pub(super) fn read(&self, value: &Spanned<DeValue<'_>>, config: &mut Config) -> Vec<Wrong> {
        let wrong = |what| vec![Wrong { span: value.span(), what }];
        match (self, value.get_ref()) {
            (Kind::Whole { at, bounds }, DeValue::Integer(digits)) => match bounds.read(digits) {
                Ok(number) => at(config).set(number),
                Err(what) => return wrong(what),
            },
            (Kind::Switch { at }, DeValue::Boolean(on)) => *at(config) = *on,
            (Kind::Word { at }, DeValue::String(word)) => {
                let field = at(config);
                let words = field.words();
                match words.iter().position(|known| known == word) {
                    Some(index) => field.set(index),
                    None => {
                        let guess = nearest(word, words.iter().copied());
                        return wrong(format!("must be {}{}", any_of(words), did_you_mean(guess)));
                    }
                }
            }
            (Kind::Addresses { at }, DeValue::Array(entries)) => {
                match listen::read(entries, value.span(), false) {
                    Ok(addresses) => {
                        *at(config) = addresses.iter().filter_map(ListenAddress::tcp).collect();
                    }
                    Err(wrong) => return wrong,
                }
            }
            (Kind::ListenAddresses { at }, DeValue::Array(entries)) => {
                match listen::read(entries, value.span(), true) {
                    Ok(addresses) => *at(config) = addresses,
                    Err(wrong) => return wrong,
                }
            }
            (Kind::Url { at }, DeValue::String(url)) if url.is_empty() || is_url(url) => {
                *at(config) = url.to_string();
            }
            (Kind::Path { at }, DeValue::String(path)) if is_path(path) => {
                *at(config) = PathBuf::from(path.as_ref());
            }
            (Kind::Ranges { at }, DeValue::Array(entries)) => match range::read(entries) {
                Ok(ranges) => *at(config) = ranges,
                Err(wrong) => return wrong,
            },
            (Kind::HeaderName { at }, DeValue::String(name)) => match proxy::header_name(name) {
                Ok(name) => *at(config) = name,
                Err(what) => return wrong(what),
            },
            (Kind::PublicAddress { at }, DeValue::String(text)) => {
                if let Err(what) = at(config).set(text) {
                    return wrong(what);
                }
            }
            (Kind::PathOrNone { at }, DeValue::String(path))
                if path.is_empty() || is_path(path) =>
            {
                *at(config) = PathBuf::from(path.as_ref());
            }
            (Kind::Account { at }, DeValue::String(name)) => *at(config) = name.to_string(),
            _ => return wrong(format!("expected {}", self.form(config))),
        }
        Vec::new()
    }

    /// What a value must look like, to follow "expected".
    fn form(&self, config: &mut Config) -> String {
        match self {
            Kind::Whole { bounds: Bounds { min, max, unit, .. }, .. } => {
                format!("a whole number of {unit}, {} to {}", grouped(*min), grouped(*max))
            }
            Kind::Switch { .. } => "true or false".to_string(),
            Kind::Word { at } => any_of(at(config).words()),
            Kind::Addresses { .. } | Kind::ListenAddresses { .. } => listen::FORM.to_string(),
            Kind::Certificates { .. } => format!("a list like [{CERTIFICATE_FORM}]"),
            Kind::Path { .. } => "the path of a file, in quotes".to_string(),
            Kind::Url { .. } => format!(
                "\"\", or a URL like \"https://example.org/\" of {LOCATION_BYTES_MAX} bytes at \
                 most"
            ),
            Kind::Ranges { .. } => range::FORM.to_string(),
            Kind::HeaderName { .. } => proxy::HEADER_FORM.to_string(),
            Kind::PublicAddress { at } => at(config).form().to_string(),
            Kind::PathOrNone { .. } => "the path of a file, in quotes, or \"\"".to_string(),
            Kind::Account { .. } => "a name or a number, in quotes, or \"\"".to_string(),
        }
    }

    /// The value of its field of `config`, in TOML.
    pub(super) fn value(&self, config: &mut Config) -> String {
        match self {
            Kind::Whole { at, .. } => grouped(at(config).value()),
            Kind::Switch { at } => at(config).to_string(),
            Kind::Word { at } => {
                let field = at(config);
                format!("\"{}\"", field.words()[field.index()])
            }
            Kind::Addresses { at } => quoted_list(at(config)),
            Kind::ListenAddresses { at } => quoted_list(at(config)),
            Kind::Certificates { at } => {
                let entry = |CertificateFiles { chain, key, .. }: &CertificateFiles| {
                    format!("{{ chain = {chain:?}, key = {key:?} }}")
                };
                let entries: Vec<String> = at(config).iter().map(entry).collect();
                format!("[{}]", entries.join(", "))
            }
            Kind::Path { at } | Kind::PathOrNone { at } => format!("{:?}", at(config)),
            Kind::Url { at } | Kind::Account { at } => format!("{:?}", at(config)),
            Kind::Ranges { at } => quoted_list(at(config)),
            Kind::HeaderName { at } => format!("\"{}\"", at(config)),
            Kind::PublicAddress { at } => format!("\"{}\"", at(config).text()),
        }
    }
}

/// `["one", "other"]`.
fn quoted_list<T: Display>(entries: &[T]) -> String {
    let entries: Vec<String> = entries.iter().map(|entry| format!("\"{entry}\"")).collect();
    format!("[{}]", entries.join(", "))
}

impl Bounds {
    /// The number, or what it must be. Digits too many for 64 bits are out of bounds like
    /// any other number that is too large.
    fn read(&self, digits: &DeInteger<'_>) -> Result<u64, String> {
        u64::from_str_radix(digits.as_str(), digits.radix())
            .ok()
            .filter(|number| (self.min..=self.max).contains(number))
            .ok_or_else(|| format!("must be {}", self.range()))
    }

    fn range(&self) -> String {
        let Bounds { min, max, unit, ceiling } = self;
        let (min, max) = (grouped(*min), grouped(*max));
        match ceiling {
            Some(ceiling) => format!("{min} to {max} {unit}, as many as {ceiling}"),
            None => format!("{min} to {max} {unit}"),
        }
    }
}

impl Table {
    /// The name of a key of this table as messages give it, with the table's.
    pub(super) fn full_name(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_string() } else { format!("{}.{key}", self.name) }
    }
}

impl Key {
    /// All that is to be said of it.
    pub(super) fn explained(&self, defaults: &mut Config) -> Explained {
        let allowed = match &self.kind {
            Kind::Whole { bounds, .. } => bounds.range(),
            kind => kind.form(defaults),
        };
        let Key { name, about, reason, .. } = self;
        Explained { name, about, allowed, default: self.kind.value(defaults), reason }
    }

    /// The lines that `annulus -p` prints.
    pub(super) fn printed(&self, defaults: &mut Config) -> String {
        let Explained { name, about, allowed, default, reason } = self.explained(defaults);
        let bounds = wrapped(&format!("Allowed: {allowed}. Default: {reason}"));
        format!("{}{bounds}{name} = {default}\n", wrapped(about))
    }
}

/// Whether `text` names a file, and is not what belongs into one: a key there would be shown
/// wherever its file is named.
fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control) && !text.starts_with("-----BEGIN")
}

/// Whether `text` may stand in a Location header.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty())
        && text.len() <= LOCATION_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `; did you mean "guess"?`, or nothing.
pub(crate) fn did_you_mean(guess: Option<&str>) -> String {
    guess.map_or(String::new(), |guess| format!("; did you mean \"{guess}\"?"))
}

/// `"a", "b" or "c"`.
pub(crate) fn any_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// In groups of three from a million on, with the underscores that TOML allows.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() < 7 {
        return digits;
    }
    let first = (digits.len() - 1) % 3 + 1;
    let (head, tail) = digits.split_at(first);
    tail.as_bytes().chunks(3).fold(head.to_string(), |mut text, group| {
        text.push('_');
        text.extend(group.iter().copied().map(char::from));
        text
    })
}

/// `text` as comment lines of at most 80 columns.
pub(crate) fn wrapped(text: &str) -> String {
    const COLUMNS: usize = 80;
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column == 0 || column + 1 + word.len() > COLUMNS {
            lines += if column == 0 { "#" } else { "\n#" };
            column = 1;
        }
        lines.push(' ');
        lines += word;
        column += 1 + word.len();
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_from_a_million_on() {
        for (number, text) in [
            (0, "0"),
            (999_999, "999999"),
            (1_000_000, "1_000_000"),
            (20_000_000, "20_000_000"),
            (u64::MAX, "18_446_744_073_709_551_615"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn comments_are_wrapped_at_80_columns() {
        let text = "word ".repeat(40);
        let lines = wrapped(&text);
        assert_eq!(lines.lines().map(str::len).max(), Some(76), "# and 15 words of 5");
        assert_eq!(lines.matches("word").count(), 40);
        assert!(lines.lines().all(|line| line.starts_with("# word")));
    }
}

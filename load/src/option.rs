//! What an option is: its name, its kind of value, and the words that explain it.
//!
//! One table makes the flags of the command line and the keys of the file: both give a value as
//! text, which is read here.

use super::options::Options;
use crate::text::nearest;
use crate::text::{Word, any_of, did_you_mean, grouped, wrapped};

/// One option.
pub struct Opt {
    /// As a key. As a flag it has dashes.
    pub name: &'static str,
    /// What its value is called in the help; a switch has none.
    pub value: &'static str,
    pub(super) kind: Kind,
    /// What it does, in less than a line.
    pub about: &'static str,
    /// What more there is to know, in whole sentences; follows `about`.
    pub(super) more: &'static str,
}

/// What the values of an option are, and where they go.
pub(super) enum Kind {
    Whole {
        at: fn(&mut Options) -> &mut u64,
        min: u64,
        max: u64,
        /// In the plural.
        unit: &'static str,
    },
    /// A number above 0.
    Real {
        at: fn(&mut Options) -> &mut f64,
        max: f64,
    },
    Switch {
        at: fn(&mut Options) -> &mut bool,
    },
    Word {
        at: fn(&mut Options) -> &mut dyn Word,
    },
    Text {
        at: fn(&mut Options) -> &mut String,
        /// What it must look like, to follow "expected".
        form: &'static str,
        /// Whether it does; or what is wrong with it.
        check: fn(&str) -> Result<(), String>,
    },
}

/// A value as text.
pub(super) enum Value {
    /// A number, or true or false.
    Bare(String),
    /// What is between quotes.
    Quoted(String),
}

/// How a value is written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    Number,
    Switch,
    Quoted,
}

impl Opt {
    /// The option as a flag, without its dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Whether it takes no value on the command line.
    pub fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Switch { .. })
    }

    /// Whether its value is the path of a file.
    pub fn is_file(&self) -> bool {
        self.value == "FILE"
    }

    /// All values that it can have, if they are words.
    pub fn words(&self) -> Option<&'static [&'static str]> {
        match self.kind {
            Kind::Word { at } => Some(at(&mut Options::default()).words()),
            _ => None,
        }
    }

    /// What it does, and what more there is to know, in whole sentences.
    pub fn explained(&self) -> String {
        let more = if self.more.is_empty() { String::new() } else { format!(" {}", self.more) };
        format!("{}.{more}", self.about)
    }

    /// How its value is written in a file.
    pub(super) fn notation(&self) -> Notation {
        match self.kind {
            Kind::Whole { .. } | Kind::Real { .. } => Notation::Number,
            Kind::Switch { .. } => Notation::Switch,
            Kind::Word { .. } | Kind::Text { .. } => Notation::Quoted,
        }
    }

    /// Reads a value into its field of `options`.
    ///
    /// # Errors
    /// What it must be. The field keeps what it had.
    pub fn read(&self, text: &str, options: &mut Options) -> Result<(), String> {
        let wrong = |options: &mut Options| format!("must be {}", self.form(options));
        match self.kind {
            Kind::Whole { at, min, max, .. } => {
                let number = text.replace('_', "").parse().ok();
                match number.filter(|number| (min..=max).contains(number)) {
                    Some(number) => *at(options) = number,
                    None => return Err(wrong(options)),
                }
            }
            Kind::Real { at, max } => {
                let number = text.parse().ok();
                match number.filter(|number| *number > 0.0 && *number <= max) {
                    Some(number) => *at(options) = number,
                    None => return Err(wrong(options)),
                }
            }
            Kind::Switch { at } => match text {
                "true" | "false" => *at(options) = text == "true",
                _ => return Err(wrong(options)),
            },
            Kind::Word { at } => {
                let field = at(options);
                let words = field.words();
                match words.iter().position(|word| *word == text) {
                    Some(index) => field.set(index),
                    None => {
                        let guess = did_you_mean(nearest(text, words.iter().copied()));
                        return Err(format!("must be {}{guess}", any_of(words)));
                    }
                }
            }
            Kind::Text { at, check, .. } => {
                check(text)?;
                *at(options) = text.to_owned();
            }
        }
        Ok(())
    }

    /// What a value must be.
    pub fn form(&self, options: &mut Options) -> String {
        match self.kind {
            Kind::Whole { min, max, unit, .. } => {
                format!("{} to {} {unit}", grouped(min), grouped(max))
            }
            Kind::Real { max, .. } => format!("a number above 0, at most {max}"),
            Kind::Switch { .. } => "true or false".to_owned(),
            Kind::Word { at } => any_of(at(options).words()),
            Kind::Text { form, .. } => form.to_owned(),
        }
    }

    /// What it is set to.
    pub(super) fn value(&self, options: &mut Options) -> Value {
        match self.kind {
            Kind::Whole { at, .. } => Value::Bare(at(options).to_string()),
            Kind::Real { at, .. } => Value::Bare(format!("{:?}", at(options))),
            Kind::Switch { at } => Value::Bare(at(options).to_string()),
            Kind::Word { at } => {
                let field = at(options);
                Value::Quoted(field.words()[field.index()].to_owned())
            }
            Kind::Text { at, .. } => Value::Quoted(at(options).clone()),
        }
    }

    /// The value that it has in `options`, as in a file.
    pub fn written(&self, options: &mut Options) -> String {
        match self.kind {
            Kind::Whole { at, .. } => grouped(*at(options)),
            Kind::Real { at, .. } => format!("{:?}", at(options)),
            Kind::Switch { at } => at(options).to_string(),
            Kind::Word { at } => {
                let field = at(options);
                format!("{:?}", field.words()[field.index()])
            }
            Kind::Text { at, .. } => format!("{:?}", at(options)),
        }
    }

    /// The lines that `annulus-load -p` prints.
    pub(super) fn printed(&self, defaults: &mut Options) -> String {
        let about = format!("{} Allowed: {}.", self.explained(), self.form(defaults));
        let value = self.written(defaults);
        format!("{}{} = {value}\n", wrapped(&about), self.name)
    }
}

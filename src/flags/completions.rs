//! What shells complete a command line with: the flags of the program.

use super::{FLAGS, Flag};

/// What follows a word.
enum Value {
    None,
    File(&'static str),
    OneOf(&'static str, &'static [&'static str]),
}

/// A word of the command line.
struct Entry {
    short: Option<char>,
    long: String,
    value: Value,
    about: &'static str,
}

/// Those of the program.
fn own() -> Vec<Entry> {
    let entry = |&Flag { short, long, value, choices, about, .. }: &Flag| {
        let value = match (value, choices) {
            (None, _) => Value::None,
            (Some(name), []) => Value::File(name),
            (Some(name), choices) => Value::OneOf(name, choices),
        };
        Entry { short, long: long.to_owned(), value, about }
    };
    FLAGS.iter().map(entry).collect()
}

impl Entry {
    /// `-c` and `--config`, those that there are.
    fn names(&self) -> impl Iterator<Item = String> {
        let short = self.short.map(|short| format!("-{short}"));
        short.into_iter().chain([format!("--{}", self.long)])
    }
}

/// For bash: to be installed as `annulus` where it looks for completions.
pub(super) fn bash() -> String {
    let own = bash_cases(&own());
    format!(
        "# Completions of annulus for bash.

_annulus() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    # Bash takes --flag=value for three words.
    [ \"$word\" != = ] || word=
    [ \"$before\" != = ] || before=${{COMP_WORDS[COMP_CWORD-2]}}
    local words
{own}    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")
}}

complete -o filenames -F _annulus annulus
"
    )
}

/// Completes the value of an entry, and returns; or leaves the names of all in
/// `words`.
fn bash_cases(entries: &[Entry]) -> String {
    let mut text = String::from("        case $before in\n");
    for entry in entries {
        let values = match entry.value {
            Value::None => continue,
            Value::File(_) => "mapfile -t COMPREPLY < <(compgen -f -- \"$word\")".to_owned(),
            Value::OneOf(_, choices) => format!(
                "mapfile -t COMPREPLY < <(compgen -W \"{}\" -- \"$word\")",
                choices.join(" ")
            ),
        };
        let names: Vec<String> = entry.names().collect();
        text += &format!(
            "            {})\n                {values}\n                \
             return\n                ;;\n",
            names.join(" | ")
        );
    }
    let names: Vec<String> = entries.iter().flat_map(Entry::names).collect();
    text + &format!("        esac\n        words=\"{}\"\n", names.join(" "))
}

/// For fish: to be installed as `annulus.fish` where it looks for completions.
pub(super) fn fish() -> String {
    let mut text = format!(
        "# Completions of annulus for fish.\n\n\
         complete -c annulus -f\n"
    );
    text += &fish_lines(&own());
    text
}

fn fish_lines(entries: &[Entry]) -> String {
    let line = |Entry { short, long, value, about }: &Entry| {
        let short = short.map_or(String::new(), |short| format!(" -s {short}"));
        let value = match value {
            Value::None => String::new(),
            Value::File(_) => " -r -F".to_owned(),
            Value::OneOf(_, choices) => format!(" -x -a {}", quoted(&choices.join(" "))),
        };
        let about = quoted(about);
        format!("complete -c annulus{short} -l {long}{value} -d {about}\n")
    };
    entries.iter().map(line).collect()
}

/// For zsh: to be installed as `_annulus` where it looks for functions.
pub(super) fn zsh() -> String {
    let own = zsh_specifications(&own());
    format!("#compdef annulus\n# Completions of annulus for zsh.\n\n_arguments -s{own}\n")
}

fn zsh_specifications(entries: &[Entry]) -> String {
    let specification = |entry: &Entry| {
        let Entry { short, long, value, about } = entry;
        // Brackets and colons have a meaning of their own in what follows.
        let about = about.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
        let value = match value {
            Value::None => String::new(),
            Value::File(name) => format!(":{name}:_files"),
            Value::OneOf(name, choices) => format!(":{name}:({})", choices.join(" ")),
        };
        let (plus, equals) = if value.is_empty() { ("", "") } else { ("+", "=") };
        let (others, names) = match short {
            Some(short) => (
                quoted(&format!("(-{short} --{long})")),
                format!("{{-{short}{plus},--{long}{equals}}}"),
            ),
            None => (String::new(), format!("--{long}{equals}")),
        };
        let rest = quoted(&format!("[{about}]{value}"));
        format!(" \\\n        {others}{names}{rest}")
    };
    entries.iter().map(specification).collect()
}

/// In single quotes, for any of the shells.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

//! What shells complete a command line with: the flags of the program and, behind `load`, those
//! and the options of that.

use super::{FLAGS, Flag, LOAD};
use crate::load;
use crate::load::option::Opt;

/// What follows a word.
enum Value {
    None,
    /// Whatever the user likes.
    Free(&'static str),
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

/// Those of `load`.
fn of_load() -> Vec<Entry> {
    let flag = |it: &load::flags::Flag| {
        let value = it.value.map_or(Value::None, Value::File);
        Entry { short: Some(it.short), long: it.long.to_owned(), value, about: it.about }
    };
    let option = |it: &Opt| {
        let value = match it.words() {
            _ if it.is_switch() => Value::None,
            Some(words) => Value::OneOf(it.value, words),
            None if it.is_file() => Value::File(it.value),
            None => Value::Free(it.value),
        };
        Entry { short: None, long: it.flag(), value, about: it.about }
    };
    let flags = load::flags::FLAGS.iter().map(flag);
    flags.chain(load::options::OPTIONS.iter().map(option)).collect()
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
    let (own, of_load) = (bash_cases(&own()), bash_cases(&of_load()));
    format!(
        "# Completions of annulus for bash.

_annulus() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    # Bash takes --flag=value for three words.
    [ \"$word\" != = ] || word=
    [ \"$before\" != = ] || before=${{COMP_WORDS[COMP_CWORD-2]}}
    local words
    if [ \"$COMP_CWORD\" -gt 1 ] && [ \"${{COMP_WORDS[1]}}\" = {LOAD} ]; then
{of_load}    else
{own}        [ \"$COMP_CWORD\" -gt 1 ] || words=\"{LOAD} $words\"
    fi
    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")
}}

complete -o filenames -F _annulus annulus
"
    )
}

/// Completes the value of an entry, if it is not free, and returns; or leaves the names of all in
/// `words`.
fn bash_cases(entries: &[Entry]) -> String {
    let mut text = String::from("        case $before in\n");
    let free = entries.iter().filter(|entry| matches!(entry.value, Value::Free(_)));
    let free: Vec<String> = free.flat_map(Entry::names).collect();
    if !free.is_empty() {
        let names = free.join(" | \\\n                ");
        text += &format!("            {names})\n                return\n                ;;\n");
    }
    for entry in entries {
        let values = match entry.value {
            Value::None | Value::Free(_) => continue,
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
         function __annulus_loads\n    \
             set -l words (commandline -opc)\n    \
             test (count $words) -gt 1; and test $words[2] = {LOAD}\n\
         end\n\n\
         complete -c annulus -f\n\
         complete -c annulus -n 'test (count (commandline -opc)) -eq 1' \
         -a {LOAD} -d {}\n",
        quoted(LOAD_ABOUT)
    );
    text += &fish_lines("not __annulus_loads", &own());
    text += &fish_lines("__annulus_loads", &of_load());
    text
}

fn fish_lines(condition: &str, entries: &[Entry]) -> String {
    let line = |Entry { short, long, value, about }: &Entry| {
        let short = short.map_or(String::new(), |short| format!(" -s {short}"));
        let value = match value {
            Value::None => String::new(),
            Value::Free(_) => " -x".to_owned(),
            Value::File(_) => " -r -F".to_owned(),
            Value::OneOf(_, choices) => format!(" -x -a {}", quoted(&choices.join(" "))),
        };
        let (condition, about) = (quoted(condition), quoted(about));
        format!("complete -c annulus -n {condition}{short} -l {long}{value} -d {about}\n")
    };
    entries.iter().map(line).collect()
}

/// For zsh: to be installed as `_annulus` where it looks for functions.
pub(super) fn zsh() -> String {
    let (own, of_load) = (zsh_specifications(&own()), zsh_specifications(&of_load()));
    let load = quoted(&format!("1: :(({LOAD}:{}))", LOAD_ABOUT.replace(' ', "\\ ")));
    format!(
        "#compdef annulus\n# Completions of annulus for zsh.\n\n\
         if (( CURRENT > 2 )) && [[ $words[2] == {LOAD} ]]; then\n    \
             shift words\n    \
             (( CURRENT-- ))\n    \
             _arguments -s{of_load} \\\n        '1:URL:_urls'\n\
         else\n    \
             _arguments -s{own} \\\n        {load}\n\
         fi\n"
    )
}

fn zsh_specifications(entries: &[Entry]) -> String {
    let specification = |entry: &Entry| {
        let Entry { short, long, value, about } = entry;
        // Brackets and colons have a meaning of their own in what follows.
        let about = about.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
        let value = match value {
            Value::None => String::new(),
            Value::Free(name) => format!(":{name}: "),
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

/// What is said of `load` beside other words.
const LOAD_ABOUT: &str = "Ask a tracker as many clients would";

/// In single quotes, for any of the shells.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

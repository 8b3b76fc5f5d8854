//! What shells complete a command line with.

use super::{FLAGS, Flag};

impl Flag {
    /// `-c` and `--config`, those that there are.
    fn names(&self) -> impl Iterator<Item = String> {
        let short = self.short.map(|short| format!("-{short}"));
        short.into_iter().chain([format!("--{}", self.long)])
    }
}

/// For bash: to be installed as `annulus` where it looks for completions.
pub(super) fn bash() -> String {
    let names: Vec<String> = FLAGS.iter().flat_map(Flag::names).collect();
    let mut text = String::from(
        "# Completions of annulus for bash.\n\n\
         _annulus() {\n    \
             local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n    \
             # Bash takes --flag=value for three words.\n    \
             [ \"$word\" != = ] || word=\n    \
             [ \"$before\" != = ] || before=${COMP_WORDS[COMP_CWORD-2]}\n    \
             case $before in\n",
    );
    for flag in FLAGS.iter().filter(|flag| flag.value.is_some()) {
        let names: Vec<String> = flag.names().collect();
        let values = match flag.choices {
            [] => "-f".to_owned(),
            choices => format!("-W \"{}\"", choices.join(" ")),
        };
        text += &format!("        {})\n", names.join(" | "));
        text += &format!("            mapfile -t COMPREPLY < <(compgen {values} -- \"$word\")\n");
        text += "            return\n            ;;\n";
    }
    text += "    esac\n";
    text += &format!("    local flags=\"{}\"\n", names.join(" "));
    text += "    mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\")\n}\n\n";
    text += "complete -o filenames -F _annulus annulus\n";
    text
}

/// For fish: to be installed as `annulus.fish` where it looks for completions.
pub(super) fn fish() -> String {
    let mut text = String::from("# Completions of annulus for fish.\n\ncomplete -c annulus -f\n");
    for flag in FLAGS {
        let short = flag.short.map_or(String::new(), |short| format!(" -s {short}"));
        let value = match (flag.value, flag.choices) {
            (None, _) => String::new(),
            (Some(_), []) => " -r -F".to_owned(),
            (Some(_), choices) => format!(" -x -a {}", quoted(&choices.join(" "))),
        };
        let about = quoted(flag.about);
        text += &format!("complete -c annulus{short} -l {}{value} -d {about}\n", flag.long);
    }
    text
}

/// For zsh: to be installed as `_annulus` where it looks for functions.
pub(super) fn zsh() -> String {
    let mut text = String::from("#compdef annulus\n# Completions of annulus for zsh.\n\n");
    text += "_arguments -s";
    for flag in FLAGS {
        // Brackets and colons have a meaning of their own in what follows.
        let about = flag.about.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
        let long = flag.long;
        let value = match (flag.value, flag.choices) {
            (None, _) => String::new(),
            (Some(value), []) => format!(":{value}:_files"),
            (Some(value), choices) => format!(":{value}:({})", choices.join(" ")),
        };
        let equals = if flag.value.is_some() { "=" } else { "" };
        let (others, names) = match flag.short {
            Some(short) => {
                let plus = if flag.value.is_some() { "+" } else { "" };
                (
                    quoted(&format!("(-{short} --{long})")),
                    format!("{{-{short}{plus},--{long}{equals}}}"),
                )
            }
            None => (String::new(), format!("--{long}{equals}")),
        };
        let rest = quoted(&format!("[{about}]{value}"));
        text += &format!(" \\\n    {others}{names}{rest}");
    }
    text + "\n"
}

/// In single quotes, for any of the shells.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

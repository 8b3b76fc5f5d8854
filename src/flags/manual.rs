//! The man pages annulus(1) and annulus.toml(5), in roff's man macros
//! (groff_man(7)).

use super::{FLAGS, Flag};
use crate::config;

/// The day on which what the pages say was last gone through.
const DATE: &str = "2026-11-26";

/// As long as lines of text may be, so that a page can be read as it is too.
const COLUMNS: usize = 80;

/// What annulus(1) says beside the flags.
const DESCRIPTION: &str = "\
Without flags it serves on port 3000 of all addresses.
.PP
SIGTERM and SIGINT stop it, after an answer to whoever has asked.
SIGHUP and SIGUSR1 have it read certificates and the access list again.
.PP
Sockets that systemd passes (systemd.socket(5)) are served in place of its own,
if their addresses are configured, and a service manager is told of the start,
of reloads and of the end (sd_notify(3)).
.PP
To test a tracker under load, see
.BR annulus\\-load (1).
";

const EXIT_STATUS: &str = "\
.TP
0
Done.
.TP
1
Wrong configuration, or failure.
.TP
2
Wrong command line.
";

const ENVIRONMENT: &str = "\
.TP
.BR LISTEN_PID , \" LISTEN_FDS\" , \" LISTEN_FDNAMES\"
The sockets that were passed.
.TP
.B NOTIFY_SOCKET
Where the service manager is told.
.TP
.B JOURNAL_STREAM
Whether the log goes to the journal, which adds the time.
";

/// What annulus.toml(5) says beside the keys.
const FILE: &str = "\
.B annulus\\~\\-c
.I FILE
reads its configuration from a file in TOML.
Every key may be left out.
Durations are whole seconds.
Relative paths begin at the directory of the file.
.B annulus\\~\\-p
prints a file with all defaults.
";

/// annulus(1).
pub(super) fn of_program() -> String {
    let mut page = title("annulus", 1);
    page += &section("Name", "annulus \\- an HTTP and HTTPS BitTorrent tracker\n");
    let flags: String = FLAGS.iter().map(synopsis).collect();
    page += &section("Synopsis", &format!(".SY annulus\n{flags}.YS\n"));
    let about = escaped(env!("CARGO_PKG_DESCRIPTION"));
    page += &section("Description", &format!("{}{DESCRIPTION}", lines(&format!("{about}."))));
    page += &section("Options", &FLAGS.iter().map(option).collect::<String>());
    page += &section("Exit status", EXIT_STATUS);
    page += &section("Environment", ENVIRONMENT);
    page + &section("See also", ".BR annulus\\-load (1),\n.BR annulus.toml (5)\n")
}

/// annulus.toml(5).
pub(super) fn of_configuration() -> String {
    let mut page = title("annulus.toml", 5);
    page += &section("Name", "annulus.toml \\- configuration of annulus, a BitTorrent tracker\n");
    page += &section("Description", FILE);
    for (table, about, keys) in config::explained() {
        let heading =
            if table.is_empty() { "Keys above all tables" } else { &format!("[{table}]") };
        let mut text = String::new();
        if !about.is_empty() {
            text += &lines(about);
        }
        for key in keys {
            let (name, value) = (escaped(key.name), escaped(&key.default));
            text += &format!(".TP\n.BR {name} \" = {}\"\n", value.replace('"', "\\(dq"));
            text += &lines(key.about);
            text += &lines(&format!("Allowed: {}.", key.allowed));
            text += &lines(&format!("Default: {}", key.reason));
        }
        page += &section(heading, &text);
    }
    page + &section("See also", ".BR annulus (1)\n")
}

fn title(name: &str, number: u8) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(".TH {} {number} {DATE} \"annulus {version}\"\n", escaped(&name.to_uppercase()))
}

fn section(heading: &str, text: &str) -> String {
    format!(".SH {heading}\n{text}")
}

/// `[-c FILE]`.
fn synopsis(flag: &Flag) -> String {
    let name = flag.short.map_or(format!("--{}", flag.long), |short| format!("-{short}"));
    match flag.value {
        Some(value) => format!(".OP {} {value}\n", escaped(&name)),
        None => format!(".OP {}\n", escaped(&name)),
    }
}

fn option(flag: &Flag) -> String {
    let heading = heading(flag.short, flag.long, flag.value.unwrap_or_default());
    heading + &lines(&format!("{}.", flag.about))
}

/// What stands above the text about a flag; `value` is empty if it takes none.
fn heading(short: Option<char>, long: &str, value: &str) -> String {
    let short = short.map_or(String::new(), |short| format!("\\fB\\-{short}\\fP, "));
    let value = if value.is_empty() { String::new() } else { format!(" \\fI{value}\\fP") };
    format!(".TP\n{short}\\fB\\-\\-{}\\fP{value}\n", escaped(long))
}

/// `text` in lines of its own, none of which is a control line, whatever it begins with.
fn lines(text: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in escaped(text).split(' ') {
        if column > 0 && column + 1 + word.len() <= COLUMNS {
            lines.push(' ');
            column += 1;
        } else if column > 0 {
            lines.push('\n');
            column = 0;
        }
        if column == 0 && word.starts_with(['.', '\'']) {
            lines += "\\&";
        }
        lines += word;
        column += word.len();
    }
    lines + "\n"
}

/// `text` with all that roff would take for something else.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga")
}

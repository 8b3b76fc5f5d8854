//! Mistakes in the command line and in files, help, and the files in `dist/`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The program with these arguments, separated by spaces.
fn annulus_load(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus-load"));
    command.args(arguments.split_whitespace());
    command
}

/// Asserts the exit status of wrong arguments, and a part of the message.
#[track_caller]
fn assert_refused(arguments: &str, status: i32, part: &str) {
    let Output { status: got, stdout, stderr } = annulus_load(arguments).output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert!(message.contains(part), "{arguments}: {message}");
    assert_eq!(got.code(), Some(status), "{arguments}: {message}");
    assert!(stdout.is_empty(), "{arguments}");
}

#[test]
fn wrong_usage_is_explained() {
    assert_refused("--conections 4", 2, "did you mean \"--connections\"?");
    assert_refused("ftp://x/", 2, "must begin with http://, https:// or udp://");
    assert_refused("-c /nonexistent", 2, "/nonexistent: cannot be read");
    assert_refused("--path-suffix ?key=1", 2, "must be ASCII text without spaces, ? and #");
    assert_refused("--rate 1e9", 2, "--rate 1e9: must be 0 to 100_000_000 requests a second");
    for (option, name) in [
        ("--requests-per-connection 1", "requests_per_connection"),
        ("--pipeline 2", "pipeline"),
        ("--insecure", "insecure"),
        ("--ca x", "ca"),
        ("--resume", "resume"),
        ("--engine epoll", "engine"),
    ] {
        let arguments = format!("udp://127.0.0.1:1 {option}");
        assert_refused(&arguments, 2, &format!("{name}: has no meaning for udp://"));
    }
    for (option, name) in [
        ("--loss-timeout 1", "loss_timeout"),
        ("--id-lifetime 1", "id_lifetime"),
        ("--sockets 1", "sockets"),
    ] {
        let message = format!("{name}: has no meaning for http:// and https://");
        assert_refused(&format!("http://127.0.0.1:1 {option}"), 2, &message);
    }
    assert_refused("udp://127.0.0.1", 2, "must have a port of 1 to 65535");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("load.toml");
    fs::write(&path, "rate = 5\nconections = 4\n").unwrap();
    let name = path.to_str().unwrap();
    let message = format!("{name}:2: unknown key \"conections\"; did you mean");
    assert_refused(&format!("-c {name}"), 2, &message);
}

#[test]
fn a_run_that_cannot_begin_says_why() {
    assert_refused("http://[::1]/ --sources 127.0.0.0/8", 1, "cannot be reached from");
    assert_refused("--torrents-file /nonexistent", 1, "/nonexistent: cannot be read");
    assert_refused("https://[::1]/ --ca /dev/null", 1, "no certificate that can be trusted");
    assert_refused("http://host.invalid/", 1, "host.invalid: has no address");
    assert_refused("udp://127.0.0.1:1 --sources 192.0.2.1", 1, "is not this machine's");
    assert_refused("--connections 1000000", 1, "need more descriptors than the limit");
    // This is checked first: otherwise it would send for a day.
    let day = "http://127.0.0.1:1/ --duration 86400 --json /nonexistent/report";
    assert_refused(day, 1, "/nonexistent/report: No such file or directory");
}

#[test]
fn the_help_the_man_page_and_the_completions_name_every_flag() {
    let printed = |flag| String::from_utf8(annulus_load(flag).output().unwrap().stdout).unwrap();
    assert!(printed("-p").contains("\nhashes_per_scrape = 1\n"));
    assert!(printed("-V").starts_with("annulus-load "));
    let help = printed("-h");
    let flags = help.lines().filter(|line| line.starts_with("  "));
    let flags = flags.filter_map(|line| line.split_once("--")?.1.split(' ').next());
    assert!(flags.clone().count() > 30, "{help}");
    for flag in flags {
        for (file, mark) in [
            ("annulus-load.1", format!("\\-\\-{}\\fP", flag.replace('-', "\\-"))),
            ("completions/annulus-load.bash", format!("--{flag} ")),
            ("completions/annulus-load.fish", format!(" -l {flag} ")),
            ("completions/_annulus-load", format!("--{flag}")),
        ] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist").join(file);
            let text = fs::read_to_string(path).unwrap().replace('"', " ");
            assert!(text.contains(&mark), "dist/{file} does not name --{flag}");
        }
    }
}

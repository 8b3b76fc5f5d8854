//! The command line.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

use annulus::config::DEFAULT_TOML;

fn annulus(args: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_annulus"));
    program.args(args);
    program
}

/// Asserts that `args` are refused with `what`, and with status 2.
fn misused(args: &[&str], what: &str) {
    let Output { status, stdout, stderr } = annulus(args).output().unwrap();
    let expected = format!("annulus: {what}\nannulus --help explains the flags\n");
    assert_eq!(String::from_utf8_lossy(&stderr), expected, "{args:?}");
    assert_eq!(status.code(), Some(2), "{args:?}");
    assert!(stdout.is_empty(), "{args:?}");
}

/// The output of `args`, which must succeed.
fn printed(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = annulus(args).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "", "{args:?}");
    assert_eq!(status.code(), Some(0), "{args:?}");
    String::from_utf8(stdout).unwrap()
}

#[test]
fn short_and_long_forms_do_the_same() {
    assert_eq!(printed(&["-p"]), DEFAULT_TOML);
    assert_eq!(printed(&["--print-config"]), DEFAULT_TOML);
    assert_eq!(printed(&["-V"]), format!("annulus {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(printed(&["--version"]), printed(&["-V"]));
    assert_eq!(printed(&["--help"]), printed(&["-h"]));
    for file in [&["-c", "/dev/null"][..], &["-c/dev/null"], &["--config=/dev/null"]] {
        assert_eq!(printed(&[file, &["--check-config"]].concat()), "/dev/null: ok\n");
    }
}

#[test]
fn help_explains_every_flag() {
    let help = printed(&["-h"]);
    let usage = help.lines().find_map(|line| line.strip_prefix("Usage: annulus ")).unwrap();
    assert_eq!(usage, "[-c FILE] [-p] [--check-config] [-h] [-V]");
    let explained: Vec<&str> = help.lines().filter(|line| line.starts_with("  ")).collect();
    let flags = [
        "-c, --config FILE ",
        "-p, --print-config ",
        "    --check-config ",
        "-h, --help ",
        "-V, --version ",
    ];
    assert_eq!(explained.len(), flags.len(), "{help}");
    for (line, flag) in explained.iter().zip(flags) {
        assert!(line.starts_with(&format!("  {flag} ")), "{line}");
    }
    assert!(help.lines().all(|line| line.len() <= 88), "{help}");
}

#[test]
fn the_first_of_help_and_version_decides() {
    assert_eq!(printed(&["-h", "-V", "--nonsense"]), printed(&["-h"]));
    assert_eq!(printed(&["-pV"]), printed(&["-V"]));
}

#[test]
fn unknown_flags_get_the_nearest_known_one() {
    misused(&["--confg", "x"], "unknown flag \"--confg\"; did you mean \"--config\"?");
    misused(
        &["--check_config"],
        "unknown flag \"--check_config\"; did you mean \"--check-config\"?",
    );
    misused(&["--print"], "unknown flag \"--print\"; did you mean \"--print-config\"?");
    misused(&["--banana"], "unknown flag \"--banana\"");
    misused(&["-v"], "unknown flag \"-v\"; did you mean \"-V\"?");
    misused(&["-P"], "unknown flag \"-P\"; did you mean \"-p\"?");
    misused(&["-x"], "unknown flag \"-x\"");
    misused(&["--", "x"], "unknown argument \"x\"");
}

#[test]
fn arguments_that_are_no_flags_are_refused() {
    misused(&["lod"], "unknown argument \"lod\"");
    misused(&["load", "URL"], "the load tester is a program of its own: annulus-load");
    misused(&["annulus.toml"], "unknown argument \"annulus.toml\"");
    misused(&["-p", ""], "unknown argument \"\"");
    let latin1 = annulus(&[]).arg(OsStr::from_bytes(b"caf\xe9")).output().unwrap();
    assert_eq!(latin1.status.code(), Some(2));
    let latin1 = annulus(&[]).arg(OsStr::from_bytes(b"--caf\xe9")).output().unwrap();
    assert_eq!(latin1.status.code(), Some(2));
}

#[test]
fn values_are_where_they_belong() {
    misused(&["-c"], "-c lacks its value");
    misused(&["--config"], "--config lacks its value");
    misused(&["--print-config=3"], "--print-config takes no value, but got \"3\"");
    misused(&["-c", "a", "--config", "b"], "--config is given twice");
    misused(&["-pp"], "--print-config is given twice");
    misused(&["-p", "-c", "a"], "--print-config does not go with --config");
    misused(&["--check-config", "-p"], "--print-config does not go with --check-config");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for args in [["-p"], ["-h"], ["-V"], ["--check-config"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let Output { status, stderr, .. } = annulus(&args).stdout(writer).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&stderr), "", "{args:?}");
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn output_that_is_lost_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let Output { status, stderr, .. } = annulus(&["-p"]).stdout(full).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&stderr),
        "annulus: standard output: No space left on device (os error 28)\n"
    );
    assert_eq!(status.code(), Some(1));
}

#[test]
fn nobody_reading_the_complaint_changes_nothing() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let status = annulus(&["-x"]).stderr(writer).stdout(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

//! What is said of a command line, or of a file, that makes no sense.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::run::load;

/// The status, and what is said of it.
#[track_caller]
fn refused(arguments: &[&str], status: i32, what: &str) {
    let Output { status: got, stdout, stderr } = load(arguments).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(said.contains(what), "{arguments:?}: {said}");
    assert_eq!(got.code(), Some(status), "{arguments:?}: {said}");
    assert!(stdout.is_empty(), "{arguments:?}");
}

#[test]
fn usage_is_explained() {
    refused(&["--conections", "4"], 2, "did you mean \"--connections\"?");
    refused(&["ftp://x/"], 2, "must begin with http:// or https://");
    refused(&["-c", "/nonexistent"], 2, "/nonexistent: cannot be read");
    refused(&["--path-suffix", "?key=1"], 2, "must be ASCII text without spaces, ? and #");
    refused(&["--rate", "1e9"], 2, "--rate 1e9: must be 0 to 100_000_000 requests a second");
}

#[test]
fn a_file_says_where_it_is_wrong() {
    let path = std::env::temp_dir().join(format!("annulus-load-{}.toml", std::process::id()));
    fs::write(&path, "rate = 5\nconections = 4\n").unwrap();
    let name = path.to_str().unwrap();
    refused(&["-c", name], 2, &format!("{name}:2: unknown key \"conections\"; did you mean"));
    fs::remove_file(path).unwrap();
}

#[test]
fn what_cannot_begin_says_why() {
    refused(&["http://[::1]/", "--sources", "127.0.0.0/8"], 1, "cannot be reached from");
    refused(&["--torrents-file", "/nonexistent"], 1, "/nonexistent: cannot be read");
    refused(&["https://[::1]/", "--ca", "/dev/null"], 1, "no certificate that can be trusted");
    refused(&["http://host.invalid/"], 1, "host.invalid: has no address");
    refused(&["--connections", "1000000"], 1, "need more descriptors than the limit");
    // Said before anything is asked: this would be asking for a day.
    let day = ["http://127.0.0.1:1/", "--duration", "86400"];
    let arguments = [&day[..], &["--json", "/nonexistent/report"]].concat();
    refused(&arguments, 1, "/nonexistent/report: No such file or directory");
}

#[test]
fn help_and_defaults_are_printed() {
    for (arguments, part) in [
        (["-h"], "Usage: annulus-load [-c FILE] [URL] [OPTIONS]"),
        (["--help"], "--hashes-per-scrape N "),
        (["-p"], "\nhashes_per_scrape = 1\n"),
        (["--print-config"], "url = \"http://127.0.0.1:3000/announce\"\n"),
    ] {
        let Output { status, stdout, .. } = load(&arguments).output().unwrap();
        let text = String::from_utf8(stdout).unwrap();
        assert!(status.success() && text.contains(part), "{arguments:?}: {text}");
    }
}

#[test]
fn the_man_page_and_the_completions_name_every_flag() {
    let help = String::from_utf8(load(&["-h"]).output().unwrap().stdout).unwrap();
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

//! Man pages and completions: they name every flag, and every key of the configuration.

use std::fs;
use std::process::Command;

use annulus::config::DEFAULT_TOML;

use super::{dist, printed};
use crate::support::requirements::{TempDir, can_run, missing_programs};

/// The long flags of the program with their values, and what `--help` says of them.
fn flags() -> Vec<(String, String)> {
    let help = printed(Command::new(env!("CARGO_BIN_EXE_annulus")).arg("--help"));
    let lines = help.lines().filter(|line| line.starts_with("  "));
    let flags: Vec<(String, String)> = lines
        .map(|line| {
            let (_, line) = line.split_once("--").unwrap();
            let (flag, about) = line.split_once("  ").unwrap();
            (flag.trim().to_owned(), about.trim().to_owned())
        })
        .collect();
    assert!(flags.len() >= 5, "{help}");
    flags
}

#[test]
fn man_pages_are_sound_and_whole() {
    if !can_run("manuals::man_pages_are_sound_and_whole", &missing_programs(&["mandoc"])) {
        return;
    }
    let [man, config] = ["annulus.1", "annulus.toml.5"].map(|name| {
        let page = dist(name);
        printed(Command::new("mandoc").args(["-T", "lint", "-W", "style"]).arg(&page));
        let text =
            printed(Command::new("mandoc").args(["-T", "ascii", "-O", "width=200"]).arg(&page));
        // Bold and underlined letters are printed twice.
        let mut plain = String::new();
        for character in text.chars() {
            match character {
                '\u{8}' => plain.truncate(plain.len() - 1),
                character => plain.push(character),
            }
        }
        plain
    });
    for (flag, about) in flags() {
        assert!(
            man.contains(&format!(
                "--{flag}
"
            )),
            "--{flag}
{man}"
        );
        assert!(
            man.contains(&format!("{about}.")),
            "{about}
{man}"
        );
    }
    // The lines of the file are the headings of the page.
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let known: Vec<String> = config.lines().map(words).collect();
    let keys = DEFAULT_TOML;
    let keys = keys.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    assert!(keys.clone().count() > 20);
    for key in keys {
        assert!(known.contains(&words(key)), "{key}\n{config}");
    }
    // And so are their bounds.
    let comments = DEFAULT_TOML.lines().filter_map(|line| line.strip_prefix("# "));
    let comments = comments.collect::<Vec<_>>().join(" ");
    let page = words(&config);
    for part in comments.split("Allowed: ").skip(1) {
        let (allowed, _) = part.split_once(" Default: ").unwrap();
        assert!(page.contains(&format!("Allowed: {allowed} Default: ")), "{allowed}\n{config}");
    }
}

#[test]
fn bash_completes() {
    let scratch = TempDir::new("bash");
    let file = dist("completions/annulus.bash");
    fs::write(scratch.path().join("tracker.toml"), "").unwrap();
    let complete = |words: &[&str]| {
        let script = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _annulus; \
                      printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        bash.current_dir(scratch.path()).args(["--norc", "-c", script, "bash"]).arg(&file);
        let printed = printed(bash.arg("annulus").args(words));
        printed.lines().map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(complete(&["--pr"]), ["--print-config"]);
    assert_eq!(complete(&["-p", "--ch"]), ["--check-config"]);
    assert_eq!(complete(&["-c", "track"]), ["tracker.toml"]);
    assert_eq!(complete(&["--config", "=", "track"]), ["tracker.toml"]);
    assert_eq!(complete(&["--"]).len(), flags().len());
}

#[test]
fn fish_completes() {
    if !can_run("manuals::fish_completes", &missing_programs(&["fish"])) {
        return;
    }
    let scratch = TempDir::new("fish");
    let file = dist("completions/annulus.fish");
    fs::write(scratch.path().join("tracker.toml"), "").unwrap();
    let complete = |line: &str| {
        let mut fish = Command::new("fish");
        fish.current_dir(scratch.path()).env("HOME", scratch.path()).arg("--no-config");
        let script = format!("source {}; complete -C '{line}'", file.display());
        let printed = printed(fish.args(["-c", &script]));
        let words = printed.lines().filter_map(|line| line.split('\t').next().map(str::to_owned));
        words.collect::<Vec<String>>()
    };
    assert_eq!(complete("annulus --pr"), ["--print-config"]);
    assert_eq!(complete("annulus -c track"), ["tracker.toml"]);
    assert_eq!(complete("annulus --").len(), flags().len());
}

#[test]
fn zsh_reads_its_function() {
    if !can_run("manuals::zsh_reads_its_function", &missing_programs(&["zsh"])) {
        return;
    }
    let file = dist("completions/_annulus");
    // What it hands to zsh's own completer: one specification a name.
    let specifications = |words: &str| {
        let script = "_arguments() { shift; print -rl -- $words[1] $@ }; \
                      words=(${=2} ''); CURRENT=$#words; source $1";
        printed(Command::new("zsh").args(["-f", "-c", script, "zsh"]).arg(&file).arg(words))
    };
    let explains = |specifications: &str, long: &str, about: &str| {
        let about = about.replace(':', "\\:");
        let mut lines = specifications.lines();
        let found = lines.any(|line| line.contains(&format!("--{long}")) && line.contains(&about));
        assert!(found, "{long}\n{specifications}");
    };
    let own = specifications("annulus -p");
    assert!(own.starts_with("annulus\n"), "{own}");
    for (flag, about) in flags() {
        let long = flag.split(' ').next().unwrap();
        explains(&own, long, &format!("[{about}]"));
    }
}

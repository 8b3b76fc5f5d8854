//! Man pages and completions: they name every flag, and every key of the configuration.

use std::fs;
use std::process::Command;

use annulus::config::DEFAULT_TOML;
use annulus::flags::FLAGS;

use super::{dist, printed};
use crate::support::requirements::{TempDir, can_run, missing_programs};

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
    for flag in FLAGS {
        let value = flag.value.map_or(String::new(), |value| format!(" {value}"));
        assert!(man.contains(&format!("--{}{value}\n", flag.long)), "--{}\n{man}", flag.long);
        assert!(man.contains(flag.about), "{}\n{man}", flag.about);
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
    assert_eq!(complete(&["--"]).len(), FLAGS.len());
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
    assert_eq!(complete("annulus --").len(), FLAGS.len());
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
    for flag in FLAGS {
        explains(&own, flag.long, &format!("[{}]", flag.about));
    }
}

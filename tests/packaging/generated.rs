//! Man pages and completions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use annulus::config::print_default;
use annulus::flags::FLAGS;

use super::{dist, printed};
use crate::support::requirements::{TempDir, can_run, missing_programs};

/// Has the program generate this into a file of the directory.
fn generate(kind: &str, directory: &Path) -> PathBuf {
    let text = printed(Command::new(env!("CARGO_BIN_EXE_annulus")).args(["--generate", kind]));
    let file = directory.join(kind);
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn what_lies_in_dist_is_what_the_program_generates() {
    for (kind, file) in [
        ("man", "annulus.1"),
        ("man-config", "annulus.toml.5"),
        ("bash", "completions/annulus.bash"),
        ("fish", "completions/annulus.fish"),
        ("zsh", "completions/_annulus"),
    ] {
        let text = printed(Command::new(env!("CARGO_BIN_EXE_annulus")).args(["--generate", kind]));
        let committed = fs::read_to_string(dist(file)).unwrap();
        assert!(committed == text, "dist/{file} is out of date: run dist/generate");
    }
}

#[test]
fn man_pages_are_sound_and_whole() {
    if !can_run("generated::man_pages_are_sound_and_whole", &missing_programs(&["mandoc"])) {
        return;
    }
    let scratch = TempDir::new("man");
    let [man, config] = ["man", "man-config"].map(|kind| {
        let page = generate(kind, scratch.path());
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
    let keys = print_default();
    let keys = keys.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    assert!(keys.clone().count() > 20);
    for key in keys {
        assert!(known.contains(&words(key)), "{key}\n{config}");
    }
}

#[test]
fn bash_completes() {
    let scratch = TempDir::new("bash");
    let file = generate("bash", scratch.path());
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
    assert_eq!(complete(&["--generate", "man-"]), ["man-config"]);
    assert_eq!(complete(&["--generate", "=", "z"]), ["zsh"]);
    assert_eq!(complete(&["--generate", "="]).len(), 5);
    assert_eq!(complete(&["-c", "track"]), ["tracker.toml"]);
    assert_eq!(complete(&["--config", "=", "track"]), ["tracker.toml"]);
    assert_eq!(complete(&["--"]).len(), FLAGS.len());
}

#[test]
fn fish_completes() {
    if !can_run("generated::fish_completes", &missing_programs(&["fish"])) {
        return;
    }
    let scratch = TempDir::new("fish");
    let file = generate("fish", scratch.path());
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
    assert_eq!(complete("annulus --generate b"), ["bash"]);
    assert_eq!(complete("annulus -c track"), ["tracker.toml"]);
    assert_eq!(complete("annulus --").len(), FLAGS.len());
}

#[test]
fn zsh_reads_its_function() {
    if !can_run("generated::zsh_reads_its_function", &missing_programs(&["zsh"])) {
        return;
    }
    let scratch = TempDir::new("zsh");
    let file = generate("zsh", scratch.path());
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

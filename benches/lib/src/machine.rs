//! Where and when: without it a figure means nothing.

use std::fs;
use std::process::Command;

use crate::repository;
use crate::servers::{ServerKind, installed};

/// The machine, the date, the commit and the versions of what is installed, by name.
pub fn facts() -> Vec<(String, String)> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown CPU", |(_, model)| model.trim());
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let root = repository("").to_string_lossy().into_owned();
    let mut facts = vec![
        ("machine", format!("{model}, {count} CPUs")),
        ("kernel", format!("Linux {}", kernel.trim())),
        ("date", first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("commit", first_line("git", &["-C", &root, "describe", "--always", "--dirty"])),
        ("rustc", first_line("rustc", &["-V"])),
    ];
    for (server, option) in [
        (ServerKind::Annulus, "-V"),
        (ServerKind::Reference, "-V"),
        (ServerKind::Nginx, "-v"),
        (ServerKind::Aquatic, "-v"),
        (ServerKind::AquaticUdp, "-v"),
    ] {
        if let Some(program) = server.program() {
            facts.push((server.name(), first_line(&program.to_string_lossy(), &[option])));
        }
    }
    if installed("opentracker").is_some() {
        let version = first_line("dpkg-query", &["-W", "-f", "${Version}", "opentracker"]);
        facts.push(("opentracker", format!("{version} (Debian)")));
    }
    for (program, option) in [("hitch", "--version"), ("openssl", "version")] {
        if installed(program).is_some() {
            facts.push((program, first_line(program, &[option])));
        }
    }
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect()
}

/// The first line that a program prints, on whichever stream; `unknown` if there is none.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let printed = Command::new(program).args(arguments).output().map(|output| {
        let mut bytes = output.stdout;
        // What a failing program prints on stderr is no version.
        if output.status.success() {
            bytes.extend(output.stderr);
        }
        String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().trim().to_owned()
    });
    printed.ok().filter(|line| !line.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

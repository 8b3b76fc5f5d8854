//! Where and when: what a figure means nothing without.

use std::fs;
use std::process::Command;

use crate::servers::{Server, installed};

/// Prints the machine, the versions, the date and the commit, one line each.
pub(crate) fn print() {
    for (name, fact) in facts() {
        println!("- {name}: {fact}");
    }
    let wrk = first_line("wrk", &["-v"]);
    println!("- wrk: {}", wrk.split("Copyright").next().unwrap_or_default().trim());
}

/// The machine, the date, the commit and the versions of what is installed, by name.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown CPU", |(_, model)| model.trim());
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit = ["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"];
    let mut facts = vec![
        ("machine", format!("{model}, {count} CPUs")),
        ("kernel", format!("Linux {}", kernel.trim())),
        ("date", first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("commit", first_line("git", &commit)),
        ("annulus", first_line(env!("CARGO_BIN_EXE_annulus"), &["-V"])),
        ("rustc", first_line("rustc", &["-V"])),
    ];
    if let Some(nginx) = Server::Nginx.executable() {
        facts.push(("nginx", first_line(&nginx.to_string_lossy(), &["-v"])));
    }
    if installed("opentracker").is_some() {
        let version = first_line("dpkg-query", &["-W", "-f", "${Version}", "opentracker"]);
        facts.push(("opentracker", format!("{version} (Debian)")));
    }
    if let Some(hitch) = installed("hitch") {
        facts.push(("hitch", first_line(&hitch.to_string_lossy(), &["--version"])));
    }
    if let Some(aquatic) = Server::Aquatic.executable() {
        facts.push(("aquatic_http", first_line(&aquatic.to_string_lossy(), &["-v"])));
    }
    facts.push(("openssl", first_line("openssl", &["version"])));
    facts
}

/// The first line that a program prints, on whichever stream; `unknown` if there is none.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let printed = Command::new(program).args(arguments).output().map(|output| {
        let mut bytes = output.stdout;
        // What a failing program has to say is no answer.
        if output.status.success() || bytes.starts_with(b"wrk") {
            bytes.extend(output.stderr);
        }
        String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().trim().to_owned()
    });
    printed.ok().filter(|line| !line.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

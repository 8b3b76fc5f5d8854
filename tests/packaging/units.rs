//! The units, checked by systemd's own tools. That the service can run under its system call filter
//! is tested in a container with the same filter.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::process::Command;

use super::container::serves_with;
use super::{dist, printed};
use crate::support::redis::REDIS;
use crate::support::requirements::{TempDir, can_run, missing_programs};

const UNITS: [&str; 3] = ["annulus.service", "annulus.socket", "annulus-udp.socket"];

/// In tenths; systemd calls a service well protected below 2.0.
const EXPOSURE_MAX: &str = "15";

/// A directory with the units, which run this program.
fn units() -> TempDir {
    let scratch = TempDir::new("units");
    for name in UNITS {
        let unit = fs::read_to_string(dist(name)).unwrap();
        let unit = unit.replace("/usr/bin/annulus", env!("CARGO_BIN_EXE_annulus"));
        fs::write(scratch.path().join(name), unit).unwrap();
    }
    scratch
}

#[test]
fn systemd_accepts_the_units_and_rates_them_hardened() {
    let test = "units::systemd_accepts_the_units_and_rates_them_hardened";
    if !can_run(test, &missing_programs(&["systemd-analyze"])) {
        return;
    }
    let scratch = units();
    let paths = UNITS.map(|it| scratch.path().join(it));
    let mut verify = Command::new("systemd-analyze");
    // The manual pages are not installed here.
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).args(&paths);
    // An unknown key is a warning only.
    assert_eq!(printed(&mut verify), "");

    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--threshold", EXPOSURE_MAX]).arg(&paths[0]);
    printed(&mut security);
}

#[test]
fn the_sockets_are_those_of_the_default_configuration() {
    let config = annulus::config::Config::default();
    assert_eq!(config.udp.listen, annulus::config::UdpListen::Same);
    let configured: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    for (name, key) in
        [("annulus.socket", "ListenStream="), ("annulus-udp.socket", "ListenDatagram=")]
    {
        let unit = fs::read_to_string(dist(name)).unwrap();
        let addresses: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix(key)).collect();
        assert_eq!(addresses, configured, "{name}");
        assert!(unit.contains("\nBindIPv6Only=ipv6-only\n"), "{name}");
    }
}

#[test]
fn the_queues_of_datagrams_are_as_long_as_the_tracker_asks() {
    let unit = fs::read_to_string(dist("annulus-udp.socket")).unwrap();
    let mebibytes = annulus_ring::DATAGRAM_QUEUE_BYTES / 1024 / 1024;
    assert!(unit.contains(&format!("\nReceiveBuffer={mebibytes}M\n")), "{unit}");
}

/// The system calls of a set, as `systemd-analyze syscall-filter` lists them all.
fn calls(sets: &HashMap<&str, Vec<&str>>, name: &str) -> BTreeSet<String> {
    match sets.get(name) {
        None => BTreeSet::from([name.to_owned()]),
        Some(members) => members.iter().flat_map(|member| calls(sets, member)).collect(),
    }
}

/// The system calls that the unit's SystemCallFilter= lines allow, as a profile in Docker's format.
fn profile() -> String {
    let listed = printed(Command::new("systemd-analyze").args(["--no-pager", "syscall-filter"]));
    let mut sets: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut set = "";
    for line in listed.lines().filter(|line| !line.trim_start().starts_with('#')) {
        match line.strip_prefix("    ") {
            Some(member) => sets.entry(set).or_default().push(member),
            None => set = line,
        }
    }
    let unit = fs::read_to_string(dist("annulus.service")).unwrap();
    let mut allowed = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (denies, names) = filter.strip_prefix('~').map_or((false, filter), |it| (true, it));
        for call in names.split(' ').flat_map(|name| calls(&sets, name)) {
            match denies {
                true => allowed.remove(&call),
                false => allowed.insert(call),
            };
        }
    }
    assert!(allowed.contains("io_uring_setup") && !allowed.contains("chown"), "{allowed:?}");
    // For datagrams, which epoll receives and sends so.
    assert!(allowed.contains("recvmmsg") && allowed.contains("sendmmsg"), "{allowed:?}");
    // For the last write of the swarms, at a stop.
    assert!(allowed.contains("pipe2"), "{allowed:?}");
    let names: Vec<String> = allowed.iter().map(|call| format!("\"{call}\"")).collect();
    format!(
        "{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 1, \"syscalls\": \
         [{{\"names\": [{}], \"action\": \"SCMP_ACT_ALLOW\"}}]}}",
        names.join(", ")
    )
}

#[test]
fn the_system_call_filter_allows_what_the_service_needs() {
    let test = "units::the_system_call_filter_allows_what_the_service_needs";
    let programs = ["systemd-analyze", "runc", "setpriv", "python3", REDIS];
    if !can_run(test, &missing_programs(&programs)) {
        return;
    }
    let scratch = TempDir::new("unit-filter");
    let file = scratch.path().join("filter.json");
    fs::write(&file, profile()).unwrap();
    serves_with("engine io_uring, ", &file);
}

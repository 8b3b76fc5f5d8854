//! Boots Debian's kernels and runs the tracker on them with its defaults. 5.10 (Debian 11) lacks
//! what the io_uring engine needs, so the tracker must use epoll; 6.1 (Debian 12) and 6.12 have it,
//! and a sysctl of 6.12 can forbid it. Each has a different version of Landlock, 5.10 none, and on
//! each the tracker can run as another user.
//!
//! The guest is emulated in software, so no virtualisation is needed. It holds the static program,
//! a static busybox, and a static bash, which can send UDP.

use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use crate::support::cpio::Archive;
use crate::support::guest::{Guest, console_lines, missing_for_guest};
use crate::support::requirements::{TempDir, can_run, print_uncaptured};

const BUSYBOX: &str = "/bin/busybox";
const BASH: &str = "/bin/bash-static";

#[test]
fn linux_5_10_serves_by_epoll() {
    let Some(report) = GuestReport::of("vmlinuz-5.10") else { return };
    report.check_kernel("5.10.");
    report.check_engine("default", "epoll");
    report.check_reason("default", &["kernel", "5.19"]);
    report.check_landlock("no Landlock: the kernel has none");
    report.check_service("default");
    report.check_dropped();
    report.check_end();
}

#[test]
fn linux_6_1_serves_by_io_uring() {
    let Some(report) = GuestReport::of("vmlinuz-6.1") else { return };
    report.check_kernel("6.1.");
    report.check_landlock("Landlock ABI 2: files");
    report.check_engine("default", "io_uring");
    report.check_service("default");
    report.check_dropped();
    report.check_end();
}

#[test]
fn linux_6_12_serves_by_io_uring_until_the_sysctl_forbids_it() {
    let Some(report) = GuestReport::of("vmlinuz-6.12") else { return };
    report.check_kernel("6.12.");
    report.check_landlock("Landlock ABI 6: files, network, abstract sockets, signals");
    report.check_engine("default", "io_uring");
    report.check_service("default");
    report.check_dropped();
    report.check_engine("disabled", "epoll");
    report.check_reason("disabled", &["io_uring_disabled"]);
    report.check_service("disabled");
    report.check_end();
}

/// Everything the guest wrote to its console.
struct GuestReport {
    console: String,
}

impl GuestReport {
    /// Boots `kernel`; `None` if the test is to be skipped.
    fn of(kernel: &str) -> Option<GuestReport> {
        let mut missing = missing_for_guest(&[kernel]);
        for (program, package) in [(BUSYBOX, "busybox-static"), (BASH, "bash-static")] {
            if !Path::new(program).is_file() {
                missing.push(format!("{program} (package {package})"));
            }
        }
        if !can_run(&format!("the boot of {kernel}"), &missing) {
            return None;
        }
        let scratch = TempDir::new(kernel);
        let archive = scratch.path().join("initramfs");
        fs::write(&archive, initramfs()).expect("the guest's files");
        // The program is there twice while the archive is unpacked.
        let guest = Guest {
            kernel,
            processors: 1,
            memory_mb: 512,
            arguments: "",
            limit: Duration::from_secs(180),
        };
        Some(GuestReport { console: guest.boot(&archive) })
    }

    /// The rest of the lines with `@tag `.
    fn lines(&self, tag: &str) -> Vec<&str> {
        console_lines(&self.console, tag)
    }

    fn check_kernel(&self, release: &str) {
        let found = self.lines("kernel").first().copied().unwrap_or_default();
        assert!(found.starts_with(release), "booted {found:?}\n{}", self.console);
    }

    /// The log line of `run` that names the engine.
    fn engine(&self, run: &str) -> &str {
        let log = self.lines(&format!("log {run}"));
        let line = log.into_iter().find(|line| line.contains("engine "));
        line.unwrap_or_else(|| panic!("no engine named in {run}\n{}", self.console))
    }

    fn check_engine(&self, run: &str, engine: &str) {
        let line = self.engine(run);
        assert!(line.contains(&format!("engine {engine}")), "{line}\n{}", self.console);
        print_uncaptured(&format!("{}: {line}", self.lines("kernel").join("")));
    }

    /// The engine's log line contains one of `reasons`.
    fn check_reason(&self, run: &str, reasons: &[&str]) {
        let line = self.engine(run);
        let given = reasons.iter().any(|reason| line.contains(reason));
        assert!(given, "none of {reasons:?} in {line:?}\n{}", self.console);
    }

    /// It also served as another user, in an empty directory.
    fn check_dropped(&self) {
        let log = self.lines("log dropped");
        let said = log.iter().any(|line| line.contains("running as user 65534 (65534)"));
        assert!(said, "no line of another user\n{}", self.console);
        self.check_service("dropped");
    }

    /// It used the part of Landlock that this kernel has.
    fn check_landlock(&self, had: &str) {
        let log = self.lines("log default");
        let said = log.iter().any(|line| line.ends_with(had));
        assert!(said, "no line that ends with {had:?}\n{}", self.console);
    }

    /// Each leecher's response contains the seeder that announced before it over the same address
    /// family, and the tracker stopped on SIGTERM.
    fn check_service(&self, run: &str) {
        // 50001 and 50003, in BEP 23's and BEP 7's form.
        let seeder_v4 = b"5:peers6:\x7f\x00\x00\x01\xc3\x51";
        let seeder_v6 = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xc3\x53";
        for (family, peer) in [("4", &seeder_v4[..]), ("6", &seeder_v6[..])] {
            let tag = format!("answer {run} {family}");
            let body = decode_hex(self.lines(&tag).first().copied().unwrap_or_default());
            let text = body.escape_ascii();
            let found = body.windows(peer.len()).any(|window| window == peer);
            assert!(found, "no seeder in {tag}: {text}\n{}", self.console);
            assert!(body.starts_with(b"d8:complete"), "{tag}: {text}\n{}", self.console);
        }
        self.check_replies(run);
        let status = self.lines(&format!("exit {run}"));
        assert_eq!(status, ["0"], "status after SIGTERM\n{}", self.console);
    }

    /// The replies by UDP contain the seeders that announced by UDP and by HTTP.
    fn check_replies(&self, run: &str) {
        for (family, ip, ports) in [
            ("4", &[127, 0, 0, 1][..], [50001_u16, 50005]),
            ("6", &Ipv6Addr::LOCALHOST.octets()[..], [50003, 50007]),
        ] {
            let tag = format!("reply {run} {family}");
            let reply = decode_hex(self.lines(&tag).first().copied().unwrap_or_default());
            // An announce, and its transaction id.
            assert!(reply.starts_with(&[0, 0, 0, 1, 0, 0, 0, 2]), "{tag}\n{}", self.console);
            for port in ports {
                let peer = [ip, &port.to_be_bytes()].concat();
                let found = reply[20..].chunks(peer.len()).any(|it| it == peer);
                assert!(found, "no seeder {port} in {tag}\n{}", self.console);
            }
        }
    }

    fn check_end(&self) {
        let ended = self.console.lines().any(|line| line.trim_end().ends_with("@end"));
        assert!(ended, "the guest did not come to its end\n{}", self.console);
    }
}

fn initramfs() -> Vec<u8> {
    let mut archive = Archive::new();
    for directory in ["bin", "dev", "proc", "sys"] {
        archive.directory(directory);
    }
    archive.executable("init", include_bytes!("kernels/init"));
    archive.executable("bin/busybox", &fs::read(BUSYBOX).expect("busybox"));
    archive.executable("bin/bash", &fs::read(BASH).expect("bash"));
    let annulus = fs::read(env!("CARGO_BIN_EXE_annulus")).expect("the tracker's program");
    archive.executable("bin/annulus", &annulus);
    archive.finish()
}

/// The bytes of hexadecimal `text`; empty if it is invalid.
fn decode_hex(text: &str) -> Vec<u8> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    digits.unwrap_or_default().chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

//! Boots Debian's kernels and runs the tracker on them with its defaults. 5.10 (Debian 11) lacks
//! what the io_uring engine needs, so the tracker must use epoll; 6.1 (Debian 12) and 6.12 have it,
//! and a sysctl of 6.12 can forbid it. Each has a different version of Landlock, 5.10 none, and on
//! each the tracker can run as another user.
//!
//! The guest is emulated in software, so no virtualisation is needed. It holds the static program,
//! a static busybox, and a static bash, which can send UDP.

mod cpio;

use std::env;
use std::fs;
use std::io::Read;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::process::KillOnDrop;
use crate::support::requirements::{TempDir, can_run, missing_programs, print_uncaptured};
use cpio::Archive;

/// The limit of a boot, from power-on to power-off. Alone, it takes a few seconds.
const BOOT_MAX: Duration = Duration::from_secs(180);

/// The guest's memory in megabytes; the program is there twice while the archive is unpacked.
const GUEST_MEMORY_MB: usize = 512;

const QEMU: &str = "qemu-system-x86_64";
const BUSYBOX: &str = "/bin/busybox";
const BASH: &str = "/bin/bash-static";

/// One boot at a time: a boot uses a whole processor.
static ONE_BOOT: Mutex<()> = Mutex::new(());

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
        let mut missing = missing_programs(&[QEMU]);
        let kernel_file = kernels_directory().map(|directory| directory.join(kernel));
        let kernel_file = kernel_file.filter(|file| file.is_file());
        if kernel_file.is_none() {
            missing.push(format!("the kernel {kernel} in kernels/ of cargo's target directory"));
        }
        for (program, package) in [(BUSYBOX, "busybox-static"), (BASH, "bash-static")] {
            if !Path::new(program).is_file() {
                missing.push(format!("{program} (package {package})"));
            }
        }
        if !cfg!(target_arch = "x86_64") {
            missing.push(String::from("a program that the guest, an x86-64 machine, can run"));
        }
        if !can_run(&format!("the boot of {kernel}"), &missing) {
            return None;
        }
        let scratch = TempDir::new(kernel);
        let archive = scratch.path().join("initramfs");
        fs::write(&archive, initramfs()).expect("the guest's files");
        let _turn = ONE_BOOT.lock().unwrap_or_else(PoisonError::into_inner);
        Some(GuestReport { console: boot(&kernel_file.expect("checked above"), &archive) })
    }

    /// The rest of the lines with `@tag `.
    fn lines(&self, tag: &str) -> Vec<&str> {
        let tag = format!("@{tag} ");
        let tagged = self.console.lines().filter_map(|line| line.split_once(&tag));
        tagged.map(|(_, rest)| rest.trim()).collect()
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

/// `$ANNULUS_KERNELS`, or `kernels/` in cargo's target directory, which has one more level if a
/// target is named: tests/packages puts them there.
fn kernels_directory() -> Option<PathBuf> {
    if let Some(directory) = env::var_os("ANNULUS_KERNELS") {
        return Some(PathBuf::from(directory));
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
    target.map(|above| above.join("kernels")).find(|directory| directory.is_dir())
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

/// Boots; returns the output of the guest until its end or the time limit.
fn boot(kernel: &Path, initramfs: &Path) -> String {
    let mut guest = KillOnDrop(
        Command::new(QEMU)
            .args(["-accel", "tcg", "-cpu", "max", "-nographic", "-no-reboot", "-nic", "none"])
            .args(["-m", &format!("{GUEST_MEMORY_MB}M")])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            // panic=-1: a guest that panics reboots at once, which ends qemu.
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("qemu starts"),
    );
    let mut output = guest.0.stdout.take().expect("stdout is piped");
    let reader = thread::spawn(move || {
        let mut console = Vec::new();
        let _ = output.read_to_end(&mut console);
        String::from_utf8_lossy(&console).into_owned()
    });
    let deadline = Instant::now() + BOOT_MAX;
    let ended = loop {
        match guest.0.try_wait().expect("qemu's status") {
            Some(status) => break format!("[qemu ended with {status}]"),
            None if Instant::now() > deadline => break format!("[stopped after {BOOT_MAX:?}]"),
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    drop(guest);
    let console = reader.join().expect("the console's reader");
    format!("{console}\n{ended}")
}

/// The bytes of hexadecimal `text`; empty if it is invalid.
fn decode_hex(text: &str) -> Vec<u8> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    digits.unwrap_or_default().chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

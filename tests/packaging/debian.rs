//! The package for Debian, as `cargo deb` makes it: installed, upgraded under load, moved to other
//! ports, removed and purged by Debian's own tools, in a guest that runs a real systemd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{dist, printed};
use crate::load::load_program;
use crate::support::cpio::Archive;
use crate::support::guest::{Guest, console_lines, guest_file, missing_for_guest};
use crate::support::requirements::{TempDir, can_run, missing_programs};
use crate::support::tracker::ANNULUS;

const KERNEL: &str = "vmlinuz-6.1";
/// A small Debian with systemd and apt.
const DEBIAN: &str = "debian-12.cpio";

#[test]
fn the_configuration_of_the_package_is_the_default() {
    let text = fs::read_to_string(dist("debian/annulus.toml")).unwrap();
    let file = dist("debian/annulus.toml");
    printed(Command::new(ANNULUS).args(["--check-config", "-c"]).arg(file));
    let keys = text.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(keys, None, "a key here would go unseen when its default changes");
}

/// The boot, all steps of the guest's script, and the power-off.
const LIMIT: Duration = Duration::from_secs(600);

/// Everything that the guest wrote to its console.
struct PackageReport {
    console: String,
}

#[test]
fn the_package_is_installed_upgraded_moved_removed_and_purged() {
    let test = "debian::the_package_is_installed_upgraded_moved_removed_and_purged";
    let mut missing = missing_for_guest(&[KERNEL, DEBIAN]);
    missing.extend(missing_programs(&["cargo-deb", "dpkg-deb"]));
    if !can_run(test, &missing) {
        return;
    }
    let scratch = TempDir::new("debian");
    let archive = scratch.path().join("initramfs");
    let debian = fs::read(guest_file(DEBIAN).unwrap()).unwrap();
    fs::write(&archive, [debian, guest_files(scratch.path())].concat()).unwrap();
    let guest = Guest {
        kernel: KERNEL,
        processors: 2,
        memory_mb: 1024,
        arguments: "rdinit=/lib/systemd/systemd systemd.unit=guest.service systemd.show_status=0",
        limit: LIMIT,
    };
    let report = PackageReport { console: guest.boot(&archive) };
    report.check_installed();
    report.check_upgraded();
    report.check_moved();
    report.check_removed();
}

/// An archive of both versions of the package, and of the script that installs them.
fn guest_files(scratch: &Path) -> Vec<u8> {
    let mut archive = Archive::new();
    for (file, version) in [("srv/annulus_1.deb", "1.0-1"), ("srv/annulus_2.deb", "2.0-1")] {
        archive.executable(file, &fs::read(package(scratch, version)).unwrap());
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packaging/guest");
    archive.executable("srv/guest", &fs::read(script).unwrap());
    archive.executable("etc/systemd/system/guest.service", GUEST_SERVICE.as_bytes());
    archive.finish()
}

const GUEST_SERVICE: &str = "[Service]\nType=oneshot\nExecStart=/srv/guest\n\
                             StandardOutput=tty\nTTYPath=/dev/ttyS0\n";

/// A package of the programs under test, which cargo-deb takes for those of a release.
fn package(scratch: &Path, version: &str) -> PathBuf {
    let release = scratch.join("release");
    fs::create_dir_all(&release).unwrap();
    for (program, name) in [(Path::new(ANNULUS), "annulus"), (load_program(), "annulus-load")] {
        fs::copy(program, release.join(name)).unwrap();
    }
    let file = scratch.join(format!("annulus-{version}.deb"));
    let mut cargo = Command::new("cargo-deb");
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", scratch);
    cargo.args(["deb", "--no-build", "--no-dbgsym", "--strip", "--fast"]);
    printed(cargo.args(["--deb-version", version, "--output"]).arg(&file));
    file
}

impl PackageReport {
    fn lines(&self, tag: &str) -> Vec<&str> {
        console_lines(&self.console, tag)
    }

    #[track_caller]
    fn check(&self, tag: &str, expected: &[&str]) {
        assert_eq!(self.lines(tag), expected, "@{tag}\n{}", self.console);
    }

    #[track_caller]
    fn check_contains(&self, tag: &str, expected: &str) {
        let lines = self.lines(tag);
        let found = lines.iter().any(|line| line.contains(expected));
        assert!(found, "no {expected:?} in @{tag}\n{}", self.console);
    }

    /// Leechers get the seeders that announced by either protocol before the upgrade.
    #[track_caller]
    fn check_served(&self, when: &str) {
        let v4 = ["7f000001c351", "7f000001c355"];
        let v6 = ["c353", "c357"].map(|port| format!("{:032x}{port}", 1));
        for (kind, seeders) in [("4", v4.map(str::to_owned)), ("6", v6)] {
            for protocol in ["http", "udp"] {
                for seeder in &seeders {
                    self.check_contains(&format!("served {when} {protocol}{kind}"), seeder);
                }
            }
        }
    }

    fn check_installed(&self) {
        let ended = self.console.lines().any(|line| line.trim_end().ends_with("@end"));
        assert!(ended, "the guest did not come to its end\n{}", self.console);
        self.check("active installed", &["active"; 3]);
        self.check("enabled", &["enabled"; 3]);
        self.check("user", &["annulus"]);
        self.check("state", &["annulus:annulus 700"]);
        self.check("watchdog", &["30s"]);
        self.check_contains("conffiles", "/etc/annulus/annulus.toml");
        self.check_contains("status", "listening on 0.0.0.0:3000");
        self.check_served("installed");
        self.check("reload", &[]);
        self.check_contains("journal", "nothing to reload");
    }

    /// The service was restarted and the sockets were not, all who asked meanwhile were answered,
    /// and the swarms and the changed configuration are as before.
    fn check_upgraded(&self) {
        self.check("version", &["1.0-1", "2.0-1"]);
        let opened = self.lines("sockets");
        assert!(opened.len() == 2 && opened[0] == opened[1], "{}", self.console);
        let pids = self.lines("pid");
        assert!(pids.len() == 2 && pids[0] != pids[1], "{}", self.console);
        self.check("active upgraded", &["active"; 3]);
        self.check("http status", &["0"]);
        let report: Value = serde_json::from_str(&self.lines("http report").concat()).unwrap();
        let good = report["good"].as_u64().unwrap();
        assert!(good > 0 && report["sent"] == good, "{report}\n{}", self.console);
        let answered: u32 = self.lines("udp answered").concat().parse().unwrap();
        assert!(answered > 0, "{}", self.console);
        self.check("udp refused", &["0"]);
        self.check_served("upgraded");
        self.check("configuration", &["# kept"]);
    }

    fn check_moved(&self) {
        self.check("move", &[]);
        self.check_served("moved");
    }

    /// A removal keeps the configuration and the swarms; a purge does not.
    fn check_removed(&self) {
        self.check("units", &[]);
        let kept = ["/etc/annulus/annulus.toml", "/var/lib/annulus/swarms.state"];
        self.check("removed", &kept);
        self.check("purged", &[]);
        self.check("failed", &[]);
    }
}

//! Machines that QEMU emulates in software, so that no virtualisation is needed. Their kernels, and
//! the files of the larger one, are made by tests/packages.

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::process::KillOnDrop;
use super::requirements::missing_programs;

const QEMU: &str = "qemu-system-x86_64";

/// One guest at a time: it uses a whole processor.
static ONE_BOOT: Mutex<()> = Mutex::new(());

/// What a guest is made of.
pub(crate) struct Guest<'a> {
    /// The name of a file that tests/packages unpacks.
    pub(crate) kernel: &'a str,
    pub(crate) processors: u8,
    pub(crate) memory_mb: usize,
    /// More words for the kernel's command line.
    pub(crate) arguments: &'a str,
    /// From power-on to power-off. Alone, it takes a fraction of this.
    pub(crate) limit: Duration,
}

impl Guest<'_> {
    /// Boots with these files; returns the console's output until the guest's end or the limit.
    pub(crate) fn boot(&self, initramfs: &Path) -> String {
        let kernel = guest_file(self.kernel).expect("missing_for_guest found the kernel");
        let _turn = ONE_BOOT.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guest = KillOnDrop(
            Command::new(QEMU)
                .args(["-accel", "tcg", "-cpu", "max", "-nographic", "-no-reboot", "-nic", "none"])
                .args(["-smp", &self.processors.to_string()])
                .args(["-m", &format!("{}M", self.memory_mb)])
                .arg("-kernel")
                .arg(kernel)
                .arg("-initrd")
                .arg(initramfs)
                // panic=-1: a guest that panics reboots at once, which ends qemu.
                .args(["-append", &format!("console=ttyS0 quiet panic=-1 {}", self.arguments)])
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
        let deadline = Instant::now() + self.limit;
        let ended = loop {
            match guest.0.try_wait().expect("qemu's status") {
                Some(status) => break format!("[qemu ended with {status}]"),
                None if Instant::now() > deadline => break format!("[stopped: {:?}]", self.limit),
                None => thread::sleep(Duration::from_millis(50)),
            }
        };
        drop(guest);
        let console = reader.join().expect("the console's reader");
        format!("{console}\n{ended}")
    }
}

/// What the machine lacks to boot a guest with these files, for `can_run`.
pub(crate) fn missing_for_guest(files: &[&str]) -> Vec<String> {
    let mut missing = missing_programs(&[QEMU]);
    for name in files.iter().filter(|name| guest_file(name).is_none()) {
        missing.push(format!("the file {name} in kernels/ of cargo's target directory"));
    }
    if !cfg!(target_arch = "x86_64") {
        missing.push(String::from("a program that the guest, an x86-64 machine, can run"));
    }
    missing
}

/// A file in `$ANNULUS_KERNELS`, or in `kernels/` of cargo's target directory, which has one more
/// level if a target is named: tests/packages puts it there.
pub(crate) fn guest_file(name: &str) -> Option<PathBuf> {
    let directory = env::var_os("ANNULUS_KERNELS").map(PathBuf::from).or_else(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
        target.map(|above| above.join("kernels")).find(|directory| directory.is_dir())
    });
    directory.map(|directory| directory.join(name)).filter(|file| file.is_file())
}

/// The rest of the console's lines with `@tag `.
pub(crate) fn console_lines<'a>(console: &'a str, tag: &str) -> Vec<&'a str> {
    let tag = format!("@{tag} ");
    let tagged = console.lines().filter_map(|line| line.split_once(&tag));
    tagged.map(|(_, rest)| rest.trim()).collect()
}

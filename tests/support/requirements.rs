//! What tests need of the machine, and the message if it is missing.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Decides whether a test can run. `missing` lists what the machine lacks.
///
/// False means "skip", and only with `ANNULUS_SKIP_SYSTEM=1` in the environment.
///
/// # Panics
/// If something is missing: a skipped test must not look like a passed one.
pub(crate) fn can_run(test: &str, missing: &[String]) -> bool {
    if env::var_os("ANNULUS_SKIP_SYSTEM").is_some_and(|value| value == "1") {
        print_uncaptured(&format!("SKIPPED {test}: ANNULUS_SKIP_SYSTEM=1 (missing: {missing:?})"));
        return false;
    }
    assert!(
        missing.is_empty(),
        "{test} needs what is not here:\n  {}\n\
         Install it by tests/packages, run the tests as root, \
         or set ANNULUS_SKIP_SYSTEM=1 to do without this test.",
        missing.join("\n  ")
    );
    true
}

/// Writes a line that is shown even if the test passes: the test runner captures only the print
/// macros.
pub(crate) fn print_uncaptured(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Those of `programs` that this machine does not have, as items for [`can_run`].
pub(crate) fn missing_programs(programs: &[&str]) -> Vec<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = env::split_paths(&path).collect();
    let is_here = |name: &&str| {
        directories.iter().any(|directory| {
            let found = fs::metadata(directory.join(name));
            found.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
        })
    };
    let missing = programs.iter().filter(|name| !is_here(name));
    missing.map(|name| format!("the program {name}")).collect()
}

/// The missing rights of root, as an item for [`can_run`]; `purpose` says what they are for.
pub(crate) fn missing_root(purpose: &str) -> Option<String> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    (!is_root).then(|| format!("the rights of root, {purpose}"))
}

/// A directory that is removed when the value is dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// A new, empty directory under cargo's directory for tests; `name` is part of its name.
    pub(crate) fn new(name: &str) -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{count}", process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

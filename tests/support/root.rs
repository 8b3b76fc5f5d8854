//! The rights of root, which some tests need.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// What a test that needs them for `purpose` lacks, as an item for `can_run`.
pub(crate) fn missing_root(purpose: &str) -> Option<String> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    (!is_root).then(|| format!("the rights of root, {purpose}"))
}

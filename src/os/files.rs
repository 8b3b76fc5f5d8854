//! Opening and reading files that an operator wrote.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Opens a regular file. Anything else is refused: a pipe or a device could block for ever.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(not_a_file());
    }
    File::open(path)
}

pub(super) fn not_a_file() -> io::Error {
    io::Error::other("it is not a file")
}

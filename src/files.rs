//! How the files that the configuration names are opened: by this process, or, when it has
//! given up the power to, by the one that kept it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use annulus_ring::may_read;

use crate::confine::Keeper;

/// Opens files to be read.
#[derive(Debug)]
pub enum Files {
    /// By this process itself.
    Own,
    /// By the keeper, and only those that it knows.
    Kept(Keeper),
}

impl Files {
    /// Opens a file that the configuration names.
    ///
    /// # Errors
    /// It is not there, may not be read or is not a file; or Landlock hides it since the start,
    /// or the keeper has ended, each of which a restart cures.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        match self {
            Files::Own => open(path).map_err(|error| explained(error, path)),
            Files::Kept(keeper) => keeper.open(path),
        }
    }
}

/// Opens a file, and nothing that is none: a pipe or a device would have the tracker wait,
/// perhaps for ever.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(not_a_file());
    }
    File::open(path)
}

pub(crate) fn not_a_file() -> io::Error {
    io::Error::other("it is not a file")
}

/// Says of a file that its own rights do not close that Landlock does.
fn explained(error: io::Error, path: &Path) -> io::Error {
    if error.kind() != ErrorKind::PermissionDenied || !may_read(path) {
        return error;
    }
    let what = format!(
        "{error}: it is outside of the directories that the configured files were in at the \
         start, and Landlock hides all else: restart annulus"
    );
    io::Error::new(ErrorKind::PermissionDenied, what)
}

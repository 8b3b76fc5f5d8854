//! How the files that the configuration names are opened.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Access, access};

use super::file_broker::{BrokerProcess, FileBroker, open_file};

/// Opens files to be read.
#[derive(Debug)]
pub enum FileSource {
    /// This process opens them.
    Direct,
    /// The broker opens them, and only those that it was started for.
    Broker(FileBroker),
}

impl FileSource {
    /// Gives the broker, if there is one, its whole time for the files that are opened from now on.
    pub fn reset_timeout(&self) {
        if let FileSource::Broker(broker) = self {
            broker.reset_timeout();
        }
    }

    /// The broker's process, if there is one.
    pub fn broker(&self) -> Option<Arc<BrokerProcess>> {
        match self {
            FileSource::Direct => None,
            FileSource::Broker(broker) => Some(broker.process()),
        }
    }

    /// Opens a file that the configuration names.
    ///
    /// # Errors
    /// It does not exist, may not be read or is not a regular file; or Landlock hides it since the
    /// start, or the broker has ended, each of which a restart cures.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        match self {
            FileSource::Direct => open_file(path).map_err(|error| explain(error, path)),
            FileSource::Broker(broker) => broker.open(path),
        }
    }
}

/// Explains a refusal that the file's own permissions do not cause: it is Landlock's.
fn explain(error: io::Error, path: &Path) -> io::Error {
    if error.kind() != ErrorKind::PermissionDenied || access(path, Access::READ_OK).is_err() {
        return error;
    }
    let what = format!(
        "{error}: it is outside of the directories that the configured files were in at the \
         start, and Landlock hides all else: restart annulus"
    );
    io::Error::new(ErrorKind::PermissionDenied, what)
}

/// Whether the files can be read again, as far as that is known.
#[derive(Debug, Default)]
pub struct ReloadHealth {
    broker_ended: AtomicBool,
    reload_hangs: AtomicBool,
}

impl ReloadHealth {
    /// Notes that the files cannot be opened any more.
    pub fn note_broker_ended(&self) {
        self.broker_ended.store(true, Ordering::Relaxed);
    }

    /// Notes whether a reload was given up and still runs: no other can begin.
    pub fn note_reload_hangs(&self, hangs: bool) {
        self.reload_hangs.store(hangs, Ordering::Relaxed);
    }

    /// What prevents a reload, with the cure.
    pub fn problem(&self) -> Option<&'static str> {
        if self.broker_ended.load(Ordering::Relaxed) {
            Some("the file broker has ended: restart annulus")
        } else if self.reload_hangs.load(Ordering::Relaxed) {
            Some("a reload hangs: see whether the disk of the files answers")
        } else {
            None
        }
    }
}

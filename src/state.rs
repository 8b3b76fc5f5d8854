//! The swarms on disk, so that a restart forgets no peer.
//!
//! The file is a snapshot and not a log: what was announced since the last one is lost by a crash,
//! and comes back within an announce interval. [`mod@format`] is its layout; [`StateLoader`] reads
//! it at the start, before the workers run; [`StateSaver`] writes it every interval, and at the
//! end. A new file replaces the old one only when it is whole and on the disk.

pub mod format;
mod load;
mod save;
mod status;

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use rustix::process::geteuid;

use crate::config::StateConfig;
use crate::os::{Ids, StateDirectory};

pub use load::{LoadedState, StateLoader, read_entries};
pub use save::{StateSaver, StateSaverParts, write_swarms};
pub use status::{StateReport, StateStatus};

/// The file in the directory that a service manager provides.
const FILE_NAME: &str = "swarms.state";

/// The state file that is configured, and where: text to begin messages with.
#[derive(Debug)]
pub struct ConfiguredState {
    path: PathBuf,
    place: String,
}

impl ConfiguredState {
    /// That of `config`, or of the directory that `STATE_DIRECTORY` names (systemd.exec(5),
    /// StateDirectory=), or none.
    pub fn of(config: &StateConfig) -> Option<ConfiguredState> {
        let StateConfig { file, place, .. } = config;
        if !file.as_os_str().is_empty() {
            let place = format!("{place}: state.file = \"{}\"", file.display());
            return Some(ConfiguredState { path: file.clone(), place });
        }
        let directories = env::var_os("STATE_DIRECTORY")?;
        // Several are separated by colons.
        let directory = env::split_paths(&directories).next().filter(|it| it.is_absolute())?;
        let place = format!("STATE_DIRECTORY=\"{}\"", directory.display());
        Some(ConfiguredState { path: directory.join(FILE_NAME), place })
    }

    /// Opens its directory.
    ///
    /// # Errors
    /// That is not possible, or there is something else than a file; with the cure, in one line.
    pub fn open(&self) -> anyhow::Result<StateDirectory> {
        let place = &self.place;
        let opened = StateDirectory::open(&self.path).map_err(|error| {
            let directory = match self.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let directory = directory.display();
            anyhow!(
                "{place}: its directory {directory} cannot be opened: {error}: make it, and let \
                 the user of the tracker read and write it (StateDirectory= of a systemd unit does)"
            )
        })?;
        match opened.find_file() {
            Ok(_) => Ok(opened),
            Err(error) => bail!("{place}: {error}: name a file, which need not exist"),
        }
    }

    /// Checks that `ids`, or the user of this process if there are none, could write the file.
    /// Returns a warning if that cannot be told here.
    ///
    /// # Errors
    /// They could not, with the cure, in one line.
    pub fn check(&self, ids: Option<Ids>) -> anyhow::Result<Option<String>> {
        let Err(error) = self.open()?.check_access(ids) else { return Ok(None) };
        let user = match ids {
            Some(Ids { user, .. }) => format!("user {user}"),
            None => "the user of the tracker".to_owned(),
        };
        let what = format!(
            "{}: it cannot be written: {error}: {user} must be able to write to its directory, and \
             to read the file if there is one (chown, chmod)",
            self.place
        );
        // Root checks what a service manager may start as another user.
        let may_be_other =
            ids.is_none() && geteuid().is_root() && error.kind() == ErrorKind::PermissionDenied;
        match may_be_other {
            true => Ok(Some(format!("{what}; root itself gives up the right to write anywhere"))),
            false => bail!(what),
        }
    }
}

/// As in "1 peer".
fn peers(count: u64) -> String {
    format!("{count} peer{}", if count == 1 { "" } else { "s" })
}

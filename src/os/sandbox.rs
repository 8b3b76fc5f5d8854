//! What the tracker gives up once it listens and has read its files: user, group, the sight
//! of the file system, capabilities, and by Landlock nearly everything else.
//!
//! [`Confinement::plan`] looks whether all of it can be had, and changes nothing.
//! [`Confinement::files`] sets apart who opens the files from then on, before anything else is
//! opened. [`Confinement::enter`] is the step itself: afterwards nothing can be opened.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, chroot};
use std::path::{Path, PathBuf};

use annulus_ring::{Ids, ListenAddress, give_up_power, may_change_user};

use crate::config::{AccessMode, CertificateFiles, Config, Privileges};
use crate::log;
use crate::os::{Files, Keeper, accounts, landlock};

/// What is to be given up, all of it known to exist.
#[derive(Debug)]
pub struct Confinement<'c> {
    config: &'c Privileges,
    ids: Option<Ids>,
    /// What is read again when the tracker is told to.
    paths: Vec<PathBuf>,
    /// Where the Unix sockets are that are removed at the end.
    socket_directories: Vec<PathBuf>,
}

impl Confinement<'_> {
    /// What `config` asks for.
    ///
    /// # Errors
    /// There is no such user, group or directory, or one that gives no safety. One line that
    /// begins with its place in the configuration and ends with a cure.
    pub fn plan(config: &Config) -> Result<Confinement<'_>, String> {
        let privileges = &config.privileges;
        let ids = accounts::ids(privileges)?;
        if let Some(ids) = ids {
            check_directory(privileges, ids)?;
        }
        let socket_directories = socket_directories(config);
        Ok(Confinement { config: privileges, ids, paths: named_files(config), socket_directories })
    }

    /// Whom the tracker is to become, if anybody.
    pub fn ids(&self) -> Option<Ids> {
        self.ids
    }

    /// Who opens the files of the configuration from now on: if the tracker is to become
    /// another user, a process that is split off. To be called while there is one thread.
    ///
    /// # Errors
    /// This process may not become another user, or the other one cannot be had.
    pub fn files(&self) -> Result<Files, String> {
        let Some(ids) = self.ids else { return Ok(Files::Own) };
        if !may_change_user() {
            let Privileges { user, places, .. } = self.config;
            return Err(format!(
                "{}: privileges.user = {user:?}: only root can become another user: start it by \
                 root (CAP_SETUID and CAP_SETGID), or leave the user empty",
                places.user
            ));
        }
        Keeper::start(self.paths.clone(), ids, self.config.landlock).map(Files::Kept)
    }

    /// Gives it up, for good, and says what that was. To be called before a thread is started,
    /// so that all threads do without.
    ///
    /// # Errors
    /// It fails, or power is left that should not be: the process must not go on.
    pub fn enter(&self) -> Result<(), String> {
        let Privileges { user, chroot: directory, landlock, places, .. } = self.config;
        if !directory.as_os_str().is_empty() {
            chroot(directory).and_then(|()| env::set_current_dir("/")).map_err(|error| {
                let path = directory.display();
                format!(
                    "{}: privileges.chroot = \"{path}\": {error}: CAP_SYS_CHROOT is needed",
                    places.chroot
                )
            })?;
        }
        // Who has no keeper needs the power to read any file itself, if it was started with it.
        give_up_power(self.ids, self.ids.is_none())
            .map_err(|error| format!("cannot give up power: {error}"))?;
        if let Some(Ids { user: number, group }) = self.ids {
            let within = match directory.as_os_str().is_empty() {
                true => String::new(),
                false => format!(", confined to {}", directory.display()),
            };
            log::info(format_args!("running as user {user} ({number}), group {group}{within}"));
        }
        if !landlock {
            return Ok(());
        }
        let readable = match self.ids {
            Some(_) => Vec::new(),
            None => landlock::directories(&self.paths),
        };
        match landlock::restrict(&readable, &self.socket_directories) {
            Ok(achieved) => log::info(format_args!("{achieved}")),
            Err(error) => log::warning(format_args!("no Landlock: {error}")),
        }
        Ok(())
    }
}

/// Fails unless the directory that is to be the root, if any, is safe from the user.
fn check_directory(config: &Privileges, ids: Ids) -> Result<(), String> {
    let Privileges { user, chroot, places, .. } = config;
    if chroot.as_os_str().is_empty() {
        return Ok(());
    }
    let path = chroot.display();
    let about = |what: String| format!("{}: privileges.chroot = \"{path}\": {what}", places.chroot);
    let made = format!("make it an empty directory of root's: mkdir -m 755 {path}");
    let it = fs::metadata(chroot).map_err(|error| about(format!("{error}: {made}")))?;
    if !it.is_dir() {
        return Err(about(format!("not a directory: {made}")));
    }
    let writable = it.uid() == ids.user
        || it.mode() & 0o002 != 0
        || it.gid() == ids.group && it.mode() & 0o020 != 0;
    if writable {
        return Err(about(format!(
            "user {user} can write to it, and so set traps: chown root:root {path}; \
             chmod 755 {path}"
        )));
    }
    Ok(())
}

/// All files that the tracker reads beside the configuration itself.
fn named_files(config: &Config) -> Vec<PathBuf> {
    let certificates = config.tls.certificates.iter();
    let mut paths: Vec<PathBuf> = certificates
        .flat_map(|CertificateFiles { chain, key, .. }| [chain.clone(), key.clone()])
        .collect();
    if config.access.mode != AccessMode::Off {
        paths.push(config.access.file.clone());
    }
    paths
}

/// The directories of the Unix sockets that are listened on.
fn socket_directories(config: &Config) -> Vec<PathBuf> {
    let directory = |address: &ListenAddress| match address {
        // A right to all of the file system would be too much for it.
        ListenAddress::Unix(path) => {
            path.parent().filter(|it| it.parent().is_some()).map(Path::to_owned)
        }
        ListenAddress::Tcp(_) => None,
    };
    config.listen.iter().filter_map(directory).collect()
}

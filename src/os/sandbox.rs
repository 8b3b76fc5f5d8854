//! What the tracker gives up once it listens and has read its files: user and group, the view of
//! the file system, capabilities and, by Landlock, nearly everything else.

use std::env;
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, chroot};
use std::path::{Path, PathBuf};

use annulus_ring::ListenAddress;
use anyhow::{Context, anyhow, bail};

use super::file_broker::FileBroker;
use super::file_source::FileSource;
use super::landlock::LandlockRights;
use super::privileges::{Ids, drop_privileges, may_change_user};
use super::{accounts, landlock};
use crate::config::{AccessMode, CertificateFiles, Config, PrivilegesConfig};

/// What is to be given up. Its user, group and directory exist.
#[derive(Debug)]
pub struct Sandbox<'c> {
    config: &'c PrivilegesConfig,
    ids: Option<Ids>,
    /// The files that are read again at a reload.
    paths: Vec<PathBuf>,
    /// Where the Unix sockets are, which are removed at the end.
    socket_directories: Vec<PathBuf>,
}

/// What was given up, as text for the log.
#[derive(Debug)]
pub struct SandboxReport {
    /// The new user, if it was changed.
    pub user: Option<String>,
    /// What Landlock restricts or why it does not, if it is configured.
    pub landlock: Option<Result<String, String>>,
}

impl Sandbox<'_> {
    /// Checks what `config` asks for, and changes nothing.
    ///
    /// # Errors
    /// There is no such user, group or directory, or the directory is not safe. One line that
    /// begins with its place in the configuration and ends with a cure.
    pub fn plan(config: &Config) -> anyhow::Result<Sandbox<'_>> {
        let privileges = &config.privileges;
        let ids = accounts::ids(privileges)?;
        if let Some(ids) = ids {
            check_directory(privileges, ids)?;
        }
        let socket_directories = socket_directories(config);
        Ok(Sandbox { config: privileges, ids, paths: named_files(config), socket_directories })
    }

    /// The user and group that the tracker is to become, if any.
    pub fn ids(&self) -> Option<Ids> {
        self.ids
    }

    /// Opens the files of the configuration from now on: a file broker, which is started here, if
    /// the tracker is to become another user.
    pub fn file_source(&self) -> anyhow::Result<FileSource> {
        let Some(ids) = self.ids else { return Ok(FileSource::Direct) };
        if !may_change_user() {
            let PrivilegesConfig { user, places, .. } = self.config;
            bail!(
                "{}: privileges.user = {user:?}: only root can become another user: start it by \
                 root (CAP_SETUID and CAP_SETGID), or leave the user empty",
                places.user
            );
        }
        FileBroker::start(self.paths.clone(), ids, self.config.landlock)
            .map(FileSource::Broker)
            .context("the file broker cannot start")
    }

    /// Enters the sandbox for good. To be called before a thread is started, so that it holds for
    /// all of them. Afterwards nothing can be opened, except by the file source and in the
    /// directory of the state file, if there is one; and by TCP only `ports` can be connected to.
    ///
    /// # Errors
    /// It fails, or a privilege is left: the process must not go on.
    pub fn enter(
        &self,
        state: Option<BorrowedFd<'_>>,
        ports: &[u16],
    ) -> anyhow::Result<SandboxReport> {
        let PrivilegesConfig { user, chroot: directory, landlock, places, .. } = self.config;
        if !directory.as_os_str().is_empty() {
            chroot(directory).and_then(|()| env::set_current_dir("/")).map_err(|error| {
                let path = directory.display();
                anyhow!(
                    "{}: privileges.chroot = \"{path}\": {error}: CAP_SYS_CHROOT is needed",
                    places.chroot
                )
            })?;
        }
        // Without a broker, this process keeps the capability to read any file for reloads.
        drop_privileges(self.ids, self.ids.is_none()).context("cannot drop privileges")?;
        let user = self.ids.map(|Ids { user: number, group }| {
            let within = match directory.as_os_str().is_empty() {
                true => String::new(),
                false => format!(", confined to {}", directory.display()),
            };
            format!("running as user {user} ({number}), group {group}{within}")
        });
        let restrict = || {
            let readable = match self.ids {
                Some(_) => Vec::new(),
                None => landlock::directories(&self.paths),
            };
            let removable = &self.socket_directories;
            let (readable, connectable) = (readable.as_slice(), ports);
            landlock::restrict(LandlockRights { readable, removable, state, connectable })
        };
        Ok(SandboxReport { user, landlock: landlock.then(restrict) })
    }
}

/// Fails unless the directory that is to be the root, if any, is safe from the user.
fn check_directory(config: &PrivilegesConfig, ids: Ids) -> anyhow::Result<()> {
    let PrivilegesConfig { user, chroot, places, .. } = config;
    if chroot.as_os_str().is_empty() {
        return Ok(());
    }
    let path = chroot.display();
    let about = |what: String| anyhow!("{}: privileges.chroot = \"{path}\": {what}", places.chroot);
    let cure = format!("make it an empty directory of root's: mkdir -m 755 {path}");
    let it = fs::metadata(chroot).map_err(|error| about(format!("{error}: {cure}")))?;
    if !it.is_dir() {
        bail!(about(format!("not a directory: {cure}")));
    }
    let writable = it.uid() == ids.user
        || it.mode() & 0o002 != 0
        || it.gid() == ids.group && it.mode() & 0o020 != 0;
    if writable {
        bail!(about(format!(
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

/// The directories of the Unix sockets that are listened on, but for `/`: the right to remove any
/// file would be too much.
fn socket_directories(config: &Config) -> Vec<PathBuf> {
    let directory = |address: &ListenAddress| match address {
        ListenAddress::Unix(path) => {
            path.parent().filter(|it| it.parent().is_some()).map(Path::to_owned)
        }
        ListenAddress::Tcp(_) => None,
    };
    config.listen.iter().filter_map(directory).collect()
}

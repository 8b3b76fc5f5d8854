//! Landlock, by which a process restricts itself (landlock(7)). What a kernel does not support is
//! left out, and none of it is ever a reason not to start.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};

use crate::limits::SYMLINKS_MAX;

/// The newest that the tracker was tested with. Linux 5.13 has the first, 6.15 this one.
const ABI_KNOWN: ABI = ABI::V7;

/// What may still be done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LandlockRights<'a> {
    /// Files beneath these directories may be read.
    pub(super) readable: &'a [PathBuf],
    /// Files beneath these directories may be removed.
    pub(super) removable: &'a [PathBuf],
    /// Files beneath this directory may be made, written, read, renamed and removed.
    pub(super) state: Option<BorrowedFd<'a>>,
    /// Connections by TCP may go to these ports.
    pub(super) connectable: &'a [u16],
}

/// Forbids this process, and the threads that it starts later, every use of files, binding and
/// connecting by TCP, connecting to abstract sockets, and signals to others, but for `rights`. Open
/// descriptors stay usable. Returns a line about what the kernel supports of that.
///
/// # Errors
/// The kernel has Landlock and refuses it.
pub(super) fn restrict(rights: LandlockRights<'_>) -> Result<String, String> {
    let status = rules(rights).map_err(|error| error.to_string())?;
    Ok(match status {
        LandlockStatus::NotImplemented => "no Landlock: the kernel has none".to_string(),
        LandlockStatus::NotEnabled => {
            "no Landlock: the kernel has it switched off (lsm= among its parameters)".to_string()
        }
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            let abi = kernel_abi.unwrap_or(effective_abi as i32);
            let kinds = [(1, "files"), (4, ", network"), (6, ", abstract sockets, signals")];
            let kinds = kinds.iter().filter(|(since, _)| *since <= abi).map(|(_, kind)| *kind);
            format!("Landlock ABI {abi}: {}", kinds.collect::<String>())
        }
    })
}

fn rules(rights: LandlockRights<'_>) -> Result<LandlockStatus, RulesetError> {
    let LandlockRights { readable, removable, state, connectable } = rights;
    // To rename within a directory is to make in it and to remove from it.
    let kept = AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::ReadFile | AccessFs::RemoveFile;
    let state = state.map(|directory| Ok::<_, RulesetError>(PathBeneath::new(directory, kept)));
    let connectable = connectable.iter().map(|port| NetPort::new(*port, AccessNet::ConnectTcp));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI_KNOWN))?
        .handle_access(AccessNet::from_all(ABI_KNOWN))?
        .scope(Scope::from_all(ABI_KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(removable, AccessFs::RemoveFile))?
        .add_rules(state)?
        .add_rules(connectable.map(Ok::<_, RulesetError>))?
        .restrict_self()?;
    Ok(status.landlock)
}

/// The directories of the files at `paths`, in which new files will replace them. If a path is a
/// symbolic link, its target's directory as well, and so on.
pub(super) fn directories(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut directories = BTreeSet::new();
    for path in paths {
        let mut path = path.clone();
        for _ in 0..SYMLINKS_MAX {
            let Some(parent) = path.parent() else { break };
            // A name alone has an empty one.
            let directory = Path::new(".").join(parent);
            directories.insert(directory.clone());
            let Ok(link) = fs::read_link(&path) else { break };
            path = directory.join(link);
        }
    }
    directories.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::{LandlockRights, restrict};

    /// The restriction is the thread's own, and ends with it.
    #[test]
    fn only_the_named_ports_can_be_connected_to() {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [one, two, other] = listeners.each_ref().map(|it| it.local_addr().unwrap());
        let restricted = thread::spawn(move || {
            let connectable = &[one.port(), two.port()][..];
            let line = restrict(LandlockRights { connectable, ..LandlockRights::default() });
            assert!(TcpStream::connect(one).is_ok() && TcpStream::connect(two).is_ok());
            let refused = TcpStream::connect(other).map_err(|error| error.kind());
            let bound = TcpListener::bind("127.0.0.1:0").map_err(|error| error.kind());
            (line, refused.err(), bound.err())
        });
        let (line, refused, bound) = restricted.join().unwrap();
        let line = line.unwrap();
        // From ABI 4 on, Linux 6.7.
        if line.contains("network") {
            let denied = Some(ErrorKind::PermissionDenied);
            assert_eq!((refused, bound), (denied, denied));
        } else {
            assert_eq!((refused, bound), (None, None), "{line}");
        }
        assert!(TcpStream::connect(other).is_ok());
    }
}

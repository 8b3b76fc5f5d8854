//! Landlock, the kernel's way for a process to do without what it does not need. What a kernel
//! does not know of it is left out, and none of it is ever a reason not to start.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, path_beneath_rules,
};

use crate::limits::LINKS_MAX;

/// The newest that the tracker was tried with: 5.13 has the first, 6.15 this one.
const ABI_KNOWN: ABI = ABI::V7;

/// Takes from this process, and all that it will start, every use of files but reading those
/// beneath `readable` and removing those beneath `removable`, binding and connecting by TCP,
/// connecting to abstract sockets and signals to others. What it has open stays. Says what the
/// kernel has of that.
///
/// # Errors
/// The kernel has Landlock and refuses it.
pub(super) fn restrict(readable: &[PathBuf], removable: &[PathBuf]) -> Result<String, String> {
    let status = rules(readable, removable).map_err(|error| error.to_string())?;
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

fn rules(readable: &[PathBuf], removable: &[PathBuf]) -> Result<LandlockStatus, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI_KNOWN))?
        .handle_access(AccessNet::from_all(ABI_KNOWN))?
        .scope(Scope::from_all(ABI_KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(removable, AccessFs::RemoveFile))?
        .restrict_self()?;
    Ok(status.landlock)
}

/// The directories that the files at `paths` are in: as new ones will take their places in
/// these. If a path is that of a link, that of what it leads to as well, and so on.
pub(super) fn directories(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut directories = BTreeSet::new();
    for path in paths {
        let mut path = path.clone();
        for _ in 0..LINKS_MAX {
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
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{PathBuf, directories};

    #[test]
    fn every_link_adds_a_directory() {
        let top = std::env::temp_dir().join(format!("landlock-{}", std::process::id()));
        let at = |path: &str| top.join(path);
        for directory in ["live/here", "archive/here", "elsewhere"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("elsewhere/file"), "").unwrap();
        symlink("../../archive/here/file2", at("live/here/file")).unwrap();
        symlink(at("elsewhere/file"), at("archive/here/file2")).unwrap();
        symlink("round", at("round")).unwrap();
        let found =
            |paths: &[&str]| directories(&paths.iter().map(|path| at(path)).collect::<Vec<_>>());
        let canonical = |found: Vec<PathBuf>| -> Vec<PathBuf> {
            found.iter().map(|directory| directory.canonicalize().unwrap()).collect()
        };
        let top_itself = top.canonicalize().unwrap();
        let expected = ["archive/here", "elsewhere", "live/here"].map(|path| top_itself.join(path));
        let mut all = canonical(found(&["live/here/file", "elsewhere/file", "live/here/other"]));
        all.sort();
        assert_eq!(all, expected);
        assert_eq!(canonical(found(&["round"])), [top_itself]);
        assert_eq!(directories(&["file".into()]), [Path::new(".")]);
        assert_eq!(directories(&[]), [] as [PathBuf; 0]);
        fs::remove_dir_all(top).unwrap();
    }
}

//! The directory of the state file. Everything in it is reached through a descriptor that was
//! opened while its path was still in sight: neither another user, nor a chroot, nor Landlock is in
//! the way.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat,
    StatVfsMountFlags, accessat, flock, fstat, fstatvfs, fsync, openat, renameat, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use super::Ids;

/// Files of one kind that are set aside; whoever has so many should look at them.
const ASIDE_MAX: u32 = 1000;

/// Bits of a mode: to write to a directory takes the right to search it, too.
const WRITE_AND_SEARCH: u32 = 0o3;
const READ: u32 = 0o4;

/// A file, by its directory and its name in it.
#[derive(Debug)]
pub struct StateDirectory {
    directory: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl StateDirectory {
    /// Opens the directory of the file at `path`, which need not exist.
    ///
    /// # Errors
    /// There is no such directory, or this process may not read it.
    pub fn open(path: &Path) -> io::Result<StateDirectory> {
        let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?.to_owned();
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Not O_PATH, because it will be synced.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, parent, flags, Mode::empty())?;
        Ok(StateDirectory { directory, name, path: path.to_owned() })
    }

    /// The path of the file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locks the directory against other processes until this one ends; returns whether it is
    /// locked now. Where the file system has no locks, it does as if it were.
    pub fn try_lock(&self) -> bool {
        flock(&self.directory, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
    }

    /// What there is of the file's name.
    ///
    /// # Errors
    /// It is no regular file, such as a directory or a link.
    pub fn find_file(&self) -> io::Result<Option<Stat>> {
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(found) if FileType::from_raw_mode(found.st_mode).is_file() => Ok(Some(found)),
            Ok(_) => Err(io::Error::other("it is not a file")),
        }
    }

    /// Checks that `ids`, or this process if there are none, may write to the directory and read
    /// the file, if there is one. Access control lists beyond the mode bits are not considered.
    ///
    /// # Errors
    /// They may not, or [`StateDirectory::find_file`] fails.
    pub fn check_access(&self, ids: Option<Ids>) -> io::Result<()> {
        if fstatvfs(&self.directory)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(Errno::ROFS.into());
        }
        let root = geteuid().is_root().then(|| Ids { user: 0, group: getegid().as_raw() });
        let found = self.find_file()?;
        // Root will not have the capabilities by which it may write anywhere.
        let Some(ids) = ids.or(root) else {
            let access =
                |path: &OsStr, wanted| accessat(&self.directory, path, wanted, AtFlags::empty());
            access(OsStr::new("."), Access::WRITE_OK | Access::EXEC_OK)?;
            return Ok(found.map_or(Ok(()), |_| access(&self.name, Access::READ_OK))?);
        };
        let directory = fstat(&self.directory)?;
        let may_read = |it: &Stat| ids.may(READ, it);
        if !ids.may(WRITE_AND_SEARCH, &directory) || !found.as_ref().is_none_or(may_read) {
            return Err(Errno::ACCESS.into());
        }
        Ok(())
    }

    /// Opens the file to be read, if there is one.
    ///
    /// # Errors
    /// It may not be read, or is a link.
    pub fn open_file(&self) -> io::Result<Option<File>> {
        // Whatever may have taken the place of a file must not block.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.directory, &self.name, flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            result => Ok(Some(File::from(result?))),
        }
    }

    /// Makes a file beside it, in place of one that an earlier process may have left unfinished.
    pub fn create_new(&self) -> io::Result<File> {
        self.discard_new()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.directory, self.suffixed(".new"), flags, Mode::from(0o600))?;
        Ok(File::from(file))
    }

    /// Removes that file, if there is one.
    pub fn discard_new(&self) -> io::Result<()> {
        match unlinkat(&self.directory, self.suffixed(".new"), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Puts that file, once it is on the disk, in the place of the file. After a failure, either is
    /// there.
    pub fn commit_new(&self, file: &File) -> io::Result<()> {
        fsync(file)?;
        renameat(&self.directory, self.suffixed(".new"), &self.directory, &self.name)?;
        self.sync()
    }

    /// Renames the file to one with `.KIND-N` behind its name that did not exist. Returns the
    /// latter's path.
    ///
    /// # Errors
    /// It cannot be renamed, or there are too many such files.
    pub fn set_aside(&self, kind: &str) -> io::Result<PathBuf> {
        for number in 1..=ASIDE_MAX {
            let name = self.suffixed(&format!(".{kind}-{number}"));
            match self.rename_to_new(&name) {
                Err(Errno::EXIST) => {}
                result => {
                    result?;
                    self.sync()?;
                    return Ok(self.path.with_file_name(name));
                }
            }
        }
        Err(io::Error::other(format!("{ASIDE_MAX} of them are there already: remove some")))
    }

    fn rename_to_new(&self, name: &OsStr) -> Result<(), Errno> {
        let Self { directory, name: from, .. } = self;
        match renameat_with(directory, from, directory, name, RenameFlags::NOREPLACE) {
            // The file system knows no flags; the lock keeps other trackers away.
            Err(Errno::INVAL) => match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => renameat(directory, from, directory, name),
                Err(error) => Err(error),
            },
            result => result,
        }
    }

    /// Some file systems cannot sync a directory, and need not.
    fn sync(&self) -> io::Result<()> {
        match fsync(&self.directory) {
            Err(Errno::INVAL) => Ok(()),
            result => Ok(result?),
        }
    }

    fn suffixed(&self, suffix: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(suffix);
        name
    }
}

impl AsFd for StateDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Ids {
    /// Whether the mode bits of what `found` is about grant these rights (of three bits).
    fn may(self, rights: u32, found: &Stat) -> bool {
        let shift = match () {
            () if found.st_uid == self.user => 6,
            () if found.st_gid == self.group => 3,
            () => 0,
        };
        found.st_mode >> shift & rights == rights
    }
}

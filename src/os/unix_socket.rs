//! Unix sockets to listen on: files that may exist already, and that outlive the process.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use annulus_ring::Listener;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with,
};

use super::Ids;

/// To connect takes the right to write: the owner and the group have it.
const MODE: u32 = 0o660;

/// The file of a Unix socket that this process has made. It is removed on drop, unless another
/// program's file has replaced it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Listens at `path` with `count` listeners over one socket, whose file belongs to `owner` if
    /// one is given. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Whatever the calls fail with; `AddrInUse` if another program listens there, `AlreadyExists`
    /// if the file is not a socket.
    pub(crate) fn bind(
        path: &Path,
        count: usize,
        owner: Option<Ids>,
    ) -> io::Result<(SocketFile, Vec<Listener>)> {
        let address = SocketAddrUnix::new(path)?;
        let socket = unbound(SocketFlags::CLOEXEC)?;
        // The file is created with the mode of the socket, so at no time others may connect.
        File::from(fcntl_dupfd_cloexec(&socket, 0)?)
            .set_permissions(Permissions::from_mode(MODE))?;
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                remove_unless_in_use(path, &address)?;
                bind(&socket, &address)?;
            }
            result => result?,
        }
        let made = fs::symlink_metadata(path)?;
        let file = SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) };
        // The umask may have removed the group's right.
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        if let Some(Ids { user, group }) = owner {
            chown(path, Some(user), Some(group))?;
        }
        Ok((file, Listener::listen_unix(socket, count)?))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_ours {
            // Without the right to remove it, the next program that listens there replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn unbound(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Removes the socket file at `path` if nobody listens on it.
fn remove_unless_in_use(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    // A full queue belongs to a program that listens; non-blocking: it is not waited for.
    let trial = unbound(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    match connect(&trial, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(error @ (Errno::ACCESS | Errno::PERM)) => Err(error.into()),
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}

//! Unix sockets to listen on: files, which may be there already, and outlive who made them.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::listener::{BACKLOG, Listener};
use crate::power::Ids;

/// Who may connect, which takes the right to write: its user and group.
const MODE: u32 = 0o660;

/// The file of a listening Unix socket that this process has made. It is removed with this, unless
/// somebody else's has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`, with `count` listeners over one socket, whose file belongs to `owner`
    /// if one is given. A socket that is there already is replaced if nobody listens on it any
    /// more.
    ///
    /// # Errors
    /// Whatever the calls fail with; `AddrInUse` if somebody listens there, `AlreadyExists` if
    /// there is a file that is no socket.
    pub fn bind(
        path: &Path,
        count: usize,
        owner: Option<Ids>,
    ) -> io::Result<(SocketFile, Vec<Listener>)> {
        let address = SockAddr::unix(path)?;
        let socket = unbound()?;
        // What the file begins with, so that at no time anybody else may connect.
        File::from(OwnedFd::from(socket.try_clone()?))
            .set_permissions(Permissions::from_mode(MODE))?;
        match socket.bind(&address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_unless_in_use(path, &address)?;
                socket.bind(&address)?;
            }
            result => result?,
        }
        let made = fs::symlink_metadata(path)?;
        let file = SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) };
        // The process's mask may have taken the group's right away.
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        if let Some(Ids { user, group }) = owner {
            chown(path, Some(user), Some(group))?;
        }
        socket.listen(BACKLOG)?;
        let sockets: io::Result<Vec<Socket>> = (1..count).map(|_| socket.try_clone()).collect();
        let sockets = sockets?.into_iter().chain([socket]);
        Ok((file, sockets.map(|socket| Listener::over_unix(socket, count > 1)).collect()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_ours {
            // Where this process may not any more, whoever listens there next does it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn unbound() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM, None)
}

/// Removes the socket at `path`, if it is one that nobody listens on.
fn remove_unless_in_use(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let trial = unbound()?;
    // A full queue is somebody's too, and not to be waited for.
    trial.set_nonblocking(true)?;
    match trial.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}

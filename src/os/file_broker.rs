//! The file broker: a process that goes on opening the files of the configuration when the tracker
//! has become another user. Certificates are renewed every other month, and their keys usually stay
//! readable by root only.
//!
//! Why a process. Descriptors that were opened before would show the old files, as new ones replace
//! them by a rename or a changed link. Directories that were opened before lead to the new files,
//! but not past their permissions nor, from a chroot, along links. And a tracker that keeps the
//! capability to read any file, or a thread of it that does, has it for an attacker, too. A
//! separate process shares no memory with the tracker, listens to nothing but its channel, and
//! answers one request: for the file of this number, in the list it was started with. So an
//! attacker gains nothing from it that the tracker was not given anyway.
//!
//! The tracker executes its own program (/proc/self/exe, which works even after the file was
//! replaced or deleted) while it still is root: the broker inherits no memory and, of the
//! descriptors, only its end of the channel, as standard input. It becomes the same user as the
//! tracker, so that it owns nothing of root's, and keeps only the capability to read any file; with
//! Landlock it can read and do nothing else. Links may lead anywhere: they are the operator's, and
//! change with each renewal. The broker opens files and never reads them: the tracker gets the
//! descriptor. The tracker starts from these files, too: what it can read at the start it can read
//! later.
//!
//! It ends when the channel is closed, so with the tracker, however that ends. (The kernel's signal
//! at a parent's death would be sent by the tracker, and Landlock takes signals to others from it.)
//! The tracker's signals are blocked in it, as a terminal or systemd may send them to both. If it
//! ends early, the tracker lacks the privileges to start another and says so in the log.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::set_name;

use super::channel::Channel;
use super::landlock::{self, LandlockRights};
use super::privileges::{Ids, drop_privileges};

use crate::limits::FILE_BROKER_TIMEOUT_S;

/// The first argument of the broker. Its user, its group, whether to use Landlock, and the paths of
/// its files follow.
pub const FILE_BROKER: &str = "--file-broker";

const TIMEOUT: Duration = Duration::from_secs(FILE_BROKER_TIMEOUT_S);

/// The first message of a broker that works. Any other is why it does not.
const READY: &[u8] = b"ready";

/// The tracker's end of it.
#[derive(Debug)]
pub struct FileBroker {
    paths: Vec<PathBuf>,
    process: Arc<BrokerProcess>,
    channel: Channel,
    /// Requests that were sent. Each has its number, so that a late response to one that has timed
    /// out is not taken for that to another.
    requests: Cell<u32>,
}

impl FileBroker {
    /// Starts a broker of the files at `paths`, which runs as `ids`. This process must be root.
    ///
    /// # Errors
    /// It cannot be executed, or cannot drop its privileges.
    pub(super) fn start(
        paths: Vec<PathBuf>,
        ids: Ids,
        landlock: bool,
    ) -> anyhow::Result<FileBroker> {
        let (channel, theirs) = Channel::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("annulus")
            .args([FILE_BROKER, &ids.user.to_string(), &ids.group.to_string()])
            .arg(landlock.to_string())
            .args(&paths)
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("/proc/self/exe cannot be executed (is /proc mounted?)")?;
        // Before Linux 5.3 there is none.
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        let process = Arc::new(BrokerProcess { child: Mutex::new(child), pidfd });
        channel.set_timeout(TIMEOUT);
        let mut message = [0; 1024];
        let (length, _) = channel.receive(&mut message)?;
        match &message[..length.min(1024)] {
            READY => Ok(FileBroker { paths, process, channel, requests: Cell::new(0) }),
            [] => bail!("it has ended ({})", process.ended().unwrap_or_default()),
            why => bail!("{}", String::from_utf8_lossy(why)),
        }
    }

    pub(super) fn process(&self) -> Arc<BrokerProcess> {
        Arc::clone(&self.process)
    }

    /// Gives it [`FILE_BROKER_TIMEOUT_S`] for everything that is requested from now on.
    pub(super) fn reset_timeout(&self) {
        self.channel.set_timeout(TIMEOUT);
    }

    /// Has it open one of its files.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        let index = self.paths.iter().position(|known| known == path);
        let index = index.ok_or_else(|| io::Error::other("the file broker was not given it"))?;
        let number = self.requests.get().wrapping_add(1);
        self.requests.set(number);
        let request = message(number, index as u32);
        self.channel.send(&request, None).map_err(|error| self.explain(&error))?;
        loop {
            let mut response = [0; 8];
            let received = self.channel.receive(&mut response);
            let (length, file) = received.map_err(|error| self.explain(&error))?;
            if length != response.len() {
                return Err(self.explain(&ErrorKind::BrokenPipe.into()));
            }
            match (parts(response), file) {
                ((to, _), _) if to != number => {}
                (_, Some(file)) => return Ok(File::from(file)),
                ((_, NOT_A_FILE), None) => return Err(not_a_file()),
                ((_, errno), None) => return Err(io::Error::from_raw_os_error(errno as i32)),
            }
        }
    }

    /// Why there is no response.
    fn explain(&self, error: &io::Error) -> io::Error {
        if error.kind() == ErrorKind::WouldBlock {
            let what = format!(
                "it was not opened within the {FILE_BROKER_TIMEOUT_S} seconds that all files \
                 together have"
            );
            return io::Error::new(ErrorKind::TimedOut, what);
        }
        let how = self.process.ended().map_or(String::new(), |how| format!(" ({how})"));
        let what = format!("the file broker has ended{how}: restart annulus");
        io::Error::new(ErrorKind::BrokenPipe, what)
    }
}

/// The broker's process, as its parent sees it.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Mutex<Child>,
    pidfd: Option<OwnedFd>,
}

impl BrokerProcess {
    /// A descriptor that is readable once the process has ended, if the kernel has such.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// How it has ended, if it has.
    pub fn ended(&self) -> Option<String> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            // The kernel keeps no status if the tracker was started with SIGCHLD ignored.
            Err(_) => Some("its exit status is unknown".to_owned()),
        }
    }
}

/// The program of the broker, with the arguments behind [`FILE_BROKER`].
pub fn run_file_broker(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let stdin = io::stdin();
    let parsed = match parse(arguments) {
        Some(parsed) if socket_type(&stdin) == Ok(SocketType::SEQPACKET) => parsed,
        _ => {
            eprintln!("annulus: {FILE_BROKER} is how annulus starts itself to read files");
            return ExitCode::from(2);
        }
    };
    let (ids, use_landlock, paths) = parsed;
    let channel = Channel::over(stdin);
    // Instead of "exe", which it was started by.
    let _ = set_name(c"annulus-broker");
    let dropped = drop_privileges(Some(ids), true);
    if use_landlock {
        // The tracker is refused the same and says so.
        let readable = &[PathBuf::from("/")];
        let _ = landlock::restrict(LandlockRights { readable, ..LandlockRights::default() });
    }
    match dropped {
        Ok(()) if channel.send(READY, None).is_ok() => serve(&channel, &paths),
        Ok(()) => {}
        Err(error) => drop(channel.send(format!("{error:#}").as_bytes(), None)),
    }
    ExitCode::SUCCESS
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<(Ids, bool, Vec<PathBuf>)> {
    let mut next = || arguments.next()?.into_string().ok();
    let (user, group) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let use_landlock = next()?.parse().ok()?;
    Some((Ids { user, group }, use_landlock, arguments.map(PathBuf::from).collect()))
}

/// Opens what is requested, until the other end is closed or sends anything else.
fn serve<F: AsFd>(channel: &Channel<F>, paths: &[PathBuf]) {
    let mut request = [0; 8];
    while let Ok((8, _)) = channel.receive(&mut request) {
        let (number, index) = parts(request);
        let opened = match paths.get(index as usize) {
            Some(path) => open_file(path),
            None => Err(Errno::INVAL.into()),
        };
        let errno = opened.as_ref().err().and_then(io::Error::raw_os_error);
        let response = message(number, errno.map_or(NOT_A_FILE, |errno| errno as u32));
        if channel.send(&response, opened.as_ref().ok().map(File::as_fd)).is_err() {
            break;
        }
    }
}

/// In place of an errno: the path does not lead to a regular file.
const NOT_A_FILE: u32 = 0;

/// A request: its number, and the index of a path. Or a response: the number of the request, and an
/// errno if no file comes with it.
fn message(number: u32, other: u32) -> [u8; 8] {
    (u64::from(other) << 32 | u64::from(number)).to_ne_bytes()
}

fn parts(message: [u8; 8]) -> (u32, u32) {
    let both = u64::from_ne_bytes(message);
    (both as u32, (both >> 32) as u32)
}

/// Opens a regular file. Anything else is refused: a pipe or a device could block for ever.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(not_a_file());
    }
    File::open(path)
}

fn not_a_file() -> io::Error {
    io::Error::other("it is not a file")
}

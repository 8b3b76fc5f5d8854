//! The process that goes on opening the files of the configuration when the tracker has become
//! another user: certificates are renewed every other month, and their keys, as what renews
//! them leaves them, are for root alone.
//!
//! Why a process. Descriptors that were opened before would show the old files, as new ones
//! take their places by a rename or a changed link. Directories that were opened before lead
//! to the new files, but not past their rights, nor, from a chroot, along links. And a tracker
//! that keeps the capability to read any file, or a thread of it that does, has it for whoever
//! takes the tracker over. A process apart shares no memory with it and listens to nobody but
//! it, and to one question: for the file of this number, in a list that it was born with. So
//! all that can be had from it is what the tracker was given anyway.
//!
//! It is split off while the tracker still is root and has opened nothing. It keeps the
//! capability to read any file, and gives up all else like the tracker: it is the same user
//! then, so that it owns nothing of root's, and with Landlock it can read and do nothing else.
//! Where links lead is the operator's affair, and moves with each renewal, so it may follow
//! them anywhere. It only opens; what it has opened goes to the tracker as a descriptor, and
//! it never holds a byte of a key. The tracker also starts from what it opened: what can be
//! read at the start can be read later.
//!
//! It ends with the tracker, whose end of the channel is closed then, however it ends. (The
//! kernel's signal at a parent's death would be one that the tracker sends, and signals to
//! others are among what Landlock takes from it.) SIGTERM and SIGHUP, which a terminal or
//! systemd may send to both, are blocked here as they are in the tracker. If it ends before, nobody
//! is left who could start another; the tracker, which is its parent, is told by SIGCHLD and says
//! so.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use annulus_ring::{Attendant, Channel, Ids, attend, give_up_power};

use super::files::{not_a_file, open};
use super::landlock;
use crate::limits::KEEPER_PATIENCE_S;

const PATIENCE: Duration = Duration::from_secs(KEEPER_PATIENCE_S);

/// What it could not do, of one that cannot begin.
const COMPLAINT_BYTES_MAX: usize = 1024;

/// Stands for no error, but something that is not a file.
const NOT_A_FILE: u32 = 0;
/// EINVAL of Linux, on every architecture.
const EINVAL: u32 = 22;

/// The tracker's end of it.
#[derive(Debug)]
pub struct Keeper {
    paths: Vec<PathBuf>,
    process: Arc<Attendant>,
    channel: Channel,
    /// How many questions were put. Each has its number, so that an answer that comes when
    /// nobody waits for it any more is not taken for another's.
    asked: Cell<u32>,
}

impl Keeper {
    /// Splits off a keeper of the files at `paths`, which acts for `ids`. To be called while
    /// this process is root and has one thread.
    ///
    /// # Errors
    /// It cannot be had, or cannot give up its power.
    pub(super) fn start(paths: Vec<PathBuf>, ids: Ids, landlock: bool) -> Result<Keeper, String> {
        let begin = |channel: &Channel| {
            let complaint = give_up_power(Some(ids), true).err().map(|error| error.to_string());
            if landlock {
                // If it is refused here, it is to the tracker too, which says so.
                let _ = landlock::restrict(&[PathBuf::from("/")], &[]);
            }
            let told = channel.send(complaint.as_deref().unwrap_or("ready").as_bytes(), None);
            if complaint.is_none() && told.is_ok() {
                serve(channel, &paths);
            }
        };
        let failed = |why: String| format!("the keeper of the files cannot start: {why}");
        let (process, channel) =
            attend(c"annulus-keeper", begin).map_err(|error| failed(error.to_string()))?;
        channel.set_patience(PATIENCE);
        let mut told = [0; COMPLAINT_BYTES_MAX];
        let (bytes, _) = channel.receive(&mut told).map_err(|error| failed(error.to_string()))?;
        let process = Arc::new(process);
        match &told[..bytes.min(COMPLAINT_BYTES_MAX)] {
            b"ready" => Ok(Keeper { paths, process, channel, asked: Cell::new(0) }),
            complaint => Err(failed(String::from_utf8_lossy(complaint).into_owned())),
        }
    }

    /// Its process.
    pub(crate) fn process(&self) -> Arc<Attendant> {
        Arc::clone(&self.process)
    }

    /// Gives it [`KEEPER_PATIENCE_S`] for all that it is asked for from now on.
    pub(crate) fn renew_patience(&self) {
        self.channel.set_patience(PATIENCE);
    }

    /// Has it open one of its files.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        let index = self.paths.iter().position(|known| known == path);
        let index =
            index.ok_or_else(|| io::Error::other("the keeper of the files has none such"))?;
        self.ask(index as u32)
    }

    fn ask(&self, index: u32) -> io::Result<File> {
        let number = self.asked.get().wrapping_add(1);
        self.asked.set(number);
        self.channel.send(&message(number, index), None).map_err(|error| self.failed(&error))?;
        loop {
            let mut answer = [0; 8];
            match self.channel.receive(&mut answer).map_err(|error| self.failed(&error))? {
                (8, file) => {
                    let (to, errno) = parts(answer);
                    match file {
                        _ if to != number => {}
                        Some(file) => return Ok(File::from(file)),
                        None if errno == NOT_A_FILE => return Err(not_a_file()),
                        None => return Err(io::Error::from_raw_os_error(errno as i32)),
                    }
                }
                _ => return Err(self.failed(&ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Why it has not answered.
    fn failed(&self, error: &io::Error) -> io::Error {
        if error.kind() == ErrorKind::WouldBlock {
            let what = format!(
                "it was not opened within the {KEEPER_PATIENCE_S} seconds that all files together \
                 have"
            );
            return io::Error::new(ErrorKind::TimedOut, what);
        }
        let how = self.process.ended().map_or(String::new(), |status| format!(" ({status})"));
        let what = format!("the keeper of the files has ended{how}: restart annulus");
        io::Error::new(ErrorKind::BrokenPipe, what)
    }
}

/// Opens what is asked for, until the other end is gone or says what is no question.
fn serve(channel: &Channel, paths: &[PathBuf]) {
    let mut question = [0; 8];
    while let Ok((8, _)) = channel.receive(&mut question) {
        let (number, index) = parts(question);
        let opened = match paths.get(index as usize) {
            Some(path) => open(path)
                .map_err(|error| error.raw_os_error().map_or(NOT_A_FILE, |errno| errno as u32)),
            None => Err(EINVAL),
        };
        let answer = message(number, opened.as_ref().err().copied().unwrap_or_default());
        let file = opened.as_ref().ok().map(File::as_fd);
        if channel.send(&answer, file).is_err() {
            break;
        }
    }
}

/// A question: its number, and the file's. Or an answer: the question's number, and an errno.
fn message(number: u32, other: u32) -> [u8; 8] {
    (u64::from(other) << 32 | u64::from(number)).to_ne_bytes()
}

fn parts(message: [u8; 8]) -> (u32, u32) {
    let both = u64::from_ne_bytes(message);
    (both as u32, (both >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::thread;

    use super::{Channel, EINVAL, File, NOT_A_FILE, PathBuf, message, parts, serve};

    /// What a keeper of these says to each of the questions.
    fn answers(paths: &[PathBuf], questions: &[&[u8]]) -> Vec<Option<(u32, u32, String)>> {
        let (ours, theirs) = Channel::pair().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let theirs = theirs;
                serve(&theirs, paths);
            });
            let ask = |question: &&[u8]| {
                ours.send(question, None).ok()?;
                let mut answer = [0; 8];
                let (bytes, file) = ours.receive(&mut answer).ok()?;
                let mut text = String::new();
                file.map(|it| File::from(it).read_to_string(&mut text).unwrap());
                let (number, errno) = parts(answer);
                (bytes == 8).then_some((number, errno, text))
            };
            let answers = questions.iter().map(ask).collect();
            drop(ours);
            answers
        })
    }

    #[test]
    fn only_listed_files_are_opened() {
        let path = std::env::temp_dir().join(format!("keeper-{}", std::process::id()));
        fs::write(&path, "kept").unwrap();
        let missing = path.with_extension("none");
        let paths = [path.clone(), missing, std::env::temp_dir()];
        let found = answers(
            &paths,
            &[
                &message(7, 0),
                &message(8, 1),
                &message(9, 2),
                &message(10, 3),
                &message(11, u32::MAX),
                &message(u32::MAX, 0),
                b"/etc/passwd",
                &message(12, 0),
            ],
        );
        fs::remove_file(path).unwrap();
        let no_file = || String::new();
        let expected = [
            Some((7, 0, "kept".to_string())),
            Some((8, 2, no_file())),
            Some((9, NOT_A_FILE, no_file())),
            Some((10, EINVAL, no_file())),
            Some((11, EINVAL, no_file())),
            Some((u32::MAX, 0, "kept".to_string())),
            // What is no question ends it.
            None,
            None,
        ];
        assert_eq!(found, expected);
    }
}

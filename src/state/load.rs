//! Reading the state file into the swarms, by all cores.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use annulus_swarm::{Ages, Entries, InfoHash, Restored, Swarms, TorrentEntry};

use super::format::{
    BLOCK_BYTES_MAX, StateError, StateHeader, StatePart, StateReader, StateTotals, check_totals,
};
use super::peers;
use crate::clock::Clock;
use crate::log;
use crate::os::StateDirectory;

/// What was read at the start.
#[derive(Debug, Default)]
pub struct LoadedState {
    /// The header of the file, and its bytes; `None` if none was read.
    pub read: Option<(StateHeader, u64)>,
    /// Why nothing may be written: the file cannot be used, and neither moved aside.
    pub obstacle: Option<String>,
}

/// How the file is read.
pub struct StateLoader<'a> {
    pub directory: &'a StateDirectory,
    /// Makes empty swarms.
    pub empty: &'a dyn Fn() -> Swarms,
    /// Whether a torrent is to be kept.
    pub serves: &'a (dyn Fn(&InfoHash) -> bool + Sync),
    pub clock: Clock,
}

impl StateLoader<'_> {
    /// The swarms that the file has, or empty ones. Logs what was read, or why it was not. A file
    /// that cannot be used is moved aside.
    pub fn load(&self) -> (Swarms, LoadedState) {
        let path = self.directory.path().display();
        let read = match self.directory.open_file() {
            Ok(None) => {
                log::info(format_args!("state: {path} does not exist: starting without peers"));
                return ((self.empty)(), LoadedState::default());
            }
            Ok(Some(file)) => self.read(&file),
            Err(error) => Err(StateError::Io(error)),
        };
        match read {
            Ok((swarms, read)) => (swarms, LoadedState { read: Some(read), obstacle: None }),
            Err(error) => {
                let obstacle = self.set_aside(&error);
                ((self.empty)(), LoadedState { read: None, obstacle })
            }
        }
    }

    fn read(&self, file: &File) -> Result<(Swarms, (StateHeader, u64)), StateError> {
        let began = self.clock.now();
        let (reader, header) = StateReader::begin(file)?;
        let unix_s = Clock::unix_s();
        let written_unix_s = header.written_unix_s();
        let elapsed_s = u32::try_from(unix_s.saturating_sub(written_unix_s).max(0));
        let StateHeader { tick_s, phase_s, .. } = header;
        let ages = Ages { tick_s, phase_s, elapsed_s: elapsed_s.unwrap_or(u32::MAX) };
        let now_s = self.clock.now_s();
        let mut swarms = (self.empty)();
        swarms.align_ticks(&ages, now_s);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let merge = |entry: &TorrentEntry<'_>| match (self.serves)(&entry.info_hash) {
            true => swarms.restore(entry, &ages, now_s, |_, _| true),
            false => Restored { refused: entry.peer_count() as u64, ..Restored::default() },
        };
        let (_, restored) = read_entries(reader, threads, merge)?;
        let took = self.clock.now().saturating_sub(began);
        let path = self.directory.path().display();
        let totals = swarms.totals();
        let Restored { expired, refused, .. } = restored;
        let left_out = [(expired, "expired"), (refused, "not to be stored")];
        let left_out = left_out.iter().filter(|(count, _)| *count > 0);
        let left_out: String =
            left_out.map(|(count, why)| format!("; {} left out: {why}", peers(*count))).collect();
        let age = match unix_s.checked_sub(written_unix_s) {
            Some(age_s @ 0..) => format!("written {age_s} s ago"),
            _ => "written in the future, by a clock ahead of this one".to_owned(),
        };
        log::info(format_args!(
            "state: {} torrent{} and {} from {path}, {age}, in {:.3} s{left_out}",
            totals.torrents,
            if totals.torrents == 1 { "" } else { "s" },
            peers(totals.peers),
            took.as_secs_f64()
        ));
        let bytes = file.metadata().map_or(0, |it| it.len());
        Ok((swarms, (header, bytes)))
    }

    /// Moves the file aside. If that fails, returns why nothing may be written.
    fn set_aside(&self, why: &StateError) -> Option<String> {
        let kind = match why {
            StateError::Io(_) => "unreadable",
            StateError::Foreign => "foreign",
            StateError::Newer(_) => "newer",
            StateError::Damaged { .. } => "damaged",
        };
        let path: &Path = self.directory.path();
        let about = format!("{}: {why}", path.display());
        match self.directory.set_aside(kind) {
            Ok(aside) => {
                let aside = aside.display();
                log::error(format_args!(
                    "state: {about}: moved to {aside}, starting without peers"
                ));
                None
            }
            Err(error) => {
                let obstacle = format!(
                    "{about}; it cannot be moved aside ({error}), and is not overwritten: move it \
                     away and restart annulus"
                );
                log::error(format_args!("state: starting without peers: {obstacle}"));
                Some(obstacle)
            }
        }
    }
}

/// What the threads share: the reader, and how the reading has ended.
struct SharedReader<R> {
    reader: StateReader<R>,
    end: Option<Result<StateTotals, StateError>>,
}

/// What one thread has read.
#[derive(Default)]
struct ThreadCounts {
    entries: u64,
    peers: u64,
    restored: Restored,
}

/// Has `merge` called for all entries, by this number of threads.
///
/// # Errors
/// The file is not to be used, which may be known only after most of its entries were merged.
pub fn read_entries<R: Read + Send>(
    reader: StateReader<R>,
    threads: usize,
    merge: impl Fn(&TorrentEntry<'_>) -> Restored + Sync,
) -> Result<(StateTotals, Restored), StateError> {
    let shared = Mutex::new(SharedReader { reader, end: None });
    let work = || read_blocks(&shared, &merge);
    let counts = thread::scope(|scope| {
        // If a thread cannot be started, there are fewer.
        let others: Vec<_> = (1..threads)
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut sum = work();
        for other in others {
            let counts = other.join().unwrap_or_default();
            sum.entries += counts.entries;
            sum.peers += counts.peers;
            sum.restored += counts.restored;
        }
        sum
    });
    let end = shared.into_inner().unwrap_or_else(PoisonError::into_inner).end;
    let totals = end.unwrap_or(Err(StateError::Damaged { at: 0, what: "no end" }))?;
    check_totals(totals, counts.entries, counts.peers)?;
    Ok((totals, counts.restored))
}

fn read_blocks<R: Read>(
    shared: &Mutex<SharedReader<R>>,
    merge: &(impl Fn(&TorrentEntry<'_>) -> Restored + Sync),
) -> ThreadCounts {
    let lock = || -> MutexGuard<'_, _> { shared.lock().unwrap_or_else(PoisonError::into_inner) };
    let mut counts = ThreadCounts::default();
    let mut entries = Vec::with_capacity(BLOCK_BYTES_MAX);
    loop {
        let mut locked = lock();
        if locked.end.is_some() {
            return counts;
        }
        let seal = match locked.reader.next_part(&mut entries) {
            Ok(StatePart::Block(seal)) => seal,
            Ok(StatePart::End(totals)) => {
                locked.end = Some(Ok(totals));
                return counts;
            }
            Err(error) => {
                locked.end = Some(Err(error));
                return counts;
            }
        };
        drop(locked);
        let merged = seal.check(&entries).and_then(|()| {
            Entries::new(&entries).try_for_each(|entry| {
                let entry = entry.map_err(|error| seal.damage(error))?;
                counts.entries += 1;
                counts.peers += entry.peer_count() as u64;
                counts.restored += merge(&entry);
                Ok(())
            })
        });
        if let Err(error) = merged {
            lock().end = Some(Err(error));
            return counts;
        }
    }
}

//! The state file in the life of the process: read before the workers start, written after they
//! have ended.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use annulus_swarm::{InfoHash, Swarms};
use anyhow::{Context, bail};

use super::workers::new_swarms;
use crate::access_list::{SharedAccessList, serves};
use crate::clock::Clock;
use crate::config::Config;
use crate::limits::{STATE_LOCK_S, STATE_STOP_S};
use crate::log;
use crate::os::{Notifier, Signal, Signals, StateDirectory};
use crate::state::{LoadedState, StateLoader, StateReport, StateSaver, StateSaverParts};

/// How often to try again to lock the directory.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How often to look whether a write goes on.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

const EXTENSION: Duration = Duration::from_secs(STATE_STOP_S);

/// Waits until no other tracker uses the directory: one that is about to end may still have to
/// write its state, which this one is to read. Returns false at a signal to stop.
///
/// # Errors
/// It is used for too long: by mistake.
pub(super) fn lock(
    directory: Option<&StateDirectory>,
    config: &Config,
    (signals, notifier): (&Signals, &Notifier),
) -> anyhow::Result<bool> {
    let Some(directory) = directory.filter(|directory| !directory.try_lock()) else {
        return Ok(true);
    };
    let path = directory.path().display();
    let wait_s = config.connections.shutdown_timeout_s + STATE_LOCK_S;
    log::info(format_args!("state: waiting for the tracker to end that uses {path}"));
    notifier.extend(Duration::from_secs(u64::from(wait_s)) + EXTENSION, "waiting for the state");
    let clock = Clock::start();
    while clock.now_s() < wait_s {
        if signals.wait(None, Some(LOCK_PAUSE)) == Some(Signal::Stop) {
            return Ok(false);
        }
        if directory.try_lock() {
            return Ok(true);
        }
    }
    bail!(
        "state: {path}: another process, probably another annulus, uses its directory: stop it, or \
         give each tracker a directory of its own with state.file"
    )
}

/// The swarms that the file has, and what will write them again; empty ones without a directory.
pub(super) fn load(
    directory: Option<StateDirectory>,
    config: &Config,
    access_list: Option<&SharedAccessList>,
    clock: Clock,
) -> (Arc<Swarms>, Option<Arc<StateSaver>>) {
    let Some(directory) = directory else { return (Arc::new(new_swarms(config)), None) };
    let list = access_list.map(SharedAccessList::cache);
    let serves = |info_hash: &InfoHash| serves(list.as_ref(), info_hash);
    let loader = StateLoader {
        directory: &directory,
        empty: &|| new_swarms(config),
        serves: &serves,
        clock,
    };
    let (swarms, LoadedState { read, obstacle }) = loader.load();
    let swarms = Arc::new(swarms);
    let report = StateReport {
        path: directory.path().to_owned(),
        interval_s: config.state.interval_s,
        written_unix_s: read.map(|(header, _)| header.written_unix_s()),
        node: read.map_or(0, |(header, _)| header.node),
        bytes: read.map_or(0, |(_, bytes)| bytes),
        ..StateReport::default()
    };
    let saver = StateSaver::new(StateSaverParts {
        directory,
        swarms: Arc::clone(&swarms),
        clock,
        interval: Duration::from_secs(u64::from(config.state.interval_s)),
        report,
        obstacle,
    });
    (swarms, Some(Arc::new(saver)))
}

/// Starts the thread that writes the swarms every interval.
pub(super) fn start(saver: &Arc<StateSaver>) -> anyhow::Result<()> {
    saver.start().context("cannot start the thread of the state")
}

/// Writes the swarms after the workers have ended. Another signal to stop ends it early.
pub(super) fn save(saver: &Arc<StateSaver>, signals: &Signals, notifier: &Notifier) {
    // One that came while the workers ended is not about this.
    let _ = signals.wait(None, Some(Duration::ZERO));
    let (thread, done) = match saver.save_last() {
        Ok(started) => started,
        Err(error) => {
            return log::error(format_args!("state: cannot start a thread to write: {error}"));
        }
    };
    let mut seen = None;
    while !thread.is_finished() {
        let steps = Some(saver.steps());
        if steps != seen {
            notifier.extend(EXTENSION, "writing the swarms to disk");
            seen = steps;
        }
        if signals.wait(Some(done.as_fd()), Some(PROGRESS_PERIOD)) == Some(Signal::Stop) {
            let path = saver.path().display();
            return log::error(format_args!(
                "state: a second signal to stop came while it was written: {path} is as it was"
            ));
        }
    }
}

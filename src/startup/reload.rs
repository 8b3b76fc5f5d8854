//! The files beside the configuration: read at the start, and again by a thread of its own, for
//! which no other thread waits.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annulus_ring::Waker;
use anyhow::{Context, anyhow};

use super::reload_progress::{ReloadDelay, ReloadProgress};
use crate::access_list::{AccessList, ListChange, LoadedAccessList, SharedAccessList};
use crate::clock::Clock;
use crate::config::{AccessConfig, AccessMode, TlsConfig};
use crate::limits::RELOAD_S_MAX;
use crate::log;
use crate::os::{FileSource, Notifier, ReloadHealth};
use crate::tls::{Certificates, LoadedCertificates, TlsContext};

/// How often, and with which pauses, to check whether the workers have dropped a replaced list: a
/// second in all.
const RETIRE_TRIES: u32 = 200;
const RETIRE_PAUSE: Duration = Duration::from_millis(5);

/// TLS as configured, or `None` if no address is for it.
pub(super) fn load_tls(
    config: &TlsConfig,
    files: &FileSource,
) -> anyhow::Result<Option<TlsContext>> {
    if config.listen.is_empty() {
        warn(config.warning().as_slice());
        return Ok(None);
    }
    let LoadedCertificates { certificates, warnings } =
        Certificates::load(&config.certificates, files, Clock::unix_s())
            .map_err(|mistakes| anyhow!(mistakes.join("\n")))?;
    warn(&warnings);
    for certificate in certificates.describe() {
        log::info(format_args!("{certificate}"));
    }
    TlsContext::new(certificates, config.post_quantum).map(Some).map_err(anyhow::Error::msg)
}

pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        log::warning(format_args!("{warning}"));
    }
}

/// Logs why what was to be reloaded stays as it is.
fn keep(what: &str, mistakes: &[String]) {
    for mistake in mistakes {
        log::error(format_args!("{what} kept: {mistake}"));
    }
}

/// The access list as configured, or `None` if all torrents are served.
pub(super) fn load_access_list(
    config: &AccessConfig,
    files: &FileSource,
) -> anyhow::Result<Option<SharedAccessList>> {
    let allows = match config.mode {
        AccessMode::Off => return Ok(None),
        AccessMode::Allow => true,
        AccessMode::Deny => false,
    };
    let LoadedAccessList { list, warnings } =
        AccessList::load(config, files).map_err(|mistakes| anyhow!(mistakes.join("\n")))?;
    warn(&warnings);
    warn(list.warning(config).as_slice());
    let access = SharedAccessList::new(list, allows);
    access.note_load(Clock::unix_s());
    log::info(format_args!("access list: {}", access.describe()));
    Ok(Some(access))
}

/// What a reload reads, and where it takes effect.
pub(super) struct Reloader {
    pub(super) files: FileSource,
    pub(super) tls: Option<(Arc<TlsContext>, TlsConfig)>,
    pub(super) access: Option<(Arc<SharedAccessList>, AccessConfig)>,
    pub(super) wakers: Vec<Waker>,
    pub(super) state: Arc<ReloadThread>,
}

/// The thread that reloads, as the main thread sees it.
pub(super) struct ReloadThread {
    progress: ReloadProgress,
    pub(super) notifier: Notifier,
    /// What the service manager shows of a tracker that serves.
    status: String,
    pub(super) reload_health: Arc<ReloadHealth>,
}

impl ReloadThread {
    pub(super) fn new(
        notifier: Notifier,
        status: String,
        reload_health: Arc<ReloadHealth>,
    ) -> ReloadThread {
        ReloadThread { progress: ReloadProgress::default(), notifier, status, reload_health }
    }

    /// Has a reload begin, after the one that runs, if any.
    pub(super) fn request(&self) {
        if self.progress.request() {
            log::warning(format_args!(
                "the reload that was given up still hangs: the next begins when that has ended"
            ));
        }
    }

    /// Logs that a reload takes long, and gives it up in the end. To be called about once a second
    /// while [`ReloadThread::are_busy`].
    pub(super) fn check(&self, now: Duration) {
        match self.progress.check(now) {
            None => {}
            Some(ReloadDelay::Slow(what)) => {
                log::warning(format_args!("the reload takes long: it is still reading the {what}"));
            }
            Some(ReloadDelay::Abandoned(what)) => {
                self.reload_health.note_reload_hangs(true);
                log::error(format_args!(
                    "reload given up: the {what} could not be read within {RELOAD_S_MAX} seconds \
                     of its begin: what was in use stays; see whether the disk of the files \
                     answers, and reload"
                ));
                self.notifier.try_ready(&self.status);
            }
        }
    }

    /// Whether a reload runs that was not given up.
    pub(super) fn are_busy(&self) -> bool {
        self.progress.is_busy()
    }

    /// Nothing takes effect after this. A thread that hangs ends with the process.
    pub(super) fn stop(&self) {
        self.progress.stop();
    }
}

impl Reloader {
    /// Starts the thread, which ends with the process.
    pub(super) fn start(self, clock: Clock) -> anyhow::Result<()> {
        let work = move || {
            let ReloadThread { progress, notifier, status, reload_health } = &*self.state;
            loop {
                progress.begin(|| clock.now());
                notifier.reloading();
                self.reload(progress);
                if progress.end() {
                    reload_health.note_reload_hangs(false);
                    log::info(format_args!(
                        "the reload that was given up has ended: nothing of it is used"
                    ));
                } else {
                    notifier.ready(status);
                }
            }
        };
        let thread = thread::Builder::new().name("reload".to_owned()).spawn(work);
        thread.map(drop).context("cannot start the thread for reloads")
    }

    fn reload(&self, progress: &ReloadProgress) {
        self.files.reset_timeout();
        if let Some((tls, config)) = &self.tls {
            progress.set_reading("certificates");
            if self.reload_certificates(progress, tls, config).is_none() {
                return;
            }
        }
        if let Some((access, config)) = &self.access {
            progress.set_reading("access list");
            self.reload_list(progress, access, config);
        }
        if self.tls.is_none() && self.access.is_none() {
            log::info(format_args!("nothing to reload"));
        }
    }

    /// Reads the certificates again, and serves the new ones if they are right. Returns `None` if the
    /// reload was given up meanwhile.
    fn reload_certificates(
        &self,
        progress: &ReloadProgress,
        tls: &TlsContext,
        config: &TlsConfig,
    ) -> Option<()> {
        let loaded = Certificates::load(&config.certificates, &self.files, Clock::unix_s());
        progress.apply(|| match loaded {
            Ok(LoadedCertificates { certificates, warnings }) => {
                warn(&warnings);
                let described = certificates.describe();
                // Replaced before it is logged: a client that connects after the line gets them.
                tls.replace(certificates);
                for certificate in described {
                    log::info(format_args!("certificates reloaded: {certificate}"));
                }
            }
            Err(mistakes) => keep("certificates", &mistakes),
        })
    }

    /// Reads the access list again, and applies the new one if it is right.
    fn reload_list(
        &self,
        progress: &ReloadProgress,
        access: &SharedAccessList,
        config: &AccessConfig,
    ) {
        let loaded = AccessList::load(config, &self.files).map(|loaded| {
            let change = access.change_to(&loaded.list);
            (loaded, change)
        });
        let replaced = progress.apply(|| match loaded {
            Ok((LoadedAccessList { list, warnings }, change)) => {
                warn(&warnings);
                if !may_replace(change, &list, config) {
                    return None;
                }
                let before = access.replace(list);
                access.note_load(Clock::unix_s());
                Some(before)
            }
            Err(mistakes) => {
                keep("access list", &mistakes);
                None
            }
        });
        if let Some(before) = replaced.flatten() {
            // Logged only when every worker has the new list and the old one's memory is free.
            retire(before, &self.wakers);
            let described = access.describe();
            progress.apply(|| log::info(format_args!("access list reloaded: {described}")));
        }
    }
}

/// Whether a list may replace the present one. Logs what is remarkable about the change.
fn may_replace(change: ListChange, list: &AccessList, config: &AccessConfig) -> bool {
    let file = format!("{}: access.file: {}", config.place, config.file.display());
    match change {
        ListChange::Ordinary => warn(list.warning(config).as_slice()),
        ListChange::MostLost { before, lost, after } => log::warning(format_args!(
            "{file}: from {before} info hashes to {after}: {lost} of the {before} are not listed \
             any more; if that is a mistake, mend the file and reload"
        )),
        ListChange::Emptied { before } => {
            log::warning(format_args!(
                "access list kept: {file}: no info hash is left of {before}, and no torrent would \
                 be served: mend the file and reload, or restart annulus if that is meant"
            ));
            return false;
        }
    }
    true
}

/// Waits until no worker has the list any more: to free a large one takes a millisecond, which this
/// thread should spend and no worker.
#[expect(clippy::disallowed_methods, reason = "the thread of the reloads may wait")]
fn retire(list: Arc<AccessList>, wakers: &[Waker]) {
    wakers.iter().for_each(Waker::wake);
    for _ in 0..RETIRE_TRIES {
        if Arc::strong_count(&list) == 1 {
            break;
        }
        thread::sleep(RETIRE_PAUSE);
    }
}

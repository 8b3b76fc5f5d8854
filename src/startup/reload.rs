//! The files beside the configuration: read at the start, and again when asked to, by a thread of
//! its own, for which nobody waits.

mod progress;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annulus_ring::Waker;
use anyhow::{Context, anyhow};

use crate::access_list::{AccessList, ListChange, LoadedAccessList, SharedAccessList};
use crate::clock::Clock;
use crate::config::{self, AccessMode};
use crate::limits::RELOAD_S_MAX;
use crate::log;
use crate::os::{FileSource, Notifier, ReloadHealth};
use crate::tls::{Certificates, LoadedCertificates, TlsContext};
use progress::{Late, Progress};

/// How often to look whether all workers have let go of what was replaced, and how long after:
/// a second in all.
const RETIRE_TRIES: u32 = 200;
const RETIRE_PAUSE: Duration = Duration::from_millis(5);

/// TLS as configured, or nothing where no address asks for it.
pub(super) fn secure(
    config: &config::TlsConfig,
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

/// Says what works, but should be looked into.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        log::warning(format_args!("{warning}"));
    }
}

/// Says why what was to be reloaded stays as it is.
fn keep(what: &str, mistakes: &[String]) {
    for mistake in mistakes {
        log::error(format_args!("{what} kept: {mistake}"));
    }
}

/// The access list as configured, or nothing where all torrents are served.
pub(super) fn restrict(
    config: &config::AccessConfig,
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

/// What reads the files again, and has what was read take effect.
pub(super) struct Reloader {
    pub(super) files: FileSource,
    pub(super) tls: Option<(Arc<TlsContext>, config::TlsConfig)>,
    pub(super) access: Option<(Arc<SharedAccessList>, config::AccessConfig)>,
    /// Wake the workers.
    pub(super) wakers: Vec<Waker>,
    pub(super) notifier: Arc<Notifier>,
    /// What the service manager shows of a tracker that serves.
    pub(super) status: Arc<str>,
    pub(super) reload_health: Arc<ReloadHealth>,
    pub(super) clock: Clock,
}

/// How reloads are asked for and watched.
pub(super) struct Reloads {
    progress: Arc<Progress>,
    notifier: Arc<Notifier>,
    status: Arc<str>,
    reload_health: Arc<ReloadHealth>,
}

impl Reloads {
    /// Has a reload begin, if one runs after that.
    pub(super) fn ask(&self) {
        if self.progress.ask() {
            log::warning(format_args!(
                "the reload that was given up still hangs: the next begins when that has ended"
            ));
        }
    }

    /// Says so if a reload takes too long, and gives it up in the end. To be called about once a
    /// second while [`Reloads::are_busy`].
    pub(super) fn watch(&self, now: Duration) {
        match self.progress.watch(now) {
            None => {}
            Some(Late::Slow(what)) => {
                log::warning(format_args!("the reload takes long: it is still reading the {what}"));
            }
            Some(Late::GivenUp(what)) => {
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

    /// Whether a reload is going on, and not given up.
    pub(super) fn are_busy(&self) -> bool {
        self.progress.is_busy()
    }

    /// Has nothing take effect any more. A thread that hangs is left to the end of the process.
    pub(super) fn stop(&self) {
        self.progress.stop();
    }
}

impl Reloader {
    /// Reads the files again whenever that is asked for, by a thread that ends with the process.
    pub(super) fn start(self) -> anyhow::Result<Reloads> {
        let progress = Arc::<Progress>::default();
        let reloads = Reloads {
            progress: Arc::clone(&progress),
            notifier: Arc::clone(&self.notifier),
            status: Arc::clone(&self.status),
            reload_health: Arc::clone(&self.reload_health),
        };
        let thread = thread::Builder::new().name("reload".to_owned());
        let thread = thread.spawn(move || {
            loop {
                progress.begin(|| self.clock.now());
                self.notifier.reloading();
                self.reload(&progress);
                if progress.end() {
                    self.reload_health.note_reload_hangs(false);
                    log::info(format_args!(
                        "the reload that was given up has ended: nothing of it is used"
                    ));
                } else {
                    self.notifier.ready(&self.status);
                }
            }
        });
        thread.context("cannot start the reloads' thread")?;
        Ok(reloads)
    }

    fn reload(&self, progress: &Progress) {
        self.files.reset_timeout();
        if let Some((tls, config)) = &self.tls {
            progress.read("certificates");
            if self.reload_certificates(progress, tls, config).is_none() {
                return;
            }
        }
        if let Some((access, config)) = &self.access {
            progress.read("access list");
            self.reload_list(progress, access, config);
        }
        if self.tls.is_none() && self.access.is_none() {
            log::info(format_args!("nothing to reload"));
        }
    }

    /// Reads the certificates again, and serves the new ones if nothing is wrong with them; `None`
    /// if it is too late for that.
    fn reload_certificates(
        &self,
        progress: &Progress,
        tls: &TlsContext,
        config: &config::TlsConfig,
    ) -> Option<()> {
        let loaded = Certificates::load(&config.certificates, &self.files, Clock::unix_s());
        progress.apply(|| match loaded {
            Ok(LoadedCertificates { certificates, warnings }) => {
                warn(&warnings);
                let described = certificates.describe();
                // What is said is true: whoever reads it gets the new ones.
                tls.replace(certificates);
                for certificate in described {
                    log::info(format_args!("certificates reloaded: {certificate}"));
                }
            }
            Err(mistakes) => keep("certificates", &mistakes),
        })
    }

    /// Reads the access list again, and goes by the new one if nothing is wrong with it.
    fn reload_list(
        &self,
        progress: &Progress,
        access: &SharedAccessList,
        config: &config::AccessConfig,
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
            // Whoever reads that it is done finds every worker at the new list, and the memory of
            // the old one given back.
            retire(before, &self.wakers);
            let described = access.describe();
            progress.apply(|| log::info(format_args!("access list reloaded: {described}")));
        }
    }
}

/// Says what is to be said of a list that is to take the place of another, and whether it may.
fn may_replace(change: ListChange, list: &AccessList, config: &config::AccessConfig) -> bool {
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

/// Waits until no worker has the list any more: the last to let go of a large one is a
/// millisecond at it, and that is better this thread.
fn retire(list: Arc<AccessList>, wakers: &[Waker]) {
    wakers.iter().for_each(Waker::wake);
    for _ in 0..RETIRE_TRIES {
        if Arc::strong_count(&list) == 1 {
            break;
        }
        thread::sleep(RETIRE_PAUSE);
    }
}

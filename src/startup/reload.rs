//! The files beside the configuration: read at the start, and again by a thread of its own, for
//! which no other thread waits.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annulus_ring::Waker;
use anyhow::{Context, anyhow};

use super::reload_thread::ReloadThread;
use crate::access_list::{AccessList, ListChange, LoadedAccessList, SharedAccessList};
use crate::clock::Clock;
use crate::config::{AccessConfig, AccessMode, TlsConfig};
use crate::log;
use crate::os::FileSource;
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
    pub(super) thread: Arc<ReloadThread>,
}

impl Reloader {
    /// Starts the thread, which ends with the process.
    pub(super) fn start(self) -> anyhow::Result<()> {
        let work = move || {
            loop {
                self.thread.begin();
                self.reload();
                self.thread.end();
            }
        };
        let thread = thread::Builder::new().name("reload".to_owned()).spawn(work);
        thread.map(drop).context("cannot start the thread for reloads")
    }

    fn reload(&self) {
        self.files.reset_timeout();
        if let Some((tls, config)) = &self.tls {
            self.thread.set_reading("certificates");
            if self.reload_certificates(tls, config).is_none() {
                return;
            }
        }
        if let Some((access, config)) = &self.access {
            self.thread.set_reading("access list");
            self.reload_list(access, config);
        }
        if self.tls.is_none() && self.access.is_none() {
            log::info(format_args!("nothing to reload"));
        }
    }

    /// Reads the certificates again, and serves the new ones if they are right. Returns `None` if
    /// the reload was given up meanwhile.
    fn reload_certificates(&self, tls: &TlsContext, config: &TlsConfig) -> Option<()> {
        let loaded = Certificates::load(&config.certificates, &self.files, Clock::unix_s());
        self.thread.apply(|| match loaded {
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
    fn reload_list(&self, access: &SharedAccessList, config: &AccessConfig) {
        let loaded = AccessList::load(config, &self.files).map(|loaded| {
            let change = access.change_to(&loaded.list);
            (loaded, change)
        });
        let replaced = self.thread.apply(|| match loaded {
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
            self.thread.apply(|| log::info(format_args!("access list reloaded: {described}")));
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

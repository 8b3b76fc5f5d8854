//! The files beside the configuration: read at the start, and again when asked to.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::crew::Crew;
use crate::access::{self, Access, AccessList, Succession};
use crate::config::{self, AccessMode};
use crate::files::Files;
use crate::log;
use crate::tls::{Certificates, Loaded, Tls};
use crate::worker::Clock;

/// How often to look whether all workers have let go of what was replaced, and how long after:
/// a second in all.
const RETIRE_TRIES: u32 = 200;
const RETIRE_PAUSE: Duration = Duration::from_millis(5);

/// TLS as configured, or nothing where no address asks for it.
pub(super) fn secure(config: &config::Tls, files: &Files) -> Result<Option<Tls>, String> {
    if config.listen.is_empty() {
        warn(config.warning().as_slice());
        return Ok(None);
    }
    let Loaded { certificates, warnings } =
        Certificates::load(&config.certificates, files, Clock::unix_s())
            .map_err(|mistakes| mistakes.join("\n"))?;
    warn(&warnings);
    for certificate in certificates.describe() {
        log::info(format_args!("{certificate}"));
    }
    Tls::new(certificates, config.post_quantum).map(Some)
}

/// Reads the certificates again, and serves the new ones if nothing is wrong with them.
pub(super) fn reload_certificates(tls: &Tls, config: &config::Tls, files: &Files) {
    match Certificates::load(&config.certificates, files, Clock::unix_s()) {
        Ok(Loaded { certificates, warnings }) => {
            warn(&warnings);
            let described = certificates.describe();
            // What is said is true: whoever reads it gets the new ones.
            tls.replace(certificates);
            for certificate in described {
                log::info(format_args!("certificates reloaded: {certificate}"));
            }
        }
        Err(mistakes) => keep("certificates", &mistakes),
    }
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
pub(super) fn restrict(config: &config::Access, files: &Files) -> Result<Option<Access>, String> {
    let allows = match config.mode {
        AccessMode::Off => return Ok(None),
        AccessMode::Allow => true,
        AccessMode::Deny => false,
    };
    let access::Loaded { list, warnings } =
        AccessList::load(config, files).map_err(|mistakes| mistakes.join("\n"))?;
    warn(&warnings);
    warn(list.warning(config).as_slice());
    let access = Access::new(list, allows);
    access.note_load(Clock::unix_s());
    log::info(format_args!("access list: {}", access.describe()));
    Ok(Some(access))
}

/// Reads the access list again, and goes by the new one if nothing is wrong with it.
pub(super) fn reload_list(access: &Access, config: &config::Access, files: &Files, crew: &Crew) {
    match AccessList::load(config, files) {
        Ok(access::Loaded { list, warnings }) => {
            warn(&warnings);
            let file = format!("{}: access.file: {}", config.place, config.file.display());
            match access.judge(&list) {
                Succession::Usual => warn(list.warning(config).as_slice()),
                Succession::MostLost { before, lost, after } => log::warning(format_args!(
                    "{file}: from {before} info hashes to {after}: {lost} of the {before} are not \
                     listed any more; if that is a mistake, mend the file and reload"
                )),
                Succession::Emptied { before } => {
                    log::warning(format_args!(
                        "access list kept: {file}: no info hash is left of {before}, and no \
                         torrent would be served: mend the file and reload, or restart annulus \
                         if that is meant"
                    ));
                    return;
                }
            }
            let before = access.replace(list);
            access.note_load(Clock::unix_s());
            // Whoever reads that it is done finds every worker at the new list, and the memory of
            // the old one given back.
            retire(before, crew);
            log::info(format_args!("access list reloaded: {}", access.describe()));
        }
        Err(mistakes) => keep("access list", &mistakes),
    }
}

/// Waits until no worker has the list any more: the last to let go of a large one is a
/// millisecond at it, and that is better this thread.
fn retire(list: Arc<AccessList>, crew: &Crew) {
    crew.iter().for_each(|(_, waker)| waker.wake());
    for _ in 0..RETIRE_TRIES {
        if Arc::strong_count(&list) == 1 {
            break;
        }
        thread::sleep(RETIRE_PAUSE);
    }
}

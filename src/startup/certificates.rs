//! The certificates that are served, as time passes.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::limits::CERTIFICATE_LOOK_S_MAX;
use crate::log;
use crate::tls::TlsContext;

/// Has the log say when a certificate has come near its end, or to it, and once a day from then
/// on, by a thread that ends with the process. What held at `told_unix_s` has been said.
pub(super) fn watch(tls: Arc<TlsContext>, mut told_unix_s: i64) -> io::Result<()> {
    let watch = move || {
        loop {
            thread::sleep(pause(&tls, told_unix_s));
            let now_unix_s = Clock::unix_s();
            for line in tls.certificates().new_warnings(told_unix_s, now_unix_s) {
                log::warning(format_args!("{line}"));
            }
            told_unix_s = now_unix_s;
        }
    };
    thread::Builder::new().name("certificates".to_owned()).spawn(watch).map(drop)
}

/// Until the next change that is known of, or for as long as another may go unnoticed.
fn pause(tls: &TlsContext, now_unix_s: i64) -> Duration {
    let change = tls.certificates().next_change(now_unix_s);
    let left = change.and_then(|change| u64::try_from(change - now_unix_s).ok());
    Duration::from_secs(left.map_or(CERTIFICATE_LOOK_S_MAX, |it| it.min(CERTIFICATE_LOOK_S_MAX)))
}

//! The thread that warns of certificates that are about to expire.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::limits::CERTIFICATE_LOOK_S_MAX;
use crate::log;
use crate::tls::TlsContext;

/// Logs when a certificate is about to expire or has expired, and once a day from then on. The
/// thread ends with the process. What held at `logged_unix_s` was logged already.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which only waits")]
pub(super) fn start(tls: Arc<TlsContext>, mut logged_unix_s: i64) -> io::Result<()> {
    let work = move || {
        loop {
            thread::sleep(pause(&tls, logged_unix_s));
            let now_unix_s = Clock::unix_s();
            for line in tls.certificates().new_warnings(logged_unix_s, now_unix_s) {
                log::warning(format_args!("{line}"));
            }
            logged_unix_s = now_unix_s;
        }
    };
    thread::Builder::new().name("certificates".to_owned()).spawn(work).map(drop)
}

/// Until the next change, but at most as long as a reload may go unnoticed.
fn pause(tls: &TlsContext, now_unix_s: i64) -> Duration {
    let change = tls.certificates().next_change(now_unix_s);
    let left = change.and_then(|change| u64::try_from(change - now_unix_s).ok());
    Duration::from_secs(left.map_or(CERTIFICATE_LOOK_S_MAX, |it| it.min(CERTIFICATE_LOOK_S_MAX)))
}

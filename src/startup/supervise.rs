//! What the main thread does while the workers serve: it waits for signals, and checks whatever may
//! hang or end. It never waits for any of that itself.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::reload_thread::ReloadThread;
use crate::admin::Health;
use crate::clock::Clock;
use crate::limits::CERTIFICATE_LOOK_S_MAX;
use crate::log;
use crate::metrics::Counters;
use crate::os::{BrokerProcess, Notifier, Signal, Signals};
use crate::tls::TlsContext;

/// How often it checks what no signal and no descriptor tells.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

pub(super) struct Supervisor {
    pub(super) signals: Signals,
    pub(super) reloads: Arc<ReloadThread>,
    /// The file broker, until its end is logged.
    pub(super) broker: Option<Arc<BrokerProcess>>,
    pub(super) tls: Option<Arc<TlsContext>>,
    /// When the certificates were last checked, in seconds since 1970.
    pub(super) checked_unix_s: i64,
    pub(super) counters: Vec<Arc<Counters>>,
    pub(super) clock: Clock,
}

impl Supervisor {
    /// Returns after a signal to stop, with what waits for further ones.
    pub(super) fn run(mut self) -> Signals {
        let mut watchdog = self.watchdog();
        loop {
            // The first check comes before a wait: the broker may have ended earlier.
            self.check_broker();
            let until_certificates = self.check_certificates();
            let now = self.clock.now();
            self.reloads.check();
            if let Some(watchdog) = &mut watchdog {
                let health = Health::of(&self.counters, self.clock.now_s());
                watchdog.feed(&self.reloads.notifier, now, health);
            }
            let pidfd = self.broker.as_deref().and_then(BrokerProcess::pidfd);
            let is_polled = self.broker.is_some() && pidfd.is_none()
                || watchdog.is_some()
                || self.reloads.is_busy();
            let until_watchdog = watchdog.as_ref().map(|it| it.timeout(now));
            let timeouts = [is_polled.then_some(CHECK_PERIOD), until_watchdog, until_certificates];
            match self.signals.wait(pidfd, timeouts.into_iter().flatten().min()) {
                Some(Signal::Stop) => break,
                Some(Signal::Reload) => self.reloads.request(),
                None => {}
            }
        }
        self.reloads.stop();
        self.signals
    }

    fn check_broker(&mut self) {
        if let Some(how) = self.broker.as_ref().and_then(|broker| broker.ended()) {
            self.broker = None;
            self.reloads.reload_health.note_broker_ended();
            log::error(format_args!(
                "the file broker has ended ({how}): the tracker goes on to serve, but certificates \
                 and access list cannot be read again, and the tracker lacks the privileges to \
                 start another: restart annulus"
            ));
        }
    }

    /// Logs which certificates are about to expire or have expired, at that time and once a day
    /// from then on. Returns the time until the next check.
    fn check_certificates(&mut self) -> Option<Duration> {
        let certificates = self.tls.as_ref()?.certificates();
        let now_unix_s = Clock::unix_s();
        for line in certificates.new_warnings(self.checked_unix_s, now_unix_s) {
            log::warning(format_args!("{line}"));
        }
        self.checked_unix_s = now_unix_s;
        let next = certificates.next_change(now_unix_s);
        let left_s = next.and_then(|next| u64::try_from(next - now_unix_s).ok());
        let left_s = left_s.unwrap_or(u64::MAX).min(CERTIFICATE_LOOK_S_MAX);
        Some(Duration::from_secs(left_s))
    }

    /// The service manager's watchdog, if it watches this process.
    fn watchdog(&self) -> Option<Watchdog> {
        let period = self.reloads.notifier.watchdog_period().unwrap_or_else(|error| {
            log::warning(format_args!("the service manager's watchdog is told nothing: {error}"));
            None
        })?;
        log::info(format_args!("the service manager's watchdog is told every {period:?}"));
        Some(Watchdog { period, due: self.clock.now(), starving: false })
    }
}

/// Tells the service manager's watchdog that the workers run, once a period and while they do.
struct Watchdog {
    period: Duration,
    due: Duration,
    /// A worker is stuck, and the log says so.
    starving: bool,
}

impl Watchdog {
    fn feed(&mut self, notifier: &Notifier, now: Duration, health: Health) {
        if let Health::Stuck { worker, silence_s } = health {
            // Fed at once when the worker runs again.
            self.due = now;
            if !mem::replace(&mut self.starving, true) {
                log::error(format_args!(
                    "worker {worker} is stuck for {silence_s} seconds: the service manager's \
                     watchdog is told nothing until it runs again, and will restart annulus"
                ));
            }
        } else if now >= self.due {
            self.starving = false;
            self.due = now + self.period;
            notifier.alive();
        } else {
            self.starving = false;
        }
    }

    /// The time until [`Watchdog::feed`] must be called again.
    fn timeout(&self, now: Duration) -> Duration {
        if self.starving { self.period } else { self.due.saturating_sub(now) }
    }
}

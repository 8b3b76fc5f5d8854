//! What the main thread does while the workers serve: it waits for signals, and sees whether
//! everything that may hang or end goes on. It never waits for any of that itself.

mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use super::reload::Reloads;
use crate::admin::Health;
use crate::clock::Clock;
use crate::log;
use crate::metrics::Counters;
use crate::os::{BrokerProcess, Notifier, ReloadHealth, Signal, Signals};
use watchdog::{Act, Watchdog};

/// How often it looks, while there is something that is not told by a signal.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Watch {
    pub(super) signals: Signals,
    pub(super) reloads: Reloads,
    /// The process that opens files, if there is one that has not ended yet, as far as is known.
    pub(super) broker: Option<Arc<BrokerProcess>>,
    pub(super) reload_health: Arc<ReloadHealth>,
    pub(super) notifier: Arc<Notifier>,
    pub(super) workers: Vec<Arc<Counters>>,
    pub(super) clock: Clock,
}

impl Watch {
    /// Goes on until a signal says to stop.
    pub(super) fn until_stop(mut self) {
        let mut watchdog = self.watchdog();
        loop {
            // What it may find is due at the first look already: the keeper may have ended before.
            self.look(watchdog.as_mut());
            let now = self.clock.now();
            let pause = watchdog.as_ref().map(|watchdog| watchdog.pause(now).min(PAUSE_MAX));
            // A broker without a pidfd is looked at once a second.
            let is_polled = self.broker.as_ref().is_some_and(|broker| broker.pidfd().is_none());
            let is_busy = self.reloads.are_busy() || is_polled;
            let pause = pause.or_else(|| is_busy.then_some(PAUSE_MAX));
            let pidfd = self.broker.as_deref().and_then(BrokerProcess::pidfd);
            match self.signals.wait(pidfd, pause) {
                Some(Signal::Stop) => break,
                Some(Signal::Reload) => self.reloads.ask(),
                None => {}
            }
        }
        self.reloads.stop();
    }

    fn look(&mut self, watchdog: Option<&mut Watchdog>) {
        let now = self.clock.now();
        self.reloads.watch(now);
        if let Some(status) = self.broker.as_ref().and_then(|broker| broker.ended()) {
            self.broker = None;
            self.reload_health.note_broker_ended();
            log::error(format_args!(
                "the file broker has ended ({status}): the tracker goes on to serve, but \
                 certificates and access list cannot be read again, and nobody is left with the \
                 rights to start another: restart annulus"
            ));
        }
        let Some(watchdog) = watchdog else { return };
        match watchdog.act(now, Health::of(&self.workers, self.clock.now_s())) {
            None => {}
            Some(Act::Feed) => self.notifier.alive(),
            Some(Act::Starve { worker, silence_s }) => log::error(format_args!(
                "worker {worker} is stuck for {silence_s} seconds: the service manager's watchdog \
                 is told nothing until it goes round, and will restart annulus"
            )),
        }
    }

    /// The service manager's watchdog, if it waits for this process.
    fn watchdog(&self) -> Option<Watchdog> {
        let period = self.notifier.watchdog_period().unwrap_or_else(|what| {
            log::warning(format_args!("the service manager's watchdog is told nothing: {what}"));
            None
        });
        let period = period?;
        log::info(format_args!("the service manager's watchdog is told every {period:?}"));
        Some(Watchdog::new(period, self.clock.now()))
    }
}

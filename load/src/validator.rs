//! One worker's validator: checks responses and counts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::body::{AnnounceContext, CheckedBody, check_announce, check_scrape};
use crate::client::{PendingRequest, Validator};
use crate::failure::{Failure, FailureKind, Warning, WarningCounts};
use crate::plan::LoadPlan;
use crate::request::{RequestKind, RequestTemplates};
use crate::schedule::ArrivalSchedule;
use crate::stats::LoadStats;
use crate::tls::TlsHandshake;

pub struct CountingValidator {
    pub plan: Arc<LoadPlan>,
    pub templates: Arc<RequestTemplates>,
    pub numwant: usize,
    pub only_ours: bool,
    /// This machine's address on connections where the plan has none.
    pub local: Option<IpAddr>,
    /// The same on the connection whose responses arrive.
    pub source: Option<IpAddr>,
    /// When they arrive.
    pub now_ns: u64,
    /// What was counted since the last report.
    pub stats: LoadStats,
    /// Requests with an outcome since the start.
    pub settled: u64,
}

impl CountingValidator {
    fn settle(&mut self, request: &PendingRequest) {
        self.settled += 1;
        self.stats.record_latency(self.now_ns.saturating_sub(request.due_ns));
    }

    /// Has the response to an announce of `peer` checked by what is known of it.
    pub fn check_announce<T>(&self, peer: u32, check: impl FnOnce(&AnnounceContext<'_>) -> T) -> T {
        let CountingValidator { plan, .. } = self;
        let known = |peer: SocketAddr| plan.contains(peer, self.local);
        check(&AnnounceContext {
            numwant: self.numwant,
            own: self.source.map(|ip| SocketAddr::new(ip, plan.port(peer))),
            known: self.only_ours.then_some(&known),
        })
    }

    /// Counts a request that has its outcome.
    pub fn count(&mut self, request: &PendingRequest, checked: Result<CheckedBody, Failure>) {
        self.settle(request);
        let stats = &mut self.stats;
        let (responses, entries) = match request.kind {
            RequestKind::Announce { .. } => (&mut stats.announces, &mut stats.peers),
            RequestKind::Scrape { .. } => (&mut stats.scrapes, &mut stats.torrents),
        };
        match checked {
            Ok(checked) => {
                *responses += 1;
                *entries += checked.entries;
                stats.warnings.add(&checked.warnings);
            }
            Err(failure) => stats.failures.count(failure),
        }
    }

    /// Counts up to `max` requests that were due by `end_ns` and cannot be sent any more. Returns
    /// how many there were.
    pub fn count_unsent(&mut self, schedule: &mut ArrivalSchedule, end_ns: u64, max: u64) -> u64 {
        let mut unsent = 0;
        while unsent < max
            && let Some(due_ns) = schedule.take(end_ns)
        {
            unsent += 1;
            self.stats.record_latency(end_ns - due_ns);
            self.stats.failures.count(FailureKind::NeverSent.into());
        }
        self.settled += unsent;
        unsent
    }

    /// Counts a request whose response did not arrive in time.
    pub fn count_lost(&mut self, request: &PendingRequest) {
        self.settle(request);
        self.stats.lost += 1;
    }
}

impl Validator for CountingValidator {
    fn on_response(&mut self, request: &PendingRequest, body: &[u8], warnings: WarningCounts) {
        self.stats.warnings.add(&warnings);
        let CountingValidator { plan, templates, .. } = &*self;
        let checked = match request.kind {
            RequestKind::Announce { peer, .. } => {
                self.check_announce(peer, |context| check_announce(body, context))
            }
            RequestKind::Scrape { peer } => check_scrape(body, |hash| {
                templates.scraped(plan, peer).any(|torrent| plan.hash(torrent) == hash)
            }),
        };
        self.count(request, checked);
    }

    fn on_failure(&mut self, request: &PendingRequest, failure: Failure) {
        self.settle(request);
        self.stats.failures.count(failure);
    }

    fn on_other_failure(&mut self, failure: Failure) {
        self.stats.failures.count(failure);
    }

    fn on_warning(&mut self, warning: Warning) {
        self.stats.warnings.count(warning);
    }

    fn on_handshake(&mut self, handshake: TlsHandshake) {
        match handshake {
            TlsHandshake::Full => self.stats.full_handshakes += 1,
            TlsHandshake::Resumed => self.stats.resumed_handshakes += 1,
        }
    }
}

//! One worker's validator: checks responses and counts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::body::{AnnounceContext, check_announce, check_scrape};
use crate::client::{PendingRequest, Validator};
use crate::failure::{Failure, Warning, WarningCounts};
use crate::plan::LoadPlan;
use crate::request::{RequestKind, RequestTemplates};
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
}

impl Validator for CountingValidator {
    fn on_response(&mut self, request: &PendingRequest, body: &[u8], warnings: WarningCounts) {
        self.settle(request);
        let CountingValidator { plan, templates, stats, .. } = self;
        stats.warnings.add(&warnings);
        let (checked, responses, entries) = match request.kind {
            RequestKind::Announce { peer, .. } => {
                let known = |peer: SocketAddr| plan.contains(peer, self.local);
                let context = AnnounceContext {
                    numwant: self.numwant,
                    own: self.source.map(|ip| SocketAddr::new(ip, plan.port(peer))),
                    known: self.only_ours.then_some(&known),
                };
                (check_announce(body, &context), &mut stats.announces, &mut stats.peers)
            }
            RequestKind::Scrape { peer } => {
                let requested = |hash: &[u8]| {
                    templates.scraped(plan, peer).any(|torrent| plan.hash(torrent) == hash)
                };
                (check_scrape(body, requested), &mut stats.scrapes, &mut stats.torrents)
            }
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

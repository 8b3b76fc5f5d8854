//! One worker's judge: has answers checked, and counts.

use std::net::IpAddr;
use std::sync::Arc;

use super::check::{Announced, Peer, check_announce, check_scrape};
use super::client::{Asked, Judge};
use super::fault::{Oddities, Oddity, Wrong};
use super::plan::Plan;
use super::request::{Question, Requests};
use super::tally::Tally;
use crate::tls::Resumption;

/// Counts what becomes of questions.
pub struct Counter {
    plan: Arc<Plan>,
    requests: Arc<Requests>,
    numwant: usize,
    only_ours: bool,
    /// Our address where the plan gives none.
    pub local: Option<IpAddr>,
    /// The address of the connection whose answers come.
    pub from: Option<IpAddr>,
    /// When they come.
    pub now_ns: u64,
    /// What was counted since it was last taken.
    pub tally: Tally,
    /// Questions that were answered or failed, since the start.
    pub settled: u64,
}

impl Counter {
    /// For answers to the questions of this plan.
    pub fn new(
        plan: Arc<Plan>,
        requests: Arc<Requests>,
        numwant: usize,
        only_ours: bool,
    ) -> Counter {
        Counter {
            plan,
            requests,
            numwant,
            only_ours,
            local: None,
            from: None,
            now_ns: 0,
            tally: Tally::default(),
            settled: 0,
        }
    }

    fn settle(&mut self, asked: &Asked) {
        self.settled += 1;
        self.tally.latencies.record(self.now_ns.saturating_sub(asked.due_ns));
    }
}

impl Judge for Counter {
    fn answered(&mut self, asked: &Asked, body: &[u8], oddities: Oddities) {
        self.settle(asked);
        let Counter { plan, requests, tally, .. } = self;
        tally.oddities.add(&oddities);
        let judged = match asked.question {
            Question::Announce { member, .. } => {
                let known = |peer: Peer| plan.knows(peer, self.local);
                let announced = Announced {
                    numwant: self.numwant,
                    own: self.from.map(|ip| Peer { ip, port: plan.port(member) }),
                    known: self.only_ours.then_some(&known),
                };
                check_announce(body, &announced).map(|answer| {
                    tally.announces += 1;
                    tally.peers += answer.peers;
                    tally.oddities.add(&answer.oddities);
                })
            }
            Question::Scrape { member } => {
                let asked = |hash: &[u8]| {
                    requests.scraped(plan, member).any(|torrent| plan.hash(torrent) == hash)
                };
                check_scrape(body, asked).map(|answer| {
                    tally.scrapes += 1;
                    tally.torrents += answer.torrents;
                    tally.oddities.add(&answer.oddities);
                })
            }
        };
        if let Err(wrong) = judged {
            tally.faults.note(wrong);
        }
    }

    fn failed(&mut self, asked: &Asked, wrong: Wrong) {
        self.settle(asked);
        self.tally.faults.note(wrong);
    }

    fn odd(&mut self, oddity: Oddity) {
        self.tally.oddities.note(oddity);
    }

    fn disturbed(&mut self, wrong: Wrong) {
        self.tally.faults.note(wrong);
    }

    fn shaken(&mut self, handshake: Resumption) {
        match handshake {
            Resumption::Full => self.tally.full_handshakes += 1,
            Resumption::Resumed => self.tally.resumed_handshakes += 1,
        }
    }
}

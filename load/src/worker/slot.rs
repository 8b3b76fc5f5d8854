//! The place of one connection after another, and what it asks.

use std::net::IpAddr;

use annulus_ring::{Key, Socket};

use crate::client::Client;
use crate::random::Random;
use crate::request::Question;

/// A place for one connection at a time.
pub(super) struct Slot {
    pub(super) client: Client,
    pub(super) walk: Walk,
    pub(super) socket: Option<Socket>,
    pub(super) generation: u32,
    /// Where the connection begins, if that is known.
    pub(super) from: Option<IpAddr>,
    /// When connecting began.
    pub(super) dialed_ns: u64,
    pub(super) dialing: bool,
    /// A receive is in the kernel.
    pub(super) armed: bool,
    /// An owned send is in the kernel.
    pub(super) sending: bool,
    /// It is to be closed as soon as nothing of it is in the kernel: with RST if `Some(true)`.
    pub(super) closing: Option<bool>,
    /// No connection could be made: it waits a little.
    pub(super) resting: bool,
    /// It is among those that may be given an arrival.
    pub(super) free: bool,
    /// It is among those to be gone on with in this turn.
    pub(super) touched: bool,
}

impl Slot {
    pub(super) fn new(walk: Walk) -> Slot {
        Slot {
            client: Client::default(),
            walk,
            socket: None,
            generation: 0,
            from: None,
            dialed_ns: 0,
            dialing: false,
            armed: false,
            sending: false,
            closing: None,
            resting: false,
            free: false,
            touched: false,
        }
    }

    pub(super) fn key(&self, at: u32) -> Key {
        Key::new(at, self.generation)
    }
}

/// What one slot asks: its own peers in turn, and scrapes in between.
pub(super) struct Walk {
    random: Random,
    first: u32,
    step: u32,
    members: u32,
    at: u32,
    started: bool,
    scrapes_percent: u32,
}

impl Walk {
    /// For slot `number` of `slots`, of all workers together.
    pub(super) fn new(
        number: u32,
        slots: u32,
        members: u32,
        scrapes_percent: u32,
        seed: u64,
    ) -> Walk {
        let first = number % members;
        let random =
            Random::seeded(seed ^ (u64::from(number) + 1).wrapping_mul(0xd1b5_4a32_d192_ed03));
        Walk { random, first, step: slots, members, at: first, started: true, scrapes_percent }
    }

    /// The next question.
    pub(super) fn question(&mut self) -> Question {
        if self.scrapes_percent > 0 && self.random.below(100) < self.scrapes_percent {
            return Question::Scrape { member: self.random.below(self.members) };
        }
        let (member, started) = (self.at, self.started);
        match self.at.checked_add(self.step).filter(|next| *next < self.members) {
            Some(next) => self.at = next,
            None => {
                self.at = self.first;
                self.started = false;
            }
        }
        Question::Announce { member, started }
    }
}

#[cfg(test)]
mod tests {
    use super::{Question, Walk};

    #[test]
    fn slots_share_the_peers() {
        let mut seen = vec![0; 100];
        for number in 0..7 {
            let mut walk = Walk::new(number, 7, 100, 0, 1);
            loop {
                match walk.question() {
                    Question::Announce { member, started: true } => seen[member as usize] += 1,
                    Question::Announce { member, started: false } => {
                        assert_eq!(member, number);
                        break;
                    }
                    Question::Scrape { .. } => panic!("a scrape"),
                }
            }
        }
        assert_eq!(seen, [1; 100]);
    }

    #[test]
    fn more_slots_than_peers_announce_all_the_same() {
        let mut walk = Walk::new(12, 50, 5, 0, 1);
        assert_eq!(walk.question(), Question::Announce { member: 2, started: true });
        assert_eq!(walk.question(), Question::Announce { member: 2, started: false });
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        let questions = |seed| {
            let mut walk = Walk::new(3, 8, 1000, 30, seed);
            (0..1000).map(|_| walk.question()).collect::<Vec<_>>()
        };
        assert_eq!(questions(1), questions(1));
        assert_ne!(questions(1), questions(2));
        let scrapes =
            questions(1).iter().filter(|it| matches!(it, Question::Scrape { .. })).count();
        assert!((220..380).contains(&scrapes), "{scrapes}");
    }
}

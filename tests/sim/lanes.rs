//! Completions between the moment they happen and the turn that hands them out.
//!
//! A kernel promises little about their order: only what belongs to one receive, one
//! listener or one owned send keeps it. Each of these is a lane; lanes overtake each other.

use std::collections::{BTreeMap, VecDeque};

use annulus_ring::{DatagramIndex, Event, ListenerIndex};
use annulus_swarm::Random;

/// What keeps its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Ring,
    Listener(ListenerIndex),
    Receive(usize),
    Send(usize),
    Datagrams(DatagramIndex),
    DatagramSend(DatagramIndex),
    Stale,
}

/// Completions that wait for their turn.
#[derive(Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<Lane, VecDeque<Event>>,
}

impl Lanes {
    pub(crate) fn push(&mut self, lane: Lane, event: Event) {
        self.lanes.entry(lane).or_default().push_back(event);
    }

    /// Takes out what this turn hands out: of every lane some from its front. `held`: the
    /// chance in a thousand that a lane's next event waits; `all_but_none`: whether
    /// something must come.
    pub(crate) fn take(
        &mut self,
        held: u32,
        reordered: bool,
        all_but_none: bool,
        random: &mut Random,
    ) -> Vec<Event> {
        let mut taken: Vec<VecDeque<Event>> = Vec::new();
        for lane in self.lanes.values_mut() {
            let ready = match held {
                0 => lane.len(),
                _ => (0..lane.len()).find(|_| random.below(1000) < held).unwrap_or(lane.len()),
            };
            taken.push(lane.drain(..ready).collect());
        }
        if all_but_none && taken.iter().all(VecDeque::is_empty) && !taken.is_empty() {
            let number = random.below(taken.len() as u32) as usize;
            let lane = self.lanes.values_mut().nth(number);
            taken[number].extend(lane.and_then(VecDeque::pop_front));
        }
        self.lanes.retain(|_, lane| !lane.is_empty());
        taken.retain(|lane| !lane.is_empty());
        if !reordered {
            return taken.into_iter().flatten().collect();
        }
        let mut events = Vec::new();
        while !taken.is_empty() {
            let number = random.below(taken.len() as u32) as usize;
            events.extend(taken[number].pop_front());
            if taken[number].is_empty() {
                taken.swap_remove(number);
            }
        }
        events
    }
}

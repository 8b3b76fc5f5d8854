//! Deadlines of connections, to the second.
//!
//! Buckets of one second each, doubly linked through the slots, so that setting and removing are a
//! few writes. A deadline that moves away is not moved here: its slot is due at the earlier time
//! and is set again.

use std::mem;

/// Buckets, and so seconds that the wheel reaches ahead; later deadlines are due early.
const BUCKETS: u32 = 128;
/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct WheelLink {
    next: u32,
    previous: u32,
    /// The second of the bucket that holds the slot, or `NONE`.
    at_s: u32,
}

const UNLINKED: WheelLink = WheelLink { next: NONE, previous: NONE, at_s: NONE };

/// The deadlines of all slots.
pub(super) struct TimerWheel {
    heads: [u32; BUCKETS as usize],
    links: Vec<WheelLink>,
    /// All buckets up to this second have been emptied.
    done_s: u32,
}

impl TimerWheel {
    pub(super) fn new(now_s: u32) -> TimerWheel {
        TimerWheel { heads: [NONE; BUCKETS as usize], links: Vec::new(), done_s: now_s }
    }

    /// Makes `slot` due at `deadline_s` or earlier.
    pub(super) fn set(&mut self, slot: u32, deadline_s: u32) {
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, UNLINKED);
        }
        let at_s = deadline_s.clamp(self.done_s + 1, self.done_s + BUCKETS - 1);
        let present = self.links[index].at_s;
        if present != NONE {
            if present <= at_s {
                return;
            }
            self.remove(slot);
        }
        let head = &mut self.heads[(at_s % BUCKETS) as usize];
        self.links[index] = WheelLink { next: *head, previous: NONE, at_s };
        if *head != NONE {
            self.links[*head as usize].previous = slot;
        }
        *head = slot;
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let Some(link) = self.links.get_mut(slot as usize) else { return };
        let WheelLink { next, previous, at_s } = mem::replace(link, UNLINKED);
        if at_s == NONE {
            return;
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous == NONE {
            self.heads[(at_s % BUCKETS) as usize] = next;
        } else {
            self.links[previous as usize].next = next;
        }
    }

    /// Removes every slot that is due, and appends it to `due`.
    pub(super) fn advance(&mut self, now_s: u32, due: &mut Vec<u32>) {
        let steps = now_s.saturating_sub(self.done_s).min(BUCKETS);
        for second in now_s - steps + 1..=now_s {
            let mut slot = mem::replace(&mut self.heads[(second % BUCKETS) as usize], NONE);
            while slot != NONE {
                let link = mem::replace(&mut self.links[slot as usize], UNLINKED);
                due.push(slot);
                slot = link.next;
            }
        }
        self.done_s = self.done_s.max(now_s);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use annulus_swarm::Random;

    #[test]
    fn is_due_on_time_after_any_sets_and_removals() {
        for seed in 0..50 {
            let mut random = Random::seeded(seed);
            let mut wheel = TimerWheel::new(1000);
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            let mut now_s = 1000;
            for _ in 0..2000 {
                let slot = random.below(40);
                match random.below(4) {
                    0 => {
                        wheel.remove(slot);
                        model.remove(&slot);
                    }
                    1 => {
                        now_s += random.below(5) * random.below(60);
                        let mut due = Vec::new();
                        wheel.advance(now_s, &mut due);
                        for slot in due {
                            // Early is allowed, lost is not: early ones are set again.
                            match model.get(&slot) {
                                Some(&deadline) if deadline > now_s => wheel.set(slot, deadline),
                                found => {
                                    assert!(found.is_some(), "seed {seed}: {slot} was due twice");
                                    model.remove(&slot);
                                }
                            }
                        }
                        let late = model.values().any(|&deadline| deadline <= now_s);
                        assert!(!late, "seed {seed}: one is late at {now_s}: {model:?}");
                    }
                    _ => {
                        let deadline = now_s + 1 + random.below(400);
                        wheel.set(slot, deadline);
                        model.insert(slot, deadline);
                    }
                }
            }
        }
    }
}

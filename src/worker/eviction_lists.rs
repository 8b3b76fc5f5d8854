//! Connections that may be evicted, in the order in which they began to wait.
//!
//! The lists are doubly linked through the slots, so that moving a connection is a few writes.

use std::mem;

/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvictionList {
    /// Connections that have had a response, and whose client sends nothing.
    Idle = 0,
    /// Connections whose handshake or first request is not complete.
    Unanswered = 1,
    /// Connections that have had their last response, and whose client does not close them.
    Lingering = 2,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct ListLink {
    next: u32,
    previous: u32,
}

const UNLINKED: ListLink = ListLink { next: NONE, previous: NONE };

/// The lists of all slots.
pub(super) struct EvictionLists {
    links: Vec<ListLink>,
    heads: [u32; 3],
    tails: [u32; 3],
    /// See [`EvictionLists::take_changed`].
    changed: bool,
}

impl EvictionLists {
    pub(super) fn new() -> EvictionLists {
        EvictionLists { links: Vec::new(), heads: [NONE; 3], tails: [NONE; 3], changed: false }
    }

    /// Whether a list may have another first slot since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        mem::take(&mut self.changed)
    }

    /// Moves `slot` to the end of a list.
    pub(super) fn append(&mut self, slot: u32, list: EvictionList) {
        self.remove(slot);
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, UNLINKED);
        }
        let previous = mem::replace(&mut self.tails[list as usize], slot);
        self.links[index] = ListLink { next: NONE, previous };
        match previous {
            NONE => {
                self.heads[list as usize] = slot;
                self.changed = true;
            }
            previous => self.links[previous as usize].next = slot,
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let Some(link) = self.links.get_mut(slot as usize) else { return };
        let ListLink { next, previous } = mem::replace(link, UNLINKED);
        // Without neighbours it is in no list, or alone in one.
        match previous {
            NONE => {
                self.heads.iter_mut().filter(|head| **head == slot).for_each(|at| *at = next);
                self.changed = true;
            }
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => {
                self.tails.iter_mut().filter(|tail| **tail == slot).for_each(|at| *at = previous)
            }
            next => self.links[next as usize].previous = previous,
        }
    }

    pub(super) fn first(&self, list: EvictionList) -> Option<u32> {
        Some(self.heads[list as usize]).filter(|&slot| slot != NONE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use annulus_swarm::Random;

    #[test]
    fn keeps_the_order_whatever_comes_and_goes() {
        for seed in 0..50 {
            let mut random = Random::seeded(seed);
            let mut order = EvictionLists::new();
            let mut model = [VecDeque::new(), VecDeque::new()];
            for _ in 0..2000 {
                let slot = random.below(12);
                model.iter_mut().for_each(|list| list.retain(|&other| other != slot));
                match random.below(3) {
                    0 => order.remove(slot),
                    1 => {
                        order.append(slot, EvictionList::Idle);
                        model[0].push_back(slot);
                    }
                    _ => {
                        order.append(slot, EvictionList::Unanswered);
                        model[1].push_back(slot);
                    }
                }
                for (list, model) in
                    [EvictionList::Idle, EvictionList::Unanswered].into_iter().zip(&model)
                {
                    assert_eq!(order.first(list), model.front().copied(), "seed {seed}");
                }
            }
            // The whole of both, from the front.
            for (list, model) in
                [EvictionList::Idle, EvictionList::Unanswered].into_iter().zip(model)
            {
                for slot in model {
                    assert_eq!(order.first(list), Some(slot), "seed {seed}");
                    order.remove(slot);
                }
                assert_eq!(order.first(list), None);
            }
        }
    }
}

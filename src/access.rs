//! Which torrents are served: a list of info hashes that are allowed, or of those that are not.
//!
//! [`Access`] is what all workers share: what the list means, and the list, which can be
//! replaced while they serve. [`AccessListCache`] is a worker's own, which looks once a turn of the loop
//! whether there is another list; so nothing that one core writes is read for every request.

mod file;
mod list;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use annulus_swarm::InfoHash;
pub use file::Loaded;
pub use list::AccessList;

/// The list that all workers go by.
#[derive(Debug)]
pub struct Access {
    shelf: Arc<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    /// Whether the list is of those that are served, not of the others.
    allows: bool,
    current: RwLock<Arc<AccessList>>,
    /// How often the list was replaced. Changed after the list, so that who sees a new number
    /// gets a list that is at least as new.
    generation: AtomicU64,
    /// When the list was read, in seconds since 1970.
    loaded_unix_s: AtomicI64,
}

/// What there is of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether its torrents are those that are served, not the others.
    pub allows: bool,
    /// Info hashes.
    pub entries: u64,
    /// When it was read, in seconds since 1970.
    pub loaded_unix_s: i64,
}

/// What it means that another list takes the place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// Nothing of note.
    Usual,
    /// More than half of the info hashes would not be listed any more.
    MostLost {
        /// How many there are.
        before: usize,
        /// How many of them would be gone.
        lost: usize,
        /// How many there would be.
        after: usize,
    },
    /// Nothing would be served any more: seldom what somebody wants who lists what is served, but
    /// what a file says that is being written, or whose source has failed.
    Emptied {
        /// How many info hashes there are.
        before: usize,
    },
}

impl Access {
    /// Serves the torrents of `list` only, or, unless it `allows`, all but those.
    pub fn new(list: AccessList, allows: bool) -> Access {
        let current = RwLock::new(Arc::new(list));
        let (generation, loaded_unix_s) = (AtomicU64::new(0), AtomicI64::new(0));
        Access { shelf: Arc::new(Shelf { allows, current, generation, loaded_unix_s }) }
    }

    /// Has another list go, for each worker from its next turn on. Returns the one before,
    /// which is in use until all workers have had that turn.
    pub fn replace(&self, list: AccessList) -> Arc<AccessList> {
        let mut current = self.shelf.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, Arc::new(list));
        drop(current);
        self.shelf.generation.fetch_add(1, Ordering::Release);
        before
    }

    /// What it means that `next` is to take the present list's place.
    pub fn judge(&self, next: &AccessList) -> Succession {
        let list = self.shelf.list();
        let (before, after) = (list.len(), next.len());
        if self.shelf.allows && after == 0 && before > 0 {
            return Succession::Emptied { before };
        }
        match list.missing_from(next) {
            lost if lost > before / 2 => Succession::MostLost { before, lost, after },
            _ => Succession::Usual,
        }
    }

    /// Notes when the present list was read.
    pub fn note_load(&self, unix_s: i64) {
        self.shelf.loaded_unix_s.store(unix_s, Ordering::Relaxed);
    }

    /// What there is.
    pub fn standing(&self) -> Standing {
        let Shelf { allows, loaded_unix_s, .. } = &*self.shelf;
        Standing {
            allows: *allows,
            entries: self.shelf.list().len() as u64,
            loaded_unix_s: loaded_unix_s.load(Ordering::Relaxed),
        }
    }

    /// A worker's own handle.
    pub fn gate(&self) -> AccessListCache {
        // In this order: see [`Shelf::generation`].
        let generation = self.shelf.generation.load(Ordering::Acquire);
        AccessListCache { list: self.shelf.list(), generation, shelf: Arc::clone(&self.shelf) }
    }

    /// What there is, as in "3 info hashes allowed".
    pub fn describe(&self) -> String {
        let len = self.shelf.list().len();
        let hashes = if len == 1 { "info hash" } else { "info hashes" };
        let verdict = if self.shelf.allows { "allowed" } else { "denied" };
        format!("{len} {hashes} {verdict}")
    }
}

impl Shelf {
    fn list(&self) -> Arc<AccessList> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Judges the torrents that one worker is asked for.
#[derive(Debug)]
pub struct AccessListCache {
    shelf: Arc<Shelf>,
    list: Arc<AccessList>,
    generation: u64,
}

impl AccessListCache {
    /// Goes by the list of this moment; whether that is another than before.
    pub fn renew(&mut self) -> bool {
        let generation = self.shelf.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return false;
        }
        self.generation = generation;
        self.list = self.shelf.list();
        true
    }

    /// Whether a torrent is served.
    pub fn lets_in(&self, info_hash: &InfoHash) -> bool {
        self.list.contains(info_hash) == self.shelf.allows
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, AccessList, Succession};

    #[test]
    fn a_list_allows_or_denies() {
        for allows in [true, false] {
            let gate = Access::new(AccessList::new(vec![[1; 20]]), allows).gate();
            assert_eq!((gate.lets_in(&[1; 20]), gate.lets_in(&[2; 20])), (allows, !allows));
        }
    }

    #[test]
    fn a_list_that_loses_most_is_told_from_others() {
        let list = |numbers: &[u8]| AccessList::new(numbers.iter().map(|it| [*it; 20]).collect());
        let judge = |allows, before: &[u8], after: &[u8]| {
            Access::new(list(before), allows).judge(&list(after))
        };
        let lost = |before, lost, after| Succession::MostLost { before, lost, after };
        for allows in [true, false] {
            for (before, after, succession) in [
                (&[][..], &[][..], Succession::Usual),
                (&[], &[1, 2], Succession::Usual),
                (&[1, 2], &[1, 2], Succession::Usual),
                (&[1, 2, 3, 4], &[4, 1], Succession::Usual),
                (&[1, 2, 3, 4], &[3], lost(4, 3, 1)),
                (&[1, 2, 3], &[1], lost(3, 2, 1)),
                (&[1, 2, 3], &[1, 2], Succession::Usual),
                // As many as before, but others.
                (&[1, 2, 3], &[3, 4, 5, 6], lost(3, 2, 4)),
            ] {
                assert_eq!(judge(allows, before, after), succession, "{before:?} {after:?}");
            }
        }
        assert_eq!(judge(true, &[1, 2], &[]), Succession::Emptied { before: 2 });
        assert_eq!(judge(false, &[1, 2], &[]), lost(2, 2, 0));
    }

    #[test]
    fn a_gate_changes_its_list_when_it_is_told_to() {
        let access = Access::new(AccessList::new(vec![[1; 20]]), true);
        let mut gate = access.gate();
        assert!(!gate.renew());
        let before = access.replace(AccessList::new(vec![[2; 20], [3; 20]]));
        assert!(before.contains(&[1; 20]));
        assert!(gate.lets_in(&[1; 20]) && !gate.lets_in(&[2; 20]));
        assert!(gate.renew());
        assert!(!gate.lets_in(&[1; 20]) && gate.lets_in(&[2; 20]));
        assert!(!gate.renew());
        assert_eq!(access.describe(), "2 info hashes allowed");
        // Nobody looks into the first one any more.
        assert_eq!(std::sync::Arc::strong_count(&before), 1);
    }
}

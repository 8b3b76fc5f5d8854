//! Which torrents are served: a list of info hashes that are allowed, or of those that are not.
//!
//! [`Access`] is what all workers share: what the list means, and the list, which can be
//! replaced while they serve. [`Gate`] is a worker's own, which looks once a turn of the loop
//! whether there is another list; so nothing that one core writes is read for every request.

mod file;
mod list;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::swarm::InfoHash;
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
    pub fn gate(&self) -> Gate {
        // In this order: see [`Shelf::generation`].
        let generation = self.shelf.generation.load(Ordering::Acquire);
        Gate { list: self.shelf.list(), generation, shelf: Arc::clone(&self.shelf) }
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
pub struct Gate {
    shelf: Arc<Shelf>,
    list: Arc<AccessList>,
    generation: u64,
}

impl Gate {
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
    use super::{Access, AccessList};

    #[test]
    fn a_list_allows_or_denies() {
        for allows in [true, false] {
            let gate = Access::new(AccessList::new(vec![[1; 20]]), allows).gate();
            assert_eq!((gate.lets_in(&[1; 20]), gate.lets_in(&[2; 20])), (allows, !allows));
        }
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

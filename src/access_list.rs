//! Which torrents are served: a list of info hashes that are allowed, or of those that are denied.
//!
//! All workers share a [`SharedAccessList`], whose list a reload replaces while they serve. Each
//! worker has an [`AccessListCache`], which looks once a turn whether there is another list, so
//! that a request reads nothing that another core writes.

mod file;
mod set;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use annulus_swarm::InfoHash;
use arc_swap::{ArcSwap, Guard};

pub use file::{LoadedAccessList, ParsedAccessList};
pub use set::AccessList;

/// The list that all workers apply.
#[derive(Debug)]
pub struct SharedAccessList {
    /// Whether the listed torrents are those that are served, not those that are denied.
    allows_listed: bool,
    current: Arc<ArcSwap<AccessList>>,
    loaded_unix_s: AtomicI64,
}

/// What the operator is shown of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessListStatus {
    /// Whether the listed torrents are those that are served.
    pub allows: bool,
    pub entries: u64,
    /// When it was read, in seconds since 1970.
    pub loaded_unix_s: i64,
}

/// What replacing a list by another would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListChange {
    Ordinary,
    /// More than half of the info hashes would no longer be listed.
    MostLost {
        before: usize,
        /// How many of `before` are not in the new list.
        lost: usize,
        after: usize,
    },
    /// An allow list would become empty. That is seldom intended: the file may be half written, or
    /// its source may have failed.
    Emptied {
        before: usize,
    },
}

impl SharedAccessList {
    /// Serves the torrents of `list` only if it `allows_listed`, else all but those.
    pub fn new(list: AccessList, allows_listed: bool) -> SharedAccessList {
        SharedAccessList {
            allows_listed,
            current: Arc::new(ArcSwap::from_pointee(list)),
            loaded_unix_s: AtomicI64::new(0),
        }
    }

    /// Replaces the list; each worker applies the new one from its next turn on. Returns the old
    /// one, which stays in use until all workers have had that turn.
    pub fn replace(&self, list: AccessList) -> Arc<AccessList> {
        self.current.swap(Arc::new(list))
    }

    /// What replacing the present list by `next` would do.
    pub fn change_to(&self, next: &AccessList) -> ListChange {
        let list = self.current.load();
        let (before, after) = (list.len(), next.len());
        if self.allows_listed && after == 0 && before > 0 {
            return ListChange::Emptied { before };
        }
        match list.missing_from(next) {
            lost if lost > before / 2 => ListChange::MostLost { before, lost, after },
            _ => ListChange::Ordinary,
        }
    }

    /// Notes when the present list was read.
    pub fn note_load(&self, unix_s: i64) {
        self.loaded_unix_s.store(unix_s, Ordering::Relaxed);
    }

    pub fn status(&self) -> AccessListStatus {
        AccessListStatus {
            allows: self.allows_listed,
            entries: self.current.load().len() as u64,
            loaded_unix_s: self.loaded_unix_s.load(Ordering::Relaxed),
        }
    }

    /// A worker's own handle.
    pub fn cache(&self) -> AccessListCache {
        AccessListCache {
            allows_listed: self.allows_listed,
            list: self.current.load_full(),
            current: Arc::clone(&self.current),
        }
    }

    /// For the log, as in "3 info hashes allowed".
    pub fn describe(&self) -> String {
        let len = self.current.load().len();
        let hashes = if len == 1 { "info hash" } else { "info hashes" };
        let verdict = if self.allows_listed { "allowed" } else { "denied" };
        format!("{len} {hashes} {verdict}")
    }
}

/// One worker's view of the list. It changes only in [`AccessListCache::refresh`], so that one turn
/// applies one list.
#[derive(Debug)]
pub struct AccessListCache {
    allows_listed: bool,
    list: Arc<AccessList>,
    current: Arc<ArcSwap<AccessList>>,
}

impl AccessListCache {
    /// Takes over the present list. Returns whether it is another than before.
    pub fn refresh(&mut self) -> bool {
        let current = self.current.load();
        let changed = !Arc::ptr_eq(&current, &self.list);
        if changed {
            self.list = Guard::into_inner(current);
        }
        changed
    }

    /// Whether a torrent is served.
    pub fn allows(&self, info_hash: &InfoHash) -> bool {
        self.list.contains(info_hash) == self.allows_listed
    }
}

/// Whether a torrent is served; without a list each is.
pub fn serves(list: Option<&AccessListCache>, info_hash: &InfoHash) -> bool {
    list.is_none_or(|list| list.allows(info_hash))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{AccessList, SharedAccessList};

    #[test]
    fn a_list_allows_or_denies() {
        for allows in [true, false] {
            let cache = SharedAccessList::new(AccessList::new(vec![[1; 20]]), allows).cache();
            assert_eq!((cache.allows(&[1; 20]), cache.allows(&[2; 20])), (allows, !allows));
        }
    }

    #[test]
    fn a_cache_changes_its_list_when_it_is_refreshed() {
        let shared = SharedAccessList::new(AccessList::new(vec![[1; 20]]), true);
        let mut cache = shared.cache();
        assert!(!cache.refresh());
        let before = shared.replace(AccessList::new(vec![[2; 20], [3; 20]]));
        assert!(before.contains(&[1; 20]));
        assert!(cache.allows(&[1; 20]) && !cache.allows(&[2; 20]));
        assert!(cache.refresh());
        assert!(!cache.allows(&[1; 20]) && cache.allows(&[2; 20]));
        assert!(!cache.refresh());
        assert_eq!(shared.describe(), "2 info hashes allowed");
        // The memory of the old list is free again once all caches are refreshed.
        assert_eq!(Arc::strong_count(&before), 1);
    }
}

//! Fetching the memory of a torrent's peers before an announce, in steps: each reads what the one
//! before has had fetched.

use super::{CompactAddr, FamilyPeers, IndexedPeers, Peers};
use crate::prefetch::prefetch;

impl Peers {
    /// Has the memory fetched that the torrent points to; returns whether that points to more.
    pub(crate) fn prefetch(&self) -> bool {
        match self {
            Peers::Inline4(_) | Peers::Inline6(_) => {}
            Peers::Array4(array) => array.prefetch(),
            Peers::Array6(array) => array.prefetch(),
            Peers::DualStack(dual) => prefetch(&**dual),
        }
        matches!(self, Peers::DualStack(_))
    }

    /// The same for a scrape: what the torrent itself has suffices, unless its peers have an index
    /// or are of both families.
    pub(crate) fn prefetch_counts(&self) -> bool {
        matches!(self, Peers::DualStack(_)) && self.prefetch()
    }

    /// The next step: has the memory of each family fetched; returns whether one has an index.
    pub(crate) fn prefetch_families(&self) -> bool {
        match self {
            Peers::DualStack(dual) => dual.v4.prefetch() | dual.v6.prefetch(),
            _ => false,
        }
    }

    /// The next step: has a part of the index fetched; returns the hash of the peer in it.
    pub(crate) fn prefetch_table(&self, peer: &CompactAddr) -> Option<u64> {
        let Peers::DualStack(dual) = self else { return None };
        match peer {
            CompactAddr::V4(address) => Some(dual.v4.indexed()?.prefetch_table(address)),
            CompactAddr::V6(address) => Some(dual.v6.indexed()?.prefetch_table(address)),
        }
    }

    /// The last step: has the row of the peer fetched.
    pub(crate) fn prefetch_row(&self, peer: &CompactAddr, hash: u64) {
        let Peers::DualStack(dual) = self else { return };
        match peer {
            CompactAddr::V4(_) => {
                dual.v4.indexed().into_iter().for_each(|v4| v4.prefetch_row(hash))
            }
            CompactAddr::V6(_) => {
                dual.v6.indexed().into_iter().for_each(|v6| v6.prefetch_row(hash))
            }
        }
    }
}

impl<const N: usize> FamilyPeers<N> {
    /// [`Peers::prefetch_families`].
    fn prefetch(&self) -> bool {
        match self {
            FamilyPeers::Array(array) => array.prefetch(),
            FamilyPeers::Indexed(indexed) => prefetch(&**indexed),
        }
        self.indexed().is_some()
    }

    fn indexed(&self) -> Option<&IndexedPeers<N>> {
        match self {
            FamilyPeers::Array(_) => None,
            FamilyPeers::Indexed(indexed) => Some(indexed),
        }
    }
}

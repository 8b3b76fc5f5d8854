//! Announces that another tracker has received and answered.

use super::{
    AnnounceRequest, CapacityError, CompactAddr, InfoHash, PeerEvent, Random, Replaced, Sample,
    Swarms,
};

/// An announce without an answer, some time after it.
#[derive(Clone, Copy, Debug)]
pub struct PeerUpdate {
    pub info_hash: InfoHash,
    pub peer: CompactAddr,
    pub seeder: bool,
    pub event: PeerEvent,
    /// Seconds since the announce.
    pub age_s: u32,
    pub order: UpdateOrder,
}

/// Whether updates that were made before this one have come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOrder {
    /// In the order of its node: it changes a peer whose last announce is in the same tick or an
    /// earlier one.
    InOrder,
    /// Late: it changes a peer whose last announce is in an earlier tick, and makes a leecher of
    /// the same tick a seeder.
    Late,
}

/// What became of a [`PeerUpdate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The peer is stored, new or updated.
    Stored,
    /// The peer is stored in place of another or of another torrent.
    Replaced(Replaced),
    /// There is no room for the peer, which is new.
    Refused(CapacityError),
    /// More is known: a later announce of the peer, or enough later peers of its address; or the
    /// update is older than the timeout. Nothing has changed.
    Stale,
    /// The peer had stopped and is removed.
    Removed,
    /// The peer had stopped and is not there.
    Unknown,
}

impl Swarms {
    /// Applies an announce that another node has received, at second `now`. The peer's time becomes
    /// that of the announce and never a later one: an update does not keep a peer longer than its
    /// announces would. `Completed` counts as in [`Swarms::announce`]. `Stopped` removes a peer
    /// whose last announce is not in a later tick; a late one only if that is in an earlier tick.
    pub fn apply(&self, update: &PeerUpdate, now: u32, random: &mut Random) -> Applied {
        let &PeerUpdate { info_hash, peer, seeder, event, .. } = update;
        let mut sample = Sample::with_capacity(0);
        let request = AnnounceRequest { info_hash, peer, seeder, event, numwant: 0 };
        self.announce(&request, now, random, &mut sample);
        match (sample.replaced(), sample.capacity_error()) {
            (Some(replaced), _) => Applied::Replaced(replaced),
            (None, Some(error)) => Applied::Refused(error),
            (None, None) if event == PeerEvent::Stopped => Applied::Removed,
            (None, None) => Applied::Stored,
        }
    }
}

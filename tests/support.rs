//! What the tests share: the tracker as a process, clients, and what a machine must have.

pub(crate) mod authority;
pub(crate) mod behind;
pub(crate) mod bencode;
pub(crate) mod client;
pub(crate) mod listed;
pub(crate) mod logged_tracker;
pub(crate) mod observed;
pub(crate) mod requirements;
pub(crate) mod root;
pub(crate) mod running;
pub(crate) mod secure;
pub(crate) mod site;
pub(crate) mod torrent;
pub(crate) mod tracker;
pub(crate) mod vitals;

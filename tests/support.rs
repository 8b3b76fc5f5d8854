//! Support that all tests share: the tracker as a process, clients, certificates, and the programs
//! and rights that a machine must have.

pub(crate) mod access_list;
pub(crate) mod admin;
pub(crate) mod authority;
pub(crate) mod bencode;
pub(crate) mod client;
pub(crate) mod cpio;
pub(crate) mod guest;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod proxied_tracker;
pub(crate) mod redis;
pub(crate) mod requirements;
pub(crate) mod server;
pub(crate) mod tls_client;
pub(crate) mod tls_tracker;
pub(crate) mod torrent;
pub(crate) mod tracker;
pub(crate) mod udp_client;

//! What fails, with clients announcing all the while: afterwards all nodes agree, peer by peer.

mod clocks;
mod messages;
mod nodes;
mod server;

/// What a node logs once when it loses the server, and once when it has it again.
const LOST: &str = "serves alone until";
const FOUND: &str = "cluster: connected to";

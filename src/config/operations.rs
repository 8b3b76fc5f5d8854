//! The keys of `[operations]`.

use std::net::SocketAddr;

use super::Config;
use super::key::{Key, Kind, Relation, Table};
use super::listen::{shared, widened};

/// Where operators and their machines look in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Addresses to accept connections on, if any; none of them is one that clients use.
    pub listen: Vec<SocketAddr>,
}

pub(super) const OPERATIONS: Table = Table {
    name: "operations",
    about: "What an operator and his machines may know: /metrics for Prometheus, /health for \
            whoever watches, /stats.json and /top.json for programs and / for people.",
    keys: &[Key {
        name: "listen",
        kind: Kind::Addresses { at: |config| &mut config.operations.listen },
        about: "Addresses to answer such requests on, by HTTP and without asking who wants to \
                know: loopback addresses, like 127.0.0.1:3001, or those of a network that can be \
                trusted. Empty for none.",
        reason: "nothing is told that nobody asked for.",
    }],
    relations: &[
        Relation {
            keys: ["operations.listen", "listen"],
            broken: |Config { listen, operations, .. }| shared(&operations.listen, listen),
        },
        Relation {
            keys: ["operations.listen", "tls.listen"],
            broken: |Config { tls, operations, .. }| {
                shared(&operations.listen, &widened(&tls.listen))
            },
        },
    ],
};

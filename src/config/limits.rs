//! The keys of `[limits]`.

use super::key::{Bounds, Key, Kind, Relation, Table};
use super::{Config, Range};
use crate::limits::{REQUEST_BURST_S, REQUESTS_PER_SECOND_MAX};

/// What one address may take. By default nothing is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of one address at a time, at most 65535; 0 is any number.
    pub connections_per_address: u32,
    /// Requests of one address in a second, at most [`REQUESTS_PER_SECOND_MAX`]; 0 is any number.
    pub requests_per_second: u32,
    /// Requests of one address in one moment: 0 for [`REQUEST_BURST_S`] times
    /// `requests_per_second`, or at least that number.
    pub request_burst: u32,
    /// Leading bits that the IPv6 addresses of one subscriber have in common, 32 to 64.
    pub ipv6_prefix: u32,
    /// Whoever is in one of these is never limited, neither by these keys nor by
    /// [`Swarms::max_peers_per_address`](super::Swarms::max_peers_per_address).
    pub exempt: Vec<Range>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_per_address: 0,
            requests_per_second: 0,
            request_burst: 0,
            ipv6_prefix: 64,
            exempt: Vec::new(),
        }
    }
}

const fn bounds(min: u64, max: u64, unit: &'static str) -> Bounds {
    Bounds { min, max, unit, ceiling: None }
}

pub(super) const LIMITS: Table = Table {
    name: "limits",
    about: "What one address may take, so that none takes it all. Behind one address may be \
            thousands of subscribers of a provider, or a proxy: those that [proxy] trusts are \
            never limited, but the clients that they name are.",
    keys: &[
        Key {
            name: "connections_per_address",
            kind: Kind::Whole {
                at: |config| &mut config.limits.connections_per_address,
                bounds: bounds(0, u16::MAX as u64, "connections"),
            },
            about: "Connections of one address at a time. Beyond, new ones are reset at once. 0 \
                    is any number.",
            reason: "no number fits both a flood and a provider's shared address. Where one is \
                     needed, 200 is far above any household.",
        },
        Key {
            name: "requests_per_second",
            kind: Kind::Whole {
                at: |config| &mut config.limits.requests_per_second,
                bounds: bounds(0, REQUESTS_PER_SECOND_MAX as u64, "requests"),
            },
            about: "Requests of one address in a second, on average; a TLS handshake counts as \
                    one. Beyond, a client is told to come back later and the connection closed; \
                    one that goes on all the same, or comes by HTTPS, is reset for the rest of \
                    the second. 0 is any number.",
            reason: "as above. Where one is needed, 50 is far above any household.",
        },
        Key {
            name: "request_burst",
            kind: Kind::Whole {
                at: |config| &mut config.limits.request_burst,
                bounds: bounds(0, REQUESTS_PER_SECOND_MAX as u64 * 60, "requests"),
            },
            about: "Requests of one address in one moment, after a time without: not less than \
                    requests_per_second. 0 is ten times requests_per_second.",
            reason: "a client that starts announces all its torrents at once.",
        },
        Key {
            name: "ipv6_prefix",
            kind: Kind::Whole {
                at: |config| &mut config.limits.ipv6_prefix,
                bounds: bounds(32, 64, "bits"),
            },
            about: "IPv6 addresses that begin with the same bits count as one.",
            reason: "the least that a subscriber is given. Many get 56 or 48.",
        },
        Key {
            name: "exempt",
            kind: Kind::Ranges { at: |config| &mut config.limits.exempt },
            about: "Addresses and ranges that are never limited, such as one's own monitoring; \
                    swarms.max_peers_per_address does not count them either.",
            reason: "none.",
        },
    ],
    relations: &[Relation {
        keys: ["limits.request_burst", "limits.requests_per_second"],
        broken: |Config { limits, .. }| {
            let Limits { request_burst, requests_per_second, .. } = *limits;
            let too_small = (1..requests_per_second).contains(&request_burst);
            too_small.then(|| format!("0, or at least {requests_per_second}"))
        },
    }],
};

// What the text above says.
const _: () = assert!(REQUEST_BURST_S == 10);

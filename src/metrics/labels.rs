//! The values of labels: what the counters tell apart, under the names that operators see.

use std::net::IpAddr;

use annulus_parser::Error;

use super::counter::CounterKey;

/// Enumerations whose variants each have a label value.
macro_rules! labels {
    ($(
        $(#[$about:meta])*
        $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal,)+ }
    )+) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl CounterKey for $name {
            const COUNT: usize = [$($name::$variant),+].len();

            fn index(self) -> usize {
                self as usize
            }

            fn at(index: usize) -> $name {
                [$($name::$variant),+][index]
            }

            fn labels(self) -> Vec<&'static str> {
                vec![match self {
                    $($name::$variant => $label,)+
                }]
            }
        }
    )+};
}

labels! {
    /// Why a frame of another node was refused.
    FrameRefusal {
        /// Shorter than a header, or longer than a frame can be.
        Length = "length",
        /// It is none of Annulus' frames.
        Magic = "magic",
        /// A version of the protocol that this program does not know.
        Version = "version",
        Checksum = "checksum",
        Kind = "kind",
        /// A number in the header that no node can reach.
        Number = "number",
        /// What follows the header is not what its kind has.
        Payload = "payload",
        /// There are too many nodes.
        Nodes = "nodes",
    }

    /// What is wrong with the order of frames of records.
    FrameLoss {
        /// Numbers that were skipped: the frame never came, or comes late.
        Lost = "lost",
        /// A frame that was received already, or is too old to tell.
        Duplicate = "duplicate",
        /// A frame that came after a later one.
        Late = "late",
    }

    /// What became of a record, or of a peer of a state.
    RecordOutcome {
        Stored = "stored",
        Removed = "removed",
        /// A peer had stopped that was not there.
        Unknown = "unknown",
        /// More was known, or its time is over.
        Stale = "stale",
        /// The peer had stopped later.
        Stopped = "stopped",
        /// The access list excludes the torrent.
        TorrentNotServed = "torrent_not_served",
        /// Nobody can reach the address.
        Unreachable = "unreachable",
        /// There was no room.
        Full = "full",
    }

    RequestType {
        /// A request for a connection id, by UDP only.
        Connect = "connect",
        Announce = "announce",
        Scrape = "scrape",
        /// Anything else.
        Page = "page",
    }

    /// The address family of a client, behind a proxy that of the address that the proxy names.
    AddressFamily {
        V4 = "ipv4",
        V6 = "ipv6",
        /// A proxy at a Unix socket, while it has not named a client.
        Unix = "unix",
    }

    RequestOutcome {
        Answered = "answered",
        /// The response is an error: see [`FailureReason`].
        Failed = "failed",
    }

    /// Why a request failed that the parser found correct, or why input was rejected that is no
    /// complete request.
    RefusalReason {
        /// The client closed its side within a request, or a datagram ends within one.
        Truncated = "truncated",
        /// A request was not complete in time.
        Timeout = "too_slow",
        /// TLS on a port without TLS.
        UnexpectedTls = "unexpected_tls",
        /// Something else on a port with TLS.
        NotTls = "not_tls",
        /// A trusted proxy did not send the PROXY header that is expected of it.
        MissingProxyHeader = "not_introduced",
        /// The access list excludes the torrent.
        TorrentNotServed = "torrent_not_served",
        /// A trusted proxy did not name the client of an announce.
        ClientMissing = "client_address_missing",
        /// A trusted proxy named the client in an unknown format.
        ClientUnreadable = "client_address_unreadable",
        /// The address of the client is multicast, link-local, reserved or unspecified.
        ClientUnreachable = "client_address_unreachable",
        /// More torrents than one scrape may name.
        ScrapeTooLarge = "scrape_too_large",
        /// Scrapes of all torrents are switched off.
        FullScrapeOff = "full_scrape_off",
        /// As many scrapes of all torrents as allowed are in progress.
        FullScrapeBusy = "full_scrape_busy",
        /// The rate limit of the client's address.
        TooManyRequests = "address_requests",
        NotFound = "not_found",
        /// A datagram with an action that is none of BEP 15.
        ActionUnknown = "action_unknown",
    }

    /// Why a connection was reset before it got a response.
    Rejection {
        /// The connection limit of the client's address.
        AddressConnections = "address_connections",
        /// The rate limit of the client's address, before a TLS handshake or after an error
        /// response for the same reason.
        AddressRequests = "address_requests",
        /// No memory for TLS.
        NoMemory = "no_memory",
        /// The client sent more and more requests and did not read the responses.
        Unread = "unread",
    }

    /// What a connection waits for from its client.
    WaitingFor {
        Handshake = "handshake",
        /// The end of a request's head.
        Header = "header",
        /// The next request.
        Idle = "idle",
        /// That the client reads a response.
        Send = "send",
    }

    /// Why a worker stopped accepting for a while.
    AcceptPause {
        ConnectionLimit = "connection_limit",
        /// No descriptor or memory was left.
        Exhausted = "exhausted",
        /// `accept` failed for another reason.
        Error = "error",
    }

    /// The bound of `[swarms]` that kept a peer from being stored.
    Unstored {
        Torrents = "max_torrents",
        Peers = "max_peers",
        PeersOfTorrent = "max_peers_per_torrent",
    }

    /// Why a datagram got no reply.
    DatagramDrop {
        /// It is no request of BEP 15: too short, or of an unknown action.
        Malformed = "malformed",
        /// It was longer than a request can be.
        Truncated = "truncated",
        /// Its connection id is not one of this tracker, or too old.
        ConnectionId = "connection_id",
        /// No reply can reach its source: no port, or no address of a single host.
        Source = "source",
        /// The rate limit of the client's address.
        AddressRequests = "address_requests",
        /// The kernel did not take the reply.
        Unsent = "unsent",
    }

    TransportKind {
        Http = "http",
        Https = "https",
        Udp = "udp",
    }

    TlsVersion {
        Tls12 = "1.2",
        Tls13 = "1.3",
    }

    Resumption {
        Full = "full",
        Resumed = "resumed",
    }
}

impl AddressFamily {
    /// The family of a client's address, if it is known.
    pub fn of(client: Option<IpAddr>) -> AddressFamily {
        match client {
            Some(IpAddr::V4(_)) => AddressFamily::V4,
            Some(IpAddr::V6(_)) => AddressFamily::V6,
            None => AddressFamily::Unix,
        }
    }
}

/// Why a request failed, or why input that is no complete request was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// The parser's error.
    Malformed(Error),
    Refusal(RefusalReason),
}

impl CounterKey for FailureReason {
    const COUNT: usize = Error::ALL.len() + RefusalReason::COUNT;

    fn index(self) -> usize {
        match self {
            FailureReason::Malformed(error) => error as usize,
            FailureReason::Refusal(refusal) => Error::ALL.len() + refusal.index(),
        }
    }

    fn at(index: usize) -> FailureReason {
        match Error::ALL.get(index) {
            Some(&error) => FailureReason::Malformed(error),
            None => FailureReason::Refusal(RefusalReason::at(index - Error::ALL.len())),
        }
    }

    fn labels(self) -> Vec<&'static str> {
        match self {
            FailureReason::Malformed(error) => vec![error_label(error)],
            FailureReason::Refusal(refusal) => refusal.labels(),
        }
    }
}

fn error_label(error: Error) -> &'static str {
    match error {
        Error::MethodMalformed => "method_malformed",
        Error::MethodNotAllowed => "method_not_allowed",
        Error::TargetMalformed => "target_malformed",
        Error::VersionMalformed => "version_malformed",
        Error::VersionNotSupported => "version_not_supported",
        Error::RequestLineTooLong => "request_line_too_long",
        Error::HeadTooLarge => "head_too_large",
        Error::TooManyHeaders => "too_many_headers",
        Error::LineEndMalformed => "line_end_malformed",
        Error::HeaderFolded => "header_folded",
        Error::HeaderNameMalformed => "header_name_malformed",
        Error::HeaderValueMalformed => "header_value_malformed",
        Error::ContentLengthMalformed => "content_length_malformed",
        Error::BodyNotAllowed => "body_not_allowed",
        Error::InfoHashMissing => "info_hash_missing",
        Error::InfoHashEscapeMalformed => "info_hash_escape_malformed",
        Error::InfoHashLengthWrong => "info_hash_length_wrong",
        Error::InfoHashHex => "info_hash_hex",
        Error::InfoHashBase32 => "info_hash_base32",
        Error::InfoHashRepeated => "info_hash_repeated",
        Error::PortMissing => "port_missing",
        Error::PortInvalid => "port_invalid",
    }
}

//! What is told apart in what is counted, under the names that operators see.

use std::net::IpAddr;

use annulus_parser::Error;

use super::counter::CounterKey;

/// A key that has a name.
pub trait Label: CounterKey {
    /// Its name as the value of a label, in lower case: it does not change from one version to
    /// the next.
    fn label(self) -> &'static str;
}

/// Enumerations with a name for each variant.
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
        }

        impl Label for $name {
            fn label(self) -> &'static str {
                match self {
                    $($name::$variant => $label,)+
                }
            }
        }
    )+};
}

labels! {
    /// What a request asks for.
    RequestType {
        /// An announce.
        Announce = "announce",
        /// A scrape, of some torrents or all.
        Scrape = "scrape",
        /// Anything else.
        Page = "page",
    }

    /// The address family of a client: behind a proxy that of the client itself, if it is told.
    AddressFamily {
        /// IPv4.
        V4 = "ipv4",
        /// IPv6.
        V6 = "ipv6",
        /// None: a proxy at a Unix socket, of whose client nothing is known.
        Unix = "unix",
    }

    /// What became of a request.
    RequestOutcome {
        /// It got what it asked for.
        Answered = "answered",
        /// It was told why not: see [`FailureReason`].
        Failed = "failed",
    }

    /// Why a request failed that the parser found nothing wrong with, or why what was no request
    /// was refused.
    RefusalReason {
        /// The client's side ended within a request.
        Truncated = "truncated",
        /// A request was not completed in time.
        Timeout = "too_slow",
        /// A connection to a port without TLS speaks it.
        UnexpectedTls = "unexpected_tls",
        /// A connection to a port that speaks TLS does not.
        NotTls = "not_tls",
        /// A connection that a trusted proxy is to introduce is not.
        MissingProxyHeader = "not_introduced",
        /// The access list does not let the torrent in.
        TorrentNotServed = "torrent_not_served",
        /// A trusted proxy did not say where an announce came from.
        ClientMissing = "client_address_missing",
        /// A trusted proxy said it unreadably.
        ClientUnreadable = "client_address_unreadable",
        /// Nobody can reach the address that an announce came from: it is multicast, link-local,
        /// reserved or none.
        ClientUnreachable = "client_address_unreachable",
        /// A scrape of more torrents than one may ask for.
        ScrapeTooLarge = "scrape_too_large",
        /// A scrape of all torrents, which is switched off.
        FullScrapeOff = "full_scrape_off",
        /// A scrape of all torrents while as many others as may be are being answered.
        FullScrapeBusy = "full_scrape_busy",
        /// Its address had used up its requests.
        TooManyRequests = "address_requests",
        /// A path that there is nothing at.
        NotFound = "not_found",
    }

    /// Why a connection was closed against the client's will before it got an answer.
    Rejection {
        /// Its address had as many as it may have.
        AddressConnections = "address_connections",
        /// Its address had used up its requests, and a handshake was to come or it had been told.
        AddressRequests = "address_requests",
        /// There was no memory for its TLS.
        NoMemory = "no_memory",
        /// It asked for more and more and did not read.
        Unread = "unread",
    }

    /// What a client took too long for.
    WaitingFor {
        /// The end of a TLS handshake.
        Handshake = "handshake",
        /// The end of a request's head.
        Header = "header",
        /// The next request.
        Idle = "idle",
        /// To read an answer.
        Send = "send",
    }

    /// Why new connections had to wait in the kernel for a while.
    AcceptPause {
        /// There were as many as configured.
        ConnectionLimit = "connection_limit",
        /// No descriptor or memory was left.
        Exhausted = "exhausted",
        /// Accepting failed otherwise.
        Error = "error",
    }

    /// Which bound of `[swarms]` was reached, so that a peer was answered but not stored.
    Unstored {
        /// `max_torrents`: it would have been the first of its torrent.
        Torrents = "max_torrents",
        /// `max_peers`.
        Peers = "max_peers",
        /// `max_peers_per_torrent`.
        PeersOfTorrent = "max_peers_per_torrent",
    }

    /// How a connection is carried.
    TransportKind {
        /// As it is.
        Http = "http",
        /// By TLS.
        Https = "https",
    }

    /// A version of TLS.
    TlsVersion {
        /// 1.2.
        Tls12 = "1.2",
        /// 1.3.
        Tls13 = "1.3",
    }

    /// How a handshake came to its keys.
    Resumption {
        /// With the certificate.
        Full = "full",
        /// From an earlier session.
        Resumed = "resumed",
    }
}

impl AddressFamily {
    /// That of somebody with this address, or of one who has none.
    pub fn of(client: Option<IpAddr>) -> AddressFamily {
        match client {
            Some(IpAddr::V4(_)) => AddressFamily::V4,
            Some(IpAddr::V6(_)) => AddressFamily::V6,
            None => AddressFamily::Unix,
        }
    }
}

/// Why a request failed, or what was no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// The parser's word.
    Malformed(Error),
    /// Another reason.
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
}

impl Label for FailureReason {
    fn label(self) -> &'static str {
        match self {
            FailureReason::Malformed(error) => error_label(error),
            FailureReason::Refusal(refusal) => refusal.label(),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::counter::CounterKey;
    use super::{FailureReason, Label};

    #[test]
    fn no_two_failures_have_one_name() {
        let names: BTreeSet<&str> =
            (0..FailureReason::COUNT).map(|at| FailureReason::at(at).label()).collect();
        assert_eq!(names.len(), FailureReason::COUNT);
    }
}

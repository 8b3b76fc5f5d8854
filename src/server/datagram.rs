//! Requests by UDP (BEP 15).
//!
//! Anyone can write any source address into a datagram. A connection id proves that a client
//! receives what is sent to its address, and until it does, a reply is never longer than its
//! request: a connect is answered with as many bytes, and a request with a bad id is not answered.
//!
//! Requests with a good id count for the rate limit of their address. Connects do not: whoever
//! forges their source would use up the limit of another.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use annulus_parser::{
    DATAGRAM_HASHES_MAX, DatagramAction, DatagramAnnounce, DatagramHashes, DatagramHeader,
    DatagramMistake, DatagramQuery, DatagramRequest, Error, parse_datagram,
};
use annulus_swarm::TorrentCounts;

use super::Server;
use super::serve::{AnnounceParts, PeerAddresses};
use crate::addresses::is_unreachable;
use crate::metrics::labels::{
    DatagramDrop, FailureReason, RefusalReason, RequestOutcome, RequestType, TransportKind,
};
use crate::rate_limit::Charge;
use crate::response::datagram::{self, IPV4_PEERS_MAX, IPV6_PEERS_MAX};

type Query<'b> = Result<DatagramQuery<'b>, DatagramMistake>;

impl Server {
    /// Answers a datagram from `from`: the length of the reply in `out`, which has room for
    /// [`REPLY_BYTES_MAX`](annulus_ring::REPLY_BYTES_MAX).
    ///
    /// # Errors
    /// Why there is no reply.
    pub fn answer_datagram(
        &mut self,
        from: SocketAddr,
        request: &[u8],
        out: &mut [u8],
    ) -> Result<usize, DatagramDrop> {
        let client = from.ip().to_canonical();
        if from.port() == 0 || !is_one_host(client) {
            return Err(DatagramDrop::Source);
        }
        self.outcome = RequestOutcome::Answered;
        match parse_datagram(request) {
            Ok(DatagramRequest::Connect { transaction_id }) => {
                let connection_id = self.connection_ids.issue(client, self.id_window);
                self.count_request(RequestType::Connect, TransportKind::Udp, Some(client));
                Ok(datagram::connect(out, transaction_id, connection_id))
            }
            Ok(DatagramRequest::Identified { header, query }) => {
                self.answer_identified(client, header, query, out)
            }
            Err(_) => Err(DatagramDrop::Malformed),
        }
    }

    fn answer_identified(
        &mut self,
        client: IpAddr,
        header: DatagramHeader,
        query: Query<'_>,
        out: &mut [u8],
    ) -> Result<usize, DatagramDrop> {
        if !self.connection_ids.verifies(header.connection_id, client, self.id_window) {
            return Err(DatagramDrop::ConnectionId);
        }
        let id = header.transaction_id;
        let replied = match (self.charge_datagram(client), query) {
            (Charge::RejectedOften, _) => return Err(DatagramDrop::AddressRequests),
            (Charge::Rejected, _) => Err(RefusalReason::TooManyRequests.into()),
            (Charge::Served, Ok(DatagramQuery::Announce(announce))) => {
                self.datagram_announce(client, id, &announce, out)
            }
            (Charge::Served, Ok(DatagramQuery::Scrape(hashes))) => {
                self.datagram_scrape(id, hashes, out)
            }
            (Charge::Served, Err(mistake)) => Err(mistake.into()),
        };
        let len = match replied {
            Ok(len) => len,
            Err(failure) => {
                self.count_failure(failure);
                datagram::error(out, id, &self.datagram_failure(failure))
            }
        };
        let request_type = match header.action {
            DatagramAction::Announce => RequestType::Announce,
            DatagramAction::Scrape => RequestType::Scrape,
            DatagramAction::Unknown => {
                // It is no request: the failure is all that is counted.
                self.answered += 1;
                return Ok(len);
            }
        };
        self.count_request(request_type, TransportKind::Udp, Some(client));
        Ok(len)
    }

    fn datagram_announce(
        &mut self,
        client: IpAddr,
        transaction_id: u32,
        announce: &DatagramAnnounce<'_>,
        out: &mut [u8],
    ) -> Result<usize, FailureReason> {
        let peers_max = if client.is_ipv4() { IPV4_PEERS_MAX } else { IPV6_PEERS_MAX };
        let ip = self.named_address(client, announce.ip);
        let counts = self.serve_announce(&AnnounceParts {
            info_hash: announce.info_hash,
            addresses: PeerAddresses { first: (ip, announce.port), second: None },
            event: announce.event,
            left: Some(announce.left),
            downloaded: Some(announce.downloaded),
            numwant: announce.numwant,
            peers_max: peers_max as u32,
            own_family_only: true,
        })?;
        let interval_s = self.intervals().interval_s;
        let peers = match client {
            IpAddr::V4(_) => self.sample.v4().as_flattened(),
            IpAddr::V6(_) => self.sample.v6().as_flattened(),
        };
        Ok(datagram::announce(out, transaction_id, interval_s, counts, peers))
    }

    /// The address that an announce registers: the one it came from, unless clients may name
    /// others. There is room for IPv4 addresses only.
    pub(super) fn named_address(&self, client: IpAddr, named: u32) -> IpAddr {
        let ip = IpAddr::V4(Ipv4Addr::from_bits(named));
        let is_named = self.protocol.trust_ip_parameters && client.is_ipv4() && !is_unreachable(ip);
        if is_named { ip } else { client }
    }

    fn datagram_scrape(
        &mut self,
        transaction_id: u32,
        hashes: DatagramHashes<'_>,
        out: &mut [u8],
    ) -> Result<usize, FailureReason> {
        let hashes = hashes.as_slice();
        if hashes.len() > self.protocol.max_scrape_torrents {
            return Err(RefusalReason::ScrapeTooLarge.into());
        }
        self.torrents.clear();
        self.torrents.extend(hashes.iter().map(|&hash| (hash, TorrentCounts::default())));
        self.count_torrents();
        let counts = self.torrents.iter().map(|&(_, counts)| counts);
        Ok(datagram::scrape(out, transaction_id, counts))
    }

    /// What a client is told, in the words of HTTP.
    fn datagram_failure(&self, failure: FailureReason) -> Cow<'static, str> {
        match failure {
            FailureReason::Refusal(RefusalReason::ScrapeTooLarge) => {
                self.scrape_bound(DATAGRAM_HASHES_MAX).into()
            }
            _ => self.failure_text(failure),
        }
    }
}

/// A request with a mistake fails for the reason for which it would fail by HTTP.
impl From<DatagramMistake> for FailureReason {
    fn from(mistake: DatagramMistake) -> FailureReason {
        match mistake {
            DatagramMistake::ActionUnknown => RefusalReason::ActionUnknown.into(),
            DatagramMistake::AnnounceTooShort => RefusalReason::Truncated.into(),
            DatagramMistake::PortInvalid => Error::PortInvalid.into(),
            DatagramMistake::HashesMissing => Error::InfoHashMissing.into(),
            DatagramMistake::HashCut => Error::InfoHashLengthWrong.into(),
            DatagramMistake::TooManyHashes => RefusalReason::ScrapeTooLarge.into(),
        }
    }
}

/// Whether a reply to `ip` can reach one host, and no more than one.
fn is_one_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !matches!(ip.octets()[0], 0 | 224..),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

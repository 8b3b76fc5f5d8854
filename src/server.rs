//! One request to one response: read this first.
//!
//! [`Server::answer`] decides what a request by HTTP is, [`Server::answer_datagram`] what one by
//! UDP is. Both come to [`Server::serve_announce`] and [`Server::count_torrent`], which are what
//! the program is for. `error_response` has a response for every error. Nothing here does I/O or
//! reads a clock: the worker sets the time once a turn.

mod connection_id;
mod datagram;
mod error_response;
mod external_addresses;
mod prefetch;
mod serve;

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use annulus_parser::{
    Announce, Head, Method, Query, Target, Version, asks_for_head, parse_announce, scrape_hashes,
};

pub use connection_id::ConnectionIds;
use connection_id::IdWindow;
use external_addresses::ExternalAddresses;
use serve::{AnnounceParts, PeerAddresses};

use crate::access_list::AccessListCache;
use crate::addresses::is_unreachable;
use crate::cluster::WorkerOutbox;
use crate::config::ProtocolConfig;
use crate::connection::{Disposition, Handler, RequestError, Response};
use crate::limits::{FULL_SCRAPES_MAX, RESPONSE_BYTES_MAX};
use crate::metrics::Counters;
use crate::metrics::labels::{
    AddressFamily, FailureReason, RefusalReason, Rejection, RequestOutcome, RequestType,
    TransportKind,
};
use crate::proxy::{Forwarded, UnknownClient};
use crate::rate_limit::{Charge, ConnectionPermit, LimitExceeded, RateLimiter};
use crate::response::{self, AnnounceResponse, ResponseOptions, Status};
use annulus_swarm::{
    AnnounceBatch, InfoHash, Random, Sample, ScrapeCursor, Swarms, Sweep, SweepStatus,
    TorrentCounts,
};

/// Torrents in one chunk of a full scrape.
const CHUNK_TORRENTS: usize = 256;
const _: () = assert!(response::continue_scrape_bytes_max(CHUNK_TORRENTS) <= RESPONSE_BYTES_MAX);

/// What a server is made of. `None` is what is not limited, or not configured.
pub struct ServerParts {
    pub swarms: Arc<Swarms>,
    pub protocol: ProtocolConfig,
    /// Of the random choices: peers in a response, and intervals.
    pub seed: u64,
    /// The same for all workers.
    pub connection_ids: ConnectionIds,
    /// Trusted proxies that name the client in a header of each request.
    pub forwarded: Option<Forwarded>,
    pub access_list: Option<AccessListCache>,
    pub rate_limiter: Option<RateLimiter>,
    /// Where records for the other nodes of a cluster go.
    pub outbox: Option<WorkerOutbox>,
    pub counters: Arc<Counters>,
}

impl ServerParts {
    /// For a server without limits.
    pub fn new(swarms: Arc<Swarms>, protocol: ProtocolConfig, seed: u64) -> ServerParts {
        ServerParts {
            swarms,
            protocol,
            seed,
            connection_ids: ConnectionIds::new([seed, seed]),
            forwarded: None,
            access_list: None,
            rate_limiter: None,
            outbox: None,
            counters: Arc::default(),
        }
    }
}

/// One worker's server: its own buffers and randomness, and a handle on the shared swarms.
pub struct Server {
    swarms: Arc<Swarms>,
    protocol: ProtocolConfig,
    forwarded: Option<Forwarded>,
    external_addresses: Option<ExternalAddresses>,
    access_list: Option<AccessListCache>,
    rate_limiter: Option<RateLimiter>,
    outbox: Option<WorkerOutbox>,
    random: Random,
    sample: Sample,
    /// Of requests that come next.
    expected: AnnounceBatch,
    /// The torrents of the scrape at hand.
    torrents: Vec<(InfoHash, TorrentCounts)>,
    /// Full scrapes that are being sent.
    full_scrapes: usize,
    /// Peers in the swarms when the present second began.
    peers: u64,
    now_s: u32,
    connection_ids: ConnectionIds,
    /// The window of `now_s`.
    id_window: IdWindow,
    closing: bool,
    counters: Arc<Counters>,
    /// Of the request at hand.
    outcome: RequestOutcome,
    /// Requests answered since [`Server::take_answered`].
    answered: u32,
}

impl Handler for Server {
    fn answer(
        &mut self,
        peer: Option<IpAddr>,
        tls: bool,
        head: &Head<'_>,
        out: &mut [u8],
    ) -> Response {
        let options = ResponseOptions {
            http10: head.version == Version::Http10,
            keep_alive: head.keep_alive,
            head_only: head.method == Method::Head,
        };
        self.outcome = RequestOutcome::Answered;
        let client = match &self.forwarded {
            Some(forwarded) => forwarded.client(peer, head),
            None => peer.ok_or(UnknownClient::Missing),
        };
        let source = client.ok().or(peer);
        let request_type = match head.target {
            _ if head.method == Method::Options => RequestType::Page,
            Target::Announce(_) => RequestType::Announce,
            Target::Scrape(_) => RequestType::Scrape,
            Target::Other(_) => RequestType::Page,
        };
        let response = match head.target {
            _ if !self.charge_request(source) => {
                // The connection of a proxy stays open: it is not the client's.
                let keep_alive = options.keep_alive && client.ok() != peer;
                let options = ResponseOptions { keep_alive, ..options };
                respond(self.reject_rate_limited(request_type, options, out), options)
            }
            // For any path: load balancers send OPTIONS to see whether the server is up.
            _ if head.method == Method::Options => {
                respond(response::options(out, options), options)
            }
            Target::Announce(query) => {
                let len = match client {
                    Ok(client) => self.announce(client, query, options, out),
                    Err(unknown) => self.reject_unknown_client(peer, unknown, options, out),
                };
                respond(len, options)
            }
            Target::Scrape(query) => self.scrape(query, options, out),
            Target::Other(target) => {
                let closing = ResponseOptions { keep_alive: false, ..options };
                respond(self.page(target, closing, out), closing)
            }
        };
        let transport = if tls { TransportKind::Https } else { TransportKind::Http };
        self.count_request(request_type, transport, source);
        response
    }

    fn refuse(
        &mut self,
        peer: Option<IpAddr>,
        error: RequestError,
        received: &[u8],
        out: &mut [u8],
    ) -> usize {
        let head_only = asks_for_head(received);
        let options = ResponseOptions { head_only, ..ResponseOptions::CLOSING };
        // It costs as much as a request, and closes its connection whether it is over the limit or
        // not.
        self.charge_request(peer);
        self.reject_protocol_error(error, received, options, out)
    }

    fn response_bytes_max(&self) -> usize {
        response_bytes_max(&self.protocol)
    }

    fn is_closing(&self) -> bool {
        self.closing
    }

    fn admit(&mut self, client: IpAddr, tls: bool) -> Option<ConnectionPermit> {
        let Some(limiter) = &mut self.rate_limiter else {
            return Some(ConnectionPermit::default());
        };
        match limiter.admit(client, tls, self.now_s) {
            Ok(permit) => Some(permit),
            Err(exceeded) => {
                self.counters.rejected.add(match exceeded {
                    LimitExceeded::Connections => Rejection::AddressConnections,
                    LimitExceeded::Requests => Rejection::AddressRequests,
                });
                None
            }
        }
    }
}

impl Server {
    /// Answers an announce (BEP 3).
    fn announce(
        &mut self,
        peer: IpAddr,
        query: Query<'_>,
        options: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        let announce = match parse_announce(query) {
            Ok(announce) => announce,
            Err(error) => return self.reject(error, options, out),
        };
        let counts = self.serve_announce(&AnnounceParts {
            info_hash: announce.info_hash,
            addresses: self.peer_addresses(peer, &announce),
            event: announce.event,
            left: announce.left,
            downloaded: announce.downloaded,
            numwant: announce.numwant,
            peers_max: u32::MAX,
            own_family_only: false,
        });
        let counts = match counts {
            Ok(counts) => counts,
            Err(refusal) => return self.reject(refusal, options, out),
        };
        let response = AnnounceResponse {
            counts,
            external: peer,
            intervals: self.intervals(),
            sample: &self.sample,
            compact: announce.compact,
        };
        response::announce(out, options, &response)
    }

    /// The addresses that an announce registers: the one it came from, unless clients may name
    /// others (`ip`; `ipv4` and `ipv6`, which may have a port of their own as in the BEP 7 of
    /// 2008).
    fn peer_addresses(&self, peer: IpAddr, announce: &Announce<'_>) -> PeerAddresses {
        let port = announce.port;
        if !self.protocol.trust_ip_parameters {
            return PeerAddresses { first: (peer, port), second: None };
        }
        let named = |address: Option<annulus_parser::Address<'_>>| {
            let (ip, own_port) = address.and_then(|address| address.endpoint())?;
            let ip = ip.to_canonical();
            (!is_unreachable(ip)).then_some((ip, own_port.unwrap_or(port)))
        };
        let v4 = named(announce.ipv4).filter(|(ip, _)| ip.is_ipv4());
        let v6 = named(announce.ipv6).filter(|(ip, _)| ip.is_ipv6());
        let ip = named(announce.ip).map(|(ip, _)| ip);
        let own = ip.unwrap_or(peer);
        let (first, second) = if own.is_ipv4() { (v4, v6) } else { (v6, v4) };
        let first = first.filter(|_| ip.is_none()).unwrap_or((own, port));
        PeerAddresses { first, second }
    }

    /// Answers a scrape of some torrents (BEP 48).
    fn scrape(&mut self, query: Query<'_>, options: ResponseOptions, out: &mut [u8]) -> Response {
        self.torrents.clear();
        for info_hash in scrape_hashes(query) {
            match info_hash {
                _ if self.torrents.len() == self.protocol.max_scrape_torrents => {
                    return respond(
                        self.reject(RefusalReason::ScrapeTooLarge, options, out),
                        options,
                    );
                }
                Ok(info_hash) => self.torrents.push((info_hash, TorrentCounts::default())),
                Err(error) => {
                    return respond(self.reject(error, options, out), options);
                }
            }
        }
        if self.torrents.is_empty() {
            return self.full_scrape(options, out);
        }
        self.torrents.sort_unstable_by_key(|&(info_hash, _)| info_hash);
        self.torrents.dedup_by_key(|&mut (info_hash, _)| info_hash);
        self.count_torrents();
        respond(response::scrape(out, options, &self.torrents), options)
    }

    /// Begins a scrape of all torrents, if the configuration allows them.
    fn full_scrape(&mut self, options: ResponseOptions, out: &mut [u8]) -> Response {
        let refusal = match self.protocol.full_scrape {
            false => RefusalReason::FullScrapeOff,
            true if self.full_scrapes >= FULL_SCRAPES_MAX => RefusalReason::FullScrapeBusy,
            true => {
                // The end of the connection ends the body.
                let closing = ResponseOptions { keep_alive: false, ..options };
                let len = response::open_scrape(out, closing);
                let disposition =
                    if options.head_only { Disposition::Close } else { Disposition::Stream };
                return Response { len, disposition };
            }
        };
        respond(self.reject(refusal, options, out), options)
    }

    /// Begins the rest of a response that has [`Disposition::Stream`].
    pub fn begin_full_scrape(&mut self) -> FullScrape {
        self.full_scrapes += 1;
        FullScrape { cursor: ScrapeCursor::default() }
    }

    /// Writes the next chunk of a full scrape: its bytes, and whether more follow.
    pub fn write_scrape_chunk(&mut self, scrape: &mut FullScrape, out: &mut [u8]) -> (usize, bool) {
        self.torrents.clear();
        let more = self.swarms.scrape_chunk(&mut scrape.cursor, CHUNK_TORRENTS, &mut self.torrents);
        if let Some(list) = &self.access_list {
            self.torrents.retain(|(info_hash, _)| list.allows(info_hash));
        }
        (response::continue_scrape(out, &self.torrents, !more), more)
    }

    /// A full scrape is complete, or its client has gone.
    pub fn end_full_scrape(&mut self) {
        self.full_scrapes -= 1;
    }

    /// Answers what is neither announce nor scrape: browsers, crawlers, mistyped URLs.
    fn page(&mut self, target: &[u8], options: ResponseOptions, out: &mut [u8]) -> usize {
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let text = match path {
            b"/" if !self.protocol.redirect.is_empty() => {
                return response::redirect(out, options, &self.protocol.redirect);
            }
            b"/" => "This is a BitTorrent tracker, run by Annulus.\n",
            b"/robots.txt" => "User-agent: *\nDisallow: /\n",
            _ => return self.reject(RefusalReason::NotFound, options, out),
        };
        response::message(out, options, Status::Ok, text)
    }

    pub fn new(parts: ServerParts) -> Server {
        let ServerParts { swarms, protocol, seed, forwarded, .. } = parts;
        let torrents_max = CHUNK_TORRENTS.max(protocol.max_scrape_torrents);
        Server {
            peers: swarms.totals().peers,
            swarms,
            forwarded,
            external_addresses: ExternalAddresses::new(&protocol),
            access_list: parts.access_list,
            rate_limiter: parts.rate_limiter,
            outbox: parts.outbox,
            random: Random::seeded(seed),
            sample: Sample::with_capacity(protocol.max_numwant as u32),
            expected: AnnounceBatch::new(),
            torrents: Vec::with_capacity(torrents_max),
            protocol,
            full_scrapes: 0,
            now_s: 0,
            connection_ids: parts.connection_ids,
            id_window: IdWindow::at(0),
            closing: false,
            counters: parts.counters,
            outcome: RequestOutcome::Answered,
            answered: 0,
        }
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Sets the time, in seconds since the start of the process.
    pub fn set_now(&mut self, now_s: u32) {
        if now_s != self.now_s {
            self.peers = self.swarms.totals().peers;
        }
        self.now_s = now_s;
        self.id_window = IdWindow::at(now_s);
    }

    /// Sets whether connections close with the response to the last request received so far.
    pub fn set_closing(&mut self, closing: bool) {
        self.closing = closing;
    }

    /// Takes over a reloaded access list; whether there is one.
    pub fn refresh_access_list(&mut self) -> bool {
        self.access_list.as_mut().is_some_and(AccessListCache::refresh)
    }

    /// Removes expired peers, and torrents that are not served any more, from some of the swarms.
    pub fn sweep(&self, sweep: &mut Sweep) -> SweepStatus {
        self.swarms.sweep(sweep, self.now_s, |info_hash: &InfoHash| self.serves(info_hash))
    }

    /// Gives back the permit of a connection that is closed.
    pub fn release(&self, permit: ConnectionPermit) {
        if let Some(limiter) = &self.rate_limiter {
            limiter.release(permit);
        }
    }

    /// Hands the records of this turn over to be published, without waiting. Returns whether to
    /// come back at once.
    pub fn hand_over_records(&mut self) -> bool {
        self.outbox.as_mut().is_some_and(WorkerOutbox::hand_over)
    }

    /// Hands the last records over: for the end of the worker.
    pub fn finish_records(&mut self) {
        if let Some(outbox) = &mut self.outbox {
            outbox.finish();
        }
    }

    pub fn answered(&self) -> u32 {
        self.answered
    }

    /// [`Server::answered`], which starts anew.
    pub fn take_answered(&mut self) -> u32 {
        mem::take(&mut self.answered)
    }

    /// Charges a request to its client; whether that is within its limit. A proxy at a Unix socket
    /// has no address and no limit.
    fn charge_request(&mut self, client: Option<IpAddr>) -> bool {
        let (Some(limiter), Some(client)) = (&mut self.rate_limiter, client) else { return true };
        limiter.charge(client, self.now_s) == Charge::Served
    }

    /// Charges a request by UDP to its client.
    fn charge_datagram(&mut self, client: IpAddr) -> Charge {
        let Some(limiter) = &mut self.rate_limiter else { return Charge::Served };
        limiter.charge(client, self.now_s)
    }

    fn count_failure(&mut self, failure: FailureReason) {
        self.counters.failures.add(failure);
        self.outcome = RequestOutcome::Failed;
    }

    /// Counts the request at hand, which is answered.
    #[inline]
    fn count_request(
        &mut self,
        request_type: RequestType,
        transport: TransportKind,
        client: Option<IpAddr>,
    ) {
        let family = AddressFamily::of(client);
        self.counters.requests.add(((request_type, transport), (family, self.outcome)));
        self.answered += 1;
    }
}

/// How far a full scrape has come.
pub struct FullScrape {
    cursor: ScrapeCursor,
}

/// The most bytes that any response takes with this configuration, headers included.
pub fn response_bytes_max(protocol: &ProtocolConfig) -> usize {
    let announce = response::announce_bytes_max(protocol.max_numwant);
    let scrape = response::scrape_bytes_max(protocol.max_scrape_torrents);
    let chunk =
        if protocol.full_scrape { response::continue_scrape_bytes_max(CHUNK_TORRENTS) } else { 0 };
    let other = response::FAILURE_BYTES_MAX.max(response::REDIRECT_BYTES_MAX);
    announce.max(scrape).max(chunk).max(other)
}

fn respond(len: usize, options: ResponseOptions) -> Response {
    let disposition = if options.keep_alive { Disposition::KeepAlive } else { Disposition::Close };
    Response { len, disposition }
}

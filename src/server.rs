//! One request in, one reply out: the page to read first.
//!
//! [`Server::announce`] and [`Server::scrape`] are what the program is for; around them
//! stands what else a client may send, and `refusal`, which has an answer to every mistake.
//! Nothing here does I/O or reads a clock: the worker says what second it is.

mod external;
mod refusal;

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use annulus_parser::{
    Announce, AnnounceEvent, Head, Method, Numwant, Query, Target, Version, asks_for_head,
    parse_announce, scrape_hashes,
};

use external::ExternalAddresses;

use crate::access_list::AccessListCache;
use crate::addresses::is_unreachable;
use crate::config::Protocol;
use crate::connection::{Disposition, Handler, RequestError, Response};
use crate::limits::{
    FULL_SCRAPES_MAX, INTERVAL_SPREAD_PERCENT, NOT_SERVED_RETRY_MINUTES, RESPONSE_BYTES_MAX,
};
use crate::metrics::Counters;
use crate::metrics::labels::{
    AddressFamily, FailureReason, RefusalReason, Rejection, RequestOutcome, RequestType, Unstored,
};
use crate::proxy::{Forwarded, UnknownClient};
use crate::rate_limit::{ConnectionPermit, LimitExceeded, RateLimiter};
use crate::response::{self, AnnounceResponse, Intervals, ResponseOptions, RetryIn, Status};
use annulus_swarm::{
    AnnounceRequest, CapacityError, CompactAddr, InfoHash, PeerEvent, Random, Replaced, Sample,
    ScrapeCursor, Swarms, TorrentCounts,
};

/// Torrents in one piece of a full scrape.
const PAGE_TORRENTS: usize = 256;
const _: () = assert!(response::continue_scrape_bytes_max(PAGE_TORRENTS) <= RESPONSE_BYTES_MAX);

/// How far a full scrape has come.
pub struct FullScrape {
    walk: ScrapeCursor,
}

/// One worker's server: its own buffers and randomness, and a handle on everyone's swarms.
pub struct Server {
    swarms: Arc<Swarms>,
    protocol: Protocol,
    forwarded: Option<Forwarded>,
    /// Where peers of the tracker's own network are told under another address.
    external: Option<ExternalAddresses>,
    /// Where not all torrents are served.
    gate: Option<AccessListCache>,
    /// Where what one address may take is limited.
    quota: Option<RateLimiter>,
    random: Random,
    sample: Sample,
    /// The torrents of the scrape at hand.
    torrents: Vec<(InfoHash, TorrentCounts)>,
    /// Full scrapes that are being answered.
    full_scrapes: usize,
    now_s: u32,
    closing: bool,
    counters: Arc<Counters>,
    /// What has become of the request at hand so far.
    outcome: RequestOutcome,
    /// Requests answered in the turn at hand.
    answered: u32,
}

impl Server {
    /// A server of `swarms` that serves all torrents and makes its random choices from `seed`.
    pub fn new(swarms: Arc<Swarms>, protocol: Protocol, seed: u64) -> Server {
        let torrents_max = PAGE_TORRENTS.max(protocol.max_scrape_torrents);
        Server {
            swarms,
            random: Random::seeded(seed),
            sample: Sample::with_capacity(protocol.max_numwant as u32),
            torrents: Vec::with_capacity(torrents_max),
            external: ExternalAddresses::new(&protocol),
            protocol,
            forwarded: None,
            gate: None,
            quota: None,
            full_scrapes: 0,
            now_s: 0,
            closing: false,
            counters: Arc::default(),
            outcome: RequestOutcome::Answered,
            answered: 0,
        }
    }

    /// The same, but it counts for everybody to see.
    pub fn counting(self, counters: Arc<Counters>) -> Server {
        Server { counters, ..self }
    }

    /// The same, behind proxies that say in a header where a request came from.
    pub fn behind(mut self, forwarded: Option<Forwarded>) -> Server {
        self.forwarded = forwarded;
        self
    }

    /// The same, but only for the torrents that `gate` lets in.
    pub fn guarded(self, gate: Option<AccessListCache>) -> Server {
        Server { gate, ..self }
    }

    /// The same, with limits to what one address may take.
    pub fn limited(self, quota: Option<RateLimiter>) -> Server {
        Server { quota, ..self }
    }

    /// A connection that was let in is gone.
    pub fn release(&self, ticket: ConnectionPermit) {
        if let Some(quota) = &self.quota {
            quota.release(ticket);
        }
    }

    /// Whether a request of `client` is within what its address may ask; if so, it is charged. A
    /// proxy at a Unix socket has no address, and may ask anything.
    fn is_within_quota(&mut self, client: Option<IpAddr>) -> bool {
        let (Some(quota), Some(client)) = (&mut self.quota, client) else { return true };
        quota.serves(client, self.now_s)
    }

    /// Whether a torrent is served.
    pub fn serves(&self, info_hash: &InfoHash) -> bool {
        self.gate.as_ref().is_none_or(|gate| gate.allows(info_hash))
    }

    /// Goes by the access list of this moment; whether that is another than before.
    pub fn renew_access(&mut self) -> bool {
        self.gate.as_mut().is_some_and(AccessListCache::refresh)
    }

    /// Tells what second it is, counted from the start of the process.
    pub fn set_now(&mut self, now_s: u32) {
        self.now_s = now_s;
    }

    /// How many requests it has answered since [`Server::take_answered`].
    pub fn answered(&self) -> u32 {
        self.answered
    }

    /// How many requests it has answered since this was last asked.
    pub fn take_answered(&mut self) -> u32 {
        mem::take(&mut self.answered)
    }

    /// Whether, from now on, a connection ends with the answer to the last of its requests that
    /// have come.
    pub fn close_connections(&mut self, closing: bool) {
        self.closing = closing;
    }

    /// Answers an announce (BEP 3).
    fn announce(
        &mut self,
        peer: IpAddr,
        query: Query<'_>,
        envelope: ResponseOptions,
        out: &mut [u8],
    ) -> usize {
        let announce = match parse_announce(query) {
            Ok(announce) => announce,
            Err(error) => return self.reject(error, envelope, out),
        };
        if !self.serves(&announce.info_hash) {
            self.fail(FailureReason::Refusal(RefusalReason::TorrentNotServed));
            let reason = "this tracker does not serve this torrent";
            let retry = RetryIn::Minutes(NOT_SERVED_RETRY_MINUTES);
            return response::failure(out, envelope, reason, self.intervals(), retry);
        }
        let stopped = announce.event == AnnounceEvent::Stopped;
        let numwant = match announce.numwant {
            _ if stopped => 0,
            Numwant::Default => self.protocol.default_numwant as u32,
            Numwant::AtMost(number) => number.min(self.protocol.max_numwant as u32),
        };
        let claims = self.claims(peer, &announce);
        let (first, port) = claims.first;
        if is_unreachable(first) {
            return self.answer_unreachable(envelope, out);
        }
        let seeder = announce.left == Some(0);
        let announcement = AnnounceRequest {
            info_hash: announce.info_hash,
            peer: CompactAddr::new(first, port),
            seeder,
            event: match announce.event {
                AnnounceEvent::Stopped => PeerEvent::Stopped,
                AnnounceEvent::Completed => PeerEvent::Completed,
                AnnounceEvent::Started if seeder && announce.downloaded == Some(0) => {
                    PeerEvent::Magnet
                }
                AnnounceEvent::Started | AnnounceEvent::None => PeerEvent::None,
            },
            numwant,
        };
        if let Some((second, port)) = claims.second {
            // The other family's address of the same client: no peers for it, and what it
            // completed is counted once.
            let event = if stopped { PeerEvent::Stopped } else { PeerEvent::None };
            let peer = CompactAddr::new(second, port);
            self.enter(&AnnounceRequest { peer, event, numwant: 0, ..announcement });
        }
        let counts = self.enter(&announcement);
        if let Some(external) = &mut self.external {
            external.translate(first, &announcement.peer, &mut self.sample);
        }
        let reply = AnnounceResponse {
            counts,
            external: peer,
            intervals: self.intervals(),
            sample: &self.sample,
            compact: announce.compact,
        };
        response::announce(out, envelope, &reply)
    }

    /// Has the swarms take an announce: the peers to answer with are in the sample then. Counts who
    /// is not stored, and what goes for who is.
    fn enter(&mut self, announcement: &AnnounceRequest) -> TorrentCounts {
        let counts =
            self.swarms.announce(announcement, self.now_s, &mut self.random, &mut self.sample);
        if let Some(full) = self.sample.capacity_error() {
            self.counters.unstored.add(match full {
                CapacityError::Torrents => Unstored::Torrents,
                CapacityError::Peers => Unstored::Peers,
                CapacityError::PeersPerTorrent => Unstored::PeersOfTorrent,
            });
        }
        match self.sample.replaced() {
            Some(Replaced::Peer) => self.counters.peers_replaced.add(1),
            Some(Replaced::Torrent) => self.counters.torrents_replaced.add(1),
            None => {}
        }
        counts
    }

    /// Answers a scrape of some torrents (BEP 48): unknown ones, and those that are not served,
    /// with zeros, since libtorrent takes a missing one for an error.
    fn scrape(&mut self, query: Query<'_>, envelope: ResponseOptions, out: &mut [u8]) -> Response {
        self.torrents.clear();
        for info_hash in scrape_hashes(query) {
            match info_hash {
                _ if self.torrents.len() == self.protocol.max_scrape_torrents => {
                    return keep_or_close(self.refuse_long_scrape(envelope, out), envelope);
                }
                Ok(info_hash) => self.torrents.push((info_hash, TorrentCounts::default())),
                Err(error) => return keep_or_close(self.reject(error, envelope, out), envelope),
            }
        }
        if self.torrents.is_empty() {
            return self.full_scrape(envelope, out);
        }
        self.torrents.sort_unstable_by_key(|&(info_hash, _)| info_hash);
        self.torrents.dedup_by_key(|&mut (info_hash, _)| info_hash);
        for at in 0..self.torrents.len() {
            let (info_hash, _) = self.torrents[at];
            if self.serves(&info_hash) {
                self.torrents[at].1 = self.swarms.scrape(&info_hash);
            }
        }
        keep_or_close(response::scrape(out, envelope, &self.torrents), envelope)
    }

    /// Opens a scrape of all torrents, where the operator allows it: so many at a time.
    fn full_scrape(&mut self, envelope: ResponseOptions, out: &mut [u8]) -> Response {
        let (refusal, reason, retry) = if !self.protocol.full_scrape {
            let reason = "scrape: info_hash is missing, and full scrapes are off";
            (RefusalReason::FullScrapeOff, reason, RetryIn::Never)
        } else if self.full_scrapes >= FULL_SCRAPES_MAX {
            let reason = "too many full scrapes are being answered already: try again later";
            (RefusalReason::FullScrapeBusy, reason, RetryIn::Minutes(1))
        } else if envelope.head_only {
            let closing = ResponseOptions { keep_alive: false, ..envelope };
            return keep_or_close(response::open_scrape(out, closing), closing);
        } else {
            return Response {
                len: response::open_scrape(out, ResponseOptions::CLOSING),
                disposition: Disposition::Stream,
            };
        };
        self.fail(FailureReason::Refusal(refusal));
        let len = response::failure(out, envelope, reason, self.intervals(), retry);
        keep_or_close(len, envelope)
    }

    /// A full scrape begins, which was answered with [`Disposition::Stream`].
    pub fn begin_stream(&mut self) -> FullScrape {
        self.full_scrapes += 1;
        FullScrape { walk: ScrapeCursor::default() }
    }

    /// Writes the next piece of a full scrape; whether more are to follow.
    pub fn stream(&mut self, scrape: &mut FullScrape, out: &mut [u8]) -> (usize, bool) {
        self.torrents.clear();
        let more = self.swarms.scrape_chunk(&mut scrape.walk, PAGE_TORRENTS, &mut self.torrents);
        if let Some(gate) = &self.gate {
            self.torrents.retain(|(info_hash, _)| gate.allows(info_hash));
        }
        (response::continue_scrape(out, &self.torrents, !more), more)
    }

    /// A full scrape that was begun is answered, or its client has gone.
    pub fn end_stream(&mut self) {
        self.full_scrapes -= 1;
    }

    /// Which endpoints an announce speaks for: where it came from, unless the operator lets
    /// clients say otherwise (`ip`, and `ipv4` and `ipv6`, which may have a port of their own, as
    /// BEP 7 had them in 2008).
    fn claims(&self, peer: IpAddr, announce: &Announce<'_>) -> PeerAddresses {
        let port = announce.port;
        if !self.protocol.trust_ip_parameters {
            return PeerAddresses { first: (peer, port), second: None };
        }
        let given = |address: Option<annulus_parser::Address<'_>>| {
            let (ip, own_port) = address.and_then(|address| address.endpoint())?;
            let ip = ip.to_canonical();
            (!is_unreachable(ip)).then_some((ip, own_port.unwrap_or(port)))
        };
        let v4 = given(announce.ipv4).filter(|(ip, _)| ip.is_ipv4());
        let v6 = given(announce.ipv6).filter(|(ip, _)| ip.is_ipv6());
        let ip = given(announce.ip).map(|(ip, _)| ip);
        let own = ip.unwrap_or(peer);
        let (first, second) = if own.is_ipv4() { (v4, v6) } else { (v6, v4) };
        let first = first.filter(|_| ip.is_none()).unwrap_or((own, port));
        PeerAddresses { first, second }
    }

    /// Answers what is neither announce nor scrape: people, robots, and mistyped URLs.
    fn page(&mut self, target: &[u8], envelope: ResponseOptions, out: &mut [u8]) -> usize {
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let (status, text) = match path {
            b"/" if !self.protocol.redirect.is_empty() => {
                return response::redirect(out, envelope, &self.protocol.redirect);
            }
            b"/" => (Status::Ok, "This is a BitTorrent tracker, run by Annulus.\n"),
            b"/robots.txt" => (Status::Ok, "User-agent: *\nDisallow: /\n"),
            _ => {
                self.fail(FailureReason::Refusal(RefusalReason::NotFound));
                let text =
                    "This is a BitTorrent tracker: /announce and /scrape are all there is.\n";
                (Status::NotFound, text)
            }
        };
        response::message(out, envelope, status, text)
    }

    /// Counts a failure, which is what has become of the request at hand, if there is one.
    fn fail(&mut self, failure: FailureReason) {
        self.counters.failures.add(failure);
        self.outcome = RequestOutcome::Failed;
    }

    /// Counts the request at hand, which is answered.
    fn count(&mut self, kind: RequestType, client: Option<IpAddr>) {
        self.counters.requests.add((kind, AddressFamily::of(client), self.outcome));
        self.answered += 1;
    }

    fn intervals(&mut self) -> Intervals {
        let interval_s = self.protocol.interval_s;
        let spread = self.random.below(interval_s * INTERVAL_SPREAD_PERCENT / 100 + 1);
        Intervals { interval_s: interval_s + spread, min_interval_s: self.protocol.min_interval_s }
    }
}

impl Handler for Server {
    fn response_bytes_max(&self) -> usize {
        response_bytes_max(&self.protocol)
    }

    fn is_closing(&self) -> bool {
        self.closing
    }

    fn admit(&mut self, client: IpAddr, secured: bool) -> Option<ConnectionPermit> {
        let Some(quota) = &mut self.quota else { return Some(ConnectionPermit::default()) };
        match quota.admit(client, secured, self.now_s) {
            Ok(ticket) => Some(ticket),
            Err(excess) => {
                self.counters.rejected.add(match excess {
                    LimitExceeded::Connections => Rejection::AddressConnections,
                    LimitExceeded::Requests => Rejection::AddressRequests,
                });
                None
            }
        }
    }

    fn answer(&mut self, peer: Option<IpAddr>, head: &Head<'_>, out: &mut [u8]) -> Response {
        let envelope = ResponseOptions {
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
        let kind = match head.target {
            _ if head.method == Method::Options => RequestType::Page,
            Target::Announce(_) => RequestType::Announce,
            Target::Scrape(_) => RequestType::Scrape,
            Target::Other(_) => RequestType::Page,
        };
        let reply = match head.target {
            _ if !self.is_within_quota(source) => {
                // A proxy's connection stays: it is not the client's.
                let keep_alive = envelope.keep_alive && client.ok() != peer;
                let envelope = ResponseOptions { keep_alive, ..envelope };
                keep_or_close(self.put_off(kind, envelope, out), envelope)
            }
            // Whatever it is asked of: load balancers do, to see whether anybody answers.
            _ if head.method == Method::Options => {
                keep_or_close(response::options(out, envelope), envelope)
            }
            Target::Announce(query) => {
                let len = match client {
                    Ok(client) => self.announce(client, query, envelope, out),
                    Err(unknown) => self.answer_unknown(peer, unknown, envelope, out),
                };
                keep_or_close(len, envelope)
            }
            Target::Scrape(query) => self.scrape(query, envelope, out),
            Target::Other(target) => {
                let closing = ResponseOptions { keep_alive: false, ..envelope };
                keep_or_close(self.page(target, closing, out), closing)
            }
        };
        self.count(kind, source);
        reply
    }

    fn refuse(
        &mut self,
        peer: Option<IpAddr>,
        mistake: RequestError,
        said: &[u8],
        out: &mut [u8],
    ) -> usize {
        let envelope =
            ResponseOptions { head_only: asks_for_head(said), ..ResponseOptions::CLOSING };
        // It costs what a request does, and is charged like one. It ends its connection anyway.
        self.is_within_quota(peer);
        self.send_away(mistake, said, envelope, out)
    }
}

/// The endpoints an announce speaks for.
struct PeerAddresses {
    first: (IpAddr, u16),
    second: Option<(IpAddr, u16)>,
}

/// The most bytes that any reply takes under this configuration, headers included.
pub fn response_bytes_max(protocol: &Protocol) -> usize {
    let announce = response::announce_bytes_max(protocol.max_numwant);
    let scrape = response::scrape_bytes_max(protocol.max_scrape_torrents);
    let page =
        if protocol.full_scrape { response::continue_scrape_bytes_max(PAGE_TORRENTS) } else { 0 };
    let other = response::FAILURE_BYTES_MAX.max(response::REDIRECT_BYTES_MAX);
    announce.max(scrape).max(page).max(other)
}

fn keep_or_close(len: usize, envelope: ResponseOptions) -> Response {
    let disposition = if envelope.keep_alive { Disposition::KeepAlive } else { Disposition::Close };
    Response { len, disposition }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use annulus_parser::{Bounds, Parsed, parse_head};

    use super::{Handler, Random, Sample, Server};
    use crate::access_list::{AccessList, SharedAccessList};
    use crate::config::Protocol;
    use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX, RESPONSE_BYTES_MAX};
    use annulus_swarm::{AnnounceRequest, CompactAddr, PeerEvent, SwarmConfig, Swarms};

    const BOUNDS: Bounds = Bounds {
        request_line_bytes_max: REQUEST_LINE_BYTES_MAX,
        head_bytes_max: HEAD_BYTES_MAX,
        headers_max: HEADERS_MAX,
    };
    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Swarms with one peer in each of the torrents 'a' and 'b'.
    fn swarms() -> Arc<Swarms> {
        let settings = SwarmConfig {
            torrents_max: 10,
            peers_max: 10,
            peers_per_torrent_max: 10,
            peers_per_address_max: 0,
            peer_timeout_s: 1000,
        };
        let swarms = Swarms::new(settings, RandomState::new());
        for letter in *b"ab" {
            let peer = CompactAddr::new(LOCALHOST, 1);
            let announcement = AnnounceRequest {
                info_hash: [letter; 20],
                peer,
                seeder: true,
                event: PeerEvent::None,
                numwant: 0,
            };
            let (mut random, mut sample) = (Random::seeded(0), Sample::with_capacity(0));
            swarms.announce(&announcement, 0, &mut random, &mut sample);
        }
        Arc::new(swarms)
    }

    fn ask(server: &mut Server, target: &str) -> String {
        ask_from(LOCALHOST, server, target)
    }

    fn ask_from(client: IpAddr, server: &mut Server, target: &str) -> String {
        let request = format!("GET {target} HTTP/1.1\r\n\r\n");
        let Ok(Parsed::Complete { head, .. }) = parse_head(request.as_bytes(), 0, &BOUNDS) else {
            panic!("{target:?} is no request")
        };
        let mut out = vec![0; RESPONSE_BYTES_MAX];
        let len = server.answer(Some(client), &head, &mut out).len;
        String::from_utf8_lossy(&out[..len]).into_owned()
    }

    /// While the sweep has not come by yet.
    #[test]
    fn a_torrent_that_is_not_served_is_not_shown_though_it_is_there() {
        let [a, b] = ["a", "b"].map(|letter| letter.repeat(20));
        let scrape = format!("/scrape?info_hash={a}&info_hash={b}");
        let file = |hash: &str, seeders| format!("20:{hash}d8:completei{seeders}e10:downloadedi0e");
        for denied in [None, Some(b'a'), Some(b'b')] {
            let list = AccessList::new(denied.map(|letter| [letter; 20]).into_iter().collect());
            let protocol = Protocol { full_scrape: true, ..Protocol::default() };
            let mut server = Server::new(swarms(), protocol, 1)
                .guarded(Some(SharedAccessList::new(list, false).cache()));
            let scraped = ask(&mut server, &scrape);
            ask(&mut server, "/scrape");
            let mut scrape = server.begin_stream();
            let mut piece = vec![0; RESPONSE_BYTES_MAX];
            let mut full = String::new();
            loop {
                let (len, more) = server.stream(&mut scrape, &mut piece);
                full += str::from_utf8(&piece[..len]).expect("letters only");
                if !more {
                    break;
                }
            }
            for hash in [&a, &b] {
                let is_served = denied != Some(hash.as_bytes()[0]);
                assert!(scraped.contains(&file(hash, u8::from(is_served))), "{scraped}");
                assert_eq!(full.contains(&file(hash, 1)), is_served, "{full}");
            }
        }
    }

    /// A connection may come from a link-local address of IPv6, which is told to nobody.
    #[test]
    fn a_client_that_nobody_can_reach_is_refused() {
        let target = format!("/announce?info_hash={}&port=1", "a".repeat(20));
        for trusted in [false, true] {
            let protocol = Protocol { trust_ip_parameters: trusted, ..Protocol::default() };
            let mut server = Server::new(swarms(), protocol, 1);
            let client = "fe80::1".parse().unwrap();
            let failed = ask_from(client, &mut server, &target);
            assert!(failed.contains("nobody can reach"), "{failed}");
            // Unless it may say where it can be reached, and does.
            let told = ask_from(client, &mut server, &format!("{target}&ip=2001:db8::1"));
            assert_eq!(told.contains("nobody can reach"), !trusted, "{told}");
        }
    }
}

//! One thread of a load by UDP (BEP 15): connected sockets, and slots for requests in flight.
//!
//! A turn of the loop visits each socket: it receives a batch, has it validated, and sends as many
//! requests as it has free slots, in a batch, too. With a schedule, due requests are passed to
//! one socket after the other, a batch each. System calls and the clock are so paid by batch.
//!
//! Without a schedule the loop polls: if it waited for a socket, the tracker would pay for the
//! wake-up. When little arrived and many requests are in flight, it sleeps for a part of the last
//! latency, after which the tracker still has requests, so that they come in larger batches.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use annulus_ring::{ConnectedUdp, ReceivedUdp, UdpPoll, UdpReceiveBatch, UdpSendBatch};
use rustix::thread::{Timespec, nanosleep, set_current_timer_slack};

use crate::client::PendingRequest;
use crate::datagram::{DatagramResponse, DatagramTemplates, write_connect};
use crate::failure::{Failure, FailureKind};
use crate::in_flight::{InFlight, TransactionStatus};
use crate::request::RequestSequence;
use crate::stats::WorkerReport;
use crate::worker::{LoadWorkerParts, thread_cpu_ns};

/// A sleep is this part of the latency, and has these bounds in nanoseconds: short ones end some
/// 100 microseconds late, when the tracker may have no requests left, and long ones save no more.
const NAP_PART: u64 = 4;
const NAP_NS_MIN: u64 = 200_000;
const NAP_NS_MAX: u64 = 2_000_000;

/// By how many nanoseconds a wait may end late. It ends that much before the next arrival, and the
/// loop polls for the rest, because late requests would count against the tracker.
const LATE_NS: u64 = 100_000;

/// Nanoseconds between two looks at what is rare: losses, connection ids and the end of the run.
const CHECK_NS_MIN: u64 = 1_000_000;
const CHECK_NS_MAX: u64 = 50_000_000;

/// Nanoseconds before another connect request, at most.
const CONNECT_NS_MAX: u64 = 500_000_000;

/// Nanoseconds between two reports.
const REPORT_NS: u64 = 1_000_000_000;

/// What the options mean for one worker by UDP, besides what they mean for any.
pub struct UdpWorkerConfig {
    /// The number of its first socket among those of all workers.
    pub first_socket: u32,
    /// Sockets of all workers.
    pub sockets: u32,
    /// At least one, and at most as many as its slots.
    pub own_sockets: u32,
    /// After how many nanoseconds without a response a request is lost.
    pub loss_ns: u64,
    /// The age in nanoseconds at which a connection id is renewed.
    pub id_lifetime_ns: u64,
    /// Bytes of a response at most.
    pub response_bytes_max: usize,
    pub templates: DatagramTemplates,
}

pub struct UdpWorker {
    parts: LoadWorkerParts,
    config: UdpWorkerConfig,
    clients: Vec<UdpClient>,
    in_flight: InFlight,
    unsent: UdpSendBatch,
    poll: UdpPoll,
    /// Whether it waited in this turn, and so knows which sockets have something to receive.
    polled: bool,
    /// The client that takes the next arrivals, where there is a schedule.
    next_client: usize,
    /// Requests that were sent, or were due with no slot free.
    requests: u64,
    /// Of the last response.
    latency_ns: u64,
    over: bool,
    now_ns: u64,
    next_check_ns: u64,
    next_report_ns: u64,
}

/// A socket, its connection id, and the requests that it sends.
struct UdpClient {
    socket: ConnectedUdp,
    ip: IpAddr,
    sequence: RequestSequence,
    free: Vec<u32>,
    connection_id: Option<u64>,
    /// When the connection id was asked for.
    id_ns: u64,
    /// When the connect request that waits was sent. All have the same transaction id.
    connect_ns: Option<u64>,
}

impl UdpWorker {
    /// Fails if a socket cannot be had.
    pub fn new(mut parts: LoadWorkerParts, config: UdpWorkerConfig) -> io::Result<UdpWorker> {
        let in_flight = InFlight::new(parts.config.own_slots, config.own_sockets);
        let plan = &parts.validator.plan;
        let mut clients = Vec::with_capacity(config.own_sockets as usize);
        for own in 0..config.own_sockets {
            let number = config.first_socket + own;
            let source = plan.source(number);
            let socket = ConnectedUdp::connect(source, parts.config.tracker);
            let socket = socket.map_err(|error| explain(error, source))?;
            clients.push(UdpClient {
                ip: socket.local_address()?.ip(),
                socket,
                sequence: RequestSequence::new(
                    number,
                    config.sockets,
                    plan.peers(),
                    parts.config.scrapes_percent,
                    parts.config.seed,
                ),
                free: in_flight.slots_of(own).rev().collect(),
                connection_id: None,
                id_ns: 0,
                connect_ns: None,
            });
        }
        parts.validator.local = clients.first().map(|client| client.ip);
        Ok(UdpWorker {
            clients,
            in_flight,
            unsent: UdpSendBatch::new(config.templates.bytes_max()),
            poll: UdpPoll::default(),
            polled: false,
            next_client: 0,
            requests: 0,
            latency_ns: 0,
            over: false,
            now_ns: 0,
            next_check_ns: 0,
            next_report_ns: REPORT_NS,
            parts,
            config,
        })
    }

    /// Runs until the time is up or all requests are sent, and every request has its outcome.
    pub fn run(mut self) -> io::Result<()> {
        // Naps are short, and arrivals are due in between the ticks that the kernel would wait for.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        let mut batch = UdpReceiveBatch::new(self.config.response_bytes_max);
        let mut received = 0;
        loop {
            self.read_clock();
            if self.now_ns >= self.next_check_ns {
                self.check();
            }
            let settled = self.parts.validator.settled;
            if !self.may_request() && self.requests == settled {
                break;
            }
            let (turn_ns, before) = (self.now_ns, self.requests);
            let waited = self.wait(received)?;
            received = 0;
            for at in 0..self.clients.len() {
                if !self.polled || self.poll.is_ready(at) {
                    received += self.receive(at, &mut batch);
                }
                if self.parts.schedule.is_none() {
                    self.send_more(at);
                }
            }
            self.send_arrivals();
            if !waited && received == 0 && self.requests == before {
                self.read_clock();
                self.parts.validator.stats.polling_ns += self.now_ns - turn_ns;
            }
        }
        self.parts.validator.stats.cpu_ns = thread_cpu_ns();
        self.report(true);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the load measures latencies")]
    fn read_clock(&mut self) {
        self.now_ns = u64::try_from(self.parts.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.parts.validator.now_ns = self.now_ns;
    }

    fn may_request(&self) -> bool {
        !self.over && self.requests < self.parts.config.requests
    }

    /// Waits as the pace asks for, given how many responses the last turn received. Returns whether
    /// it does.
    fn wait(&mut self, received: usize) -> io::Result<bool> {
        if let Some(schedule) = &self.parts.schedule {
            let arrival_ns = match self.may_request() && self.may_send() {
                true => schedule.next_ns(),
                false => u64::MAX,
            };
            let until_ns = arrival_ns.min(self.next_check_ns).saturating_sub(self.now_ns);
            let sockets = self.clients.iter().map(|client| &client.socket);
            let wait_ns = until_ns.saturating_sub(LATE_NS);
            self.polled = wait_ns > 0;
            if self.polled {
                self.poll.wait(sockets, Duration::from_nanos(wait_ns))?;
            }
            return Ok(self.polled);
        }
        let nap_ns = (self.latency_ns / NAP_PART).min(NAP_NS_MAX);
        let few = self.in_flight.waiting() / (2 * NAP_PART);
        let naps = nap_ns >= NAP_NS_MIN && received as u64 <= few;
        if naps {
            let nap = Timespec { tv_sec: 0, tv_nsec: nap_ns as _ };
            let _ = nanosleep(&nap);
        }
        Ok(naps)
    }

    /// Whether any request could be sent at once.
    fn may_send(&self) -> bool {
        self.clients.iter().any(UdpClient::may_send)
    }

    /// Receives a batch. Returns how many datagrams it has.
    fn receive(&mut self, at: usize, batch: &mut UdpReceiveBatch) -> usize {
        let count = match self.clients[at].socket.receive(batch) {
            Ok(0) => return 0,
            Ok(count) => count,
            Err(error) => {
                self.count_error(error);
                return 0;
            }
        };
        self.read_clock();
        self.parts.validator.source = Some(self.clients[at].ip);
        batch.datagrams().for_each(|datagram| self.on_datagram(at, datagram));
        count
    }

    fn on_datagram(&mut self, at: usize, datagram: ReceivedUdp<'_>) {
        let validator = &mut self.parts.validator;
        validator.stats.received_bytes += datagram.bytes.len() as u64;
        let Some(response) = DatagramResponse::parse(datagram.bytes) else {
            let detail = format_args!("{} bytes", datagram.bytes.len());
            return validator.stats.failures.count(Failure::new(FailureKind::BadLength, detail));
        };
        let transaction = response.transaction;
        if transaction == self.in_flight.foreign_transaction(at as u32) {
            return self.on_connected(at, &response);
        }
        let client = &mut self.clients[at];
        let request = match self.in_flight.take(transaction, at as u32) {
            TransactionStatus::Waiting(request) => request,
            TransactionStatus::Late => return validator.stats.late += 1,
            TransactionStatus::Repeated => {
                return validator.stats.failures.count(FailureKind::Surplus.into());
            }
            TransactionStatus::Unknown => {
                return validator.stats.failures.count(FailureKind::StrangeTransaction.into());
            }
        };
        client.free.push(self.in_flight.slot(transaction));
        self.latency_ns = self.now_ns.saturating_sub(request.sent_ns);
        let is_v6 = self.parts.config.tracker.is_ipv6();
        let checked = match datagram.is_truncated {
            true => Err(FailureKind::TooLong.into()),
            false => validator.check_announce(request.kind.peer(), |context| {
                self.config.templates.check(&response, request.kind, context, is_v6)
            }),
        };
        validator.count(&request, checked);
    }

    fn on_connected(&mut self, at: usize, response: &DatagramResponse<'_>) {
        let client = &mut self.clients[at];
        let stats = &mut self.parts.validator.stats;
        // If two were sent, the first response is enough.
        let Some(sent_ns) = client.connect_ns else { return };
        match response.connection_id() {
            Ok(id) => {
                client.connection_id = Some(id);
                (client.id_ns, client.connect_ns) = (sent_ns, None);
                stats.connections += 1;
            }
            // It is asked for again like after a loss.
            Err(failure) => stats.failures.count(failure),
        }
    }

    /// Sends as many requests as a client has free slots, without a schedule.
    fn send_more(&mut self, at: usize) {
        while self.may_request() && self.clients[at].may_send() && !self.unsent.is_full() {
            self.add_request(at, self.now_ns);
        }
        self.send(at);
    }

    /// Sends the requests that are due by the schedule.
    fn send_arrivals(&mut self) {
        if self.parts.schedule.is_none() {
            return;
        }
        self.read_clock();
        let until_ns = self.now_ns.min(self.parts.config.duration_ns - 1);
        for _ in 0..self.clients.len() {
            let at = self.next_client;
            while self.may_request()
                && self.clients[at].may_send()
                && !self.unsent.is_full()
                && let Some(due_ns) = self.take_arrival(until_ns)
            {
                self.add_request(at, due_ns);
            }
            self.send(at);
            self.next_client = (at + 1) % self.clients.len();
            if self.parts.schedule.as_ref().is_some_and(|it| it.next_ns() > until_ns) {
                break;
            }
        }
    }

    fn take_arrival(&mut self, until_ns: u64) -> Option<u64> {
        self.parts.schedule.as_mut().and_then(|schedule| schedule.take(until_ns))
    }

    /// Adds the next request of a client to the batch. The client has a free slot, and the batch
    /// has room.
    fn add_request(&mut self, at: usize, due_ns: u64) {
        let client = &mut self.clients[at];
        let (Some(id), Some(slot)) = (client.connection_id, client.free.pop()) else { return };
        let kind = client.sequence.next_request();
        let request = PendingRequest { kind, due_ns, sent_ns: self.now_ns };
        let transaction = self.in_flight.begin(slot, request);
        let UdpWorkerConfig { templates, .. } = &self.config;
        let plan = &self.parts.validator.plan;
        self.unsent.push(|out| templates.write(out, plan, kind, (id, transaction)));
        self.requests += 1;
        self.parts.validator.stats.requests_sent += 1;
    }

    fn send(&mut self, at: usize) {
        // An error may be about an earlier datagram: the batch is tried again, and then lost.
        for _ in 0..2 {
            match self.clients[at].socket.send(&mut self.unsent) {
                Ok(()) => return,
                Err(error) => self.count_error(error),
            }
        }
        self.unsent.clear();
    }

    fn count_error(&mut self, error: io::Error) {
        let kind = match error.kind() {
            ErrorKind::ConnectionRefused => FailureKind::Connect,
            _ => FailureKind::Socket,
        };
        self.parts.validator.stats.failures.count(Failure::new(kind, error));
    }

    /// Does what is rare: gives up lost requests, has connection ids renewed, reports, and ends the
    /// run.
    fn check(&mut self) {
        self.next_check_ns =
            self.now_ns + (self.config.loss_ns / 8).clamp(CHECK_NS_MIN, CHECK_NS_MAX);
        if let Some(sent_ns) = self.now_ns.checked_sub(self.config.loss_ns) {
            let sockets = self.clients.len();
            self.in_flight.give_up(sent_ns, |slot, request| {
                self.parts.validator.count_lost(&request);
                self.clients[slot as usize % sockets].free.push(slot);
            });
        }
        if !self.over {
            (0..self.clients.len()).for_each(|at| self.renew_id(at));
        }
        self.check_silence();
        self.check_time();
        if self.now_ns >= self.next_report_ns {
            self.next_report_ns = self.now_ns - self.now_ns % REPORT_NS + REPORT_NS;
            self.report(false);
        }
    }

    /// Asks for a connection id if there is none or it is old, and again if that was lost.
    fn renew_id(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let id_age_ns = self.now_ns - client.id_ns;
        let is_young = client.connection_id.is_some() && id_age_ns < self.config.id_lifetime_ns;
        let wait_ns = self.config.loss_ns.min(CONNECT_NS_MAX);
        if is_young || client.connect_ns.is_some_and(|sent_ns| self.now_ns - sent_ns < wait_ns) {
            return;
        }
        client.connect_ns = Some(self.now_ns);
        let transaction = self.in_flight.foreign_transaction(at as u32);
        self.unsent.push(|out| write_connect(out, transaction));
        self.send(at);
    }

    /// Ends the run if no client has a connection id after the time that a connection may take.
    fn check_silence(&mut self) {
        let has_id = |client: &UdpClient| client.connection_id.is_some();
        let is_late = self.now_ns >= self.parts.config.timeout_ns;
        if !self.over && is_late && !self.clients.iter().any(has_id) {
            let failure = Failure::new(FailureKind::Silence, "no connection id");
            self.parts.validator.stats.failures.count(failure);
            self.over = true;
        }
    }

    /// Ends the run if the time is up and no free slot can take what arrived by then.
    fn check_time(&mut self) {
        let LoadWorkerParts { config, schedule, validator, stop, .. } = &mut self.parts;
        let stopped = stop.load(Ordering::Acquire);
        if self.over || (self.now_ns < config.duration_ns && !stopped) {
            return;
        }
        let end_ns = self.now_ns.min(config.duration_ns - 1);
        if let Some(schedule) = schedule {
            let more = self.requests < config.requests && schedule.next_ns() <= end_ns;
            if more && !stopped && self.clients.iter().any(UdpClient::may_send) {
                return;
            }
            let more_max = config.requests - self.requests;
            self.requests += validator.count_unsent(schedule, end_ns, more_max);
        }
        self.over = true;
    }

    fn report(&mut self, last: bool) {
        let stats = mem::take(&mut self.parts.validator.stats);
        let in_flight = self.in_flight.waiting();
        // It fails when another worker has failed and the run is over.
        let report = WorkerReport { at_ns: self.now_ns, stats, in_flight, last };
        let _ = self.parts.reports.send(report);
    }
}

impl UdpClient {
    fn may_send(&self) -> bool {
        self.connection_id.is_some() && !self.free.is_empty()
    }
}

fn explain(error: io::Error, source: Option<IpAddr>) -> io::Error {
    match source {
        Some(ip) if error.kind() == ErrorKind::AddrNotAvailable => io::Error::other(format!(
            "{error}: {ip} of --sources is not this machine's, or has no free ports"
        )),
        _ => error,
    }
}

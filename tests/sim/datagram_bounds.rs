//! Datagrams, one matter at a time: what a seed covers, one table for all protocols, the shutdown,
//! a flood, limits.

use std::cell::Cell;

use annulus::limits::REQUESTS_PER_TURN_MAX;
use annulus::log::{Format, Level, Logger};
use annulus::metrics::counter::CounterKey;
use annulus::metrics::labels::DatagramDrop;
use annulus_swarm::Random;

use super::bounds::{ANNOUNCE, client};
use super::client::{ClientScript, Ending};
use super::datagram_answers::DatagramReport;
use super::datagram_client::{DatagramScript, IdChoice, IdState, Outcome, Step};
use super::datagram_script::{self, AnnounceBody, asked_address, client_address};
use super::datagrams::{DATAGRAM_SOCKETS, Delivery};
use super::faults::{DatagramFaults, Faults};
use super::run::{Clients, build, client_table, finish_checked, run_all, run_limited};
use super::script::framed;
use super::trace::Trace;

/// The torrent that [`ANNOUNCE`] is for.
const INFO_HASH: [u8; 20] = *b"abcdefghijklmnopqrst";
/// No client of TCP.
const NOBODY: &[ClientScript] = &[];

/// A client of socket 0 that takes these steps.
fn udp_client(number: u32, steps: Vec<Step>) -> DatagramScript {
    let socket = (number % u32::from(DATAGRAM_SOCKETS)) as u16;
    let from = client_address(number, socket);
    let to = asked_address(socket, from, &mut Random::seeded(0));
    DatagramScript { from, socket, to, begin_ms: 0, steps, hasty: false, pause_ms: 0 }
}

/// Announces so often.
fn announcing(number: u32, times: usize) -> DatagramScript {
    let mut script = udp_client(number, Vec::new());
    let step = Step::Ask {
        from: script.from,
        id: IdChoice::Fresh,
        action: datagram_script::ANNOUNCE,
        body: AnnounceBody::new(INFO_HASH, 6881).write(),
        outcome: Outcome::Announced,
    };
    script.steps = vec![step; times];
    script
}

fn run_udp(udp: &[DatagramScript], faults: Faults) -> DatagramReport {
    run_all(Clients { tcp: NOBODY, udp }, faults, 0, &Trace::default()).1
}

fn action(delivery: &Delivery) -> Option<u8> {
    delivery.reply.as_ref().map(|reply| reply[3])
}

/// A property that is never put to the test holds.
#[test]
fn seeds_cover_what_may_become_of_a_datagram() {
    Logger { level: Level::Error, format: Format::Plain }.begin();
    let mut dropped = [0; DatagramDrop::COUNT];
    let mut replied = [0; 4];
    let (mut repeated, mut late, mut old, mut elsewhere) = (0, 0, 0, 0);
    for seed in 0..200 {
        let mut random = Random::seeded(seed);
        let faults = Faults::drawn(&mut random);
        let udp = datagram_script::draw(seed);
        let clients = Clients { tcp: NOBODY, udp: &udp };
        let (_, report) = run_all(clients, faults, seed, &Trace::default());
        report.check();
        for (reason, count) in report.counters.datagrams_dropped.iter() {
            dropped[reason.index()] += count;
        }
        for delivery in &report.deliveries {
            let action = action(delivery);
            replied[usize::from(action.unwrap_or(3))] += u32::from(action.is_some());
            late += u32::from(delivery.late && action.is_some());
            let told = matches!(delivery.packet.id, IdState::Told(_));
            old += u32::from(told && action.is_none() && !delivery.is_truncated());
            let own = udp[delivery.packet.client].from;
            elsewhere += u32::from(action.is_some() && delivery.packet.from != own);
        }
        repeated += report.clients.iter().map(|client| client.repeated).sum::<u32>();
    }
    for (index, count) in dropped.iter().enumerate() {
        let never = DatagramDrop::at(index) == DatagramDrop::AddressRequests;
        assert_eq!(*count == 0, never, "{:?}: {count}", DatagramDrop::at(index));
    }
    assert!(replied.iter().all(|&count| count > 100), "{replied:?}");
    let counts = [repeated, late, old, elsewhere];
    assert!(counts.iter().all(|&count| count > 10), "{counts:?}");
}

#[test]
fn clients_of_all_protocols_find_each_other() {
    let mut udp = [announcing(4, 1), announcing(8, 2)];
    (udp[0].begin_ms, udp[1].begin_ms) = (1000, 2000);
    let first = client(1, vec![framed(200, ANNOUNCE)], Ending::Close);
    let last =
        ClientScript { connect_ms: 3000, ..client(2, first.requests.clone(), Ending::Close) };
    let clients = Clients { tcp: &[first, last], udp: &udp };
    let (tcp, report) = run_all(clients, Faults::none(), 0, &Trace::default());
    let peers = |number: usize| {
        let announced = |delivery: &&Delivery| action(delivery) == Some(1);
        let own = report.deliveries.iter().filter(|delivery| delivery.packet.client == number);
        let replies = own.filter(announced).map(|delivery| delivery.reply.as_ref().expect("one"));
        let peers = |reply: &Vec<u8>| reply[20..].chunks(6).map(Vec::from).collect();
        replies.map(peers).collect::<Vec<Vec<Vec<u8>>>>()
    };
    let by_tcp = vec![10, 0, 0, 1, 0, 7];
    let by_udp = |low: u8| vec![10, 64, 0, low, 0x1a, 0xe1];
    assert_eq!(peers(0), [vec![by_tcp.clone()]]);
    for mut peers in peers(1) {
        peers.sort();
        assert_eq!(peers, [by_tcp.clone(), by_udp(4)]);
    }
    for peer in [by_udp(4), by_udp(8), by_tcp] {
        assert!(tcp[1].received.windows(6).any(|bytes| bytes == peer), "{peer:?} is missing");
    }
}

#[test]
fn what_has_arrived_by_a_stop_is_answered() {
    // One connection id, then all at once, and the worker is told to stop with the first of them.
    let mut script = announcing(0, 301);
    script.steps.insert(1, Step::WaitMs(1000));
    let mut hasty = script.clone();
    hasty.hasty = true;
    let datagrams = DatagramFaults { fills_max: 7, ..DatagramFaults::none() };
    let faults = Faults { shutdown_ms: Some(1000), datagrams, ..Faults::none() };
    let report = run_udp(&[hasty], faults);
    report.check();
    let late = report.deliveries.iter().filter(|delivery| delivery.late).count();
    assert!(late > 250, "{late} after the stop");
    assert_eq!(report.deliveries.len(), 302);
    assert!(report.deliveries.iter().all(|delivery| delivery.reply.is_some()));
}

#[test]
fn datagrams_wait_for_buffers() {
    let datagrams = DatagramFaults { buffers: 1, ..DatagramFaults::none() };
    let mut scripts: Vec<DatagramScript> = (0..20).map(|number| announcing(number, 50)).collect();
    scripts.iter_mut().for_each(|script| script.hasty = true);
    let report = run_udp(&scripts, Faults { datagrams, ..Faults::none() });
    assert_eq!(report.deliveries.len(), 20 * 51);
    assert!(report.deliveries.iter().all(|delivery| delivery.reply.is_some()));
}

/// When clients of TCP come, of whom each waits for an answer before it asks again.
const TCP_AT_MS: u64 = 5;

/// Milliseconds for which they are there, when every turn takes one; and the datagrams that came
/// meanwhile.
fn tcp_takes_ms(udp: &[DatagramScript], fills_max: u32) -> (Vec<u64>, usize) {
    let datagrams = DatagramFaults { fills_max, buffers: 10_000, ..DatagramFaults::none() };
    let datagrams = DatagramFaults { queue_max: 100_000, ..datagrams };
    let faults = Faults { creeps: 1000, turn_ms: 1, datagrams, ..Faults::none() };
    let tcp: Vec<ClientScript> = (0..20)
        .map(|number| {
            let requests = vec![framed(200, ANNOUNCE); 20];
            let script = client(number, requests, Ending::Close);
            ClientScript { connect_ms: TCP_AT_MS, pipelined: false, ..script }
        })
        .collect();
    let clients = Clients { tcp: &tcp, udp };
    let (worker, clock_ms, _) = build(clients, faults, 0, &Trace::default());
    let meanwhile = Cell::new(0);
    let (reports, datagrams) = finish_checked(worker, &clock_ms, |worker| {
        let delivered = worker.ring().net.delivered_in_turn();
        assert!(delivered <= (fills_max * u32::from(DATAGRAM_SOCKETS)) as usize);
        if worker.connections() > 0 {
            meanwhile.update(|sum| sum + delivered);
        }
    });
    for (report, script) in reports.iter().zip(&tcp) {
        assert_eq!(report.responses(script, true).statuses, [200; 20]);
    }
    let sent: usize = udp.iter().map(|script| script.steps.len() + 1).sum();
    assert_eq!(datagrams.deliveries.len(), sent);
    let times_ms = reports.iter().map(|report| report.ended_ms - TCP_AT_MS);
    (times_ms.collect(), meanwhile.get())
}

#[test]
fn a_flood_of_datagrams_does_not_delay_connections() {
    let flood: Vec<DatagramScript> =
        (0..40).map(|number| DatagramScript { hasty: true, ..announcing(number, 1500) }).collect();
    let (calm_ms, _) = tcp_takes_ms(&[], 1);
    // As many as the engines deliver, and so many that a turn answers no more after them.
    for (fills_max, times) in [(32, 1), (REQUESTS_PER_TURN_MAX / 4 + 50, 2)] {
        let (flooded_ms, meanwhile) = tcp_takes_ms(&flood, fills_max);
        for (calm, flooded) in calm_ms.iter().zip(&flooded_ms) {
            assert!(*flooded <= calm * times + 2, "{fills_max}: {flooded} ms instead of {calm}");
        }
        let turns = meanwhile as u32 / (4 * fills_max);
        assert!(turns >= 20, "the flood was over after {turns} turns");
    }
}

#[test]
fn requests_by_udp_count_for_the_limit_of_their_address() {
    const BURST: u32 = 5;
    let mut greedy = announcing(0, 40);
    greedy.hasty = true;
    // Connects do not count: their source may be forged.
    let connect = |from| Step::Ask {
        from,
        id: IdChoice::Magic,
        action: datagram_script::CONNECT,
        body: Vec::new(),
        outcome: Outcome::Connected,
    };
    let mut connecting = udp_client(4, Vec::new());
    connecting.steps = vec![connect(connecting.from); 40];
    let modest = announcing(1, 3);
    let udp = [greedy, connecting, modest];
    let table = client_table(0, 1, BURST);
    let clients = Clients { tcp: NOBODY, udp: &udp };
    let (_, report) = run_limited(clients, Faults::none(), 0, &Trace::default(), &table);
    let count = |number: usize, wanted: Option<u8>| {
        let own = report.deliveries.iter().filter(|delivery| delivery.packet.client == number);
        own.filter(|delivery| action(delivery) == wanted).count()
    };
    assert_eq!(count(0, Some(1)), BURST as usize);
    let (told, dropped) = (count(0, Some(3)), count(0, None));
    assert_eq!(told + dropped, 40 - BURST as usize);
    assert!(told > 0 && dropped > told, "{told} told, {dropped} dropped");
    let counted = report.counters.datagrams_dropped.sum(|it| it == DatagramDrop::AddressRequests);
    assert_eq!(counted, dropped as u64);
    assert_eq!((count(1, Some(0)), count(1, None)), (40, 0));
    assert_eq!((count(2, Some(1)), count(2, None)), (3, 0));
}

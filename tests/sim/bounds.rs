//! Bounds, one at a time: deadlines, memory, connections, the full scrape, the shutdown.

use std::net::IpAddr;

use annulus::limits::{
    BUFFERED_BYTES_MAX, DEADLINES_PER_TURN_MAX, FULL_SCRAPES_MAX, HEAD_BYTES_MAX, LINGER_BYTES_MAX,
    LINGER_S, REQUESTS_PER_TURN_MAX, UNREAD_BYTES_MAX,
};
use annulus_swarm::{AnnounceRequest, CompactAddr, PeerEvent, Random, Sample, Swarms};

use super::answers::torrents_in;
use super::client::{ClientOutcome, ClientScript, Ending, Expected, Request, Trouble};
use super::faults::{Faults, Windows};
use super::run::{HEADER_S, IDLE_S, SEND_S, SHUTDOWN_S, SimReport, build, finish, run};
use super::script::{framed, peer};
use super::tls::Manner;
use super::trace::Trace;

pub(crate) const ANNOUNCE: &str =
    "GET /announce?info_hash=abcdefghijklmnopqrst&port=7&left=1 HTTP/1.1\r\nHost: t\r\n\r\n";
const FULL_SCRAPE: &str = "GET /scrape HTTP/1.1\r\nHost: t\r\n\r\n";

pub(crate) fn client(number: u32, requests: Vec<Request>, ending: Ending) -> ClientScript {
    ClientScript {
        peer: Some(peer(number)),
        connect_ms: 0,
        requests,
        pipelined: true,
        pause_ms: 0,
        piece: 0,
        ending,
        trouble: Trouble::None,
        https: false,
        tls: None,
    }
}

fn unanswered(bytes: impl Into<Vec<u8>>) -> Request {
    Request { bytes: bytes.into(), expected: Expected::Nothing }
}

pub(crate) fn full_scrape(number: u32, connect_ms: u64) -> ClientScript {
    let bytes = FULL_SCRAPE.into();
    let requests = vec![Request { bytes, expected: Expected::FullScrape }];
    ClientScript { connect_ms, ..client(number, requests, Ending::Await) }
}

pub(crate) fn run_one(script: &ClientScript, faults: Faults) -> SimReport {
    let mut reports = run(std::slice::from_ref(script), faults, 0, &Trace::default());
    reports.remove(0)
}

/// Whether something happened `after_s` seconds after the client was accepted: the clock of
/// deadlines counts whole seconds, and looks once a second.
pub(crate) fn assert_after(at_ms: u64, report: &SimReport, after_s: u32) {
    let after_ms = at_ms - report.accepted_ms.expect("accepted");
    let wanted_ms = u64::from(after_s) * 1000;
    let about = wanted_ms.saturating_sub(1000)..=wanted_ms + 1000;
    assert!(about.contains(&after_ms), "after {after_ms} ms instead of {wanted_ms}");
}

#[test]
fn a_head_that_does_not_end_is_answered_with_408() {
    let script = client(1, vec![framed(408, "GET /announce?info_ha")], Ending::Await);
    let report = run_one(&script, Faults::none());
    assert_eq!(report.responses(&script, true).statuses, [408]);
    assert_after(report.read_last_ms, &report, HEADER_S);
    assert_eq!(report.outcome, ClientOutcome::Closed);
}

#[test]
fn a_head_that_comes_byte_by_byte_has_no_longer() {
    for connect_ms in [0, 700] {
        let requests = vec![framed(408, &ANNOUNCE[..40])];
        let mut script = client(1, requests, Ending::Await);
        (script.piece, script.pause_ms, script.connect_ms) = (1, 900, connect_ms);
        let report = run_one(&script, Faults::none());
        assert_eq!(report.responses(&script, true).statuses, [408]);
        assert_after(report.read_last_ms, &report, HEADER_S);
    }
}

#[test]
fn a_head_that_begins_late_has_no_longer() {
    // Line ends before a request are no request, but the client's time has begun.
    let requests = vec![unanswered("\r\n"), unanswered("\r\n"), framed(408, &ANNOUNCE[..40])];
    let mut script = client(1, requests, Ending::Await);
    (script.piece, script.pause_ms) = (2, 2200);
    let report = run_one(&script, Faults::none());
    assert_eq!(report.responses(&script, true).statuses, [408]);
    assert_after(report.read_last_ms, &report, HEADER_S);
}

#[test]
fn a_later_head_that_comes_piece_by_piece_has_no_longer() {
    let slow = format!("GET /announce?{}", "a".repeat(5000));
    let requests = vec![framed(200, ANNOUNCE), framed(408, slow)];
    let mut script = client(1, requests, Ending::Await);
    (script.piece, script.pause_ms) = (ANNOUNCE.len(), 900);
    let report = run_one(&script, Faults::none());
    assert_eq!(report.responses(&script, true).statuses, [200, 408]);
    assert_after(report.read_last_ms, &report, HEADER_S + 1);
}

#[test]
fn no_deadline_cuts_in_while_requests_are_answered() {
    // One request a turn, and so slowly that the time of the first head passes meanwhile.
    let script = client(1, vec![framed(200, ANNOUNCE); 400], Ending::Close);
    let faults = Faults { creeps: 1000, turn_ms: 50, batch_bytes: 0, ..Faults::none() };
    let report = run_one(&script, faults);
    assert_eq!(report.responses(&script, true).statuses, [200; 400]);
    assert!(report.read_last_ms > u64::from(HEADER_S + 2) * 1000);
}

#[test]
fn a_silent_client_is_closed_without_a_response() {
    let report = run_one(&client(1, vec![], Ending::Await), Faults::none());
    assert!(report.received.is_empty());
    assert_after(report.ended_ms, &report, HEADER_S);
    assert_eq!(report.outcome, ClientOutcome::Closed);
}

#[test]
fn an_idle_client_is_closed() {
    let script = client(1, vec![framed(200, ANNOUNCE)], Ending::Await);
    let report = run_one(&script, Faults::none());
    assert_eq!(report.responses(&script, true).statuses, [200]);
    assert_after(report.ended_ms, &report, IDLE_S);
    assert_eq!(report.outcome, ClientOutcome::Closed);
}

#[test]
fn line_ends_keep_no_connection_open() {
    let line_ends = "\r\n".repeat(50 * ANNOUNCE.len());
    let requests = vec![framed(200, ANNOUNCE), unanswered(line_ends)];
    let mut script = client(1, requests, Ending::Await);
    (script.piece, script.pause_ms) = (ANNOUNCE.len(), 300);
    let report = run_one(&script, Faults::none());
    assert_after(report.ended_ms, &report, IDLE_S);
}

#[test]
fn a_client_that_never_reads_is_reset_and_costs_bounded_memory() {
    // The first kilobytes of answers fill the client's window.
    let requests = vec![framed(200, ANNOUNCE); 10_000];
    let mut script = client(1, requests, Ending::Await);
    script.trouble = Trouble::NeverReads;
    let report = run_one(&script, Faults { windows: Windows::Slow, ..Faults::none() });
    assert_after(report.closed_ms.expect("closed"), &report, SEND_S);
    assert_eq!(report.outcome, ClientOutcome::Reset);
    // Of the 800 kB that were offered, no more was taken than the window had answers for.
    assert!(report.taken < 32 * 1024, "{} bytes taken", report.taken);
}

#[test]
fn bytes_received_in_spite_of_the_pause_are_bounded() {
    // A ring with more buffers than it was asked for, and all of them for one connection.
    let many = ANNOUNCE.repeat(2 * UNREAD_BYTES_MAX / ANNOUNCE.len());
    let requests = vec![framed(200, ANNOUNCE), unanswered(many)];
    let script = ClientScript { pipelined: false, ..client(1, requests, Ending::Await) };
    let report = run_one(&script, Faults { fills_max: 1000, buffers: 1000, ..Faults::none() });
    assert!(report.closed_ms < Some(1000), "closed at {:?} ms", report.closed_ms);
}

/// That no more is held than may be is checked after every turn of every run.
#[test]
fn unfinished_heads_are_bounded_together_and_small_ones_are_answered() {
    const HALF: usize = HEAD_BYTES_MAX - 1000;
    let hoards = 3 * BUFFERED_BYTES_MAX / 2 / HALF;
    let half = format!("{}X-Long: {}", &ANNOUNCE[..ANNOUNCE.len() - 2], "x".repeat(HALF));
    let hoard = |number| ClientScript {
        connect_ms: u64::from(number) / 4,
        ..client(number, vec![framed(408, half.clone())], Ending::Await)
    };
    let mut scripts: Vec<ClientScript> = (0..hoards as u32).map(hoard).collect();
    // Its request comes in two pieces, before and after the others.
    let mut small = client(hoards as u32, vec![framed(200, ANNOUNCE)], Ending::Close);
    (small.piece, small.pause_ms) = (ANNOUNCE.len() - 20, 1000);
    scripts.push(small);
    let faults = Faults { descriptors_max: 10_000, connections_max: 10_000, ..Faults::none() };
    let mut reports = run(&scripts, faults, 0, &Trace::default());
    let small = reports.pop().expect("a report of each");
    assert_eq!(small.responses(&scripts[hoards], true).statuses, [200]);
    let reset = reports.iter().filter(|report| report.received.is_empty()).count();
    assert!(reset >= hoards / 3, "{reset} of {hoards} were reset");
    assert!(reset <= hoards * 2 / 3, "{reset} of {hoards} were reset");
}

#[test]
fn a_client_that_pipelines_and_reads_gets_every_response() {
    let requests = vec![framed(200, ANNOUNCE); 5000];
    let script = client(1, requests, Ending::Close);
    for windows in [Windows::Endless, Windows::Slow, Windows::Tiny] {
        let report = run_one(&script, Faults { windows, ..Faults::none() });
        assert_eq!(report.responses(&script, true).answers.len(), 5000, "{windows:?}");
        assert_eq!(report.outcome, ClientOutcome::Content);
    }
}

#[test]
fn lingering_is_bounded_in_time_and_bytes() {
    let refused = framed(405, "POST /announce HTTP/1.1\r\n\r\n");
    // Sends for ever, slowly.
    let mut script = client(1, vec![refused.clone(), unanswered("x".repeat(9999))], Ending::Await);
    (script.piece, script.pause_ms, script.trouble) = (27, 100, Trouble::Stays);
    let report = run_one(&script, Faults::none());
    assert_eq!(report.responses(&script, true).statuses, [405]);
    assert_after(report.closed_ms.expect("closed"), &report, LINGER_S);
    // Sends a lot.
    let flood = "x".repeat(2 * LINGER_BYTES_MAX as usize);
    let mut script = client(1, vec![refused, unanswered(flood)], Ending::Await);
    (script.piece, script.trouble) = (32 * 1024, Trouble::Stays);
    let report = run_one(&script, Faults::none());
    assert_eq!(report.outcome, ClientOutcome::Reset);
    let most = LINGER_BYTES_MAX as usize + 2 * 64 * 4096;
    assert!(report.taken <= most, "{} bytes taken", report.taken);
}

#[test]
fn connections_are_bounded_and_accepted_again() {
    const MAX: usize = 3;
    let scripts: Vec<ClientScript> = (0..40)
        .map(|number| {
            let script = client(number, vec![framed(200, ANNOUNCE)], Ending::Close);
            ClientScript { connect_ms: u64::from(number), piece: 30, pause_ms: 50, ..script }
        })
        .collect();
    let trace = Trace::default();
    let faults = Faults { connections_max: MAX, ..Faults::none() };
    let (mut worker, clock_ms, _) = build(&scripts, faults, 0, &trace);
    let mut most = 0;
    while !worker.ring().quiet() {
        worker.wait().expect("the fake ring never breaks");
        worker.act((clock_ms.get() / 1000) as u32);
        worker.ring().check_limit();
        most = most.max(worker.connections());
    }
    assert_eq!(most, MAX);
    for (report, script) in finish(worker, &clock_ms).iter().zip(&scripts) {
        assert_eq!(report.responses(script, true).statuses, [200]);
    }
}

#[test]
fn a_turn_answers_a_bounded_number_of_requests() {
    // Each of them has sent as much as is received at once, and all have in one moment.
    let requests = 60;
    let scripts: Vec<ClientScript> = (0..200)
        .map(|number| client(number, vec![framed(200, ANNOUNCE); requests], Ending::Close))
        .collect();
    let faults = Faults { buffers: 1000, buffer_bytes: 8192, ..Faults::none() };
    let (mut worker, clock_ms, _) = build(&scripts, faults, 0, &Trace::default());
    let (mut most, mut all) = (0, 0);
    while !worker.ring().quiet() {
        worker.wait().expect("the fake ring never breaks");
        worker.act((clock_ms.get() / 1000) as u32);
        let (_, answered) = worker.turn_work();
        most = most.max(answered);
        all += answered;
    }
    assert_eq!(all as usize, requests * scripts.len());
    let bounds = REQUESTS_PER_TURN_MAX..=REQUESTS_PER_TURN_MAX + requests as u32;
    assert!(bounds.contains(&most), "{most} requests answered in one turn");
    for (report, script) in finish(worker, &clock_ms).iter().zip(&scripts) {
        assert_eq!(report.responses(script, true).answers.len(), requests);
    }
}

#[test]
fn many_expired_connections_are_closed_over_several_turns() {
    let count = 3 * DEADLINES_PER_TURN_MAX as u32;
    let scripts: Vec<ClientScript> =
        (0..count).map(|number| client(number, vec![], Ending::Await)).collect();
    let faults = Faults { connections_max: 2000, descriptors_max: 2000, ..Faults::none() };
    let (mut worker, clock_ms, _) = build(&scripts, faults, 0, &Trace::default());
    while worker.connections() < scripts.len() {
        worker.wait().expect("the fake ring never breaks");
        worker.act((clock_ms.get() / 1000) as u32);
    }
    while worker.connections() > 0 {
        let before = worker.connections();
        worker.wait().expect("the fake ring never breaks");
        worker.act((clock_ms.get() / 1000) as u32);
        let gone = before - worker.connections();
        assert!(gone <= 2 * DEADLINES_PER_TURN_MAX, "{gone} in one turn");
    }
    for report in finish(worker, &clock_ms) {
        assert_after(report.closed_ms.expect("closed"), &report, HEADER_S);
    }
}

/// One that has sent half a request, or nothing of TLS but half a hello.
fn unfinished(number: u32, connect_ms: u64) -> ClientScript {
    ClientScript { connect_ms, ..client(number, vec![framed(408, "GET /")], Ending::Await) }
}

fn announces_at(number: u32, connect_ms: u64, ending: Ending) -> ClientScript {
    ClientScript { connect_ms, ..client(number, vec![framed(200, ANNOUNCE)], ending) }
}

#[test]
fn the_longest_idle_connection_makes_room() {
    let scripts = [
        announces_at(1, 1200, Ending::Await),
        announces_at(2, 100, Ending::Await),
        announces_at(4, 2300, Ending::Await),
        unfinished(5, 2400),
        // By now as many are open as may be.
        announces_at(7, 3000, Ending::Await),
    ];
    for https in [false, true] {
        let mut scripts = scripts.clone();
        if https {
            scripts = scripts.map(|script| match script.requests[0].expected {
                Expected::Framed(200) => super::https::with_tls(script, false),
                _ => script,
            });
        }
        let faults = Faults { connections_max: 4, ..Faults::none() };
        let reports = run(&scripts, faults, 0, &Trace::default());
        let ended_ms: Vec<u64> = reports.iter().map(|report| report.ended_ms).collect();
        assert!((3000..3100).contains(&ended_ms[1]), "the longest idle: {ended_ms:?}");
        assert!(ended_ms[4] < 3100, "the one that came: {ended_ms:?}");
        // The others have their time.
        assert_after(ended_ms[0], &reports[0], IDLE_S);
        assert_after(ended_ms[2], &reports[2], IDLE_S);
        for (report, script) in reports.iter().zip(&scripts) {
            assert_ne!(report.outcome, ClientOutcome::Reset, "{ended_ms:?}");
            assert_eq!(report.responses(script, false).answers.len(), 1);
            assert_eq!(report.notified, script.https);
        }
    }
}

#[test]
fn near_the_limit_responses_close_their_connections() {
    // Seven of eight are nearly all.
    let scripts: Vec<ClientScript> =
        (0..9).map(|at| announces_at(at, 10 * u64::from(at), Ending::Await)).collect();
    let faults = Faults { connections_max: 8, ..Faults::none() };
    let reports = run(&scripts, faults, 0, &Trace::default());
    for (number, report) in reports.iter().enumerate() {
        let closes = String::from_utf8_lossy(&report.received).contains("Connection: close");
        assert_eq!(closes, number >= 6, "client {number}");
        assert_eq!(report.ended_ms < 1000, closes, "client {number}");
    }
}

#[test]
fn a_client_that_sends_no_request_has_less_time_when_others_wait() {
    // A quarter of the six seconds that there are for a head.
    let scripts = [unfinished(1, 0), unfinished(2, 100), announces_at(4, 200, Ending::Close)];
    let faults = Faults { connections_max: 2, ..Faults::none() };
    let reports = run(&scripts, faults, 0, &Trace::default());
    for (report, script) in reports.iter().zip(&scripts) {
        assert_eq!(report.responses(script, false).answers.len(), 1);
    }
    let ended_ms = reports[2].ended_ms;
    assert!((1000..4000).contains(&ended_ms), "the one that waited: {ended_ms} ms");
}

#[test]
fn accepting_goes_on_as_soon_as_a_descriptor_is_free() {
    let scripts: Vec<ClientScript> =
        (0..40).map(|number| client(number, vec![framed(200, ANNOUNCE)], Ending::Close)).collect();
    let trace = Trace::default();
    let faults = Faults { descriptors_max: 2, ..Faults::none() };
    for (report, script) in run(&scripts, faults, 0, &trace).iter().zip(&scripts) {
        assert_eq!(report.responses(script, true).statuses, [200]);
        assert!(report.ended_ms < 1000, "waited for {} ms", report.ended_ms);
    }
}

/// Torrents of the full scrapes: some four hundred kilobytes in many pieces.
pub(crate) const TORRENTS: u32 = 5000;

fn fill(swarms: &Swarms) {
    let (mut random, mut sample) = (Random::seeded(0), Sample::with_capacity(0));
    for torrent in 0..TORRENTS {
        let mut info_hash = [0; 20];
        info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
        let announcement = AnnounceRequest {
            info_hash,
            peer: CompactAddr::new(IpAddr::from([10, 0, 0, 1]), 1),
            seeder: torrent % 2 == 0,
            event: PeerEvent::None,
            numwant: 0,
            own_family_only: false,
        };
        swarms.announce(&announcement, 0, &mut random, &mut sample);
    }
}

pub(crate) fn run_full(scripts: &[ClientScript], faults: Faults, seed: u64) -> Vec<SimReport> {
    let (worker, clock_ms, swarms) = build(scripts, faults, seed, &Trace::default());
    fill(&swarms);
    finish(worker, &clock_ms)
}

#[test]
fn a_full_scrape_is_whole_however_it_is_sent() {
    for seed in 0..30 {
        let reports = run_full(&[full_scrape(1, 0)], hampered_sends(seed), seed);
        let torrents = torrents_in(&reports[0].received);
        assert_eq!(torrents, Some(TORRENTS as usize), "seed {seed}");
    }
}

/// Clients that read at once or slowly, and a kernel that takes little at a time.
pub(crate) fn hampered_sends(seed: u64) -> Faults {
    Faults {
        windows: [Windows::Endless, Windows::Slow][seed as usize % 2],
        short_send: 500,
        refused_send: 200,
        owned_rests: 300,
        held: 300,
        reordered: true,
        ..Faults::none()
    }
}

#[test]
fn full_scrapes_at_once_are_bounded() {
    let most = FULL_SCRAPES_MAX as u32;
    let mut scripts: Vec<ClientScript> = (0..most).map(|number| full_scrape(number, 0)).collect();
    // One that does not read takes a place, but nobody's time.
    scripts[0].trouble = Trouble::NeverReads;
    scripts.extend([full_scrape(most, 5), full_scrape(most + 1, 60_000)]);
    let slow = Faults { windows: Windows::Slow, ..Faults::none() };
    let reports = run_full(&scripts, slow.clone(), 0);
    let whole = |report: &SimReport| torrents_in(&report.received) == Some(TORRENTS as usize);
    assert!(reports[1..most as usize].iter().all(whole));
    let refusal = String::from_utf8_lossy(&reports[most as usize].received);
    assert!(refusal.contains("14:failure reason65:too many full scrapes"), "{refusal}");
    assert!(whole(&reports[most as usize + 1]));
    assert_after(reports[0].closed_ms.expect("closed"), &reports[0], SEND_S);
}

#[test]
fn a_turn_sends_one_chunk_of_one_full_scrape() {
    let scripts: Vec<ClientScript> = (0..4).map(|number| full_scrape(number, 0)).collect();
    let (mut worker, clock_ms, swarms) = build(&scripts, Faults::none(), 0, &Trace::default());
    fill(&swarms);
    let (mut turns, mut most) = (0, 0);
    while !worker.ring().quiet() {
        worker.wait().expect("the fake ring never breaks");
        worker.act((clock_ms.get() / 1000) as u32);
        (turns, most) = (turns + 1, most.max(worker.ring().sent_in_turn));
    }
    let reports = finish(worker, &clock_ms);
    let bytes: usize = reports.iter().map(|report| report.received.len()).sum();
    assert!(reports.iter().all(|report| torrents_in(&report.received).is_some()));
    // 256 torrents, and a hundred bytes of each.
    assert!(most < 32 * 1024, "{most} bytes of {bytes} in one of {turns} turns");
}

#[test]
fn a_full_scrape_that_breaks_off_makes_room_for_the_next() {
    for trouble in [Trouble::ResetsAfter(20), Trouble::NeverReads, Trouble::Leaves] {
        let broken = ClientScript { trouble, ..full_scrape(1, 0) };
        let faults = Faults { windows: Windows::Slow, ..Faults::none() };
        let reports = run_full(&[broken, full_scrape(2, 20_000)], faults, 0);
        assert_eq!(torrents_in(&reports[0].received), None, "{trouble:?}");
        assert_eq!(torrents_in(&reports[1].received), Some(TORRENTS as usize), "{trouble:?}");
    }
}

/// Many answers, and a client that takes some hundred bytes of them a second.
fn slow_reader(last: &[Request]) -> (ClientScript, Faults) {
    let requests = [&vec![framed(200, ANNOUNCE); 40][..], last].concat();
    let faults = Faults { windows: Windows::Trickle, ..Faults::none() };
    (client(1, requests, Ending::Await), faults)
}

fn run_seeded(script: &ClientScript, faults: Faults, seed: u64) -> SimReport {
    run(std::slice::from_ref(script), faults, seed, &Trace::default()).remove(0)
}

#[test]
fn no_answer_is_cut_while_its_client_takes_bytes() {
    let page = framed(404, "GET /x HTTP/1.1\r\nHost: t\r\n\r\n");
    let malformed = framed(405, "POST /announce HTTP/1.1\r\n\r\n");
    let last = framed(200, ANNOUNCE.replace("Host: t", "Connection: close"));
    let half = framed(408, &ANNOUNCE[..40]);
    let mut longest_ms = 0;
    for seed in 0..20 {
        for last in [&page, &malformed, &last, &half] {
            for tls in [None, Some(Manner::good(seed % 2 == 0))] {
                let (script, faults) = slow_reader(std::slice::from_ref(last));
                let script = ClientScript { https: tls.is_some(), tls, ..script };
                let report = run_seeded(&script, faults, seed);
                assert_eq!(report.responses(&script, true).statuses.len(), 41, "seed {seed}");
                assert_eq!(report.outcome, ClientOutcome::Closed, "seed {seed}");
                longest_ms = longest_ms.max(report.read_last_ms);
            }
        }
    }
    assert!(longest_ms > 1000 * u64::from(HEADER_S + SEND_S), "read within {longest_ms} ms");
}

/// Whoever is answered between two requests has its idle time from when it has taken the answer.
#[test]
fn a_slow_reader_may_send_another_request() {
    for seed in 0..20 {
        let (script, faults) = slow_reader(&[]);
        let report = run_seeded(&ClientScript { pipelined: false, ..script }, faults, seed);
        assert_eq!(report.responses(&slow_reader(&[]).0, true).statuses, [200; 40], "seed {seed}");
    }
}

#[test]
fn a_client_that_stops_reading_is_reset() {
    let page = framed(404, "GET /x HTTP/1.1\r\nHost: t\r\n\r\n");
    for last in [&[][..], &[page]] {
        let (mut script, faults) = slow_reader(last);
        script.requests.splice(..0, vec![framed(200, ANNOUNCE); 400]);
        script.trouble = Trouble::NeverReads;
        let report = run_one(&script, Faults { windows: Windows::Slow, ..faults });
        assert_after(report.closed_ms.expect("closed"), &report, SEND_S);
        assert_eq!(report.outcome, ClientOutcome::Reset);
    }
    // All answers fit the window, so that nothing waits but the client's acknowledgement.
    let mut script = client(1, vec![framed(200, ANNOUNCE); 3], Ending::Await);
    script.trouble = Trouble::NeverReads;
    let report = run_one(&script, Faults::none());
    assert_after(report.closed_ms.expect("closed"), &report, IDLE_S + SEND_S + 1);
    assert_eq!(report.outcome, ClientOutcome::Reset);
}

#[test]
fn a_client_that_reads_a_byte_now_and_then_is_reset() {
    let page = framed(404, "GET /x HTTP/1.1\r\nHost: t\r\n\r\n");
    for requests in [vec![page], vec![framed(200, ANNOUNCE); 400]] {
        let script = client(1, requests, Ending::Await);
        let report = run_one(&script, Faults { windows: Windows::Drip, ..Faults::none() });
        assert_after(report.closed_ms.expect("closed"), &report, SEND_S);
        assert_eq!(report.outcome, ClientOutcome::Reset);
    }
}

#[test]
fn a_stop_waits_for_slow_readers_and_answers_pending_requests() {
    for seed in 0..20 {
        let (script, faults) = slow_reader(&[]);
        let faults = Faults { shutdown_ms: Some(300), buffer_bytes: 512, ..faults };
        let report = run_seeded(&script, faults, seed);
        let responses = report.responses(&script, false);
        let bound_ms = 300 + 1000 * u64::from(SHUTDOWN_S - 1);
        let is_late = report.closed_ms.expect("closed") >= bound_ms;
        assert!(responses.statuses.len() == 40 || is_late, "seed {seed}: {:?}", responses.statuses);
        assert!(report.outcome == ClientOutcome::Closed || is_late, "seed {seed}: reset");
        let close = b"Connection: close";
        let closes = report.received.windows(close.len()).filter(|window| window == close);
        assert!(closes.count() <= 1, "seed {seed}: it goes on after an end");
    }
}

#[test]
fn a_stop_waits_for_full_scrapes_and_resets_them_at_its_bound() {
    for seed in 0..20 {
        let windows = [Windows::Slow, Windows::Trickle][seed as usize % 2];
        let faults = Faults { windows, shutdown_ms: Some(50), ..Faults::none() };
        let report = run_full(&[full_scrape(1, 0)], faults, seed).remove(0);
        let is_whole = torrents_in(&report.received) == Some(TORRENTS as usize);
        let bound_ms = 1000 * u64::from(SHUTDOWN_S);
        let is_cut = report.outcome == ClientOutcome::Reset && report.closed_ms >= Some(bound_ms);
        let as_expected = if windows == Windows::Slow { is_whole } else { is_cut };
        assert!(as_expected, "seed {seed}: {:?} at {:?} ms", report.outcome, report.closed_ms);
    }
}

/// Though it does not go by itself.
#[test]
fn an_idle_client_does_not_delay_a_stop() {
    for tls in [None, Some(Manner::good(false)), Some(Manner::good(true))] {
        let mut script = client(1, vec![framed(200, ANNOUNCE)], Ending::Await);
        script.trouble = Trouble::Stays;
        let script = ClientScript { https: tls.is_some(), tls, ..script };
        let report = run_one(&script, Faults { shutdown_ms: Some(2500), ..Faults::none() });
        let after_ms = report.closed_ms.expect("closed") - 2500;
        assert!(after_ms < 100, "after {after_ms} ms");
        assert_eq!(report.responses(&script, false).statuses, [200]);
        assert_eq!(report.notified, script.tls.is_some(), "no close_notify");
    }
}

#[test]
fn a_silent_client_delays_a_stop_for_a_moment_only() {
    let mut script = client(1, vec![], Ending::Await);
    script.trouble = Trouble::Stays;
    let report = run_one(&script, Faults { shutdown_ms: Some(500), ..Faults::none() });
    let after_ms = report.closed_ms.expect("closed") - 500;
    let linger_ms = 1000 * u64::from(LINGER_S);
    assert!((linger_ms - 1000..=linger_ms + 1000).contains(&after_ms), "after {after_ms} ms");
}

#[test]
fn the_last_answer_of_all_is_sent_whole() {
    // The request ends when everybody else has gone, and its answer does not fit.
    let request = ANNOUNCE.replace("Host: t", "Connection: close");
    let mut script = client(1, vec![framed(200, request)], Ending::Await);
    (script.piece, script.pause_ms) = (60, 500);
    let faults = Faults { refused_send: 1000, multishot_ends: 1000, ..Faults::none() };
    let report = run_one(&script, Faults { shutdown_ms: Some(250), ..faults });
    assert_eq!(report.responses(&script, true).statuses, [200]);
    assert_eq!(report.outcome, ClientOutcome::Closed);
}

#[test]
fn a_shutdown_takes_a_bounded_time_whatever_clients_do() {
    let good = || vec![framed(200, ANNOUNCE)];
    let many = vec![framed(200, ANNOUNCE); 1000];
    let stays = |script| ClientScript { trouble: Trouble::Stays, ..script };
    let scripts = [
        stays(client(1, good(), Ending::Await)),
        stays(client(2, vec![], Ending::Await)),
        stays(client(4, vec![framed(408, "GET /a")], Ending::Await)),
        ClientScript { trouble: Trouble::NeverReads, ..client(5, many, Ending::Await) },
    ];
    let stop_ms = 2500;
    let faults = Faults { windows: Windows::Slow, shutdown_ms: Some(stop_ms), ..Faults::none() };
    for report in run(&scripts, faults, 0, &Trace::default()) {
        let closed_ms = report.closed_ms.expect("closed");
        assert!(closed_ms <= stop_ms + 1000 * u64::from(SHUTDOWN_S + 1), "at {closed_ms} ms");
    }
}

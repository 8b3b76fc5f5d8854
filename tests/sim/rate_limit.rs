//! What one address may take: clients of the same address, under limits that they reach.

use annulus::limits::REJECTIONS_ANSWERED_PER_S;
use annulus_swarm::Random;

use super::bounds::{ANNOUNCE, client};
use super::client::{ClientOutcome, ClientScript, Ending, Trouble};
use super::faults::Faults;
use super::run::{IDLE_S, SimReport, client_table, run_limited};
use super::script::{self, framed, peer};
use super::tls::Manner;
use super::trace::Trace;

/// Who wants it all, and who must not notice.
const GREEDY: u32 = 2;
const MODEST: u32 = 4;

/// A client at this address that announces so often and stays.
fn announcing(number: u32, times: usize, connect_ms: u64) -> ClientScript {
    ClientScript { connect_ms, ..client(number, vec![framed(200, ANNOUNCE); times], Ending::Await) }
}

/// Announces that were answered with peers.
fn served(report: &SimReport) -> usize {
    String::from_utf8_lossy(&report.received).matches("d8:completei").count()
}

#[test]
fn connections_of_an_address_are_bounded_and_admitted_again() {
    const MAX: u16 = 3;
    let again_ms = 1000 * u64::from(IDLE_S + 3);
    let mut scripts: Vec<ClientScript> = (0..10).map(|at| announcing(GREEDY, 1, at)).collect();
    scripts.extend((0..10).map(|at| announcing(GREEDY, 1, again_ms + at)));
    scripts.push(announcing(MODEST, 1, 5));
    let client_table = client_table(MAX, 0, 0);
    let (reports, _) = run_limited(&scripts, Faults::none(), 0, &Trace::default(), &client_table);
    for (at, report) in reports.iter().enumerate() {
        let let_in = at == 20 || at % 10 < usize::from(MAX);
        assert_eq!(served(report), usize::from(let_in), "client {at}");
        let outcome = if let_in { ClientOutcome::Closed } else { ClientOutcome::Reset };
        assert_eq!(report.outcome, outcome, "client {at}");
        assert!(let_in || (report.taken == 0 && report.received.is_empty()), "client {at}");
    }
}

#[test]
fn requests_of_an_address_are_bounded_and_served_again() {
    let scripts = [
        announcing(GREEDY, 20, 100),
        announcing(MODEST, 5, 110),
        announcing(GREEDY, 20, 2100),
        announcing(GREEDY, 20, 60_100),
    ];
    let client_table = client_table(0, 3, 5);
    let (reports, _) = run_limited(&scripts, Faults::none(), 0, &Trace::default(), &client_table);
    let counts: Vec<usize> = reports.iter().map(served).collect();
    // All at once, then what two seconds gave back, then all again.
    assert_eq!(counts, [5, 5, 5, 5]);
    for at in [0, 2, 3] {
        let said = String::from_utf8_lossy(&reports[at].received);
        assert_eq!(said.matches("14:failure reason").count(), 1, "client {at}: {said}");
        assert!(said.contains("8:retry ini5e"), "{said}");
        assert_eq!(reports[at].outcome, ClientOutcome::Closed);
    }
}

#[test]
fn a_refused_client_that_returns_is_reset_for_the_rest_of_the_second() {
    let responses = u64::from(REJECTIONS_ANSWERED_PER_S);
    // The first is served and the next are told, before the others come.
    let mut scripts: Vec<ClientScript> = (0..20).map(|at| announcing(GREEDY, 1, 10 * at)).collect();
    scripts.push(announcing(MODEST, 1, 200));
    scripts.push(announcing(GREEDY, 1, 1500));
    let client_table = client_table(0, 1, 1);
    let (reports, _) = run_limited(&scripts, Faults::none(), 0, &Trace::default(), &client_table);
    for (at, report) in reports.iter().enumerate() {
        let at = at as u64;
        assert_eq!(served(report), usize::from(at == 0 || at >= 20), "client {at}");
        let reset = (1 + responses..20).contains(&at);
        assert_eq!(report.outcome == ClientOutcome::Reset, reset, "client {at}");
        assert_eq!(report.received.is_empty(), reset, "client {at}");
    }
}

#[test]
fn handshakes_are_charged_and_refused_before_they_begin() {
    let greedy_https = |number, connect_ms| ClientScript {
        https: true,
        tls: Some(Manner::good(false)),
        ..announcing(number, 1, connect_ms)
    };
    let mut scripts: Vec<ClientScript> = (0..10).map(|at| greedy_https(GREEDY, 10 * at)).collect();
    scripts.push(greedy_https(MODEST, 50));
    let client_table = client_table(5, 1, 6);
    let (reports, _) = run_limited(&scripts, Faults::none(), 0, &Trace::default(), &client_table);
    for (at, report) in reports.iter().enumerate() {
        // Three handshakes, and a request of each.
        let let_in = at < 3 || at == 10;
        assert_eq!(report.agreed, let_in, "client {at}");
        assert_eq!(report.taken > 0, let_in, "client {at}");
        assert_eq!(report.outcome == ClientOutcome::Reset, !let_in, "client {at}");
    }
}

/// Whatever goes wrong: every connection that was counted is uncounted, once.
#[test]
fn every_counted_connection_is_released() {
    let mut reset = 0;
    for seed in 0..300 {
        let mut random = Random::seeded(seed);
        let mut scripts = script::draw(seed, &mut random);
        for script in &mut scripts {
            script.peer = Some(peer(GREEDY * random.below(2)));
            if random.below(8) == 0 {
                script.trouble = Trouble::NeverReads;
            }
        }
        let faults = Faults::drawn(&mut random);
        let client_table = client_table(1 + random.below(4) as u16, random.below(4), 4);
        let (reports, _) = run_limited(&scripts, faults, seed, &Trace::default(), &client_table);
        let was_reset =
            |report: &&SimReport| report.outcome == ClientOutcome::Reset && report.taken == 0;
        reset += reports.iter().filter(was_reset).count();
    }
    assert!(reset > 100, "only {reset} connections were refused");
}

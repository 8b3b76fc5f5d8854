//! The worker under a fake ring: seeded runs in which everything goes wrong that a kernel, a
//! network and clients may do, compared with what the same clients are told when nothing
//! does.
//!
//! One seed is one run, in virtual time:
//! 1. It draws some clients and what each sends ([`script`]), and lets them talk to a worker
//!    undisturbed. Every request must get the answer it was drawn for.
//!    In one seed of three some come to a listener with TLS and speak it ([`tls`]), and in three of
//!    four some speak UDP ([`datagram_script`]).
//! 2. It draws [`faults`] and lets the same clients talk to another worker: sends fall short,
//!    multishots end, buffers, descriptors and slots run out, completions are held back and
//!    overtake each other, some clients reset, leave or never read, the worker is told to stop.
//!    Datagrams are lost, repeated, late and cut, and replies are not taken.
//!    In one seed of two the connections of addresses are counted, but not limited.
//! 3. Clients that behave must have been told the same, byte for byte but for chance; the
//!    others a beginning of it. All slots, buffers and descriptors must be back. Of datagrams each
//!    run stands for itself: the worker must have replied as a server without a network would to
//!    those that arrived, and as a model of the clients expects ([`datagram_answers`]).
//!
//! The fake ring also checks what a ring's user promises ([`ring`]). A failure prints the
//! seed and what happened last: `ANNULUS_SIM_SEED=n` runs one seed, `ANNULUS_SIM_SEEDS=n` so
//! many. That the checks can fail is tested by breaking the ring ([`faults::Sabotage`]).
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod answers;
mod bounds;
mod client;
mod datagram_answers;
mod datagram_bounds;
mod datagram_client;
mod datagram_script;
mod datagrams;
mod faults;
mod https;
mod kernel;
mod lanes;
mod network;
mod rate_limit;
mod ring;
mod run;
mod script;
mod tls;
mod trace;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use annulus::limits::nearly_all;
use annulus::log::{Format, Level, Logger};
use annulus_swarm::Random;

use client::{ClientOutcome, Ending, Trouble};
use faults::{Faults, SABOTAGES, Sabotage};
use run::{Clients, SHUTDOWN_S, SimReport, client_table, run_all, run_limited};
use tls::ConnectionEnd;
use trace::Trace;

/// Seeds of a plain test run.
const SEEDS: u64 = 2000;

/// One seed in so many counts what addresses take, in the disturbed run.
const SEEDS_PER_LIMITED: u64 = 2;

/// Times that a failed seed is run again for its trace.
const REPEATS: u32 = 50;
/// Milliseconds in which a connection must be closed whose client has left: the worker looks once a
/// second whether everything is acknowledged, and a tick may be late.
const LET_GO_MS: u64 = 1500;

/// One seed, whole; panics if anything is wrong.
fn check(seed: u64, sabotage: Option<Sabotage>, trace: &Trace) {
    // What the workers say of all that is done to them would bury what a failure says.
    Logger { level: Level::Error, format: Format::Plain }.begin();
    let mut random = Random::seeded(seed);
    let scripts = script::draw(seed, &mut random);
    let mut polite = scripts.clone();
    for script in &mut polite {
        script.trouble = Trouble::None;
    }
    let udp = datagram_script::draw(seed);
    let clients = Clients { tcp: &polite, udp: &udp };
    let (calm, datagrams) = run_all(clients, Faults::none(), seed, &Trace::default());
    datagrams.check();
    datagrams.check_calm();
    for (report, script) in calm.iter().zip(&polite) {
        check_calm(report, script);
    }
    let faults = Faults { sabotage, ..Faults::drawn(&mut random) };
    trace.note(|| format!("{faults:?}"));
    let stopped = faults.shutdown_ms;
    // Near the limit, answers end their connections, and at it idle ones are closed.
    let crowded = scripts.len() >= nearly_all(faults.connections_max);
    let clients = Clients { tcp: &scripts, udp: &udp };
    let (disturbed, datagrams) = match seed % SEEDS_PER_LIMITED {
        // More than any client takes.
        0 => run_limited(clients, faults, seed, trace, &client_table(u16::MAX, 100_000, 100_000)),
        _ => run_all(clients, faults, seed, trace),
    };
    datagrams.check();
    for (number, (calm, disturbed)) in calm.iter().zip(&disturbed).enumerate() {
        trace.note(|| format!("comparing {:?}", scripts[number]));
        compare(number, calm, disturbed, &scripts[number], stopped, crowded);
    }
}

/// Without faults, every request is answered as it was meant to be.
fn check_calm(report: &SimReport, script: &client::ClientScript) {
    let responses = report.responses(script, true);
    let expected = script.requests.iter().filter_map(|request| match request.expected {
        client::Expected::Framed(status) | client::Expected::HeadOnly(status) => Some(status),
        client::Expected::FullScrape => Some(200),
        client::Expected::Nothing => None,
    });
    assert_eq!(responses.statuses, expected.collect::<Vec<u16>>(), "undisturbed: {script:?}");
    assert_eq!(responses.broken, 0, "undisturbed, more than the answers: {script:?}");
    let well = matches!(report.outcome, ClientOutcome::Content | ClientOutcome::Closed);
    assert!(well, "undisturbed, {:?}: {script:?}", report.outcome);
    assert!(!lacks_close_notify(report, script), "undisturbed, no close_notify: {script:?}");
}

/// Whether the server closed a connection in good order without saying so in TLS. It need not
/// where the client has ended TCP's side without a word.
fn lacks_close_notify(report: &SimReport, script: &client::ClientScript) -> bool {
    let Some(manner) = &script.tls else { return false };
    let cut = script.ending == Ending::HalfClose && manner.farewell == ConnectionEnd::Fin;
    let owed = !cut && !manner.is_bad();
    owed && report.agreed && report.outcome == ClientOutcome::Closed && !report.notified
}

#[expect(clippy::too_many_arguments, reason = "one call")]
fn compare(
    number: usize,
    calm: &SimReport,
    disturbed: &SimReport,
    script: &client::ClientScript,
    stopped: Option<u64>,
    crowded: bool,
) {
    let whole = stopped.is_none() && !crowded;
    let (expected, responses) = (calm.responses(script, whole), disturbed.responses(script, whole));
    for (at, answer) in responses.answers.iter().enumerate() {
        let expected = &expected.answers[at];
        // While others wait, a client has less time to send its first request.
        let hurried = crowded && responses.statuses[at] == 408;
        assert!(
            answer == expected || hurried,
            "client {number}, answer {at}: told\n{answer}\ninstead of\n{expected}"
        );
    }
    if script.trouble != Trouble::None || disturbed.forgiven {
        return;
    }
    let reset = disturbed.outcome == ClientOutcome::Reset;
    let unnotified = lacks_close_notify(disturbed, script);
    if let Some(stop_ms) = stopped {
        // At its end a shutdown waits for nobody.
        let end_ms = stop_ms + 1000 * u64::from(SHUTDOWN_S - 1);
        let cut_off = reset || disturbed.closed_ms >= Some(end_ms);
        assert!(responses.broken == 0 || cut_off, "client {number}: an answer broke off");
        assert!(!unnotified || cut_off, "client {number}: no close_notify");
        let asked = asked_at_stop(disturbed, script);
        let answered =
            responses.answers.len() >= asked || cut_off || disturbed.accepted_ms.is_none();
        assert!(
            answered || crowded,
            "client {number}: of {asked} answers there are {}",
            responses.answers.len()
        );
        return;
    }
    assert_eq!(responses.broken, 0, "client {number}: an answer broke off, or there is one more");
    if !crowded {
        assert_eq!(
            responses.answers.len(),
            expected.answers.len(),
            "client {number}: answers missing"
        );
        assert!(!reset, "client {number} was reset");
        assert!(!unnotified, "client {number}: no close_notify");
    }
    let left_ms = disturbed.ended_ms.max(disturbed.accepted_ms.unwrap_or(0));
    let held_ms = disturbed.closed_ms.map(|at_ms| at_ms.saturating_sub(left_ms));
    assert!(held_ms < Some(LET_GO_MS), "client {number} left, and was held for {held_ms:?} ms");
}

/// How many requests that are answered had come whole when the worker was told to stop.
fn asked_at_stop(report: &SimReport, script: &client::ClientScript) -> usize {
    let Some(mut sent) = report.sent_at_stop else { return 0 };
    let come = script.requests.iter().take_while(|request| {
        let has_come = request.bytes.len() <= sent;
        sent = sent.saturating_sub(request.bytes.len());
        // What never becomes a request may be answered in the end, but not at a stop.
        has_come && request.bytes.ends_with(b"\r\n\r\n")
    });
    come.filter(|request| request.expected != client::Expected::Nothing).count()
}

/// Runs one seed; says on failure how to run it again and what happened last.
fn check_or_explain(seed: u64) {
    if panic::catch_unwind(|| check(seed, None, &Trace::default())).is_ok() {
        return;
    }
    // A full scrape's pieces follow the secret of the tables, which no seed decides: a run
    // with one may have to be repeated more than once.
    for _ in 0..REPEATS {
        let trace = Trace::kept();
        let again = panic::catch_unwind(AssertUnwindSafe(|| check(seed, None, &trace)));
        if again.is_err() {
            panic!("ANNULUS_SIM_SEED={seed} fails. What happened last:\n{}", trace.text());
        }
    }
    panic!("ANNULUS_SIM_SEED={seed} failed, but not when repeated");
}

fn number_from(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect("a number of seeds, or a seed"))
}

#[test]
fn disturbed_runs_answer_as_undisturbed_ones() {
    if let Some(seed) = number_from("ANNULUS_SIM_SEED") {
        return check_or_explain(seed);
    }
    let seeds = number_from("ANNULUS_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    check_or_explain(seed);
                }
            });
        }
    });
}

/// What was encrypted differs from run to run; its lengths must not, or a seed tells nothing.
#[test]
fn a_seed_repeats_its_run_with_tls() {
    let mut repeated = 0;
    for seed in (0..60).step_by(script::SEEDS_PER_TLS as usize) {
        let scripts = script::draw(seed, &mut Random::seeded(seed));
        let scrapes = |script: &client::ClientScript| {
            script.requests.iter().any(|request| request.expected == client::Expected::FullScrape)
        };
        if scripts.iter().any(scrapes) {
            continue;
        }
        let traces = [Trace::kept(), Trace::kept()];
        traces.iter().for_each(|trace| check(seed, None, trace));
        assert_eq!(traces[0].text(), traces[1].text(), "seed {seed}");
        repeated += 1;
    }
    assert!(repeated > 10, "only {repeated} runs were repeated");
}

#[test]
fn a_broken_ring_is_noticed() {
    for sabotage in SABOTAGES {
        let noticed = (0..50).any(|seed| {
            let check = || check(seed, Some(sabotage), &Trace::default());
            panic::catch_unwind(AssertUnwindSafe(check)).is_err()
        });
        assert!(noticed, "{sabotage:?} went unnoticed");
    }
}

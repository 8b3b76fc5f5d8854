//! TLS, one thing at a time: deadlines, farewells, misunderstandings, many handshakes at once.

use annulus::limits::{
    FINISHED_WAIT_S, HANDSHAKES_PER_TURN_MAX, RECORD_BYTES_MAX, REQUESTS_PER_TURN_MAX,
};

use super::answers::torrents_in;
use super::bounds::{
    ANNOUNCE, TORRENTS, assert_after, client, full_scrape, hampered_sends, run_full, run_one,
};
use super::client::{ClientOutcome, ClientScript, Ending, Expected, Request, Trouble};
use super::faults::{Faults, Windows};
use super::ring::FakeOperation;
use super::run::{HANDSHAKE_S, HEADER_S, IDLE_S, SEND_S, SimReport, build, finish, run};
use super::script::framed;
use super::tls::{ConnectionEnd, Manner, costly_steps};
use super::trace::Trace;

/// A client that speaks TLS 1.2 or 1.3.
pub(crate) fn with_tls(script: ClientScript, old: bool) -> ClientScript {
    ClientScript { https: true, tls: Some(Manner::good(old)), ..script }
}

/// The same, which gets no further than so many bytes of its handshake.
fn unfinished(number: u32, old: bool, handshake_max: usize) -> ClientScript {
    let tls = Some(Manner { handshake_max, ..Manner::good(old) });
    ClientScript { tls, ..with_tls(client(number, vec![], Ending::Await), old) }
}

fn assert_close_notify(report: &SimReport) {
    assert_eq!(report.outcome, ClientOutcome::Closed);
    assert!(report.agreed && report.notified, "no close_notify");
}

#[test]
fn an_unfinished_handshake_is_closed_without_a_response() {
    // With 260 bytes of TLS 1.3 only a part of the client's last flight is missing.
    for (old, handshake_max) in [(false, 0), (false, 1), (true, 100), (false, 260), (true, 230)] {
        let report = run_one(&unfinished(1, old, handshake_max), Faults::none());
        assert_after(report.closed_ms.expect("closed"), &report, HANDSHAKE_S);
        assert_eq!(report.outcome, ClientOutcome::Closed);
        assert!(!report.notified && !report.alerted && report.received.is_empty());
    }
}

#[test]
fn a_handshake_that_comes_byte_by_byte_has_no_longer() {
    // Bytes of a record that is long enough never to end.
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252];
    hello.resize(400, 0);
    let requests = vec![Request { bytes: hello, expected: Expected::Nothing }];
    let mut script = client(1, requests, Ending::Await);
    (script.https, script.piece, script.pause_ms) = (true, 1, 900);
    let report = run_one(&script, Faults::none());
    assert_after(report.closed_ms.expect("closed"), &report, HANDSHAKE_S);
}

#[test]
fn the_first_head_has_its_time_from_the_end_of_the_handshake() {
    for old in [false, true] {
        let said_nothing = with_tls(client(1, vec![], Ending::Await), old);
        let report = run_one(&said_nothing, Faults::none());
        // The end of a handshake by TLS 1.3 is left unread for a moment.
        let unread_s = if old { 0 } else { FINISHED_WAIT_S };
        assert_after(report.closed_ms.expect("closed"), &report, HEADER_S + unread_s);
        assert_close_notify(&report);
        let half = client(1, vec![framed(408, &ANNOUNCE[..40])], Ending::Await);
        let report = run_one(&with_tls(half.clone(), old), Faults::none());
        assert_eq!(report.responses(&half, true).statuses, [408]);
        assert_after(report.read_last_ms, &report, HEADER_S);
        assert_close_notify(&report);
    }
}

#[test]
fn an_idle_client_gets_close_notify() {
    for old in [false, true] {
        let script = with_tls(client(1, vec![framed(200, ANNOUNCE)], Ending::Await), old);
        let report = run_one(&script, Faults::none());
        assert_eq!(report.responses(&script, true).statuses, [200]);
        assert_after(report.ended_ms, &report, IDLE_S);
        assert_close_notify(&report);
    }
}

#[test]
fn close_notify_in_the_middle_of_a_request_is_answered() {
    for old in [false, true] {
        let requests = vec![framed(200, ANNOUNCE), framed(400, &ANNOUNCE[..40])];
        let mut script = with_tls(client(1, requests, Ending::HalfClose), old);
        script.tls = Some(Manner { farewell: ConnectionEnd::Notify, ..Manner::good(old) });
        let report = run_one(&script, Faults::none());
        assert_eq!(report.responses(&script, true).statuses, [200, 400]);
        assert_close_notify(&report);
        assert!(report.ended_ms < 1000, "waited for {} ms", report.ended_ms);
    }
}

/// That it is the same session is seen by each client that has agreed on one.
#[test]
fn a_resumed_session_is_served_and_closed_like_any_other() {
    for old in [false, true] {
        let resumed = |script: ClientScript| ClientScript {
            tls: Some(Manner { resumes: true, ..Manner::good(old) }),
            ..with_tls(script, old)
        };
        let script = resumed(client(1, vec![framed(200, ANNOUNCE); 3], Ending::Await));
        let report = run_one(&script, Faults::none());
        assert_eq!(report.responses(&script, true).statuses, [200; 3]);
        assert_after(report.ended_ms, &report, IDLE_S);
        assert_close_notify(&report);
        let silent = run_one(&resumed(client(1, vec![], Ending::Await)), Faults::none());
        // The end of a handshake by TLS 1.3 is left unread for a moment.
        let unread_s = if old { 0 } else { FINISHED_WAIT_S };
        assert_after(silent.closed_ms.expect("closed"), &silent, HEADER_S + unread_s);
        assert_close_notify(&silent);
    }
}

#[test]
fn plain_http_on_a_tls_port_gets_a_plaintext_error() {
    let script =
        ClientScript { https: true, ..client(1, vec![framed(400, ANNOUNCE)], Ending::Await) };
    let report = run_one(&script, Faults::none());
    assert_eq!(report.responses(&script, true).statuses, [400]);
    assert!(String::from_utf8_lossy(&report.received).contains("https://"));
    assert_eq!(report.outcome, ClientOutcome::Closed);
}

#[test]
fn a_tls_hello_on_an_http_port_gets_a_plaintext_error() {
    for hello in [&[22, 3, 1, 0, 200, 1][..], &[21, 3, 1, 0, 2, 2, 70], &[128, 46, 1, 3, 1, 0]] {
        let script = client(1, vec![framed(400, hello)], Ending::Await);
        let report = run_one(&script, Faults::none());
        assert_eq!(report.responses(&script, true).statuses, [400]);
        assert!(String::from_utf8_lossy(&report.received).contains("write http://"));
        assert_eq!(report.outcome, ClientOutcome::Closed);
        assert!(report.ended_ms < 1000, "waited for {} ms", report.ended_ms);
    }
}

#[test]
fn an_invalid_record_gets_an_alert() {
    let no_record = [&[255, 3, 3, 0, 9][..], &[0; 9]].concat();
    let forged = [&[23, 3, 3, 0, 40][..], &[0; 40]].concat();
    for old in [false, true] {
        for (garbage, requests) in [(&no_record, 0), (&forged, 0), (&no_record, 2), (&forged, 2)] {
            let requests = vec![framed(200, ANNOUNCE); requests];
            let mut script = with_tls(client(1, requests.clone(), Ending::Await), old);
            script.tls = Some(Manner { garbage: garbage.clone(), ..Manner::good(old) });
            let report = run_one(&script, Faults::none());
            assert_eq!(report.responses(&script, true).statuses.len(), requests.len());
            assert!(report.alerted, "no alert for {:?}", script.tls);
            assert_eq!(report.outcome, ClientOutcome::Closed);
            // A few bytes in place of the end of a handshake are left unread for a moment.
            let unread_ms = if old { 0 } else { 1000 * u64::from(FINISHED_WAIT_S) };
            assert!(report.ended_ms < 1000 + unread_ms, "waited for {} ms", report.ended_ms);
        }
    }
}

#[test]
fn every_costly_step_of_a_handshake_is_known() {
    // Hello and key exchange; hello and the end; a hello, another and the end.
    assert_eq!(costly_steps(true, false), [true, true]);
    assert_eq!(costly_steps(false, false), [true, false]);
    assert_eq!(costly_steps(false, true), [true, true, false]);
}

#[test]
fn all_costly_steps_are_spread_over_turns() {
    for (old, steps) in [(false, 1), (true, 2)] {
        let scripts: Vec<ClientScript> = (0..5 * HANDSHAKES_PER_TURN_MAX)
            .map(|number| with_tls(client(number, vec![framed(200, ANNOUNCE)], Ending::Close), old))
            .collect();
        let faults = Faults { buffers: 1000, ..Faults::none() };
        let (mut worker, clock_ms, _) = build(&scripts, faults, 0, &Trace::default());
        let mut all = 0;
        while !worker.ring().quiet() {
            worker.wait().expect("the fake ring never breaks");
            worker.act((clock_ms.get() / 1000) as u32);
            let (handshakes, _) = worker.turn_work();
            assert!(handshakes <= HANDSHAKES_PER_TURN_MAX, "{handshakes} in one turn");
            all += handshakes;
        }
        assert_eq!(all, steps * scripts.len() as u32);
        for (report, script) in finish(worker, &clock_ms).iter().zip(&scripts) {
            assert_eq!(report.responses(script, true).statuses, [200]);
            assert!(report.ended_ms < 1000, "waited for {} ms", report.ended_ms);
        }
    }
}

#[test]
fn handshakes_progress_beside_any_number_of_requests() {
    // Enough for many turns, and one handshake beside them.
    for (old, steps) in [(false, 1), (true, 2)] {
        let flood = |number| client(number, vec![framed(200, ANNOUNCE); 600], Ending::Close);
        let mut scripts: Vec<ClientScript> = (0..100).map(flood).collect();
        scripts.push(with_tls(client(100, vec![framed(200, ANNOUNCE)], Ending::Close), old));
        let faults = Faults { buffers: 1000, buffer_bytes: 8192, ..Faults::none() };
        let (mut worker, clock_ms, _) = build(&scripts, faults, 0, &Trace::default());
        let (mut full_turns, mut beside) = (0, 0);
        while !worker.ring().quiet() {
            worker.wait().expect("the fake ring never breaks");
            worker.act((clock_ms.get() / 1000) as u32);
            let (handshakes, answered) = worker.turn_work();
            if answered >= REQUESTS_PER_TURN_MAX {
                (full_turns, beside) = (full_turns + 1, beside + handshakes);
            }
        }
        assert!(full_turns > 30 && beside == steps, "{beside} steps in {full_turns} turns");
        for (report, script) in finish(worker, &clock_ms).iter().zip(&scripts) {
            assert_eq!(report.responses(script, true).answers.len(), script.requests.len());
        }
    }
}

#[test]
fn many_handshakes_are_spread_over_turns() {
    let scripts: Vec<ClientScript> = (0..5 * HANDSHAKES_PER_TURN_MAX)
        .map(|number| with_tls(client(number, vec![framed(200, ANNOUNCE)], Ending::Close), false))
        .collect();
    let faults = Faults { buffers: 1000, ..Faults::none() };
    let (mut worker, clock_ms, _) = build(&scripts, faults, 0, &Trace::default());
    let mut most = 0;
    // Nobody can have asked for anything before the first handshakes are answered.
    for _ in 0..2 {
        worker.wait().expect("the fake ring never breaks");
        worker.act((clock_ms.get() / 1000) as u32);
        let is_send = |queued: &&FakeOperation| matches!(queued, FakeOperation::Send { .. });
        most = most.max(worker.ring().queue.iter().filter(is_send).count());
    }
    assert_eq!(most, HANDSHAKES_PER_TURN_MAX as usize);
    for (report, script) in finish(worker, &clock_ms).iter().zip(&scripts) {
        assert_eq!(report.responses(script, true).statuses, [200]);
        assert!(report.ended_ms < 1000, "waited for {} ms", report.ended_ms);
    }
}

#[test]
fn a_client_that_pipelines_and_reads_gets_every_response() {
    for (old, windows) in [(false, Windows::Endless), (true, Windows::Slow), (false, Windows::Tiny)]
    {
        let script = with_tls(client(1, vec![framed(200, ANNOUNCE); 2000], Ending::Close), old);
        let report = run_one(&script, Faults { windows, ..Faults::none() });
        assert_eq!(report.responses(&script, true).answers.len(), 2000, "{windows:?}");
        assert_eq!(report.outcome, ClientOutcome::Content);
    }
}

#[test]
fn a_long_record_is_received_whole_however_few_the_buffers() {
    // All requests are in one record, and it is longer than what may wait of answers.
    let requests = vec![framed(200, ANNOUNCE); RECORD_BYTES_MAX.div_ceil(ANNOUNCE.len())];
    let script = with_tls(client(1, requests, Ending::Close), false);
    for seed in 0..40 {
        let faults = Faults { buffer_bytes: 100, cut: 700, no_buffers: 700, ..Faults::none() };
        let report = run(std::slice::from_ref(&script), faults, seed, &Trace::default()).remove(0);
        assert!(report.ended_ms < 1000, "seed {seed}: waited for {} ms", report.ended_ms);
        assert_eq!(report.outcome, ClientOutcome::Content);
    }
}

#[test]
fn a_client_that_never_reads_is_reset_and_costs_bounded_memory() {
    let requests = vec![framed(200, ANNOUNCE); 10_000];
    let script = with_tls(client(1, requests, Ending::Await), false);
    let script = ClientScript { trouble: Trouble::NeverReads, ..script };
    let report = run_one(&script, Faults { windows: Windows::Slow, ..Faults::none() });
    assert!(report.agreed);
    assert_after(report.closed_ms.expect("closed"), &report, SEND_S);
    assert_eq!(report.outcome, ClientOutcome::Reset);
    // Of the 800 kB that were offered.
    assert!(report.taken < 64 * 1024, "{} bytes taken", report.taken);
}

#[test]
fn a_full_scrape_is_whole_however_it_is_sent() {
    for seed in 0..20 {
        let script = with_tls(full_scrape(1, 0), seed % 3 == 0);
        let reports = run_full(&[script], hampered_sends(seed), seed);
        let torrents = torrents_in(&reports[0].received);
        assert_eq!(torrents, Some(TORRENTS as usize), "seed {seed}");
        assert_close_notify(&reports[0]);
    }
}

#[test]
fn a_shutdown_sends_close_notify_to_idle_clients() {
    let answered =
        |number, old| with_tls(client(number, vec![framed(200, ANNOUNCE)], Ending::Await), old);
    let scripts = [answered(1, false), answered(2, true), unfinished(3, false, 100)];
    let faults = Faults { shutdown_ms: Some(1500), ..Faults::none() };
    let reports = run(&scripts, faults, 0, &Trace::default());
    for (report, script) in reports[..2].iter().zip(&scripts) {
        assert_eq!(report.responses(script, true).statuses, [200]);
        assert_close_notify(report);
        assert!(report.ended_ms < 2000, "waited for {} ms", report.ended_ms);
    }
    assert_after(reports[2].closed_ms.expect("closed"), &reports[2], HANDSHAKE_S);
}

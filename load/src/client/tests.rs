//! Conversations, cut in every way.

use super::{ConnectionStatus, LoadClient, PendingRequest, Validator};
use crate::failure::{Failure, FailureKind, Warning, WarningCounts};
use crate::request::RequestKind;
use crate::tls::TlsHandshake;

#[derive(Default)]
struct RecordedOutcomes {
    responses: Vec<(u32, Vec<u8>)>,
    failures: Vec<(u32, FailureKind)>,
    other_failures: Vec<FailureKind>,
    warnings: Vec<Warning>,
}

impl Validator for RecordedOutcomes {
    fn on_response(&mut self, request: &PendingRequest, body: &[u8], _: WarningCounts) {
        self.responses.push((request.kind.peer(), body.to_vec()));
    }
    fn on_failure(&mut self, request: &PendingRequest, failure: Failure) {
        self.failures.push((request.kind.peer(), failure.kind));
    }
    fn on_warning(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }
    fn on_other_failure(&mut self, failure: Failure) {
        self.other_failures.push(failure.kind);
    }
    fn on_handshake(&mut self, _: TlsHandshake) {}
}

/// A client that has sent so many questions, of `requests_max`.
fn asking(count: u32, requests_max: u64) -> LoadClient {
    let mut client = LoadClient::default();
    client.begin(None).unwrap();
    for peer in 0..count {
        client.add_request(RequestKind::Scrape { peer }, 0);
    }
    let mut out = [0; 4096];
    let write = |room: &mut [u8], _: RequestKind, last: bool| {
        room[..2].copy_from_slice(if last { b"l\n" } else { b"k\n" });
        2
    };
    let (len, sent) = client.fill(&mut out, &mut [0; 16], requests_max, 5, write).unwrap();
    assert_eq!(len as u64, 2 * sent);
    client
}

const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
const CLOSED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
const ENDLESS: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nabc";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";

#[test]
fn answers_come_in_order_however_they_are_cut() {
    let all = [KEPT, CHUNKED, KEPT].concat();
    for at in 0..=all.len() {
        let (mut client, mut outcomes) = (asking(3, 9), RecordedOutcomes::default());
        for part in [&all[..at], &all[at..]] {
            assert_eq!(client.receive(part, &mut outcomes), Ok(ConnectionStatus::Open));
        }
        let expected: Vec<_> = (0..3).map(|number| (number, b"abc".to_vec())).collect();
        assert_eq!(outcomes.responses, expected);
        assert!(outcomes.failures.is_empty() && outcomes.warnings.is_empty());
        assert_eq!(client.pending(), 0);
    }
    let (mut client, mut outcomes) = (asking(3, 9), RecordedOutcomes::default());
    for byte in &all {
        client.receive(&[*byte], &mut outcomes).unwrap();
    }
    assert_eq!(outcomes.responses.len(), 3);
}

#[test]
fn only_so_many_are_sent_and_the_last_says_so() {
    let client = asking(5, 3);
    assert_eq!((client.in_flight(), client.pending(), client.sent()), (3, 5, 3));
    assert!(!client.has_output(3) && client.has_output(4));
}

#[test]
fn what_a_close_leaves_is_asked_anew() {
    let (mut client, mut outcomes) = (asking(3, 9), RecordedOutcomes::default());
    assert_eq!(client.receive(CLOSED, &mut outcomes), Ok(ConnectionStatus::Ended));
    client.requeue();
    assert_eq!((outcomes.responses.len(), client.pending(), client.in_flight()), (1, 2, 0));
    assert_eq!(outcomes.warnings, [Warning::ClosedKept]);
    client.begin(None).unwrap();
    assert!(client.has_output(9));
}

#[test]
fn a_close_that_was_asked_for_is_not_odd() {
    let (mut client, mut outcomes) = (asking(1, 1), RecordedOutcomes::default());
    assert_eq!(client.receive(CLOSED, &mut outcomes), Ok(ConnectionStatus::Ended));
    assert!(outcomes.warnings.is_empty() && outcomes.responses.len() == 1);
}

#[test]
fn a_body_may_last_to_the_end() {
    let (mut client, mut outcomes) = (asking(1, 1), RecordedOutcomes::default());
    assert_eq!(client.receive(ENDLESS, &mut outcomes), Ok(ConnectionStatus::Open));
    assert!(outcomes.responses.is_empty());
    assert_eq!(client.end(&mut outcomes), Ok(ConnectionStatus::Ended));
    assert_eq!(outcomes.responses, [(0, b"abc".to_vec())]);
}

#[test]
fn ends_before_an_answer_are_faults() {
    for at in 0..KEPT.len() {
        let (mut client, mut outcomes) = (asking(2, 9), RecordedOutcomes::default());
        client.receive(&KEPT[..at], &mut outcomes).unwrap();
        let failure = client.end(&mut outcomes).unwrap_err();
        client.fail(&failure, &mut outcomes);
        assert_eq!(
            outcomes.failures,
            [(0, FailureKind::EndedEarly), (1, FailureKind::EndedEarly)],
            "{at}"
        );
        assert_eq!(client.pending(), 0);
    }
    let (mut idle, mut outcomes) = (asking(0, 9), RecordedOutcomes::default());
    assert_eq!(idle.end(&mut outcomes), Ok(ConnectionStatus::Ended));
    assert_eq!(outcomes.warnings, [Warning::ClosedKept]);
}

#[test]
fn what_is_not_heard_between_two_answers_is_asked_anew() {
    let (mut client, mut outcomes) = (asking(3, 9), RecordedOutcomes::default());
    client.receive(KEPT, &mut outcomes).unwrap();
    assert_eq!(client.end(&mut outcomes), Ok(ConnectionStatus::Ended));
    client.requeue();
    assert_eq!((client.pending(), client.in_flight()), (2, 0));
    assert_eq!(outcomes.warnings, [Warning::ClosedKept]);
    let (mut cut, mut outcomes) = (asking(3, 9), RecordedOutcomes::default());
    cut.receive(&[KEPT, b"H"].concat(), &mut outcomes).unwrap();
    assert_eq!(cut.end(&mut outcomes).unwrap_err().kind, FailureKind::EndedEarly);
    let (mut last, mut outcomes) = (asking(3, 3), RecordedOutcomes::default());
    last.receive(KEPT, &mut outcomes).unwrap();
    assert_eq!(last.end(&mut outcomes).unwrap_err().kind, FailureKind::EndedEarly);
}

#[test]
fn answers_to_nothing_are_faults() {
    let (mut client, mut outcomes) = (asking(1, 9), RecordedOutcomes::default());
    let twice = [KEPT, KEPT].concat();
    let failure = client.receive(&twice, &mut outcomes).unwrap_err();
    assert_eq!((failure.kind, outcomes.responses.len()), (FailureKind::Surplus, 1));
    client.fail(&failure, &mut outcomes);
    assert_eq!(outcomes.other_failures, [FailureKind::Surplus]);
    let (mut client, mut outcomes) = (asking(1, 1), RecordedOutcomes::default());
    let behind = [CLOSED, b"x"].concat();
    assert_eq!(client.receive(&behind, &mut outcomes), Ok(ConnectionStatus::Ended));
    assert_eq!(outcomes.other_failures, [FailureKind::Surplus]);
}

#[test]
fn bad_statuses_and_encodings_are_faults_of_their_own_answer() {
    let (mut client, mut outcomes) = (asking(3, 9), RecordedOutcomes::default());
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx";
    let gzip = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx";
    for part in [&missing[..], gzip, KEPT] {
        assert_eq!(client.receive(part, &mut outcomes), Ok(ConnectionStatus::Open));
    }
    assert_eq!(outcomes.failures, [(0, FailureKind::Status), (1, FailureKind::Compressed)]);
    assert_eq!(outcomes.responses, [(2, b"abc".to_vec())]);
}

#[test]
fn an_answer_without_bounds_is_a_fault() {
    for head in ["Content-Length: 99999999999", "Transfer-Encoding: chunked"] {
        let (mut client, mut outcomes) = (asking(1, 9), RecordedOutcomes::default());
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nffffffff\r\n");
        let failure = client.receive(head.as_bytes(), &mut outcomes).unwrap_err();
        assert_eq!(failure.kind, FailureKind::TooLong);
    }
}

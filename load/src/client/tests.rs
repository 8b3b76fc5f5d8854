//! Connections whose bytes are split in every way. Wrong responses are in `load/tests` and in the
//! fuzz target `answer`.

use super::{ConnectionStatus, LoadClient, PendingRequest, Validator};
use crate::failure::{Failure, FailureKind, Warning, WarningCounts};
use crate::request::RequestKind;
use crate::tls::TlsHandshake;

#[derive(Default)]
struct RecordedOutcomes {
    responses: Vec<(u32, Vec<u8>)>,
    failures: Vec<(u32, FailureKind)>,
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
    fn on_other_failure(&mut self, _: Failure) {}
    fn on_handshake(&mut self, _: TlsHandshake) {}
}

/// A client that has so many requests, of which it may send `requests_max`.
fn client(count: u32, requests_max: u64) -> (LoadClient, RecordedOutcomes) {
    let mut client = LoadClient::default();
    client.begin(None).unwrap();
    (0..count).for_each(|peer| client.add_request(RequestKind::Scrape { peer }, 0));
    let write = |out: &mut [u8], _: RequestKind, last: bool| {
        out[..2].copy_from_slice(if last { b"l\n" } else { b"k\n" });
        2
    };
    let mut out = [0; 4096];
    let (len, sent) = client.fill(&mut out, &mut [0; 16], requests_max, 5, write).unwrap();
    assert_eq!(len as u64, 2 * sent);
    assert_eq!(out[..len].ends_with(b"l\n"), sent == requests_max);
    (client, RecordedOutcomes::default())
}

const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
const CLOSED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";

#[test]
fn responses_are_delivered_in_order_however_they_are_split() {
    let all = [KEPT, CHUNKED, KEPT].concat();
    for at in 0..=all.len() {
        let (mut client, mut outcomes) = client(3, 9);
        for part in [&all[..at], &all[at..]] {
            assert_eq!(client.receive(part, &mut outcomes), Ok(ConnectionStatus::Open));
        }
        let expected: Vec<_> = (0..3).map(|number| (number, b"abc".to_vec())).collect();
        assert_eq!(outcomes.responses, expected);
        assert!(outcomes.failures.is_empty() && outcomes.warnings.is_empty());
        assert_eq!(client.pending(), 0);
    }
}

#[test]
fn requests_beyond_the_limit_of_a_connection_wait() {
    let (client, _) = client(5, 3);
    assert_eq!((client.in_flight(), client.pending(), client.sent()), (3, 5, 3));
    assert!(!client.has_output(3) && client.has_output(4));
}

#[test]
fn requests_that_a_close_leaves_are_sent_again() {
    for (bytes, end) in [(CLOSED, false), (KEPT, true)] {
        let (mut client, mut outcomes) = client(3, 9);
        let mut status = client.receive(bytes, &mut outcomes);
        if end {
            status = client.end(&mut outcomes);
        }
        assert_eq!(status, Ok(ConnectionStatus::Ended));
        client.requeue();
        assert_eq!((outcomes.responses.len(), client.pending(), client.in_flight()), (1, 2, 0));
        assert_eq!(outcomes.warnings, [Warning::ClosedKept]);
        client.begin(None).unwrap();
        assert!(client.has_output(9));
    }
}

#[test]
fn an_end_within_a_response_fails_all_requests_in_flight() {
    for at in 0..KEPT.len() {
        let (mut client, mut outcomes) = client(2, 9);
        client.receive(&KEPT[..at], &mut outcomes).unwrap();
        let failure = client.end(&mut outcomes).unwrap_err();
        client.fail(&failure, &mut outcomes);
        let ended = FailureKind::EndedEarly;
        assert_eq!(outcomes.failures, [(0, ended), (1, ended)], "{at}");
        assert_eq!(client.pending(), 0);
    }
    // In place of the last response of a connection, too.
    let (mut last, mut outcomes) = client(3, 3);
    last.receive(KEPT, &mut outcomes).unwrap();
    assert_eq!(last.end(&mut outcomes).unwrap_err().kind, FailureKind::EndedEarly);
}

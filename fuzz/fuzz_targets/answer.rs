//! Responses that a tracker may send to the load tester: how the bytes are split never matters,
//! every request has one outcome, and no body makes the validator panic.
#![no_main]

use annulus_load::body::{AnnounceContext, check_announce, check_scrape};
use annulus_load::client::{ConnectionStatus, LoadClient, PendingRequest, Validator};
use annulus_load::failure::{Failure, FailureKind, Warning, WarningCounts};
use annulus_load::request::RequestKind;
use annulus_load::tls::TlsHandshake;
use libfuzzer_sys::fuzz_target;

/// Requests on the connection.
const REQUESTS: u32 = 3;

#[derive(Debug, PartialEq)]
enum RequestOutcome {
    Response(Vec<u8>),
    Failed(FailureKind),
}

#[derive(Default)]
struct OutcomeRecorder(Vec<RequestOutcome>);

impl Validator for OutcomeRecorder {
    fn on_response(&mut self, _: &PendingRequest, body: &[u8], _: WarningCounts) {
        let context = AnnounceContext { numwant: 50, own: None, known: None };
        if let Ok(checked) = check_announce(body, &context) {
            assert!(checked.entries <= 50, "more than were asked for");
        }
        if let Ok(checked) = check_scrape(body, |hash| hash.len() == 20) {
            assert!(checked.entries <= body.len() as u64 / 20);
        }
        self.0.push(RequestOutcome::Response(body.to_vec()));
    }
    fn on_failure(&mut self, _: &PendingRequest, failure: Failure) {
        self.0.push(RequestOutcome::Failed(failure.kind));
    }
    fn on_other_failure(&mut self, _: Failure) {}
    fn on_warning(&mut self, _: Warning) {}
    fn on_handshake(&mut self, _: TlsHandshake) {}
}

fuzz_target!(|input: &[u8]| {
    let whole = outcomes(input, input.len().max(1));
    assert_eq!(outcomes(input, 1), whole, "in single bytes");
    assert_eq!(outcomes(input, 7), whole, "in pieces of seven");
    assert_eq!(whole.0.len() + whole.1, REQUESTS as usize, "a request without an outcome");
});

/// The outcomes of all requests when the responses arrive in pieces of so many bytes, and how many
/// requests are left to be sent again.
fn outcomes(input: &[u8], piece: usize) -> (Vec<RequestOutcome>, usize) {
    let (mut client, mut recorder) = (LoadClient::default(), OutcomeRecorder::default());
    client.begin(None).expect("there is no TLS to begin");
    for peer in 0..REQUESTS {
        client.add_request(RequestKind::Scrape { peer }, 0);
    }
    let mut out = [0; 4096];
    client.fill(&mut out, &mut [0; 16], 100, 0, |_, _, _| 1).expect("there is no TLS to fail");
    let mut pieces = input.chunks(piece);
    let end = loop {
        let status = match pieces.next() {
            Some(piece) => client.receive(piece, &mut recorder),
            None => break client.end(&mut recorder),
        };
        if status != Ok(ConnectionStatus::Open) {
            break status;
        }
    };
    match end {
        Ok(_) => client.requeue(),
        Err(failure) => client.fail(&failure, &mut recorder),
    }
    (recorder.0, client.pending())
}

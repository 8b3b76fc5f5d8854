//! Conversations, cut in every way.

use super::{Asked, Client, Judge, Standing};
use crate::fault::{Fault, Oddities, Oddity, Wrong};
use crate::request::Question;
use crate::tls::Resumption;

#[derive(Default)]
struct Notes {
    answered: Vec<(u32, Vec<u8>)>,
    failed: Vec<(u32, Fault)>,
    disturbed: Vec<Fault>,
    oddities: Vec<Oddity>,
}

impl Judge for Notes {
    fn answered(&mut self, asked: &Asked, body: &[u8], _: Oddities) {
        self.answered.push((asked.question.member(), body.to_vec()));
    }
    fn failed(&mut self, asked: &Asked, wrong: Wrong) {
        self.failed.push((asked.question.member(), wrong.fault));
    }
    fn odd(&mut self, oddity: Oddity) {
        self.oddities.push(oddity);
    }
    fn disturbed(&mut self, wrong: Wrong) {
        self.disturbed.push(wrong.fault);
    }
    fn shaken(&mut self, _: Resumption) {}
}

/// A client that has sent so many questions, of `requests_max`.
fn asking(count: u32, requests_max: u64) -> Client {
    let mut client = Client::default();
    client.begin(None).unwrap();
    for member in 0..count {
        client.ask(Question::Scrape { member }, 0);
    }
    let mut out = [0; 4096];
    let write = |room: &mut [u8], _: Question, last: bool| {
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
        let (mut client, mut notes) = (asking(3, 9), Notes::default());
        for part in [&all[..at], &all[at..]] {
            assert_eq!(client.receive(part, &mut notes), Ok(Standing::Open));
        }
        let expected: Vec<_> = (0..3).map(|number| (number, b"abc".to_vec())).collect();
        assert_eq!(notes.answered, expected);
        assert!(notes.failed.is_empty() && notes.oddities.is_empty());
        assert_eq!(client.waiting(), 0);
    }
    let (mut client, mut notes) = (asking(3, 9), Notes::default());
    for byte in &all {
        client.receive(&[*byte], &mut notes).unwrap();
    }
    assert_eq!(notes.answered.len(), 3);
}

#[test]
fn only_so_many_are_sent_and_the_last_says_so() {
    let client = asking(5, 3);
    assert_eq!((client.in_flight(), client.waiting(), client.requests()), (3, 5, 3));
    assert!(!client.has_to_send(3) && client.has_to_send(4));
}

#[test]
fn what_a_close_leaves_is_asked_anew() {
    let (mut client, mut notes) = (asking(3, 9), Notes::default());
    assert_eq!(client.receive(CLOSED, &mut notes), Ok(Standing::Ended));
    client.ended();
    assert_eq!((notes.answered.len(), client.waiting(), client.in_flight()), (1, 2, 0));
    assert_eq!(notes.oddities, [Oddity::ClosedKept]);
    client.begin(None).unwrap();
    assert!(client.has_to_send(9));
}

#[test]
fn a_close_that_was_asked_for_is_not_odd() {
    let (mut client, mut notes) = (asking(1, 1), Notes::default());
    assert_eq!(client.receive(CLOSED, &mut notes), Ok(Standing::Ended));
    assert!(notes.oddities.is_empty() && notes.answered.len() == 1);
}

#[test]
fn a_body_may_last_to_the_end() {
    let (mut client, mut notes) = (asking(1, 1), Notes::default());
    assert_eq!(client.receive(ENDLESS, &mut notes), Ok(Standing::Open));
    assert!(notes.answered.is_empty());
    assert_eq!(client.end(&mut notes), Ok(Standing::Ended));
    assert_eq!(notes.answered, [(0, b"abc".to_vec())]);
}

#[test]
fn ends_before_an_answer_are_faults() {
    for at in 0..KEPT.len() {
        let (mut client, mut notes) = (asking(2, 9), Notes::default());
        client.receive(&KEPT[..at], &mut notes).unwrap();
        let wrong = client.end(&mut notes).unwrap_err();
        client.broken(&wrong, &mut notes);
        assert_eq!(notes.failed, [(0, Fault::EndedEarly), (1, Fault::EndedEarly)], "{at}");
        assert_eq!(client.waiting(), 0);
    }
    let (mut idle, mut notes) = (asking(0, 9), Notes::default());
    assert_eq!(idle.end(&mut notes), Ok(Standing::Ended));
    assert_eq!(notes.oddities, [Oddity::ClosedKept]);
}

#[test]
fn what_is_not_heard_between_two_answers_is_asked_anew() {
    let (mut client, mut notes) = (asking(3, 9), Notes::default());
    client.receive(KEPT, &mut notes).unwrap();
    assert_eq!(client.end(&mut notes), Ok(Standing::Ended));
    client.ended();
    assert_eq!((client.waiting(), client.in_flight()), (2, 0));
    assert_eq!(notes.oddities, [Oddity::ClosedKept]);
    let (mut cut, mut notes) = (asking(3, 9), Notes::default());
    cut.receive(&[KEPT, b"H"].concat(), &mut notes).unwrap();
    assert_eq!(cut.end(&mut notes).unwrap_err().fault, Fault::EndedEarly);
    let (mut last, mut notes) = (asking(3, 3), Notes::default());
    last.receive(KEPT, &mut notes).unwrap();
    assert_eq!(last.end(&mut notes).unwrap_err().fault, Fault::EndedEarly);
}

#[test]
fn answers_to_nothing_are_faults() {
    let (mut client, mut notes) = (asking(1, 9), Notes::default());
    let twice = [KEPT, KEPT].concat();
    let wrong = client.receive(&twice, &mut notes).unwrap_err();
    assert_eq!((wrong.fault, notes.answered.len()), (Fault::Surplus, 1));
    client.broken(&wrong, &mut notes);
    assert_eq!(notes.disturbed, [Fault::Surplus]);
    let (mut client, mut notes) = (asking(1, 1), Notes::default());
    let behind = [CLOSED, b"x"].concat();
    assert_eq!(client.receive(&behind, &mut notes), Ok(Standing::Ended));
    assert_eq!(notes.disturbed, [Fault::Surplus]);
}

#[test]
fn bad_statuses_and_encodings_are_faults_of_their_own_answer() {
    let (mut client, mut notes) = (asking(3, 9), Notes::default());
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx";
    let gzip = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx";
    for part in [&missing[..], gzip, KEPT] {
        assert_eq!(client.receive(part, &mut notes), Ok(Standing::Open));
    }
    assert_eq!(notes.failed, [(0, Fault::Status), (1, Fault::Compressed)]);
    assert_eq!(notes.answered, [(2, b"abc".to_vec())]);
}

#[test]
fn an_answer_without_bounds_is_a_fault() {
    for head in ["Content-Length: 99999999999", "Transfer-Encoding: chunked"] {
        let (mut client, mut notes) = (asking(1, 9), Notes::default());
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nffffffff\r\n");
        let wrong = client.receive(head.as_bytes(), &mut notes).unwrap_err();
        assert_eq!(wrong.fault, Fault::TooLong);
    }
}

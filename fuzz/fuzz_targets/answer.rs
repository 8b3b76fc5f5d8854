//! What a tracker may answer a load: how the bytes were cut never matters, every question has one
//! fate, and no body makes its judge panic.
#![no_main]

use annulus_load::check::{Announced, check_announce, check_scrape};
use annulus_load::client::{Asked, Client, Judge, Standing};
use annulus_load::fault::{Fault, Oddities, Oddity, Wrong};
use annulus_load::request::Question;
use annulus_load::tls::Resumption;
use libfuzzer_sys::fuzz_target;

/// Questions on the connection.
const QUESTIONS: u32 = 3;

#[derive(Debug, PartialEq)]
enum Fate {
    Answered(Vec<u8>),
    Failed(Fault),
}

#[derive(Default)]
struct Notes {
    fates: Vec<Fate>,
}

impl Judge for Notes {
    fn answered(&mut self, _: &Asked, body: &[u8], _: Oddities) {
        let announced = Announced { numwant: 50, own: None, known: None };
        if let Ok(answer) = check_announce(body, &announced) {
            assert!(answer.peers <= 100, "more than was asked for, in either family");
        }
        if let Ok(answer) = check_scrape(body, |hash| hash.len() == 20) {
            assert!(answer.torrents <= body.len() as u64 / 20);
        }
        self.fates.push(Fate::Answered(body.to_vec()));
    }
    fn failed(&mut self, _: &Asked, wrong: Wrong) {
        self.fates.push(Fate::Failed(wrong.fault));
    }
    fn odd(&mut self, _: Oddity) {}
    fn disturbed(&mut self, _: Wrong) {}
    fn shaken(&mut self, _: Resumption) {}
}

fuzz_target!(|input: &[u8]| {
    let whole = converse(input, input.len().max(1));
    assert_eq!(converse(input, 1), whole, "cut into bytes");
    assert_eq!(converse(input, 7), whole, "cut into sevens");
    assert!(whole.0.len() + whole.1 == QUESTIONS as usize, "a question without a fate");
});

/// The fates of all questions, where the answers come in pieces of so many bytes, and how many
/// are left to be asked anew.
fn converse(input: &[u8], piece: usize) -> (Vec<Fate>, usize) {
    let (mut client, mut notes) = (Client::default(), Notes::default());
    client.begin(None).expect("there is no TLS to begin");
    for member in 0..QUESTIONS {
        client.ask(Question::Scrape { member }, 0);
    }
    let mut out = [0; 4096];
    client.fill(&mut out, &mut [0; 16], 100, 0, |_, _, _| 1).expect("there is no TLS to fail");
    let mut pieces = input.chunks(piece);
    let end = loop {
        let standing = match pieces.next() {
            Some(piece) => client.receive(piece, &mut notes),
            None => break client.end(&mut notes),
        };
        if standing != Ok(Standing::Open) {
            break standing;
        }
    };
    match end {
        Ok(_) => client.ended(),
        Err(wrong) => client.broken(&wrong, &mut notes),
    }
    (notes.fates, client.waiting())
}

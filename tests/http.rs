//! The program from outside: the real binary on real sockets, on either engine, held to every
//! promise of its protocol.
//!
//! `announce` and `scrape` are what clients may ask, and `places` where, `answer` what they are
//! told, `delivery` how it arrives, `framing` and `refusal` the HTTP around it, `page` what people
//! and robots see, `limit` and `process` the rest of what operators rely on, and `corpus` what
//! real clients were heard to say.

#[path = "http/announce.rs"]
mod announce;
#[path = "http/answer.rs"]
mod answer;
#[path = "http/bencode.rs"]
mod bencode;
#[path = "http/client.rs"]
mod client;
#[path = "http/corpus.rs"]
mod corpus;
#[path = "http/delivery.rs"]
mod delivery;
#[path = "http/framing.rs"]
mod framing;
#[path = "http/limit.rs"]
mod limit;
#[path = "operations/observed.rs"]
#[allow(dead_code, reason = "shared with the tests of operations, which ask more of it")]
mod observed;
#[path = "http/page.rs"]
mod page;
#[path = "http/places.rs"]
mod places;
#[path = "http/process.rs"]
mod process;
#[path = "http/refusal.rs"]
mod refusal;
#[path = "http/scrape.rs"]
mod scrape;
#[path = "http/torrent.rs"]
mod torrent;
#[path = "http/tracker.rs"]
mod tracker;

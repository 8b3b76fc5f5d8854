//! The program from outside: the real binary on real sockets, on either engine, held to every
//! promise of its protocol.
//!
//! `announce` and `scrape` are what clients may ask, and `places` where, `answer` what they are
//! told, `delivery` how it arrives, `framing` and `refusal` the HTTP around it, `page` what people
//! and robots see, `limit` and `process` the rest of what operators rely on, and `corpus` what
//! real clients were heard to say.

mod announce;
mod answer;
mod corpus;
mod delivery;
mod framing;
mod limit;
mod page;
mod places;
mod process;
mod refusal;
mod response;
mod scrape;
mod server;

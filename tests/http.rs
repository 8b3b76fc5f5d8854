//! The program over real sockets, on either engine: its HTTP interface.
//!
//! `announce` and `scrape` test the parameters, `places` the paths, `answer` the responses,
//! `delivery` how they arrive, `framing` and `refusal` the HTTP around them, `page` the page for
//! people and robots, `limit` and `process` operation, and `corpus` recorded requests of real
//! clients.

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

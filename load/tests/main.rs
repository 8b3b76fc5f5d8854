//! `annulus-load` from outside: the real program against the real tracker, and against servers
//! that respond wrongly, late or not at all.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod fake_tracker;
mod rates;
mod reports;
mod requests;
mod responses;
mod run;
mod support;
mod usage;

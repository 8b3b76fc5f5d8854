//! `annulus load` from outside: the real binary against the real tracker, and against servers
//! that answer wrong, late or not at all.
//!
//! `asking` is every way to ask, `judging` every fault there is, `pacing` what a stall does to a
//! given rate, `telling` what is said of a run, and `misuse` what is said instead.

#![allow(dead_code, reason = "the harness is shared, and each half of it is used by somebody")]

#[path = "load/asking.rs"]
mod asking;
#[path = "support/authority.rs"]
mod authority;
#[path = "load/fake.rs"]
mod fake;
#[path = "load/judging.rs"]
mod judging;
#[path = "load/misuse.rs"]
mod misuse;
#[path = "load/pacing.rs"]
mod pacing;
#[path = "support/requirements.rs"]
mod requirements;
#[path = "load/run.rs"]
mod run;
#[path = "support/site.rs"]
mod site;
#[path = "load/telling.rs"]
mod telling;
#[path = "support/tracker.rs"]
mod tracker;

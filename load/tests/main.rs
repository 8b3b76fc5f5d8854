//! `annulus-load` from outside: the real program against the real tracker, and against servers
//! that respond wrongly, late or not at all.

mod asking;
mod fake;
mod judging;
mod misuse;
mod pacing;
mod run;
mod support;
mod telling;

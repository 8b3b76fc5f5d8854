//! Power that is given up, from outside: the real binary, started by root, on either engine,
//! looked at by what the kernel says of it and by what it can still do.
//!
//! `dropped` is what is left of it, `renewal` how files are read again all the same, `keeper`
//! the life of the process that does it, `hidden` what Landlock takes away, `socket` what is made
//! for its user, and `mistakes` what cannot be had.

mod dropped;
mod hidden;
mod keeper;
mod mistakes;
mod place;
mod renewal;
mod socket;
mod status;

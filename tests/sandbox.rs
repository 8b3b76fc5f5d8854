//! The sandbox from outside: the real binary, started by root, on either engine, by what the kernel
//! tells of it and by what it can still do.
//!
//! `dropped`: which privileges are left. `file_broker`: the process that opens files. `renewal`:
//! how files are read again. `hidden`: what Landlock takes away. `socket`: Unix sockets for another
//! user. `mistakes`: configurations that are refused.

mod dropped;
mod file_broker;
mod hidden;
mod mistakes;
mod place;
mod renewal;
mod socket;
mod status;

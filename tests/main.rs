//! The tests of the program, one module a subject. `support` is what they share.
//!
//! Programs of their own are `sim`, which needs no tracker, and `transfers`, which needs the
//! machine for itself.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]
#![allow(clippy::too_many_lines, reason = "some tests are tables of cases")]

mod access;
mod activation;
mod addresses;
mod admin;
mod buffered;
mod certificates;
mod cli;
mod cluster;
mod config;
mod datagrams;
mod documents;
mod hostile;
mod http;
mod https;
mod kernels;
mod limits;
mod load;
mod log;
mod packaging;
mod page;
mod performance;
mod proxy;
mod sandbox;
mod seccomp;
mod state;
mod support;
mod udp;
mod validity;

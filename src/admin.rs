//! The operations listener: what an operator and his machines may know, on addresses of its own.
//!
//! It has threads and sockets of its own too, of the plain blocking kind, and shares nothing with
//! the workers but numbers that they write and it reads. Whatever goes wrong here, they go on;
//! and it goes on to answer while they leave, until the process ends.
//!
//! `listener` accepts, `exchange` is one request and its answer as bytes, `routes` says what there
//! is; `exposition` writes a [`Snapshot`](crate::metrics::snapshot::Snapshot) for Prometheus,
//! `json` for other programs, `overview` for people; `top` writes the largest torrents.

mod exchange;
mod exposition;
mod json;
mod listener;
mod overview;
mod routes;
mod top;

pub use listener::{Door, serve};

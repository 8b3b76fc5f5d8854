//! The operations listener: what an operator and his machines may know, on addresses of its own.
//!
//! It has threads and sockets of its own too, of the plain blocking kind, and shares nothing with
//! the workers but numbers that they write and it reads. Whatever goes wrong here, they go on;
//! and it goes on to answer while they leave, until the process ends.
//!
//! `listener` accepts, `http` is one request and its answer as bytes, `routes` says what there
//! is; `prometheus` writes a [`Snapshot`](crate::admin::stats::Snapshot) for Prometheus,
//! `json` for other programs, `overview` for people; `top` writes the largest torrents.

mod http;
mod json;
mod listener;
mod overview;
pub mod process;
mod prometheus;
pub mod rates;
mod routes;
pub mod stats;
mod top;

pub use listener::{Door, serve};

//! The admin listener of the tracker: what its counters count, and how HTTP clients read them.
//!
//! `requests`, `connections`, `tls` and `swarms` check what is counted, `top` the largest torrents,
//! `process` the resources of the process; `listener` is HTTP, `stopping` the end of the tracker;
//! `prometheus` runs Debian's Prometheus against it and checks the dashboard of `dist/`.

mod connections;
mod listener;
mod process;
mod prometheus;
mod requests;
mod stopping;
mod swarms;
mod tls;
mod top;

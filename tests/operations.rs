//! The operations listener from outside: the real binary on real sockets, what it counts while
//! clients do as they do, and who reads it.
//!
//! `requests`, `connections`, `secured` and `swarms` are what is counted, `top` the largest
//! torrents; `listener` is how it is told, `process` what of the process itself, `stopping` what
//! at its end; `prometheus` has Debian's own read it all, and draw the dashboard of `dist/`.

mod connections;
mod listener;
mod process;
mod prometheus;
mod requests;
mod secured;
mod stopping;
mod swarms;
mod top;

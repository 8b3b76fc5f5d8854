//! The admin listener: metrics, health, statistics and a page, on addresses of its own that are
//! configured in `[operations]`.
//!
//! It uses threads and blocking sockets, and shares nothing with the workers but counters that
//! they write and it reads: its faults do not stop them. It serves until the process ends.

mod http;
mod json;
mod listener;
mod process;
mod prometheus;
mod rates;
mod stats;

pub use listener::serve;
pub use process::ProcFiles;
pub use stats::{EngineInfo, Health, StaticInfo, StatsParts, StatsSource};

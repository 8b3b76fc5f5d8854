//! One set of behaviour for every engine, over real sockets: io_uring as this kernel has
//! it, io_uring as the oldest supported kernel has it, and epoll.
//!
//! Each test is a function over [`harness::EngineKind`]; `on_every_engine!` runs it on all three.
//! They run one at a time, each bounded in time, and each must give back every descriptor
//! and every receive buffer. An engine that this machine refuses is skipped, saying why.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod accept;
mod connect;
mod descriptors;
mod harness;
mod many;
mod receive;
mod send;
mod short_sends;
mod soak;
mod waiting;

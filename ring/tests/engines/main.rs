//! The behaviour of every engine over real sockets: io_uring with all features of this kernel, with
//! those of the oldest supported kernel, and epoll.
//!
//! Each test is a function over [`harness::EngineKind`]; `on_every_engine!` runs it on all three.
//! The tests run one at a time, each bounded in time, and each must release every descriptor and
//! every receive buffer. An engine that this machine does not have is skipped with the reason.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod accept;
mod connect;
mod datagram_ends;
mod datagram_floods;
mod datagrams;
mod descriptors;
mod harness;
mod many;
mod receive;
mod send;
mod short_sends;
mod soak;
mod waiting;

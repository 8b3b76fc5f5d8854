//! Sockets by submission and completion.
//!
//! This crate handles bytes, descriptors and completions, and does not know what the bytes mean.
//! Its interface is the trait [`Ring`]: operations are queued; [`Ring::turn`] submits them in one
//! system call, waits, and returns what completed as [`Event`]s. [`Connect`] adds the client side.
//!
//! Three engines implement the trait: [`Uring`] (io_uring, Linux 5.19 and later), [`Epoll`]
//! (everything else), and the fake ring of the tests.
//!
//! Guarantees of the crate:
//! - It owns every buffer that the kernel accesses, so its callers need no `unsafe`. A received
//!   buffer is handed out as a [`RecvBuf`] and returns to the pool when dropped.
//! - Completions are collected first and handed out as one batch: no callback, no recursion.
//! - Every operation carries a [`Key`] (slot and generation), so that a completion for an earlier
//!   connection in the same slot is recognised.
//!
//! Obligations of the caller, checked by `debug_assert!`:
//! - At most one [`Ring::send`] or [`Ring::send_and_close`] per connection and turn, and none while
//!   a [`Ring::send_owned`] of that connection is pending.
//! - A socket is closed only when neither a receive nor an owned send of it is pending.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")
)]
#![deny(unsafe_code)]

mod buffers;
mod connect;
mod connected_udp;
mod datagram;
mod datagram_batch;
mod datagram_set;
mod datagram_socket;
mod epoll;
mod event;
mod inherit;
mod limit;
mod listener;
mod listener_set;
#[cfg(not(fuzzing))]
mod memory;
mod start;
mod sys;
mod token;
mod uring;
mod waker;

pub use buffers::{Pool, RecvBuf};
pub use connected_udp::{
    ConnectedUdp, ReceivedUdp, UDP_BATCH_MAX, UdpPoll, UdpReceiveBatch, UdpSendBatch,
};
pub use datagram::{
    DATAGRAM_BUFFER_BYTES, DATAGRAM_BYTES_MAX, Datagram, DatagramIndex, REPLY_BYTES_MAX,
};
pub use datagram_socket::{DATAGRAM_QUEUE_BYTES, DatagramSocket};
pub use epoll::Epoll;
pub use event::{
    AcceptEnd, Connect, EngineConfig, Event, ListenerIndex, RecvEnd, RecvMode, Ring, Socket,
    Unsent, UnsentRest,
};
pub use inherit::{close_inherited_on_exec, take_inherited};
pub use limit::ConnectionLimit;
pub use listener::{ListenAddress, Listener};
#[cfg(not(fuzzing))]
pub use memory::{Jemalloc, start_memory_thread};
pub use rustix::io::Errno;
pub use start::{EngineChoice, SelectedEngine};
pub use token::Key;
pub use uring::{Capabilities, SetupError, TaskWork, Uring};
pub use waker::Waker;

//! Sockets by submission and completion.
//!
//! This crate knows bytes, descriptors and completions, and nothing of what the bytes
//! mean. Its user speaks to one trait, [`Ring`]: operations are queued, [`Ring::turn`]
//! submits them all at once, waits, and hands back what completed as [`Event`]s. Who connects
//! to others has [`Connect`] besides.
//!
//! Three engines stand behind the trait: [`Uring`] (io_uring, Linux 5.19 and later),
//! [`Epoll`] (everything else), and the fake ring of the tests.
//!
//! What the crate promises:
//! - It owns every buffer that the kernel can see, so its users need no `unsafe`. A
//!   received buffer is checked out as a [`RecvBuf`] and returns to the pool on drop.
//! - Events are harvested first and handed out as one batch: no callback, no recursion.
//! - Every operation carries a [`Key`] (slot and generation), so a completion that comes
//!   after its slot was reused can be told from one that belongs there.
//!
//! What its user promises, checked by `debug_assert!`:
//! - At most one [`Ring::send`] or [`Ring::send_and_close`] per connection and turn, and
//!   none while a [`Ring::send_owned`] of that connection is on its way.
//! - A socket is closed only when neither a receive nor an owned send is on its way
//!   (closing is a join).
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")
)]
#![deny(unsafe_code)]

mod address;
mod buffers;
mod connect;
mod epoll;
mod event;
mod inherit;
mod limit;
mod listener;
mod listener_set;
mod memory;
mod start;
mod sys;
mod token;
mod uring;
mod waker;

pub use address::ListenAddress;
pub use buffers::{Pool, RecvBuf};
pub use epoll::Epoll;
pub use event::{
    AcceptEnd, Connect, EngineConfig, Event, ListenerIndex, RecvEnd, RecvMode, Ring, Socket,
};
pub use inherit::{close_inherited_on_exec, take_inherited};
pub use limit::ConnectionLimit;
pub use listener::Listener;
pub use memory::{sort_freed_memory, steady_memory};
pub use rustix::io::Errno;
pub use start::{EngineChoice, SelectedEngine};
pub use token::Key;
pub use uring::{Capabilities, SetupError, TaskWork, Uring};
pub use waker::Waker;

//! Clients that mean no good, and the tracker all the others rely on meanwhile: nothing a
//! client does or leaves undone may hold a connection, memory or a processor for long.

mod exhaustion;
mod garbage;
mod memory;
mod slowness;

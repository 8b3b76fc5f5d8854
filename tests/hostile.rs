//! Hostile clients: none of them may hold a connection, memory or a processor for long, and other
//! clients are served meanwhile.

mod exhaustion;
mod garbage;
mod memory;
mod slowness;

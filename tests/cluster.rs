//! Several trackers that share their swarms through a Redis server.

mod agreement;
mod bridge;
mod connecting;
mod datagrams;
mod example;
mod faults;
mod load;
mod nodes;
mod refused;
mod server;

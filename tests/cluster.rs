//! Several trackers that share their swarms through a Redis server.

mod connecting;
mod refused;
mod server;

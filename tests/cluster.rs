//! Several trackers that share their swarms through a Redis server.

mod server;

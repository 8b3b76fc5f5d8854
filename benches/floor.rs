//! The floor: the least server CPU that an HTTP answer can cost on this machine.
//!
//! `cargo bench --bench floor -- ADDRESS keep|close` serves one constant answer until it is
//! killed. `cargo bench --bench wire` starts the same server in a process of its own and
//! judges the tracker by it.

use std::net::SocketAddr;

#[path = "floor/server.rs"]
mod server;

use server::{Connections, serve};

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let parsed = match arguments.as_slice() {
        [address, connections] => {
            address.parse::<SocketAddr>().ok().zip(Connections::parse(connections))
        }
        _ => None,
    };
    let Some((address, connections)) = parsed else {
        eprintln!("usage: cargo bench --bench floor -- ADDRESS keep|close");
        return;
    };
    let error = serve(address, connections).unwrap_err();
    eprintln!("floor: {error}");
    std::process::exit(1);
}

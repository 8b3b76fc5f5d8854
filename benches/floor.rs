//! The floor: the least server CPU that an HTTP answer can cost on this machine.
//!
//! `cargo bench --bench floor -- ADDRESS keep|close [--body-bytes N[,N...]]` serves constant
//! answers until it is killed. `cargo bench --bench wire` starts the same server in a process of
//! its own and judges the tracker by it.

#[path = "floor/server.rs"]
mod server;

use server::{Service, serve};

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(service) = Service::parse(&arguments) else {
        eprintln!("usage: cargo bench --bench floor -- ADDRESS keep|close [--body-bytes N[,N...]]");
        return;
    };
    let error = serve(service).unwrap_err();
    eprintln!("floor: {error}");
    std::process::exit(1);
}

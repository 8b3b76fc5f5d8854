//! `cargo bench --bench floor -- ADDRESS keep|close [--body-bytes N[,N...]]`: the least server CPU
//! that an HTTP response can cost on this machine, see `lib/src/floor.rs`. `ADDRESS udp`: the same
//! of a response by UDP, see `lib/src/floor_udp.rs`. Serves until it is killed.

use std::env;

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    if let Err(error) = annulus_bench::floor::HELPER.1(&arguments) {
        eprintln!("floor: {error:#}");
    }
}

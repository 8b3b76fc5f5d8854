//! The clocks of nodes are an hour apart, by what the nodes say.

use crate::cluster::bridge::{Bridge, Treatment};
use crate::cluster::load::Load;
use crate::cluster::nodes::{Cluster, ClusterSetup, NODES, can_run_cluster};

/// How far the clocks of each node are ahead, in milliseconds.
const AHEAD_MS: [i64; NODES] = [0, 3_600_000, -3_600_000];

/// Where a frame has its checksum, what that covers, and the clocks: the one that counts from the
/// start of the process, and the one on the wall (`src/cluster/frame.rs`).
const CHECKSUM: usize = 4;
const CHECKED: usize = 8;
const CLOCKS: [usize; 2] = [28, 36];

/// Moves the clocks in the frames of each node.
fn skewed() -> Treatment {
    Box::new(|from, _, bytes| {
        let mut frame = bytes.to_vec();
        assert!(frame.starts_with(b"ANNC"), "{:?}", frame.escape_ascii().to_string());
        for at in CLOCKS {
            let clock: &mut [u8; 8] = (&mut frame[at..at + 8]).try_into().unwrap();
            // The first one does not run backwards past the start of its process.
            let ahead_ms = if at == CLOCKS[0] { AHEAD_MS[from].abs() } else { AHEAD_MS[from] };
            *clock = i64::from_le_bytes(*clock).saturating_add(ahead_ms).to_le_bytes();
        }
        let checksum = crc32c::crc32c(&frame[CHECKED..]);
        frame[CHECKSUM..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        vec![frame]
    })
}

#[test]
fn clocks_that_are_an_hour_apart_change_nothing() {
    if !can_run_cluster("cluster::clocks_that_are_an_hour_apart") {
        return;
    }
    let setup = ClusterSetup { apart: true, state: true, ..ClusterSetup::default() };
    let mut cluster = Cluster::start("clocks", setup);
    let _bridge = Bridge::start(&cluster.servers, skewed());
    let load = Load::start(&cluster);
    load.wait_round();
    load.kill_node(&mut cluster, 1);
    load.wait_round();
    cluster.start_node(1);
    cluster.wait_whole(1);
    load.direct(&[0, 1, 2]);
    load.wait_round();
    cluster.assert_agreement(&load.end());
}

//! Messages are doubled, reordered, damaged and lost on their way, and come from other clusters.

use crate::cluster::bridge::{Bridge, Treatment, honest};
use crate::cluster::load::{Load, Model};
use crate::cluster::nodes::{Cluster, ClusterSetup, NODES, can_run_cluster};

/// A small generator, so that a run can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn apart() -> ClusterSetup {
    ClusterSetup { apart: true, ..ClusterSetup::default() }
}

#[test]
fn a_bridge_that_changes_nothing_is_no_obstacle() {
    if !can_run_cluster("cluster::a_bridge_that_changes_nothing") {
        return;
    }
    let cluster = Cluster::start("honest", apart());
    let _bridge = Bridge::start(&cluster.servers, honest());
    let load = Load::start(&cluster);
    load.wait_round();
    cluster.assert_agreement(&load.end());
}

#[test]
fn doubled_and_reordered_messages_change_nothing() {
    if !can_run_cluster("cluster::doubled_and_reordered_messages") {
        return;
    }
    let cluster = under_treatment("reordered", || {
        let mut chance = Chance(1);
        let mut held: [Vec<Vec<u8>>; NODES] = Default::default();
        Box::new(move |_, to, bytes| {
            let held = &mut held[to];
            held.push(bytes.to_vec());
            if chance.below(3) == 0 {
                held.push(bytes.to_vec());
            }
            // Up to four messages are kept back and come in any order.
            let mut out = Vec::new();
            while held.len() > 4 || (!held.is_empty() && chance.below(2) == 0) {
                out.push(held.swap_remove(chance.below(held.len())));
            }
            out
        })
    });
    let [duplicate, late] = ["duplicate", "late"].map(out_of_order);
    assert_counted(&cluster, &[&duplicate, &late]);
}

#[test]
fn damaged_and_lost_messages_are_made_good() {
    if !can_run_cluster("cluster::damaged_and_lost_messages") {
        return;
    }
    let cluster = under_treatment("damaged", || {
        let mut chance = Chance(2);
        Box::new(move |_, _, bytes| {
            let mut damaged = bytes.to_vec();
            match chance.below(4) {
                0 => damaged.truncate(chance.below(bytes.len())),
                1 => damaged.extend_from_slice(&bytes[..1 + chance.below(bytes.len())]),
                _ => damaged[chance.below(bytes.len())] ^= 1 << chance.below(8),
            }
            match chance.below(16) {
                // The damaged one instead.
                0 => vec![damaged],
                1 => Vec::new(),
                2..6 => vec![damaged, bytes.to_vec()],
                _ => vec![bytes.to_vec()],
            }
        })
    });
    assert_counted(&cluster, &["annulus_cluster_frames_refused_total", &out_of_order("lost")]);
}

/// Clients announce while messages are treated like this; then the treatment ends.
fn under_treatment(name: &'static str, treatment: impl FnOnce() -> Treatment) -> Cluster {
    let cluster = Cluster::start(name, apart());
    let bridge = Bridge::start(&cluster.servers, honest());
    let load = Load::start(&cluster);
    load.wait_round();
    bridge.treat(treatment());
    for _ in 0..3 {
        load.wait_round();
    }
    bridge.treat(honest());
    load.wait_answers(200);
    cluster.assert_agreement(&load.end());
    cluster
}

fn out_of_order(reason: &str) -> String {
    format!("annulus_cluster_frames_out_of_order_total{{reason=\"{reason}\"}}")
}

/// Asserts that each node has counted what went wrong.
#[track_caller]
fn assert_counted(cluster: &Cluster, metrics: &[&str]) {
    for node in 0..NODES {
        for metric in metrics {
            assert!(cluster.metric(node, metric) > 0.0, "node {node}: {metric}");
        }
    }
}

#[test]
fn clusters_on_one_server_are_apart_by_channel() {
    if !can_run_cluster("cluster::clusters_on_one_server") {
        return;
    }
    // The name of one is the beginning of the other's.
    let keys = ["channel = \"tracker\"", "channel = \"tracker\"", "channel = \"tracker2\""];
    let cluster = Cluster::start("channels", ClusterSetup { keys, ..ClusterSetup::default() });
    let load = Load::start(&cluster);
    load.direct(&[0, 1]);
    load.wait_round();
    let model = load.end();
    cluster.assert_agreement_of(&[0, 1], &model);
    cluster.assert_agreement_of(&[2], &Model::default());
    let load = Load::start(&cluster);
    load.direct(&[2]);
    load.wait_round();
    cluster.assert_agreement_of(&[2], &load.end());
    cluster.assert_agreement_of(&[0, 1], &model);
}

//! A node fails, or its connection.

use std::time::{Duration, Instant};

use crate::cluster::load::Load;
use crate::cluster::nodes::{Cluster, ClusterSetup, INTERVAL_S_MAX, NODES, can_run_cluster};
use crate::support::redis::RedisReply;
use crate::support::tracker::wait_for;

#[test]
fn a_node_is_killed_and_comes_back_without_its_state() {
    if !can_run_cluster("cluster::a_node_is_killed_and_comes_back_without_its_state") {
        return;
    }
    kill_and_bring_back(ClusterSetup::default(), "killed-bare");
}

#[test]
fn a_node_is_killed_and_comes_back_with_its_state() {
    if !can_run_cluster("cluster::a_node_is_killed_and_comes_back_with_its_state") {
        return;
    }
    kill_and_bring_back(ClusterSetup { state: true, ..ClusterSetup::default() }, "killed-state");
}

fn kill_and_bring_back(setup: ClusterSetup, name: &'static str) {
    let has_state = setup.state;
    let mut cluster = Cluster::start(name, setup);
    let load = Load::start(&cluster);
    load.wait_round();
    if has_state {
        // So that there is a file, older than what happens from now on.
        load.direct(&[0, 1]);
        cluster.stop_node(2);
        load.wait_round();
        cluster.start_node(2);
        cluster.wait_whole(2);
        load.direct(&[0, 1, 2]);
        load.wait_round();
    }
    load.kill_node(&mut cluster, 2);
    load.wait_round();
    cluster.start_node(2);
    // Clients come before the node is whole.
    load.direct(&[0, 1, 2]);
    cluster.wait_whole(2);
    load.wait_round();
    cluster.assert_agreement(&load.end());
}

#[test]
fn all_nodes_are_killed_and_one_after_another_comes_back() {
    if !can_run_cluster("cluster::all_nodes_are_killed") {
        return;
    }
    let setup = ClusterSetup { state: true, ..ClusterSetup::default() };
    let mut cluster = Cluster::start("killed-all", setup);
    let load = Load::start(&cluster);
    load.wait_round();
    let model = load.end();
    cluster.assert_agreement(&model);
    for node in 0..NODES {
        cluster.stop_node(node);
    }
    // One had no state file and asks the others.
    std::fs::remove_file(cluster.state_file(1)).unwrap();
    for node in 0..NODES {
        cluster.start_node(node);
    }
    cluster.assert_agreement(&model);
}

#[test]
fn a_node_is_cut_off_for_less_than_an_interval() {
    if can_run_cluster("cluster::a_node_is_cut_off_for_less_than_an_interval") {
        cut_off("cut-short", Duration::from_secs(12));
    }
}

#[test]
fn a_node_is_cut_off_for_more_than_an_interval() {
    if can_run_cluster("cluster::a_node_is_cut_off_for_more_than_an_interval") {
        cut_off("cut-long", Duration::from_secs(INTERVAL_S_MAX + 4));
    }
}

/// Packets between a node and the server are dropped, and nobody is told. Clients reach all nodes.
fn cut_off(name: &'static str, time: Duration) {
    let cluster = Cluster::start(name, ClusterSetup::default());
    let load = Load::start(&cluster);
    load.wait_round();
    let cut = Instant::now();
    cluster.network.part(1, cluster.servers[0].address().port());
    // It notices by itself.
    cluster.node(1).assert_logged(super::LOST);
    while cut.elapsed() < time {
        load.wait_answers(100);
    }
    cluster.network.join(1);
    load.wait_round();
    cluster.assert_agreement(&load.end());
}

#[test]
fn a_slow_node_loses_its_connection_and_catches_up() {
    if !can_run_cluster("cluster::a_slow_node_loses_its_connection") {
        return;
    }
    let redis = "client-output-buffer-limit pubsub 1mb 512kb 5\n";
    let cluster = Cluster::start("slow", ClusterSetup { redis, ..ClusterSetup::default() });
    let load = Load::start(&cluster);
    load.wait_round();
    let subscribers =
        || match cluster.servers[0].client().command(&[b"PUBSUB", b"NUMSUB", b"annulus"]) {
            RedisReply::List(parts) => parts[1].clone(),
            other => panic!("{other:?}"),
        };
    assert_eq!(subscribers(), RedisReply::Integer(NODES as i64));
    // It still accepts connections, and answers none.
    load.direct(&[0, 1]);
    // Until it has published what it was told: that would be old when it goes on.
    load.wait_answers(200);
    cluster.node(2).signal("STOP");
    // More than the kernel's buffers hold. No node understands it.
    let mut flood = cluster.servers[0].client();
    let ballast = vec![b'x'; 32 * 1024];
    wait_for("the server to cut the slow node off", || {
        for _ in 0..100 {
            flood.publish("annulus", &ballast);
        }
        (subscribers() == RedisReply::Integer(NODES as i64 - 1)).then_some(())
    });
    load.wait_round();
    cluster.node(2).signal("CONT");
    wait_for("the slow node to come back", || {
        (subscribers() == RedisReply::Integer(NODES as i64)).then_some(())
    });
    load.direct(&[0, 1, 2]);
    load.wait_round();
    cluster.assert_agreement(&load.end());
}

//! The server fails.

use super::{FOUND, LOST};
use crate::cluster::load::{Load, TORRENTS};
use crate::cluster::nodes::{Cluster, ClusterSetup, NODES, can_run_cluster};

fn lines(cluster: &Cluster, node: usize, part: &str) -> usize {
    cluster.node(node).log().lines().filter(|line| line.contains(part)).count()
}

#[test]
fn all_is_shared_while_nothing_fails() {
    if !can_run_cluster("cluster::all_is_shared_while_nothing_fails") {
        return;
    }
    let cluster = Cluster::start("calm", ClusterSetup::default());
    let load = Load::start(&cluster);
    for _ in 0..3 {
        load.wait_round();
    }
    let model = load.end();
    cluster.assert_agreement(&model);
    let counts = cluster.downloaded();
    assert!(counts[0].iter().sum::<i64>() > i64::from(TORRENTS), "{counts:?}");
    assert!(counts.iter().all(|it| *it == counts[0]), "{counts:?}");
}

#[test]
fn the_server_is_killed_and_comes_back() {
    if !can_run_cluster("cluster::the_server_is_killed_and_comes_back") {
        return;
    }
    let mut cluster = Cluster::start("killed-server", ClusterSetup::default());
    let load = Load::start(&cluster);
    load.wait_round();
    cluster.servers[0].kill();
    for node in 0..NODES {
        cluster.node(node).assert_logged(LOST);
    }
    // Each serves alone, and tries again and again without a word.
    load.wait_round();
    load.wait_round();
    for node in 0..NODES {
        assert_eq!(lines(&cluster, node, LOST), 1, "{}", cluster.node(node).log());
    }
    cluster.servers[0].start_again();
    load.wait_round();
    cluster.assert_agreement(&load.end());
    for node in 0..NODES {
        assert_eq!(lines(&cluster, node, LOST), 1, "{}", cluster.node(node).log());
        assert_eq!(lines(&cluster, node, FOUND), 2, "{}", cluster.node(node).log());
    }
}

#[test]
fn the_server_is_stopped_in_order_and_comes_back_with_nobody_announcing() {
    if !can_run_cluster("cluster::the_server_is_stopped") {
        return;
    }
    let mut cluster = Cluster::start("stopped-server", ClusterSetup::default());
    let load = Load::start(&cluster);
    load.wait_round();
    cluster.servers[0].stop();
    load.wait_round();
    // What happened meanwhile is told by nobody's next announce.
    let model = load.end();
    cluster.servers[0].start_again();
    cluster.assert_agreement(&model);
}

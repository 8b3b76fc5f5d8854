//! Peers that announce by UDP are known at the other nodes.

use std::net::SocketAddr;

use super::nodes::{Cluster, ClusterSetup, NODES, can_run_cluster};
use crate::support::network::Family;
use crate::support::tracker::wait_for;
use crate::support::udp_client::{STOPPED, UdpAnnounce, UdpClient};

#[test]
fn peers_by_udp_are_shared() {
    if !can_run_cluster("peers by UDP at several nodes") {
        return;
    }
    let cluster = Cluster::start("datagrams", ClusterSetup::default());
    let hub = cluster.network.hub_address();
    let mut clients: Vec<UdpClient> = (0..NODES)
        .map(|node| {
            let to = cluster.address(node, Family::V4);
            let mut client = UdpClient::of(cluster.network.udp_from_hub(to));
            client.connect();
            client
        })
        .collect();
    clients[0].announce(&UdpAnnounce::seeder(1, 7001));
    for client in &mut clients[1..] {
        let has_it = || (client.scrape(&[1])[0].complete == 1).then_some(());
        wait_for("a peer of another node", has_it);
    }
    let told = clients[1].announce(&UdpAnnounce::new(1, 7002));
    assert_eq!(told.peers, [SocketAddr::new(hub, 7001)]);
    clients[0].announce(&UdpAnnounce::seeder(1, 7001).with_event(STOPPED));
    let last = &mut clients[2];
    wait_for("a stop at another node", || {
        let counts = last.scrape(&[1])[0];
        ((counts.complete, counts.incomplete) == (0, 1)).then_some(())
    });
}

//! The node of a cluster: its servers, which are looked up before privileges are dropped, and its
//! threads.

use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::process;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::reload::warn;
use super::workers::Workers;
use crate::access_list::SharedAccessList;
use crate::clock::Clock;
use crate::cluster::{
    ClusterLink, LinkParts, LoadedServers, NodeHalves, NodeId, NodeParts, PubSubServers, node_time,
};
use crate::config::{ClusterConfig, Config};

/// The servers as configured, or `None` if this node is alone.
pub(super) fn load_servers(config: &ClusterConfig) -> anyhow::Result<Option<PubSubServers>> {
    let loaded = PubSubServers::load(config).map_err(|mistakes| anyhow!(mistakes.join("\n")))?;
    Ok(loaded.map(|LoadedServers { servers, warnings }| {
        warn(&warnings);
        servers
    }))
}

/// What a node begins with.
pub(super) struct NodeConfig<'c> {
    pub(super) config: &'c Config,
    /// `None` if this node is alone.
    pub(super) servers: Option<PubSubServers>,
    /// How many seconds ago the state was written that the swarms began with.
    pub(super) state_age_s: Option<u32>,
    pub(super) clock: Clock,
}

/// Starts the threads that connect this node to the others, unless it is alone.
pub(super) fn start_cluster(
    node: NodeConfig<'_>,
    workers: &mut Workers,
    access_list: Option<&SharedAccessList>,
) -> anyhow::Result<Option<ClusterLink>> {
    let NodeConfig { config, servers, state_age_s, clock } = node;
    let Some(servers) = servers else { return Ok(None) };
    // Each of them is keyed with randomness of the system.
    let random = |about: &str| RandomState::new().hash_one((about, process::id()));
    let id = NodeId(random("node"));
    let halves = NodeHalves::new(NodeParts {
        swarms: Arc::clone(&workers.swarms),
        id,
        seed: random("seed"),
        peer_timeout_s: config.protocol.peer_timeout_s,
        state_age_s,
        start: node_time(&clock),
    });
    let link = ClusterLink::start(LinkParts {
        servers,
        channel: config.cluster.channel.clone(),
        id,
        halves,
        slots: mem::take(&mut workers.slots),
        access_list: access_list.map(SharedAccessList::cache),
        clock,
    });
    link.map(Some).context("cannot start the threads of the cluster")
}

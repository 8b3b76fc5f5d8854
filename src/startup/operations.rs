//! The operations listeners, as far as they concern the start.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use annulus_ring::Listener;
use anyhow::Context;

use super::listen::{InheritedSockets, ListenOptions};
use crate::admin::{EngineInfo, StaticInfo, StatsParts, StatsSource, serve};
use crate::clock::Clock;
use crate::config::{Config, widened};
use crate::log;

/// Opens the addresses as configured: each with its socket, which nobody answers yet.
pub(super) fn open(
    config: &Config,
    passed: &mut InheritedSockets,
) -> anyhow::Result<Vec<(SocketAddr, OwnedFd)>> {
    let addresses = widened(&config.operations.listen);
    let mut group = [Vec::new()];
    let options = ListenOptions { config, owner: None, optional: addresses.len() > 1 };
    let bound = options.listen(&addresses, passed, &mut group)?;
    let [sockets] = group;
    let doors = sockets.into_iter().map(Listener::into_fd);
    let addresses = bound.iter().filter_map(|bound| bound.address.tcp());
    Ok(addresses.zip(doors).collect())
}

/// What does not change from here on, which is when the tracker begins to serve.
pub(super) fn static_info(
    config: &Config,
    engines: Vec<EngineInfo>,
    connections_max: u64,
) -> StaticInfo {
    StaticInfo {
        version: env!("CARGO_PKG_VERSION"),
        started_unix_s: Clock::unix_s(),
        engines,
        connections_max,
        torrents_max: config.swarms.max_torrents as u64,
        peers_max: config.swarms.max_peers as u64,
    }
}

/// Answers from now on.
pub(super) fn begin(doors: Vec<(SocketAddr, OwnedFd)>, parts: StatsParts) -> anyhow::Result<()> {
    let (addresses, doors): (Vec<SocketAddr>, Vec<OwnedFd>) = doors.into_iter().unzip();
    serve(doors, StatsSource::new(parts)).context("cannot start the operations")?;
    for address in addresses {
        if !address.ip().is_loopback() {
            log::warning(format_args!(
                "operations on {address}: whoever can reach this address is told everything"
            ));
        }
        log::info(format_args!("operations on {address}"));
    }
    Ok(())
}

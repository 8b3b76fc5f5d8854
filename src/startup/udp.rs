//! Sockets for datagrams.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use annulus_ring::{DATAGRAM_QUEUE_BYTES, DatagramSocket};
use anyhow::{anyhow, bail};

use super::listen::{BoundAddress, InheritedSockets, is_without_ipv6, retry};
use crate::config::{Config, UdpListen};
use crate::log;
use crate::os::SocketKind;

/// How many addresses are received at, at most.
pub(super) fn addresses_max(config: &Config) -> usize {
    match &config.udp.listen {
        UdpListen::Same => config.listen.len(),
        UdpListen::Addresses(addresses) => addresses.len(),
    }
}

/// Opens sockets at every address, one for each of `groups`: those that were passed, and else new
/// ones. `tcp` are the addresses of HTTP and of HTTPS.
pub(super) fn open(
    config: &Config,
    (http, https): (&[BoundAddress], &[BoundAddress]),
    inherited: &mut InheritedSockets,
    groups: &mut [Vec<DatagramSocket>],
) -> anyhow::Result<Vec<BoundAddress>> {
    let wanted = addresses(&config.udp.listen, http);
    let optional = wanted.len() > 1 || !http.is_empty() || !https.is_empty();
    let count = groups.len();
    let mut bound = Vec::new();
    let mut smallest = None;
    for (address, may_differ) in wanted {
        let over = |socket, _| DatagramSocket::inherited(socket);
        let claimed = inherited.claim(SocketKind::Datagrams, &address.into(), count, over)?;
        let sockets = match claimed.map_or_else(|| bind(address, may_differ, count), Ok) {
            Ok(sockets) => sockets,
            Err(error) if optional && is_without_ipv6(address, &error) => {
                log::warning(format_args!("not listening on {address} (udp): no IPv6"));
                continue;
            }
            Err(error) => bail!(failure(address, &error)),
        };
        let Some(first) = sockets.first() else { continue };
        bound.push(BoundAddress::udp(first.address()));
        let queue_bytes = first.queue_bytes().unwrap_or(DATAGRAM_QUEUE_BYTES);
        smallest = smallest.into_iter().chain([queue_bytes]).min();
        groups.iter_mut().zip(sockets).for_each(|(group, socket)| group.push(socket));
    }
    if let Some(bytes) = smallest.filter(|bytes| *bytes < DATAGRAM_QUEUE_BYTES) {
        log::warning(format_args!(
            "sockets for UDP hold {bytes} bytes of requests, so that bursts lose some: allow \
             {DATAGRAM_QUEUE_BYTES} by sysctl -w net.core.rmem_max={DATAGRAM_QUEUE_BYTES} (or \
             ReceiveBuffer= of the .socket unit that passes them)"
        ));
    }
    Ok(bound)
}

/// The configured addresses, and for each whether it is the port that the kernel chose for TCP: if
/// another program receives there, one more is chosen.
fn addresses(listen: &UdpListen, http: &[BoundAddress]) -> Vec<(SocketAddr, bool)> {
    match listen {
        UdpListen::Same => {
            let direct = http.iter().filter(|bound| !bound.proxy_protocol);
            direct.filter_map(|bound| Some((bound.address.tcp()?, bound.is_any_port))).collect()
        }
        UdpListen::Addresses(addresses) => addresses.iter().map(|it| (*it, false)).collect(),
    }
}

fn bind(address: SocketAddr, may_differ: bool, count: usize) -> io::Result<Vec<DatagramSocket>> {
    if !may_differ {
        return retry(|| DatagramSocket::bind_group(address, count));
    }
    match DatagramSocket::bind_group(address, count) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let any_port = SocketAddr::new(address.ip(), 0);
            retry(|| DatagramSocket::bind_group(any_port, count))
        }
        result => result,
    }
}

fn failure(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let cure = match error.kind() {
        ErrorKind::AddrInUse => {
            "another program, perhaps another tracker, receives there: stop it, or choose another \
             address with `udp.listen`"
        }
        ErrorKind::PermissionDenied => {
            "ports below net.ipv4.ip_unprivileged_port_start (1024 by default) need \
             CAP_NET_BIND_SERVICE, or a socket of the service manager (ListenDatagram=)"
        }
        ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "check `udp.listen`",
    };
    anyhow!("cannot listen on {address} (udp): {error}: {cure} (udp.listen = [] does without UDP)")
}

//! Kinds of IP addresses: unreachable, private and public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `ip` is useless as a peer's address: no host has it, or its meaning depends on the host
/// that uses it.
///
/// IPv4: 0.0.0.0/8 ("this host", RFC 6890), 224.0.0.0/4 (multicast), and 240.0.0.0/4 (reserved,
/// and broadcast). IPv6: `::` and the other IPv4-compatible addresses (`::a.b.c.d`, deprecated by
/// RFC 4291 section 2.5.5.1), fe80::/10 (link-local: it needs a zone, whose name differs between
/// hosts), and ff00::/8 (multicast). An IPv4-mapped or translated
/// (64:ff9b::/96, RFC 6052) address counts as the IPv4 address.
pub fn is_unreachable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_unreachable_v4(ip),
        IpAddr::V6(ip) => match ip.segments() {
            [0, 0, 0, 0, 0, 0, _, _] => ip != Ipv6Addr::LOCALHOST,
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                is_unreachable_v4((u32::from(high) << 16 | u32::from(low)).into())
            }
            _ => ip.is_multicast() || ip.is_unicast_link_local(),
        },
    }
}

fn is_unreachable_v4(ip: Ipv4Addr) -> bool {
    matches!(ip.octets()[0], 0 | 224..)
}

/// Whether `ip` has a meaning only on this machine or in its own network.
///
/// IPv4: 127.0.0.0/8 (loopback), 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918),
/// 169.254.0.0/16 (link-local). IPv6: `::1` and fc00::/7 (unique local, RFC 4193). Not
/// 100.64.0.0/10 (RFC 6598, customers of a carrier) and 0200::/7 (overlay networks): their hosts
/// are not behind the same router.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

/// Whether hosts on the Internet may be able to connect to `ip`. Documentation ranges count as
/// public.
pub fn is_public(ip: IpAddr) -> bool {
    let is_shared = |ip: Ipv4Addr| matches!(ip.octets(), [100, 64..128, ..]);
    let shared = matches!(ip.to_canonical(), IpAddr::V4(ip) if is_shared(ip));
    !is_unreachable(ip) && !is_private(ip) && !shared
}

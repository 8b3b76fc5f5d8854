//! Peers in the tracker's own network, shown to other clients by their external address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addresses::is_private;
use crate::config::ProtocolConfig;
use annulus_swarm::{CompactAddr, Sample};

/// The configured addresses that replace private ones in responses to clients from elsewhere.
pub(super) struct ExternalAddresses {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    /// Ports of the external address that are in the response, a bit each; all clear between two
    /// responses.
    seen_ports: Box<[u64; PORTS / WORD_BITS]>,
}

const PORTS: usize = 1 << 16;
const WORD_BITS: usize = u64::BITS as usize;

impl ExternalAddresses {
    pub(super) fn new(protocol: &ProtocolConfig) -> Option<ExternalAddresses> {
        let ProtocolConfig { external_ipv4: v4, external_ipv6: v6, .. } = *protocol;
        let seen_ports = Box::new([0; PORTS / WORD_BITS]);
        (v4.is_some() || v6.is_some()).then_some(ExternalAddresses { v4, v6, seen_ports })
    }

    /// Replaces the private addresses in a response to `announcer`, at `ip`, unless that is private
    /// too. Two peers that become equal are listed once, and the announcer itself is not listed.
    pub(super) fn translate(&mut self, ip: IpAddr, announcer: &CompactAddr, sample: &mut Sample) {
        if is_private(ip) {
            return;
        }
        let announcer: &[u8] = match announcer {
            CompactAddr::V4(bytes) => bytes,
            CompactAddr::V6(bytes) => bytes,
        };
        let (v4, v6) = sample.peers_mut();
        if let Some(ip) = self.v4 {
            let is_private = |peer: &[u8; 6]| {
                peer.first_chunk::<4>().is_some_and(|&ip| is_private(IpAddr::from(ip)))
            };
            replace(v4, is_private, &ip.octets(), announcer, &mut self.seen_ports);
        }
        if let Some(ip) = self.v6 {
            let is_private = |peer: &[u8; 18]| {
                peer.first_chunk::<16>().is_some_and(|&ip| is_private(IpAddr::from(ip)))
            };
            replace(v6, is_private, &ip.octets(), announcer, &mut self.seen_ports);
        }
    }
}

/// Replaces the private addresses of `peers`, of one family, by `external`.
fn replace<const N: usize>(
    peers: &mut Vec<[u8; N]>,
    is_private: impl Fn(&[u8; N]) -> bool,
    external: &[u8],
    announcer: &[u8],
    seen_ports: &mut [u64; PORTS / WORD_BITS],
) {
    for peer in peers.iter_mut().filter(|peer| is_private(peer)) {
        peer[..external.len()].copy_from_slice(external);
    }
    // A client that announces from the external address itself, through a router that sends it back
    // in, may be in the list already.
    let port = |peer: &[u8; N]| {
        let port = peer.strip_prefix(external)?.first_chunk()?;
        Some(usize::from(u16::from_be_bytes(*port)))
    };
    peers.retain(|peer| {
        let Some(port) = port(peer) else { return true };
        if peer[..] == *announcer {
            return false;
        }
        let (word, bit) = (&mut seen_ports[port / WORD_BITS], 1 << (port % WORD_BITS));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    });
    for port in peers.iter().filter_map(port) {
        seen_ports[port / WORD_BITS] = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{PORTS, WORD_BITS, replace};
    use annulus_swarm::Random;

    const EXTERNAL: [u8; 4] = [198, 51, 100, 9];

    /// Few addresses and ports, so that they meet: 10.0.0.x, the external one, and others.
    fn endpoint(random: &mut Random) -> [u8; 6] {
        let [a, b, c, d] = match random.below(4) {
            0 => EXTERNAL,
            1 => [203, 0, 113, random.below(3) as u8],
            _ => [10, 0, 0, random.below(3) as u8],
        };
        [a, b, c, d, random.below(2) as u8, random.below(6) as u8]
    }

    #[test]
    fn responses_equal_those_of_a_naive_translation() {
        let mut random = Random::seeded(1);
        let mut seen_ports = [0; PORTS / WORD_BITS];
        for _ in 0..5000 {
            let announcer = endpoint(&mut random);
            let stored: BTreeSet<[u8; 6]> =
                (0..random.below(30)).map(|_| endpoint(&mut random)).collect();
            let mut peers: Vec<[u8; 6]> = stored.into_iter().collect();
            let mut expected: Vec<[u8; 6]> = Vec::new();
            for &peer in &peers {
                let [ip0, .., high, low] = peer;
                let [a, b, c, d] = EXTERNAL;
                let shown = if ip0 == 10 { [a, b, c, d, high, low] } else { peer };
                let is_own = shown[..4] == EXTERNAL && shown == announcer;
                if !expected.contains(&shown) && !is_own {
                    expected.push(shown);
                }
            }
            replace(&mut peers, |peer| peer[0] == 10, &EXTERNAL, &announcer, &mut seen_ports);
            assert_eq!(peers, expected, "for {announcer:?}");
            assert!(seen_ports.iter().all(|&word| word == 0), "the next response would miss ports");
        }
    }
}

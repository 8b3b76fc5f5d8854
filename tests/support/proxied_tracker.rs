//! A tracker behind proxies that connect from 127.0.0.1.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::TLS13;

use super::authority::{Authority, KeyKind};
use super::bencode::Bencode;
use super::client::{HttpResponse, get_request};
use super::tls_client::client_config;
use super::tls_tracker::HOST;
use super::torrent::{TestTorrent, parse_announce};
use super::tracker::{Engine, Tracker};

/// Addresses of clients; none is trusted.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
pub(crate) const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10));
const OBSERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 200));

/// Addresses that no peer can be reached at.
pub(crate) const UNREACHABLE: [&str; 14] = [
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    // From the range of Cloudflare's Pseudo IPv4.
    "240.16.0.1",
    "254.252.239.103",
    "255.255.255.255",
    "::",
    "::203.0.113.7",
    "::ffff:0.0.0.0",
    "::ffff:240.0.0.1",
    "fe80::1",
    "febf::1",
    "ff02::1",
];

/// A running tracker behind proxies.
pub(crate) struct ProxiedTracker {
    /// It listens on [`Tracker::v4`] without the PROXY protocol.
    pub(crate) tracker: Tracker,
    /// The address that expects the PROXY protocol, without TLS.
    pub(crate) proxy_protocol: SocketAddr,
    /// The address that expects the PROXY protocol, with TLS for [`HOST`].
    pub(crate) proxy_protocol_tls: SocketAddr,
    /// The Unix socket without the PROXY protocol.
    pub(crate) local: PathBuf,
    /// The Unix socket that expects the PROXY protocol.
    pub(crate) local_proxy_protocol: PathBuf,
    /// The authority that clients have to trust.
    pub(crate) authority: Authority,
}

impl ProxiedTracker {
    /// Starts a tracker of two workers that reads this header.
    pub(crate) fn start(engine: Engine, header: &str) -> ProxiedTracker {
        ProxiedTracker::start_with(engine, header, "")
    }

    /// The same; `tables` are added to its configuration.
    pub(crate) fn start_with(engine: Engine, header: &str, tables: &str) -> ProxiedTracker {
        let authority = Authority::new(&[Ipv4Addr::LOCALHOST.into()]);
        authority.issue(HOST, KeyKind::P256);
        let [local, local_proxy_protocol] =
            ["local", "proxy-protocol"].map(|name| authority.directory().join(name));
        let (plain, proxy_protocol) = (local.display(), local_proxy_protocol.display());
        let text = format!(
            "listen = [\"127.0.0.1:0\", \"127.0.0.2:0\", \"unix:{plain}\", \
             \"unix:{proxy_protocol}\"]\n\
             engine = \"{}\"\n\
             workers = 2\n\
             [tls]\n\
             listen = [\"127.0.0.1:0\"]\n\
             certificates = [{{ chain = \"{HOST}.pem\", key = \"{HOST}.key\" }}]\n\
             [proxy]\n\
             trusted = [\"127.0.0.1\", \"10.0.0.0/8\", \"2001:db8:1::/48\"]\n\
             header = \"{header}\"\n\
             protocol_listen = [\"127.0.0.1:0\", \"unix:{proxy_protocol}\"]\n\
             {tables}",
            engine.name()
        );
        let mut tracker = Tracker::launch_in(authority.directory(), &text, &[]);
        let listening = |mark| match tracker.wait_listening(mark, 1) {
            Ok(addresses) => addresses[0],
            Err(log) => panic!("the tracker did not start:\n{log}"),
        };
        let proxy_protocol = listening(" (PROXY protocol)");
        let proxy_protocol_tls = listening(" (https, PROXY protocol)");
        tracker.wait_ready(1).unwrap();
        ProxiedTracker {
            tracker,
            proxy_protocol,
            proxy_protocol_tls,
            local,
            local_proxy_protocol,
            authority,
        }
    }

    /// The TLS configuration of clients.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        Arc::new(client_config(&self.authority, &TLS13))
    }

    /// A request that announces a torrent; the port is the torrent's number.
    pub(crate) fn announce(&self, torrent: u8) -> Vec<u8> {
        get_request(&self.target(torrent))
    }

    /// The target of that request.
    pub(crate) fn target(&self, torrent: u8) -> String {
        TestTorrent::new(&self.tracker, torrent).target(u16::from(torrent), "left=1")
    }

    /// Asserts that this response, and the responses to others from now on, name this client
    /// address.
    #[track_caller]
    pub(crate) fn assert_client(&self, torrent: u8, response: &HttpResponse, client: IpAddr) {
        assert_eq!(external_ip(response), client);
        self.assert_peers(torrent, &[client]);
    }

    /// Asserts that the torrent's peers have exactly these addresses.
    #[track_caller]
    pub(crate) fn assert_peers(&self, torrent: u8, clients: &[IpAddr]) {
        let swarm = TestTorrent::new(&self.tracker, torrent);
        let mut peers = swarm.announce_from(OBSERVER, 1, "left=1").peers;
        swarm.announce_from(OBSERVER, 1, "event=stopped");
        peers.sort();
        let port = u16::from(torrent);
        let mut expected: Vec<_> = clients.iter().map(|&ip| SocketAddr::new(ip, port)).collect();
        expected.sort();
        assert_eq!(peers, expected);
    }
}

/// The `external ip` of an announce response.
#[track_caller]
pub(crate) fn external_ip(response: &HttpResponse) -> IpAddr {
    match parse_announce(response).body.get("external ip") {
        Some(Bencode::Bytes(bytes)) => match bytes.len() {
            4 => IpAddr::from(*bytes.first_chunk::<4>().unwrap()),
            16 => IpAddr::from(*bytes.first_chunk::<16>().unwrap()),
            length => panic!("an address of {length} bytes"),
        },
        other => panic!("external ip is {other:?}"),
    }
}

//! The configuration: structs, their defaults, and how serde fills them from a file.
//!
//! `config/annulus.toml` is the default configuration with comments, which `annulus -p` prints.
//! To add a key: a field here with its default, an entry in that file, in dist/annulus.toml.5,
//! and, in `config/load.rs`, its bounds or its constraints. Tests compare them.

mod cluster;
mod document;
mod load;
mod value;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use annulus_ring::{EngineChoice, ListenAddress};
use ipnet::IpNet;
use serde::Deserialize;

use crate::log::{Format, Level};
pub(crate) use cluster::is_credential;
pub use cluster::{
    ClusterConfig, ClusterLocations, Credentials, Secret, ServerEndpoint, ServerUrl,
};
pub use document::ConfigErrors;
pub use value::{AccessMode, BadLines, UdpListen};
pub(crate) use value::{overlaps, widened};

/// The default configuration as a file, with the meaning, the bounds and the reason of each key.
pub const DEFAULT_TOML: &str = include_str!("config/annulus.toml");

/// Everything that can be configured. Values from [`Config::load`] and [`Config::parse`] are
/// within the bounds that [`DEFAULT_TOML`] states.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// At least one unless there are some for HTTPS or UDP. Port 0 leaves the choice to the kernel.
    #[serde(deserialize_with = "value::listen_addresses")]
    pub listen: Vec<ListenAddress>,
    /// 0: one per available core.
    pub workers: usize,
    #[serde(deserialize_with = "value::engine")]
    pub engine: EngineChoice,
    pub protocol: ProtocolConfig,
    pub swarms: SwarmLimits,
    pub connections: ConnectionsConfig,
    pub limits: ClientLimits,
    pub udp: UdpConfig,
    pub tls: TlsConfig,
    pub access: AccessConfig,
    pub proxy: ProxyConfig,
    pub cluster: ClusterConfig,
    pub privileges: PrivilegesConfig,
    pub operations: OperationsConfig,
    pub state: StateConfig,
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Config {
        let all_addresses: [SocketAddr; 2] =
            [(Ipv4Addr::UNSPECIFIED, 3000).into(), (Ipv6Addr::UNSPECIFIED, 3000).into()];
        Config {
            listen: all_addresses.map(ListenAddress::from).to_vec(),
            workers: 0,
            engine: EngineChoice::Auto,
            protocol: ProtocolConfig::default(),
            swarms: SwarmLimits::default(),
            connections: ConnectionsConfig::default(),
            limits: ClientLimits::default(),
            udp: UdpConfig::default(),
            tls: TlsConfig::default(),
            access: AccessConfig::default(),
            proxy: ProxyConfig::default(),
            cluster: ClusterConfig::default(),
            privileges: PrivilegesConfig::default(),
            operations: OperationsConfig::default(),
            state: StateConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// What clients are sent, and what of their parameters is used.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct ProtocolConfig {
    /// BEP 3 `interval`. Clients are sent up to
    /// [`INTERVAL_SPREAD_PERCENT`](crate::limits::INTERVAL_SPREAD_PERCENT) percent more.
    #[serde(rename = "interval")]
    pub interval_s: u32,
    /// At most `interval_s`.
    #[serde(rename = "min_interval")]
    pub min_interval_s: u32,
    /// Longer than the longest interval that is sent, by at least
    /// [`PEER_TIMEOUT_GRACE_S`](crate::limits::PEER_TIMEOUT_GRACE_S).
    #[serde(rename = "peer_timeout")]
    pub peer_timeout_s: u32,
    /// Peers sent to a client without `numwant`; at most `max_numwant`.
    pub default_numwant: usize,
    pub max_numwant: usize,
    /// Torrents of one scrape.
    pub max_scrape_torrents: usize,
    pub full_scrape: bool,
    /// Whether `ip`, `ipv4` and `ipv6` of an announce are used.
    pub trust_ip_parameters: bool,
    /// The address that replaces private and loopback addresses of IPv4.
    #[serde(deserialize_with = "value::external_ipv4")]
    pub external_ipv4: Option<Ipv4Addr>,
    #[serde(deserialize_with = "value::external_ipv6")]
    pub external_ipv6: Option<Ipv6Addr>,
    /// URL that `/` redirects to, in printable ASCII; empty for a line of text instead.
    #[serde(deserialize_with = "value::redirect")]
    pub redirect: String,
}

impl Default for ProtocolConfig {
    fn default() -> ProtocolConfig {
        ProtocolConfig {
            interval_s: 1800,
            min_interval_s: 900,
            peer_timeout_s: 2700,
            default_numwant: 50,
            max_numwant: 200,
            max_scrape_torrents: 128,
            full_scrape: false,
            trust_ip_parameters: false,
            external_ipv4: None,
            external_ipv6: None,
            redirect: String::new(),
        }
    }
}

/// How much is stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct SwarmLimits {
    pub max_torrents: usize,
    /// In all torrents together.
    pub max_peers: usize,
    pub max_peers_per_torrent: u32,
    /// Endpoints of one address in a torrent; 0 is no limit.
    pub max_peers_per_address: u32,
}

impl Default for SwarmLimits {
    fn default() -> SwarmLimits {
        SwarmLimits {
            max_torrents: 20_000_000,
            max_peers: 100_000_000,
            max_peers_per_torrent: 1_000_000,
            max_peers_per_address: 16,
        }
    }
}

/// How many connections are open, and for how long.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionsConfig {
    /// 0: what the file descriptor limit allows, less a reserve.
    pub max: usize,
    #[serde(rename = "handshake_timeout")]
    pub handshake_timeout_s: u32,
    #[serde(rename = "header_timeout")]
    pub header_timeout_s: u32,
    #[serde(rename = "idle_timeout")]
    pub idle_timeout_s: u32,
    /// Ends when the client has taken no byte for so long.
    #[serde(rename = "send_timeout")]
    pub send_timeout_s: u32,
    /// 0 drops what is not sent yet at a stop.
    #[serde(rename = "shutdown_timeout")]
    pub shutdown_timeout_s: u32,
}

impl Default for ConnectionsConfig {
    fn default() -> ConnectionsConfig {
        ConnectionsConfig {
            max: 0,
            handshake_timeout_s: 10,
            header_timeout_s: 10,
            idle_timeout_s: 30,
            send_timeout_s: 20,
            shutdown_timeout_s: 10,
        }
    }
}

/// Limits of each client address. By default there are none.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct ClientLimits {
    /// 0 is no limit.
    pub connections_per_address: u32,
    /// 0 is no limit.
    pub requests_per_second: u32,
    /// 0 for [`REQUEST_BURST_S`](crate::limits::REQUEST_BURST_S) times `requests_per_second`, or at
    /// least `requests_per_second`.
    pub request_burst: u32,
    /// Leading bits that the IPv6 addresses of one subscriber have in common.
    pub ipv6_prefix: u32,
    /// Addresses without limits, [`SwarmLimits::max_peers_per_address`] included.
    #[serde(deserialize_with = "value::ranges")]
    pub exempt: Vec<IpNet>,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            connections_per_address: 0,
            requests_per_second: 0,
            request_burst: 0,
            ipv6_prefix: 64,
            exempt: Vec::new(),
        }
    }
}

/// UDP (BEP 15), beside HTTP.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct UdpConfig {
    #[serde(deserialize_with = "value::udp_listen")]
    pub listen: UdpListen,
}

/// HTTPS, beside plain HTTP.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// None of them overlaps with [`Config::listen`].
    #[serde(deserialize_with = "value::ip_addresses")]
    pub listen: Vec<SocketAddr>,
    /// At least one if `listen` has any. The first is sent where no other matches the host name
    /// or the address. Several may be for one host, with keys of different kinds.
    pub certificates: Vec<CertificateFiles>,
    /// Whether X25519MLKEM768 is offered.
    pub post_quantum: bool,
}

/// Where a certificate is. From [`Config::load`], relative paths start at the directory of the
/// configuration file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM: the certificate of the host, then that of its issuer.
    #[serde(deserialize_with = "value::path")]
    pub chain: PathBuf,
    /// PEM: the private key of the first certificate.
    #[serde(deserialize_with = "value::path")]
    pub key: PathBuf,
    /// `FILE:LINE` of the entry, to begin messages with.
    #[serde(skip)]
    pub place: String,
}

/// Which torrents are served.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    #[serde(deserialize_with = "value::access_mode")]
    pub mode: AccessMode,
    /// The list, one info hash a line. Empty only with [`AccessMode::Off`]. From
    /// [`Config::load`], a relative path starts at the directory of the configuration file.
    #[serde(deserialize_with = "value::path_or_none")]
    pub file: PathBuf,
    #[serde(deserialize_with = "value::bad_lines")]
    pub bad_lines: BadLines,
    /// `FILE:LINE` of `file`, to begin messages with; empty where `file` is.
    #[serde(skip)]
    pub place: String,
}

/// Proxies between clients and the tracker. By default there are none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyConfig {
    /// Where they connect from. Not empty if anything below is not, unless they connect by a Unix
    /// socket.
    #[serde(deserialize_with = "value::ranges")]
    pub trusted: Vec<IpNet>,
    /// The name of the header that has the client's address; empty for none.
    #[serde(deserialize_with = "value::header_name")]
    pub header: String,
    /// Those of [`Config::listen`] and [`TlsConfig::listen`] on which every connection begins with
    /// a header of the PROXY protocol.
    #[serde(deserialize_with = "value::listen_addresses")]
    pub protocol_listen: Vec<ListenAddress>,
}

/// What the process may do once it listens.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct PrivilegesConfig {
    /// A name of /etc/passwd or a number; empty to stay the user that started the process.
    #[serde(deserialize_with = "value::account")]
    pub user: String,
    /// The same of /etc/group; empty for the user's own group. Needs a `user`.
    #[serde(deserialize_with = "value::account")]
    pub group: String,
    /// From [`Config::load`], a relative path starts at the directory of the configuration file.
    /// Needs a `user`.
    #[serde(deserialize_with = "value::path_or_none")]
    pub chroot: PathBuf,
    pub landlock: bool,
    #[serde(skip)]
    pub places: KeyLocations,
}

/// `FILE:LINE` of keys of [`PrivilegesConfig`], to begin messages with; empty where the key is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyLocations {
    pub user: String,
    pub group: String,
    pub chroot: String,
}

impl Default for PrivilegesConfig {
    fn default() -> PrivilegesConfig {
        PrivilegesConfig {
            user: String::new(),
            group: String::new(),
            chroot: PathBuf::new(),
            landlock: true,
            places: KeyLocations::default(),
        }
    }
}

/// Where metrics and health checks are served.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct OperationsConfig {
    /// None of them overlaps with the addresses for clients.
    #[serde(deserialize_with = "value::ip_addresses")]
    pub listen: Vec<SocketAddr>,
}

/// Where the swarms are kept while the tracker does not run.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// Empty for a file in the directory that `STATE_DIRECTORY` names, or none without that. From
    /// [`Config::load`], a relative path starts at the directory of the configuration file.
    #[serde(deserialize_with = "value::file_path_or_none")]
    pub file: PathBuf,
    /// Between two writes.
    #[serde(rename = "interval")]
    pub interval_s: u32,
    /// `FILE:LINE` of `file`, to begin messages with; empty where `file` is.
    #[serde(skip)]
    pub place: String,
}

impl Default for StateConfig {
    fn default() -> StateConfig {
        StateConfig { file: PathBuf::new(), interval_s: 300, place: String::new() }
    }
}

/// What is logged, to standard error.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    #[serde(deserialize_with = "value::level")]
    pub level: Level,
    #[serde(deserialize_with = "value::format")]
    pub format: Format,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { level: Level::Info, format: Format::Auto }
    }
}

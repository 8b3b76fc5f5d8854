//! The servers of `[cluster]`, with everything that has to be read or asked for before privileges
//! are dropped: credentials, certificates, and the addresses of names.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use crate::config::{ClusterConfig, Credentials, Secret, ServerEndpoint, ServerUrl, is_credential};
use crate::limits::{
    AUTHORITIES_FILE_BYTES_MAX, CERTIFICATE_FILE_BYTES_MAX, CLUSTER_ADDRESSES_MAX,
    CREDENTIALS_FILE_BYTES_MAX,
};
use crate::os::FileSource;
use crate::text_file::{not_utf8, read_bounded};
use crate::tls::{ClientIdentity, TlsClientError, TlsClientSettings, system_authorities};

/// The C library that is linked into the program reads no libraries of another version.
const STATIC_LIBC: &str = "this program has its C library built in, which finds names by \
    /etc/hosts and DNS, and by other services only with the libraries of its own version";

/// The servers, tried in turn. At least one.
#[derive(Debug)]
pub struct PubSubServers {
    pub(super) list: Vec<PubSubServer>,
}

/// A Valkey or Redis server, of which messaging (PUBLISH and SUBSCRIBE) is used.
#[derive(Debug)]
pub(super) struct PubSubServer {
    pub(super) url: ServerUrl,
    /// Tried in turn.
    pub(super) addresses: Vec<ServerAddress>,
    /// With the name that its certificate must have.
    pub(super) tls: Option<(TlsClientSettings, String)>,
    pub(super) credentials: Option<Credentials>,
    /// The cluster's channel, for messages about rights.
    pub(super) channel: String,
}

impl PubSubServer {
    /// The name of the user that the tracker is to it.
    pub(super) fn user(&self) -> &str {
        let user = self.credentials.as_ref().map_or("", |it| it.user.as_str());
        if user.is_empty() { "default" } else { user }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Tcp(address) => address.fmt(f),
            ServerAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The result of [`PubSubServers::load`].
#[derive(Debug)]
pub struct LoadedServers {
    pub servers: PubSubServers,
    /// One line each, about servers that are left out.
    pub warnings: Vec<String>,
}

impl PubSubServers {
    /// Reads the files that `config` names and resolves its names, which takes as long as the
    /// system's resolver does. `None` without servers.
    ///
    /// # Errors
    /// A file cannot be read or used; or no name can be resolved. One line each, with its place in
    /// the configuration.
    pub fn load(config: &ClusterConfig) -> Result<Option<LoadedServers>, Vec<String>> {
        if config.servers.is_empty() {
            return Ok(None);
        }
        let credentials = shared_credentials(config);
        let tls = match config.servers.iter().any(has_tls) {
            true => tls_settings(config).map(Some),
            false => Ok(None),
        };
        let (credentials, tls) = match (credentials, tls) {
            (Ok(credentials), Ok(tls)) => (credentials, tls),
            (credentials, tls) => {
                let mistakes = [credentials.err(), tls.err()];
                return Err(mistakes.into_iter().flatten().collect());
            }
        };
        let (mut list, mut warnings) = (Vec::new(), Vec::new());
        for url in &config.servers {
            let addresses = match addresses_of(&url.endpoint) {
                Ok(addresses) => addresses,
                Err(what) => {
                    warnings
                        .push(format!("{}: cluster.server: {url}: {what}", config.places.server));
                    continue;
                }
            };
            let tls = match &url.endpoint {
                ServerEndpoint::Tcp { host, tls: true, .. } => tls.clone().zip(Some(host.clone())),
                _ => None,
            };
            let credentials = url.credentials.clone().or_else(|| credentials.clone());
            let (url, channel) = (url.clone(), config.channel.clone());
            list.push(PubSubServer { url, addresses, tls, credentials, channel });
        }
        match list.is_empty() {
            true => Err(warnings),
            false => Ok(Some(LoadedServers { servers: PubSubServers { list }, warnings })),
        }
    }

    /// The ports that connections go to.
    pub fn ports(&self) -> Vec<u16> {
        let port = |server: &PubSubServer| match server.url.endpoint {
            ServerEndpoint::Tcp { port, .. } => Some(port),
            ServerEndpoint::Unix(_) => None,
        };
        self.list.iter().filter_map(port).collect()
    }
}

fn has_tls(url: &ServerUrl) -> bool {
    matches!(url.endpoint, ServerEndpoint::Tcp { tls: true, .. })
}

fn addresses_of(endpoint: &ServerEndpoint) -> Result<Vec<ServerAddress>, String> {
    let (host, port) = match endpoint {
        ServerEndpoint::Unix(path) => return Ok(vec![ServerAddress::Unix(path.clone())]),
        ServerEndpoint::Tcp { host, port, .. } => (host.as_str(), *port),
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![ServerAddress::Tcp(SocketAddr::new(ip, port))]);
    }
    let cure = if cfg!(target_feature = "crt-static") { STATIC_LIBC } else { "see resolv.conf(5)" };
    let failed = |why: &str| {
        format!(
            "its name cannot be resolved: {why}: write its address, or an entry of /etc/hosts, \
             or have DNS answer before annulus starts ({cure})"
        )
    };
    let found = (host, port).to_socket_addrs().map_err(|error| failed(&error.to_string()))?;
    let mut addresses: Vec<ServerAddress> = Vec::new();
    for address in found.map(ServerAddress::Tcp) {
        if addresses.len() < CLUSTER_ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(failed("it has no address")) } else { Ok(addresses) }
}

/// Those for the servers whose URL has none.
fn shared_credentials(config: &ClusterConfig) -> Result<Option<Credentials>, String> {
    let ClusterConfig { user, password, credentials_file: path, places, .. } = config;
    if path.as_os_str().is_empty() {
        let credentials = Credentials { user: user.clone(), password: password.clone() };
        return Ok((!password.is_empty()).then_some(credentials));
    }
    let place =
        format!("{}: cluster.credentials_file: {}", places.credentials_file, path.display());
    let bytes =
        read(path, CREDENTIALS_FILE_BYTES_MAX).map_err(|what| format!("{place}: {what}"))?;
    let text = match (not_utf8(&bytes), String::from_utf8(bytes)) {
        (None, Ok(text)) => text,
        (what, _) => {
            let what = what.unwrap_or_else(|| "not UTF-8".to_owned());
            return Err(format!("{place}: {what}"));
        }
    };
    let line = text.lines().next().unwrap_or_default().trim_end();
    let (user, password) = match line.split_once(':') {
        Some((named, password)) if user.is_empty() => (named, password),
        _ => (user.as_str(), line),
    };
    if password.is_empty() || !is_credential(user) || !is_credential(password) {
        return Err(format!(
            "{place}: its first line must be a password, or user:password if cluster.user is empty"
        ));
    }
    Ok(Some(Credentials { user: user.to_owned(), password: Secret::new(password) }))
}

fn tls_settings(config: &ClusterConfig) -> Result<TlsClientSettings, String> {
    let ClusterConfig { ca_file, certificate, key, places, .. } = config;
    let about = |place: &str, key: &str, path: &Path, what: String| {
        format!("{place}: cluster.{key}: {}: {what}", path.display())
    };
    let about_ca = |path: &Path, what| match places.ca_file.as_str() {
        "" => about(&places.server, "server", path, what),
        place => about(place, "ca_file", path, what),
    };
    let authorities = match ca_file.as_os_str().is_empty() {
        false => ca_file,
        true => system_authorities().ok_or_else(|| {
            format!(
                "{}: cluster.server: this system has no list of the authorities that it trusts: \
                 install it (ca-certificates), or set cluster.ca_file",
                places.server
            )
        })?,
    };
    let pem = read(authorities, AUTHORITIES_FILE_BYTES_MAX);
    let pem = pem.map_err(|what| about_ca(authorities, what))?;
    let about_chain = |what| about(&places.certificate, "certificate", certificate, what);
    let about_key = |what| about(&places.key, "key", key, what);
    let mut identity = None;
    let own;
    if !certificate.as_os_str().is_empty() {
        let chain = read(certificate, CERTIFICATE_FILE_BYTES_MAX).map_err(about_chain)?;
        own = (chain, read(key, CERTIFICATE_FILE_BYTES_MAX).map_err(about_key)?);
        identity = Some(ClientIdentity { chain: &own.0, key: &own.1 });
    }
    TlsClientSettings::new(&pem, identity).map_err(|error| match error {
        TlsClientError::Authorities(what) => about_ca(authorities, what),
        TlsClientError::Chain(what) => about_chain(what),
        TlsClientError::Key(what) => about_key(what),
    })
}

/// Read before privileges are dropped, and never again.
fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let bytes = FileSource::Direct.open(path).and_then(|file| read_bounded(file, bytes_max));
    match bytes.map_err(|error: io::Error| format!("cannot be read: {error}"))? {
        bytes if bytes.len() as u64 > bytes_max => Err(format!("longer than {bytes_max} bytes")),
        bytes => Ok(bytes),
    }
}

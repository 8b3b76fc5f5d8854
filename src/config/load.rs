//! From a file to a [`Config`] whose values are within their bounds and fit together.

use std::fs::File;
use std::path::Path;

use annulus_ring::ListenAddress;
use annulus_swarm::TORRENTS_MAX;

use super::document::{ConfigErrors, Constraint, Document, NumericKey};
use super::value::{overlaps, widened};
use super::{
    AccessMode, CertificateFiles, Config, DEFAULT_TOML, ServerEndpoint, ServerUrl, TlsConfig,
    UdpListen,
};

use crate::limits::{
    CONFIG_BYTES_MAX, INTERVAL_SPREAD_PERCENT, LISTENERS_MAX, NUMWANT_MAX, PEER_TIMEOUT_GRACE_S,
    PEERS_PER_ADDRESS_MAX, REQUESTS_PER_SECOND_MAX, SCRAPE_TORRENTS_MAX, WORKERS_MAX,
};
use crate::text_file::{not_utf8, read_bounded};

/// Of every key whose value is a number.
const BOUNDS: &[NumericKey] = &[
    NumericKey("workers", 0, WORKERS_MAX as u64, "threads"),
    NumericKey("protocol.interval", 60, 86_400, "seconds"),
    NumericKey("protocol.min_interval", 30, 86_400, "seconds"),
    NumericKey("protocol.peer_timeout", 60, 172_800, "seconds"),
    NumericKey("protocol.default_numwant", 0, NUMWANT_MAX as u64, "peers"),
    NumericKey("protocol.max_numwant", 1, NUMWANT_MAX as u64, "peers"),
    NumericKey("protocol.max_scrape_torrents", 64, SCRAPE_TORRENTS_MAX as u64, "torrents"),
    NumericKey("swarms.max_torrents", 1, TORRENTS_MAX as u64, "torrents"),
    NumericKey("swarms.max_peers", 1, 4_000_000_000, "peers"),
    NumericKey("swarms.max_peers_per_torrent", 1, 100_000_000, "peers"),
    NumericKey("swarms.max_peers_per_address", 0, PEERS_PER_ADDRESS_MAX as u64, "endpoints"),
    NumericKey("connections.max", 0, 10_000_000, "connections"),
    NumericKey("connections.handshake_timeout", 1, 300, "seconds"),
    NumericKey("connections.header_timeout", 1, 300, "seconds"),
    NumericKey("connections.idle_timeout", 1, 3600, "seconds"),
    NumericKey("connections.send_timeout", 1, 300, "seconds"),
    NumericKey("connections.shutdown_timeout", 0, 600, "seconds"),
    NumericKey("limits.connections_per_address", 0, u16::MAX as u64, "connections"),
    NumericKey("limits.requests_per_second", 0, REQUESTS_PER_SECOND_MAX as u64, "requests"),
    NumericKey("limits.request_burst", 0, REQUESTS_PER_SECOND_MAX as u64 * 60, "requests"),
    NumericKey("limits.ipv6_prefix", 32, 64, "bits"),
    NumericKey("state.interval", 1, 86_400, "seconds"),
];

impl Config {
    /// The configuration in the file at `path`, or the defaults where there is no path. Relative
    /// paths in the file start at its directory.
    ///
    /// # Errors
    /// The file cannot be read, is longer than [`CONFIG_BYTES_MAX`], is not UTF-8, or
    /// [`Config::parse`] refuses it.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigErrors> {
        let Some(path) = path else { return Ok(Config::default()) };
        let name = path.display().to_string();
        let failed = |what: String| ConfigErrors(vec![format!("{name}{what}")]);
        let bytes = File::open(path)
            .and_then(|file| read_bounded(file, CONFIG_BYTES_MAX))
            .map_err(|error| failed(format!(": cannot be read: {error}")))?;
        if bytes.len() as u64 > CONFIG_BYTES_MAX {
            let what = format!(": longer than {CONFIG_BYTES_MAX} bytes: not a configuration");
            return Err(failed(what));
        }
        if let Some(what) = not_utf8(&bytes) {
            return Err(failed(format!(": {what}")));
        }
        let text = str::from_utf8(&bytes).map_err(|error| {
            let valid = error.valid_up_to();
            let line = 1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count();
            failed(format!(":{line}: not UTF-8 (byte 0x{:02x})", bytes[valid]))
        })?;
        let mut config = Config::parse(text, &name)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        for CertificateFiles { chain, key, .. } in &mut config.tls.certificates {
            *chain = directory.join(&*chain);
            *key = directory.join(&*key);
        }
        let Config { access, privileges, cluster, state, .. } = &mut config;
        for path in [
            &mut access.file,
            &mut privileges.chroot,
            &mut cluster.credentials_file,
            &mut cluster.ca_file,
            &mut cluster.certificate,
            &mut cluster.key,
            &mut state.file,
        ] {
            if !path.as_os_str().is_empty() {
                *path = directory.join(&*path);
            }
        }
        Ok(config)
    }

    /// The configuration that `text` has in TOML; missing keys have their defaults. `name` stands
    /// for the file in messages; paths stay as they are written.
    ///
    /// # Errors
    /// The syntax is wrong; or a key is unknown, a value is of the wrong type or out of bounds,
    /// or two values contradict each other. All of the latter are listed, up to
    /// [`CONFIG_ERRORS_MAX`](crate::limits::CONFIG_ERRORS_MAX).
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigErrors> {
        let defaults = Document::parse(DEFAULT_TOML, "annulus.toml", BOUNDS)?;
        let mut document = Document::parse(text, name, BOUNDS)?;
        document.check_tables(&defaults);
        document.check_bounds(BOUNDS);
        let mut config: Config = document.deserialize(&defaults);
        for broken in broken_constraints(&config) {
            document.check(broken, &defaults);
        }
        config.set_places(&document);
        document.finish().map(|()| config)
    }

    /// Notes where the keys are whose values can be checked only against the machine.
    fn set_places(&mut self, document: &Document<'_>) {
        let entries = document.entry_locations("tls.certificates");
        for (certificate, location) in self.tls.certificates.iter_mut().zip(entries) {
            certificate.place = location;
        }
        let Config { access, privileges, cluster, state, .. } = self;
        if !cluster.servers.is_empty() {
            cluster.places.server = document.location("cluster.server");
        }
        let files = [&cluster.credentials_file, &cluster.ca_file, &cluster.certificate];
        let [credentials, ca, certificate] = files.map(|path| path.as_os_str());
        let places = &mut cluster.places;
        for (key, value, place) in [
            ("access.file", access.file.as_os_str(), &mut access.place),
            ("privileges.user", privileges.user.as_ref(), &mut privileges.places.user),
            ("privileges.group", privileges.group.as_ref(), &mut privileges.places.group),
            ("privileges.chroot", privileges.chroot.as_ref(), &mut privileges.places.chroot),
            ("cluster.credentials_file", credentials, &mut places.credentials_file),
            ("cluster.ca_file", ca, &mut places.ca_file),
            ("cluster.certificate", certificate, &mut places.certificate),
            ("cluster.key", cluster.key.as_os_str(), &mut places.key),
            ("state.file", state.file.as_ref(), &mut state.place),
        ] {
            if !value.is_empty() {
                *place = document.location(key);
            }
        }
    }

    /// A warning about addresses that work, but are of no use.
    pub fn warning(&self) -> Option<String> {
        let Config { listen, proxy, .. } = self;
        let has_address =
            |it: &ListenAddress| !proxy.header.is_empty() || proxy.protocol_listen.contains(it);
        let unnamed = listen.iter().find(|it| it.is_unix() && !has_address(it))?;
        Some(format!(
            "listen = \"{unnamed}\": nothing names the addresses of its clients, and their \
             announces will fail: set proxy.header, or list it in proxy.protocol_listen too"
        ))
    }
}

impl TlsConfig {
    /// A warning about certificates that no client gets. It begins with their place.
    pub fn warning(&self) -> Option<String> {
        let CertificateFiles { place, .. } = self.certificates.first()?;
        self.listen.is_empty().then(|| {
            format!("{place}: tls.certificates: not used, because tls.listen has no address")
        })
    }
}

fn broken_constraints(config: &Config) -> Vec<Constraint> {
    let mut broken = Vec::new();
    let mut require = |holds: bool, key, because_of, must_be: String| {
        if !holds {
            broken.push(Constraint { key, because_of, must_be });
        }
    };
    let Config { protocol, limits, access, privileges, .. } = config;
    let interval_s = protocol.interval_s;
    let spread_s = (interval_s * INTERVAL_SPREAD_PERCENT).div_ceil(100);
    let timeout_s_min = interval_s + spread_s + PEER_TIMEOUT_GRACE_S;
    let holds = protocol.min_interval_s <= interval_s;
    let must_be = format!("at most {interval_s}");
    require(holds, "protocol.min_interval", "protocol.interval", must_be);
    let holds = protocol.peer_timeout_s >= timeout_s_min;
    let must_be = format!("at least {timeout_s_min}");
    require(holds, "protocol.peer_timeout", "protocol.interval", must_be);
    let holds = protocol.default_numwant <= protocol.max_numwant;
    let must_be = format!("at most {}", protocol.max_numwant);
    require(holds, "protocol.default_numwant", "protocol.max_numwant", must_be);

    let requests = limits.requests_per_second;
    let holds = limits.request_burst == 0 || limits.request_burst >= requests;
    let must_be = format!("0, or at least {requests}");
    require(holds, "limits.request_burst", "limits.requests_per_second", must_be);

    let holds = access.mode == AccessMode::Off || !access.file.as_os_str().is_empty();
    require(holds, "access.file", "access.mode", "the path of a file".to_string());

    for (key, is_set) in [
        ("privileges.group", !privileges.group.is_empty()),
        ("privileges.chroot", !privileges.chroot.as_os_str().is_empty()),
    ] {
        let holds = !is_set || !privileges.user.is_empty();
        require(holds, "privileges.user", key, "the name of a user".to_string());
    }
    broken.extend(broken_addresses(config));
    broken.extend(broken_cluster(config));
    broken
}

/// Of `[cluster]`.
fn broken_cluster(config: &Config) -> Vec<Constraint> {
    let Config { cluster, privileges, .. } = config;
    let mut broken = Vec::new();
    let mut require = |holds: bool, key, because_of, must_be: &str| {
        if !holds {
            broken.push(Constraint { key, because_of, must_be: must_be.to_string() });
        }
    };
    let is_set = |path: &Path| !path.as_os_str().is_empty();
    let has_file = is_set(&cluster.credentials_file);
    let holds = cluster.user.is_empty() || has_file || !cluster.password.is_empty();
    require(holds, "cluster.password", "cluster.user", "the password of that user");
    let holds = !has_file || cluster.password.is_empty();
    require(holds, "cluster.credentials_file", "cluster.password", "\"\", or the password empty");
    let (certificate, key) = (is_set(&cluster.certificate), is_set(&cluster.key));
    let holds = !certificate || key;
    require(holds, "cluster.key", "cluster.certificate", "the file of its key");
    require(!key || certificate, "cluster.certificate", "cluster.key", "the file of its chain");

    let has_tls = |it: &ServerUrl| matches!(it.endpoint, ServerEndpoint::Tcp { tls: true, .. });
    let has_tls = cluster.servers.iter().any(has_tls);
    for (name, is_set) in
        [("cluster.ca_file", is_set(&cluster.ca_file)), ("cluster.certificate", certificate)]
    {
        require(has_tls || !is_set, "cluster.server", name, "a URL that begins with rediss://");
    }
    let is_unix = |it: &ServerUrl| matches!(it.endpoint, ServerEndpoint::Unix(_));
    let holds = !is_set(&privileges.chroot) || !cluster.servers.iter().any(is_unix);
    let must_be = "an address or a name: a Unix socket is out of reach there";
    require(holds, "cluster.server", "privileges.chroot", must_be);
    broken
}

/// Of keys that have addresses.
fn broken_addresses(config: &Config) -> Vec<Constraint> {
    let Config { listen, udp, tls, proxy, operations, .. } = config;
    let mut broken = Vec::new();
    let mut require = |holds: bool, key, because_of, must_be: &str| {
        if !holds {
            broken.push(Constraint { key, because_of, must_be: must_be.to_string() });
        }
    };
    let https = widened(&tls.listen);
    let has_udp = matches!(&udp.listen, UdpListen::Addresses(addresses) if !addresses.is_empty());
    let holds = !listen.is_empty() || !https.is_empty() || has_udp;
    require(holds, "listen", "tls.listen", "one address or more");
    for (key, own, because_of, others) in [
        ("tls.listen", &tls.listen, "listen", listen),
        ("operations.listen", &operations.listen, "listen", listen),
        ("operations.listen", &operations.listen, "tls.listen", &https),
    ] {
        let shared = own.iter().find(|own| others.iter().any(|it| overlaps(&(**own).into(), it)));
        if let Some(shared) = shared {
            require(false, key, because_of, &format!("without \"{shared}\""));
        }
    }
    let most = LISTENERS_MAX - listen.len();
    require(https.len() <= most, "tls.listen", "listen", &format!("at most {most} addresses"));
    let holds = https.is_empty() || !tls.certificates.is_empty();
    require(holds, "tls.certificates", "tls.listen", "one certificate or more");

    let by_unix = proxy.header.is_empty() || listen.iter().any(ListenAddress::is_unix);
    let holds = by_unix || !proxy.trusted.is_empty();
    require(holds, "proxy.trusted", "proxy.header", "one address or more");
    let by_unix = proxy.protocol_listen.iter().all(ListenAddress::is_unix);
    let holds = by_unix || !proxy.trusted.is_empty();
    require(holds, "proxy.trusted", "proxy.protocol_listen", "one address or more");
    let known = [listen.clone(), https].concat();
    if let Some(stray) = proxy.protocol_listen.iter().find(|it| !known.contains(it)) {
        let hint = meant(stray, &known).map_or(String::new(), |meant| format!(" (\"{meant}\"?)"));
        let must_be = format!("addresses of listen or tls.listen, not \"{stray}\"{hint}");
        require(false, "proxy.protocol_listen", "listen", &must_be);
    }
    broken
}

/// The one of `known` that was probably meant by `stray`: of the same port, or a Unix socket too.
fn meant<'k>(stray: &ListenAddress, known: &'k [ListenAddress]) -> Option<&'k ListenAddress> {
    let port = |it: &ListenAddress| it.tcp().map(|it| it.port());
    let family = |it: &ListenAddress| it.tcp().map(|it| it.is_ipv4());
    let alike = known.iter().filter(|it| port(it) == port(stray));
    alike.min_by_key(|it| family(it) != family(stray))
}

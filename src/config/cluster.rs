//! `[cluster]`: the servers that carry messages between nodes, and what they ask for.
//!
//! Passwords are in values of a type that does not print them, and no message repeats a value that
//! may have one.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::value::{check_socket_path, path_or_none, text};
use crate::limits::{
    CLUSTER_CHANNEL_BYTES_MAX, CLUSTER_SERVERS_MAX, CREDENTIAL_BYTES_MAX, HOST_NAME_BYTES_MAX,
};

/// The port of Valkey and Redis, with and without TLS.
const DEFAULT_PORT: u16 = 6379;

const SERVERS_FORM: &str = "\"\", a URL like \"redis://192.0.2.1:6379\", or a list of them";
const SERVER_FORM: &str = "must be a URL like \"redis://192.0.2.1:6379\", \
     \"rediss://valkey.example.org\" (TLS) or \"unix:///run/valkey/valkey.sock\"";

/// The nodes that this one shares its swarms with. By default there are none.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Tried in turn. None: this node is alone.
    #[serde(rename = "server", deserialize_with = "servers")]
    pub servers: Vec<ServerUrl>,
    /// 1 to [`CLUSTER_CHANNEL_BYTES_MAX`] bytes, none of which means something in a pattern.
    #[serde(deserialize_with = "channel")]
    pub channel: String,
    /// Empty for the server's default user. Needs a password.
    #[serde(deserialize_with = "user")]
    pub user: String,
    /// Empty for none. It is for the servers whose URL has none.
    #[serde(deserialize_with = "password")]
    pub password: Secret,
    /// A file with the password, or with user and password, on its first line; empty for none.
    /// Not set if `password` is. From [`Config::load`](super::Config::load), this and the paths
    /// below start at the directory of the configuration file.
    #[serde(deserialize_with = "path_or_none")]
    pub credentials_file: PathBuf,
    /// PEM: the authorities that servers are trusted by; empty for those of the system.
    #[serde(deserialize_with = "path_or_none")]
    pub ca_file: PathBuf,
    /// PEM: the certificate chain that this node shows to a server, and its key. Both or neither.
    #[serde(deserialize_with = "path_or_none")]
    pub certificate: PathBuf,
    #[serde(deserialize_with = "path_or_none")]
    pub key: PathBuf,
    #[serde(skip)]
    pub places: ClusterLocations,
}

/// `FILE:LINE` of keys of [`ClusterConfig`], to begin messages with; empty where the key is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterLocations {
    pub server: String,
    pub credentials_file: String,
    pub ca_file: String,
    pub certificate: String,
    pub key: String,
}

impl Default for ClusterConfig {
    fn default() -> ClusterConfig {
        ClusterConfig {
            servers: Vec::new(),
            channel: "annulus".to_owned(),
            user: String::new(),
            password: Secret::default(),
            credentials_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            places: ClusterLocations::default(),
        }
    }
}

/// A password. It is not printed, not even with `{:?}`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The password itself: for the server alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "..." })
    }
}

/// Who this node is to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Empty for the server's default user.
    pub user: String,
    pub password: Secret,
}

/// A Valkey or Redis server. Printed, it is a URL without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    pub endpoint: ServerEndpoint,
    pub credentials: Option<Credentials>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEndpoint {
    /// `host` is an address, without brackets, or a name.
    Tcp { host: String, port: u16, tls: bool },
    /// An absolute path.
    Unix(PathBuf),
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            ServerEndpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            ServerEndpoint::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}"),
                    false => write!(f, "{scheme}://{host}:{port}"),
                }
            }
        }
    }
}

impl FromStr for ServerUrl {
    /// Completes "cluster.server = ...: ", and repeats nothing of the text.
    type Err = String;

    fn from_str(text: &str) -> Result<ServerUrl, String> {
        for scheme in ["redis+unix:", "unix:"] {
            let Some(path) = text.strip_prefix(scheme) else { continue };
            let path = path.strip_prefix("//").unwrap_or(path);
            check_socket_path(path)?;
            return Ok(ServerUrl {
                endpoint: ServerEndpoint::Unix(path.into()),
                credentials: None,
            });
        }
        let (tls, rest) = match (text.strip_prefix("rediss://"), text.strip_prefix("redis://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(SERVER_FORM.to_owned()),
        };
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(credentials_of(credentials)?), rest),
            None => (None, rest),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            let what = "nothing may follow the / after the port: messages have no database";
            return Err(what.to_owned());
        }
        let (host, port) = host_and_port(authority)?;
        Ok(ServerUrl { endpoint: ServerEndpoint::Tcp { host, port, tls }, credentials })
    }
}

/// `USER:PASSWORD`, `:PASSWORD`, each percent-encoded where a character means something in URLs.
fn credentials_of(text: &str) -> Result<Credentials, String> {
    let Some((user, password)) = text.split_once(':') else {
        return Err("before the @ must be user:password, or :password".to_owned());
    };
    let decoded = |part: &str| {
        percent_decoded(part).filter(|part| is_credential(part)).ok_or_else(|| {
            format!(
                "user and password have at most {CREDENTIAL_BYTES_MAX} bytes, and % begins a \
                 character in hex, as in %40 for @"
            )
        })
    };
    let (user, password) = (decoded(user)?, decoded(password)?);
    if password.is_empty() {
        return Err("the password before the @ is empty".to_owned());
    }
    Ok(Credentials { user, password: Secret(password) })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        let digits = hex.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(hex, 16).ok().filter(|_| digits)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Whether this can be a user or a password.
pub(crate) fn is_credential(text: &str) -> bool {
    text.len() <= CREDENTIAL_BYTES_MAX && !text.contains(['\n', '\r', '\0'])
}

fn host_and_port(authority: &str) -> Result<(String, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(SERVER_FORM)?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("in the brackets must be an IPv6 address".to_owned());
            }
            (address, port)
        }
        None => {
            let at = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(at);
            if port.rfind(':').is_some_and(|at| at > 0) {
                let what = "an IPv6 address goes in brackets, like \"redis://[::1]:6379\"";
                return Err(what.to_owned());
            }
            (host, port)
        }
    };
    let is_name =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte) || host.contains(':');
    if host.is_empty() || host.len() > HOST_NAME_BYTES_MAX || !host.bytes().all(is_name) {
        return Err(format!("{SERVER_FORM}: this has no host"));
    }
    let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = match port.strip_prefix(':') {
        _ if port.is_empty() => Some(DEFAULT_PORT),
        number => number.filter(digits).and_then(|digits| digits.parse().ok()),
    };
    match number {
        Some(port) if port > 0 => Ok((host.to_owned(), port)),
        _ => Err("the port must be 1 to 65535".to_owned()),
    }
}

fn servers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ServerUrl>, D::Error> {
    from.deserialize_any(ServersVisitor)
}

struct ServersVisitor;

impl<'de> Visitor<'de> for ServersVisitor {
    type Value = Vec<ServerUrl>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SERVERS_FORM)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<ServerUrl>, E> {
        match text {
            "" => Ok(Vec::new()),
            url => url.parse().map(|url| vec![url]).map_err(E::custom),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<ServerUrl>, A::Error> {
        let mut servers: Vec<ServerUrl> = Vec::new();
        while let Some(ListedServer(server)) = list.next_element()? {
            if servers.len() == CLUSTER_SERVERS_MAX {
                let what = format!("must be at most {CLUSTER_SERVERS_MAX} servers");
                return Err(A::Error::custom(what));
            }
            if servers.iter().any(|listed| listed.endpoint == server.endpoint) {
                return Err(A::Error::custom("is listed twice"));
            }
            servers.push(server);
        }
        Ok(servers)
    }
}

/// An entry of the list, which serde is to blame by itself.
struct ListedServer(ServerUrl);

impl<'de> Deserialize<'de> for ListedServer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ListedServer, D::Error> {
        text(from, "a URL in quotes", |url| url.parse().map(ListedServer))
    }
}

fn channel<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let form = format!(
        "letters, digits and \"-_.:\", in quotes, 1 to {CLUSTER_CHANNEL_BYTES_MAX} of them"
    );
    text(from, &form, |name| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let fits = (1..=CLUSTER_CHANNEL_BYTES_MAX).contains(&name.len());
        match fits && name.bytes().all(allowed) {
            true => Ok(name.to_owned()),
            false => Err(format!("must be {form}")),
        }
    })
}

fn user<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, "a name in quotes, or \"\"", |name| match is_credential(name) {
        true => Ok(name.to_owned()),
        false => Err(format!("must be one line of at most {CREDENTIAL_BYTES_MAX} bytes")),
    })
}

fn password<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    text(from, "a password in quotes, or \"\"", |password| match is_credential(password) {
        true => Ok(Secret::new(password)),
        false => Err(format!("must be one line of at most {CREDENTIAL_BYTES_MAX} bytes")),
    })
}

#[cfg(test)]
mod tests {
    use super::{Credentials, Secret, ServerEndpoint, ServerUrl};

    #[test]
    fn urls_are_read_and_printed_without_credentials() {
        let tcp = |host: &str, port, tls| ServerEndpoint::Tcp { host: host.to_owned(), port, tls };
        let unix = |path: &str| ServerEndpoint::Unix(path.into());
        for (text, endpoint, credentials, printed) in [
            ("redis://192.0.2.1", tcp("192.0.2.1", 6379, false), None, "redis://192.0.2.1:6379"),
            ("rediss://a-b.c:1/", tcp("a-b.c", 1, true), None, "rediss://a-b.c:1"),
            ("redis://[::1]", tcp("::1", 6379, false), None, "redis://[::1]:6379"),
            ("redis://[::1]:7", tcp("::1", 7, false), None, "redis://[::1]:7"),
            ("redis://u:p@h:7", tcp("h", 7, false), Some(("u", "p")), "redis://h:7"),
            ("redis://:p@q/r@h:7", tcp("h", 7, false), Some(("", "p@q/r")), "redis://h:7"),
            (
                "redis://u%3a:%40%C3%A9@h",
                tcp("h", 6379, false),
                Some(("u:", "@é")),
                "redis://h:6379",
            ),
            ("unix:///a/b", unix("/a/b"), None, "unix:///a/b"),
            ("unix:/a/b", unix("/a/b"), None, "unix:///a/b"),
            ("redis+unix:///a/b", unix("/a/b"), None, "unix:///a/b"),
        ] {
            let credentials = credentials.map(|(user, password): (&str, &str)| Credentials {
                user: user.to_owned(),
                password: Secret::new(password),
            });
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!(url, ServerUrl { endpoint, credentials }, "{text}");
            assert_eq!(url.to_string(), printed);
        }
    }

    #[test]
    fn an_error_repeats_nothing_of_the_url() {
        for text in [
            "hunter2",
            "hunter2:6379",
            "http://hunter2",
            "redis:/hunter2",
            "redis://hunter2@h",
            "redis://:hunter2@",
            "redis://:@h",
            "redis://u:%hunter2@h",
            "redis://u:hunter2%2@h",
            "redis://u:hunter2@h:0",
            "redis://u:hunter2@h:65536",
            "redis://u:hunter2@h:+1",
            "redis://u:hunter2@h:x",
            "redis://u:hunter2@h/1",
            "redis://u:hunter2@::1",
            "redis://u:hunter2@[::1",
            "redis://u:hunter2@[h]",
            "redis://u:hunter2%0a@h",
            "redis://u:hunter2@h h",
            "unix://hunter2",
            "unix:///hunter2/",
            "redis://",
            "",
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(!error.contains("hunter2") && !error.is_empty(), "{text}: {error}");
        }
        let url = "redis://u:hunter2@h".parse::<ServerUrl>().unwrap();
        assert!(!format!("{url:?} {url}").contains("hunter2"));
    }
}

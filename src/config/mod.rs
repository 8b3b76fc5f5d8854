//! The configuration: plain data, a default for all of it, and the way from a file to it.
//!
//! Every key is described once, in a table of `tables.rs` or of a file of its own (`tls.rs`,
//! `access.rs`, `limits.rs`, `proxy.rs`, `privileges.rs`, `operations.rs`,
//! `log.rs`); parsing, bounds, the text that
//! `annulus -p` prints and the guesses at a mistyped name all come from there. To add a table:
//! write its struct, its `Default` and its `TABLE` in a file of their own, then name them in
//! [`Config`], in its `Default`, and in `TABLES`. To add a key: a field, its default, an entry
//! of the table.
//!
//! Read `tables.rs` next for the keys, `check.rs` for how a file is read.

mod access;
mod check;
mod key;
mod limits;
mod listen;
mod log;
mod operations;
mod privileges;
mod proxy;
mod public;
mod range;
mod tables;
mod tls;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use annulus_ring::ListenAddress;

use crate::limits::CONFIG_BYTES_MAX;
use crate::os::not_utf8;
pub use access::{Access, AccessMode, BadLines};
pub use annulus_ring::EngineChoice;
use key::{Table, wrapped};
pub use limits::Limits;
pub(crate) use listen::{collide, widened};
pub use log::Log;
pub use operations::Operations;
pub use privileges::{Places, Privileges};
pub use proxy::Proxy;
pub use range::Range;
pub use tables::{Connections, Protocol, Swarms};
pub use tls::{CertificateFiles, Tls};

/// Everything an operator can choose. Values are within the bounds that `annulus -p`
/// states when they come from [`Config::load`] or [`Config::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to accept plain connections on: at least one unless there are some for
    /// [`Tls`], at most [`LISTENERS_MAX`](crate::limits::LISTENERS_MAX), no two alike. Port 0
    /// is allowed and leaves the choice to the kernel.
    pub listen: Vec<ListenAddress>,
    /// Worker threads, at most [`WORKERS_MAX`](crate::limits::WORKERS_MAX); 0 is one per
    /// core available to the process.
    pub workers: usize,
    /// How to talk to the kernel.
    pub engine: EngineChoice,
    /// What clients are told, and what is believed of them.
    pub protocol: Protocol,
    /// How much is remembered.
    pub swarms: Swarms,
    /// How many connections are held, and for how long.
    pub connections: Connections,
    /// What one address may take.
    pub limits: Limits,
    /// Where HTTPS is spoken, and with what.
    pub tls: Tls,
    /// Which torrents are served.
    pub access: Access,
    /// Whose word on where clients are is taken.
    pub proxy: Proxy,
    /// What the tracker may do once it listens.
    pub privileges: Privileges,
    /// Where it can be looked at.
    pub operations: Operations,
    /// What is told of all this.
    pub log: Log,
}

/// All keys, in the order in which they are printed.
const TABLES: &[Table] = &[
    tables::TOP,
    tables::PROTOCOL,
    tables::SWARMS,
    tables::CONNECTIONS,
    limits::LIMITS,
    tls::TLS,
    access::ACCESS,
    proxy::PROXY,
    privileges::PRIVILEGES,
    operations::OPERATIONS,
    log::LOG,
];

impl Default for Config {
    /// Fit for a public tracker.
    fn default() -> Config {
        let port = 3000;
        Config {
            listen: vec![
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into(),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into(),
            ],
            workers: 0,
            engine: EngineChoice::Auto,
            protocol: Protocol::default(),
            swarms: Swarms::default(),
            connections: Connections::default(),
            limits: Limits::default(),
            tls: Tls::default(),
            access: Access::default(),
            proxy: Proxy::default(),
            privileges: Privileges::default(),
            operations: Operations::default(),
            log: Log::default(),
        }
    }
}

impl Config {
    /// Which of the addresses are of no use as things stand, and what would help, in a line.
    pub fn warning(&self) -> Option<String> {
        let Config { listen, proxy, .. } = self;
        let has_address =
            |it: &ListenAddress| !proxy.header.is_empty() || proxy.protocol_listen.contains(it);
        let silent = listen.iter().find(|it| it.is_unix() && !has_address(it))?;
        Some(format!(
            "listen = \"{silent}\": nothing tells where its clients are, and their announces will \
             fail: set proxy.header, or list it in proxy.protocol_listen too"
        ))
    }

    /// The configuration in the file at `path`, or the defaults where there is no path. The
    /// relative paths in the file start at its directory.
    ///
    /// # Errors
    /// The file cannot be read, is longer than [`CONFIG_BYTES_MAX`], is not UTF-8, or
    /// [`Config::parse`] refuses it.
    pub fn load(path: Option<&Path>) -> Result<Config, Mistakes> {
        let Some(path) = path else { return Ok(Config::default()) };
        let name = path.display();
        let bytes = File::open(path)
            .and_then(|file| read_bounded(file, CONFIG_BYTES_MAX))
            .map_err(|error| Mistakes(vec![format!("{name}: cannot be read: {error}")]))?;
        if bytes.len() as u64 > CONFIG_BYTES_MAX {
            let what = format!("{name}: longer than {CONFIG_BYTES_MAX} bytes: not a configuration");
            return Err(Mistakes(vec![what]));
        }
        if let Some(what) = not_utf8(&bytes) {
            return Err(Mistakes(vec![format!("{name}: {what}")]));
        }
        let text = str::from_utf8(&bytes).map_err(|error| {
            let valid = error.valid_up_to();
            let line = 1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count();
            Mistakes(vec![format!("{name}:{line}: not UTF-8 (byte 0x{:02x})", bytes[valid])])
        })?;
        let mut config = Config::parse(text, &name.to_string())?;
        let directory = path.parent().unwrap_or(Path::new(""));
        for CertificateFiles { chain, key, .. } in &mut config.tls.certificates {
            *chain = directory.join(&*chain);
            *key = directory.join(&*key);
        }
        for path in [&mut config.access.file, &mut config.privileges.chroot] {
            if !path.as_os_str().is_empty() {
                *path = directory.join(&*path);
            }
        }
        Ok(config)
    }

    /// The configuration that `text` describes in TOML; what it leaves out has its default.
    /// `name` stands for the file in the messages; paths stay as they are written.
    ///
    /// # Errors
    /// The syntax is wrong, a key is unknown or given twice, a value has the wrong type or
    /// is out of bounds, or two values contradict each other. All that can be found in one
    /// reading is reported, up to [`CONFIG_MISTAKES_MAX`](crate::limits::CONFIG_MISTAKES_MAX).
    pub fn parse(text: &str, name: &str) -> Result<Config, Mistakes> {
        check::read(text, name)
    }
}

/// The bytes of a file, up to one more than `bytes_max`, so that the caller can tell.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_bounded(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is wrong with a configuration, in the order of the file: at least one mistake, each
/// one line that begins with the file's name, and the line's number where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

impl Mistakes {
    /// One line per mistake, without line ends.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.join("\n").fmt(f)
    }
}

impl std::error::Error for Mistakes {}

/// The default configuration as a file: every key with its meaning, bounds and default, and
/// the reason for that. [`Config::parse`] makes [`Config::default`] of it.
pub fn print_default() -> String {
    let mut defaults = Config::default();
    let mut text = wrapped(
        "Configuration of annulus, a BitTorrent tracker, in TOML. Every key may be left out; \
         shown are the defaults. Durations are whole seconds.",
    );
    for table in TABLES {
        text += "\n";
        if !table.name.is_empty() {
            text += &wrapped(table.about);
            text += &format!("[{}]\n\n", table.name);
        }
        let keys: Vec<String> = table.keys.iter().map(|key| key.printed(&mut defaults)).collect();
        text += &keys.join("\n");
    }
    text
}

/// A key, for those who read about it.
pub(crate) struct Explained {
    /// Without its table.
    pub(crate) name: &'static str,
    /// What it means, in whole sentences.
    pub(crate) about: &'static str,
    /// What its values are, without a full stop.
    pub(crate) allowed: String,
    /// In TOML.
    pub(crate) default: String,
    /// Why that is the default, with a full stop.
    pub(crate) reason: &'static str,
}

/// All keys by their tables: the table's name, what it is about, and its keys. The first table
/// has neither.
pub(crate) fn explained() -> Vec<(&'static str, &'static str, Vec<Explained>)> {
    let mut defaults = Config::default();
    let explain = |table: &Table| {
        let keys = table.keys.iter().map(|key| key.explained(&mut defaults)).collect();
        (table.name, table.about, keys)
    };
    TABLES.iter().map(explain).collect()
}

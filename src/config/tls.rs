//! The keys of `[tls]`, and those of the certificates that it lists.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;
use super::key::{Key, Kind, Relation, Table};
use super::listen::shared;
use crate::limits::LISTENERS_MAX;

/// HTTPS, beside plain HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Addresses to accept HTTPS connections on, no two alike and none of them in
    /// [`Config::listen`] too, unless the port is 0. Together with those at most
    /// [`LISTENERS_MAX`]. May be empty.
    pub listen: Vec<SocketAddr>,
    /// At least one if `listen` has any. The first is for clients that name a host, or connect to
    /// an address without a name, that no certificate is for. There may be several for one host,
    /// with keys of different kinds.
    pub certificates: Vec<CertificateFiles>,
    /// Whether X25519MLKEM768 is offered.
    pub post_quantum: bool,
}

impl Tls {
    /// What works, but was hardly meant so, in one line that begins with its place.
    pub fn warning(&self) -> Option<String> {
        let CertificateFiles { place, .. } = self.certificates.first()?;
        self.listen.is_empty().then(|| {
            format!("{place}: tls.certificates: served to nobody: tls.listen has no address")
        })
    }
}

/// Where a certificate is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM, the certificate of the host first and that of its issuer after it. From
    /// [`Config::load`], a relative path starts at the directory of the configuration file.
    pub chain: PathBuf,
    /// PEM, the private key of the first certificate; relative like `chain`.
    pub key: PathBuf,
    /// Where the configuration lists it, as `FILE:LINE`, to begin messages with.
    pub place: String,
}

pub(super) const TLS: Table = Table {
    name: "tls",
    about: "HTTPS, beside plain HTTP and over the same swarms.",
    keys: &[
        Key {
            name: "listen",
            kind: Kind::Addresses { at: |config| &mut config.tls.listen },
            about: "Addresses to accept HTTPS connections on, written like those of plain HTTP \
                    above and none of them the same. With some here, those above may be [].",
            reason: "none, as there is no certificate yet.",
        },
        Key {
            name: "certificates",
            kind: Kind::Certificates { at: |config| &mut config.tls.certificates },
            about: "Certificates, each with its chain (the certificate of the host, then that \
                    of its issuer) and its private key, both in PEM. A relative path starts at \
                    the directory of this file. A client that names no host gets the one that is \
                    for the IP address it connected to. The first is for clients for whose host \
                    or address there is none. Of two for one host, with keys of different \
                    kinds, a client gets the first that it can verify. Each may also \
                    be a [[tls.certificates]] on a line, with chain and key on lines below it. A \
                    handshake with ECDSA P-256 costs a fifth of one with RSA.",
            reason: "none.",
        },
        Key {
            name: "post_quantum",
            kind: Kind::Switch { at: |config| &mut config.tls.post_quantum },
            about: "Whether a key exchange that no quantum computer breaks (X25519MLKEM768) is \
                    offered. It costs 16 microseconds of CPU a handshake, about a quarter \
                    more, and 1.1 KB each way.",
            reason: "a tracker tells anybody who asks who shares what: there is little to \
                     keep secret for decades.",
        },
    ],
    relations: &[
        Relation {
            keys: ["listen", "tls.listen"],
            broken: |Config { listen, tls, .. }| {
                (listen.is_empty() && tls.listen.is_empty())
                    .then(|| "one address or more".to_string())
            },
        },
        Relation {
            keys: ["tls.listen", "listen"],
            broken: |Config { listen, tls, .. }| shared(&tls.listen, listen),
        },
        Relation {
            keys: ["tls.listen", "listen"],
            broken: |Config { listen, tls, .. }| {
                let most = LISTENERS_MAX - listen.len();
                (tls.listen.len() > most).then(|| format!("at most {most} addresses"))
            },
        },
        Relation {
            keys: ["tls.certificates", "tls.listen"],
            broken: |Config { tls, .. }| {
                (tls.certificates.is_empty() && !tls.listen.is_empty())
                    .then(|| "one certificate or more".to_string())
            },
        },
    ],
};

/// What an entry of `tls.certificates` must look like, to follow "expected".
pub(super) const CERTIFICATE_FORM: &str = "{ chain = \"fullchain.pem\", key = \"privkey.pem\" }";

/// The keys of an entry of `tls.certificates`, all needed. They are read into the last entry
/// of the field.
pub(super) const CERTIFICATE: Table = Table {
    name: "tls.certificates",
    about: "",
    keys: &[
        Key {
            name: "chain",
            kind: Kind::Path { at: |config| &mut last_certificate(config).chain },
            about: "",
            reason: "",
        },
        Key {
            name: "key",
            kind: Kind::Path { at: |config| &mut last_certificate(config).key },
            about: "",
            reason: "",
        },
    ],
    relations: &[],
};

fn last_certificate(config: &mut Config) -> &mut CertificateFiles {
    config.tls.certificates.last_mut().expect("an entry is added before its keys are read")
}

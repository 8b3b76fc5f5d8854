//! TLS 1.2 and 1.3, by rustls with aws-lc-rs. Only this module knows them: what rustls offers
//! to programs that do their own I/O changes with its next version.
//!
//! [`Tls`] is what all workers share: the certificates, which can be replaced while clients
//! connect, and the secret of the tickets, by which any worker resumes what another began.
//! [`Acceptor`] is a worker's own, so that its connections count their references to memory
//! that no other core writes to. [`Session`] is one connection's.

mod certificates;
mod client;
mod key_share;
mod names;
mod session;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite, kx_group};
use rustls::server::UnbufferedServerConnection;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};

use crate::limits::{ARENA_BYTES, FLIGHT_BYTES_MAX, REPLY_BATCH_BYTES, REPLY_BYTES_MAX};
pub use certificates::{Certificates, Loaded};
pub use client::{ClientSession, Connector, Trust};
pub use session::{
    FINISHED_BYTES_MAX, Handshake, Session, Standing, plain_bytes_max, sealed_bytes_max,
};

const _: () = assert!(ARENA_BYTES >= 2 * sealed_bytes_max(REPLY_BYTES_MAX + REPLY_BATCH_BYTES));
const _: () = assert!(ARENA_BYTES >= 2 * FLIGHT_BYTES_MAX);

/// How HTTPS is spoken, for all workers.
pub struct Tls {
    config: ServerConfig,
    shelf: Arc<Shelf>,
}

impl Tls {
    /// TLS with these certificates. `post_quantum`: whether X25519MLKEM768 is offered.
    ///
    /// # Errors
    /// The system has no randomness for the tickets' secret.
    pub fn new(certificates: Certificates, post_quantum: bool) -> Result<Tls, String> {
        let shelf = Arc::new(Shelf { current: RwLock::new(Arc::new(certificates)) });
        let resolver = Arc::clone(&shelf);
        let config = configure(resolver, post_quantum).map_err(|error| format!("TLS: {error}"))?;
        Ok(Tls { config, shelf })
    }

    /// Serves these certificates from now on. Handshakes that have begun, open connections and
    /// tickets are not touched.
    pub fn replace(&self, certificates: Certificates) {
        *self.shelf.current.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(certificates);
    }

    /// As [`Certificates::expiries`], of those that are served at present.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        self.shelf.current.read().unwrap_or_else(PoisonError::into_inner).expiries()
    }

    /// A worker's own handle.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor { config: Arc::new(self.config.clone()) }
    }
}

/// Begins the sessions of one worker.
pub struct Acceptor {
    config: Arc<ServerConfig>,
}

impl Acceptor {
    /// A session whose client has sent nothing yet; `None` if there is no memory for it.
    pub fn accept(&self) -> Option<Session> {
        UnbufferedServerConnection::new(Arc::clone(&self.config)).ok().map(Session::new)
    }
}

fn configure(shelf: Arc<Shelf>, post_quantum: bool) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider(post_quantum)))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shelf);
    // The client's order would often take AES-256 with SHA-384, which makes a handshake a
    // third dearer: SHA-384 has no instructions of its own.
    config.ignore_client_order = true;
    // Who asks by HTTP/1.0 may offer nothing else: curl does.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// The algorithms, the best first.
fn provider(post_quantum: bool) -> CryptoProvider {
    let mut kx_groups = vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    if post_quantum {
        kx_groups.insert(0, kx_group::X25519MLKEM768);
    }
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups,
        ..aws_lc_rs::default_provider()
    }
}

/// The certificates that are served at present.
struct Shelf {
    current: RwLock<Arc<Certificates>>,
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(current.choose(hello.server_name(), hello.signature_schemes())))
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}

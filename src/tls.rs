//! TLS 1.2 and 1.3, by rustls with aws-lc-rs. Only this module knows them: what rustls offers
//! to programs that do their own I/O changes with its next version.
//!
//! [`Tls`] is what all workers share: the certificates, which can be replaced while clients
//! connect, and the secret of the tickets, by which any worker resumes what another began.
//! [`Acceptor`] is a worker's own, so that its connections count their references to memory
//! that no other core writes to. [`Session`] is one connection's.

mod certificates;
mod names;
mod session;
mod validity;

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite, kx_group};
use rustls::server::UnbufferedServerConnection;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};

use crate::limits::{ARENA_BYTES, FLIGHT_BYTES_MAX, RESPONSE_BATCH_BYTES, RESPONSE_BYTES_MAX};
pub use certificates::{Certificates, Loaded, Term};
pub use session::{
    FINISHED_BYTES_MAX, Handshake, Session, Standing, plain_bytes_max, sealed_bytes_max,
};
pub use validity::Validity;

const _: () =
    assert!(ARENA_BYTES >= 2 * sealed_bytes_max(RESPONSE_BYTES_MAX + RESPONSE_BATCH_BYTES));
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
        let shelf = Arc::new(Shelf::new(certificates));
        let resolver = Arc::clone(&shelf);
        let config = configure(resolver, post_quantum).map_err(|error| format!("TLS: {error}"))?;
        Ok(Tls { config, shelf })
    }

    /// Serves these certificates from now on. Handshakes that have begun, open connections and
    /// tickets are not touched.
    pub fn replace(&self, certificates: Certificates) {
        self.shelf.have_addresses.store(certificates.have_addresses(), Ordering::Relaxed);
        *self.shelf.current.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(certificates);
    }

    /// Those that are served at present.
    pub fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.shelf.current())
    }

    /// A worker's own handle.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor { config: Arc::new(self.config.clone()), shelf: Arc::clone(&self.shelf) }
    }
}

/// Begins the sessions of one worker.
pub struct Acceptor {
    config: Arc<ServerConfig>,
    shelf: Arc<Shelf>,
}

impl Acceptor {
    /// Whether it may matter which address a client connects to: [`Session::connected_to`].
    pub fn asks_for_address(&self) -> bool {
        self.shelf.have_addresses.load(Ordering::Relaxed)
    }

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

thread_local! {
    /// The address that the client at hand connected to, if it is known. A [`Session`] says so
    /// before it has rustls look at a hello: of that alone a [`Shelf`] is told, and no server name
    /// is an address.
    static CONNECTED_TO: Cell<Option<IpAddr>> = const { Cell::new(None) };
}

/// The certificates that are served at present.
struct Shelf {
    current: RwLock<Arc<Certificates>>,
    /// As [`Certificates::have_addresses`].
    have_addresses: AtomicBool,
}

impl Shelf {
    fn new(certificates: Certificates) -> Shelf {
        let have_addresses = AtomicBool::new(certificates.have_addresses());
        Shelf { current: RwLock::new(Arc::new(certificates)), have_addresses }
    }

    fn current(&self) -> RwLockReadGuard<'_, Arc<Certificates>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (current, schemes) = (self.current(), hello.signature_schemes());
        // rustls takes a name that is an address for none (RFC 6066 section 3).
        let key = match (hello.server_name(), CONNECTED_TO.get()) {
            (None, Some(address)) => current.choose_by_address(address, schemes),
            (name, _) => current.choose(name, schemes),
        };
        Some(Arc::clone(key))
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}

//! TLS 1.2 and 1.3, by rustls with aws-lc-rs. No other module uses rustls: its interface for
//! programs that do their own I/O changes with its next version.
//!
//! [`TlsContext`] is shared by all workers: the certificates, which a reload replaces while clients
//! connect, and the secret of the session tickets, so that any worker resumes any session.
//! [`TlsAcceptor`] belongs to one worker, so that its connections count references in memory that
//! no other core writes to. [`TlsSession`] belongs to one connection.

mod certificates;
mod client;
mod names;
mod session;
mod validity;

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite, kx_group};
use rustls::server::UnbufferedServerConnection;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};

use crate::limits::{ARENA_BYTES, FLIGHT_BYTES_MAX, RESPONSE_BATCH_BYTES, RESPONSE_BYTES_MAX};
pub use certificates::{CertificateStatus, Certificates, LoadedCertificates};
pub use client::{
    ClientIdentity, TlsClientError, TlsClientSettings, TlsClientStream, system_authorities,
};
pub use session::{
    FINISHED_BYTES_MAX, HandshakeState, SessionState, TlsSession, encrypted_bytes_max,
    plain_bytes_max,
};
pub use validity::Validity;

const _: () =
    assert!(ARENA_BYTES >= 2 * encrypted_bytes_max(RESPONSE_BYTES_MAX + RESPONSE_BATCH_BYTES));
const _: () = assert!(ARENA_BYTES >= 2 * FLIGHT_BYTES_MAX);

/// What all workers need for TLS.
pub struct TlsContext {
    config: ServerConfig,
    resolver: Arc<CertificateResolver>,
}

impl TlsContext {
    /// `post_quantum`: whether X25519MLKEM768 is offered.
    ///
    /// # Errors
    /// The system has no randomness for the secret of the session tickets.
    pub fn new(certificates: Certificates, post_quantum: bool) -> Result<TlsContext, String> {
        let resolver = Arc::new(CertificateResolver(ArcSwap::from_pointee(certificates)));
        let config = configure(Arc::clone(&resolver), post_quantum);
        Ok(TlsContext { config: config.map_err(|error| format!("TLS: {error}"))?, resolver })
    }

    /// Serves these certificates from now on. Handshakes in progress, open connections and tickets
    /// are not affected.
    pub fn replace(&self, certificates: Certificates) {
        self.resolver.0.store(Arc::new(certificates));
    }

    /// The certificates that are served at present.
    pub fn certificates(&self) -> Arc<Certificates> {
        self.resolver.0.load_full()
    }

    /// A worker's own handle.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor { config: Arc::new(self.config.clone()), resolver: Arc::clone(&self.resolver) }
    }
}

/// Starts the sessions of one worker.
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    resolver: Arc<CertificateResolver>,
}

impl TlsAcceptor {
    /// Whether the certificate may depend on the address that a client connects to: see
    /// [`TlsSession::connected_to`].
    pub fn needs_local_address(&self) -> bool {
        self.resolver.0.load().have_addresses()
    }

    /// A new session; `None` if there is no memory for it.
    pub fn accept(&self) -> Option<TlsSession> {
        UnbufferedServerConnection::new(Arc::clone(&self.config)).ok().map(TlsSession::new)
    }
}

fn configure(
    resolver: Arc<CertificateResolver>,
    post_quantum: bool,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider(post_quantum)))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    // Many clients prefer AES-256 with SHA-384, which makes a handshake a third more expensive:
    // processors have no instructions for SHA-384.
    config.ignore_client_order = true;
    // curl offers only http/1.0 when it is told to use HTTP/1.0.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// The algorithms, in order of preference.
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
    /// The address that the present client connected to, if it is known. rustls passes nothing of
    /// ours to [`CertificateResolver::resolve`], so a [`TlsSession`] sets it before rustls reads a
    /// hello.
    static CONNECTED_TO: Cell<Option<IpAddr>> = const { Cell::new(None) };
}

/// Chooses the certificate for a client.
#[derive(Debug)]
struct CertificateResolver(ArcSwap<Certificates>);

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (certificates, schemes) = (self.0.load(), hello.signature_schemes());
        // rustls ignores a server name that is an address (RFC 6066 section 3).
        let key = match (hello.server_name(), CONNECTED_TO.get()) {
            (None, Some(address)) => certificates.choose_by_address(address, schemes),
            (name, _) => certificates.choose(name, schemes),
        };
        Some(Arc::clone(key))
    }
}

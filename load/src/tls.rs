//! A client's TLS, for `annulus-load`: requests in, records out; records in, answers out.
//! Without I/O.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{self, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, RootCertStore, SignatureScheme,
};

use crate::key_share::LastingX25519;

/// Where systems keep the certificates that they trust: Debian and its like, Fedora and its
/// like, openSUSE, Alpine.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Sessions that can be resumed, of all connections of one worker.
const SESSIONS: usize = 256;

/// How the keys of a connection were agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// By a full handshake.
    Full,
    /// From an earlier session.
    Resumed,
}

/// Which servers are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Those with a certificate of somebody whom the system trusts.
    System,
    /// Those with a certificate of somebody in this file (PEM).
    File(&'a Path),
    /// All.
    Anyone,
}

/// Begins the sessions of one worker.
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Connector {
    /// For connections to `host`, a name or an address. `resume`: whether sessions are resumed.
    ///
    /// # Errors
    /// What is wrong with the host or with the certificates to trust.
    pub fn new(host: &str, trust: Trust<'_>, resume: bool) -> Result<Connector, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host}: neither a name nor an address"))?;
        let provider = Arc::new(client_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?;
        let mut config = match trust {
            Trust::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone { algorithms }))
                .with_no_client_auth(),
            Trust::System => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
            Trust::File(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = match resume {
            true => client::Resumption::in_memory_sessions(SESSIONS),
            false => client::Resumption::disabled(),
        };
        Ok(Connector { config: Arc::new(config), name })
    }

    /// A session that has sent nothing yet.
    ///
    /// # Errors
    /// What rustls says of it.
    pub fn connect(&self) -> Result<ClientSession, String> {
        let tls = UnbufferedClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(|error| error.to_string())?;
        Ok(ClientSession { tls, unfinished: Vec::new(), ended: false })
    }
}

/// Algorithms that are cheap for both sides come first.
fn client_provider() -> CryptoProvider {
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
        kx_groups: vec![&LastingX25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    }
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
    roots(found.ok_or("this system has no list of trusted certificates; name one: --ca FILE")?)
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let name = path.display();
    let pem = fs::read(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| format!("{name}: {error}"))?;
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(format!("{name}: has no certificate that can be trusted")),
        _ => Ok(roots),
    }
}

/// The TLS of one connection to a server.
pub struct ClientSession {
    tls: UnbufferedClientConnection,
    /// Received bytes of records that are not whole. rustls remembers places in them.
    unfinished: Vec<u8>,
    ended: bool,
}

impl ClientSession {
    /// How keys were agreed on, once they are.
    pub fn handshake(&self) -> Option<Resumption> {
        match self.tls.handshake_kind() {
            _ if self.tls.is_handshaking() => None,
            Some(HandshakeKind::Resumed) => Some(Resumption::Resumed),
            _ => Some(Resumption::Full),
        }
    }

    /// Whether the server has said that no more comes.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes received bytes; adds to `plain` what they decrypt to, and to `out` what is to be
    /// sent. With no bytes, it begins.
    ///
    /// # Errors
    /// What is wrong: with the server's certificate, or with its records.
    pub fn open(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        self.unfinished.extend_from_slice(bytes);
        let mut used = 0;
        let result = loop {
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut self.unfinished[used..]);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    let mut failed = None;
                    while let Some(record) = records.next_record() {
                        match record {
                            Ok(record) => {
                                plain.extend_from_slice(record.payload);
                                used += record.discard;
                            }
                            Err(error) => failed = Some(error),
                        }
                    }
                    if let Some(error) = failed {
                        break Err(error.to_string());
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let encoded = append(out, |room| {
                        data.encode(room).map_err(|error| match error {
                            EncodeError::InsufficientSize(size) => Some(size.required_size),
                            EncodeError::AlreadyEncoded => None,
                        })
                    });
                    if !encoded {
                        break Err("a flight was encoded twice".to_owned());
                    }
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                // All others wait for the server, or for something to be sent.
                Ok(_) => break Ok(()),
                Err(error) => break Err(error.to_string()),
            }
        };
        self.unfinished.drain(..used);
        result
    }

    /// Encrypts `plain`, and adds it to `out`.
    ///
    /// # Errors
    /// There are no keys yet, or no more.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut []);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let sealed = append(out, |room| {
                        traffic.encrypt(plain, room).map_err(|error| match error {
                            EncryptError::InsufficientSize(size) => Some(size.required_size),
                            EncryptError::EncryptExhausted => None,
                        })
                    });
                    return if sealed { Ok(()) } else { Err("the keys are worn out".to_owned()) };
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(_) => return Err("nothing can be sent yet".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// Adds what `write` writes to `out`, given room enough: it tells how much it wrote, or how much
/// it needs. Whether it could.
fn append(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> bool {
    let from = out.len();
    loop {
        match write(&mut out[from..]) {
            Ok(len) => {
                out.truncate(from + len);
                return true;
            }
            Err(Some(size)) if from + size > out.len() => out.resize(from + size, 0),
            Err(_) => return false,
        }
    }
}

/// Believes every server, even that it has the key of its certificate: to check a signature
/// costs a client more than anything else of a handshake.
#[derive(Debug)]
struct Anyone {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

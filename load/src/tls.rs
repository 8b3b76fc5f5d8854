//! The client's side of TLS, by rustls, without I/O.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ::aws_lc_rs::agreement::{PrivateKey, PublicKey, UnparsedPublicKey, X25519, agree};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SharedSecret, SupportedKxGroup,
    WebPkiSupportedAlgorithms,
    aws_lc_rs::{self, kx_group},
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, Error, HandshakeKind, NamedGroup,
    PeerMisbehaved, RootCertStore, SignatureScheme,
};

use crate::failure::{Failure, FailureKind};

/// Where systems keep the certificates that they trust: Debian, Fedora, openSUSE, Alpine.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Sessions that a worker keeps for resumption.
const SESSIONS: usize = 256;

/// The kind of a completed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsHandshake {
    Full,
    Resumed,
}

/// Which certificates are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustAnchors<'a> {
    /// Those that lead to a certificate of the system.
    System,
    /// Those that lead to a certificate in this file (PEM).
    File(&'a Path),
    /// All.
    Any,
}

/// Makes the TLS sessions of one worker.
pub struct TlsConnector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnector {
    /// For connections to `host`, a name or an address. `resume`: whether sessions are resumed.
    pub fn new(host: &str, trust: TrustAnchors<'_>, resume: bool) -> Result<TlsConnector, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host}: neither a host name nor an address"))?;
        let provider = Arc::new(client_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?;
        let roots = match trust {
            TrustAnchors::Any => None,
            TrustAnchors::File(path) => Some(read_roots(path)?),
            TrustAnchors::System => {
                let bundle = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
                let missing = "this system has no list of trusted certificates: name one by --ca";
                Some(read_roots(bundle.ok_or(missing)?)?)
            }
        };
        let mut config = match roots {
            Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate { algorithms }))
                .with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = match resume {
            true => Resumption::in_memory_sessions(SESSIONS),
            false => Resumption::disabled(),
        };
        Ok(TlsConnector { config: Arc::new(config), name })
    }

    /// A session that has sent nothing yet.
    pub fn connect(&self) -> Result<TlsClientSession, Failure> {
        let tls = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        Ok(TlsClientSession { tls: tls.map_err(failed)?, peer_closed: false })
    }
}

fn failed(error: Error) -> Failure {
    Failure::new(FailureKind::Tls, error)
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
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

/// Prefers algorithms that are cheap for both sides.
fn client_provider() -> CryptoProvider {
    let mut defaults = aws_lc_rs::default_provider();
    // AES-128 first; the sort keeps the order of the others.
    let first = CipherSuite::TLS13_AES_128_GCM_SHA256;
    defaults.cipher_suites.sort_by_key(|suite| suite.suite() != first);
    CryptoProvider {
        kx_groups: vec![&FixedX25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..defaults
    }
}

/// The TLS of one connection to a server.
pub struct TlsClientSession {
    tls: ClientConnection,
    peer_closed: bool,
}

impl TlsClientSession {
    /// The kind of the handshake, once it is complete.
    pub fn handshake(&self) -> Option<TlsHandshake> {
        match self.tls.handshake_kind() {
            _ if self.tls.is_handshaking() => None,
            Some(HandshakeKind::Resumed) => Some(TlsHandshake::Resumed),
            _ => Some(TlsHandshake::Full),
        }
    }

    /// Whether the server has sent close_notify.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Processes received bytes. Appends what they decrypt to to `plain`, and records to send to
    /// `out`. The first call, without bytes, begins the handshake.
    pub fn open(
        &mut self,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let mut result = Ok(());
        while !bytes.is_empty() && result.is_ok() {
            self.tls.read_tls(&mut bytes).map_err(|error| Failure::new(FailureKind::Tls, error))?;
            match self.tls.process_new_packets() {
                Ok(state) => {
                    self.peer_closed |= state.peer_has_closed();
                    // At its end the reader would block, which is its only error.
                    let _ = self.tls.reader().read_to_end(plain);
                }
                Err(error) => result = Err(failed(error)),
            }
        }
        self.write_records(out);
        result
    }

    /// Encrypts `plain` and appends it to `out`.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let written = self.tls.writer().write_all(plain);
        self.write_records(out);
        written.map_err(|error| Failure::new(FailureKind::Tls, error))
    }

    fn write_records(&mut self, out: &mut Vec<u8>) {
        while self.tls.wants_write() && self.tls.write_tls(out).is_ok() {}
    }
}

/// Accepts every certificate, even without a valid signature of the handshake: to verify one
/// costs a client more than anything else in a handshake.
#[derive(Debug)]
struct AcceptAnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AcceptAnyCertificate {
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

/// X25519 (RFC 7748) with one key pair for all connections of the process.
///
/// To make a key pair is about an eighth of what a handshake costs a client. A server cannot tell
/// the difference, and its own part is complete. Sessions are less secret than they should be
/// (RFC 9325 section 7.4 advises against it), which does not matter for made-up requests.
#[derive(Debug)]
struct FixedX25519;

struct FixedKeyPair {
    private: PrivateKey,
    public: PublicKey,
}

impl FixedKeyPair {
    /// `None` if the system has no randomness for it.
    fn get() -> Option<&'static FixedKeyPair> {
        static PAIR: OnceLock<Option<FixedKeyPair>> = OnceLock::new();
        let make = || {
            let private = PrivateKey::generate(&X25519).ok()?;
            let public = private.compute_public_key().ok()?;
            Some(FixedKeyPair { private, public })
        };
        PAIR.get_or_init(make).as_ref()
    }
}

impl SupportedKxGroup for FixedX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let pair = FixedKeyPair::get().ok_or(GetRandomFailed)?;
        Ok(Box::new(FixedKeyExchange(pair)))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }
}

struct FixedKeyExchange(&'static FixedKeyPair);

impl ActiveKeyExchange for FixedKeyExchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer = UnparsedPublicKey::new(&X25519, peer);
        agree(&self.0.private, peer, refused, |secret| Ok(SharedSecret::from(secret)))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        self.0.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

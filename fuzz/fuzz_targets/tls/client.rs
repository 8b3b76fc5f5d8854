//! A real TLS client in memory.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use annulus::limits::FLIGHT_BYTES_MAX;
use annulus::tls::TlsSession;
use rustls::client::{ClientConnection, Resumption, Tls12Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, Error, HandshakeKind, RootCertStore, SupportedProtocolVersion, version,
};

/// What the simulation of `tests/sim` is served with.
pub(crate) const CERTIFICATE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sim/certificate.pem");
pub(crate) const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sim/key.pem");

/// The host that the certificate is for.
const HOST: &str = "sim.test";

static CONFIGS: LazyLock<[Arc<ClientConfig>; 2]> =
    LazyLock::new(|| [configure(&version::TLS12), configure(&version::TLS13)]);

fn configure(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(Path::new(CERTIFICATE)).expect("a PEM file");
    roots.add(certificate).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version with a cipher suite")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // What one input does must not depend on those before it.
    config.resumption =
        Resumption::disabled().tls12_resumption(Tls12Resumption::SessionIdOrTickets);
    Arc::new(config)
}

/// One client.
pub(crate) struct FuzzClient {
    tls: ClientConnection,
    /// It could make nothing of what it heard, or heard that the server could not.
    failed: bool,
    /// What it was told.
    pub(crate) told: Vec<u8>,
    /// It was told that this is all.
    pub(crate) notified: bool,
}

/// The same configuration of a client that has shaken hands before, and resumes that session.
fn acquainted(config: &ClientConfig, server: &mut TlsSession) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::in_memory_sessions(1);
    let config = Arc::new(config);
    let mut client = FuzzClient::over(&config);
    let mut out = vec![0; FLIGHT_BYTES_MAX];
    while client.wants_to_send() {
        let mut written = server.open(&mut client.take(), &mut Vec::new(), &mut out);
        // The ticket of TLS 1.3 goes ahead of what is said first.
        written += server.encrypt(b"-", false, &mut out[written..]);
        client.hear(&out[..written], true);
    }
    config
}

impl FuzzClient {
    /// A client of TLS 1.2, if `old`, or 1.3, which resumes a session of `before`, if any.
    pub(crate) fn new(old: bool, before: Option<&mut TlsSession>) -> FuzzClient {
        let config = &CONFIGS[usize::from(!old)];
        match before {
            Some(server) => FuzzClient::over(&acquainted(config, server)),
            None => FuzzClient::over(config),
        }
    }

    /// Whether it has gone on with a session.
    pub(crate) fn resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn over(config: &Arc<ClientConfig>) -> FuzzClient {
        let config = Arc::clone(config);
        let host = ServerName::try_from(HOST).expect("a host's name");
        let mut tls = ClientConnection::new(config, host).expect("a client");
        tls.set_buffer_limit(None);
        FuzzClient { tls, failed: false, told: Vec::new(), notified: false }
    }

    /// Whether the handshake is over, and went well.
    pub(crate) fn may_speak(&self) -> bool {
        !self.failed && !self.tls.is_handshaking()
    }

    /// Whether there is something to take.
    pub(crate) fn wants_to_send(&self) -> bool {
        self.tls.wants_write()
    }

    /// Has this be one record, or more if it is too long.
    pub(crate) fn say(&mut self, plain: &[u8]) {
        self.tls.writer().write_all(plain).expect("no limit");
    }

    /// Says close_notify.
    pub(crate) fn leave(&mut self) {
        self.tls.send_close_notify();
    }

    /// What it sends.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).expect("memory");
        }
        records
    }

    /// Decrypts what the server sent. Once keys are agreed on it must be able to, and an alert
    /// is no surprise unless `flawless`.
    pub(crate) fn hear(&mut self, mut records: &[u8], flawless: bool) {
        while !records.is_empty() && !self.failed {
            assert!(!self.notified, "bytes after close_notify");
            let agreed = !self.tls.is_handshaking();
            self.tls.read_tls(&mut records).expect("room for what is not decrypted");
            match self.tls.process_new_packets() {
                Ok(state) => {
                    let before = self.told.len();
                    self.told.resize(before + state.plaintext_bytes_to_read(), 0);
                    self.tls.reader().read_exact(&mut self.told[before..]).expect("all of it");
                    self.notified |= state.peer_has_closed();
                }
                Err(error) => {
                    let alerted = matches!(error, Error::AlertReceived(_));
                    assert!(!flawless && (alerted || !agreed), "what the server sent: {error}");
                    self.failed = true;
                }
            }
        }
    }
}

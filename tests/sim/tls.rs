//! Both ends of TLS: what the worker serves with, and a real client in memory.
//!
//! A seed repeats a run although what is encrypted differs each time: no length does, because
//! signatures (Ed25519) and key shares (X25519) are of one length, and so are tickets; and no
//! client resumes what another began.

use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use annulus::clock::Clock;
use annulus::config::CertificateFiles;
use annulus::limits::FLIGHT_BYTES_MAX;
use annulus::os::FileSource;
use annulus::tls::{Certificates, TlsAcceptor, TlsContext};
use rustls::client::{ClientConnection, Resumption, Tls12Resumption};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, Error, HandshakeKind, RootCertStore, SupportedProtocolVersion, version,
};

/// The host that the certificate is for.
const HOST: &str = "sim.test";

/// A self-signed certificate, valid until 2120, and its key.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/certificate.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/key.pem");

/// How the workers of all runs speak TLS.
static SERVER: LazyLock<TlsContext> = LazyLock::new(|| {
    let files =
        CertificateFiles { chain: CERTIFICATE.into(), key: KEY.into(), place: "here".into() };
    let loaded = Certificates::load(&[files], &FileSource::Direct, Clock::unix_s())
        .expect("a good certificate");
    TlsContext::new(loaded.certificates, false).expect("randomness")
});

static CLIENTS: LazyLock<[Arc<ClientConfig>; 2]> =
    LazyLock::new(|| [configure(&version::TLS12), configure(&version::TLS13)]);

fn configure(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    configure_with(version, vec![kx_group::X25519])
}

fn configure_with(
    version: &'static SupportedProtocolVersion,
    kx_groups: Vec<&'static dyn SupportedKxGroup>,
) -> Arc<ClientConfig> {
    let provider = CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups,
        ..aws_lc_rs::default_provider()
    };
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(Path::new(CERTIFICATE)).expect("a PEM file");
    roots.add(certificate).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("a version with a cipher suite")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A ticket is asked for in TLS 1.2 too, though it is not kept.
    config.resumption =
        Resumption::disabled().tls12_resumption(Tls12Resumption::SessionIdOrTickets);
    Arc::new(config)
}

/// What one worker accepts TLS with.
pub(crate) fn acceptor() -> TlsAcceptor {
    SERVER.acceptor()
}

/// What a client needs to resume a session: it has shaken hands with another worker, whose
/// acceptor shares nothing with this one but the secret of the tickets.
fn acquainted(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::in_memory_sessions(1);
    let config = Arc::new(config);
    let host = ServerName::try_from(HOST).expect("a host's name");
    let mut client = ClientConnection::new(Arc::clone(&config), host).expect("a client");
    let mut server = SERVER.acceptor().accept().expect("memory");
    let mut out = vec![0; FLIGHT_BYTES_MAX];
    while client.wants_write() {
        let mut records = Vec::new();
        client.write_tls(&mut records).expect("memory");
        let mut written = server.open(&mut records, &mut Vec::new(), &mut out);
        // The ticket of TLS 1.3 goes ahead of what is said first.
        written += server.encrypt(b"-", false, &mut out[written..]);
        client.read_tls(&mut &out[..written]).expect("room for what is not decrypted");
        client.process_new_packets().expect("a handshake");
    }
    config
}

/// How a client that speaks TLS takes its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// By close_notify; TCP is left open until the server closes it.
    Notify,
    /// By close_notify and then by TCP.
    NotifyAndFin,
    /// By TCP alone, as if the connection had been cut.
    Fin,
}

/// How a client speaks TLS, as drawn from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// TLS 1.2 and no other, instead of 1.3.
    pub(crate) old: bool,
    /// Goes on with a session of an earlier connection.
    pub(crate) resumes: bool,
    pub(crate) farewell: ConnectionEnd,
    /// Its bytes arrive in pieces that are no records.
    pub(crate) split: bool,
    /// Bytes of its handshake that it sends at most.
    pub(crate) handshake_max: usize,
    /// What it sends at last, which is no record of its session.
    pub(crate) garbage: Vec<u8>,
}

impl Manner {
    /// A client that keeps to the protocol.
    pub(crate) fn good(old: bool) -> Manner {
        let farewell = ConnectionEnd::NotifyAndFin;
        Manner {
            old,
            resumes: false,
            farewell,
            split: false,
            handshake_max: usize::MAX,
            garbage: Vec::new(),
        }
    }

    /// Whether it does not, so that the server may end the connection with an alert.
    pub(crate) fn is_bad(&self) -> bool {
        self.handshake_max < usize::MAX || !self.garbage.is_empty()
    }
}

/// The TLS of one client.
pub(crate) struct Session {
    tls: ClientConnection,
    manner: Manner,
    /// What it says and has not encrypted yet.
    plain: Vec<u8>,
    /// Records that are not sent yet.
    pub(crate) outgoing: VecDeque<u8>,
    /// Bytes of the handshake that were handed out.
    handshake: usize,
    /// Bytes that a piece of `outgoing` has at least.
    piece_min: usize,
    left: bool,
    spoilt: bool,
    /// The server has said that no more follows.
    pub(crate) notified: bool,
    /// The server has sent an alert.
    pub(crate) alerted: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} bytes to send", self.manner, self.outgoing.len())
    }
}

impl Session {
    pub(crate) fn new(manner: Manner) -> Session {
        let config = &CLIENTS[usize::from(!manner.old)];
        let config = if manner.resumes { acquainted(config) } else { Arc::clone(config) };
        let host = ServerName::try_from(HOST).expect("a host's name");
        let mut tls = ClientConnection::new(config, host).expect("a client");
        tls.set_buffer_limit(None);
        let mut session = Session {
            tls,
            manner,
            plain: Vec::new(),
            outgoing: VecDeque::new(),
            handshake: 0,
            piece_min: 0,
            left: false,
            spoilt: false,
            notified: false,
            alerted: false,
        };
        session.gather();
        session
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether everything that it will ever say is handed out.
    pub(crate) fn has_said_all(&self) -> bool {
        let begun = !self.is_handshaking() || self.manner.handshake_max < usize::MAX;
        begun && self.outgoing.is_empty()
    }

    /// Has this go into the next record.
    pub(crate) fn say(&mut self, plain: &[u8]) {
        self.plain.extend_from_slice(plain);
    }

    /// Encrypts what it said, in as few records as there can be.
    pub(crate) fn encrypt(&mut self) {
        if !self.plain.is_empty() {
            self.tls.writer().write_all(&self.plain).expect("no limit");
            self.plain.clear();
            self.gather();
        }
    }

    /// Decrypts what arrived, and adds it to `plain`.
    pub(crate) fn hear(&mut self, mut records: &[u8], plain: &mut Vec<u8>) {
        while !records.is_empty() && !self.alerted {
            self.tls.read_tls(&mut records).expect("room for what is not decrypted");
            match self.tls.process_new_packets() {
                Ok(state) => {
                    let before = plain.len();
                    plain.resize(before + state.plaintext_bytes_to_read(), 0);
                    self.tls.reader().read_exact(&mut plain[before..]).expect("all of it");
                    assert!(!self.notified || plain.len() == before, "bytes after close_notify");
                    self.notified |= state.peer_has_closed();
                }
                Err(Error::AlertReceived(_)) if self.manner.is_bad() => self.alerted = true,
                Err(error) => panic!("what the server sent: {error}; {:?}", self.manner),
            }
        }
        if !self.is_handshaking() {
            let resumed = self.tls.handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(resumed, self.manner.resumes, "resumed? {:?}", self.manner);
        }
        self.gather();
    }

    /// Leaves, as is its manner: whether that takes the end of TCP's side.
    pub(crate) fn leave(&mut self) -> bool {
        if !self.left && self.manner.farewell != ConnectionEnd::Fin && !self.is_handshaking() {
            self.tls.send_close_notify();
            self.gather();
        }
        self.left = true;
        self.manner.farewell != ConnectionEnd::Notify
    }

    /// Has its garbage follow what it said.
    pub(crate) fn spoil(&mut self) {
        if !std::mem::replace(&mut self.spoilt, true) {
            self.outgoing.extend(&self.manner.garbage);
        }
    }

    /// The next bytes for the wire: all, or if it splits them a piece of `drawn` at least.
    pub(crate) fn next_piece(&mut self, drawn: usize) -> Vec<u8> {
        let len = match self.manner.split {
            true => drawn.max(self.piece_min).min(self.outgoing.len()),
            false => self.outgoing.len(),
        };
        self.outgoing.drain(..len).collect()
    }

    fn gather(&mut self) {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).expect("memory");
        }
        let room = self.manner.handshake_max.saturating_sub(self.handshake);
        records.truncate(room);
        self.handshake += records.len();
        self.outgoing.extend(records);
        // In ten pieces at most, so that it does not take for ever.
        self.piece_min = self.outgoing.len().div_ceil(10);
    }
}

/// What the steps of a client's handshake are taken for: whether each may cost much. With
/// `retried`, the client first offers a key of a kind that the server does not know.
pub(crate) fn costly_steps(old: bool, retried: bool) -> Vec<bool> {
    let config = match (old, retried) {
        (true, _) => Arc::clone(&CLIENTS[0]),
        (false, false) => Arc::clone(&CLIENTS[1]),
        (false, true) => {
            configure_with(&version::TLS13, vec![kx_group::MLKEM768, kx_group::X25519])
        }
    };
    let host = ServerName::try_from(HOST).expect("a name");
    let mut client = ClientConnection::new(config, host).expect("a client");
    let mut session = acceptor().accept().expect("memory");
    let (mut plain, mut out) = (Vec::new(), vec![0; FLIGHT_BYTES_MAX]);
    let mut steps = Vec::new();
    while client.is_handshaking() || client.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory");
        }
        steps.push(session.may_be_costly(&bytes));
        let written = session.open(&mut bytes, &mut plain, &mut out);
        client.read_tls(&mut &out[..written]).expect("records");
        client.process_new_packets().expect("what the server sent");
    }
    assert!(!session.is_handshaking());
    steps
}

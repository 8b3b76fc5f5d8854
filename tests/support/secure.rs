//! A client of its own making above TLS, by rustls: what [`Client`] does on TCP, and the
//! moments of TLS that other people's clients keep to themselves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::authority::Authority;
use super::client::{Client, get};
use super::site::{HOST, Site};
use super::torrent::{Torrent, announced};

/// The versions of TLS, the older one first.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A connection with TLS.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts the authority, speaks HTTP/1.1 by one version of TLS and resumes
/// nothing.
pub(crate) fn settings(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.root()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    let mut settings = builder.with_root_certificates(roots).with_no_client_auth();
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    settings.resumption = Resumption::disabled();
    settings
}

/// The same, but it resumes its last session if it can.
pub(crate) fn resuming(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut settings = settings(authority, version);
    settings.resumption = Resumption::in_memory_sessions(1);
    Arc::new(settings)
}

/// Connects to [`HOST`], which is to be at this address. The handshake comes with the first
/// bytes, or by [`Client::shake_hands`].
pub(crate) fn connect(to: SocketAddr, settings: &Arc<ClientConfig>) -> Client<Secure> {
    over(Client::connect(to), settings)
}

/// The same over a connection that there is.
pub(crate) fn over(plain: Client, settings: &Arc<ClientConfig>) -> Client<Secure> {
    Client::over(StreamOwned::new(session(settings), plain.stream))
}

/// A client's side of TLS, without a connection.
pub(crate) fn session(settings: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(settings), ServerName::try_from(HOST).unwrap()).unwrap()
}

/// The first record that a client sends.
pub(crate) fn client_hello(settings: &Arc<ClientConfig>) -> Vec<u8> {
    let mut hello = Vec::new();
    session(settings).write_tls(&mut hello).unwrap();
    hello
}

impl Site {
    /// Connects by the newest version of TLS.
    pub(crate) fn connect(&self) -> Client<Secure> {
        connect(self.v4, &Arc::new(settings(&self.authority, &TLS13)))
    }

    /// One connection by each version of TLS.
    pub(crate) fn connect_by_each(&self) -> [Client<Secure>; 2] {
        VERSIONS.map(|version| connect(self.v4, &Arc::new(settings(&self.authority, version))))
    }

    /// Asserts that it answers, whatever was done to it.
    #[track_caller]
    pub(crate) fn serves(&self) {
        for mut client in self.connect_by_each() {
            client.send(get(&Torrent::new(&self.tracker, 250).target(1, "")));
            announced(&client.reply());
        }
    }
}

impl Client<Secure> {
    /// Completes the handshake.
    #[track_caller]
    pub(crate) fn shake_hands(&mut self) {
        while self.stream.conn.is_handshaking() {
            self.stream.conn.complete_io(&mut self.stream.sock).unwrap();
        }
    }

    /// The certificate that it was shown, in this handshake or the one that it resumes.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.stream.conn.peer_certificates().unwrap()[0]
    }

    /// Ends this side as TLS has it, by `close_notify`; the other may still be read.
    #[track_caller]
    pub(crate) fn close_notify(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().unwrap();
    }

    /// Asserts that the other side ends with `close_notify` and then TCP's own end, without
    /// another byte.
    #[track_caller]
    pub(crate) fn ends_in_order(mut self) {
        self.meets_end();
        let got = self.stream.sock.read(&mut [0]);
        assert!(matches!(got, Ok(0)), "{got:?} after close_notify, not an end");
    }
}

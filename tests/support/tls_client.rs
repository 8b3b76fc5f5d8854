//! A TLS client on rustls: [`HttpClient`] over TLS, with access to the handshake and to
//! close_notify.

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
use super::client::{HttpClient, get_request};
use super::tls_tracker::{HOST, TlsTracker};
use super::torrent::{TestTorrent, parse_announce};

/// The versions of TLS, the older one first.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A connection with TLS.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A configuration that trusts the authority, offers HTTP/1.1 and one version of TLS, and does not
/// resume sessions.
pub(crate) fn client_config(
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

/// The same, with resumption of the last session.
pub(crate) fn resuming_config(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut settings = client_config(authority, version);
    settings.resumption = Resumption::in_memory_sessions(1);
    Arc::new(settings)
}

/// Connects to [`HOST`] at this address. The handshake happens with the first bytes, or by
/// [`HttpClient::handshake`].
pub(crate) fn connect_tls(to: SocketAddr, settings: &Arc<ClientConfig>) -> HttpClient<TlsStream> {
    over_tls(HttpClient::connect(to), settings)
}

/// The same over an existing connection.
pub(crate) fn over_tls(plain: HttpClient, settings: &Arc<ClientConfig>) -> HttpClient<TlsStream> {
    HttpClient::new(StreamOwned::new(client_session(settings), plain.stream))
}

/// The client's side of a TLS session, without a connection.
pub(crate) fn client_session(settings: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(settings), ServerName::try_from(HOST).unwrap()).unwrap()
}

/// The first record of a client.
pub(crate) fn client_hello(settings: &Arc<ClientConfig>) -> Vec<u8> {
    let mut hello = Vec::new();
    client_session(settings).write_tls(&mut hello).unwrap();
    hello
}

impl TlsTracker {
    /// Connects with TLS 1.3.
    pub(crate) fn connect(&self) -> HttpClient<TlsStream> {
        connect_tls(self.v4, &Arc::new(client_config(&self.authority, &TLS13)))
    }

    /// Connects with each version of TLS.
    pub(crate) fn connect_by_each(&self) -> [HttpClient<TlsStream>; 2] {
        VERSIONS
            .map(|version| connect_tls(self.v4, &Arc::new(client_config(&self.authority, version))))
    }

    /// Asserts that announces over each version of TLS are answered.
    #[track_caller]
    pub(crate) fn assert_serves(&self) {
        for mut client in self.connect_by_each() {
            client.send(get_request(&TestTorrent::new(&self.tracker, 250).target(1, "")));
            parse_announce(&client.read_response());
        }
    }
}

impl HttpClient<TlsStream> {
    /// Completes the handshake.
    #[track_caller]
    pub(crate) fn handshake(&mut self) {
        while self.stream.conn.is_handshaking() {
            self.stream.conn.complete_io(&mut self.stream.sock).unwrap();
        }
    }

    /// The tracker's certificate, from this handshake or from the resumed session.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.stream.conn.peer_certificates().unwrap()[0]
    }

    /// Sends close_notify; responses can still be read.
    #[track_caller]
    pub(crate) fn close_notify(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().unwrap();
    }

    /// Asserts that the tracker sends close_notify and then closes the connection, without another
    /// byte.
    #[track_caller]
    pub(crate) fn expect_close_notify(mut self) {
        self.expect_end();
        let got = self.stream.sock.read(&mut [0]);
        assert!(matches!(got, Ok(0)), "{got:?} after close_notify, not an end");
    }
}

//! The client's side of TLS, for threads that may block.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::provider;

/// Where systems keep the certificates of the authorities that they trust: Debian, Fedora,
/// openSUSE, Alpine.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The list of authorities that this system trusts, if it has one.
pub fn system_authorities() -> Option<&'static Path> {
    SYSTEM_BUNDLES.iter().map(Path::new).find(|path| fs::metadata(path).is_ok())
}

/// What a client trusts, and shows of itself.
#[derive(Clone, Debug)]
pub struct TlsClientSettings(Arc<ClientConfig>);

/// A certificate chain and its key, in PEM.
#[derive(Clone, Copy)]
pub struct ClientIdentity<'p> {
    pub chain: &'p [u8],
    pub key: &'p [u8],
}

impl TlsClientSettings {
    /// `authorities` in PEM are those that a server's certificate may lead to.
    ///
    /// # Errors
    /// There is no authority, or the identity is not usable; the text does not name files.
    pub fn new(
        authorities: &[u8],
        identity: Option<ClientIdentity<'_>>,
    ) -> Result<TlsClientSettings, TlsClientError> {
        let mut roots = RootCertStore::empty();
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities).collect();
        let certificates =
            certificates.map_err(|error| TlsClientError::Authorities(format!("{error}")))?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            let what = "there is no certificate of an authority in it, in PEM";
            return Err(TlsClientError::Authorities(what.to_owned()));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(provider(false)))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsClientError::Authorities(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(ClientIdentity { chain, key }) => {
                let chain = chain_of(chain).map_err(TlsClientError::Chain)?;
                let key = key_of(key).map_err(TlsClientError::Key)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| TlsClientError::Key(error.to_string()))?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(TlsClientSettings(Arc::new(config)))
    }

    /// Speaks TLS over `stream` to the server of this name or address. The handshake happens with
    /// the first bytes.
    ///
    /// # Errors
    /// `host` is no name that a certificate can have, or there is no memory.
    pub fn connect<S: Read + Write>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<TlsClientStream<S>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        Ok(TlsClientStream(StreamOwned::new(tls, stream)))
    }
}

/// Which of the files is to blame, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsClientError {
    Authorities(String),
    Chain(String),
    Key(String),
}

/// A TLS connection to a server. Reading continues after a timeout of the stream below; writing
/// does not.
#[derive(Debug)]
pub struct TlsClientStream<S: Read + Write>(StreamOwned<ClientConnection, S>);

impl<S: Read + Write> TlsClientStream<S> {
    /// The stream below.
    pub fn inner(&self) -> &S {
        &self.0.sock
    }
}

impl<S: Read + Write> Read for TlsClientStream<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl<S: Read + Write> Write for TlsClientStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn chain_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("there is no certificate in it, in PEM".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    }
}

fn key_of(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).flatten();
    let key = sections.find_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    key.ok_or_else(|| "there is no private key in it, in PEM without a password".to_owned())
}

//! What TLS needs on both sides: a certificate for the servers, and a configuration that trusts it
//! for the client.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, version};

/// The certificate, PEM.
pub const CHAIN: &str = "chain.pem";

/// The certificate's private key, PEM (PKCS#8).
pub const KEY: &str = "key.pem";

/// Both, as hitch wants it.
pub const KEY_AND_CHAIN: &str = "both.pem";

pub fn prepare() -> Result<()> {
    fs::create_dir_all(file(""))?;
    // An ECDSA P-256 certificate as a tracker would have it, except that it is its own issuer.
    // hitch fails if a client names a host and the certificate has no name at all.
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
         -subj /CN=tracker -addext basicConstraints=critical,CA:FALSE \
         -addext subjectAltName=DNS:tracker,IP:127.0.0.1 -out chain.pem -keyout key.pem";
    let mut openssl = Command::new("openssl");
    let output = openssl.args(arguments.split_whitespace()).current_dir(file("")).output()?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    let both = [fs::read(file(KEY))?, fs::read(file(CHAIN))?].concat();
    Ok(fs::write(file(KEY_AND_CHAIN), both)?)
}

/// The full path of one of the files above.
pub fn file(name: &str) -> PathBuf {
    crate::scratch("bench-tls").join(name)
}

/// The only key exchange and, for TLS 1.3, the first cipher suite of everything that is measured:
/// X25519 and AES-128-GCM with SHA-256.
pub fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let first = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| *suite != first);
    provider
}

/// A client of TLS 1.3 that resumes nothing and trusts [`CHAIN`] only.
pub fn client_config() -> Result<Arc<ClientConfig>> {
    static MADE: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(Arc::clone(made));
    }
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(file(CHAIN))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::clone(MADE.get_or_init(|| Arc::new(config))))
}

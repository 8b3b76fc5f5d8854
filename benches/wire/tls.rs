//! What TLS needs on both sides: a certificate for the servers, a configuration that trusts it
//! for the client, and wrk kept from resuming sessions.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, version};

/// The certificate, PEM.
pub(crate) const CHAIN: &str = "chain.pem";

/// The certificate's private key, PEM (PKCS#8).
pub(crate) const KEY: &str = "key.pem";

/// Both of them, as hitch wants it.
pub(crate) const KEY_AND_CHAIN: &str = "both.pem";

/// The library that keeps wrk from resuming sessions.
const FULL_HANDSHAKES: &str = "full_handshakes.so";

/// Makes all of them.
///
/// # Errors
///
/// If `openssl` or a C compiler is missing or fails, or the files cannot be written.
pub(crate) fn prepare() -> io::Result<()> {
    fs::create_dir_all(file(""))?;
    // An ECDSA P-256 certificate as a tracker would have it, but for being its own issuer.
    run("openssl", |command| {
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-nodes", "-days", "30", "-subj", "/CN=tracker", "-out", CHAIN]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", KEY]);
        // wrk sends the address as a name too, and hitch falls over it if the certificate has
        // no name at all.
        command.args(["-addext", "subjectAltName=DNS:tracker,IP:127.0.0.1"])
    })?;
    let both = [fs::read(file(KEY))?, fs::read(file(CHAIN))?].concat();
    fs::write(file(KEY_AND_CHAIN), both)?;

    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/wire/full_handshakes.c");
    run("cc", |command| command.args(["-O2", "-shared", "-fPIC", "-o", FULL_HANDSHAKES, source]))
}

/// The full path of one of the files above.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("wire-tls").join(name)
}

/// What makes the dynamic linker load [`FULL_HANDSHAKES`]: an assignment for `env`.
pub(crate) fn preload() -> String {
    format!("LD_PRELOAD={}", file(FULL_HANDSHAKES).display())
}

/// The only key exchange and, for TLS 1.3, the first cipher suite of everything that is
/// measured: X25519 and AES-128-GCM with SHA-256.
pub(crate) fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let first = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| *suite != first);
    provider
}

/// A client of TLS 1.3 that resumes nothing and trusts [`CHAIN`] only.
///
/// # Errors
///
/// If the certificate cannot be read.
pub(crate) fn client_configuration() -> io::Result<Arc<ClientConfig>> {
    static MADE: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(Arc::clone(made));
    }
    let made = build_client_configuration().map_err(|e| io::Error::other(e.to_string()))?;
    Ok(Arc::clone(MADE.get_or_init(|| Arc::new(made))))
}

fn build_client_configuration() -> Result<ClientConfig, Box<dyn Error>> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(file(CHAIN))?)?;
    let mut configuration = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    configuration.resumption = Resumption::disabled();
    Ok(configuration)
}

/// Runs a program in the directory of the files and waits for its success.
fn run(program: &str, arguments: impl Fn(&mut Command) -> &mut Command) -> io::Result<()> {
    let mut command = Command::new(program);
    command.current_dir(file(""));
    let output = arguments(&mut command)
        .output()
        .map_err(|error| io::Error::other(format!("{program} cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} failed: {complaint}")))
}

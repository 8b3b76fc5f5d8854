//! Certificates: from the files that the configuration lists to the one that a client gets.
//!
//! A file with a mistake yields one line that says what is wrong with it, and no file's
//! mistake hides another's. What works, but not for long or not well, is a warning.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys, SignatureAlgorithm, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use super::names::{Names, names_of};
use crate::config::{CertificateFiles, read_bounded};
use crate::files::Files;
use crate::limits::{CERTIFICATE_EXPIRY_NOTICE_S, CERTIFICATE_FILE_BYTES_MAX, CHAIN_BYTES_MAX};

/// Bytes of a line of a PEM file that a message may show: more than any mark has.
const MARK_BYTES_SHOWN: usize = 48;

/// What is said of a file that is [`is_der`].
const NOT_PEM: &str = "not PEM but DER or PKCS #12, which openssl converts: \
                       \"openssl x509 -inform DER\" a certificate, \"openssl pkey -inform DER\" \
                       a key, \"openssl pkcs12 -nodes\" both";

/// Certificates with their keys, at least one, and the host names that they are for.
#[derive(Debug)]
pub struct Certificates {
    entries: Vec<Entry>,
    names: Names,
    /// The first, and those that share a name with it: for hosts that are none of `names`.
    others: Vec<usize>,
}

/// What [`Certificates::load`] makes of files without a mistake.
#[derive(Debug)]
pub struct Loaded {
    /// Fit for use.
    pub certificates: Certificates,
    /// What an operator should look into, each one line that begins with the place where the
    /// configuration lists the certificate.
    pub warnings: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    /// The last second in which it is valid.
    until: ASN1Time,
}

/// A chain that could be parsed, the certificate of the host first.
struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    names: Vec<String>,
    until: ASN1Time,
    warnings: Vec<String>,
}

impl Certificates {
    /// Reads all `files`, opened by `source`. `now_unix_s`, in seconds since 1970, is what
    /// validity is judged by; a certificate that is not valid then is served all the same, with
    /// a warning.
    ///
    /// # Errors
    /// `files` is empty, or has mistakes: a file cannot be read, is longer than
    /// [`CERTIFICATE_FILE_BYTES_MAX`] or is no PEM; a chain has no certificate, one that
    /// cannot be used, or more than [`CHAIN_BYTES_MAX`]; there is not exactly one key, or it
    /// is encrypted, of an unknown type or of another certificate. Each mistake is one line
    /// that begins with its place in the configuration.
    pub fn load(
        files: &[CertificateFiles],
        source: &Files,
        now_unix_s: i64,
    ) -> Result<Loaded, Vec<String>> {
        let mut certificates =
            Certificates { entries: Vec::new(), names: Names::default(), others: vec![0] };
        let (mut warnings, mut mistakes) = (Vec::new(), Vec::new());
        for files in files {
            match Entry::load(files, source, now_unix_s, &mut warnings) {
                Ok(entry) => certificates.entries.push(entry),
                Err(wrong) => mistakes.extend(wrong),
            }
        }
        if files.is_empty() {
            mistakes.push("tls.certificates: there are none".to_string());
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        for (index, owner, name) in certificates.assign() {
            let what = format!("not served to {name}: {} is", files[owner].chain.display());
            warnings.push(about(&files[index], &files[index].chain, &what));
        }
        Ok(Loaded { certificates, warnings })
    }

    /// Gives each name to its certificates. Returns what is served to nobody: a certificate, the
    /// one that is served in its place because its key is of the same kind, and the name.
    fn assign(&mut self) -> Vec<(usize, usize, String)> {
        let kind = |index: usize| self.entries[index].key.key.algorithm();
        let mut unserved = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            for name in &entry.names {
                let owners = self.names.owners(name);
                match owners.iter().find(|&&owner| kind(owner) == kind(index)) {
                    Some(&owner) => unserved.push((index, owner, name.clone())),
                    None => {
                        if owners.contains(&0) && !self.others.contains(&index) {
                            self.others.push(index);
                        }
                        self.names.add(name, index);
                    }
                }
            }
        }
        unserved
    }

    /// The certificate for a client that connects to `server_name`, in any case and with or
    /// without a dot at its end: one that has this very name, or else one that has it by a
    /// wildcard. If there is neither, or the client named no host, the first of the list. Of
    /// several with keys of different kinds, the first that can sign as the client wants, by
    /// one of `schemes`.
    pub fn choose(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> &Arc<CertifiedKey> {
        let fit = match server_name.map_or(&[][..], |name| self.names.find(name)) {
            [] => &self.others,
            named => named,
        };
        let signs = |index: &&usize| self.entries[**index].key.key.choose_scheme(schemes).is_some();
        let index = match fit {
            [only] => only,
            several => several.iter().find(signs).unwrap_or(&several[0]),
        };
        &self.entries[*index].key
    }

    /// A line for each, as in "certificate for example.org, *.example.org until 2027-02-01".
    pub fn describe(&self) -> Vec<String> {
        let line = |Entry { names, until, .. }: &Entry| match names.as_slice() {
            [] => format!("certificate for no host until {}", date(*until)),
            names => format!("certificate for {} until {}", names.join(", "), date(*until)),
        };
        self.entries.iter().map(line).collect()
    }

    /// The host names of each, as in "example.org, *.example.org", and when it ends, in seconds
    /// since 1970.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        let expiry = |Entry { names, until, .. }: &Entry| (names.join(", "), until.timestamp());
        self.entries.iter().map(expiry).collect()
    }
}

impl Entry {
    /// Adds to `warnings` even if it fails.
    fn load(
        files: &CertificateFiles,
        source: &Files,
        now_unix_s: i64,
        warnings: &mut Vec<String>,
    ) -> Result<Entry, Vec<String>> {
        let about_chain = |what: String| about(files, &files.chain, &what);
        let about_key = |what: String| about(files, &files.key, &what);
        let chain = read_chain(&files.chain, source, now_unix_s).map_err(about_chain);
        let key = read_key(&files.key, source).map_err(about_key);
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
        };
        let Chain { certificates, names, until, warnings: of_chain } = chain;
        warnings.extend(of_chain.into_iter().map(about_chain));
        if key.algorithm() == SignatureAlgorithm::RSA {
            warnings.push(about_key(
                "an RSA key: each handshake costs about five times what it does with ECDSA P-256"
                    .to_string(),
            ));
        }
        let key = CertifiedKey::new(certificates, key);
        match key.keys_match() {
            Ok(()) => Ok(Entry { key: Arc::new(key), names, until }),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                let chain = files.chain.display();
                Err(vec![about_key(format!("not the key of the first certificate in {chain}"))])
            }
            Err(error) => Err(vec![about_chain(format!("certificate 1 cannot be used: {error}"))]),
        }
    }
}

/// A message about `path`, one of `files`.
fn about(files: &CertificateFiles, path: &Path, what: &str) -> String {
    format!("{}: tls.certificates: {}: {what}", files.place, path.display())
}

fn read_chain(path: &Path, source: &Files, now_unix_s: i64) -> Result<Chain, String> {
    let text = read_file(path, source)?;
    let blocks = blocks(&text)?;
    let swapped = blocks.iter().any(|(kind, _)| {
        matches!(
            kind,
            SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey
        )
    });
    let certificates: Vec<CertificateDer<'static>> =
        blocks.into_iter().filter_map(|(kind, der)| CertificateDer::from_pem(kind, der)).collect();
    if certificates.is_empty() {
        return Err(match swapped {
            _ if is_der(&text) => NOT_PEM.to_string(),
            true => "no certificate but a private key: are chain and key swapped?".to_string(),
            false => "an empty chain: nothing begins with -----BEGIN CERTIFICATE-----".to_string(),
        });
    }
    let total: usize = certificates.iter().map(|certificate| certificate.len()).sum();
    if total > CHAIN_BYTES_MAX {
        return Err(format!(
            "a chain of {total} bytes, {CHAIN_BYTES_MAX} at most: only the certificate of the \
             host and those of its issuers belong there, without the root"
        ));
    }
    let parsed = certificates.iter().enumerate().map(|(index, der)| {
        parse(der).ok_or_else(|| format!("certificate {} cannot be parsed", index + 1))
    });
    let parsed: Vec<X509Certificate<'_>> = parsed.collect::<Result<_, String>>()?;
    if parsed[0].version() != X509Version::V3 {
        return Err("certificate 1 is of an old version, without extensions".to_string());
    }
    Ok(Chain {
        names: names_of(&parsed[0]),
        until: parsed[0].validity().not_after,
        warnings: chain_warnings(&parsed, now_unix_s),
        certificates,
    })
}

/// `None` also if there is more than a certificate.
fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(certificate)
}

fn chain_warnings(chain: &[X509Certificate<'_>], now_unix_s: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, certificate) in chain.iter().enumerate() {
        let (from, until) = (certificate.validity().not_before, certificate.validity().not_after);
        let what = if now_unix_s < from.timestamp() {
            format!("is not valid before {}", date(from))
        } else if now_unix_s > until.timestamp() {
            format!("expired on {}", date(until))
        } else if now_unix_s > until.timestamp() - CERTIFICATE_EXPIRY_NOTICE_S {
            format!("expires on {}", date(until))
        } else {
            continue;
        };
        warnings.push(format!("certificate {} {what}", index + 1));
    }
    for (index, pair) in chain.windows(2).enumerate() {
        if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
            let (one, next) = (index + 1, index + 2);
            warnings.push(format!(
                "certificate {next} is not that of the issuer of certificate {one}: each \
                 belongs below the one that it issued"
            ));
        }
    }
    warnings
}

fn read_key(path: &Path, source: &Files) -> Result<Arc<dyn SigningKey>, String> {
    let text = read_file(path, source)?;
    // The second is how encryption was marked before PKCS#8.
    let marks = [&b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..], b"Proc-Type: 4,ENCRYPTED"];
    if marks.iter().any(|mark| text.windows(mark.len()).any(|part| part == *mark)) {
        let path = path.display();
        return Err(format!(
            "an encrypted key: decrypt it by \"openssl pkey -in {path} -out FILE\", readable \
             only by the user that runs the tracker"
        ));
    }
    let blocks = blocks(&text)?;
    let swapped = blocks.iter().any(|(kind, _)| *kind == SectionKind::Certificate);
    let mut keys: Vec<PrivateKeyDer<'static>> =
        blocks.into_iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der)).collect();
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => default_provider().key_provider.load_private_key(key).map_err(|_| {
            "damaged, or of a kind that is not supported: ECDSA on P-256, P-384 or P-521, \
             RSA of 2048 to 8192 bits and Ed25519 are"
                .to_string()
        }),
        (Some(_), others) => Err(format!("{} private keys, where one is expected", others + 1)),
        (None, _) if is_der(&text) => Err(NOT_PEM.to_string()),
        (None, _) if swapped => {
            Err("no private key but a certificate: are chain and key swapped?".to_string())
        }
        (None, _) => Err("no private key: nothing begins with -----BEGIN PRIVATE KEY----- or \
                          the like"
            .to_string()),
    }
}

/// The bytes of a file of [`CERTIFICATE_FILE_BYTES_MAX`] at most.
fn read_file(path: &Path, source: &Files) -> Result<Vec<u8>, String> {
    let bytes = source
        .open(path)
        .and_then(|file| read_bounded(file, CERTIFICATE_FILE_BYTES_MAX))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > CERTIFICATE_FILE_BYTES_MAX {
        return Err(format!("longer than {CERTIFICATE_FILE_BYTES_MAX} bytes: no chain and no key"));
    }
    Ok(bytes)
}

/// Whether this may be what a block of PEM holds, by itself: an ASN.1 sequence, in which there is
/// a version or a number of unused bits of 0.
fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) && bytes.contains(&0)
}

/// The blocks of a PEM file whose kinds are known.
fn blocks(text: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, String> {
    // With the mark that editors of another system put in front, the first line is no line
    // of PEM, and the first block would be passed over.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let blocks: Result<Vec<_>, _> = PemObject::pem_slice_iter(text).collect();
    blocks.map_err(|error| match error {
        PemError::MissingSectionEnd { end_marker } => match shown(&end_marker) {
            Some(mark) => format!("damaged: no -----END {mark}-----"),
            None => "damaged: a block without line ends".to_string(),
        },
        PemError::IllegalSectionStart { line } => match shown(&line) {
            Some(line) => format!("damaged: {line:?} begins no block"),
            None => "damaged: what begins with -----BEGIN has no ----- at its end".to_string(),
        },
        PemError::Base64Decode(_) => "damaged: a block that is not base64".to_string(),
        other => format!("damaged: {other}"),
    })
}

/// A part of a PEM file, if it can be no part of a key: lines that run together have both a mark
/// and what it marks, and messages are kept and read by others.
fn shown(part: &[u8]) -> Option<&str> {
    let harmless = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'-');
    let text = str::from_utf8(part).ok()?.trim_end();
    (text.len() <= MARK_BYTES_SHOWN && text.bytes().all(|byte| harmless(&byte))).then_some(text)
}

/// As in 2027-02-01.
fn date(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}

//! Certificates: reading the configured files, and choosing the certificate for a client.
//!
//! Each invalid file yields one message, so that all mistakes are found in one reading. What works,
//! but not for long or not well, yields a warning.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys, SignatureAlgorithm, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Version;

use super::names::{HostNames, addresses_of, names_of};
use super::validity::{Validity, date};
use crate::config::CertificateFiles;
use crate::limits::{CERTIFICATE_FILE_BYTES_MAX, CHAIN_BYTES_MAX};
use crate::os::FileSource;
use crate::text_file::{not_utf8, read_bounded};

/// Bytes of a line of a PEM file that a message may repeat: longer than any BEGIN or END line.
const MARK_BYTES_SHOWN: usize = 48;

/// The message about a file for which [`is_der`] holds.
const NOT_PEM: &str = "not PEM but DER or PKCS #12, which openssl converts: \
                       \"openssl x509 -inform DER\" a certificate, \"openssl pkey -inform DER\" \
                       a key, \"openssl pkcs12 -nodes\" both";

/// The identifiers of the two kinds of fields (RFC 3279 section 2.3.5), in DER. Explicit parameters
/// of an elliptic curve contain one of them; the name of a curve does not.
const FIELD_TYPES: [[u8; 9]; 2] = [
    [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x01, 0x01],
    [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x01, 0x02],
];

/// At least one certificate with its key, and the hosts that they are for.
#[derive(Debug)]
pub struct Certificates {
    entries: Vec<ServedCertificate>,
    names: HostNames,
    /// Indices by the IP address that a certificate is for.
    addresses: HashMap<IpAddr, Vec<usize>>,
    /// The first certificate, and those that share a name with it: for unknown host names.
    others: Vec<usize>,
}

/// The result of [`Certificates::load`].
#[derive(Debug)]
pub struct LoadedCertificates {
    pub certificates: Certificates,
    /// One line each, which begins with the place where the configuration lists the certificate.
    pub warnings: Vec<String>,
}

#[derive(Debug)]
struct ServedCertificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// One for each certificate of the chain.
    validity: Vec<Validity>,
    /// How a message about the chain begins.
    place: String,
}

/// What metrics and the operations page show of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// Its host names, as in "example.org, *.example.org", or else its addresses.
    pub names: String,
    pub validity: Validity,
}

/// A parsed chain; the certificate of the host is the first.
struct CertificateChain {
    certificates: Vec<CertificateDer<'static>>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    validity: Vec<Validity>,
    warnings: Vec<String>,
    /// Why the first certificate cannot be used.
    fault: Option<String>,
}

impl Certificates {
    /// Reads all `files`, opened by `source`. A certificate that is not valid at `now_unix_s`, in
    /// seconds since 1970, is served nevertheless, with a warning.
    ///
    /// # Errors
    /// `files` is empty; a file cannot be read, is longer than [`CERTIFICATE_FILE_BYTES_MAX`] or is
    /// not PEM; a chain has no certificate, an unusable one, or more than [`CHAIN_BYTES_MAX`];
    /// there is not exactly one key, or it is encrypted, of an unknown type or of another
    /// certificate. Each mistake is one line that begins with its place in the configuration.
    pub fn load(
        files: &[CertificateFiles],
        source: &FileSource,
        now_unix_s: i64,
    ) -> Result<LoadedCertificates, Vec<String>> {
        let mut certificates = Certificates {
            entries: Vec::new(),
            names: HostNames::default(),
            addresses: HashMap::new(),
            others: vec![0],
        };
        let (mut warnings, mut mistakes) = (Vec::new(), Vec::new());
        for files in files {
            match ServedCertificate::load(files, source, now_unix_s, &mut warnings) {
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
        Ok(LoadedCertificates { certificates, warnings })
    }

    /// Assigns names and addresses to certificates. Returns which are never served: a certificate,
    /// the earlier one with a key of the same kind that replaces it, and the name.
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
            // A shared address needs no warning: it matters only to clients without a server name.
            for &address in &entry.addresses {
                let owners = self.addresses.entry(address).or_default();
                if owners.iter().all(|&owner| kind(owner) != kind(index)) {
                    owners.push(index);
                }
            }
        }
        unserved
    }

    /// The certificate for a client that connects to `server_name`, in any case and with or without
    /// a dot at its end: one with exactly this name, else one with a matching wildcard, else the
    /// first of the list. Of several with keys of different kinds, the first that can sign with one
    /// of the client's `schemes`.
    pub fn choose(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> &Arc<CertifiedKey> {
        self.pick(server_name.map_or(&[], |name| self.names.find(name)), schemes)
    }

    /// The certificate for a client that sends no server name, by the address that it connected to:
    /// one for this address, else the first of the list.
    pub fn choose_by_address(
        &self,
        address: IpAddr,
        schemes: &[SignatureScheme],
    ) -> &Arc<CertifiedKey> {
        let owners = self.addresses.get(&address.to_canonical());
        self.pick(owners.map_or(&[], Vec::as_slice), schemes)
    }

    /// Whether any certificate is for an IP address.
    pub fn have_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// One of `fit`, or of `others` if `fit` is empty.
    fn pick(&self, fit: &[usize], schemes: &[SignatureScheme]) -> &Arc<CertifiedKey> {
        let fit = if fit.is_empty() { &self.others } else { fit };
        let signs = |index: &&usize| self.entries[**index].key.key.choose_scheme(schemes).is_some();
        let index = match fit {
            [only] => only,
            several => several.iter().find(signs).unwrap_or(&several[0]),
        };
        &self.entries[*index].key
    }

    /// One log line each, as in "certificate for example.org, *.example.org until 2027-02-01".
    pub fn describe(&self) -> Vec<String> {
        let line = |CertificateStatus { names, validity }: CertificateStatus| {
            let names = if names.is_empty() { "no host" } else { &names };
            format!("certificate for {names} until {}", date(validity.until_unix_s))
        };
        self.status().into_iter().map(line).collect()
    }

    pub fn status(&self) -> Vec<CertificateStatus> {
        self.entries.iter().map(ServedCertificate::term).collect()
    }

    /// The warnings that are due at `now_unix_s` if the last were given at `last_unix_s`: that a
    /// certificate of a chain has expired or soon will. Each is given once when it becomes true,
    /// and then once a day, in the form of [`LoadedCertificates::warnings`].
    pub fn new_warnings(&self, last_unix_s: i64, now_unix_s: i64) -> Vec<String> {
        let of_entry = |entry: &ServedCertificate| -> Vec<String> {
            let news = entry.validity.iter().zip(1..);
            let news =
                news.filter_map(|(it, n)| Some((n, it.new_warnings(last_unix_s, now_unix_s)?)));
            news.map(|(n, what)| format!("{}: certificate {n} {what}", entry.place)).collect()
        };
        self.entries.iter().flat_map(of_entry).collect()
    }

    /// The next second after `now_unix_s` with such a warning.
    pub fn next_change(&self, now_unix_s: i64) -> Option<i64> {
        let all = self.entries.iter().flat_map(|entry| &entry.validity);
        all.filter_map(|validity| validity.next_change(now_unix_s)).min()
    }
}

impl ServedCertificate {
    /// Appends to `warnings`, also if it fails.
    fn load(
        files: &CertificateFiles,
        source: &FileSource,
        now_unix_s: i64,
        warnings: &mut Vec<String>,
    ) -> Result<ServedCertificate, Vec<String>> {
        let about_chain = |what: String| about(files, &files.chain, &what);
        let about_key = |what: String| about(files, &files.key, &what);
        let chain = read_chain(files, source, now_unix_s).map_err(about_chain);
        let key = read_key(&files.key, source).map_err(about_key);
        let (chain, (key, is_explicit)) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => {
                let of_chain = chain.map_or_else(Some, |chain| chain.fault.map(about_chain));
                return Err(of_chain.into_iter().chain(key.err()).collect());
            }
        };
        let CertificateChain {
            certificates,
            names,
            addresses,
            validity,
            warnings: of_chain,
            fault,
        } = chain;
        warnings.extend(of_chain.into_iter().map(about_chain));
        if key.algorithm() == SignatureAlgorithm::RSA {
            warnings.push(about_key(
                "an RSA key: each handshake costs about five times what it does with ECDSA P-256"
                    .to_string(),
            ));
        }
        let key = CertifiedKey::new(certificates, key);
        let chain = files.chain.display();
        let mut mismatch = format!("not the key of the first certificate in {chain}");
        if is_explicit {
            mismatch += &format!(", and {}", explicit_key(&files.key));
        }
        // Checked first: other faults of the first certificate matter only in the right order.
        if let Some(index @ 1..) = owner(&key) {
            let n = index + 1;
            mismatch += &format!(
                " but that of certificate {n}: they are in the wrong order, the certificate of \
                 the host comes first and each issuer's below"
            );
            return Err(vec![about_key(mismatch)]);
        }
        if let Some(what) = fault {
            return Err(vec![about_chain(what)]);
        }
        match key.keys_match() {
            Ok(()) => {
                let (key, place) = (Arc::new(key), place(files, &files.chain));
                Ok(ServedCertificate { key, names, addresses, validity, place })
            }
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(vec![about_key(mismatch)])
            }
            Err(error) => Err(vec![about_chain(format!("certificate 1 cannot be used: {error}"))]),
        }
    }

    fn term(&self) -> CertificateStatus {
        let names = match self.names.as_slice() {
            [] => self.addresses.iter().map(IpAddr::to_string).collect::<Vec<String>>().join(", "),
            names => names.join(", "),
        };
        CertificateStatus { names, validity: self.validity[0] }
    }
}

/// The index of the certificate in its chain that a key belongs to.
fn owner(key: &CertifiedKey) -> Option<usize> {
    let public = key.key.public_key()?;
    let has_it = |certificate: X509Certificate<'_>| certificate.public_key().raw == &public[..];
    key.cert.iter().position(|der| parse(der).is_some_and(has_it))
}

/// Where the configuration lists `path`, one of `files`.
fn place(files: &CertificateFiles, path: &Path) -> String {
    format!("{}: tls.certificates: {}", files.place, path.display())
}

/// A message about `path`, one of `files`.
fn about(files: &CertificateFiles, path: &Path, what: &str) -> String {
    format!("{}: {what}", place(files, path))
}

fn read_chain(
    files: &CertificateFiles,
    source: &FileSource,
    now_unix_s: i64,
) -> Result<CertificateChain, String> {
    let text = read_file(&files.chain, source)?;
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
    let fault = fault(&parsed[0], files.key.display()).map(|what| format!("certificate 1 {what}"));
    let validity: Vec<Validity> = parsed.iter().map(validity).collect();
    Ok(CertificateChain {
        names: names_of(&parsed[0]),
        addresses: addresses_of(&parsed[0]),
        warnings: chain_warnings(&parsed, &validity, now_unix_s),
        fault,
        validity,
        certificates,
    })
}

/// `None` if it is not a certificate, or if more follows it.
fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(certificate)
}

/// Why clients reject a certificate for any host, and how to mend it and its `key`.
fn fault(certificate: &X509Certificate<'_>, key: impl Display) -> Option<String> {
    let version = certificate.version();
    if version != X509Version::V3 {
        let version = version.0.saturating_add(1);
        return Some(format!(
            "is of an old version, without extensions (X.509 v{version}): have it issued anew as \
             v3 and with a subjectAltName, as by \"openssl req -x509 -addext \
             subjectAltName=DNS:HOST\", or \"openssl x509 -req -extfile FILE\" with \
             subjectAltName=DNS:HOST in that file"
        ));
    }
    has_explicit_parameters(certificate.public_key().raw).then(|| {
        format!(
            "has a key with explicit parameters in place of the name of its curve: convert the \
             key by \"openssl ec -in {key} -param_enc named_curve -out FILE\", and have the \
             certificate issued anew for it"
        )
    })
}

/// Whether a key in DER, public or private, describes its curve by parameters instead of naming it,
/// which certificates must not (RFC 5480 section 2.1.1).
fn has_explicit_parameters(der: &[u8]) -> bool {
    der.windows(FIELD_TYPES[0].len()).any(|part| FIELD_TYPES.iter().any(|field| part == field))
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let validity = certificate.validity();
    Validity {
        from_unix_s: validity.not_before.timestamp(),
        until_unix_s: validity.not_after.timestamp(),
    }
}

fn chain_warnings(
    chain: &[X509Certificate<'_>],
    validity: &[Validity],
    now_unix_s: i64,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (certificate, (validity, n)) in chain.iter().zip(validity.iter().zip(1..)) {
        // Clients ignore a root in the chain: they have their own copy.
        let is_root = certificate.issuer().as_raw() == certificate.subject().as_raw();
        let fault = if is_root { None } else { fault(certificate, "KEY") };
        let whats = validity.warning(now_unix_s).into_iter().chain(fault);
        warnings.extend(whats.map(|what| format!("certificate {n} {what}")));
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

/// The key, and whether it [`has_explicit_parameters`].
fn read_key(path: &Path, source: &FileSource) -> Result<(Arc<dyn SigningKey>, bool), String> {
    let text = read_file(path, source)?;
    // The second marks an encrypted key in the format before PKCS#8.
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
        (Some(key), 0) => {
            let is_explicit = has_explicit_parameters(key.secret_der());
            let loaded = default_provider().key_provider.load_private_key(key);
            loaded.map(|key| (key, is_explicit)).map_err(|_| match is_explicit {
                true => explicit_key(path),
                false => "damaged, or of a kind that is not supported: ECDSA on P-256, P-384 or \
                          P-521, RSA of 2048 to 8192 bits and Ed25519 are"
                    .to_string(),
            })
        }
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

/// The message about a key that [`has_explicit_parameters`].
fn explicit_key(path: &Path) -> String {
    format!(
        "a key with explicit parameters in place of the name of its curve: convert it by \
         \"openssl ec -in {} -param_enc named_curve -out FILE\", readable only by the user that \
         runs the tracker",
        path.display()
    )
}

/// Reads a file of at most [`CERTIFICATE_FILE_BYTES_MAX`].
fn read_file(path: &Path, source: &FileSource) -> Result<Vec<u8>, String> {
    let bytes = source
        .open(path)
        .and_then(|file| read_bounded(file, CERTIFICATE_FILE_BYTES_MAX))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > CERTIFICATE_FILE_BYTES_MAX {
        return Err(format!("longer than {CERTIFICATE_FILE_BYTES_MAX} bytes: no chain and no key"));
    }
    if let Some(what) = not_utf8(&bytes) {
        return Err(what);
    }
    Ok(bytes)
}

/// Whether this may be DER: an ASN.1 sequence with a zero byte in it.
fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) && bytes.contains(&0)
}

/// The blocks of a PEM file that rustls knows.
fn blocks(text: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, String> {
    // With a byte order mark in front, the first line is no PEM line and its block would be
    // skipped.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let blocks: Result<Vec<_>, _> = PemObject::pem_slice_iter(text).collect();
    blocks.map_err(|error| match error {
        PemError::MissingSectionEnd { end_marker } => match printable(&end_marker) {
            Some(mark) => format!("damaged: no -----END {mark}-----"),
            None => "damaged: a block without line ends".to_string(),
        },
        PemError::IllegalSectionStart { line } => match printable(&line) {
            Some(line) => format!("damaged: {line:?} begins no block"),
            None => "damaged: what begins with -----BEGIN has no ----- at its end".to_string(),
        },
        PemError::Base64Decode(_) => "damaged: a block that is not base64".to_string(),
        other => format!("damaged: {other}"),
    })
}

/// A part of a PEM file, if it cannot contain a part of a key: messages end up in logs.
fn printable(part: &[u8]) -> Option<&str> {
    let harmless = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'-');
    let text = str::from_utf8(part).ok()?.trim_end();
    (text.len() <= MARK_BYTES_SHOWN && text.bytes().all(|byte| harmless(&byte))).then_some(text)
}

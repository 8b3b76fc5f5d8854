//! Certificates made by the `openssl` command: a root that clients trust, an intermediate
//! certificate that they do not know, and leaf certificates for trackers. A client verifies a
//! tracker only if the tracker sends its whole chain.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::requirements::TempDir;

/// The configuration of openssl, so that it does not read the machine's own.
const CONFIG: &str = "\
[req]
distinguished_name = nothing
prompt = no
[nothing]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[tracker]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
";

/// The configuration of `openssl ca`, the only command of openssl that sets dates. It needs an
/// empty file `index.txt` beside it.
pub(crate) const CA_CONFIG: &str = "\
[ca]
default_ca = any
[any]
database = index.txt
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = default
copy_extensions = copy
policy = all
[all]
commonName = optional
organizationName = optional
";

/// The kinds of keys, each in its traditional PEM form. The other tests of certificates use PKCS#8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// RSA of 2048 bits, as PKCS#1.
    Rsa,
    /// ECDSA on P-256, as SEC1.
    P256,
}

impl KeyKind {
    pub(crate) const ALL: [KeyKind; 2] = [KeyKind::Rsa, KeyKind::P256];

    /// The openssl command that makes a key, and the first line of its file.
    fn recipe(self) -> (&'static [&'static str], &'static str) {
        match self {
            KeyKind::Rsa => (&["genrsa", "-traditional"], "-----BEGIN RSA PRIVATE KEY-----"),
            KeyKind::P256 => (
                &["ecparam", "-genkey", "-noout", "-name", "prime256v1"],
                "-----BEGIN EC PRIVATE KEY-----",
            ),
        }
    }
}

/// A certification authority, with a directory for all that it issues.
pub(crate) struct Authority {
    scratch: TempDir,
    /// The addresses of the hosts that it issues certificates for.
    addresses: Vec<IpAddr>,
}

impl Authority {
    /// A new authority for hosts at these addresses.
    pub(crate) fn new(addresses: &[IpAddr]) -> Authority {
        let scratch = TempDir::new("authority");
        let authority = Authority { scratch, addresses: addresses.to_vec() };
        fs::write(authority.path("openssl.cnf"), CONFIG).unwrap();
        for (name, above) in [("root", None), ("middle", Some("root"))] {
            authority.make_key(name, KeyKind::P256);
            authority.certify(name, above, "authority", &[]);
        }
        authority
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The file of the root's certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("root.pem")
    }

    /// Issues `NAME.pem`, a chain, and `NAME.key` for the host of this name, and replaces existing
    /// ones. Returns the leaf certificate.
    pub(crate) fn issue(&self, name: &str, key: KeyKind) -> CertificateDer<'static> {
        self.issue_as(name, name, key)
    }

    /// The same, for a host of another name.
    pub(crate) fn issue_as(&self, name: &str, host: &str, key: KeyKind) -> CertificateDer<'static> {
        let addresses = self.addresses.iter().map(|address| format!(",IP:{address}"));
        self.issue_for(name, &format!("DNS:{host}{}", addresses.collect::<String>()), key)
    }

    /// The same, with these names in the certificate, as in "DNS:example.org,IP:192.0.2.1".
    pub(crate) fn issue_for(
        &self,
        name: &str,
        names: &str,
        key: KeyKind,
    ) -> CertificateDer<'static> {
        self.issue_with(name, "tracker", names, key)
    }

    /// The same for a "tracker" or a "client".
    pub(crate) fn issue_with(
        &self,
        name: &str,
        purpose: &str,
        names: &str,
        key: KeyKind,
    ) -> CertificateDer<'static> {
        self.make_key(name, key);
        let names = format!("subjectAltName = {names}");
        self.certify(name, Some("middle"), purpose, &["-addext", &names]);
        let file = self.path(&format!("{name}.pem"));
        let chain = [&file, &self.path("middle.pem")].map(|part| fs::read_to_string(part).unwrap());
        fs::write(&file, chain.concat()).unwrap();
        CertificateDer::from_pem_file(&file).unwrap()
    }

    /// Makes `NAME.pem` and `NAME.key` for the host of this name: a self-signed certificate with
    /// this period of validity.
    pub(crate) fn issue_until(&self, name: &str, from_unix_s: u64, until_unix_s: u64) {
        fs::write(self.path("ca.cnf"), CA_CONFIG).unwrap();
        fs::write(self.path("index.txt"), "").unwrap();
        self.make_key(name, KeyKind::P256);
        let [key, request, out] = [".key", ".csr", ".pem"].map(|end| format!("{name}{end}"));
        let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
        self.openssl(&[
            "req", "-new", "-key", &key, "-out", &request, "-subj", &subject, "-addext", &names,
        ]);
        let [from, until] = [from_unix_s, until_unix_s].map(|unix_s| {
            let at = format!("@{unix_s}");
            let output = Command::new("date").args(["-u", "-d", &at, "+%Y%m%d%H%M%SZ"]).output();
            String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
        });
        self.openssl(&[
            "ca",
            "-config",
            "ca.cnf",
            "-batch",
            "-notext",
            "-selfsign",
            "-keyfile",
            &key,
            "-in",
            &request,
            "-out",
            &out,
            "-startdate",
            &from,
            "-enddate",
            &until,
        ]);
    }

    /// A file of its directory.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory().join(file)
    }

    fn make_key(&self, name: &str, key: KeyKind) {
        let (command, beginning) = key.recipe();
        let file = format!("{name}.key");
        self.openssl(&[command, &["-out", &file]].concat());
        let text = fs::read_to_string(self.path(&file)).unwrap();
        assert!(text.starts_with(beginning), "{key:?}: {}", text.lines().next().unwrap());
    }

    /// Makes `NAME.pem` for `NAME.key`, signed by the authority `above`, or self-signed without
    /// one.
    fn certify(&self, name: &str, above: Option<&str>, extensions: &str, more: &[&str]) {
        let [key, out, subject] = [".key", ".pem", ""].map(|end| format!("{name}{end}"));
        let subject = format!("/CN={subject}");
        let mut arguments = vec!["req", "-x509", "-config", "openssl.cnf", "-days", "30"];
        arguments.extend(["-extensions", extensions, "-subj", &subject]);
        arguments.extend(["-key", &key, "-out", &out]);
        let signer = above.map(|above| [".pem", ".key"].map(|end| format!("{above}{end}")));
        if let Some([certificate, key]) = &signer {
            arguments.extend(["-CA", certificate, "-CAkey", key]);
        }
        self.openssl(&[&arguments, more].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments).current_dir(self.directory()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {said}");
    }
}

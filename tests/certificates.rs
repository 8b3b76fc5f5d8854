//! Certificate files made by `openssl` and listed in a configuration, valid and invalid ones.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use annulus::config::CertificateFiles;
use annulus::limits::{CERTIFICATE_FILE_BYTES_MAX, CHAIN_BYTES_MAX};
use annulus::os::FileSource;
use annulus::tls::{Certificates, LoadedCertificates};
use rustls::SignatureScheme;

use crate::support::authority::CA_CONFIG;
use crate::support::requirements::TempDir;

/// The first and the last second of a certificate's validity.
type ValidityPeriod = [&'static str; 2];

/// The default validity of certificates in these tests.
const SPRING: ValidityPeriod = ["20260101000000Z", "20260401000000Z"];
/// The end of `SPRING`.
const APRIL_UNIX_S: i64 = 1_775_001_600;
const DAY_S: i64 = 86_400;
/// Within `SPRING`, and long before its end.
const NOW_UNIX_S: i64 = APRIL_UNIX_S - 60 * DAY_S;

const P256: &str = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const RSA: &str = "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048";

const OLD_VERSION: &str = "is of an old version, without extensions (X.509 v1): have it issued \
                           anew as v3 and with a subjectAltName, as by \"openssl req -x509 \
                           -addext subjectAltName=DNS:HOST\", or \"openssl x509 -req -extfile \
                           FILE\" with subjectAltName=DNS:HOST in that file";

const SUPPORTED_KINDS: &str = "damaged, or of a kind that is not supported: ECDSA on P-256, \
                               P-384 or P-521, RSA of 2048 to 8192 bits and Ed25519 are";

/// A temporary directory for certificates.
struct OpensslDir(TempDir);

impl OpensslDir {
    fn new(test: &str) -> OpensslDir {
        let dir = OpensslDir(TempDir::new(&format!("certificates-{test}")));
        dir.write("ca.cnf", CA_CONFIG);
        dir.write("index.txt", "");
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The output of `openssl` with `args`, run in the directory.
    fn openssl(&self, args: &str) -> Vec<u8> {
        let mut openssl = Command::new("openssl");
        let output = openssl.args(args.split_whitespace()).current_dir(self.0.path()).output();
        let output = output.expect("openssl, which tests/packages installs");
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Makes `NAME.pem` for `NAME.key`, signed by `issuer`, which may be `NAME`. `request` has the
    /// options for the subject and the extensions.
    fn sign(&self, name: &str, issuer: &str, request: &str, [from, until]: ValidityPeriod) {
        self.openssl(&format!("req -new -key {name}.key -out {name}.csr {request}"));
        let issuer = match issuer == name {
            true => "-selfsign".to_string(),
            false => format!("-cert {issuer}.pem"),
        } + &format!(" -keyfile {issuer}.key");
        self.openssl(&format!(
            "ca -config ca.cnf -batch -notext {issuer} -in {name}.csr -out {name}.pem \
             -startdate {from} -enddate {until}"
        ));
    }

    /// Makes a key and a certificate for `hosts`, and returns their files.
    fn host(&self, name: &str, hosts: &[&str], validity: ValidityPeriod) -> CertificateFiles {
        self.openssl(&format!("{P256} -out {name}.key"));
        let hosts: Vec<String> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
        let hosts = format!("-subj /CN={name} -addext subjectAltName={}", hosts.join(","));
        self.sign(name, name, &hosts, validity);
        self.listed(&format!("{name}.pem"), &format!("{name}.key"))
    }

    fn listed(&self, chain: &str, key: &str) -> CertificateFiles {
        let place = "annulus.toml:7".to_string();
        CertificateFiles { chain: self.path(chain), key: self.path(key), place }
    }

    /// The messages about `files`, without the directory: errors if there are any, otherwise
    /// warnings.
    fn said(
        &self,
        files: &[CertificateFiles],
        now_unix_s: i64,
    ) -> Result<Vec<String>, Vec<String>> {
        let directory = format!("{}/", self.0.path().display());
        let short = |lines: Vec<String>| -> Vec<String> {
            lines.iter().map(|line| line.replace(&directory, "")).collect()
        };
        match Certificates::load(files, &FileSource::Direct, now_unix_s) {
            Ok(LoadedCertificates { warnings, .. }) => Ok(short(warnings)),
            Err(mistakes) => Err(short(mistakes)),
        }
    }

    /// Asserts that `chain` and `key` are refused with exactly these errors.
    fn refused(&self, chain: &str, key: &str, mistakes: &[&str]) {
        let mistakes: Vec<String> = mistakes.iter().map(|mistake| placed(mistake)).collect();
        let said = self.said(&[self.listed(chain, key)], NOW_UNIX_S);
        assert_eq!(said, Err(mistakes), "{chain} and {key}");
    }

    /// The output of `annulus --check-config` for a configuration with `entries`.
    fn check(&self, entries: &str) -> Output {
        self.write("annulus.toml", format!("[tls]\nlisten = [\"[::1]:0\"]\n{entries}"));
        self.check_written()
    }

    /// The output for the existing configuration.
    fn check_written(&self) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_annulus"));
        let config = self.path("annulus.toml");
        program.arg("--check-config").arg("-c").arg(config).current_dir("/").output().unwrap()
    }
}

fn placed(what: &str) -> String {
    format!("annulus.toml:7: tls.certificates: {what}")
}

/// The file with the certificate that a client gets whose SNI is `host`.
fn chosen<'f>(
    certificates: &Certificates,
    files: &'f [CertificateFiles],
    host: Option<&str>,
    schemes: &[SignatureScheme],
) -> &'f str {
    let served = certificates.choose(host, schemes).cert[0].to_vec();
    let is_served = |files: &&CertificateFiles| {
        let mut openssl = Command::new("openssl");
        let output = openssl.args(["x509", "-outform", "DER", "-in"]).arg(&files.chain).output();
        output.unwrap().stdout == served
    };
    let found = files.iter().find(is_served).expect("one of the files is served");
    found.chain.file_stem().unwrap().to_str().unwrap()
}

#[test]
fn every_kind_of_key_is_taken() {
    let dir = OpensslDir::new("kinds");
    dir.openssl(&format!("{P256} -out p256.key"));
    dir.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key");
    dir.openssl(&format!("{RSA} -out rsa.key"));
    dir.openssl("genpkey -algorithm ED25519 -out ed25519.key");
    dir.openssl("pkey -traditional -in p256.key -out sec1.key");
    dir.openssl("pkey -traditional -in rsa.key -out pkcs1.key");
    dir.openssl("ecparam -name prime256v1 -genkey -out parameters.key");
    for (name, first_line) in [
        ("p256", "-----BEGIN PRIVATE KEY-----"),
        ("p384", "-----BEGIN PRIVATE KEY-----"),
        ("rsa", "-----BEGIN PRIVATE KEY-----"),
        ("ed25519", "-----BEGIN PRIVATE KEY-----"),
        ("sec1", "-----BEGIN EC PRIVATE KEY-----"),
        ("pkcs1", "-----BEGIN RSA PRIVATE KEY-----"),
        ("parameters", "-----BEGIN EC PARAMETERS-----"),
    ] {
        assert_eq!(dir.read(&format!("{name}.key")).lines().next(), Some(first_line));
        dir.sign(name, name, "-subj /CN=a.example -addext basicConstraints=CA:FALSE", SPRING);
        let files = [dir.listed(&format!("{name}.pem"), &format!("{name}.key"))];
        let slow = format!(
            "{name}.key: an RSA key: each handshake costs about five times what it does with \
             ECDSA P-256"
        );
        let warnings = match name {
            "rsa" | "pkcs1" => vec![placed(&slow)],
            _ => vec![],
        };
        assert_eq!(dir.said(&files, NOW_UNIX_S), Ok(warnings), "{name}");
        let LoadedCertificates { certificates, .. } =
            Certificates::load(&files, &FileSource::Direct, NOW_UNIX_S).unwrap();
        assert_eq!(chosen(&certificates, &files, None, &[]), name);
        assert!(certificates.choose(None, &[]).keys_match().is_ok());
    }
}

#[test]
fn chain_and_key_may_share_a_file() {
    let dir = OpensslDir::new("shared");
    dir.host("a", &["a.example"], SPRING);
    for text in [
        dir.read("a.key") + &dir.read("a.pem"),
        dir.read("a.pem") + &dir.read("a.key"),
        format!("\u{feff}{}{}", dir.read("a.pem"), dir.read("a.key")),
        format!("Who made it, and when\n{}\r\n{}", dir.read("a.pem"), dir.read("a.key"))
            .replace('\n', "\r\n"),
    ] {
        dir.write("both", &text);
        assert_eq!(dir.said(&[dir.listed("both", "both")], NOW_UNIX_S), Ok(vec![]), "{text}");
    }
}

#[test]
fn files_that_hold_something_else_are_refused() {
    let dir = OpensslDir::new("else");
    dir.host("a", &["a.example"], SPRING);
    dir.host("b", &["b.example"], SPRING);
    dir.refused(
        "no.pem",
        "no.key",
        &[
            "no.pem: cannot be read: No such file or directory (os error 2)",
            "no.key: cannot be read: No such file or directory (os error 2)",
        ],
    );
    dir.refused("a.pem", ".", &[".: cannot be read: it is not a file"]);
    dir.refused("a.pem", "b.key", &["b.key: not the key of the first certificate in a.pem"]);
    dir.refused(
        "a.key",
        "a.pem",
        &[
            "a.key: no certificate but a private key: are chain and key swapped?",
            "a.pem: no private key but a certificate: are chain and key swapped?",
        ],
    );
    dir.write("empty", "");
    dir.refused(
        "empty",
        "empty",
        &[
            "empty: an empty chain: nothing begins with -----BEGIN CERTIFICATE-----",
            "empty: no private key: nothing begins with -----BEGIN PRIVATE KEY----- or the like",
        ],
    );
    dir.openssl("x509 -in a.pem -outform DER -out a.der");
    for (key, der) in [("a.key", "ec.der"), ("ed25519.key", "ed25519.der")] {
        if key != "a.key" {
            dir.openssl(&format!("genpkey -algorithm ED25519 -out {key}"));
        }
        dir.openssl(&format!("pkey -in {key} -outform DER -out {der}"));
        let not_pem = "not PEM but DER or PKCS #12, which openssl converts: \
                       \"openssl x509 -inform DER\" a certificate, \"openssl pkey -inform DER\" \
                       a key, \"openssl pkcs12 -nodes\" both";
        let not_pem = ["a.der", der].map(|file| format!("{file}: {not_pem}"));
        dir.refused("a.der", der, &not_pem.each_ref().map(String::as_str));
    }
    let keys = dir.read("a.key") + &dir.read("b.key");
    dir.write("keys", keys);
    dir.refused("a.pem", "keys", &["keys: 2 private keys, where one is expected"]);

    let long = "#".repeat(CERTIFICATE_FILE_BYTES_MAX as usize + 1 - dir.read("a.pem").len());
    dir.write("long.pem", dir.read("a.pem") + &long);
    dir.refused("long.pem", "a.key", &["long.pem: longer than 262144 bytes: no chain and no key"]);
    dir.refused("a.pem", "/dev/zero", &["/dev/zero: cannot be read: it is not a file"]);
    dir.write("long.pem", dir.read("a.pem") + &long[1..]);
    assert_eq!(dir.said(&[dir.listed("long.pem", "a.key")], NOW_UNIX_S), Ok(vec![]));

    let none = dir.said(&[], NOW_UNIX_S);
    assert_eq!(none, Err(vec!["tls.certificates: there are none".to_string()]));
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let dir = OpensslDir::new("keys");
    dir.host("a", &["a.example"], SPRING);
    dir.openssl("pkcs8 -topk8 -in a.key -out pkcs8.key -passout pass:secret");
    dir.openssl("ec -aes128 -in a.key -out sec1.key -passout pass:secret");
    for key in ["pkcs8.key", "sec1.key"] {
        assert!(dir.read(key).contains("ENCRYPTED"), "{key}");
        let how = format!(
            "{key}: an encrypted key: decrypt it by \"openssl pkey -in {key} -out FILE\", \
             readable only by the user that runs the tracker"
        );
        dir.refused("a.pem", key, &[&how]);
    }
    for (name, make) in [
        ("rsa1024", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024"),
        ("secp256k1", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1"),
        ("ed448", "genpkey -algorithm ED448"),
    ] {
        dir.openssl(&format!("{make} -out {name}.key"));
        dir.refused("a.pem", &format!("{name}.key"), &[&format!("{name}.key: {SUPPORTED_KINDS}")]);
    }
}

#[test]
fn damaged_files_are_refused() {
    let dir = OpensslDir::new("damaged");
    dir.host("a", &["a.example"], SPRING);
    let (chain, key) = (dir.read("a.pem"), dir.read("a.key"));
    let half = |text: &str| text[..text.len() / 2].to_string();
    dir.write("half.pem", half(&chain));
    dir.write("half.key", half(&key));
    dir.refused(
        "half.pem",
        "half.key",
        &[
            "half.pem: damaged: no -----END CERTIFICATE-----",
            "half.key: damaged: no -----END PRIVATE KEY-----",
        ],
    );
    dir.write("line.pem", chain.replace("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTI"));
    dir.refused("line.pem", "a.key", &["line.pem: damaged: \"-----BEGIN CERTI\" begins no block"]);
    dir.write("text.pem", chain.replace("\nMI", "\nM~"));
    dir.refused("text.pem", "a.key", &["text.pem: damaged: a block that is not base64"]);

    // Complete blocks of base64, but less than a certificate.
    let second = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    dir.write("second.pem", chain.clone() + second);
    dir.refused("second.pem", "a.key", &["second.pem: certificate 2 cannot be parsed"]);
    let mut der = dir.openssl("x509 -in a.pem -outform DER");
    der.push(0);
    dir.write("longer.der", der);
    let base64 = String::from_utf8(dir.openssl("base64 -in longer.der")).unwrap();
    dir.write(
        "longer.pem",
        format!("-----BEGIN CERTIFICATE-----\n{base64}-----END CERTIFICATE-----\n"),
    );
    dir.refused("longer.pem", "a.key", &["longer.pem: certificate 1 cannot be parsed"]);
    dir.write("short.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    dir.refused("a.pem", "short.key", &[&format!("short.key: {SUPPORTED_KINDS}")]);
}

#[test]
fn files_of_wide_characters_are_named() {
    let dir = OpensslDir::new("wide");
    dir.host("a", &["a.example"], SPRING);
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let convert = |from| {
        format!("text in UTF-16: save it as UTF-8, or convert it by \"iconv -f {from} -t UTF-8\"")
    };
    for (mark, from) in [("\u{feff}", "UTF-16"), ("", "UTF-16LE")] {
        for (name, wide_name) in [("a.pem", "wide.pem"), ("a.key", "wide.key")] {
            dir.write(wide_name, wide(&format!("{mark}{}", dir.read(name))));
        }
        let mistakes = ["wide.pem", "wide.key"].map(|file| format!("{file}: {}", convert(from)));
        dir.refused("wide.pem", "wide.key", &mistakes.each_ref().map(String::as_str));
        let mut iconv = Command::new("iconv");
        let output = iconv.args(["-f", from, "-t", "UTF-8", "wide.pem"]).current_dir(dir.0.path());
        dir.write("plain.pem", output.output().unwrap().stdout);
        assert_eq!(dir.said(&[dir.listed("plain.pem", "a.key")], NOW_UNIX_S), Ok(vec![]));
    }
}

#[test]
fn keys_that_do_not_name_their_curve_are_refused() {
    let dir = OpensslDir::new("explicit");
    dir.openssl("ecparam -name prime256v1 -genkey -param_enc explicit -out sec1.key");
    dir.openssl("pkcs8 -topk8 -nocrypt -in sec1.key -out pkcs8.key");
    for name in ["sec1", "pkcs8"] {
        dir.sign(name, name, "-subj /CN=a -addext subjectAltName=DNS:a.example", SPRING);
        let [chain, key] = [".pem", ".key"].map(|end| format!("{name}{end}"));
        let cure = format!("-in {key} -param_enc named_curve");
        let what = format!(
            "{chain}: certificate 1 has a key with explicit parameters in place of the name of \
             its curve: convert the key by \"openssl ec {cure} -out FILE\", and have the \
             certificate issued anew for it"
        );
        dir.refused(&chain, &key, &[&what]);
        dir.openssl(&format!("ec {cure} -out cured.key"));
        dir.sign("cured", "cured", "-subj /CN=a -addext subjectAltName=DNS:a.example", SPRING);
        assert_eq!(dir.said(&[dir.listed("cured.pem", "cured.key")], NOW_UNIX_S), Ok(vec![]));
    }
    // A curve that is not supported even if it is named.
    dir.openssl("ecparam -name secp256k1 -genkey -noout -param_enc explicit -out other.key");
    let what = "other.key: a key with explicit parameters in place of the name of its curve: \
                convert it by \"openssl ec -in other.key -param_enc named_curve -out FILE\", \
                readable only by the user that runs the tracker";
    dir.host("a", &["a.example"], SPRING);
    dir.refused("a.pem", "other.key", &[what]);
    // With a supported curve, the explicit parameters may be the reason that key and certificate do
    // not match.
    let what = "sec1.key: not the key of the first certificate in a.pem, and a key with explicit \
                parameters in place of the name of its curve: convert it by \"openssl ec -in \
                sec1.key -param_enc named_curve -out FILE\", readable only by the user that runs \
                the tracker";
    dir.refused("a.pem", "sec1.key", &[what]);
}

/// Messages about a file go to a log, which others may read.
#[test]
fn keys_are_not_shown() {
    let dir = OpensslDir::new("secret");
    dir.host("a", &["a.example"], SPRING);
    let key = dir.read("a.key");
    let no_end = "damaged: what begins with -----BEGIN has no ----- at its end";
    for (text, what) in [
        (key.replace('\n', ""), "damaged: a block without line ends"),
        (key.replacen("-----\n", "----- ", 1), no_end),
        (key.replace("PRIVATE KEY-----\n", ""), no_end),
        (key.replace('\n', "")[..100].to_string(), no_end),
        (
            key.replacen("-----\n", "----\n", 1),
            "damaged: \"-----BEGIN PRIVATE KEY----\" begins no block",
        ),
    ] {
        dir.write("run.key", &text);
        dir.refused("a.pem", "run.key", &[&format!("run.key: {what}")]);
    }
}

#[test]
fn a_certificate_without_extensions_is_refused() {
    let dir = OpensslDir::new("version");
    dir.openssl(&format!("{P256} -out old.key"));
    dir.sign("old", "old", "-subj /CN=a.example", SPRING);
    dir.refused("old.pem", "old.key", &[&format!("old.pem: certificate 1 {OLD_VERSION}")]);
    // As an issuer it gets a warning, unless it is a root, which clients have themselves.
    let host = dir.host("a", &["a.example"], SPRING);
    dir.openssl(&format!("{P256} -out middle.key"));
    dir.sign("middle", "a", "-subj /CN=middle", SPRING);
    let order = |n| {
        placed(&format!(
            "chain.pem: certificate {n} is not that of the issuer of certificate {}: each \
             belongs below the one that it issued",
            n - 1
        ))
    };
    dir.write("chain.pem", dir.read("a.pem") + &dir.read("middle.pem") + &dir.read("old.pem"));
    let old = placed(&format!("chain.pem: certificate 2 {OLD_VERSION}"));
    let files = CertificateFiles { chain: dir.path("chain.pem"), ..host };
    assert_eq!(dir.said(&[files], NOW_UNIX_S), Ok(vec![old, order(2), order(3)]));
    // A root that is first by mistake need not be issued again.
    dir.write("chain.pem", dir.read("old.pem") + &dir.read("a.pem"));
    dir.refused(
        "chain.pem",
        "a.key",
        &["a.key: not the key of the first certificate in chain.pem \
         but that of certificate 2: they are in the wrong order, the certificate of the host comes \
         first and each issuer's below"],
    );
}

#[test]
fn a_chain_must_fit_a_handshake() {
    let dir = OpensslDir::new("long");
    dir.host("a", &["a.example"], SPRING);
    let one = dir.openssl("x509 -in a.pem -outform DER").len();
    let most = CHAIN_BYTES_MAX / one;
    let repeated = |times: usize| {
        dir.write("many.pem", dir.read("a.pem").repeat(times));
        dir.said(&[dir.listed("many.pem", "a.key")], NOW_UNIX_S)
    };
    assert_eq!(repeated(most), Ok(vec![]), "{most} of {one} bytes");
    let total = one * (most + 1);
    let long = format!(
        "many.pem: a chain of {total} bytes, 16384 at most: only the certificate of the host \
         and those of its issuers belong there, without the root"
    );
    assert_eq!(repeated(most + 1), Err(vec![placed(&long)]));
}

#[test]
fn validity_is_warned_of() {
    let dir = OpensslDir::new("validity");
    let files = [dir.host("a", &["a.example"], SPRING)];
    let start = APRIL_UNIX_S - 90 * DAY_S;
    for (now, warning) in [
        (start - 1, Some("is not valid before 2026-01-01")),
        (start, None),
        (APRIL_UNIX_S - 30 * DAY_S, None),
        (APRIL_UNIX_S - 30 * DAY_S + 1, Some("expires on 2026-04-01")),
        (APRIL_UNIX_S, Some("expires on 2026-04-01")),
        (APRIL_UNIX_S + 1, Some("expired on 2026-04-01")),
    ] {
        let warning = warning.map(|what| placed(&format!("a.pem: certificate 1 {what}")));
        assert_eq!(dir.said(&files, now), Ok(Vec::from_iter(warning)), "{now}");
    }
    // A certificate valid for six days, and one for ten years.
    for (name, until, life_s, notice_s) in [
        ("short", "20260107000000Z", 6 * DAY_S, 2 * DAY_S),
        ("long", "20351230000000Z", 3650 * DAY_S, 30 * DAY_S),
    ] {
        let files = [dir.host(name, &["a.example"], [SPRING[0], until])];
        let end = start + life_s;
        let warned = |now| !dir.said(&files, now).unwrap().is_empty();
        assert_eq!([end - notice_s, end - notice_s + 1].map(warned), [false, true], "{name}");
        let LoadedCertificates { certificates, .. } =
            Certificates::load(&files, &FileSource::Direct, start).unwrap();
        assert_eq!(certificates.status()[0].validity.notice_unix_s(), end - notice_s);
    }
}

/// A warning is repeated when it changes, and once a day.
#[test]
fn changed_warnings_are_repeated() {
    let dir = OpensslDir::new("news");
    let files = [
        dir.host("short", &["a.example"], ["20260101000000Z", "20260107000000Z"]),
        dir.host("long", &["b.example"], SPRING),
    ];
    let start = APRIL_UNIX_S - 90 * DAY_S;
    let LoadedCertificates { certificates, .. } =
        Certificates::load(&files, &FileSource::Direct, start).unwrap();
    let line = |name: &str, what: &str| {
        format!("annulus.toml:7: tls.certificates: {}: {what}", dir.path(name).display())
    };
    let soon = line("short.pem", "certificate 1 expires on 2026-01-07");
    let over = line("short.pem", "certificate 1 expired on 2026-01-07");
    let next = line("long.pem", "certificate 1 expires on 2026-04-01");
    let day = |day: i64| start + day * DAY_S;
    assert_eq!(certificates.new_warnings(start, day(4)), [""; 0]);
    assert_eq!(certificates.new_warnings(day(4), day(4) + 1), [&*soon]);
    assert_eq!(certificates.new_warnings(day(4) + 1, day(5) - 1), [""; 0]);
    assert_eq!(certificates.new_warnings(day(5) - 1, day(5)), [soon]);
    assert_eq!(certificates.new_warnings(day(6), day(6) + 1), [&*over]);
    assert_eq!(certificates.new_warnings(day(59), day(61)), [over, next]);
    let mut now = start;
    let mut changes = Vec::new();
    while let Some(change) = certificates.next_change(now) {
        changes.push(change - start);
        now = change;
    }
    assert_eq!(changes, [4, 6, 60, 90].map(|days| days * DAY_S + 1));
}

#[test]
fn the_order_of_a_chain_is_warned_of() {
    let dir = OpensslDir::new("order");
    let authority = "-addext basicConstraints=critical,CA:TRUE";
    for name in ["root", "middle", "host"] {
        dir.openssl(&format!("{P256} -out {name}.key"));
    }
    let march = ["20260101000000Z", "20260301000000Z"];
    dir.sign("root", "root", &format!("-subj /CN=root {authority}"), SPRING);
    dir.sign("middle", "root", &format!("-subj /CN=middle {authority}"), march);
    let host = "-subj /CN=host -addext subjectAltName=DNS:a.example";
    dir.sign("host", "middle", host, SPRING);
    let said = |order: &[&str], now| {
        let chain: String = order.iter().map(|name| dir.read(&format!("{name}.pem"))).collect();
        dir.write("chain.pem", chain);
        dir.said(&[dir.listed("chain.pem", "host.key")], now)
    };
    assert_eq!(said(&["host", "middle"], NOW_UNIX_S), Ok(vec![]));
    assert_eq!(said(&["host", "middle", "root"], NOW_UNIX_S), Ok(vec![]));
    let misplaced = |next: usize| {
        placed(&format!(
            "chain.pem: certificate {next} is not that of the issuer of certificate {}: each \
             belongs below the one that it issued",
            next - 1
        ))
    };
    assert_eq!(said(&["host", "root"], NOW_UNIX_S), Ok(vec![misplaced(2)]));
    let both = Ok(vec![misplaced(2), misplaced(3)]);
    assert_eq!(said(&["host", "root", "middle"], NOW_UNIX_S), both);
    let key_of = |n: usize| {
        Err(vec![placed(&format!(
            "host.key: not the key of the first certificate in chain.pem but that of certificate \
             {n}: they are in the wrong order, the certificate of the host comes first and each \
             issuer's below"
        ))])
    };
    assert_eq!(said(&["middle", "host"], NOW_UNIX_S), key_of(2));
    assert_eq!(said(&["root", "middle", "host"], NOW_UNIX_S), key_of(3));
    let none = Err(vec![placed("host.key: not the key of the first certificate in chain.pem")]);
    assert_eq!(said(&["root", "middle"], NOW_UNIX_S), none);
    let expired = Ok(vec![placed("chain.pem: certificate 2 expired on 2026-03-01")]);
    assert_eq!(said(&["host", "middle"], APRIL_UNIX_S - 31 * DAY_S + 1), expired);
}

#[test]
fn a_client_gets_the_certificate_of_the_host_it_names() {
    let dir = OpensslDir::new("choose");
    let mut files = vec![
        dir.host("first", &["example.org", "*.Example.org"], SPRING),
        dir.host("exact", &["WWW.example.org.", "Example.NET"], SPRING),
        dir.host("again", &["example.net", "only.example", "only.example"], SPRING),
    ];
    // The common name counts only without a DNS name in subjectAltName; an address is none.
    for (name, request) in [
        ("common", "-subj /CN=Common.example -addext basicConstraints=CA:FALSE"),
        ("address", "-subj /CN=old.example -addext subjectAltName=IP:192.0.2.1"),
        ("nameless", "-subj /O=Nobody -addext basicConstraints=CA:FALSE"),
    ] {
        dir.openssl(&format!("{P256} -out {name}.key"));
        dir.sign(name, name, request, SPRING);
        files.push(dir.listed(&format!("{name}.pem"), &format!("{name}.key")));
    }
    let LoadedCertificates { certificates, .. } =
        Certificates::load(&files, &FileSource::Direct, NOW_UNIX_S).unwrap();
    for (host, name) in [
        (None, "first"),
        (Some("unknown.test"), "first"),
        (Some("example.org"), "first"),
        (Some("ftp.EXAMPLE.org."), "first"),
        (Some("www.example.org"), "exact"),
        (Some("example.net"), "exact"),
        (Some("only.example"), "again"),
        (Some("again"), "first"),
        (Some("common.example"), "common"),
        (Some("old.example"), "address"),
        (Some("192.0.2.1"), "first"),
    ] {
        assert_eq!(chosen(&certificates, &files, host, &[]), name, "{host:?}");
    }
    let twice = placed("again.pem: not served to example.net: exact.pem is");
    assert_eq!(dir.said(&files, NOW_UNIX_S), Ok(vec![twice]));
    assert_eq!(
        certificates.describe(),
        [
            "certificate for example.org, *.example.org until 2026-04-01",
            "certificate for www.example.org, example.net until 2026-04-01",
            "certificate for example.net, only.example until 2026-04-01",
            "certificate for common.example until 2026-04-01",
            "certificate for old.example until 2026-04-01",
            "certificate for no host until 2026-04-01",
        ]
    );
}

/// The file with the certificate that a client without SNI gets that connects to `address`.
fn chosen_by<'f>(
    certificates: &Certificates,
    files: &'f [CertificateFiles],
    address: &str,
    schemes: &[SignatureScheme],
) -> &'f str {
    let served = certificates.choose_by_address(address.parse().unwrap(), schemes);
    let subject = |files: &&CertificateFiles| {
        let alone =
            Certificates::load(&[(*files).clone()], &FileSource::Direct, NOW_UNIX_S).unwrap();
        alone.certificates.choose(None, &[]).cert[0] == served.cert[0]
    };
    files.iter().find(subject).unwrap().chain.file_stem().unwrap().to_str().unwrap()
}

#[test]
fn a_client_that_names_no_host_gets_the_certificate_of_its_address() {
    let dir = OpensslDir::new("address");
    let mut files = vec![dir.host("first", &["example.org"], SPRING)];
    let of = |name: &str, key: &str, names: &str| {
        dir.openssl(&format!("{key} -out {name}.key"));
        dir.sign(name, name, &format!("-subj /O=x -addext subjectAltName={names}"), SPRING);
        dir.listed(&format!("{name}.pem"), &format!("{name}.key"))
    };
    files.extend([
        of("v4", P256, "IP:192.0.2.1,IP:192.0.2.2"),
        of("v6", P256, "IP:2001:db8::1,IP:::ffff:192.0.2.3,DNS:v6.example"),
        of("later", P256, "IP:192.0.2.1,IP:192.0.2.4,IP:192.0.2.4"),
        of("rsa", RSA, "IP:192.0.2.1"),
        of("name", P256, "DNS:192.0.2.5"),
    ]);
    let LoadedCertificates { certificates, warnings } =
        Certificates::load(&files, &FileSource::Direct, NOW_UNIX_S).unwrap();
    // One address in several certificates is allowed.
    assert!(!warnings.iter().any(|line| line.contains("not served")), "{warnings:?}");
    assert!(certificates.have_addresses());
    for (address, name) in [
        ("192.0.2.1", "v4"),
        ("192.0.2.2", "v4"),
        ("::ffff:192.0.2.2", "v4"),
        ("192.0.2.3", "v6"),
        ("2001:db8::1", "v6"),
        ("192.0.2.4", "later"),
        ("192.0.2.5", "first"),
        ("192.0.2.6", "first"),
        ("2001:db8::2", "first"),
        ("::1", "first"),
    ] {
        assert_eq!(chosen_by(&certificates, &files, address, &[]), name, "{address}");
    }
    let rsa = [SignatureScheme::RSA_PSS_SHA256];
    assert_eq!(chosen_by(&certificates, &files, "192.0.2.1", &rsa), "rsa");
    assert_eq!(chosen(&certificates, &files, Some("v6.example"), &[]), "v6");
    let described = certificates.describe();
    assert_eq!(described[1], "certificate for 192.0.2.1, 192.0.2.2 until 2026-04-01");
    assert_eq!(described[2], "certificate for v6.example until 2026-04-01");
    let alone = Certificates::load(&files[..1], &FileSource::Direct, NOW_UNIX_S).unwrap();
    assert!(!alone.certificates.have_addresses());
}

/// Two kinds of keys for one host: clients that can verify the first get it.
#[test]
fn a_client_gets_a_certificate_that_it_can_verify() {
    let dir = OpensslDir::new("kinds-of-one-host");
    let mut files = vec![dir.host("ecdsa", &["a.example", "*.a.example"], SPRING)];
    for (name, key, host) in [
        ("rsa", RSA, "a.example"),
        ("second", RSA, "a.example"),
        ("wild", RSA, "*.a.example"),
        ("other", RSA, "b.example"),
    ] {
        dir.openssl(&format!("{key} -out {name}.key"));
        let request = format!("-subj /CN={name} -addext subjectAltName=DNS:{host}");
        dir.sign(name, name, &request, SPRING);
        files.push(dir.listed(&format!("{name}.pem"), &format!("{name}.key")));
    }
    let LoadedCertificates { certificates, warnings } =
        Certificates::load(&files, &FileSource::Direct, NOW_UNIX_S).unwrap();
    let unserved = |line: &&String| line.contains("not served");
    assert_eq!(warnings.iter().filter(unserved).count(), 1, "{warnings:?}");
    let twice = "second.pem: not served to a.example: ";
    assert!(warnings.iter().any(|line| line.contains(twice)), "{warnings:?}");
    let ecdsa = [SignatureScheme::ECDSA_NISTP256_SHA256];
    let rsa = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
    for (host, schemes, name) in [
        (Some("a.example"), [&ecdsa[..], &rsa].concat(), "ecdsa"),
        (Some("a.example"), [&rsa[..], &ecdsa].concat(), "ecdsa"),
        (Some("a.example"), rsa.to_vec(), "rsa"),
        (Some("A.example."), rsa[1..].to_vec(), "rsa"),
        (Some("www.a.example"), ecdsa.to_vec(), "ecdsa"),
        (Some("www.a.example"), rsa.to_vec(), "wild"),
        // Without an alternative the first is chosen, and the handshake fails.
        (Some("b.example"), ecdsa.to_vec(), "other"),
        (Some("a.example"), vec![SignatureScheme::ED25519], "ecdsa"),
        (None, ecdsa.to_vec(), "ecdsa"),
        (None, rsa.to_vec(), "rsa"),
        (Some("unknown.test"), rsa.to_vec(), "rsa"),
    ] {
        assert_eq!(chosen(&certificates, &files, host, &schemes), name, "{host:?} {schemes:?}");
    }
}

#[test]
fn checking_a_configuration_checks_its_certificates() {
    let dir = OpensslDir::new("check");
    let directory = format!("{}/", dir.0.path().display());
    let said = |output: Output| {
        let texts = [output.stdout, output.stderr];
        let texts = texts.map(|text| String::from_utf8(text).unwrap().replace(&directory, ""));
        (output.status.code(), texts)
    };
    dir.host("good", &["a.example"], ["20260101000000Z", "20991231235959Z"]);
    dir.host("old", &["b.example"], ["20200101000000Z", "20200401000000Z"]);
    let entry = |name: &str| {
        format!("[[tls.certificates]]\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n")
    };
    let ok = "annulus.toml: ok\n".to_string();
    assert_eq!(said(dir.check(&entry("good"))), (Some(0), [ok.clone(), String::new()]));

    let expired = "annulus.toml:6: tls.certificates: old.pem: certificate 1 expired on 2020-04-01";
    let both = entry("good") + &entry("old");
    assert_eq!(said(dir.check(&both)), (Some(0), [ok.clone(), format!("{expired}\n")]));

    // Certificates without an address for HTTPS are probably a mistake.
    dir.write("annulus.toml", entry("good"));
    let nobody = "annulus.toml:1: tls.certificates: not used, because tls.listen has no address\n";
    assert_eq!(said(dir.check_written()), (Some(0), [ok, nobody.to_string()]));

    let inline = "certificates = [\n  { chain = \"no.pem\", key = \"good.key\" },\n\
                  { chain = \"good.pem\", key = \"old.key\" },\n]\n";
    let mistakes = "annulus.toml:4: tls.certificates: no.pem: cannot be read: \
                    No such file or directory (os error 2)\n\
                    annulus.toml:5: tls.certificates: old.key: \
                    not the key of the first certificate in good.pem\n";
    assert_eq!(said(dir.check(inline)), (Some(1), [String::new(), mistakes.to_string()]));
}

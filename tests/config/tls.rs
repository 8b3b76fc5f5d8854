//! The keys of `[tls]`: lists of certificates, and the relations between addresses.

use std::fs;
use std::path::PathBuf;

use annulus::config::{CertificateFiles, Config};

use super::{ConfigDir, refused};

fn files(chain: &str, key: &str, place: &str) -> CertificateFiles {
    CertificateFiles { chain: chain.into(), key: key.into(), place: place.to_string() }
}

#[test]
fn certificates_are_listed_either_way() {
    let lists = [
        "\n[[tls.certificates]]\nchain = \"a.pem\"\nkey = \"a.key\"\n\
         [[tls.certificates]]\nkey = \"../b.key\"\nchain = \"/b.pem\"\n",
        "[tls]\ncertificates = [ { chain = \"a.pem\", key = \"a.key\" },\n\n\n\
         { chain = \"/b.pem\", key = \"../b.key\" } ]\n",
    ];
    let dir = ConfigDir::new("listed");
    for text in lists {
        let expected =
            vec![files("a.pem", "a.key", "here:2"), files("/b.pem", "../b.key", "here:5")];
        assert_eq!(Config::parse(text, "here").unwrap().tls.certificates, expected, "{text}");

        // From a file, a relative path is resolved against the file's directory.
        let path = dir.path("annulus.toml");
        fs::write(&path, text).unwrap();
        let [first, second] =
            Config::load(Some(&path)).unwrap().tls.certificates.try_into().unwrap();
        assert_eq!([first.chain, first.key], [dir.path("a.pem"), dir.path("a.key")]);
        assert_eq!([second.chain, second.key], [PathBuf::from("/b.pem"), dir.path("../b.key")]);
        assert_eq!(second.place, format!("{}:5", path.display()));
    }
}

#[test]
fn certificates_say_what_is_wrong_with_them() {
    let form = "{ chain = \"fullchain.pem\", key = \"privkey.pem\" }";
    refused(
        "certificates",
        &[
            (
                "[tls]\ncertificates = \"a.pem\"\n",
                &[&format!(
                    "annulus.toml:2: tls.certificates = \"a.pem\": expected a list like [{form}]"
                )],
            ),
            (
                "[tls.certificates]\nchain = \"a\"\nkey = \"b\"\n",
                &[&format!(
                    "annulus.toml:1: tls.certificates = a table: expected a list like [{form}]"
                )],
            ),
            (
                "[tls]\ncertificates = [\n\"a.pem\",\n{ chain = \"a\" },\n{ key = \"b\" },\n\
                 {},\n{ chain = \"\", key = \"b\" },\n\
                 { chain = \"a\", key = 5 },\n[\"a\", \"b\"],\n]\n",
                &[
                    &format!("annulus.toml:3: tls.certificates = \"a.pem\": expected {form}"),
                    "annulus.toml:4: tls.certificates: lacks \"key\"",
                    "annulus.toml:5: tls.certificates: lacks \"chain\"",
                    "annulus.toml:6: tls.certificates: lacks \"chain\"",
                    "annulus.toml:7: tls.certificates.chain = \"\": \
                     expected the path of a file, in quotes",
                    "annulus.toml:8: tls.certificates.key = 5: \
                     expected the path of a file, in quotes",
                    &format!("annulus.toml:9: tls.certificates = [\"a\", \"b\"]: expected {form}"),
                ],
            ),
            (
                "[[tls.certificates]]\nchian = \"a\"\nkey = \"b\"\n\n[[tls.certificates]]\n\
                 chain = \"c\"\npassphrase = \"d\"\n[[tls.certificates]]\nkey = \"e\"\n",
                &[
                    "annulus.toml:2: unknown key \"tls.certificates.chian\"; \
                     did you mean \"tls.certificates.chain\"?",
                    "annulus.toml:7: unknown key \"tls.certificates.passphrase\"; \
                     the keys here are chain, key",
                    "annulus.toml:8: tls.certificates: lacks \"chain\"",
                ],
            ),
            (
                "[tls]\ncertificates = [{ chain = \"a\\nb\", key = \"c\" },\n\
                 { chain = \"a\", key = \"\"\"\n-----BEGIN PRIVATE \
                 KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n\"\"\" }]\n",
                &[
                    "annulus.toml:2: tls.certificates.chain = \"a\\nb\": \
                     expected the path of a file, in quotes",
                    "annulus.toml:3: tls.certificates.key = \"\"\"...: \
                     expected the path of a file, in quotes",
                ],
            ),
            (
                "[tls]\ncertificate = []\n",
                &["annulus.toml:2: unknown key \"tls.certificate\"; \
                   did you mean \"tls.certificates\"?"],
            ),
        ],
    );
}

#[test]
fn addresses_of_http_and_https_go_together() {
    let certificate = "[[tls.certificates]]\nchain = \"a\"\nkey = \"b\"\n";
    refused(
        "addresses",
        &[
            (
                "listen = []\n",
                &["annulus.toml:1: listen = []: \
                   must be one address or more, because of tls.listen = [] (the default)"],
            ),
            (
                "listen = []\n[tls]\nlisten = []\n",
                &["annulus.toml:1: listen = []: \
                   must be one address or more, because of tls.listen = [] (line 3)"],
            ),
            (
                "[tls]\nlisten = [\"[::]:443\"]\n",
                &["annulus.toml:2: tls.certificates = [] (the default): must be one certificate \
                   or more, because of tls.listen = [\"[::]:443\"]"],
            ),
            (
                &format!("[tls]\nlisten = [\"[::]:443\", \"[::]:3000\"]\n{certificate}"),
                &["annulus.toml:2: tls.listen = [\"[::]:443\", \"[::]:3000\"]: must be without \
                   \"[::]:3000\", because of \
                   listen = [\"0.0.0.0:3000\", \"[::]:3000\"] (the default)"],
            ),
            (
                &format!("[tls]\nlisten = [\"127.0.0.1:443\", \"127.0.0.1:3000\"]\n{certificate}"),
                &["annulus.toml:2: tls.listen = [\"127.0.0.1:443\", \"127.0.0.1:3000\"]: must be \
                   without \"127.0.0.1:3000\", because of \
                   listen = [\"0.0.0.0:3000\", \"[::]:3000\"] (the default)"],
            ),
            (
                // A refused list is not compared with others.
                "listen = []\n[tls]\nlisten = [\"443\"]\n",
                &["annulus.toml:3: tls.listen = \"443\": a port alone: \
                   write \"0.0.0.0:443\", \"[::]:443\", or both"],
            ),
            (
                // Nor is a list with a refused entry.
                "[tls]\nlisten = [\"[::]:443\"]\ncertificates = [{ chain = \"\", key = \"b\" }]\n",
                &["annulus.toml:3: tls.certificates.chain = \"\": \
                   expected the path of a file, in quotes"],
            ),
            (
                "[tls]\nlisten = [\"[::]:443\"]\ncertificates = [1]\n",
                &["annulus.toml:3: tls.certificates = 1: \
                   expected { chain = \"fullchain.pem\", key = \"privkey.pem\" }"],
            ),
        ],
    );
    let many: Vec<String> = (1..=63).map(|port| format!("\"[::1]:{port}\"")).collect();
    let both = |https: &[String]| {
        let https = https.join(", ");
        Config::parse(&format!("[tls]\nlisten = [{https}]\n{certificate}"), "both")
    };
    assert!(both(&many[..62]).is_ok(), "two of 64 are the defaults of HTTP");
    let error = both(&many).unwrap_err().to_string();
    let start = "both:2: tls.listen = [\"[::1]:1\", ";
    let end = "...: must be at most 62 addresses, \
               because of listen = [\"0.0.0.0:3000\", \"[::]:3000\"] (the default)";
    assert!(error.starts_with(start) && error.ends_with(end), "{error}");
    // The kernel assigns each its own port.
    let free = format!("listen = [\"[::1]:0\"]\n[tls]\nlisten = [\"[::1]:0\"]\n{certificate}");
    assert!(Config::parse(&free, "free").is_ok());
    let alone = format!("listen = []\n[tls]\nlisten = [\"[::1]:0\"]\n{certificate}");
    assert_eq!(Config::parse(&alone, "alone").unwrap().listen, []);
}

//! What `openssl s_client` and `curl` negotiate with the tracker: versions, keys, names and
//! protocols. Both verify its chain with the test's own root.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::authority::{Authority, KeyKind};
use crate::support::client::request;
use crate::support::tls_tracker::{HOST, TlsTracker};
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, TIMEOUT, test_both_engines};

test_both_engines!(
    versions_and_keys,
    an_unknown_root_is_not_trusted,
    protocols,
    names,
    kinds_of_keys_for_one_name,
    nothing_in_common,
    curl_by_versions_and_keys,
    curl_by_the_older_http,
    curl_over_ipv6,
);

/// The output of a program, standard output and error, and whether it succeeded.
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) content: bool,
}

impl Said {
    /// Asserts that its output contains each of these.
    #[track_caller]
    pub(crate) fn assert(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.text.contains(part), "no {part:?} in\n{}", self.text);
        }
    }
}

/// Runs a program with this input, with a time limit.
pub(crate) fn run(program: &str, arguments: &[&str], input: &[u8]) -> Said {
    let mut command = Command::new("timeout");
    command.arg(TIMEOUT.as_secs().to_string()).arg(program).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may exit without reading its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Said { text, content: output.status.success() }
}

/// Announces by `openssl s_client`, which exits when the tracker closes the connection.
pub(crate) fn s_client(site: &TlsTracker, trust: &Path, arguments: &[&str]) -> Said {
    let to = site.v4.to_string();
    let mut all = vec!["s_client", "-connect", &to, "-CAfile", trust.to_str().unwrap()];
    all.extend(["-verify_return_error", "-ign_eof"]);
    all.extend(arguments);
    let target = TestTorrent::new(&site.tracker, 1).target(1, "left=1");
    run("openssl", &all, &request("GET", &target, "HTTP/1.1", "Connection: close\r\n"))
}

fn versions_and_keys(engine: Engine) {
    for key in KeyKind::ALL {
        let site = TlsTracker::start_with(engine, &[(HOST, key)], "");
        let own = ["-servername", HOST, "-verify_hostname", HOST, "-alpn", "http/1.1"];
        let signature = match key {
            KeyKind::Rsa => "Peer signature type: RSA-PSS",
            KeyKind::P256 => "Peer signature type: ECDSA",
        };
        for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let said = s_client(&site, &site.authority.root(), &[&own[..], &[flag]].concat());
            said.assert(&[
                &format!("New, {version}, Cipher is "),
                "Verify return code: 0 (ok)",
                "ALPN protocol: http/1.1",
                signature,
                "HTTP/1.1 200 ",
                "d8:completei0e",
            ]);
            assert!(said.content, "{}", said.text);
        }
        for flag in ["-tls1", "-tls1_1"] {
            let old = [flag, "-cipher", "ALL:@SECLEVEL=0"];
            let said = s_client(&site, &site.authority.root(), &old);
            said.assert(&["New, (NONE), Cipher is (NONE)", "SSL alert number "]);
            assert!(!said.content, "{}", said.text);
        }
    }
}

/// The control: these clients do verify.
fn an_unknown_root_is_not_trusted(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let stranger = Authority::new(&[]);
    let said = s_client(&site, &stranger.root(), &["-servername", HOST]);
    said.assert(&["unable to get local issuer certificate"]);
    assert!(!said.content && !said.text.contains("HTTP/1.1"), "{}", said.text);
    let elsewhere = ["-verify_hostname", "elsewhere.test"];
    let said = s_client(&site, &site.authority.root(), &elsewhere);
    said.assert(&["hostname mismatch"]);
    assert!(!said.content && !said.text.contains("HTTP/1.1"), "{}", said.text);
    let said = curl(&site, site.v4, HOST, &stranger.root(), &[]);
    said.assert(&["unable to get local issuer certificate"]);
    assert!(!said.content, "{}", said.text);
}

fn protocols(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    for version in ["-tls1_2", "-tls1_3"] {
        for (offer, agreed) in [
            (&["-alpn", "http/1.1"][..], "ALPN protocol: http/1.1"),
            (&["-alpn", "h2,http/1.1"], "ALPN protocol: http/1.1"),
            (&["-alpn", "http/1.0,http/1.1"], "ALPN protocol: http/1.1"),
            (&["-alpn", "http/1.0"], "ALPN protocol: http/1.0"),
            // Most clients send no ALPN.
            (&[], "No ALPN negotiated"),
        ] {
            let arguments = [&["-servername", HOST, version], offer].concat();
            let said = s_client(&site, &site.authority.root(), &arguments);
            said.assert(&[agreed, "d8:completei0e"]);
        }
        for offer in ["h2", "h2,h3"] {
            let arguments = ["-servername", HOST, version, "-alpn", offer];
            let said = s_client(&site, &site.authority.root(), &arguments);
            said.assert(&["alert no application protocol", "SSL alert number 120"]);
            assert!(!said.content, "{}", said.text);
        }
    }
}

fn names(engine: Engine) {
    let hosts = [("one.test", KeyKind::Rsa), ("two.test", KeyKind::P256)];
    let site = TlsTracker::start_with(engine, &hosts, "");
    for version in ["-tls1_2", "-tls1_3"] {
        for (asked, subject) in [
            (&["-servername", "one.test"][..], "subject=CN = one.test"),
            (&["-servername", "two.test"], "subject=CN = two.test"),
            (&["-servername", "TWO.test"], "subject=CN = two.test"),
            (&["-servername", "three.test"], "subject=CN = one.test"),
            (&["-noservername"], "subject=CN = one.test"),
        ] {
            let arguments = [&[version], asked].concat();
            let said = s_client(&site, &site.authority.root(), &arguments);
            said.assert(&[subject, "Verify return code: 0 (ok)", "d8:completei0e"]);
        }
    }
}

/// A client that cannot verify the first certificate of a host gets its second.
fn kinds_of_keys_for_one_name(engine: Engine) {
    let site =
        TlsTracker::start_with(engine, &[(HOST, KeyKind::P256), ("old.test", KeyKind::Rsa)], "");
    site.authority.issue_as("old.test", HOST, KeyKind::Rsa);
    let verdict = site.reload("HUP");
    assert!(!verdict.contains("kept"), "{verdict}");
    for version in ["-tls1_2", "-tls1_3"] {
        for (schemes, subject) in [
            ("ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256", HOST),
            ("rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256", HOST),
            ("rsa_pss_rsae_sha256", "old.test"),
        ] {
            for name in [&["-servername", HOST][..], &["-noservername"]] {
                let arguments = [&[version, "-sigalgs", schemes], name].concat();
                let said = s_client(&site, &site.authority.root(), &arguments);
                said.assert(&[&format!("subject=CN = {subject}\n"), "d8:completei0e"]);
            }
        }
    }
}

/// A client without a common cipher gets an alert.
fn nothing_in_common(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    for version in ["-tls1_2", "-tls1_3"] {
        for only in [["-sigalgs", "ed25519"], ["-groups", "P-521"]] {
            let arguments = [&[version], &only[..]].concat();
            let said = s_client(&site, &site.authority.root(), &arguments);
            said.assert(&["alert handshake failure", "SSL alert number 40"]);
            assert!(!said.content, "{}", said.text);
        }
    }
}

/// Announces twice by curl to the host of this name at this address.
fn curl(site: &TlsTracker, to: SocketAddr, host: &str, trust: &Path, arguments: &[&str]) -> Said {
    let port = to.port();
    let target = TestTorrent::new(&site.tracker, 1).target(1, "left=1");
    let url = format!("https://{host}:{port}{target}");
    let resolve = format!("{HOST}:{port}:{}", to.ip());
    let mut all = vec!["--silent", "--show-error", "--globoff", "--noproxy", "*"];
    all.extend(["--resolve", &resolve, "--cacert", trust.to_str().unwrap()]);
    let outcome = " verify %{ssl_verify_result} http %{http_version} connects %{num_connects}\n";
    all.extend(["--write-out", outcome]);
    all.extend(arguments);
    all.extend([&url[..], &url]);
    run("curl", &all, b"")
}

fn curl_by_versions_and_keys(engine: Engine) {
    for key in KeyKind::ALL {
        let site = TlsTracker::start_with(engine, &[(HOST, key)], "");
        for version in ["1.2", "1.3"] {
            let only = [&format!("--tlsv{version}")[..], "--tls-max", version, "--verbose"];
            let said = curl(&site, site.v4, HOST, &site.authority.root(), &only);
            assert!(said.content, "{}", said.text);
            said.assert(&[
                &format!("SSL connection using TLSv{version}"),
                "ALPN: offers h2,http/1.1",
                "ALPN: server accepted http/1.1",
                "d8:completei0e",
                "verify 0 http 1.1 connects 1\n",
                "verify 0 http 1.1 connects 0\n",
            ]);
        }
    }
}

/// curl then offers only HTTP/1.0.
fn curl_by_the_older_http(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    for version in ["1.2", "1.3"] {
        let only = ["--http1.0", "--tls-max", version, "--verbose"];
        let said = curl(&site, site.v4, HOST, &site.authority.root(), &only);
        assert!(said.content, "{}", said.text);
        said.assert(&["ALPN: offers http/1.0", "ALPN: server accepted http/1.0", "d8:completei0e"]);
    }
}

/// By address instead of name, so without SNI.
fn curl_over_ipv6(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let Some(v6) = site.v6 else { return eprintln!("skipped: no IPv6") };
    let said = curl(&site, v6, "[::1]", &site.authority.root(), &[]);
    assert!(said.content, "{}", said.text);
    said.assert(&["d8:completei0e", "verify 0 http 1.1"]);
}

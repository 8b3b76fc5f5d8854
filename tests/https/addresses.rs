//! Clients without SNI get a certificate by the address that they connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, StreamOwned};

use crate::support::authority::{Authority, KeyKind};
use crate::support::client::HttpClient;
use crate::support::tls_client::{VERSIONS, client_config};
use crate::support::tls_tracker::{HOST, TlsTracker};
use crate::support::tracker::{Engine, Tracker, config, has_v6, test_both_engines};

test_both_engines!(each_address_has_its_own_certificate, a_reload_changes_addresses);

/// An address that no client connects to here.
const ELSEWHERE: &str = "127.0.0.9";

/// Starts a tracker that listens on every address, with these certificates: each the name of its
/// files and the names in it.
fn start(
    engine: Engine,
    certificates: &[(&str, &str)],
) -> (TlsTracker, Vec<CertificateDer<'static>>) {
    let authority = Authority::new(&[]);
    let issued = certificates.iter().map(|&(name, names)| {
        let issued = authority.issue_for(name, names, KeyKind::P256);
        (format!("{{ chain = \"{name}.pem\", key = \"{name}.key\" }}"), issued)
    });
    let (files, issued): (Vec<String>, Vec<_>) = issued.unzip();
    let v6 = if has_v6() { ", \"[::]:0\"" } else { "" };
    let files = files.join(", ");
    let tls = format!("[tls]\nlisten = [\"0.0.0.0:0\"{v6}]\ncertificates = [{files}]\n");
    let mut tracker = Tracker::launch_in(authority.directory(), &config(engine, 2, &tls), &[]);
    let addresses = 1 + usize::from(has_v6());
    let listening = tracker.wait_ready(addresses);
    let listening = listening.and_then(|()| tracker.wait_listening(" (https)", addresses));
    let secure = listening.unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
    let v6 = secure.iter().copied().find(SocketAddr::is_ipv6);
    let v4 = secure.into_iter().find(SocketAddr::is_ipv4).unwrap();
    (TlsTracker { tracker, v4, v6, authority }, issued)
}

/// Asserts which certificate a client gets that connects to `address` and expects `host`: with
/// either version of TLS, from any worker.
#[track_caller]
fn shows(site: &TlsTracker, address: IpAddr, host: &str, certificate: &CertificateDer<'_>) {
    let port = if address.is_ipv4() { site.v4.port() } else { site.v6.unwrap().port() };
    for version in VERSIONS {
        for _ in 0..4 {
            let settings = Arc::new(client_config(&site.authority, version));
            let host = ServerName::try_from(host.to_owned()).unwrap();
            let session = ClientConnection::new(settings, host).unwrap();
            let plain = HttpClient::connect(SocketAddr::new(address, port));
            let mut client = HttpClient::new(StreamOwned::new(session, plain.stream));
            client.handshake();
            assert_eq!(client.certificate(), certificate, "{address} as {version:?}");
        }
    }
}

fn each_address_has_its_own_certificate(engine: Engine) {
    let first = format!("DNS:{HOST},IP:{ELSEWHERE}");
    let (site, issued) = start(
        engine,
        &[
            ("first", &first),
            ("two", "IP:127.0.0.2,DNS:two.test"),
            ("v6", "IP:::1"),
            ("3", "IP:127.0.0.3"),
        ],
    );
    let two = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    shows(&site, two, "127.0.0.2", &issued[1]);
    shows(&site, Ipv4Addr::new(127, 0, 0, 3).into(), "127.0.0.3", &issued[3]);
    // An address without a certificate gets the first one, which this client can verify.
    shows(&site, Ipv4Addr::LOCALHOST.into(), ELSEWHERE, &issued[0]);
    // SNI has precedence over the address.
    shows(&site, two, HOST, &issued[0]);
    shows(&site, Ipv4Addr::LOCALHOST.into(), "two.test", &issued[1]);
    if has_v6() {
        shows(&site, Ipv6Addr::LOCALHOST.into(), "::1", &issued[2]);
    }
    // Some clients send an address as SNI, which is treated as no SNI (RFC 6066 section 3).
    for name in ["127.0.0.2", "127.0.0.3", "two.test"] {
        let to = format!("127.0.0.2:{}", site.v4.port());
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-connect", &to, "-servername", name]);
        let output = openssl.stdin(Stdio::null()).output().unwrap();
        // Versions of openssl print different spaces.
        let said = String::from_utf8_lossy(&output.stdout).replace(' ', "");
        assert!(said.contains("subject=CN=two\n"), "{name}:\n{said}");
    }
}

fn a_reload_changes_addresses(engine: Engine) {
    let (site, issued) =
        start(engine, &[("first", &format!("DNS:{HOST}")), ("other", "DNS:other.test")]);
    let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
    shows(&site, localhost, HOST, &issued[0]);
    let other = site.authority.issue_for("other", "IP:127.0.0.1", KeyKind::P256);
    let verdict = site.reload("HUP");
    assert!(verdict.contains("certificates reloaded"), "{verdict}");
    shows(&site, localhost, "127.0.0.1", &other);
    shows(&site, localhost, HOST, &issued[0]);
    // And removes them.
    site.authority.issue_for("other", "DNS:other.test", KeyKind::P256);
    let first =
        site.authority.issue_for("first", &format!("DNS:{HOST},IP:{ELSEWHERE}"), KeyKind::P256);
    site.reload("HUP");
    shows(&site, localhost, ELSEWHERE, &first);
}

//! Debian's HAProxy with the example configuration.

use std::fmt::Display;
use std::fs;

use super::program::{
    HTTP, HTTPS, PASSED, Program, assert_clients_distinguished, assert_ipv6_client,
    assert_ipv6_client_in_plaintext, is_installed, replace_existing,
};
use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::proxied_tracker::ProxiedTracker;
use crate::support::tls_tracker::HOST;
use crate::support::tracker::{Engine, test_both_engines, wait_for};

test_both_engines!(
    ends_tls,
    passes_tls_through,
    ends_tls_and_sends_proxy_headers,
    over_ipv6,
    by_unix_sockets,
    checks_health,
);

const EXAMPLE: &str = include_str!("../../dist/haproxy.cfg.example");

/// The options for the two versions of the PROXY protocol.
const VERSIONS: [&str; 2] = ["send-proxy", "send-proxy-v2"];

/// The example on its own address, with this address of the tracker for streams, and this version.
fn example(site: &ProxiedTracker, streams_to: impl Display, version: &str) -> String {
    let passed = format!("server annulus {streams_to} {version}\n");
    let config =
        replace_existing(EXAMPLE, "server annulus 127.0.0.1:3443 send-proxy-v2\n", &passed);
    let plain = format!("server annulus {}\n", site.tracker.v4);
    let config = replace_existing(&config, "server annulus 127.0.0.1:3000\n", &plain);
    let config = replace_existing(&config, "bind :80\n", &format!("bind @IP@:{HTTP}\n"));
    let config = replace_existing(&config, "bind :443 ssl", &format!("bind @IP@:{HTTPS} ssl"));
    let config = replace_existing(&config, "bind :8443\n", &format!("bind @IP@:{PASSED}\n"));
    let config = replace_existing(&config, "bind [::]:80 ", &format!("bind @IPV6@:{HTTP} "));
    let config = replace_existing(&config, "bind [::]:443 ", &format!("bind @IPV6@:{HTTPS} "));
    let config = replace_existing(&config, "bind [::]:8443 ", &format!("bind @IPV6@:{PASSED} "));
    replace_existing(&config, "/etc/haproxy/tracker.pem", &certificate(site))
}

/// A file with chain and key, as HAProxy expects.
fn certificate(site: &ProxiedTracker) -> String {
    let parts = ["pem", "key"].map(|end| site.authority.path(&format!("{HOST}.{end}")));
    let parts = parts.map(|part| fs::read_to_string(part).unwrap());
    let file = site.authority.path("haproxy.pem");
    fs::write(&file, parts.concat()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Runs one process in the foreground.
fn start(config: &str) -> Program {
    Program::start(&["haproxy", "-db", "-q", "-f", "@CONFIG@"], config)
}

fn ends_tls(engine: Engine) {
    if is_installed("haproxy::ends_tls", "haproxy", None) {
        let site = ProxiedTracker::start(engine, "X-Forwarded-For");
        let haproxy = start(&example(&site, site.proxy_protocol_tls, VERSIONS[1]));
        assert_clients_distinguished(&site, haproxy.at(HTTP), false, 1);
        assert_clients_distinguished(&site, haproxy.at(HTTPS), true, 2);
    }
}

/// By GET, as in the example, and by OPTIONS, which is HAProxy's default.
fn checks_health(engine: Engine) {
    if !is_installed("haproxy::checks_health", "haproxy", None) {
        return;
    }
    let answered = "annulus_requests_total{kind=\"page\",transport=\"http\",family=\"ipv4\",\
                    outcome=\"answered\"}";
    for redirect in ["", "[protocol]\nredirect = \"https://example.org\"\n"] {
        for check in ["option httpchk GET /\n", "option httpchk\n"] {
            let tables = format!("{redirect}{OPERATIONS}");
            let site = ProxiedTracker::start_with(engine, "X-Forwarded-For", &tables);
            let admin = AdminClient::of(&site.tracker);
            let config = example(&site, site.proxy_protocol_tls, VERSIONS[1]);
            let config = replace_existing(&config, "option httpchk GET /\n", check);
            // Only wrong responses count as failed checks, not slow ones.
            let soon = "timeout check 30s\n\
                        default-server check inter 50ms fall 10 rise 1000000\n";
            let haproxy = start(&replace_existing(&config, "default-server check\n", soon));
            wait_for("checks", || (admin.sample(answered) >= 20.0).then_some(()));
            // After failed checks it would not use the tracker again.
            assert_clients_distinguished(&site, haproxy.at(HTTP), false, 1);
            assert!(admin.labelled_samples("annulus_failures_total").is_empty());
        }
    }
}

fn over_ipv6(engine: Engine) {
    if is_installed("haproxy::over_ipv6", "haproxy", None) {
        let site = ProxiedTracker::start(engine, "X-Forwarded-For");
        assert_ipv6_client(&site, &start(&example(&site, site.proxy_protocol_tls, VERSIONS[1])));
    }
}

fn passes_tls_through(engine: Engine) {
    if is_installed("haproxy::passes_tls_through", "haproxy", None) {
        let site = ProxiedTracker::start(engine, "");
        for (version, torrent) in VERSIONS.into_iter().zip([1, 3]) {
            let haproxy = start(&example(&site, site.proxy_protocol_tls, version));
            assert_clients_distinguished(&site, haproxy.at(PASSED), true, torrent);
            let haproxy = start(&example(&site, site.proxy_protocol, version));
            assert_clients_distinguished(&site, haproxy.at(PASSED), false, torrent + 1);
        }
    }
}

fn ends_tls_and_sends_proxy_headers(engine: Engine) {
    if is_installed("haproxy::ends_tls_and_sends_proxy_headers", "haproxy", None) {
        let site = ProxiedTracker::start(engine, "");
        let bind = format!(":8443 ssl crt {}\n", certificate(&site));
        for (version, torrent) in VERSIONS.into_iter().zip(1..) {
            let config = example(&site, site.proxy_protocol, version);
            let haproxy = start(&replace_existing(&config, ":8443\n", &bind));
            assert_clients_distinguished(&site, haproxy.at(PASSED), true, torrent);
        }
    }
}

fn by_unix_sockets(engine: Engine) {
    if is_installed("haproxy::by_unix_sockets", "haproxy", None) {
        let site = ProxiedTracker::start(engine, "X-Forwarded-For");
        let streams_to = format!("unix@{}", site.local_proxy_protocol.display());
        let server = format!("server annulus unix@{}\n", site.local.display());
        for (version, torrent) in VERSIONS.into_iter().zip([1, 4]) {
            let config = example(&site, &streams_to, version);
            let plain = format!("server annulus {}\n", site.tracker.v4);
            let haproxy = start(&replace_existing(&config, &plain, &server));
            assert_clients_distinguished(&site, haproxy.at(HTTP), false, torrent);
            assert_clients_distinguished(&site, haproxy.at(HTTPS), true, torrent + 1);
            assert_clients_distinguished(&site, haproxy.at(PASSED), false, torrent + 2);
            assert_ipv6_client_in_plaintext(&site, &haproxy);
        }
    }
}

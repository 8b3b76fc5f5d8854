//! Debian's nginx with the example configuration.

use std::fmt::Display;

use super::program::{
    HTTP, HTTPS, PASSED, Program, assert_clients_distinguished, assert_ipv6_client,
    assert_ipv6_client_in_plaintext, is_installed, replace_existing,
};
use crate::support::proxied_tracker::ProxiedTracker;
use crate::support::tls_tracker::HOST;
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(
    ends_tls,
    with_another_header,
    passes_tls_through,
    ends_tls_and_sends_proxy_headers,
    over_ipv6,
    by_unix_sockets,
);

const EXAMPLE: &str = include_str!("../../dist/nginx.conf.example");

/// The example on its own address, with this address of the tracker for streams.
fn example(site: &ProxiedTracker, streams_to: impl Display) -> String {
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths: String = paths.map(|name| format!("{name}_temp_path @DIR@/{name};\n")).concat();
    let key = site.authority.path(&format!("{HOST}.key"));
    let chain = site.authority.path(&format!("{HOST}.pem"));
    let config = replace_existing(EXAMPLE, "access_log off;", &format!("access_log off;\n{paths}"));
    let config = replace_existing(
        &config,
        "server 127.0.0.1:3000;",
        &format!("server {};", site.tracker.v4),
    );
    let config = replace_existing(&config, "127.0.0.1:3443;", &format!("{streams_to};"));
    let config = replace_existing(&config, "listen 80;", &format!("listen @IP@:{HTTP};"));
    let config = replace_existing(&config, "listen 443 ssl", &format!("listen @IP@:{HTTPS} ssl"));
    let config = replace_existing(&config, "listen 8443;", &format!("listen @IP@:{PASSED};"));
    let config = replace_existing(&config, "listen [::]:80;", &format!("listen @IPV6@:{HTTP};"));
    let config =
        replace_existing(&config, "listen [::]:443 ssl", &format!("listen @IPV6@:{HTTPS} ssl"));
    let config =
        replace_existing(&config, "listen [::]:8443;", &format!("listen @IPV6@:{PASSED};"));
    let config = replace_existing(&config, "/etc/nginx/fullchain.pem", chain.to_str().unwrap());
    replace_existing(&config, "/etc/nginx/privkey.pem", key.to_str().unwrap())
}

/// Runs one process in the foreground.
fn start(config: &str) -> Program {
    let mode = "daemon off; master_process off; pid @DIR@/pid; error_log stderr;";
    let command = ["nginx", "-e", "stderr", "-c", "@CONFIG@", "-g", mode];
    Program::start(&command, config)
}

fn can_run(test: &str) -> bool {
    is_installed(test, "nginx", Some("/usr/lib/nginx/modules/ngx_stream_module.so"))
}

fn ends_tls(engine: Engine) {
    if can_run("nginx::ends_tls") {
        let site = ProxiedTracker::start(engine, "X-Forwarded-For");
        let nginx = start(&example(&site, site.proxy_protocol_tls));
        assert_clients_distinguished(&site, nginx.at(HTTP), false, 1);
        assert_clients_distinguished(&site, nginx.at(HTTPS), true, 2);
    }
}

fn over_ipv6(engine: Engine) {
    if can_run("nginx::over_ipv6") {
        let site = ProxiedTracker::start(engine, "X-Forwarded-For");
        assert_ipv6_client(&site, &start(&example(&site, site.proxy_protocol_tls)));
    }
}

fn with_another_header(engine: Engine) {
    if can_run("nginx::with_another_header") {
        let site = ProxiedTracker::start(engine, "X-Real-IP");
        let config = example(&site, site.proxy_protocol_tls);
        let added = "X-Forwarded-For $proxy_add_x_forwarded_for";
        let nginx = start(&replace_existing(&config, added, "X-Real-IP $remote_addr"));
        assert_clients_distinguished(&site, nginx.at(HTTP), false, 1);
        assert_clients_distinguished(&site, nginx.at(HTTPS), true, 2);
    }
}

fn passes_tls_through(engine: Engine) {
    if can_run("nginx::passes_tls_through") {
        let site = ProxiedTracker::start(engine, "X-Forwarded-For");
        let nginx = start(&example(&site, site.proxy_protocol_tls));
        assert_clients_distinguished(&site, nginx.at(PASSED), true, 1);
        let nginx = start(&example(&site, site.proxy_protocol));
        assert_clients_distinguished(&site, nginx.at(PASSED), false, 2);
    }
}

fn ends_tls_and_sends_proxy_headers(engine: Engine) {
    if can_run("nginx::ends_tls_and_sends_proxy_headers") {
        let site = ProxiedTracker::start(engine, "X-Forwarded-For");
        let [key, chain] = ["key", "pem"].map(|end| site.authority.path(&format!("{HOST}.{end}")));
        let listen = format!(
            "8443 ssl; ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
            chain.display(),
            key.display()
        );
        let nginx =
            start(&replace_existing(&example(&site, site.proxy_protocol), "8443;", &listen));
        assert_clients_distinguished(&site, nginx.at(PASSED), true, 1);
    }
}

fn by_unix_sockets(engine: Engine) {
    if can_run("nginx::by_unix_sockets") {
        let site = ProxiedTracker::start(engine, "X-Forwarded-For");
        let streams_to = format!("unix:{}", site.local_proxy_protocol.display());
        let upstream = format!("server unix:{};", site.local.display());
        let config = example(&site, streams_to);
        let config = replace_existing(&config, &format!("server {};", site.tracker.v4), &upstream);
        let nginx = start(&config);
        assert_clients_distinguished(&site, nginx.at(HTTP), false, 1);
        assert_clients_distinguished(&site, nginx.at(HTTPS), true, 2);
        assert_clients_distinguished(&site, nginx.at(PASSED), false, 3);
        assert_ipv6_client_in_plaintext(&site, &nginx);
    }
}

//! The servers' configuration files: one worker each, the cheapest means that a server has, and
//! the same certificate.

use std::net::SocketAddr;

use crate::floor::{Connections, body};
use crate::tls;

/// Connections that a server has to hold: those of the idle row and some to spare.
pub(crate) const DESCRIPTORS: u32 = 16_384;

/// Peers in an answer: what the other trackers give by default.
const PEERS_MAX: u32 = 200;

/// The cipher suite of TLS 1.3 that costs least here, for servers that let it be chosen.
const CIPHER_SUITE: &str = "TLS_AES_128_GCM_SHA256";

/// This tracker, with both listeners where there is to be one for TLS.
pub(crate) fn annulus(
    plain: SocketAddr,
    tls: Option<SocketAddr>,
    engine: &str,
    workers: u64,
) -> String {
    let mut text = format!("listen = [\"{plain}\"]\nworkers = {workers}\nengine = \"{engine}\"\n");
    if let Some(tls) = tls {
        let (chain, key) = (tls::file(tls::CHAIN), tls::file(tls::KEY));
        text += &format!(
            "[tls]\nlisten = [\"{tls}\"]\ncertificates = [{{ chain = {chain:?}, key = {key:?} }}]\n"
        );
    }
    text
}

/// nginx with the floor's answer.
pub(crate) fn nginx(plain: SocketAddr, tls: Option<SocketAddr>, body_bytes: usize) -> String {
    let body = body(body_bytes);
    let tls = tls.map_or(String::new(), |address| {
        let (chain, key) = (tls::file(tls::CHAIN), tls::file(tls::KEY));
        format!(
            "listen {address} ssl deferred reuseport backlog=4096;
        ssl_certificate {};
        ssl_certificate_key {};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHER_SUITE};",
            chain.display(),
            key.display()
        )
    });
    format!(
        "daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections {DESCRIPTORS}; }}
http {{
    access_log off;
    server_tokens off;
    default_type text/plain;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen {plain} deferred reuseport backlog=4096;
        {tls}
        location / {{ return 200 \"{body}\"; }}
    }}
}}
"
    )
}

/// hitch before a server that does not speak TLS.
pub(crate) fn hitch(frontend: SocketAddr, backend: SocketAddr) -> String {
    let brackets = |address: SocketAddr| format!("[{}]:{}", address.ip(), address.port());
    format!(
        "frontend = \"{}\"
backend = \"{}\"
pem-file = \"{}\"
tls-protos = TLSv1.3
ciphersuites = \"{CIPHER_SUITE}\"
workers = 1
backlog = 4096
daemon = off
ocsp-dir = \"\"
",
        brackets(frontend),
        brackets(backend),
        tls::file(tls::KEY_AND_CHAIN).display()
    )
}

/// aquatic_http, which has one listener and closes all connections or none.
pub(crate) fn aquatic(address: SocketAddr, connections: Connections, speaks_tls: bool) -> String {
    let keep_alive = connections == Connections::Keep;
    let (chain, key) = (tls::file(tls::CHAIN), tls::file(tls::KEY));
    format!(
        "socket_workers = 1
swarm_workers = 1
[network]
address = \"{address}\"
keep_alive = {keep_alive}
enable_tls = {speaks_tls}
tls_certificate_path = {chain:?}
tls_private_key_path = {key:?}
[protocol]
max_peers = {PEERS_MAX}
"
    )
}

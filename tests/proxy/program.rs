//! Proxy programs: each runs on its own address and is killed when the test ends.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::support::client::{HttpClient, request};
use crate::support::proxied_tracker::{CLIENT, OTHER, ProxiedTracker, external_ip};
use crate::support::requirements::{TempDir, can_run, missing_programs};
use crate::support::tls_client::over_tls;
use crate::support::torrent::parse_announce;
use crate::support::tracker::{has_v6, wait_for};

/// The ports that replace 80 and 443 of the examples.
pub(crate) const HTTP: u16 = 8080;
pub(crate) const HTTPS: u16 = 8444;
/// The port for streams that they pass through.
pub(crate) const PASSED: u16 = 8443;

/// A running proxy.
pub(crate) struct Program {
    child: Child,
    scratch: TempDir,
    ip: Ipv4Addr,
    /// The offset of its IPv6 ports: all programs share the IPv6 loopback address.
    offset_v6: u16,
}

impl Program {
    /// Runs `command`, in which `@CONFIG@` and `@DIR@` stand for its configuration file and its
    /// directory, and waits until it listens on all its ports. In `config`, `@IP@` and `@IPV6@`
    /// stand for its addresses; without IPv6, lines with the latter are left out.
    #[track_caller]
    pub(crate) fn start(command: &[&str], config: &str) -> Program {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // No other process uses this address, so its ports are free.
        let [.., high, low] = process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 1 + high % 250, low, count);
        let scratch = TempDir::new(&format!("proxy-{count}"));
        let directory = scratch.path().to_str().unwrap();
        let file = format!("{directory}/config");
        // Below the kernel's ephemeral ports.
        let offset_v6 = 2000 + 500 * (u16::from(count) % 40) + u16::from(low);
        let lines = config.lines().filter(|line| has_v6() || !line.contains("@IPV6@"));
        let mut config: String = lines.map(|line| format!("{line}\n")).collect();
        config = config.replace("@IP@", &ip.to_string()).replace("@DIR@", directory);
        for port in [HTTP, HTTPS, PASSED] {
            let at = format!("[::1]:{}", port + offset_v6);
            config = config.replace(&format!("@IPV6@:{port}"), &at);
        }
        fs::write(&file, config).unwrap();
        let words = command.iter().map(|word| word.replace("@CONFIG@", &file));
        let words: Vec<String> = words.map(|word| word.replace("@DIR@", directory)).collect();
        let log = File::create(scratch.path().join("log")).unwrap();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        let mut program = Program { child, scratch, ip, offset_v6 };
        for port in [HTTP, HTTPS, PASSED] {
            wait_for(format!("port {port} of {}", words[0]), || {
                let exit = program.child.try_wait().unwrap();
                assert!(exit.is_none(), "{} has ended:\n{}", words[0], program.log());
                TcpStream::connect(program.at(port)).ok()
            });
        }
        program
    }

    /// Its address with this port.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip.into(), port)
    }

    /// Its IPv6 address with this port.
    fn at_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port + self.offset_v6)
    }

    fn log(&self) -> String {
        let log = fs::read(self.scratch.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the proxy's log:\n{}", self.log());
        }
    }
}

/// Whether this machine has the program and the file that it needs.
pub(crate) fn is_installed(test: &str, program: &str, file: Option<&str>) -> bool {
    let mut missing = missing_programs(&[program]);
    let lacking = file.filter(|file| !Path::new(file).exists());
    missing.extend(lacking.map(|file| format!("the file {file}")));
    missing.is_empty() || can_run(test, &missing)
}

/// Replaces `old`, which must occur.
#[track_caller]
pub(crate) fn replace_existing(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "no {old:?} in\n{text}");
    text.replace(old, new)
}

/// Asserts that the tracker sees the addresses of two clients behind a proxy, with several requests
/// on a connection each and with forged headers.
#[track_caller]
pub(crate) fn assert_clients_distinguished(
    site: &ProxiedTracker,
    to: SocketAddr,
    secured: bool,
    torrent: u8,
) {
    let lies = "X-Forwarded-For: 198.51.100.1, 127.0.0.1\r\nX-Real-IP: 198.51.100.1\r\n";
    let requests = ["", lies].map(|lines| request("GET", &site.target(torrent), "HTTP/1.1", lines));
    let clients: [IpAddr; 2] = [CLIENT, OTHER];
    for client in clients {
        let connection = HttpClient::connect_from(client, to);
        if secured {
            let mut connection = over_tls(connection, &site.client_config());
            for request in &requests {
                connection.send(request);
                assert_eq!(external_ip(&connection.read_response()), client);
            }
        } else {
            let mut connection = connection;
            for request in &requests {
                connection.send(request);
                let response = connection.read_response();
                parse_announce(&response);
                assert_eq!(external_ip(&response), client);
            }
        }
    }
    site.assert_peers(torrent, &clients);
}

/// Asserts that the tracker sees the address of an IPv6 client on all ports, although the proxy
/// connects by IPv4.
#[track_caller]
pub(crate) fn assert_ipv6_client(site: &ProxiedTracker, program: &Program) {
    if !has_v6() {
        return;
    }
    for (port, torrent) in [HTTP, HTTPS, PASSED].into_iter().zip(1..) {
        let mut client = HttpClient::connect(program.at_v6(port));
        let response = if port == HTTP {
            client.send(site.announce(torrent));
            client.read_response()
        } else {
            let mut client = over_tls(client, &site.client_config());
            client.send(site.announce(torrent));
            client.read_response()
        };
        assert_eq!(external_ip(&response), Ipv6Addr::LOCALHOST, "port {port}");
    }
}

/// The same for the ports without TLS at the tracker.
#[track_caller]
pub(crate) fn assert_ipv6_client_in_plaintext(site: &ProxiedTracker, program: &Program) {
    if !has_v6() {
        return;
    }
    for (port, torrent) in [HTTP, PASSED].into_iter().zip(200..) {
        let mut client = HttpClient::connect(program.at_v6(port));
        client.send(site.announce(torrent));
        assert_eq!(external_ip(&client.read_response()), Ipv6Addr::LOCALHOST, "port {port}");
    }
}

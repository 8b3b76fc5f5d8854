//! Configuration files, valid and invalid, through the program.

mod access;
mod cluster;
mod operations;
mod privileges;
mod proxy;
mod tls;
mod udp;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Output};

use annulus::config::{
    AccessConfig, AccessMode, BadLines, CertificateFiles, ClientLimits, ClusterConfig,
    ClusterLocations, Config, ConnectionsConfig, DEFAULT_TOML, KeyLocations, LogConfig,
    OperationsConfig, PrivilegesConfig, ProtocolConfig, ProxyConfig, Secret, StateConfig,
    SwarmLimits, TlsConfig, UdpConfig, UdpListen,
};
use annulus::log::{Format, Level};
use annulus_ring::EngineChoice;

use crate::support::requirements::TempDir;

/// A temporary directory for a configuration.
struct ConfigDir(TempDir);

impl ConfigDir {
    fn new(test: &str) -> ConfigDir {
        ConfigDir(TempDir::new(&format!("config-{test}")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The output of `annulus --check-config -c annulus.toml` for `text`.
    fn check(&self, text: impl AsRef<[u8]>) -> Output {
        fs::write(self.path("annulus.toml"), text).unwrap();
        self.run(&["--check-config", "-c", "annulus.toml"])
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_annulus"));
        program.args(args).current_dir(self.0.path()).output().unwrap()
    }
}

/// Asserts that each file is refused with exactly these lines.
fn refused(test: &str, files: &[(&str, &[&str])]) {
    let dir = ConfigDir::new(test);
    for (text, lines) in files {
        let Output { status, stdout, stderr } = dir.check(text);
        let stderr = String::from_utf8(stderr).unwrap();
        let said: Vec<&str> = stderr.lines().collect();
        assert_eq!(said, *lines, "about this file:\n{text}");
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(stdout.is_empty(), "{text}");
    }
}

#[test]
fn a_valid_file_is_ok() {
    let dir = ConfigDir::new("good");
    for text in [
        "",
        "# nothing\n",
        "\u{feff}workers = 2\r\n[protocol]\r\ninterval = 1_700\r\n",
        "listen = [\n  \"127.0.0.1:0\", # any port\n  \"[::1]:6969\",\n]\nengine = 'epoll'\n",
        "protocol.interval = 1000\nprotocol.peer_timeout = 0x1000\nswarms = { max_peers = 5 }\n",
    ] {
        let Output { status, stdout, stderr } = dir.check(text);
        assert_eq!(String::from_utf8_lossy(&stderr), "", "{text}");
        assert_eq!(String::from_utf8_lossy(&stdout), "annulus.toml: ok\n", "{text}");
        assert_eq!(status.code(), Some(0), "{text}");
    }
}

#[test]
fn no_file_is_ok() {
    let Output { status, stdout, .. } = ConfigDir::new("none").run(&["--check-config"]);
    assert_eq!(String::from_utf8_lossy(&stdout), "defaults: ok\n");
    assert_eq!(status.code(), Some(0));
}

/// No two values are alike, so that keys cannot be confused.
#[test]
fn every_key_sets_its_field() {
    let text = "
        listen = [\"127.0.0.1:0\", \"[::1]:6969\"]
        workers = 3
        engine = \"io_uring\"
        [protocol]
        interval = 3_600
        min_interval = 1000
        peer_timeout = 4021
        default_numwant = 31
        max_numwant = 32
        max_scrape_torrents = 65
        full_scrape = true
        trust_ip_parameters = false
        external_ipv4 = \"203.0.113.7\"
        external_ipv6 = \"2001:db8::7\"
        redirect = \"https://example.org/\"
        [swarms]
        max_torrents = 101
        max_peers = 102
        max_peers_per_torrent = 103
        max_peers_per_address = 17
        [connections]
        max = 104
        header_timeout = 11
        idle_timeout = 0x0c
        handshake_timeout = 15
        send_timeout = 13
        shutdown_timeout = 14
        [tls]
        listen = [\"127.0.0.1:0\", \"[::1]:6970\"]
        certificates = [{ chain = \"one.pem\", key = \"one.key\" }]
        post_quantum = true
        [access]
        mode = \"allow\"
        file = \"torrents.txt\"
        bad_lines = \"refuse\"
        [proxy]
        trusted = [\"127.0.0.1\", \"2001:db8::/32\"]
        header = \"X-Real-IP\"
        protocol_listen = [\"[::1]:6970\"]
        [privileges]
        user = \"tracker\"
        group = \"65533\"
        chroot = \"empty\"
        landlock = false
        [operations]
        listen = [\"127.0.0.1:6971\"]
        [log]
        level = \"warning\"
        format = \"plain\"
        [limits]
        connections_per_address = 105
        requests_per_second = 106
        request_burst = 107
        ipv6_prefix = 48
        exempt = [\"192.0.2.0/24\"]
        [cluster]
        server = [\"rediss://:a%40@[::1]:7\", \"redis://b.test\"]
        channel = \"swarms\"
        user = \"node\"
        password = \"hunter2\"
        ca_file = \"ca.pem\"
        certificate = \"node.pem\"
        key = \"node.key\"
        [state]
        file = \"swarms.state\"
        interval = 108
        [udp]
        listen = [\"[::1]:6969\", \"127.0.0.1:6972\"]";
    let mut expected = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:6969".parse().unwrap()],
        workers: 3,
        engine: EngineChoice::IoUring,
        protocol: ProtocolConfig {
            interval_s: 3600,
            min_interval_s: 1000,
            peer_timeout_s: 4021,
            default_numwant: 31,
            max_numwant: 32,
            max_scrape_torrents: 65,
            full_scrape: true,
            trust_ip_parameters: false,
            external_ipv4: Some(Ipv4Addr::new(203, 0, 113, 7)),
            external_ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)),
            redirect: "https://example.org/".to_string(),
        },
        swarms: SwarmLimits {
            max_torrents: 101,
            max_peers: 102,
            max_peers_per_torrent: 103,
            max_peers_per_address: 17,
        },
        connections: ConnectionsConfig {
            max: 104,
            header_timeout_s: 11,
            idle_timeout_s: 12,
            handshake_timeout_s: 15,
            send_timeout_s: 13,
            shutdown_timeout_s: 14,
        },
        udp: UdpConfig {
            listen: UdpListen::Addresses(vec![
                "[::1]:6969".parse().unwrap(),
                "127.0.0.1:6972".parse().unwrap(),
            ]),
        },
        tls: TlsConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:6970".parse().unwrap()],
            certificates: vec![CertificateFiles {
                chain: "one.pem".into(),
                key: "one.key".into(),
                place: "here:31".to_string(),
            }],
            post_quantum: true,
        },
        access: AccessConfig {
            mode: AccessMode::Allow,
            file: "torrents.txt".into(),
            bad_lines: BadLines::Refuse,
            place: "here:35".to_string(),
        },
        proxy: ProxyConfig {
            trusted: vec!["127.0.0.1/32".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            header: "X-Real-IP".to_string(),
            protocol_listen: vec!["[::1]:6970".parse().unwrap()],
        },
        privileges: PrivilegesConfig {
            user: "tracker".to_string(),
            group: "65533".to_string(),
            chroot: "empty".into(),
            landlock: false,
            places: KeyLocations {
                user: "here:42".to_string(),
                group: "here:43".to_string(),
                chroot: "here:44".to_string(),
            },
        },
        operations: OperationsConfig { listen: vec!["127.0.0.1:6971".parse().unwrap()] },
        state: StateConfig {
            file: "swarms.state".into(),
            interval_s: 108,
            place: "here:66".to_string(),
        },
        log: LogConfig { level: Level::Warning, format: Format::Plain },
        limits: ClientLimits {
            connections_per_address: 105,
            requests_per_second: 106,
            request_burst: 107,
            ipv6_prefix: 48,
            exempt: vec!["192.0.2.0/24".parse().unwrap()],
        },
        cluster: ClusterConfig {
            servers: vec![
                "rediss://:a%40@[::1]:7".parse().unwrap(),
                "redis://b.test".parse().unwrap(),
            ],
            channel: "swarms".to_string(),
            user: "node".to_string(),
            password: Secret::new("hunter2"),
            credentials_file: "".into(),
            ca_file: "ca.pem".into(),
            certificate: "node.pem".into(),
            key: "node.key".into(),
            places: ClusterLocations {
                server: "here:58".to_string(),
                credentials_file: String::new(),
                ca_file: "here:62".to_string(),
                certificate: "here:63".to_string(),
                key: "here:64".to_string(),
            },
        },
    };
    assert_eq!(Config::parse(text, "here"), Ok(expected.clone()));

    let others = text.replace("io_uring", "epoll");
    let others = others.replace("full_scrape = true", "full_scrape = false");
    let others = others.replace("parameters = false", "parameters = true");
    let others = others.replace("quantum = true", "quantum = false");
    let others = others.replace("landlock = false", "landlock = true");
    let others = others.replace("allow", "deny").replace("refuse", "skip");
    expected.engine = EngineChoice::Epoll;
    expected.protocol.full_scrape = false;
    expected.protocol.trust_ip_parameters = true;
    expected.tls.post_quantum = false;
    expected.privileges.landlock = true;
    expected.access.mode = AccessMode::Deny;
    expected.access.bad_lines = BadLines::Skip;
    assert_eq!(Config::parse(&others, "here"), Ok(expected));
}

#[test]
fn unknown_names_get_a_suggestion() {
    refused(
        "unknown",
        &[
            (
                "[protocol]\nintervall = 5\nMin-Interval = 5\n",
                &[
                    "annulus.toml:2: unknown key \"protocol.intervall\"; \
                     did you mean \"protocol.interval\"?",
                    "annulus.toml:3: unknown key \"protocol.Min-Interval\"; \
                     did you mean \"protocol.min_interval\"?",
                ],
            ),
            (
                "interval = 1800\n[swarms]\nlisten = [\"0.0.0.0:1\"]\n",
                &[
                    "annulus.toml:1: unknown key \"interval\"; did you mean \"protocol.interval\"?",
                    "annulus.toml:3: unknown key \"swarms.listen\"; did you mean \"listen\"? \
                     It goes above the first [table]",
                ],
            ),
            (
                "[protocol.banana]\n\"a`b\" = 1\n[swarms]\n\"a`b\" = 1\n",
                &[
                    "annulus.toml:1: unknown key \"protocol.banana\"; the keys here are interval, \
                     min_interval, peer_timeout, default_numwant, max_numwant, \
                     max_scrape_torrents, full_scrape, trust_ip_parameters, external_ipv4, \
                     external_ipv6, redirect",
                    "annulus.toml:4: unknown key \"swarms.a`b\"; \
                     the keys here are max_torrents, max_peers, max_peers_per_torrent, \
                     max_peers_per_address",
                ],
            ),
            (
                "[swarms]\nbanana = 1\n",
                &["annulus.toml:2: unknown key \"swarms.banana\"; \
                   the keys here are max_torrents, max_peers, max_peers_per_torrent, \
                   max_peers_per_address"],
            ),
            (
                "banana = 1\n\"a\\u0007\\nb\" = 2\n",
                &[
                    "annulus.toml:1: unknown key \"banana\"; \
                     the keys here are listen, workers, engine",
                    "annulus.toml:2: unknown key \"a\u{fffd}...\"; \
                     the keys here are listen, workers, engine",
                ],
            ),
            (
                "[protocoll]\ninterval = 1\n[banana]\n",
                &[
                    "annulus.toml:1: unknown table \"protocoll\"; did you mean \"protocol\"?",
                    "annulus.toml:3: unknown table \"banana\"; \
                     the tables are protocol, swarms, connections, limits, udp, tls, access, \
                     proxy, cluster, privileges, operations, state, log",
                ],
            ),
        ],
    );
}

#[test]
fn suggestions_are_similar() {
    for (typed, meant) in [
        ("itnerval", "interval"),
        ("INTERVAL", "interval"),
        ("minInterval", "min_interval"),
        ("peers_timeout", "peer_timeout"),
        ("redirekt", "redirect"),
    ] {
        let error = Config::parse(&format!("[protocol]\n{typed} = 1"), "typed").unwrap_err();
        let hint = format!("\"protocol.{typed}\"; did you mean \"protocol.{meant}\"?");
        assert!(error.to_string().ends_with(&hint), "{error}");
    }
    for typed in ["m", "banana", "timeout", "interval_of_announce"] {
        let error = Config::parse(&format!("[protocol]\n{typed} = 1"), "typed").unwrap_err();
        assert!(error.to_string().contains("; the keys here are interval, "), "{error}");
    }
}

#[test]
fn values_out_of_bounds_get_the_bounds() {
    refused(
        "bounds",
        &[
            (
                "workers = 257\n[protocol]\ninterval = 5\n",
                &[
                    "annulus.toml:1: workers = 257: must be 0 to 256 threads",
                    "annulus.toml:3: protocol.interval = 5: must be 60 to 86400 seconds",
                ],
            ),
            (
                "[limits]\nconnections_per_address = 65536\nrequests_per_second = 1000001\n\
                 request_burst = 60000001\nipv6_prefix = 65\nexempt = [\"10.0.0.1/8\"]\n",
                &[
                    "annulus.toml:2: limits.connections_per_address = 65536: \
                     must be 0 to 65535 connections",
                    "annulus.toml:3: limits.requests_per_second = 1000001: \
                     must be 0 to 1_000_000 requests",
                    "annulus.toml:4: limits.request_burst = 60000001: \
                     must be 0 to 60_000_000 requests",
                    "annulus.toml:5: limits.ipv6_prefix = 65: must be 32 to 64 bits",
                    "annulus.toml:6: limits.exempt = \"10.0.0.1/8\": \
                     there are bits set after the first 8: write \"10.0.0.0/8\"",
                ],
            ),
            (
                "[swarms]\nmax_peers_per_address = 1001\n",
                &["annulus.toml:2: swarms.max_peers_per_address = 1001: \
                   must be 0 to 1000 endpoints"],
            ),
            (
                "[swarms]\nmax_peers = -1\nmax_torrents = 99999999999999999999999999\n",
                &[
                    "annulus.toml:2: swarms.max_peers = -1: must be 1 to 4_000_000_000 peers",
                    "annulus.toml:3: swarms.max_torrents = 99999999999999999999999999: \
                     must be 1 to 100_000_000 torrents",
                ],
            ),
            (
                "[protocol]\nredirect = \"example.org\"\n",
                &["annulus.toml:2: protocol.redirect = \"example.org\": expected \"\", or a URL \
                   like \"https://example.org/\" of 1024 bytes at most"],
            ),
            (
                "[protocol]\nredirect = \"http://a/\\r\\nSet-Cookie: b\"\n",
                &["annulus.toml:2: protocol.redirect = \"http://a/\\r\\nSet-Cookie: b\": \
                   expected \"\", or a URL like \"https://example.org/\" of 1024 bytes at most"],
            ),
            (
                "[protocol]\nexternal_ipv4 = \"192.168.1.2\"\nexternal_ipv6 = \"fd00::1\"\n",
                &[
                    "annulus.toml:2: protocol.external_ipv4 = \"192.168.1.2\": \
                     must be a public address: others cannot reach this one",
                    "annulus.toml:3: protocol.external_ipv6 = \"fd00::1\": \
                     must be a public address: others cannot reach this one",
                ],
            ),
            (
                "[protocol]\nexternal_ipv4 = \"2001:db8::7\"\nexternal_ipv6 = \"203.0.113.7\"\n",
                &[
                    "annulus.toml:2: protocol.external_ipv4 = \"2001:db8::7\": \
                     is IPv6: write it to external_ipv6",
                    "annulus.toml:3: protocol.external_ipv6 = \"203.0.113.7\": \
                     is IPv4: write it to external_ipv4",
                ],
            ),
            (
                "[protocol]\nexternal_ipv4 = \"203.0.113.7:80\"\nexternal_ipv6 = 5\n",
                &[
                    "annulus.toml:2: protocol.external_ipv4 = \"203.0.113.7:80\": \
                     expected \"\", or an IPv4 address like \"203.0.113.7\" \
                     (no port, and names are not looked up)",
                    "annulus.toml:3: protocol.external_ipv6 = 5: expected \"\", or an IPv6 \
                     address like \"2001:db8::7\", without brackets",
                ],
            ),
            (
                "engine = \"iouring\"\n",
                &["annulus.toml:1: engine = \"iouring\": must be \"auto\", \"io_uring\" or \
                   \"epoll\"; did you mean \"io_uring\"?"],
            ),
            (
                "engine = \"kqueue\"\n",
                &["annulus.toml:1: engine = \"kqueue\": must be \"auto\", \"io_uring\" or \
                   \"epoll\""],
            ),
        ],
    );
}

#[test]
fn values_of_another_type_get_the_type() {
    refused(
        "type",
        &[
            (
                "engine = 1\n[protocol]\ninterval = \"thirty\"\nmin_interval = 30.5\n\
                 full_scrape = \"yes\"\npeer_timeout = [1]\nmax_numwant = { a = 1 }\n",
                &[
                    "annulus.toml:1: engine = 1: expected \"auto\", \"io_uring\" or \"epoll\"",
                    "annulus.toml:3: protocol.interval = \"thirty\": \
                     expected a whole number of seconds, 60 to 86400",
                    "annulus.toml:4: protocol.min_interval = 30.5: \
                     expected a whole number of seconds, 30 to 86400",
                    "annulus.toml:5: protocol.full_scrape = \"yes\": expected true or false",
                    "annulus.toml:6: protocol.peer_timeout = [1]: \
                     expected a whole number of seconds, 60 to 172800",
                    // The upper bound follows from the size of responses.
                    &format!(
                        "annulus.toml:7: protocol.max_numwant = a table: \
                         expected a whole number of peers, 1 to {}",
                        numbers()
                            .iter()
                            .find(|key| key.name == "protocol.max_numwant")
                            .unwrap()
                            .max
                    ),
                ],
            ),
            (
                "[workers]\n[[swarms]]\nmax_peers = 1\n",
                &[
                    "annulus.toml:1: workers = a table: \
                     expected a whole number of threads, 0 to 256",
                    "annulus.toml:2: \"swarms\" is a table: \
                     write [swarms] on a line and its keys below it",
                ],
            ),
            (
                "protocol = 5\n",
                &["annulus.toml:1: \"protocol\" is a table: \
                   write [protocol] on a line and its keys below it"],
            ),
        ],
    );
}

#[test]
fn contradictions_name_both_keys() {
    refused(
        "constraints",
        &[
            (
                "[protocol]\ninterval = 600\n",
                &["annulus.toml:2: protocol.min_interval = 900 (the default): \
                   must be at most 600, because of protocol.interval = 600"],
            ),
            (
                "[protocol]\ninterval = 3600\n\npeer_timeout = 4019\n",
                &["annulus.toml:4: protocol.peer_timeout = 4019: \
                   must be at least 4020, because of protocol.interval = 3600 (line 2)"],
            ),
            (
                // 10 percent of 1801 are 180.1: a peer at the very end must not expire.
                "[protocol]\npeer_timeout = 2041\ninterval = 1801\n",
                &["annulus.toml:2: protocol.peer_timeout = 2041: \
                   must be at least 2042, because of protocol.interval = 1801 (line 3)"],
            ),
            (
                "[protocol]\ndefault_numwant = 201\n",
                &["annulus.toml:2: protocol.default_numwant = 201: \
                   must be at most 200, because of protocol.max_numwant = 200 (the default)"],
            ),
            (
                "[limits]\nrequests_per_second = 20\nrequest_burst = 19\n",
                &["annulus.toml:3: limits.request_burst = 19: must be 0, or at least 20, \
                   because of limits.requests_per_second = 20 (line 2)"],
            ),
            (
                // A refused value is not compared with others.
                "[protocol]\ninterval = 10\nmin_interval = 80000\n",
                &["annulus.toml:2: protocol.interval = 10: must be 60 to 86400 seconds"],
            ),
        ],
    );
    let ends = "[protocol]\ninterval = 86400\nmin_interval = 86400\npeer_timeout = 95100\n\
                max_numwant = 1\ndefault_numwant = 1\n";
    assert!(Config::parse(ends, "ends").is_ok(), "equal is no contradiction");
}

#[test]
fn listen_entries_say_what_is_wrong_with_them() {
    let form = "a list of addresses with ports, like [\"0.0.0.0:3000\", \"[::]:3000\"]";
    refused(
        "listen",
        &[
            (
                "listen = \"0.0.0.0:80\"\n",
                &[&format!("annulus.toml:1: listen = \"0.0.0.0:80\": expected {form}")],
            ),
            ("[listen]\n", &[&format!("annulus.toml:1: listen = a table: expected {form}")]),
            (
                "listen = [\n\"localhost\",\n\"3000\", \"[::1]\",\n\":80\",\n\
                 \"10.0.0.1\",\n\"::1\",\n\
                 \"[::ffff:10.0.0.1]:80\",\n\"[::]:1\",\n\"[0::0]:1\",\ntrue,\n\
                 \"0.0.0.0:80\", \"[::1]:1\", \"127.0.0.1:1\", \"127.0.0.1:80\"]\n",
                &[
                    "annulus.toml:2: listen = \"localhost\": not an IP address with a port, \
                     like \"127.0.0.1:3000\" or \"[::1]:3000\" (names are not looked up)",
                    "annulus.toml:3: listen = \"3000\": a port alone: \
                     write \"0.0.0.0:3000\", \"[::]:3000\", or both",
                    "annulus.toml:3: listen = \"[::1]\": an IPv6 address goes in brackets, \
                     the port after them, like \"[::1]:3000\"",
                    "annulus.toml:4: listen = \":80\": a port alone: \
                     write \"0.0.0.0:80\", \"[::]:80\", or both",
                    "annulus.toml:5: listen = \"10.0.0.1\": the port is missing: \
                     write \"10.0.0.1:3000\"",
                    "annulus.toml:6: listen = \"::1\": an IPv6 address goes in brackets, \
                     the port after them, like \"[::1]:3000\"",
                    "annulus.toml:7: listen = \"[::ffff:10.0.0.1]:80\": \
                     an IPv4 address written as IPv6: write \"10.0.0.1:80\"",
                    "annulus.toml:9: listen = \"[0::0]:1\": is listed twice",
                    "annulus.toml:10: listen = true: \
                     expected an address with a port in quotes, like \"0.0.0.0:3000\"",
                    "annulus.toml:11: listen = \"[::1]:1\": \
                     is listed with \"[::]:1\", and one includes the other",
                    "annulus.toml:11: listen = \"127.0.0.1:80\": \
                     is listed with \"0.0.0.0:80\", and one includes the other",
                ],
            ),
        ],
    );
    let many: Vec<String> = (1..=65).map(|port| format!("\"[::1]:{port}\"")).collect();
    let error = Config::parse(&format!("listen = [{}]", many.join(",")), "many").unwrap_err();
    assert!(error.to_string().ends_with("...: must be at most 64 addresses"), "{error}");
    assert!(Config::parse(&format!("listen = [{}]", many[1..].join(",")), "many").is_ok());
}

#[test]
fn near_misses_of_addresses_get_a_hint() {
    for (text, hint) in [
        ("3000", "a port alone: write \"0.0.0.0:3000\""),
        ("*:80", "a port alone: write \"0.0.0.0:80\""),
        ("127.0.0.1", "the port is missing: write \"127.0.0.1:3000\""),
        ("[::1]", "an IPv6 address goes in brackets"),
        ("::1:3000", "an IPv6 address goes in brackets"),
        ("localhost:3000", "not an IP address with a port"),
        ("127.0.0.1:70000", "not an IP address with a port"),
        ("70000", "not an IP address with a port"),
        ("", "not an IP address with a port"),
        ("/run/annulus.sock", "a path: write \"unix:/run/annulus.sock\""),
    ] {
        let error = Config::parse(&format!("listen = [\"{text}\"]"), "hint").unwrap_err();
        let start = format!("hint:1: listen = \"{text}\": {hint}");
        assert!(error.to_string().starts_with(&start), "{text}: {error}");
    }
}

#[test]
fn syntax_is_located() {
    refused(
        "syntax",
        &[
            (
                // The rest after a syntax error is not checked.
                "workers 3\n[protocol]\ninterval = 5\n",
                &["annulus.toml:1:9: key with no value, expected `=`"],
            ),
            (
                "engine = epoll\n",
                &["annulus.toml:1:10: engine = epoll: string values must be quoted, expected \
                   literal string"],
            ),
            (
                "[protocol]\ninterval = 30s\n",
                &["annulus.toml:2:12: protocol.interval = 30s: \
                   expected a whole number of seconds, 60 to 86400"],
            ),
            (
                "[protocol]\nmin_interval =\n",
                &["annulus.toml:2:15: protocol.min_interval has no value: \
                   expected a whole number of seconds, 30 to 86400"],
            ),
            (
                "listen = [\"[::1]:80\"\nworkers = 3\n[protocol]\ninterval = 5\n",
                &["annulus.toml:2:1: missing comma between array elements, expected `,`"],
            ),
            (
                // The column counts characters, not bytes.
                "# e\n\"é\" 3\n",
                &["annulus.toml:2:5: key with no value, expected `=`"],
            ),
            (
                "[protocol]\nfull_scrape = tru\n",
                &["annulus.toml:2:15: protocol.full_scrape = tru: invalid boolean, expected \
                   `true`"],
            ),
        ],
    );
}

/// After any change of one character the result is a configuration, or errors that name the file.
#[test]
fn no_typo_panics() {
    let keys = |line: &&str| !line.starts_with('#') && !line.is_empty();
    let printed: String =
        DEFAULT_TOML.lines().filter(keys).map(|line| line.to_string() + "\n").collect();
    let certificate = "[[tls.certificates]]\nchain = 'c'\nkey = 'k'\n";
    let text = printed.replace("certificates = []\n", "") + certificate;
    assert!(Config::parse(&text, "whole").is_ok(), "{text}");
    let slips = ["", "\"", "'''", "[", "]", "{", "=", "\n", ".", "\\", "\u{e9}", "\0", "#"];
    let mut refused = 0;
    for at in 0..text.len() {
        for slip in slips {
            // The character replaced, something inserted before it, and the end cut off.
            for rest in [&text[at + 1..], &text[at..], ""] {
                let slipped = format!("{}{slip}{rest}", &text[..at]);
                let Err(errors) = Config::parse(&slipped, "slip.toml") else { continue };
                let errors = errors.to_string();
                refused += 1;
                assert!(errors.lines().next().is_some(), "{slipped}");
                for line in errors.lines() {
                    assert!(line.starts_with("slip.toml:"), "{line}\n{slipped}");
                    assert!(!line.contains(char::is_control), "{line}\n{slipped}");
                }
            }
        }
    }
    assert!(refused > text.len(), "{refused} of {} slips", text.len());
}

#[test]
fn duplicates_are_refused() {
    refused(
        "twice",
        &[
            (
                "workers = 1\n[protocol]\ninterval = 1800\ninterval = 1800\n[swarms]\n",
                &["annulus.toml:4:1: duplicate key \"protocol.interval\", first on line 3"],
            ),
            (
                "workers = 1\n[protocol]\ninterval = 1800\n[swarms]\n[protocol]\n",
                &["annulus.toml:5:2: duplicate table [protocol]"],
            ),
            ("a = 1\na = 2\n", &["annulus.toml:2:1: duplicate key \"a\", first on line 1"]),
        ],
    );
}

#[test]
fn a_file_that_is_no_text_is_refused() {
    let dir = ConfigDir::new("bytes");
    let said = |output: Output| {
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        said(dir.check(b"# a\n# \xc3\xa9 \xe9\n")),
        "annulus.toml:2: not UTF-8 (byte 0xe9)\n"
    );
    let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    };
    let marked = "\u{feff}workers = 1\n";
    let mut cut_off = wide(&"0".repeat(1000), u16::to_le_bytes);
    cut_off.pop();
    for (bytes, from) in [
        (wide(marked, u16::to_le_bytes), "UTF-16"),
        (wide(marked, u16::to_be_bytes), "UTF-16"),
        (wide(&marked[3..], u16::to_le_bytes), "UTF-16LE"),
        (wide(&marked[3..], u16::to_be_bytes), "UTF-16BE"),
        (wide("a\n", u16::to_le_bytes), "UTF-16LE"),
        (wide("\u{feff}", u16::to_le_bytes), "UTF-16"),
        (cut_off, "UTF-16LE"),
        (b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32"),
        (b"\0\0\xfe\xff\0\0\0a".to_vec(), "UTF-32"),
    ] {
        let name = &from[..6];
        assert_eq!(
            said(dir.check(bytes)),
            format!(
                "annulus.toml: text in {name}: save it as UTF-8, or convert it by \
                 \"iconv -f {from} -t UTF-8\"\n"
            )
        );
    }
    for bytes in [&b"a\0"[..], b"a\0bcdefg\0h", &[0; 100]] {
        assert!(!said(dir.check(bytes)).contains("UTF"), "{bytes:?}");
    }
    let long = "# 3456789 123456\n".repeat(16 * 1024);
    assert_eq!(
        said(dir.check(&long)),
        "annulus.toml: longer than 262144 bytes: not a configuration\n"
    );
    let endless = dir.run(&["--check-config", "-c", "/dev/zero"]);
    assert!(said(endless).starts_with("/dev/zero: longer than"));

    let unknown: String = (0..5000).map(|at| format!("x{at} = 1\n")).collect();
    let lines = said(dir.check(unknown));
    assert_eq!(lines.lines().count(), 101);
    assert_eq!(lines.lines().last(), Some("annulus.toml: more than can be listed"));
}

#[test]
fn an_unreadable_file_is_an_error_for_every_flag() {
    let dir = ConfigDir::new("unreadable");
    for args in [&["-c", "absent.toml"][..], &["--check-config", "--config=absent.toml"]] {
        let output = dir.run(args);
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "absent.toml: cannot be read: No such file or directory (os error 2)\n"
        );
        assert_eq!(output.status.code(), Some(1));
    }
    let output = dir.run(&["--check-config", "-c", "."]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        ".: cannot be read: Is a directory (os error 21)\n"
    );
}

#[test]
fn an_error_prevents_the_start() {
    let dir = ConfigDir::new("start");
    fs::write(dir.path("annulus.toml"), "workers = 1000\n").unwrap();
    let output = dir.run(&["-c", "annulus.toml"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "annulus.toml:1: workers = 1000: must be 0 to 256 threads\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_printed_default_is_the_default() {
    assert_eq!(Config::parse(DEFAULT_TOML, "printed"), Ok(Config::default()));
    let printed = DEFAULT_TOML;
    let columns = printed.lines().map(str::len).max();
    assert!(columns <= Some(80), "{columns:?}");
}

/// `key = value` of a printed default with another allowed value.
fn perturbed(line: &str) -> Option<String> {
    let (key, value) = line.split_once(" = ").filter(|_| !line.starts_with('#'))?;
    let other = match value {
        "true" => "false".to_string(),
        "false" => "true".to_string(),
        "\"auto\"" if key == "engine" => "\"epoll\"".to_string(),
        "\"auto\"" => "\"plain\"".to_string(),
        "\"info\"" => "\"error\"".to_string(),
        "\"\"" if key == "redirect" => "\"http://example.org/\"".to_string(),
        "\"\"" if key == "external_ipv4" => "\"203.0.113.7\"".to_string(),
        "\"\"" if key == "external_ipv6" => "\"2001:db8::7\"".to_string(),
        "\"\"" if key == "header" => "\"X-Real-IP\"".to_string(),
        _ if key == "server" => "\"rediss://u:p@i:7\"".to_string(),
        _ if key == "trusted" || key == "exempt" => "[\"10.0.0.0/8\"]".to_string(),
        "64" if key == "ipv6_prefix" => "56".to_string(),
        "\"off\"" => "\"allow\"".to_string(),
        "\"refuse\"" => "\"skip\"".to_string(),
        "\"same\"" => "[\"127.0.0.1:4\", \"[::1]:4\"]".to_string(),
        path if path.starts_with('"') => "\"b\"".to_string(),
        "[]" => "[\"127.0.0.1:2\", \"[::1]:2\"]".to_string(),
        "[\"127.0.0.1:3001\"]" => "[\"127.0.0.1:3\", \"[::1]:3\"]".to_string(),
        list if list.starts_with("[{") => "[\n{ chain = \"c\", key = \"d\" }]".to_string(),
        list if list.starts_with('[') => "[\"127.0.0.1:1\", \"[::1]:1\"]".to_string(),
        number => (number.replace('_', "").parse::<u64>().unwrap() + 1).to_string(),
    };
    Some(format!("{key} = {other}"))
}

/// The lines of `{:#?}` with values: one for each field or entry of a list.
fn values(config: &Config) -> Vec<String> {
    let text = format!("{config:#?}");
    let is_value = |line: &&str| {
        line.ends_with(',') && !["},", "],", "),"].iter().any(|end| line.ends_with(end))
    };
    text.lines().filter(is_value).map(str::to_string).collect()
}

#[test]
fn every_printed_key_is_read_and_every_field_is_printed() {
    // Addresses for HTTPS need a certificate.
    let certificate = "certificates = [{ chain = \"a\", key = \"b\" }]";
    let printed = DEFAULT_TOML.replace("certificates = []", certificate);
    // Keys of proxies need a trusted one.
    let printed = printed.replace("\ntrusted = []", "\ntrusted = [\"::1\"]");
    // An access list needs a file. That of the state has another name.
    let printed = printed.replacen("\nfile = \"\"", "\nfile = \"a\"", 1);
    let printed = printed.replacen("\nfile = \"\"", "\nfile = \"state\"", 1);
    // A server has a host.
    let printed = printed.replace("server = \"\"", "server = \"redis://h\"");
    // A group and a root directory need a user.
    let (before, privileges) = printed.split_once("\n[privileges]\n").unwrap();
    let privileges = ["user", "group", "chroot"].iter().fold(privileges.to_owned(), |it, key| {
        it.replace(&format!("\n{key} = \"\""), &format!("\n{key} = \"a\""))
    });
    let printed = format!("{before}\n[privileges]\n{privileges}");
    // Two tables have a list of the same name: one of the two lines must be identified by its
    // value.
    let (before, after) = printed.rsplit_once("\nlisten = []").unwrap();
    let printed = format!("{before}\nlisten = [\"127.0.0.1:3001\"]{after}");
    let all_values = |text: &str| values(&Config::parse(text, "perturbed").unwrap());
    let default = all_values(&printed);
    let differing =
        |text: &str| all_values(text).iter().filter(|value| !default.contains(value)).count();
    let keys = printed.lines().filter_map(|line| Some((line, perturbed(line)?)));
    for (line, perturbed) in keys.clone() {
        let fields = match line.split_once(" = ") {
            Some(("listen", _)) => 2,
            // Only what is listened on: it differs below, where all do.
            Some(("protocol_listen", _)) => continue,
            // Only with a password, or with a server that has TLS.
            Some(("user", "\"\"") | ("ca_file" | "certificate" | "key", _)) => continue,
            // Its host, port, TLS, user and password.
            Some(("server", _)) => 5,
            // And its place.
            Some(("credentials_file", _)) => 2,
            // And the places of what is further down: of the access list, the server, three
            // privileges and the state file.
            Some(("certificates", _)) => 9,
            _ => 1,
        };
        // A whole line: some keys begin like the end of another.
        let text = printed.replace(&format!("\n{line}\n"), &format!("\n{perturbed}\n"));
        assert_eq!(differing(&text), fields, "{perturbed}");
    }
    // Only without a password, and above as well.
    let all = printed.replace("\ncredentials_file", "\n# credentials_file");
    let all = all.lines().map(|line| perturbed(line).unwrap_or(line.to_string()) + "\n");
    let all: String = all.collect();
    let kept = ["credentials_file: \"\",", "credentials_file: \"\","].len();
    assert_eq!(differing(&all) + kept, all_values(&all).len(), "a field has no key");
    assert!(keys.count() >= 30);
}

/// A numeric key, as the printed default describes it.
struct Number {
    /// The key with its table.
    name: String,
    min: u64,
    max: u64,
}

fn numbers() -> Vec<Number> {
    let (mut numbers, mut table, mut comment) = (Vec::new(), String::new(), String::new());
    for line in DEFAULT_TOML.lines() {
        if let Some(words) = line.strip_prefix("# ") {
            comment = format!("{comment} {words}").replace('_', "");
        } else if let Some(name) = line.strip_prefix('[') {
            table = name.replace(']', ".");
        } else if let Some((key, _)) = line.split_once(" = ") {
            let (_, allowed) = comment.split_once("Allowed: ").expect("every key says what it is");
            let words: Vec<&str> = allowed.split_whitespace().collect();
            if let [min, "to", max, ..] = words[..] {
                let [min, max] = [min, max].map(|end| end.parse().unwrap());
                numbers.push(Number { name: format!("{table}{key}"), min, max });
            }
        } else {
            comment.clear();
        }
    }
    numbers
}

#[test]
fn printed_bounds_are_the_bounds() {
    let numbers = numbers();
    assert!(numbers.len() >= 15, "{}", numbers.len());
    for Number { name, min, max } in numbers {
        // Another key may contradict the value, but its bounds must not.
        let refused = |value: i128| {
            let parsed = Config::parse(&format!("{name} = {value}\n"), "bounds");
            parsed.is_err_and(|errors| {
                let first = errors.to_string().lines().next().unwrap().replace('_', "");
                first.contains(&format!("= {value}: must be {min} to {max} "))
            })
        };
        let (min, max) = (i128::from(min), i128::from(max));
        assert!(refused(min - 1) && refused(max + 1), "{name} beyond {min} to {max}");
        assert!(!refused(min) && !refused(max), "{name} at {min} or {max}");
    }
}

//! The keys of `[proxy]`: ranges of addresses, the name of a header, and their relations to the
//! listening addresses.

use std::net::IpAddr;

use annulus::config::{Config, ProxyConfig};

use super::refused;

#[test]
fn proxies_are_configured() {
    let text = "listen = [\"127.0.0.1:3000\", \"[::1]:3000\"]\n\
                [proxy]\n\
                protocol_listen = [\"[::1]:3000\"]\n\
                trusted = [\"::/0\", \"10.0.0.0/8\", \"::1\"]\n";
    let ProxyConfig { trusted, header, protocol_listen } =
        Config::parse(text, "here").unwrap().proxy;
    let trusted: Vec<String> = trusted.iter().map(|range| range.to_string()).collect();
    assert_eq!(trusted, ["::/0", "10.0.0.0/8", "::1/128"]);
    assert_eq!(header, "");
    assert_eq!(protocol_listen, ["[::1]:3000".parse().unwrap()]);
    // Without a key that needs it.
    let alone = Config::parse("[proxy]\ntrusted = [\"10.0.0.1\"]\nheader = \"\"\n", "alone");
    assert_eq!(alone.unwrap().proxy.trusted.len(), 1);
}

#[test]
fn ranges_say_what_is_wrong_with_them() {
    let form = "a list of addresses and ranges, \
                like [\"192.0.2.1\", \"10.0.0.0/8\", \"2001:db8::/32\"]";
    refused(
        "ranges",
        &[
            (
                "[proxy]\ntrusted = \"10.0.0.0/8\"\n",
                &[&format!("annulus.toml:2: proxy.trusted = \"10.0.0.0/8\": expected {form}")],
            ),
            (
                "[proxy]\ntrusted = [\n\"10.0.0.0/8\",\n\"10.0.0.1/8\",\n\"localhost\",\n5,\n\
                 \"10.0.0.0/8\",\n\"fe80::/129\",\n]\n",
                &[
                    "annulus.toml:4: proxy.trusted = \"10.0.0.1/8\": \
                     there are bits set after the first 8: write \"10.0.0.0/8\"",
                    "annulus.toml:5: proxy.trusted = \"localhost\": not an IP address or a range \
                     of them, like \"192.0.2.1\" or \"10.0.0.0/8\" (names are not looked up)",
                    "annulus.toml:6: proxy.trusted = 5: \
                     expected an address or a range in quotes, like \"10.0.0.0/8\"",
                    "annulus.toml:7: proxy.trusted = \"10.0.0.0/8\": is listed twice",
                    "annulus.toml:8: proxy.trusted = \"fe80::/129\": \
                     after the / must be 0 to 128 bits",
                ],
            ),
        ],
    );
}

#[test]
fn near_misses_of_ranges_get_a_hint() {
    for (text, hint) in [
        ("2001:db8::1/32", "there are bits set after the first 32: write \"2001:db8::/32\""),
        ("10.0.0.1/0", "there are bits set after the first 0: write \"0.0.0.0/0\""),
        ("10.0.0.0/33", "after the / must be 0 to 32 bits"),
        ("10.0.0.0/", "after the / must be 0 to 32 bits"),
        ("10.0.0.0/+8", "after the / must be 0 to 32 bits"),
        ("10.0.0.0/255.0.0.0", "after the / must be 0 to 32 bits"),
        ("::/129", "after the / must be 0 to 128 bits"),
        ("::ffff:10.0.0.0/104", "an IPv4 address written as IPv6"),
        ("[2001:db8::]/32", "brackets are for ports only: write \"2001:db8::/32\""),
        ("[::1]", "brackets are for ports only: write \"::1\""),
        ("10.0.0.1:80", "write the address without a port"),
        ("[::1]:80", "write the address without a port"),
        ("10/8", "not an IP address or a range"),
        ("proxy.example", "not an IP address or a range"),
        ("", "not an IP address or a range"),
    ] {
        let error = Config::parse(&format!("[limits]\nexempt = [\"{text}\"]"), "hint").unwrap_err();
        let start = format!("hint:2: limits.exempt = \"{text}\": {hint}");
        assert!(error.to_string().starts_with(&start), "{text}: {error}");
    }
}

#[test]
fn ranges_contain_the_addresses_that_begin_with_their_bits() {
    for (range, inside, outside) in [
        ("10.0.0.0/8", "10.0.0.0 10.255.255.255", "9.255.255.255 11.0.0.0 a00::"),
        ("10.1.2.4/31", "10.1.2.4 10.1.2.5", "10.1.2.3 10.1.2.6"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.2 ::ffff:10.1.2.3"),
        ("0.0.0.0/0", "0.0.0.0 255.255.255.255", ":: ::ffff:1.2.3.4"),
        ("::/0", ":: ffff:: ::1.2.3.4", "0.0.0.0"),
        ("2001:db8::8/125", "2001:db8::8 2001:db8::f", "2001:db8::7 2001:db8::10"),
        ("::1", "::1", "::2 0.0.0.1"),
    ] {
        let text = format!("[proxy]\ntrusted = [\"{range}\"]");
        let trusted = Config::parse(&text, "ranges").unwrap().proxy.trusted;
        for (ips, expected) in [(inside, true), (outside, false)] {
            for ip in ips.split(' ') {
                let ip: IpAddr = ip.parse().unwrap();
                assert_eq!(trusted[0].contains(&ip), expected, "{ip} in {range}");
            }
        }
    }
}

#[test]
fn headers_are_names() {
    let form = "the name of a header, like \"X-Forwarded-For\", or \"\" for none";
    let trusted = "trusted = [\"10.0.0.1\"]";
    refused(
        "header",
        &[
            (
                &format!("[proxy]\nheader = \"X-Forwarded-For:\"\n{trusted}\n"),
                &[&format!(
                    "annulus.toml:2: proxy.header = \"X-Forwarded-For:\": \
                     not the name of a header: expected {form}"
                )],
            ),
            (
                &format!("[proxy]\nheader = true\n{trusted}\n"),
                &[&format!("annulus.toml:2: proxy.header = true: expected {form}")],
            ),
            (
                &format!("[proxy]\nheader = \"forwarded\"\n{trusted}\n"),
                &["annulus.toml:2: proxy.header = \"forwarded\": is not read: \
                   have the proxy send \"X-Forwarded-For\", and write that"],
            ),
        ],
    );
}

#[test]
fn headers_need_trusted_proxies() {
    let lists = "listen = [\"0.0.0.0:3000\", \"[::]:3000\"] (the default)";
    refused(
        "trusted",
        &[
            (
                "[proxy]\nheader = \"X-Real-IP\"\n",
                &["annulus.toml:2: proxy.trusted = [] (the default): \
                   must be one address or more, because of proxy.header = \"X-Real-IP\""],
            ),
            (
                "[proxy]\ntrusted = []\nprotocol_listen = [\"[::]:3000\"]\n",
                &["annulus.toml:2: proxy.trusted = []: must be one address or more, \
                   because of proxy.protocol_listen = [\"[::]:3000\"] (line 3)"],
            ),
            (
                "[proxy]\ntrusted = [\"::1\"]\nprotocol_listen = [\"[::1]:3000\"]\n",
                &[&format!(
                    "annulus.toml:3: proxy.protocol_listen = [\"[::1]:3000\"]: must be addresses \
                     of listen or tls.listen, not \"[::1]:3000\" (\"[::]:3000\"?), \
                     because of {lists}"
                )],
            ),
            (
                "[proxy]\ntrusted = [\"::1\"]\nprotocol_listen = [\"[::]:3000\", \"[::1]:1\"]\n",
                &[&format!(
                    "annulus.toml:3: proxy.protocol_listen = [\"[::]:3000\", \"[::1]:1\"]: \
                     must be addresses of listen or tls.listen, not \"[::1]:1\", \
                     because of {lists}"
                )],
            ),
        ],
    );
}

/// Whatever connects through a Unix socket is trusted.
#[test]
fn unix_sockets_need_no_trusted_addresses() {
    let both = "listen = [\"unix:/run/a\", \"[::]:1\", \"unix:/run/b\"]\n[proxy]\n\
                header = \"X-Real-IP\"\nprotocol_listen = [\"unix:/run/b\"]\n";
    let config = Config::parse(both, "both").unwrap();
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["unix:/run/a", "[::]:1", "unix:/run/b"]);
    assert_eq!(config.proxy.protocol_listen, ["unix:/run/b".parse().unwrap()]);
    assert_eq!(config.warning(), None);
    let silent = Config::parse("listen = [\"unix:/run/a\"]\n", "silent").unwrap().warning();
    assert!(silent.unwrap().starts_with("listen = \"unix:/run/a\": nothing names"));
    // A path of maximum length.
    let longest = format!("unix:/{}", "a".repeat(106));
    assert!(Config::parse(&format!("listen = [\"{longest}\"]"), "longest").is_ok());
    refused(
        "unix",
        &[
            (
                "listen = [\"unix:\", \"unix:run/a\", \"unix:@a\", \"unix:/run/\"]\n",
                &[
                    "annulus.toml:1: listen = \"unix:\": unix: must be followed by the \
                     absolute path of a socket, like \"unix:/run/annulus/http.sock\"",
                    "annulus.toml:1: listen = \"unix:run/a\": unix: must be followed by the \
                     absolute path of a socket, like \"unix:/run/annulus/http.sock\"",
                    "annulus.toml:1: listen = \"unix:@a\": unix: must be followed by the \
                     absolute path of a socket, like \"unix:/run/annulus/http.sock\"",
                    "annulus.toml:1: listen = \"unix:/run/\": unix: must be followed by the \
                     absolute path of a socket, like \"unix:/run/annulus/http.sock\"",
                ],
            ),
            (
                &format!("listen = [\"{longest}a\"]\n"),
                &["annulus.toml:1: \
                     listen = \"unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...: \
                     the path of a Unix socket has at most 107 bytes, not 108"],
            ),
            (
                "listen = [\"/run/a\", \"unix:/run/b\", \"unix:/run/b\"]\n",
                &[
                    "annulus.toml:1: listen = \"/run/a\": \
                     a path: write \"unix:/run/a\" for the Unix socket there",
                    "annulus.toml:1: listen = \"unix:/run/b\": is listed twice",
                ],
            ),
            (
                "[tls]\nlisten = [\"unix:/run/a\"]\n[operations]\nlisten = [\"unix:/run/b\"]\n",
                &[
                    "annulus.toml:2: tls.listen = \"unix:/run/a\": a Unix socket: only listen \
                     takes \"unix:/run/a\", for proxies of this host that speak plain HTTP to it",
                    "annulus.toml:4: operations.listen = \"unix:/run/b\": a Unix socket: only \
                     listen takes \"unix:/run/b\", for proxies of this host that speak plain \
                     HTTP to it",
                ],
            ),
            (
                "listen = [\"unix:/run/a\"]\n[proxy]\nprotocol_listen = [\"unix:/run/b\"]\n",
                &["annulus.toml:3: proxy.protocol_listen = [\"unix:/run/b\"]: must be addresses \
                     of listen or tls.listen, not \"unix:/run/b\" (\"unix:/run/a\"?), because of \
                     listen = [\"unix:/run/a\"] (line 1)"],
            ),
        ],
    );
}

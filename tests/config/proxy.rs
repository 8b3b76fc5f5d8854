//! The keys of `[proxy]`: ranges of addresses, a header's name, and what has to hold between
//! them and the addresses that are listened on.

use annulus::config::{Config, Proxy};

use super::refused;

#[test]
fn lists_and_names_are_taken_as_they_are() {
    let text = "listen = [\"127.0.0.1:3000\", \"[::1]:3000\"]\n\
                [proxy]\n\
                protocol_listen = [\"[::1]:3000\"]\n\
                trusted = [\"::/0\", \"10.0.0.0/8\", \"::1\"]\n";
    let Proxy { trusted, header, protocol_listen } = Config::parse(text, "here").unwrap().proxy;
    let trusted: Vec<String> = trusted.iter().map(|range| range.to_string()).collect();
    assert_eq!(trusted, ["::/0", "10.0.0.0/8", "::1/128"]);
    assert_eq!(header, "");
    assert_eq!(protocol_listen, ["[::1]:3000".parse().unwrap()]);
    // Without anything that needs it.
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
fn nobody_is_believed_who_is_not_trusted() {
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

/// Who comes by a Unix socket is trusted without a list.
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
    // A path as long as can be.
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

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
    assert_eq!(trusted, ["::/0", "10.0.0.0/8", "::1"]);
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

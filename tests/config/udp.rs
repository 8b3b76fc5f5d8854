//! The key of `[udp]`: the addresses of HTTP, others, or none.

use annulus::config::{Config, UdpListen};

use super::refused;

fn parsed(text: &str) -> Config {
    Config::parse(text, "here").unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

#[test]
fn udp_is_on_unless_it_is_turned_off() {
    assert_eq!(parsed("").udp.listen, UdpListen::Same);
    assert_eq!(parsed("udp.listen = \"same\"\n").udp.listen, UdpListen::Same);
    assert_eq!(parsed("[udp]\nlisten = []\n").udp.listen, UdpListen::Addresses(vec![]));
}

#[test]
fn datagrams_and_connections_may_have_the_same_addresses() {
    let text = "[udp]\nlisten = [\"0.0.0.0:3000\", \"[::1]:443\", \"127.0.0.1:3001\"]\n\
                [tls]\nlisten = [\"[::]:443\"]\ncertificates = [{ chain = \"a\", key = \"b\" }]\n\
                [operations]\nlisten = [\"127.0.0.1:3001\"]\n";
    let addresses = ["0.0.0.0:3000", "[::1]:443", "127.0.0.1:3001"];
    let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
    assert_eq!(parsed(text).udp.listen, UdpListen::Addresses(addresses));
}

#[test]
fn a_tracker_may_serve_udp_alone() {
    assert_eq!(parsed("listen = []\n[udp]\nlisten = [\"[::1]:0\"]\n").listen, []);
    let none = "must be one address or more, because of tls.listen = [] (the default)";
    refused(
        "alone",
        &[
            (
                "listen = []\n[udp]\nlisten = \"same\"\n",
                &[&format!("annulus.toml:1: listen = []: {none}")],
            ),
            (
                "listen = []\n[udp]\nlisten = []\n",
                &[&format!("annulus.toml:1: listen = []: {none}")],
            ),
        ],
    );
}

#[test]
fn addresses_for_datagrams_say_what_is_wrong_with_them() {
    let form = "expected \"same\", or a list of addresses with ports, \
                like [\"0.0.0.0:3000\", \"[::]:3000\"]";
    refused(
        "udp",
        &[
            (
                "[udp]\nlisten = \"0.0.0.0:80\"\n",
                &[&format!("annulus.toml:2: udp.listen = \"0.0.0.0:80\": {form}")],
            ),
            ("[udp]\nlisten = false\n", &[&format!("annulus.toml:2: udp.listen = false: {form}")]),
            ("[udp.listen]\n", &[&format!("annulus.toml:1: udp.listen = a table: {form}")]),
            (
                "[udp]\nlisten = [\n\"3000\",\n\"[::]:1\",\n\"[::1]:1\",\n\"[::]:1\",\n5,\n\
                 \"unix:/run/udp.sock\",\n\"same\"]\nlisen = []\n",
                &[
                    "annulus.toml:3: udp.listen = \"3000\": a port alone: \
                     write \"0.0.0.0:3000\", \"[::]:3000\", or both",
                    "annulus.toml:5: udp.listen = \"[::1]:1\": \
                     is listed with \"[::]:1\", and one includes the other",
                    "annulus.toml:6: udp.listen = \"[::]:1\": is listed twice",
                    "annulus.toml:7: udp.listen = 5: \
                     expected an address with a port in quotes, like \"0.0.0.0:3000\"",
                    "annulus.toml:8: udp.listen = \"unix:/run/udp.sock\": a Unix socket: only \
                     listen takes \"unix:/run/udp.sock\", for proxies of this host that speak \
                     plain HTTP to it",
                    "annulus.toml:9: udp.listen = \"same\": not an IP address with a port, \
                     like \"127.0.0.1:3000\" or \"[::1]:3000\" (names are not looked up)",
                    "annulus.toml:10: unknown key \"udp.lisen\"; \
                     did you mean \"udp.listen\"?",
                ],
            ),
        ],
    );
    let many: Vec<String> = (1..=65).map(|port| format!("\"[::1]:{port}\"")).collect();
    let error = Config::parse(&format!("udp.listen = [{}]", many.join(",")), "many").unwrap_err();
    assert!(error.to_string().ends_with("...: must be at most 64 addresses"), "{error}");
    assert!(Config::parse(&format!("udp.listen = [{}]", many[1..].join(",")), "many").is_ok());
}

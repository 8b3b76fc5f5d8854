//! The keys of `[operations]`: addresses that are not those of clients.

use super::refused;

#[test]
fn its_addresses_are_its_own() {
    refused(
        "operations",
        &[
            (
                "[operations]\nlisten = [\"0.0.0.0:3000\"]\n",
                &["annulus.toml:2: operations.listen = [\"0.0.0.0:3000\"]: \
                   must be without \"0.0.0.0:3000\", \
                   because of listen = [\"0.0.0.0:3000\", \"[::]:3000\"] (the default)"],
            ),
            (
                "[tls]\nlisten = [\"[::1]:1\"]\n\
                 certificates = [{ chain = \"a\", key = \"b\" }]\n\
                 [operations]\nlisten = [\"127.0.0.1:0\", \"[::1]:1\"]\n",
                &["annulus.toml:5: operations.listen = [\"127.0.0.1:0\", \"[::1]:1\"]: \
                   must be without \"[::1]:1\", because of tls.listen = [\"[::1]:1\"] (line 2)"],
            ),
            (
                "[operations]\nlisten = [\n  \"127.0.0.1:3001\",\n  \"[::1]:3000\" ]\n",
                &["annulus.toml:2: operations.listen = [ \"127.0.0.1:3001\", \"[::1]:3000\" ]: \
                   must be without \"[::1]:3000\", \
                   because of listen = [\"0.0.0.0:3000\", \"[::]:3000\"] (the default)"],
            ),
            (
                "[operations]\nlisten = [\"localhost:3001\"]\nlistn = []\n",
                &[
                    "annulus.toml:2: operations.listen = \"localhost:3001\": \
                     not an IP address with a port, like \"127.0.0.1:3000\" or \"[::1]:3000\" \
                     (names are not looked up)",
                    "annulus.toml:3: unknown key \"operations.listn\"; \
                     did you mean \"operations.listen\"?",
                ],
            ),
        ],
    );
}

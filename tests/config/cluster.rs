//! The keys of `[cluster]`. What needs a server is in `tests/cluster`.

use std::fs;

use annulus::config::Config;

use super::{ConfigDir, refused};

#[test]
fn relative_paths_start_where_the_file_is() {
    let dir = ConfigDir::new("cluster-paths");
    let path = dir.path("annulus.toml");
    let text = "[cluster]\nserver = \"rediss://192.0.2.1\"\ncredentials_file = \"a\"\n\
                ca_file = \"/b\"\ncertificate = \"c\"\nkey = \"d/e\"\n";
    fs::write(&path, text).unwrap();
    let cluster = Config::load(Some(&path)).unwrap().cluster;
    assert_eq!(cluster.credentials_file, dir.path("a"));
    assert_eq!(cluster.ca_file.to_str(), Some("/b"));
    assert_eq!([cluster.certificate, cluster.key], [dir.path("c"), dir.path("d/e")]);
    assert_eq!(cluster.places.server, format!("{}:2", path.display()));
    fs::write(&path, "[cluster]\nserver = \"\"\nca_file = \"\"\n").unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap(), Config::default());
    fs::write(&path, "[cluster]\nserver = []\n").unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap(), Config::default());
}

#[test]
fn keys_need_each_other() {
    refused(
        "cluster-keys",
        &[
            (
                "[cluster]\nuser = \"node\"\n",
                &["annulus.toml:2: cluster.password = \"\" (the default): must be the password \
                   of that user, because of cluster.user = \"node\""],
            ),
            (
                "[cluster]\npassword = \"hunter2\"\ncredentials_file = \"secret\"\n",
                &["annulus.toml:3: cluster.credentials_file = \"secret\": must be \"\", or the \
                   password empty, because of cluster.password = ... (line 2)"],
            ),
            (
                "[cluster]\nserver = \"rediss://192.0.2.1\"\ncertificate = \"a\"\n",
                &["annulus.toml:3: cluster.key = \"\" (the default): must be the file of its \
                   key, because of cluster.certificate = \"a\""],
            ),
            (
                "[cluster]\nkey = \"a\"\n",
                &["annulus.toml:2: cluster.certificate = \"\" (the default): must be the file of \
                   its chain, because of cluster.key = \"a\""],
            ),
            (
                "[cluster]\nserver = \"redis://:hunter2@192.0.2.1\"\nca_file = \"a\"\n",
                &["annulus.toml:2: cluster.server = ...: must be a URL that begins with \
                   rediss://, because of cluster.ca_file = \"a\" (line 3)"],
            ),
            (
                "[cluster]\nserver = \"unix:///run/valkey.sock\"\n\
                 [privileges]\nuser = \"nobody\"\nchroot = \"/empty\"\n",
                &["annulus.toml:2: cluster.server = ...: must be an address or a name: a Unix \
                   socket is out of reach there, because of privileges.chroot = \"/empty\" \
                   (line 5)"],
            ),
        ],
    );
}

/// Nor is the password of a server, wherever the mistake is.
#[test]
fn no_message_has_a_password() {
    const URL: &str = "must be a URL like \"redis://192.0.2.1:6379\", \
                       \"rediss://valkey.example.org\" (TLS) or \
                       \"unix:///run/valkey/valkey.sock\"";
    let url = |line: &str| format!("annulus.toml:{line}: cluster.server = ...: {URL}");
    refused(
        "cluster-secrets",
        &[
            ("[cluster]\nserver = \"hunter2\"\n", &[&url("2")]),
            (
                "[cluster]\nserver = [\n\"redis://a\",\n\"http://:hunter2@b\", 5, \
                 \"redis://hunter2@c\"]\n",
                &[
                    &url("4"),
                    "annulus.toml:4: cluster.server = ...: expected a URL in quotes",
                    "annulus.toml:4: cluster.server = ...: before the @ must be user:password, \
                     or :password",
                ],
            ),
            (
                "[cluster]\nserver = [\"redis://:hunter2@a\", \"redis://:hunter3@a\"]\n",
                &["annulus.toml:2: cluster.server = ...: is listed twice"],
            ),
            (
                "[cluster]\nserver = 1234\npassword = 1234\nuser = 5\nchannel = \"a*\"\n",
                &[
                    "annulus.toml:2: cluster.server = ...: expected \"\", a URL like \
                     \"redis://192.0.2.1:6379\", or a list of them",
                    "annulus.toml:3: cluster.password = ...: expected a password in quotes, or \
                     \"\"",
                    "annulus.toml:4: cluster.user = 5: expected a name in quotes, or \"\"",
                    "annulus.toml:5: cluster.channel = \"a*\": must be letters, digits and \
                     \"-_.:\", in quotes, 1 to 64 of them",
                ],
            ),
            (
                "[cluster]\npassword = \"hunter2\\n\"\n",
                &["annulus.toml:2: cluster.password = ...: must be one line of at most 512 bytes"],
            ),
        ],
    );
    let dir = ConfigDir::new("cluster-syntax");
    for text in [
        "[cluster]\npassword = hunter2\n",
        "[cluster]\npassword = \"hunter2\n",
        "[cluster]\npassword = 'hunter2\n",
        "[cluster]\npassword = \"hunter2\" x\n",
        "[cluster]\npassword = hunter2 hunter2\n",
        "[cluster]\nserver = redis://:hunter2@a\n",
        "[cluster]\nserver = [redis://:hunter2@a]\n",
        "[cluster]\nserver = [\"redis://:hunter2@a\"\n",
        "[cluster]\npassword = \"a\"\npassword = \"hunter2\"\n",
        "[cluster]\npassword \"hunter2\"\n",
        "[cluster]\npassword: hunter2\n",
        "[cluster]\npassword.a = \"hunter2\"\n",
        "[cluster]\npassword = [\"hunter2\"]\n",
        "[cluster]\npassword = { a = \"hunter2\" }\n",
        "cluster = \"hunter2\"\n",
        "cluster = { password = hunter2 }\n",
        "cluster.password = hunter2\n",
    ] {
        let output = dir.check(text);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(said.starts_with("annulus.toml:") && !said.contains("hunter2"), "{text}{said}");
    }
}

//! What the log says of servers that cannot be used, and `--check-config` of what cannot be read.

use std::fs;
use std::process::Command;

use super::connecting::{shares, start};
use crate::support::authority::Authority;
use crate::support::redis::{RedisServer, has_redis};
use crate::support::requirements::TempDir;
use crate::support::tracker::{ANNULUS, wait_for};

/// Asserts that a tracker with these keys says this of its server, once, and nothing of a password.
#[track_caller]
fn says(keys: &str, part: &str) {
    let scratch = TempDir::new("refused");
    let tracker = start(scratch.path(), keys);
    tracker.assert_logged(part);
    let log = tracker.log();
    assert!(!log.contains("hunter"), "{log}");
    assert_eq!(log.matches("no server can be used").count(), 1, "{log}");
}

#[test]
fn passwords_and_rights() {
    if !has_redis("cluster::refused::passwords_and_rights") {
        return;
    }
    let acl = "user default on >hunter2 ~* &* +@all\n\
               user other on >hunter2 resetchannels &other* -@all +publish +subscribe\n\
               user mute on >hunter2 resetchannels &annulus* -@all +subscribe\n";
    let server = RedisServer::start(acl);
    let address = server.address();
    let url = format!("redis://{address}: ");
    says(
        &format!("server = \"redis://{address}\"\n"),
        &format!(
            "{url}it asks for a password: set cluster.password or cluster.credentials_file: this \
             node serves alone until one can"
        ),
    );
    says(
        &format!("server = \"redis://nobody:hunter2@{address}\"\n"),
        "the password of user nobody is wrong, or there is no such user",
    );
    says(
        &format!("server = \"redis://{address}\"\npassword = \"hunter3\"\n"),
        "the password of user default is wrong, or there is no such user",
    );
    says(
        &format!("server = \"redis://other:hunter2@{address}\"\n"),
        "user other needs the rights for it: ACL SETUSER other +publish +subscribe resetchannels \
         &annulus &annulus:* (NOPERM ",
    );
    // It can listen and not speak.
    let scratch = TempDir::new("mute");
    let mute = start(scratch.path(), &format!("server = \"redis://mute:hunter2@{address}\"\n"));
    mute.assert_logged("is lost: user mute needs the rights for it: ACL SETUSER mute +publish ");
    // The command may have another name, and Redis' message would repeat the password.
    let server = RedisServer::start("rename-command AUTH NOTHING\n");
    says(
        &format!("server = \"redis://{}\"\npassword = \"hunter2\"\n", server.address()),
        "the password of user default is wrong, or there is no such user",
    );
}

#[test]
fn servers_of_the_wrong_kind() {
    if !has_redis("cluster::refused::servers_of_the_wrong_kind") {
        return;
    }
    let ip = RedisServer::own_ip();
    let authority = Authority::new(&[ip.into()]);
    let tls = RedisServer::tls_lines(&authority, "redis.test");
    let server = RedisServer::start_at(ip, &[], &tls);
    let root = authority.root();
    let ca_file = format!("ca_file = \"{}\"\n", root.display());
    says(
        &format!("server = \"rediss://{}\"\n{ca_file}", server.address()),
        "a server without TLS has redis://",
    );
    says(&format!("server = \"rediss://{}\"\n", server.tls_address()), "see cluster.ca_file");
    says(&format!("server = \"redis://{}\"\n", server.tls_address()), "no server can be used: ");
    says("server = \"unix:///nonexistent/socket\"\n", "No such file or directory");
    says("server = \"redis://127.0.0.1:1\"\n", "redis://127.0.0.1:1: Connection refused");
}

/// What is published at a replica does not reach the others: the next server is taken.
#[test]
fn replicas() {
    if !has_redis("cluster::refused::replicas") {
        return;
    }
    let primary = RedisServer::start("");
    let address = primary.address();
    let replica = RedisServer::start(&format!("replicaof {} {}\n", address.ip(), address.port()));
    wait_for("the replica", || {
        (replica.info("master_link_status").as_deref() == Some("up")).then_some(())
    });
    says(
        &format!("server = \"{}\"\n", replica.url()),
        "it is a replica, and what is published there does not reach the other nodes: write the \
         primary into cluster.server",
    );
    let scratch = TempDir::new("replicas");
    let keys = format!("server = [\"{}\", \"{}\"]\n", replica.url(), primary.url());
    let trackers = [start(scratch.path(), &keys), start(scratch.path(), &keys)];
    shares(&trackers[0], &trackers[1], 1);
    trackers[0].assert_logged(&format!("cluster: connected to {}", primary.url()));
}

/// What `--check-config` says of these keys; nothing if they are right.
fn check(directory: &TempDir, keys: &str) -> String {
    let file = directory.path().join("annulus.toml");
    fs::write(file, format!("[cluster]\n{keys}")).unwrap();
    let mut check = Command::new(ANNULUS);
    check.args(["--check-config", "-c", "annulus.toml"]).current_dir(directory.path());
    let output = check.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let is_ok = output.stdout == b"annulus.toml: ok\n";
    assert_eq!(output.status.success(), is_ok, "{said}");
    // A warning leaves the configuration as it is.
    assert!(is_ok || !said.is_empty());
    said
}

#[test]
fn files_and_names_are_checked() {
    let directory = TempDir::new("checked");
    let write = |name: &str, text: &[u8]| fs::write(directory.path().join(name), text).unwrap();
    let secure = "server = \"rediss://192.0.2.1\"\n";
    write("empty", b"");
    write("password", b"hunter2\n");
    write("long", &[b'a'; 5000]);
    write("wide", b"\xff\xfea\0b\0");
    for (keys, said) in [
        ("credentials_file = \"none\"\n", ""),
        (
            "server = \"redis://192.0.2.1\"\ncredentials_file = \"none\"\n",
            "annulus.toml:3: cluster.credentials_file: none: cannot be read: No such file or \
             directory (os error 2)\n",
        ),
        (
            "server = \"redis://192.0.2.1\"\ncredentials_file = \"empty\"\n",
            "annulus.toml:3: cluster.credentials_file: empty: its first line must be a password, \
             or user:password if cluster.user is empty\n",
        ),
        (
            "server = \"redis://192.0.2.1\"\ncredentials_file = \"long\"\n",
            "annulus.toml:3: cluster.credentials_file: long: longer than 4096 bytes\n",
        ),
        (
            "server = \"redis://192.0.2.1\"\ncredentials_file = \"wide\"\n",
            "annulus.toml:3: cluster.credentials_file: wide: text in UTF-16: save it as UTF-8, \
             or convert it by \"iconv -f UTF-16 -t UTF-8\"\n",
        ),
        ("server = \"redis://192.0.2.1\"\ncredentials_file = \"password\"\n", ""),
        (
            &format!("{secure}ca_file = \"password\"\n"),
            "annulus.toml:3: cluster.ca_file: password: there is no certificate of an authority \
             in it, in PEM\n",
        ),
        (
            &format!("{secure}ca_file = \"none\"\ncredentials_file = \"empty\"\n"),
            "annulus.toml:4: cluster.credentials_file: empty: its first line must be a password, \
             or user:password if cluster.user is empty\n\
             annulus.toml:3: cluster.ca_file: none: cannot be read: No such file or directory \
             (os error 2)\n",
        ),
    ] {
        assert_eq!(check(&directory, keys), said, "{keys}");
    }
    let unknown = "annulus.toml:2: cluster.server: redis://nonexistent.invalid:6379: its name \
                   cannot be resolved: ";
    let said = check(&directory, "server = \"redis://u:hunter2@nonexistent.invalid\"\n");
    assert!(said.starts_with(unknown) && said.contains("/etc/hosts"), "{said}");
    // One name that is known suffices.
    let keys = "server = [\"redis://nonexistent.invalid\", \"redis://192.0.2.1\"]\n";
    let said = check(&directory, keys);
    assert!(said.starts_with(unknown) && said.lines().count() == 1, "{said}");

    let authority = Authority::new(&[]);
    authority.issue("node", crate::support::authority::KeyKind::P256);
    let path = |name: &str| authority.path(name).display().to_string();
    let identity = |chain: &str, key: &str| {
        let (root, chain, key) = (path("root.pem"), path(chain), path(key));
        format!("{secure}ca_file = \"{root}\"\ncertificate = \"{chain}\"\nkey = \"{key}\"\n")
    };
    assert_eq!(check(&directory, &identity("node.pem", "node.key")), "");
    for (chain, key, wrong) in [
        ("node.key", "node.key", "annulus.toml:4: cluster.certificate: "),
        ("node.pem", "node.pem", "annulus.toml:5: cluster.key: "),
        ("node.pem", "root.key", "annulus.toml:5: cluster.key: "),
    ] {
        let said = check(&directory, &identity(chain, key));
        assert!(said.starts_with(wrong) && said.lines().count() == 1, "{said}");
    }
}

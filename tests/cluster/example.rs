//! The set-up of dist/cluster, with paths and addresses of the test.

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;

use crate::support::authority::{Authority, KeyKind};
use crate::support::redis::{REDIS, RedisReply, RedisServer};
use crate::support::requirements::{can_run, missing_programs};
use crate::support::tls_tracker::HOST;
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Tracker, wait_for};

const SERVER: &str = include_str!("../../dist/cluster/valkey.conf");
const NODE: &str = include_str!("../../dist/cluster/annulus.toml");

/// Replaces `old`, which must occur once.
#[track_caller]
fn replaced(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old:?} in\n{text}");
    text.replace(old, new)
}

#[test]
fn the_example_set_up_shares_swarms_and_is_closed_to_others() {
    if !can_run("cluster::example", &missing_programs(&[REDIS, "openssl"])) {
        return;
    }
    let ip = RedisServer::own_ip();
    let authority = Authority::new(&[ip.into()]);
    authority.issue(HOST, KeyKind::P256);
    authority.issue("valkey", KeyKind::P256);
    let path = |name: &str| authority.path(name).to_str().unwrap().to_owned();
    let mut config = replaced(SERVER, "bind 10.0.0.10", &format!("bind {ip}"));
    for (old, new) in [
        ("tls-port 6379", "tls-port 6391"),
        ("/etc/valkey/valkey.pem", &path("valkey.pem")),
        ("/etc/valkey/valkey.key", &path("valkey.key")),
        ("/etc/valkey/ca.pem", &path("root.pem")),
    ] {
        config = replaced(&config, old, new);
    }
    let server = RedisServer::start_configured(SocketAddrV4::new(ip, 6391), &[], &config);

    fs::write(authority.path("cluster-credentials"), "annulus:change-me\n").unwrap();
    let secret = fs::Permissions::from_mode(0o600);
    fs::set_permissions(authority.path("cluster-credentials"), secret).unwrap();
    fs::copy(authority.root(), authority.path("cluster-ca.pem")).unwrap();
    let nodes = ["one", "two"].map(|name| {
        let state = path(&format!("state-{name}"));
        fs::create_dir(&state).unwrap();
        let mut text = NODE.to_owned();
        for (old, new) in [
            ("[\"0.0.0.0:80\", \"[::]:80\"]", "[\"127.0.0.1:0\"]"),
            ("[\"0.0.0.0:443\", \"[::]:443\"]", "[\"127.0.0.1:0\"]"),
            ("127.0.0.1:3001", "127.0.0.1:0"),
            ("fullchain.pem", &format!("{HOST}.pem")),
            ("privkey.pem", &format!("{HOST}.key")),
            ("/var/lib/annulus/swarms", &format!("{state}/swarms")),
            ("rediss://10.0.0.10:6379", &format!("rediss://{ip}:6391")),
        ] {
            text = replaced(&text, old, new);
        }
        let mut node = Tracker::launch_in(authority.directory(), &text, &[]);
        node.wait_ready(1).unwrap_or_else(|log| panic!("node {name} did not start:\n{log}"));
        node
    });

    for (torrent, [from, to]) in [(1, [0, 1]), (2, [1, 0])] {
        TestTorrent::new(&nodes[from], torrent).announce(1000, "left=0");
        let there = TestTorrent::new(&nodes[to], torrent);
        wait_for("the other node to know", || (there.scrape().complete == 1).then_some(()));
    }

    // The passwordless, the password with another channel, and other commands are refused.
    let refused = |reply: RedisReply| match reply {
        RedisReply::Error(why) => why,
        other => panic!("{other:?}"),
    };
    let mut stranger = server.client();
    assert!(refused(stranger.command(&[b"PUBLISH", b"annulus", b"x"])).starts_with("NOAUTH"));
    let mut node = server.client();
    let granted = node.command(&[b"AUTH", b"annulus", b"change-me"]);
    assert_eq!(granted, RedisReply::Status("OK".to_owned()));
    for command in [
        &[&b"PUBLISH"[..], b"annulus2", b"x"][..],
        &[b"PSUBSCRIBE", b"*"],
        &[b"SET", b"annulus", b"x"],
        &[b"CONFIG", b"GET", b"*"],
        &[b"SHUTDOWN"],
    ] {
        assert!(refused(node.command(command)).starts_with("NOPERM"), "{command:?}");
    }
    assert_eq!(node.publish("annulus", b"x"), nodes.len() as i64);
}

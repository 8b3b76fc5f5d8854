//! The Redis server of the tests itself.

use std::net::TcpStream;

use crate::support::authority::Authority;
use crate::support::redis::{REDIS, RedisReply, RedisServer};
use crate::support::requirements::{can_run, missing_programs};

#[test]
fn the_tests_server_starts_stops_and_passes_messages_on() {
    if !can_run("cluster::server", &missing_programs(&[REDIS])) {
        return;
    }
    let ip = RedisServer::own_ip();
    let authority = Authority::new(&[ip.into()]);
    let lines = RedisServer::tls_lines(&authority, "redis.test");
    let lines = format!("{lines}user someone on >secret resetchannels &one* -@all +publish\n");
    let mut server = RedisServer::start_at(ip, &[], &lines);
    let other = RedisServer::start("");
    let mut stranger = other.client();
    stranger.subscribe("*");
    for _ in 0..2 {
        assert_eq!(server.client().command(&[b"PING"]), RedisReply::Status("PONG".to_owned()));
        let mut subscriber = server.client();
        subscriber.subscribe("one*");
        assert_eq!(server.client().publish("one:2", b"a\r\n\0"), 1);
        assert_eq!(subscriber.message(), ("one:2".to_owned(), b"a\r\n\0".to_vec()));
        let mut someone = server.client();
        someone.command(&[b"AUTH", b"someone", b"secret"]);
        assert_eq!(someone.publish("one", b"b"), 1);
        let refused = someone.command(&[b"PUBLISH", b"two", b"c"]);
        assert!(matches!(refused, RedisReply::Error(_)), "{refused:?}");
        assert_eq!(server.info("pubsub_patterns").as_deref(), Some("1"));
        assert_eq!(server.integer(&["DBSIZE"]), 0);
        assert!(server.url().ends_with(&server.address().to_string()));
        TcpStream::connect(server.tls_address()).unwrap();
        server.stop();
        TcpStream::connect(server.address()).unwrap_err();
        server.start_again();
        server.kill();
        TcpStream::connect(server.address()).unwrap_err();
        server.start_again();
    }
    assert_eq!(other.client().publish("end", b""), 1);
    assert_eq!(stranger.message(), ("end".to_owned(), Vec::new()));
}

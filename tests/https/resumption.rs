//! Sessions are resumed on another connection, by any worker: the kernel spreads connections by
//! their source ports.

use rustls::HandshakeKind;

use super::agreement::s_client;
use crate::support::client::get_request;
use crate::support::tls_client::{TlsStream, VERSIONS, connect_tls, resuming_config};
use crate::support::tls_tracker::{HOST, TlsTracker};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(one_session_by_openssl, one_session_after_another, a_ticket_without_a_request);

/// The number of connections that resume a session. The chance that all of them meet the same of
/// two workers is that of as many tosses of a coin that all show the same side.
const CONNECTIONS: usize = 30;

fn one_session_by_openssl(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let file = site.authority.path(version);
        let file = file.to_str().unwrap();
        let root = site.authority.root();
        let said = s_client(&site, &root, &["-servername", HOST, flag, "-sess_out", file]);
        said.assert(&[&format!("New, {version}, Cipher is "), "d8:completei0e"]);
        for _ in 0..CONNECTIONS {
            let said = s_client(&site, &root, &["-servername", HOST, flag, "-sess_in", file]);
            said.assert(&[&format!("Reused, {version}, Cipher is "), "d8:completei0e"]);
        }
    }
}

/// Each connection resumes with the ticket of the previous one.
fn one_session_after_another(engine: Engine) {
    let site = TlsTracker::start(engine, "");
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    for version in VERSIONS {
        let settings = resuming_config(&site.authority, version);
        for connection in 0..=CONNECTIONS {
            let mut client = connect_tls(site.v4, &settings);
            client.send(&announce);
            parse_announce(&client.read_response());
            let kind = client.stream.conn.handshake_kind();
            let resumed = matches!(kind, Some(HandshakeKind::Resumed));
            assert_eq!(resumed, connection > 0, "the {connection}th of {version:?}: {kind:?}");
        }
    }
}

/// A client that completes the handshake and waits gets its ticket before its timeout.
fn a_ticket_without_a_request(engine: Engine) {
    let site = TlsTracker::start(engine, "[connections]\nheader_timeout = 300");
    let settings = resuming_config(&site.authority, VERSIONS[1]);
    let mut waiting = connect_tls(site.v4, &settings);
    waiting.handshake();
    let TlsStream { conn, sock } = &mut waiting.stream;
    while conn.tls13_tickets_received() == 0 {
        assert!(conn.read_tls(sock).unwrap() > 0, "an end, and no ticket");
        conn.process_new_packets().unwrap();
    }
    let announce = get_request(&TestTorrent::new(&site.tracker, 1).target(1, ""));
    let mut next = connect_tls(site.v4, &settings);
    for client in [&mut waiting, &mut next] {
        client.send(&announce);
        parse_announce(&client.read_response());
    }
    assert_eq!(next.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));
}

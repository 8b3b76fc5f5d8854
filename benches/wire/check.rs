//! Are the answers right? Asked of every server before and after it is timed: a fast wrong
//! answer is worth nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::client::{Answer, Client};
use crate::endpoint::Endpoint;
use crate::floor::Connections;
use crate::servers::Server;
use crate::torrents::{CHECK_TORRENT, escaped, info_hash};

/// Announces as two peers of one torrent and judges the answers: both have to be peer lists, a
/// tracker's second has to name the first peer, and the connection has to be kept or closed as
/// was asked.
///
/// # Errors
///
/// What is wrong with the answers, or that there were none.
pub(crate) fn check(server: Server, at: Endpoint, connections: Connections) -> io::Result<()> {
    let first = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6881);
    let mut client = Client::connect(*first.ip(), at)?;
    ask(&mut client, at, first.port(), connections)?;
    if connections == Connections::Close {
        match client.is_at_end() {
            Ok(true) => {}
            Ok(false) => {
                return Err(io::Error::other("bytes after the answer instead of the end"));
            }
            // Over TLS some just hang up. Ours has to say that this is the end.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && !server.is_ours() => {}
            Err(e) => return Err(e),
        }
        client = Client::connect(*first.ip(), at)?;
    }
    let answer = ask(&mut client, at, first.port() + 1, connections)?;
    if server.is_tracker() && !answer.names(first) {
        return Err(io::Error::other("a peer that announced is missing from the next answer"));
    }
    Ok(())
}

/// Bytes of the head of a server's answer to an announce.
///
/// # Errors
///
/// What is wrong with the answer, or that there was none.
pub(crate) fn head_bytes(at: Endpoint, connections: Connections) -> io::Result<usize> {
    let mut client = Client::connect(Ipv4Addr::LOCALHOST, at)?;
    Ok(ask(&mut client, at, 6881, connections)?.head_bytes)
}

fn ask(
    client: &mut Client,
    at: Endpoint,
    port: u16,
    connections: Connections,
) -> io::Result<Answer> {
    let info_hash = escaped(&info_hash(CHECK_TORRENT));
    let connection = match connections {
        Connections::Keep => "",
        Connections::Close => "Connection: close\r\n",
    };
    client.send(
        format!(
            "GET /announce?info_hash={info_hash}&peer_id=-LT2080-wSbE0(NH{port}\
             &port={port}&uploaded=0&downloaded=0&left=201000&numwant=50&compact=1 HTTP/1.1\r\n\
             Host: {}\r\n{connection}\r\n",
            at.address
        )
        .as_bytes(),
    )?;
    let answer = client.receive()?;
    if answer.is_peer_list() {
        return Ok(answer);
    }
    let (status, body) = (answer.status, String::from_utf8_lossy(&answer.body));
    Err(io::Error::other(format!("the answer is not a peer list: {status} {body}")))
}

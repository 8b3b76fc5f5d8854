//! Are the answers right? Asked of every server before and after it is timed: a fast wrong
//! answer is worth nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::client::{Answer, Client};
use crate::floor::Connections;
use crate::servers::{Running, Server};
use crate::torrents::{CHECK_TORRENT, escaped, info_hash};

/// Announces as two peers of one torrent and judges the answers: both have to be peer lists, a
/// tracker's second has to name the first peer, and the connection has to be kept or closed as
/// was asked.
///
/// # Errors
///
/// What is wrong with the answers, or that there were none.
pub(crate) fn check(server: Server, running: &Running, connections: Connections) -> io::Result<()> {
    let first = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6881);
    let mut client = Client::connect(*first.ip(), running.address)?;
    ask(&mut client, running.address, first.port(), connections)?;
    if connections == Connections::Close {
        if !client.is_at_end()? {
            return Err(io::Error::other("bytes after the answer instead of the end"));
        }
        client = Client::connect(*first.ip(), running.address)?;
    }
    let answer = ask(&mut client, running.address, first.port() + 1, connections)?;
    if server.is_tracker() && !answer.names(first) {
        return Err(io::Error::other("a peer that announced is missing from the next answer"));
    }
    Ok(())
}

fn ask(
    client: &mut Client,
    server: SocketAddr,
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
             Host: {server}\r\n{connection}\r\n"
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

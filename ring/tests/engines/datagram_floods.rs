//! Floods at some sockets, and the others.

use std::net::UdpSocket;

use annulus_ring::Event;

use crate::datagrams::{bind, client};
use crate::harness::{Bench, EngineKind, on_every_engine};

on_every_engine!(flooded_sockets_leave_buffers_to_others);

/// Datagrams of a flood: no more than a queue holds that was not enlarged.
const FLOOD: usize = 250;
/// Datagrams of some turns.
const SOON: usize = 300;

/// Linux 6.8 and later receive 32 at a time before another socket has its turn, so that one flood
/// does not take all buffers, but two do.
fn flooded_sockets_leave_buffers_to_others<K: EngineKind>() {
    for spared in 0..3 {
        let (sockets, addresses): (Vec<_>, Vec<_>) = (0..3).map(|_| bind("127.0.0.1:0")).unzip();
        let mut bench = Bench::<K>::receiving(sockets);
        let clients: Vec<UdpSocket> = addresses.into_iter().map(client).collect();
        for flood in (0..3).filter(|&socket| socket != spared) {
            for _ in 0..FLOOD {
                clients[flood].send(b"flood").unwrap();
            }
        }
        clients[spared].send(b"other").unwrap();
        let mut before = None;
        for count in 0..=2 * FLOOD {
            let Event::Datagram(datagram) = bench.next() else { panic!("not a datagram") };
            if usize::from(datagram.socket()) == spared {
                before = Some(count);
            }
        }
        assert!(before < Some(SOON), "socket {spared} after {before:?} others");
        bench.finish();
    }
}

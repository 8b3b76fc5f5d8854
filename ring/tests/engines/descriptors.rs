//! Running out of descriptors: the engine reports it once, clients wait, and accepting resumes when
//! descriptors are free again.
//!
//! The tests run in a process of their own, where nothing else needs a descriptor.

use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use annulus_ring::{AcceptEnd, Errno, Event, Ring};

use crate::harness::{Bench, EngineKind, descriptors, on_every_engine};

on_every_engine!(accepting_survives_the_lack_of_descriptors, a_dropped_engine_leaves_nothing_open);

const ALONE: &str = "ANNULUS_RING_TEST_ALONE";

fn accepting_survives_the_lack_of_descriptors<K: EngineKind>() {
    if env::var_os(ALONE).is_some() {
        return run_out::<K>();
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn run_out<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let mut clients: Vec<_> = (0..3).map(|_| bench.client()).collect();
    bench.turn(false);
    let mut fillers = fill();
    // One descriptor for three clients.
    fillers.pop();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    let (first, _) = bench.accepted();
    let end = accept_ended(&mut bench);
    assert_eq!(end, AcceptEnd::Exhausted(Errno::MFILE));
    bench.stays_quiet(Duration::from_millis(100));
    // Asked again too early, it reports the same again, once.
    bench.ring.accept(0);
    assert_eq!(accept_ended(&mut bench), AcceptEnd::Exhausted(Errno::MFILE));
    bench.stays_quiet(Duration::from_millis(50));
    fillers.clear();
    bench.ring.accept(0);
    let (second, _) = bench.accepted();
    let (third, _) = bench.accepted();
    for socket in [first, second, third] {
        bench.ring.close(socket);
    }
    bench.finish();
}

/// Opens every descriptor that is left.
fn fill() -> Vec<File> {
    let null = File::open("/dev/null").unwrap();
    let mut all = Vec::with_capacity(1 << 16);
    while let Ok(another) = null.try_clone() {
        all.push(another);
    }
    all.push(null);
    all
}

fn accept_ended<K: EngineKind>(bench: &mut Bench<K>) -> AcceptEnd {
    match bench.next() {
        Event::AcceptEnded { listener: 0, cause } => cause,
        other => panic!("not the end of accepting: {other:?}"),
    }
}

/// An engine is dropped with undelivered accepted connections, sends in flight and armed receives.
fn a_dropped_engine_leaves_nothing_open<K: EngineKind>() {
    let before = descriptors();
    for turns in 0..3 {
        let mut bench = Bench::<K>::new();
        let (mut client, key, socket) = bench.greeted();
        bench.ring.recv(key, &socket, annulus_ring::RecvMode::Multishot);
        let (_other, _, other_socket) = bench.greeted();
        let mut late = bench.client();
        late.write_all(b"x").unwrap();
        client.write_all(b"unheard").unwrap();
        for _ in 0..turns {
            bench.turn(false);
        }
        bench.fill_reply(b"last");
        bench.ring.send_and_close(other_socket, 4).unwrap();
        bench.ring.send_owned(key, &socket, vec![1; 1 << 24].into());
        bench.abandon();
        drop((late, client));
        // Sockets that the caller holds stay open.
        close(socket);
    }
    assert_eq!(descriptors(), before);
}

/// Closes a socket whose engine was dropped.
fn close(socket: annulus_ring::Socket) {
    // SAFETY: the engine that owned the descriptor is gone, and `socket` is not used again.
    drop(unsafe { OwnedFd::from_raw_fd(socket.raw()) });
}

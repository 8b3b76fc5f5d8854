//! Ticks, wakes and waits: an engine never sleeps while something is due, and is never busy while
//! nothing is.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use annulus_ring::{Event, RecvMode, Ring};

use crate::harness::{Bench, EngineKind, on_every_engine};

on_every_engine!(
    a_tick_comes_each_second,
    a_wake_ends_the_wait,
    no_wake_is_lost,
    waiting_is_not_busy,
    not_waiting_returns_at_once,
);

fn a_tick_comes_each_second<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let start = Instant::now();
    for second in 1..=2u32 {
        while bench.ticks < second as usize {
            bench.turn(true);
        }
        let late = start.elapsed().as_secs_f64() - f64::from(second);
        assert!((-0.1..0.5).contains(&late), "tick {second} is late by {late} s");
    }
    bench.finish();
}

fn a_wake_ends_the_wait<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let waker = bench.waker.clone();
    let start = Instant::now();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        waker.wake();
    });
    assert!(matches!(bench.next(), Event::Wake));
    let waited = start.elapsed();
    assert!((50..500).contains(&waited.as_millis()), "{waited:?}");
    other.join().unwrap();
    bench.finish();
}

fn no_wake_is_lost<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    // Before the first turn, and several at once.
    bench.waker.wake();
    bench.waker.wake();
    assert!(matches!(bench.next(), Event::Wake));
    bench.stays_quiet(Duration::from_millis(20));
    // Each after the previous one was reported, at any moment of the engine's turn.
    let (seen, is_seen) = std::sync::mpsc::channel();
    let waker = bench.waker.clone();
    let other = thread::spawn(move || {
        for _ in 0..2000 {
            waker.wake();
            is_seen.recv().unwrap();
        }
    });
    for _ in 0..2000 {
        assert!(matches!(bench.next(), Event::Wake));
        seen.send(()).unwrap();
    }
    other.join().unwrap();
    bench.finish();
}

fn waiting_is_not_busy<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    // Connections in every idle state: armed; read and not armed; with unread bytes; ended.
    let (_armed, key, armed_socket) = bench.greeted();
    bench.ring.recv(key, &armed_socket, RecvMode::Multishot);
    let (_now, key, now_socket) = bench.greeted();
    bench.ring.recv(key, &now_socket, RecvMode::Immediate);
    let (_unread, key, unread_socket) = bench.pair(b"unread");
    let (ended, ended_key, ended_socket) = bench.greeted();
    bench.ring.recv(ended_key, &ended_socket, RecvMode::Multishot);
    drop(ended);
    bench.recv_ended(ended_key);
    bench.ring.cancel_recv(key);
    bench.stays_quiet(Duration::from_millis(50));

    let (before, start) = (cpu_time(), Instant::now());
    let mut turns = 0;
    while start.elapsed() < Duration::from_millis(1200) {
        bench.turn(true);
        turns += 1;
    }
    let busy = cpu_time() - before;
    assert!(turns <= 3, "{turns} turns in about two seconds");
    assert!(busy < Duration::from_millis(50), "{busy:?} of CPU while idle");

    for socket in [armed_socket, now_socket] {
        bench.ring.shutdown(&socket, std::net::Shutdown::Both);
        assert!(matches!(bench.next(), Event::RecvEnded { .. }));
        bench.ring.close(socket);
    }
    bench.ring.close(unread_socket);
    bench.ring.close(ended_socket);
    bench.finish();
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

fn not_waiting_returns_at_once<K: EngineKind>() {
    let mut bench = Bench::<K>::new();
    let start = Instant::now();
    let mut events = Vec::new();
    for _ in 0..1000 {
        bench.ring.turn(&mut events, false).unwrap();
    }
    assert!(events.is_empty() || start.elapsed() > Duration::from_secs(1));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    bench.finish();
}

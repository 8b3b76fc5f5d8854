//! Thousands of connections at once, and how long a client with a kept connection waits meanwhile.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use annulus_bench::net::{BenchClient, KeepAlive, Transport, connect};
use annulus_bench::stats;
use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::attacker::client_hello;
use crate::{request, start};

/// Connections that come at once: fewer than the kernel lets wait (`net.core.somaxconn`).
pub(crate) const CONNECTIONS: usize = 4000;
const ROUNDS: usize = 5;

const ASKING: Duration = Duration::from_millis(700);

const RESPONSE_WAIT: Duration = Duration::from_secs(20);
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 5, 0, 1);

pub(crate) fn measure_all() -> Result<()> {
    println!(
        "- {CONNECTIONS} connections at once, {ROUNDS} rounds; a kept client asks meanwhile\n"
    );
    let mut lines = Vec::new();
    for engine in ["io_uring", "epoll"] {
        for (transport, name) in [(Transport::Plain, "plain"), (Transport::Tls, "TLS 1.3")] {
            let rounds = (0..ROUNDS).map(|_| measure(engine, transport));
            let waits = rounds.collect::<Result<Vec<Duration>>>()?;
            let ms = |wait: &Duration| format!("{:.1}", wait.as_secs_f64() * 1000.0);
            let each: Vec<String> = waits.iter().map(ms).collect();
            let worst = waits.iter().max().map(ms).unwrap_or_default();
            lines.push(vec![engine.to_owned(), name.to_owned(), each.join(" "), worst]);
        }
    }
    let titles = ["engine", "transport", "kept client's longest wait, ms: each round", "worst"];
    print!("{}", stats::table(&titles, lines));
    Ok(())
}

/// One burst. Returns how long the client with the kept connection waited at most.
fn measure(engine: &'static str, transport: Transport) -> Result<Duration> {
    let tracker = start(engine, "")?;
    let at = tracker.endpoint(transport)?;
    let mut kept = BenchClient::connect(Ipv4Addr::LOCALHOST, at)?;
    let announce = request(KeepAlive::Keep);
    let mut ask = |after: &dyn Fn()| -> Result<Duration> {
        let begun = Instant::now();
        kept.send(&announce)?;
        after();
        kept.receive_peers()?;
        Ok(begun.elapsed())
    };
    ask(&|| {})?;
    let first = match transport {
        Transport::Plain => request(KeepAlive::Close),
        Transport::Tls => client_hello(at.address)?,
    };
    // Until they send, the kernel keeps them from the tracker (TCP_DEFER_ACCEPT).
    let mut burst = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let socket = connect(SOURCE, at.address, RESPONSE_WAIT)?;
        socket.set_linger(Some(Duration::ZERO))?;
        burst.push(TcpStream::from(socket));
    }
    tracker.signal(Signal::STOP);
    for stream in &mut burst {
        stream.write_all(&first)?;
    }
    let mut longest = ask(&|| tracker.signal(Signal::CONT))?;
    let begun = Instant::now();
    while begun.elapsed() < ASKING {
        longest = longest.max(ask(&|| {})?);
    }
    for stream in &mut burst {
        ensure!(stream.read(&mut [0; 1])? > 0, "a connection was not answered");
    }
    Ok(longest)
}

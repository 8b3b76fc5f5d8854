//! What records cost in memory, and messages at a server.

use std::hint::black_box;
use std::time::{Duration, Instant};

use annulus::cluster::WorkerOutbox;
use annulus::cluster::{Destination, NodeTime, PeerRecord};
use annulus_bench::process::SERVER_CPU;
use annulus_bench::stats;
use anyhow::{Result, ensure};

use crate::injection::{node, record, unix_ms};
use crate::site::{CHANNEL, Redis};

const ROUNDS: usize = 5;

/// Records of a measurement, and those of one turn of a worker.
const RECORDS: u64 = 2_000_000;
const TURN: usize = 32;

pub(crate) fn print() -> Result<()> {
    let (mut hand_over, mut publish, mut apply) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS as u64 {
        hand_over.push(hand_over_ns());
        let (each_ns, frames) = publish_ns(round);
        publish.push(each_ns);
        apply.extend(apply_ns(round, &frames)?);
    }
    let row = |name: &str, values: Vec<f64>| vec![name.to_owned(), stats::spread(values, 0)];
    let rows = [
        row("worker: a record into its buffer, and to the publisher", hand_over),
        row("publisher: into a frame with its checksum", publish),
        row("subscriber: checked and applied", apply),
    ];
    println!("### records, in memory\n\n{}", stats::table(&["part", "ns a record"], rows));
    print_server()
}

fn ns_each(time: Duration, count: u64) -> f64 {
    time.as_nanos() as f64 / count as f64
}

fn hand_over_ns() -> f64 {
    let records: Vec<PeerRecord> = (0..4096).map(record).collect();
    let (mut outbox, slot) = WorkerOutbox::new();
    let mut taken = Vec::with_capacity(1 << 20);
    let mut spent = Duration::ZERO;
    let mut done = 0;
    while done < RECORDS {
        let begun = Instant::now();
        for turn in records.chunks(TURN) {
            for record in turn {
                black_box(outbox.add(record));
            }
            outbox.hand_over();
        }
        spent += begun.elapsed();
        done += records.len() as u64;
        taken.clear();
        assert!(!slot.take(&mut taken), "dropped");
    }
    ns_each(spent, done)
}

/// Nanoseconds for a record, and the frames.
fn publish_ns(round: u64) -> (f64, Vec<Vec<u8>>) {
    let mut publisher = node(1 + round).publisher;
    publisher.on_connected(now(0));
    let mut buffer = Vec::new();
    let mut frames = Vec::new();
    let (mut spent, mut number) = (Duration::ZERO, 0);
    while number < RECORDS {
        buffer.clear();
        for _ in 0..500 {
            record(number).encode(&mut buffer);
            number += 1;
        }
        let begun = Instant::now();
        let mut send = |_: Destination, frame: &[u8]| frames.push(frame.to_vec());
        publisher.add_records(&buffer, now(number), &mut send);
        spent += begun.elapsed();
    }
    publisher.flush(now(number), &mut |_, frame| frames.push(frame.to_vec()));
    (ns_each(spent, number), frames)
}

/// Nanoseconds for a record of an unknown peer, and for one of a known one: the frames come again
/// from another node.
fn apply_ns(round: u64, frames: &[Vec<u8>]) -> Result<[f64; 1]> {
    let mut halves = node(100 + round);
    halves.subscriber.on_subscribed(now(0));
    let begun = Instant::now();
    for (frame, number) in frames.iter().zip(0..) {
        halves.subscriber.receive(frame, now(number), &mut |_| true);
    }
    let spent = begun.elapsed();
    Ok([ns_each(spent, RECORDS)])
}

/// A time that goes on by a microsecond with each number.
fn now(number: u64) -> NodeTime {
    NodeTime { since_start: Duration::from_micros(number), unix_ms: unix_ms() }
}

/// Receivers and bytes of messages.
const RECEIVERS: [usize; 4] = [1, 3, 8, 16];
const MESSAGES: [usize; 3] = [64, 7000, 64 * 1024];

/// CPU of a server for a message, by receivers and bytes; and what follows from it for the
/// simulation.
fn print_server() -> Result<()> {
    let mut all_us = Vec::new();
    for receivers in RECEIVERS {
        all_us.push([
            message_us(receivers, MESSAGES[0])?,
            message_us(receivers, MESSAGES[1])?,
            message_us(receivers, MESSAGES[2])?,
        ]);
    }
    let rows = RECEIVERS.iter().zip(&all_us).map(|(receivers, each_us)| {
        [receivers.to_string()].into_iter().chain(each_us.map(|us| format!("{us:.1}"))).collect()
    });
    let titles = ["receivers", "64 bytes: µs a message", "7,000 bytes", "64 KiB"];
    println!("### the Redis server\n\n{}", stats::table(&titles, rows));
    let (one, [few, .., many]) = (all_us[0][0], all_us[RECEIVERS.len() - 1]);
    let most = RECEIVERS[RECEIVERS.len() - 1] as f64;
    let receiver_us = (few - one) / (most - 1.0);
    let byte_ns = 1000.0 * (many - few) / (most * (MESSAGES[2] - MESSAGES[0]) as f64);
    println!(
        "For the simulation: --message-us {:.1} --receiver-us {receiver_us:.2} \
         --byte-ns {byte_ns:.3}\n",
        one - receiver_us
    );
    Ok(())
}

fn message_us(receivers: usize, bytes: usize) -> Result<f64> {
    let redis = Redis::start(&SERVER_CPU.to_string())?;
    for _ in 0..receivers {
        redis.connect()?.listen(CHANNEL)?;
    }
    let messages = (200_000_000 / (bytes * receivers)).clamp(300, 5_000) as u64;
    let message = vec![b'x'; bytes];
    let mut publisher = redis.connect()?;
    publisher.publish(CHANNEL, &message)?;
    publisher.drain()?;
    let before = redis.cpu_time()?.ran;
    for _ in 0..messages {
        publisher.publish(CHANNEL, &message)?;
        // As a node does, which has a message at a time.
        publisher.drain()?;
    }
    let spent = redis.cpu_time()?.ran - before;
    ensure!(spent > Duration::ZERO, "the server has done nothing");
    Ok(ns_each(spent, messages) / 1000.0)
}

//! Clients that send garbage, or disconnect in the middle of a request.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::support::client::{HttpClient, get_request, request};
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, Tracker, test_both_engines, wait_for};

test_both_engines!(
    garbage_gets_a_response_or_a_close,
    a_megabyte_of_header,
    resets_at_any_point,
    ten_thousand_connections,
);

/// A generator with the same numbers in every run (Marsaglia's xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Random bytes, or a request with some in it.
    fn blob(&mut self, valid: &[u8]) -> Vec<u8> {
        if self.below(3) == 0 {
            let length = 1 + self.below(3000);
            return (0..length).map(|_| self.next() as u8).collect();
        }
        let mut bytes = valid.repeat(1 + self.below(3));
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.next() as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n \0%&=?:/"[self.below(10)]),
            }
        }
        bytes.truncate(1 + self.below(2 * bytes.len()));
        bytes
    }
}

fn garbage_gets_a_response_or_a_close(engine: Engine) {
    let tracker = Tracker::start(engine, "[connections]\nheader_timeout = 1\nidle_timeout = 1");
    let valid = get_request(&TestTorrent::new(&tracker, 1).target(1, "left=0&compact=1"));
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut answered = 0;
    let mut end = |client: HttpClient, blob: &[u8]| {
        // `read_all` fails unless the connection is closed.
        let got = client.read_all();
        assert!(got.is_empty() || got.starts_with(b"HTTP/1.1 "), "to \"{}\"", blob.escape_ascii());
        answered += usize::from(!got.is_empty());
    };
    for _ in 0..1400 {
        let blob = noise.blob(&valid);
        let mut client = HttpClient::connect(tracker.v4);
        // The tracker may have responded and closed before the end of the request.
        let _ = client.stream.write_all(&blob);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        end(client, &blob);
    }
    // The tracker must drop those that wait for a response.
    for _ in 0..2 {
        let waiting: Vec<(HttpClient, Vec<u8>)> = (0..300)
            .map(|_| {
                let blob = noise.blob(&valid);
                let mut client = HttpClient::connect(tracker.v4);
                let _ = client.stream.write_all(&blob);
                (client, blob)
            })
            .collect();
        waiting.into_iter().for_each(|(client, blob)| end(client, &blob));
    }
    assert!(answered > 1500, "{answered} of 2000 were answered");
    TestTorrent::new(&tracker, 1).announce(1, "");
}

fn a_megabyte_of_header(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    for (start, status) in [("GET /announce HTTP/1.1\r\nX: ", 431), ("GET /", 414)] {
        let mut client = HttpClient::connect(tracker.v4);
        let mut writer = client.stream.try_clone().unwrap();
        let bytes = [start.as_bytes(), &vec![b'x'; 1 << 20]].concat();
        let writer = thread::spawn(move || drop(writer.write_all(&bytes)));
        let response = client.read_response();
        assert_eq!((response.status, response.has_connection_close()), (status, true));
        writer.join().unwrap();
        assert!(client.read_all().is_empty());
    }
}

fn resets_at_any_point(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    torrent.announce_ports(tracker.v4, 1..=200, "");
    let whole = get_request(&torrent.target(1000, "numwant=200"));
    let last = request("GET", &torrent.target(1000, ""), "HTTP/1.1", "Connection: close\r\n");
    let baseline = tracker.descriptors();
    let connect = || HttpClient::connect(tracker.v4);
    for round in 0..500 {
        connect().reset();
        let mut within_a_request = connect();
        within_a_request.send(&whole[..1 + round % (whole.len() - 1)]);
        within_a_request.reset();
        for request in [&whole, &last] {
            let mut before_reading = connect();
            before_reading.send(request);
            if round % 2 == 0 {
                thread::sleep(Duration::from_micros(100));
            }
            before_reading.reset();
        }
        let mut while_reading = HttpClient::connect_small_window(tracker.v4);
        while_reading.send(whole.repeat(20));
        parse_announce(&while_reading.read_response());
        while_reading.reset();
        let mut between_requests = connect();
        between_requests.send(&whole);
        parse_announce(&between_requests.read_response());
        between_requests.reset();
    }
    wait_for("the descriptors of the reset", || (tracker.descriptors() <= baseline).then_some(()));
    torrent.announce(1, "");
}

fn ten_thousand_connections(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let torrent = TestTorrent::new(&tracker, 1);
    let baseline = tracker.descriptors();
    let requests = [
        get_request(&torrent.target(1, "")),
        request("GET", &torrent.target(1, ""), "HTTP/1.1", "Connection: close\r\n"),
        request("GET", &torrent.target(1, ""), "HTTP/1.0", ""),
        b"nonsense\r\n\r\n".to_vec(),
    ];
    let mut resident = 0;
    for round in 0..10_000 {
        if round == 1000 {
            resident = tracker.resident_bytes();
        }
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&requests[round % requests.len()]);
        client.read_response();
    }
    wait_for("their descriptors", || (tracker.descriptors() <= baseline).then_some(()));
    let growth = tracker.resident_bytes().saturating_sub(resident);
    assert!(growth < 4 << 20, "{growth} bytes more after nine thousand connections");
}

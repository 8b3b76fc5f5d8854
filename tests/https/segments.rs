//! The TCP segments of the last response, captured on the loopback device.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{ChildStdout, Command, Stdio};

use crate::support::client::{HttpClient, request};
use crate::support::process::KillOnDrop;
use crate::support::requirements::{can_run, missing_programs, missing_root};
use crate::support::tls_client::VERSIONS;
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::{TestTorrent, parse_announce};
use crate::support::tracker::{Engine, test_both_engines};

test_both_engines!(response_close_notify_and_fin_are_one_segment);

fn response_close_notify_and_fin_are_one_segment(engine: Engine) {
    let mut missing = missing_programs(&["python3"]);
    missing.extend(missing_root("for a capture"));
    if !can_run("response_close_notify_and_fin_are_one_segment", &missing) {
        return;
    }
    let site = TlsTracker::start(engine, "");
    let target = TestTorrent::new(&site.tracker, 1).target(1, "");
    let last = request("GET", &target, "HTTP/1.1", "Connection: close\r\n");
    // TLS 1.2 has one more flight: the tracker's part ends the handshake.
    for (number_before, (version, mut client)) in
        [2, 1].into_iter().zip(VERSIONS.iter().zip(site.connect_by_each()))
    {
        let capture = Capture::begin(&client.stream.sock);
        client.send(&last);
        parse_announce(&client.read_response());
        client.expect_close_notify();
        let segments = capture.end();
        let told = format!("{version:?}: {segments:?}");
        assert_eq!(segments.len(), number_before + 1, "{told}");
        let (end, before) = segments.split_last().unwrap();
        assert!(end.bytes > 0 && end.is_end, "{told}");
        assert!(before.iter().all(|it| it.bytes > 0 && !it.is_end), "{told}");
    }
    // As without TLS.
    let mut client = HttpClient::connect(site.tracker.v4);
    let capture = Capture::begin(&client.stream);
    client.send(&last);
    parse_announce(&client.read_response());
    client.expect_close();
    let segments = capture.end();
    assert_eq!(segments.len(), 1, "{segments:?}");
    assert!(segments[0].bytes > 0 && segments[0].is_end, "{segments:?}");
}

/// A segment from the tracker that is more than an acknowledgement.
#[derive(Debug)]
struct Segment {
    /// Its payload in bytes.
    bytes: usize,
    /// Whether it has FIN.
    is_end: bool,
}

/// Reads the segments to one socket until FIN.
struct Capture {
    program: KillOnDrop,
    lines: BufReader<ChildStdout>,
}

/// IPv4 packets on `lo`, where each is captured twice, once as outgoing.
const PROGRAM: &str = "
import socket, struct, sys
ours, theirs = map(int, sys.argv[1:])
lo = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800)) # ETH_P_IP
lo.setsockopt(socket.SOL_SOCKET, 33, 1 << 24) # SO_RCVBUFFORCE
lo.bind(('lo', 0x800))
print('begun', flush=True)
end = False
while not end:
    packet, (_, _, kind, *_) = lo.recvfrom(1 << 17)
    tcp = packet[(packet[0] & 15) * 4:]
    if kind == socket.PACKET_OUTGOING or packet[9] != socket.IPPROTO_TCP: continue
    if struct.unpack('!HH', tcp[:4]) != (theirs, ours): continue
    length = struct.unpack('!H', packet[2:4])[0]
    payload = length - (len(packet) - len(tcp)) - (tcp[12] >> 4) * 4
    end = bool(tcp[13] & 1)
    if payload or end: print(payload, int(end), flush=True)
";

impl Capture {
    fn begin(stream: &TcpStream) -> Capture {
        let ports = [stream.local_addr().unwrap(), stream.peer_addr().unwrap()];
        let mut python = Command::new("python3");
        python.args(["-c", PROGRAM]).args(ports.map(|address| address.port().to_string()));
        let mut program = KillOnDrop(python.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(program.0.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        Capture { program, lines }
    }

    fn end(self) -> Vec<Segment> {
        let Capture { mut program, lines } = self;
        let segments = lines.lines().map(|line| {
            let line = line.unwrap();
            let (bytes, end) = line.split_once(' ').unwrap();
            Segment { bytes: bytes.parse().unwrap(), is_end: end == "1" }
        });
        let segments = segments.collect();
        assert!(program.0.wait().unwrap().success());
        segments
    }
}

//! Which addresses are received at, what prevents it, and what the log says about it.

use std::fs;
use std::net::UdpSocket;

use crate::support::requirements::{can_run, missing_programs};
use crate::support::tracker::{Engine, Tracker, test_both_engines};
use crate::support::udp_client::{UdpAnnounce, UdpClient};

test_both_engines!(
    udp_is_served_without_http,
    an_address_in_use_is_named_with_the_cure,
    addresses_of_the_proxy_protocol_are_left_out,
);

fn udp_is_served_without_http(engine: Engine) {
    let text = format!(
        "listen = []\nengine = \"{}\"\nworkers = 2\nudp.listen = [\"127.0.0.1:0\"]\n",
        engine.name()
    );
    let mut tracker = Tracker::launch(&text, &[]);
    let to = tracker.wait_listening(" (udp)", 1).unwrap()[0];
    assert_eq!(UdpClient::connected(to).announce(&UdpAnnounce::new(1, 1)).leechers, 1);
    tracker.signal("TERM");
    let (status, log) = tracker.wait_exit();
    assert!(status.success(), "{log}");
}

fn an_address_in_use_is_named_with_the_cure(engine: Engine) {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = format!("listen = [\"127.0.0.1:0\"]\nengine = \"{}\"\n", engine.name());
    let text = format!("{listen}udp.listen = [\"{address}\"]\n");
    let (status, log) = Tracker::launch(&text, &[]).wait_exit();
    assert_eq!(status.code(), Some(1), "{log}");
    let line = log.lines().last().unwrap();
    for part in [&format!("cannot listen on {address} (udp)"), "stop it", "udp.listen = []"] {
        assert!(line.contains(part), "no {part:?}:\n{log}");
    }
}

/// What stands before them passes TCP on.
fn addresses_of_the_proxy_protocol_are_left_out(engine: Engine) {
    let text = format!(
        "listen = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\nengine = \"{}\"\nworkers = 2\n\
         [proxy]\ntrusted = [\"127.0.0.0/8\"]\nprotocol_listen = [\"127.0.0.2:0\"]\n\
         [operations]\nlisten = [\"127.0.0.1:0\"]\n",
        engine.name()
    );
    let tracker = Tracker::launch(&text, &[]);
    // The last line of the start.
    tracker.assert_logged(": operations on ");
    let listening = tracker.wait_listening(" (udp)", 1).unwrap();
    assert_eq!(listening[0].ip().to_string(), "127.0.0.1");
    UdpClient::connected(listening[0]);
}

/// A process without privileges gets what the machine allows.
#[test]
fn a_short_queue_is_warned_of() {
    if !can_run("a_short_queue_is_warned_of", &missing_programs(&["setpriv"])) {
        return;
    }
    let allowed = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    let is_short = allowed.trim().parse::<usize>().unwrap() < annulus_ring::DATAGRAM_QUEUE_BYTES;
    let runner = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let tracker = Tracker::start_with(Engine::Epoll, 1, "", &runner);
    let log = tracker.log();
    assert_eq!(log.contains("sysctl -w net.core.rmem_max=4194304"), is_short, "{log}");
}

//! A client that connects from a link-local IPv6 address, in its own network namespace.

use std::process::Command;

use crate::support::requirements::{can_run, missing_programs, missing_root};
use crate::support::torrent::percent_encoded;
use crate::support::tracker::{Engine, Tracker, has_v6, test_both_engines};

test_both_engines!(link_local_clients_fail);

/// Sets up the network, and then executes the program.
const NETWORK: &str = "ip link set lo up && ip -6 addr add fe80::7/64 dev lo nodad && \
                       exec \"$0\" \"$@\"";

fn link_local_clients_fail(engine: Engine) {
    let mut missing = missing_programs(&["unshare", "nsenter", "ip", "curl"]);
    missing.extend(missing_root("to make a network"));
    let test = "link_local::link_local_clients_fail";
    if !can_run(test, &missing) || !has_v6() {
        return;
    }
    let text = format!("listen = [\"[::]:0\"]\nengine = \"{}\"\nworkers = 2\n", engine.name());
    let mut tracker = Tracker::launch(&text, &["unshare", "-n", "sh", "-c", NETWORK]);
    tracker.wait_ready(1).unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
    let (pid, port) = (tracker.pid().to_string(), tracker.v6.unwrap().port());
    let ask = |host: &str, path: &str| {
        let url = format!("http://[{host}]:{port}{path}");
        let mut curl = Command::new("nsenter");
        curl.args(["-n", "-t", &pid, "curl", "-gsS", "--max-time", "20", &url]);
        let output = curl.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let hash = percent_encoded(&[1; 20]);
    let announce = format!("/announce?info_hash={hash}&port=1");
    let failed = ask("fe80::7%25lo", &announce);
    assert!(failed.contains("nobody can reach a peer at the address"), "{failed}");
    // Only reachable peers are stored.
    assert!(ask("::1", &announce).contains("10:incompletei1e"));
    let scraped = ask("fe80::7%25lo", &format!("/scrape?info_hash={hash}"));
    assert!(scraped.contains("10:incompletei1e"), "{scraped}");
}

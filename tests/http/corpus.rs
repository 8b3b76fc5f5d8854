//! Requests recorded from real clients, byte for byte: each gets a successful response.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::bencode::decode;
use crate::support::client::HttpClient;
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(every_recorded_request_is_answered);

fn recordings() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("parser/tests/corpus")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "http") {
                found.push(path);
            }
        }
    }
    found
}

fn every_recorded_request_is_answered(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let recordings = recordings();
    assert!(recordings.len() >= 100, "only {} recordings", recordings.len());
    for path in recordings {
        let request = fs::read(&path).unwrap();
        // On a new connection, and once more on the same one if it stays open.
        let mut client = HttpClient::connect(tracker.v4);
        client.send(&request);
        let response = client.read_response();
        assert_eq!(response.status, 200, "{path:?}");
        let answer = decode(&response.body);
        assert_eq!(answer.get("failure reason"), None, "{path:?}");
        let is_scrape = request.starts_with(b"GET /scrape");
        assert!(answer.get(if is_scrape { "files" } else { "peers" }).is_some(), "{path:?}");
        if response.has_connection_close() {
            client.expect_close();
        } else {
            client.send(&request);
            assert_eq!(client.read_response().status, 200, "{path:?}");
        }
    }
}

//! One run of `annulus-load`: its command line, and what came of it.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::support::{TempDirectory, TestEngine, wait_for};

/// The program under test.
pub(crate) fn load(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus-load"));
    command.args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A run that is over.
pub(crate) struct Run {
    /// Its exit status.
    pub(crate) status: i32,
    /// The report for people.
    pub(crate) text: String,
    /// The lines while it went on.
    pub(crate) live: String,
    /// The report for programs.
    pub(crate) json: Value,
}

/// A run that goes on.
pub(crate) struct Going {
    child: Option<Child>,
    scratch: TempDirectory,
}

impl Going {
    /// Begins one on this engine; it is ended with this.
    pub(crate) fn start(engine: TestEngine, url: &str, arguments: &[&str]) -> Going {
        let scratch = TempDirectory::new("run");
        let json = scratch.path().join("report.json");
        let mut command = load(&[url, "--engine", engine.name(), "--seed", "7"]);
        command.args(arguments).arg("--json").arg(json);
        Going { child: Some(command.spawn().unwrap()), scratch }
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Run {
        let mut child = self.child.take().unwrap();
        wait_for("the end of the load", || match child.try_wait().unwrap() {
            Some(_) => Some(()),
            None => None,
        });
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let [text, live] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        let status = status.code().unwrap();
        assert!(status < 2, "{live}");
        let json = self.scratch.path().join("report.json");
        let json = fs::read_to_string(json).unwrap_or_else(|_| panic!("{live}"));
        let json = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        Run { status, text, live, json }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Run {
    /// A whole run.
    #[track_caller]
    pub(crate) fn of(engine: TestEngine, url: &str, arguments: &[&str]) -> Run {
        Going::start(engine, url, arguments).end()
    }

    /// A number of the report for programs.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.json[name].as_u64().unwrap_or_else(|| panic!("no {name}: {}", self.json))
    }

    /// A latency in milliseconds.
    pub(crate) fn latency_ms(&self, name: &str) -> f64 {
        self.json["latency_ms"][name].as_f64().unwrap()
    }

    /// How often a fault was counted.
    pub(crate) fn faults(&self, name: &str) -> u64 {
        self.json["faults"][name]["count"].as_u64().unwrap_or(0)
    }

    /// How often an oddity was counted.
    pub(crate) fn oddities(&self, name: &str) -> u64 {
        self.json["oddities"][name].as_u64().unwrap_or(0)
    }

    /// Asserts that all was as it should be, and that so many requests were made.
    #[track_caller]
    pub(crate) fn is_good(&self, requests: u64) {
        assert_eq!(self.status, 0, "{}", self.text);
        assert_eq!(self.json["faults"], serde_json::json!({}), "{}", self.text);
        assert_eq!(self.json["oddities"], serde_json::json!({}), "{}", self.text);
        for name in ["sent", "good", "latencies"] {
            assert_eq!(self.number(name), requests, "{name}: {}", self.text);
        }
        assert_eq!(self.number("announces") + self.number("scrapes"), requests);
    }
}

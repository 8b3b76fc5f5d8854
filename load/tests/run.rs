//! One run of `annulus-load`.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{TempDirectory, TestEngine, wait_for};

/// The program with these arguments, separated by spaces.
pub(crate) fn annulus_load(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus-load"));
    command.args(arguments.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A run that is over.
pub(crate) struct LoadRun {
    pub(crate) status: i32,
    /// Standard output: the report for people.
    pub(crate) text: String,
    /// Standard error: the live lines.
    pub(crate) live: String,
    /// The report for programs.
    pub(crate) json: Value,
}

/// A run that goes on. It is killed when this is dropped.
pub(crate) struct RunningLoad {
    child: Option<Child>,
    directory: TempDirectory,
}

impl RunningLoad {
    pub(crate) fn start(engine: TestEngine, url: &str, arguments: &str) -> RunningLoad {
        let directory = TempDirectory::new("run");
        let mut command = annulus_load(arguments);
        command.args([url, "--engine", engine.name(), "--seed", "7", "--json"]);
        command.arg(directory.path().join("report.json"));
        RunningLoad { child: Some(command.spawn().unwrap()), directory }
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    #[track_caller]
    pub(crate) fn wait(mut self) -> LoadRun {
        let mut child = self.child.take().unwrap();
        wait_for("the end of the load", || child.try_wait().unwrap());
        let output = child.wait_with_output().unwrap();
        let [text, live] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        let status = output.status.code().unwrap();
        assert!(status < 2, "{live}");
        let json = fs::read(self.directory.path().join("report.json")).unwrap();
        LoadRun { status, text, live, json: serde_json::from_slice(&json).unwrap() }
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl LoadRun {
    /// A whole run.
    #[track_caller]
    pub(crate) fn of(engine: TestEngine, url: &str, arguments: &str) -> LoadRun {
        RunningLoad::start(engine, url, arguments).wait()
    }

    /// A number of the report for programs.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.json[name].as_u64().unwrap_or_else(|| panic!("no {name}: {}", self.json))
    }

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

    /// Asserts that so many requests were sent, and that all responses were correct.
    #[track_caller]
    pub(crate) fn assert_good(&self, requests: u64) {
        assert_eq!(self.status, 0, "{}", self.text);
        let odd = [&self.json["faults"], &self.json["oddities"]];
        assert_eq!(odd, [&json!({}), &json!({})], "{}", self.text);
        for name in ["sent", "good", "latencies"] {
            assert_eq!(self.number(name), requests, "{name}: {}", self.text);
        }
        assert_eq!(self.number("announces") + self.number("scrapes"), requests);
    }

    /// Asserts that the run failed, with so many faults of this kind.
    #[track_caller]
    pub(crate) fn assert_failed(&self, fault: &str, count: u64) {
        assert_eq!((self.status, self.faults(fault)), (1, count), "{fault}: {}", self.text);
    }
}

//! `annulus-load` against the real tracker, and against servers that respond wrongly, late or not
//! at all.

mod fake_tracker;
mod fake_udp_tracker;
mod rates;
mod reports;
mod requests;
mod responses;
mod udp;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::requirements::TempDir;
use crate::support::tracker::{ANNULUS, Engine, Tracker, wait_for};

/// The program `annulus-load`, beside the tracker's. It belongs to another package: cargo builds it
/// with the tests of the workspace, and where it is missing or older than its sources, these tests
/// have it built.
pub(crate) fn load_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = PathBuf::from(format!("{ANNULUS}-load"));
        if is_up_to_date(&program) != Some(true) {
            let directory = program.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let profile = if directory == "debug" { "dev" } else { directory };
            let mut cargo = Command::new(env!("CARGO"));
            cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
            cargo.args(["build", "--quiet", "--package", "annulus-load", "--profile", profile]);
            let status = cargo.status();
            assert!(status.is_ok_and(|status| status.success()), "annulus-load cannot be built");
        }
        program
    })
}

/// Whether a program is newer than all sources that cargo's file of dependencies lists.
fn is_up_to_date(program: &Path) -> Option<bool> {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let built = modified(program)?;
    let listed = fs::read_to_string(program.with_extension("d")).ok()?;
    let (_, sources) = listed.split_once(": ")?;
    let mut sources = sources.split_whitespace();
    Some(sources.all(|path| modified(Path::new(path)).is_some_and(|time| time <= built)))
}

/// A temporary directory of its own for each call.
fn temp_dir(name: &str) -> TempDir {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    TempDir::new(&format!("load-{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// The announce URL of a tracker by HTTP and IPv4.
fn announce_url(tracker: &Tracker) -> String {
    format!("http://{}/announce", tracker.v4)
}

/// A run that is over.
struct LoadRun {
    status: i32,
    /// Standard output: the report for people.
    text: String,
    /// Standard error: the live lines.
    live: String,
    /// The report for programs.
    json: Value,
}

/// A run that goes on. It is killed when this is dropped.
struct RunningLoad {
    child: Option<Child>,
    directory: TempDir,
}

impl RunningLoad {
    fn start(engine: Engine, url: &str, arguments: &str) -> RunningLoad {
        let directory = temp_dir("run");
        let mut command = Command::new(load_program());
        command.args(arguments.split_whitespace());
        command.args([url, "--seed", "7"]);
        if !url.starts_with("udp://") {
            command.args(["--engine", engine.name()]);
        }
        command.arg("--json");
        command.arg(directory.path().join("report.json"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        RunningLoad { child: Some(command.spawn().unwrap()), directory }
    }

    /// Sends it a signal, by name.
    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    #[track_caller]
    fn wait(mut self) -> LoadRun {
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
    fn of(engine: Engine, url: &str, arguments: &str) -> LoadRun {
        RunningLoad::start(engine, url, arguments).wait()
    }

    /// A number of the report for programs.
    #[track_caller]
    fn number(&self, name: &str) -> u64 {
        self.json[name].as_u64().unwrap_or_else(|| panic!("no {name}: {}", self.json))
    }

    fn latency_ms(&self, name: &str) -> f64 {
        self.json["latency_ms"][name].as_f64().unwrap()
    }

    /// How often a fault was counted.
    fn faults(&self, name: &str) -> u64 {
        self.json["faults"][name]["count"].as_u64().unwrap_or(0)
    }

    /// How often an oddity was counted.
    fn oddities(&self, name: &str) -> u64 {
        self.json["oddities"][name].as_u64().unwrap_or(0)
    }

    /// Asserts that so many requests were sent, and that all responses were correct.
    #[track_caller]
    fn assert_good(&self, requests: u64) {
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
    fn assert_failed(&self, fault: &str, count: u64) {
        assert_eq!((self.status, self.faults(fault)), (1, count), "{fault}: {}", self.text);
    }
}

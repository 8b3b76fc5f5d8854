//! The program under test: started on free ports, with its log read, and killed when the test ends.

use std::fmt::Display;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The time after which a test fails that waits for something. A machine under load needs a part of
/// it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The path of the program.
pub(crate) const ANNULUS: &str = env!("CARGO_BIN_EXE_annulus");

/// The engine of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    IoUring,
    Epoll,
}

impl Engine {
    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Engine::IoUring => "io_uring",
            Engine::Epoll => "epoll",
        }
    }

    /// Runs a test, or prints why this machine cannot run it.
    pub(crate) fn test(self, test: fn(Engine)) {
        static REFUSED: OnceLock<Option<String>> = OnceLock::new();
        // Tests run in parallel and hold many connections.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
        if self == Engine::IoUring
            && let Some(why) = REFUSED.get_or_init(io_uring_refused)
        {
            eprintln!("skipped: {why}");
            return;
        }
        test(self);
    }
}

/// The program's reason why io_uring is unavailable, if it is.
fn io_uring_refused() -> Option<String> {
    let mut tracker = Tracker::launch(&config(Engine::IoUring, 1, ""), &[]);
    tracker.wait_ready(1 + usize::from(has_v6())).err().filter(|log| log.contains("cannot be had"))
}

/// Defines two tests for each function, one for each engine.
macro_rules! test_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod io_uring {
            $(#[test] fn $name() { super::Engine::IoUring.test(super::$name); })+
        }
        mod epoll {
            $(#[test] fn $name() { super::Engine::Epoll.test(super::$name); })+
        }
    };
}
pub(crate) use test_both_engines;

/// A running tracker; it is killed when the value is dropped.
pub(crate) struct Tracker {
    child: Child,
    config: PathBuf,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    /// Its IPv4 address without TLS.
    pub(crate) v4: SocketAddr,
    /// Its IPv6 address without TLS, if the machine has IPv6.
    pub(crate) v6: Option<SocketAddr>,
    exit: Option<ExitStatus>,
}

#[derive(Default)]
struct Log {
    /// The lines so far, and whether the log has ended.
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Tracker {
    /// Starts a tracker of two workers; `tables` are added to its configuration.
    pub(crate) fn start(engine: Engine, tables: &str) -> Tracker {
        Tracker::start_with(engine, 2, tables, &[])
    }

    /// The same with this number of workers, run by the program `runner` unless that is empty.
    pub(crate) fn start_with(
        engine: Engine,
        workers: usize,
        tables: &str,
        runner: &[&str],
    ) -> Tracker {
        let mut tracker = Tracker::launch(&config(engine, workers, tables), runner);
        match tracker.wait_ready(1 + usize::from(has_v6())) {
            Ok(()) => tracker,
            Err(log) => panic!("the tracker did not start:\n{log}"),
        }
    }

    /// Starts the program with this configuration without waiting for it: it may fail.
    pub(crate) fn launch(text: &str, runner: &[&str]) -> Tracker {
        Tracker::launch_in(&std::env::temp_dir(), text, runner)
    }

    /// The same, with the configuration in a directory that its relative paths are resolved
    /// against.
    pub(crate) fn launch_in(directory: &Path, text: &str, runner: &[&str]) -> Tracker {
        let mut command = match runner {
            [] => Command::new(ANNULUS),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(ANNULUS);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Tracker::spawn(command, directory, text)
    }

    /// The same with this command, to which the configuration file is added.
    pub(crate) fn spawn(mut command: Command, directory: &Path, text: &str) -> Tracker {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let config = directory.join(format!("annulus-test-{}-{count}.toml", std::process::id()));
        fs::write(&config, text).unwrap();
        command.arg("-c").arg(&config).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::<Log>::default();
        let writer = Arc::clone(&log);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                writer.lines.lock().unwrap().0.push(line);
                writer.changed.notify_all();
            }
            writer.lines.lock().unwrap().1 = true;
            writer.changed.notify_all();
        });
        let v4 = SocketAddr::from(([127, 0, 0, 1], 0));
        Tracker { child, config, log, reader: Some(reader), v4, v6: None, exit: None }
    }

    /// Waits until it listens on this number of addresses without TLS; returns its log if it does
    /// not.
    pub(crate) fn wait_ready(&mut self, addresses: usize) -> Result<(), String> {
        for address in self.wait_listening("", addresses)? {
            if address.is_ipv4() { self.v4 = address } else { self.v6 = Some(address) }
        }
        Ok(())
    }

    /// Waits until it listens on this number of addresses that the log line marks with `mark`;
    /// returns its log if it does not.
    pub(crate) fn wait_listening(
        &self,
        mark: &str,
        addresses: usize,
    ) -> Result<Vec<SocketAddr>, String> {
        let listening = |lines: &[String]| {
            let addresses = lines.iter().filter_map(|line| line.split_once("listening on "));
            let marked = addresses.filter_map(|(_, address)| address.strip_suffix(mark));
            marked.filter_map(|address| address.parse().ok()).collect::<Vec<SocketAddr>>()
        };
        if !self.wait_log(|lines| listening(lines).len() == addresses) {
            return Err(self.log());
        }
        Ok(listening(&self.log.lines.lock().unwrap().0))
    }

    /// Waits until the log satisfies `enough`; returns whether it does.
    pub(crate) fn wait_log(&self, enough: impl Fn(&[String]) -> bool) -> bool {
        let waiting = |state: &mut (Vec<String>, bool)| !state.1 && !enough(&state.0);
        let state = self.log.lines.lock().unwrap();
        let (state, _) = self.log.changed.wait_timeout_while(state, TIMEOUT, waiting).unwrap();
        enough(&state.0)
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines.lock().unwrap().0.join("\n")
    }

    /// The first line of its log that contains `part`, which is waited for.
    #[track_caller]
    pub(crate) fn log_line(&self, part: &str) -> String {
        self.assert_logged(part);
        let log = self.log();
        let line = log.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no line with {part:?}:\n{log}")).to_owned()
    }

    /// Waits for a log line that contains `part`.
    #[track_caller]
    pub(crate) fn assert_logged(&self, part: &str) {
        let said = self.wait_log(|lines| lines.iter().any(|line| line.contains(part)));
        assert!(said, "no line with {part:?}:\n{}", self.log());
    }

    /// Waits until connections to this address are refused: then all workers are stopping.
    #[track_caller]
    pub(crate) fn wait_refusal(&self, address: SocketAddr) {
        let refuses = || TcpStream::connect(address).is_err();
        wait_for("the listeners to close", || refuses().then_some(()));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the signal of this name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success(), "kill -s {name}");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.exit.is_none() && self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its exit; returns its status and its log.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> (ExitStatus, String) {
        let status = wait_for("the end of the tracker", || self.child.try_wait().unwrap());
        self.exit = Some(status);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status, self.log())
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let died = self.exit.is_none() && self.child.try_wait().is_ok_and(|exit| exit.is_some());
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let log = self.log();
        if thread::panicking() {
            eprintln!("the tracker's log:\n{log}");
        } else {
            assert!(!log.contains("panicked"), "a worker panicked:\n{log}");
            assert!(!died || !log.contains("listening on"), "the tracker died:\n{log}");
        }
    }
}

/// A configuration: the keys above the first table, then `tables`.
pub(crate) fn config(engine: Engine, workers: usize, tables: &str) -> String {
    let v6 = if has_v6() { ", \"[::1]:0\"" } else { "" };
    let engine = engine.name();
    format!(
        "listen = [\"127.0.0.1:0\"{v6}]\nengine = \"{engine}\"\nworkers = {workers}\n{tables}\n"
    )
}

/// Whether this machine has the IPv6 loopback address.
pub(crate) fn has_v6() -> bool {
    static HAS_V6: OnceLock<bool> = OnceLock::new();
    *HAS_V6.get_or_init(|| TcpListener::bind("[::1]:0").is_ok())
}

/// Waits until `check` returns a value.
#[track_caller]
pub(crate) fn wait_for<T>(what: impl Display, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < TIMEOUT, "still waiting after {TIMEOUT:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

//! The tracker as a process, for the tests that need the real one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the tracker may take to listen, on a machine that is busy with other tests.
const START_MAX: Duration = Duration::from_secs(20);

/// The tracker's program.
pub(crate) const ANNULUS: &str = env!("CARGO_BIN_EXE_annulus");

/// A running tracker; dropping the value kills it.
pub(crate) struct Tracker {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    config: PathBuf,
    /// What it listens on, in the order of its log.
    pub(crate) listeners: Vec<SocketAddr>,
    /// The line of its log that names the engine.
    pub(crate) engine: String,
}

impl Tracker {
    /// Starts `command`, which must end in [`ANNULUS`], with the configuration `config`
    /// (TOML), and waits until it has named its engine and `listeners` addresses.
    ///
    /// # Errors
    /// What went wrong and the log so far, if the tracker ends or is not ready in time.
    pub(crate) fn start(
        mut command: Command,
        config: &str,
        listeners: usize,
    ) -> Result<Tracker, String> {
        let file = write_config(config);
        let mut child = command
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = mpsc::channel();
        // Ends with the tracker, which holds the other end of the pipe.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut tracker = Tracker {
            child,
            lines,
            log: Vec::new(),
            config: file,
            listeners: Vec::new(),
            engine: String::new(),
        };
        tracker.wait_until_ready(listeners)?;
        Ok(tracker)
    }

    fn wait_until_ready(&mut self, listeners: usize) -> Result<(), String> {
        let deadline = Instant::now() + START_MAX;
        while self.listeners.len() < listeners || self.engine.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.read(line),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("not ready after {START_MAX:?}:\n{}", self.log()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map_err(|error| error.to_string())?;
                    return Err(format!("ended with {status}:\n{}", self.log()));
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, line: String) {
        if let Some((_, rest)) = line.split_once("listening on ") {
            let address = rest.split_whitespace().next().unwrap_or_default();
            self.listeners.extend(address.trim_end_matches([',', ';']).parse::<SocketAddr>());
        }
        if line.contains("engine io_uring") || line.contains("engine epoll") {
            self.engine.clone_from(&line);
        }
        self.log.push(line);
    }

    /// Everything it has logged.
    pub(crate) fn log(&mut self) -> String {
        self.log.extend(self.lines.try_iter());
        self.log.join("\n")
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}

fn write_config(text: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("annulus-{}-{count}.toml", process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("a configuration file");
    path
}

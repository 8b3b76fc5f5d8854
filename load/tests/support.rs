//! What the tests share: the tracker's real program, certificates, and temporary directories.

use std::fmt::Display;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annulus_ring::{EngineChoice, SelectedEngine};

/// How long anything may take that normally happens at once.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The engine of both programs in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TestEngine {
    IoUring,
    Epoll,
}

impl TestEngine {
    /// Its name as an option.
    pub(crate) fn name(self) -> &'static str {
        match self {
            TestEngine::IoUring => "io_uring",
            TestEngine::Epoll => "epoll",
        }
    }

    /// Runs a test, unless this machine lacks io_uring.
    pub(crate) fn test(self, test: fn(TestEngine)) {
        if self == TestEngine::IoUring
            && let Err(why) = SelectedEngine::probe(EngineChoice::IoUring)
        {
            eprintln!("skipped: {why}");
            return;
        }
        test(self);
    }
}

/// Makes two tests of each function, one for each engine.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod io_uring {
            $(#[test] fn $name() { crate::support::TestEngine::IoUring.test(super::$name); })+
        }
        mod epoll {
            $(#[test] fn $name() { crate::support::TestEngine::Epoll.test(super::$name); })+
        }
    };
}
pub(crate) use on_both_engines;

/// The tracker's program. Cargo builds it for the tests of its own package, into the same
/// directory; where it is missing or older than its sources, these tests have it built.
fn tracker_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let directory = Path::new(env!("CARGO_BIN_EXE_annulus-load")).parent().unwrap();
        let program = directory.join("annulus");
        if is_up_to_date(&program) != Some(true) {
            let profile = match directory.file_name().unwrap().to_str().unwrap() {
                "debug" => "dev",
                named => named,
            };
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "annulus", "--bin", "annulus"]);
            let status = cargo.args(["--profile", profile]).current_dir(root).status();
            assert!(status.is_ok_and(|status| status.success()), "the tracker cannot be built");
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

/// A running tracker; it is killed when this is dropped.
pub(crate) struct TestTracker {
    child: Child,
    log: Option<JoinHandle<String>>,
    pub(crate) v4: SocketAddr,
    /// Only on a machine that has IPv6.
    pub(crate) v6: Option<SocketAddr>,
    pub(crate) https_v4: Option<SocketAddr>,
    pub(crate) https_v6: Option<SocketAddr>,
    pub(crate) certificates: Option<TestCertificates>,
    _directory: TempDirectory,
}

impl TestTracker {
    /// A tracker of two workers; `tables` are added to its configuration.
    pub(crate) fn start(engine: TestEngine, tables: &str) -> TestTracker {
        TestTracker::start_with(engine, tables, None)
    }

    /// The same with HTTPS, and the certificates that clients are to trust.
    pub(crate) fn start_https(engine: TestEngine) -> TestTracker {
        let certificates = TestCertificates::new();
        let v6 = if has_v6() { ", \"[::1]:0\"" } else { "" };
        let [chain, key] = ["tracker.pem", "tracker.key"].map(|name| certificates.path(name));
        let tables = format!(
            "[tls]\nlisten = [\"127.0.0.1:0\"{v6}]\n\
             certificates = [{{ chain = {chain:?}, key = {key:?} }}]\n"
        );
        TestTracker::start_with(engine, &tables, Some(certificates))
    }

    fn start_with(
        engine: TestEngine,
        tables: &str,
        certificates: Option<TestCertificates>,
    ) -> TestTracker {
        let directory = TempDirectory::new("tracker");
        let v6 = if has_v6() { ", \"[::1]:0\"" } else { "" };
        let config = directory.path().join("annulus.toml");
        let engine = engine.name();
        let text =
            format!("listen = [\"127.0.0.1:0\"{v6}]\nengine = \"{engine}\"\nworkers = 2\n{tables}");
        fs::write(&config, text).unwrap();
        let mut command = Command::new(tracker_program());
        command.arg("-c").arg(&config).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let listeners = (1 + usize::from(has_v6())) * (1 + usize::from(certificates.is_some()));
        let mut addresses: Vec<(SocketAddr, bool)> = Vec::new();
        while addresses.len() < listeners {
            let Some(Ok(line)) = lines.next() else { panic!("the tracker did not start:\n{log}") };
            if let Some((_, address)) = line.split_once("listening on ") {
                let https = address.strip_suffix(" (https)");
                addresses.push((https.unwrap_or(address).parse().unwrap(), https.is_some()));
            }
            log += &(line + "\n");
        }
        let find = |v4, https| {
            let mut found = addresses.iter().filter(|it| it.0.is_ipv4() == v4 && it.1 == https);
            found.next().map(|(address, _)| *address)
        };
        // The log is read to its end, so that the tracker never waits for it.
        let rest = thread::spawn(move || {
            lines.map_while(Result::ok).fold(log, |log, line| log + &line + "\n")
        });
        TestTracker {
            child,
            log: Some(rest),
            v4: find(true, false).unwrap(),
            v6: find(false, false),
            https_v4: find(true, true),
            https_v6: find(false, true),
            certificates,
            _directory: directory,
        }
    }
}

impl Drop for TestTracker {
    fn drop(&mut self) {
        let died = self.child.try_wait().is_ok_and(|exit| exit.is_some());
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log.take().map(|log| log.join().unwrap()).unwrap_or_default();
        if thread::panicking() {
            eprintln!("the tracker's log:\n{log}");
        } else {
            assert!(!died && !log.contains("panicked"), "the tracker failed:\n{log}");
        }
    }
}

/// A certificate authority and a certificate for `tracker.test` and the loopback addresses.
pub(crate) struct TestCertificates(TempDirectory);

impl TestCertificates {
    /// Made by the `openssl` command.
    pub(crate) fn new() -> TestCertificates {
        let certificates = TestCertificates(TempDirectory::new("certificates"));
        let usage = "keyUsage=critical,keyCertSign";
        certificates.issue("root", &["-addext", usage]);
        let names = "subjectAltName=DNS:tracker.test,IP:127.0.0.1,IP:::1";
        let not_a_ca = "basicConstraints=critical,CA:FALSE";
        let signer = ["-CA", "root.pem", "-CAkey", "root.key"];
        certificates
            .issue("tracker", &[&signer[..], &["-addext", names, "-addext", not_a_ca]].concat());
        certificates
    }

    /// The file of the certificate that clients are to trust.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("root.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn issue(&self, name: &str, more: &[&str]) {
        let [key, out, subject] = [".key", ".pem", ""].map(|end| format!("{name}{end}"));
        let subject = format!("/CN={subject}");
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let mut command = Command::new("openssl");
        command.current_dir(self.0.path()).args(["req", "-x509", "-days", "30"]).args(new_key);
        command.args(["-subj", &subject, "-keyout", &key, "-out", &out]).args(more);
        let output = command.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {printed}");
    }
}

/// A directory that is removed when this is dropped.
pub(crate) struct TempDirectory(PathBuf);

impl TempDirectory {
    /// A new and empty one.
    pub(crate) fn new(name: &str) -> TempDirectory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{count}", process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        TempDirectory(path)
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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
        assert!(start.elapsed() < WAIT_MAX, "still waiting after {WAIT_MAX:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

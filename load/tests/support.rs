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
    /// Reads the log to its end, so that the tracker never waits for it.
    log: Option<JoinHandle<String>>,
    pub(crate) v4: SocketAddr,
    /// Only on a machine that has IPv6.
    pub(crate) v6: Option<SocketAddr>,
    pub(crate) https: Vec<SocketAddr>,
    _directory: TempDirectory,
}

impl TestTracker {
    /// A tracker of two workers; `tables` are added to its configuration.
    pub(crate) fn start(engine: TestEngine, tables: &str) -> TestTracker {
        TestTracker::start_with(engine, tables, 1)
    }

    /// The same with HTTPS.
    pub(crate) fn start_https(engine: TestEngine, certificates: &TestCertificates) -> TestTracker {
        let listen = loopback_addresses();
        let [chain, key] = ["tracker.pem", "tracker.key"].map(|name| certificates.path(name));
        let certificates = format!("[{{ chain = \"{chain}\", key = \"{key}\" }}]");
        let tables = format!("[tls]\nlisten = {listen}\ncertificates = {certificates}\n");
        TestTracker::start_with(engine, &tables, 2)
    }

    fn start_with(engine: TestEngine, tables: &str, listeners_per_family: usize) -> TestTracker {
        let directory = TempDirectory::new("tracker");
        let config = directory.path().join("annulus.toml");
        let (engine, listen) = (engine.name(), loopback_addresses());
        let text = format!("listen = {listen}\nengine = \"{engine}\"\nworkers = 2\n{tables}");
        fs::write(&config, text).unwrap();
        let mut command = Command::new(tracker_program());
        command.arg("-c").arg(&config).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let (mut plain, mut https) = (Vec::new(), Vec::new());
        while plain.len() + https.len() < (1 + usize::from(has_v6())) * listeners_per_family {
            let Some(Ok(line)) = lines.next() else { panic!("the tracker did not start:\n{log}") };
            if let Some((_, address)) = line.split_once("listening on ") {
                match address.strip_suffix(" (https)") {
                    Some(address) => https.push(address.parse().unwrap()),
                    None => plain.push(address.parse::<SocketAddr>().unwrap()),
                }
            }
            log += &(line + "\n");
        }
        let log = thread::spawn(move || {
            lines.map_while(Result::ok).fold(log, |log, line| log + &line + "\n")
        });
        TestTracker {
            child,
            log: Some(log),
            v4: plain.iter().copied().find(SocketAddr::is_ipv4).unwrap(),
            v6: plain.iter().copied().find(SocketAddr::is_ipv6),
            https,
            _directory: directory,
        }
    }

    /// The announce URL by HTTP and IPv4.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/announce", self.v4)
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

/// Any port of the loopback addresses, as in a configuration.
fn loopback_addresses() -> &'static str {
    if has_v6() { "[\"127.0.0.1:0\", \"[::1]:0\"]" } else { "[\"127.0.0.1:0\"]" }
}

/// A certificate authority, and a certificate for the loopback addresses.
pub(crate) struct TestCertificates(TempDirectory);

impl TestCertificates {
    pub(crate) fn new() -> TestCertificates {
        let certificates = TestCertificates(TempDirectory::new("certificates"));
        let names = "subjectAltName=DNS:tracker.test,IP:127.0.0.1,IP:::1";
        certificates.issue("root", "-addext keyUsage=critical,keyCertSign");
        let signed = "-CA root.pem -CAkey root.key -addext basicConstraints=critical,CA:FALSE";
        certificates.issue("tracker", &format!("{signed} -addext {names}"));
        certificates
    }

    /// The file of the certificate that clients are to trust.
    pub(crate) fn root(&self) -> String {
        self.path("root.pem")
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn issue(&self, name: &str, more: &str) {
        let arguments = format!(
            "req -x509 -days 30 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -subj /CN={name} -keyout {name}.key -out {name}.pem {more}"
        );
        let mut command = Command::new("openssl");
        command.current_dir(self.0.path()).args(arguments.split_whitespace());
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

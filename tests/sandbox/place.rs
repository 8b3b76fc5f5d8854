//! A tracker with a certificate and a list in the layout of certbot: links to the newest files
//! in a directory that only root may enter, keys that only root may read.

use std::cell::Cell;
use std::env;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;

use crate::support::authority::{Authority, KeyKind};
use crate::support::client::get_request;
use crate::support::requirements::{can_run, missing_root};
use crate::support::tls_client::{client_config, connect_tls};
use crate::support::tls_tracker::HOST;
use crate::support::torrent::{TestTorrent, failure_reason, parse_announce};
use crate::support::tracker::{Engine, Tracker, wait_for};

/// Keys of `[privileges]` that take everything from it.
pub(crate) const NOBODY: &str = "user = \"nobody\"\nchroot = \"empty\"\n";

/// Whether this test can run: only root has privileges to drop.
pub(crate) fn is_root() -> bool {
    can_run("dropping privileges", &Vec::from_iter(missing_root("to be dropped")))
}

/// How a link names what it leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TestSymlink {
    Relative,
    Absolute,
}

/// The tracker, and all that it reads.
pub(crate) struct Place {
    pub(crate) tracker: Tracker,
    pub(crate) secure: SocketAddr,
    pub(crate) files: Layout,
}

/// The directory. It outlives the tracker.
pub(crate) struct Layout {
    authority: Authority,
    renewals: Cell<u32>,
}

impl Layout {
    /// A first certificate, a list of torrent 1, and an empty directory.
    pub(crate) fn new() -> Layout {
        let authority = Authority::new(&[Ipv4Addr::LOCALHOST.into()]);
        let layout = Layout { authority, renewals: Cell::new(0) };
        for directory in ["live", "archive", "empty"] {
            fs::create_dir(layout.path(directory)).unwrap();
        }
        fs::set_permissions(layout.path("archive"), Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(layout.path("empty"), Permissions::from_mode(0o755)).unwrap();
        layout.renew(TestSymlink::Relative);
        layout.list(&[1]);
        layout
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.authority.path(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.authority.directory()
    }

    /// The configuration of a tracker that reads it all, with these keys of `[privileges]`.
    pub(crate) fn config(&self, engine: Engine, privileges: &str) -> String {
        let engine = engine.name();
        format!(
            "listen = [\"127.0.0.1:0\"]\nengine = \"{engine}\"\nworkers = 2\n\
             [tls]\nlisten = [\"127.0.0.1:0\"]\n\
             certificates = [{{ chain = \"live/chain.pem\", key = \"live/key.pem\" }}]\n\
             [access]\nmode = \"allow\"\nfile = \"list.txt\"\n[privileges]\n{privileges}\n"
        )
    }

    /// Issues another certificate, and has the links lead to it; its bytes.
    pub(crate) fn renew(&self, link: TestSymlink) -> CertificateDer<'static> {
        let certificate = self.authority.issue(HOST, KeyKind::P256);
        let number = self.renewals.get() + 1;
        self.renewals.set(number);
        for (issued, kind) in [("pem", "chain"), ("key", "key")] {
            let file = format!("archive/{kind}{number}.pem");
            let text = fs::read(self.path(&format!("{HOST}.{issued}"))).unwrap();
            self.write(&file, text);
            let target = match link {
                TestSymlink::Relative => Path::new("..").join(&file),
                TestSymlink::Absolute => self.path(&file),
            };
            symlink(target, self.path("live/next")).unwrap();
            fs::rename(self.path("live/next"), self.path(&format!("live/{kind}.pem"))).unwrap();
        }
        certificate
    }

    /// Puts a list of these torrents in the place of the one there is.
    pub(crate) fn list(&self, torrents: &[u8]) {
        let line = |torrent: &u8| format!("{torrent:02x}").repeat(20) + "\n";
        self.write("list.txt", torrents.iter().map(line).collect::<String>());
    }

    /// Puts a file that only root may read in the place of one that may be there.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let next = self.path("next");
        fs::write(&next, text).unwrap();
        fs::set_permissions(&next, Permissions::from_mode(0o600)).unwrap();
        fs::rename(next, self.path(name)).unwrap();
    }
}

impl Place {
    /// A running tracker with these keys of `[privileges]`.
    pub(crate) fn start(engine: Engine, privileges: &str) -> Place {
        Place::start_as(engine, privileges, &[])
    }

    /// The same, run by another program.
    pub(crate) fn start_as(engine: Engine, privileges: &str, runner: &[&str]) -> Place {
        let files = Layout::new();
        let text = files.config(engine, privileges);
        let mut tracker = Tracker::launch_in(files.directory(), &text, runner);
        let listening = tracker.wait_ready(1).and_then(|()| tracker.wait_listening(" (https)", 1));
        let secure = listening.unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
        Place { tracker, secure: secure[0], files }
    }

    /// Tells it to read its files again; what it says of the certificates and the list, which
    /// comes last.
    #[track_caller]
    pub(crate) fn reload(&self) -> String {
        let log = || self.tracker.log().lines().map(str::to_owned).collect::<Vec<String>>();
        let before = log().len();
        self.tracker.signal("HUP");
        wait_for("the verdict on the list", || {
            let said = log().split_off(before);
            let last = |line: &String| line.contains("access list ");
            said.iter().any(last).then(|| said.join("\n"))
        })
    }

    /// Asserts that it shows this certificate, and serves these torrents of the first nine, by
    /// TLS and without.
    #[track_caller]
    pub(crate) fn serves(&self, certificate: &CertificateDer<'_>, torrents: &[u8]) {
        let trusting = Arc::new(client_config(&self.files.authority, &TLS13));
        for number in 1..10 {
            let torrent = TestTorrent::new(&self.tracker, number);
            let mut client = connect_tls(self.secure, &trusting);
            client.send(get_request(&torrent.target(1, "")));
            let reply = client.read_response();
            assert_eq!(client.certificate(), certificate);
            if torrents.contains(&number) {
                parse_announce(&reply);
                torrent.announce(2, "");
            } else {
                failure_reason(&reply);
            }
        }
    }

    /// The certificate that it is to show at first.
    pub(crate) fn first(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.files.path("archive/chain1.pem")).unwrap()
    }
}

/// A directory that every user can enter, wherever the build's may be, with a copy of the
/// program; it goes away with this.
pub(crate) struct Public(PathBuf);

impl Public {
    pub(crate) fn new(name: &str) -> Public {
        let path = env::temp_dir().join(format!("annulus-{name}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        // By a process of its own: what this one has open to be written, another test's child may
        // hold for a moment longer, and meanwhile it cannot be executed.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_annulus")).arg(&path).status();
        assert!(copied.unwrap().success());
        Public(path)
    }

    /// Launches the copy on a configuration there, as nobody with these of `setpriv`'s options.
    pub(crate) fn launch_as_nobody(&self, text: &str, options: &[&str]) -> Tracker {
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        // In place of the program of the build, which comes first of the arguments.
        let copy = format!("shift; exec {} \"$@\"", self.0.join("annulus").display());
        let runner = [&nobody, options, &["sh", "-c", &copy, "sh"]].concat();
        Tracker::launch_in(&self.0, text, &runner)
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

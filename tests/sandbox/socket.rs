//! A Unix socket that root makes for the user that it becomes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::place::{Layout, NOBODY, is_root};
use crate::support::tracker::{Engine, TIMEOUT, Tracker, test_both_engines};

test_both_engines!(belongs_to_the_user_and_group);

const USER: u32 = 65534;
const GROUP: u32 = 12346;

fn belongs_to_the_user_and_group(engine: Engine) {
    if !is_root() {
        return;
    }
    let by_number = format!("user = \"nobody\"\ngroup = \"{GROUP}\"\n");
    for (number, (privileges, group, of_user, stays)) in [
        (&by_number[..], GROUP, true, false),
        (&by_number, GROUP, false, true),
        // Out of its sight.
        (NOBODY, USER, true, true),
    ]
    .into_iter()
    .enumerate()
    {
        let files = Layout::new();
        let directory = files.path(&format!("run{number}"));
        fs::create_dir(&directory).unwrap();
        if of_user {
            chown(&directory, Some(USER), Some(group)).unwrap();
        }
        let path = directory.join("socket");
        let listen = format!("listen = [\"unix:{}\", \"127.0.0.1:0\"]", path.display());
        let config = files.config(engine, privileges);
        let config =
            config.replace("listen = [\"127.0.0.1:0\"]\nengine", &format!("{listen}\nengine"));
        let config = format!("{config}[proxy]\nheader = \"X-Real-IP\"\n");
        // What was left behind is no obstacle.
        for _ in 0..2 {
            let mut tracker = Tracker::launch_in(files.directory(), &config, &[]);
            tracker.wait_ready(1).unwrap_or_else(|log| panic!("the tracker did not start:\n{log}"));
            let made = fs::metadata(&path).unwrap();
            assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (USER, group, 0o660));
            announce(&path);
            tracker.signal("TERM");
            let (status, log) = tracker.wait_exit();
            assert!(status.success(), "{log}");
            assert_eq!(path.exists(), stays, "{privileges}");
        }
    }
}

fn announce(path: &Path) {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let request = format!(
        "GET /announce?info_hash={}&port=1 HTTP/1.1\r\nX-Real-IP: 203.0.113.7\r\n\
         Connection: close\r\n\r\n",
        "%01".repeat(20)
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("10:incompletei1e"), "{answer}");
}

//! Chromium without a window, and one page in it, by the DevTools protocol over a pipe: each
//! message is JSON and ends with a zero byte.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::support::requirements::TempDir;
use crate::support::tracker::{TIMEOUT, wait_for};

const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
];

/// What is told of a page beside what is asked.
const DOMAINS: [&str; 4] = ["Page", "Runtime", "Log", "Network"];

/// The browser; it ends with this.
pub(crate) struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<String>,
    /// Messages that answered no command, the oldest first.
    events: Vec<String>,
    calls: u32,
    session: String,
    /// Its profile, which is new.
    _directory: TempDir,
}

impl Browser {
    /// Starts it with an empty page; `name` is the test's own.
    pub(crate) fn start(name: &str) -> Browser {
        let directory = TempDir::new(&format!("browser-{name}"));
        let mut command = Command::new("sh");
        // It reads commands from descriptor 3 and writes to 4.
        let script = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null";
        command.args(["-c", script, "chromium"]).args(FLAGS);
        command.arg(format!("--user-data-dir={}", directory.path().display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                // Nobody listens any more when the test has ended.
                let _ = sender.send(String::from_utf8(message).unwrap());
            }
        });
        let mut browser = Browser {
            child,
            commands,
            messages,
            events: Vec::new(),
            calls: 0,
            session: String::new(),
            _directory: directory,
        };
        let target = browser.call("Target.createTarget", "{\"url\":\"about:blank\"}");
        let target = quoted(&text(&target, "targetId").unwrap());
        let attach = format!("{{\"targetId\":{target},\"flatten\":true}}");
        let attached = browser.call("Target.attachToTarget", &attach);
        let session = quoted(&text(&attached, "sessionId").unwrap());
        browser.session = format!("\"sessionId\":{session},");
        for domain in DOMAINS {
            browser.call(&format!("{domain}.enable"), "{}");
        }
        browser
    }

    /// Has a command done and returns the answer, which is no error.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, parameters: &str) -> String {
        self.calls += 1;
        let (id, session) = (self.calls, &self.session);
        let command =
            format!("{{\"id\":{id},{session}\"method\":\"{method}\",\"params\":{parameters}}}\0");
        self.commands.write_all(command.as_bytes()).unwrap();
        let start = format!("{{\"id\":{id},");
        loop {
            let message = self.messages.recv_timeout(TIMEOUT);
            let message = message.unwrap_or_else(|error| panic!("{method}: {error}"));
            if message.starts_with(&start) {
                assert!(!message[start.len()..].starts_with("\"error\""), "{method}: {message}");
                return message;
            }
            self.events.push(message);
        }
    }

    /// Goes to an address, and waits until all of it is there.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str) {
        let answer = self.call("Page.navigate", &format!("{{\"url\":{}}}", quoted(url)));
        assert_eq!(text(&answer, "errorText"), None, "{url}");
        self.until("document.readyState === 'complete'");
    }

    /// The value of an expression of the page's, as a string.
    #[track_caller]
    pub(crate) fn ask(&mut self, expression: &str) -> String {
        let expression = quoted(&format!("String({expression})"));
        let answer = self.call("Runtime.evaluate", &format!("{{\"expression\":{expression}}}"));
        text(&answer, "value").filter(|_| !answer.contains("\"exceptionDetails\"")).expect(&answer)
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn until(&mut self, expression: &str) {
        wait_for(expression, || (self.ask(expression) == "true").then_some(()));
    }

    /// Has the page think that its screen is so wide, and that of a phone.
    pub(crate) fn narrow(&mut self, width: u32) {
        let screen =
            format!("{{\"width\":{width},\"height\":740,\"deviceScaleFactor\":2,\"mobile\":true}}");
        self.call("Emulation.setDeviceMetricsOverride", &screen);
    }

    /// The addresses that were requested so far.
    pub(crate) fn requested(&mut self) -> Vec<String> {
        let requests = self.told("Network.requestWillBeSent");
        let url = |it: &String| text(&it[it.find("\"request\":{")?..], "url");
        requests.iter().map(|it| url(it).expect(it)).collect()
    }

    /// What the page and the browser found wrong so far.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        let kinds = ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"];
        kinds.into_iter().flat_map(|kind| self.told(kind)).collect()
    }

    /// All events of a kind.
    fn told(&mut self, kind: &str) -> Vec<String> {
        self.events.extend(self.messages.try_iter());
        let start = format!("{{\"method\":\"{kind}\",");
        self.events.iter().filter(|event| event.starts_with(&start)).cloned().collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Told to, all of its processes end, which write to its profile until then.
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        while self.messages.recv_timeout(TIMEOUT).is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    assert!(!text.contains(char::is_control), "{text:?}");
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The first string of this name in some JSON without spaces.
fn text(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    let mut characters = rest.chars();
    let mut text = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => match characters.next()? {
                'n' => text.push('\n'),
                'u' => {
                    let digits: String = characters.by_ref().take(4).collect();
                    text.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

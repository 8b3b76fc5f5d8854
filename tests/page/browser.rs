//! Headless Chromium with one page, controlled by the DevTools protocol over a pipe: each message
//! is JSON and ends with a zero byte.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

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

/// The domains whose events the browser sends.
const DOMAINS: [&str; 4] = ["Page", "Runtime", "Log", "Network"];

/// A browser process, stopped on drop.
pub(crate) struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    /// Messages that were no response to a command, the oldest first.
    events: Vec<Value>,
    calls: u32,
    session: Option<String>,
    /// Its profile.
    _directory: TempDir,
}

impl Browser {
    /// Starts it with an empty page and a new profile; `name` is unique to the test.
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
                // The receiver is gone when the test has ended.
                let _ = sender.send(serde_json::from_slice(&message).unwrap());
            }
        });
        let mut browser = Browser {
            child,
            commands,
            messages,
            events: Vec::new(),
            calls: 0,
            session: None,
            _directory: directory,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in DOMAINS {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Executes a command and returns its result, which must not be an error.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut command = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let message = self.messages.recv_timeout(TIMEOUT);
            let mut message = message.unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    /// Opens an address, and waits until it is loaded.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str) {
        let result = self.call("Page.navigate", json!({ "url": url }));
        assert!(result["errorText"].is_null(), "{url}: {result}");
        self.until("document.readyState === 'complete'");
    }

    /// The value of a JavaScript expression in the page, as a string.
    #[track_caller]
    pub(crate) fn ask(&mut self, expression: &str) -> String {
        let expression = format!("String({expression})");
        let result = self.call("Runtime.evaluate", json!({ "expression": expression }));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn until(&mut self, expression: &str) {
        wait_for(expression, || (self.ask(expression) == "true").then_some(()));
    }

    /// Emulates a phone with a screen of this width in CSS pixels.
    pub(crate) fn narrow(&mut self, width: u32) {
        let screen =
            json!({ "width": width, "height": 740, "deviceScaleFactor": 2, "mobile": true });
        self.call("Emulation.setDeviceMetricsOverride", screen);
    }

    /// The addresses that were requested so far.
    pub(crate) fn requested(&mut self) -> Vec<String> {
        let requests = self.events_of("Network.requestWillBeSent");
        let url = |it: &Value| it["params"]["request"]["url"].as_str().unwrap().to_owned();
        requests.iter().map(url).collect()
    }

    /// Errors and warnings of the page and the browser so far.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        let kinds = ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"];
        let events = kinds.into_iter().flat_map(|kind| self.events_of(kind));
        events.map(|event| event.to_string()).collect()
    }

    fn events_of(&mut self, kind: &str) -> Vec<Value> {
        self.events.extend(self.messages.try_iter());
        self.events.iter().filter(|event| event["method"] == kind).cloned().collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After this command all of its processes end, which write to its profile until then.
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        while self.messages.recv_timeout(TIMEOUT).is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

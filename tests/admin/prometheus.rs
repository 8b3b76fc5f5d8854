//! Debian's Prometheus and its promtool, and the dashboard.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::admin::{AdminClient, OPERATIONS};
use crate::support::client::{fetch, get_request};
use crate::support::process::KillOnDrop;
use crate::support::requirements::{TempDir, can_run, missing_programs};
use crate::support::tls_tracker::TlsTracker;
use crate::support::torrent::TestTorrent;
use crate::support::tracker::{Engine, Tracker, has_v6, wait_for};

/// The dashboard.
const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/grafana-dashboard.json");

#[test]
fn prometheus_scrapes_the_tracker() {
    if !can_run("prometheus_scrapes_the_tracker", &missing_programs(&["prometheus", "curl"])) {
        return;
    }
    let tracker = Tracker::start(Engine::Epoll, OPERATIONS);
    let AdminClient(target) = AdminClient::of(&tracker);
    TestTorrent::new(&tracker, 1).announce_ports(tracker.v4, 1..=23, "left=0");
    let directory = TempDir::new("prometheus");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n\
         scrape_configs:\n  - job_name: annulus\n    static_configs:\n      \
         - targets: [\"{target}\"]\n"
    );
    let file = directory.path().join("prometheus.yml");
    fs::write(&file, config).unwrap();
    let log = fs::File::create(directory.path().join("log")).unwrap();
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", file.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
    prometheus.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    prometheus.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let _prometheus = KillOnDrop(prometheus.spawn().unwrap());
    let value = |query: &str| {
        let url = format!("http://127.0.0.1:{port}/api/v1/query");
        let query = format!("query={query}");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "10", "--get", "--data-urlencode", &query, &url]);
        let answer = String::from_utf8(curl.output().unwrap().stdout).unwrap();
        // As in {"metric":{...},"value":[1700000000.1,"23"]}
        let (_, value) = answer.split_once("\"value\":[")?;
        let (_, value) = value.split_once(",\"")?;
        Some(value.split_once('"')?.0.to_owned())
    };
    let is = |query: &str, wanted: &str| {
        wait_for(format!("{query} = {wanted}"), || (value(query)? == wanted).then_some(()));
    };
    is("up{job=\"annulus\"}", "1");
    is("sum(annulus_requests_total{kind=\"announce\",outcome=\"answered\"})", "23");
    is("sum(annulus_peers{kind=\"seeder\"})", "23");
    is("annulus_request_duration_seconds_count", "23");
    // The next scrape finds more.
    TestTorrent::new(&tracker, 2).announce(1, "");
    is("sum(annulus_requests_total)", "24");
    assert_eq!(fetch(target, get_request("/health")).status, 200);
}

/// The text with every metric, and peers of both families.
fn full_text() -> (TlsTracker, String) {
    // Two tests may call it at once.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let directory = TempDir::new(&format!("full-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    let list = directory.path().join("list.txt");
    fs::write(&list, "").unwrap();
    let access = format!("[access]\nmode = \"deny\"\nfile = {list:?}\n");
    // Whether there is such a server does not matter.
    let cluster = "[cluster]\nserver = \"unix:///nonexistent/valkey.sock\"\n";
    let file = directory.path().join("swarms.state");
    let state = format!("[state]\nfile = {file:?}\ninterval = 1\n");
    let site = TlsTracker::start(Engine::Epoll, &(access + cluster + &state + OPERATIONS));
    let torrent = TestTorrent::new(&site.tracker, 1);
    torrent.announce(1, "");
    if has_v6() {
        torrent.announce_from(IpAddr::V6(Ipv6Addr::LOCALHOST), 1, "");
    }
    let admin = AdminClient::of(&site.tracker);
    let text = wait_for("a write of the state", || {
        Some(admin.text()).filter(|text| text.contains("\nannulus_state_write_duration_seconds "))
    });
    (site, text)
}

#[test]
fn promtool_accepts_the_metrics() {
    if !can_run("promtool_accepts_the_metrics", &missing_programs(&["promtool"])) {
        return;
    }
    let (_site, text) = full_text();
    let complaints = promtool(&["check", "metrics"], &text);
    assert_eq!(complaints, (true, String::new()));
    // promtool does report a mistake.
    let (passed, complaint) = promtool(&["check", "metrics"], "# TYPE a counter\na 1\n");
    assert!(!passed && complaint.contains("_total"), "{complaint}");
}

/// Whether promtool accepts this input, and its output.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool");
    promtool.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// The queries of the dashboard, with its variables filled in.
fn queries() -> Vec<String> {
    let program = "import json, sys\n\
                   def walk(it):\n    \
                       if isinstance(it, dict):\n        \
                           if 'expr' in it: print(it['expr'].replace('\\n', ' '))\n        \
                           for value in it.values(): walk(value)\n    \
                       elif isinstance(it, list):\n        \
                           for value in it: walk(value)\n\
                   walk(json.load(open(sys.argv[1])))\n";
    let output = Command::new("python3").args(["-c", program, DASHBOARD]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let filled = |line: &str| line.replace("$__rate_interval", "5m").replace("$instance", ".*");
    String::from_utf8(output.stdout).unwrap().lines().map(filled).collect()
}

#[test]
fn the_dashboard_draws_known_metrics() {
    let (_site, text) = full_text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let known: BTreeSet<&str> = types.map(|line| line.split_once(' ').unwrap().0).collect();
    let queries = queries();
    assert!(queries.len() > 15, "{queries:?}");
    let mut drawn = BTreeSet::new();
    for query in &queries {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = words
            .filter(|word| word.starts_with("annulus_") || word.starts_with("process_"))
            .collect();
        assert!(!names.is_empty(), "{query}");
        for name in names {
            let suffixes = ["_bucket", "_sum", "_count"];
            let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert!(known.contains(base), "{name} of {query} is not there");
            drawn.insert(base);
        }
    }
    // What an operator looks at first.
    for name in [
        "annulus_requests_total",
        "annulus_failures_total",
        "annulus_datagrams_dropped_total",
        "annulus_connections_open",
        "annulus_torrents",
        "annulus_peers",
        "annulus_request_duration_seconds",
        "annulus_turn_duration_seconds",
        "annulus_tls_handshakes_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(drawn.contains(name), "{name} is not drawn");
    }
}

#[test]
fn promtool_accepts_the_queries_of_the_dashboard() {
    if !can_run("promtool_accepts_the_queries_of_the_dashboard", &missing_programs(&["promtool"])) {
        return;
    }
    let directory = TempDir::new("rules");
    let check = |queries: &[String]| {
        let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
        for (index, query) in queries.iter().enumerate() {
            let _ = writeln!(rules, "  - record: query:{index}\n    expr: {query:?}");
        }
        let file = directory.path().join("rules.yml");
        fs::write(&file, rules).unwrap();
        promtool(&["check", "rules", path(&file)], "")
    };
    let (passed, said) = check(&queries());
    assert!(passed, "{said}");
    assert!(!check(&["sum(".to_owned()]).0);
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

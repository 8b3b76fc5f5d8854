//! What is said of a run, while it goes on and afterwards.

use std::process::Command;

use serde_json::json;

use crate::run::Run;
use crate::support::{TestEngine, TestTracker, on_both_engines};

on_both_engines!(lines_and_reports_agree, one_line_on_a_terminal);

fn lines_and_reports_agree(engine: TestEngine) {
    let tracker = TestTracker::start(engine, "");
    let url = format!("http://{}/announce", tracker.v4);
    let arguments = ["--rate", "1000", "--duration", "3", "--arrivals", "even"];
    let run = Run::of(engine, &url, &arguments);
    run.is_good(3000);

    // One line a second, each by itself where it is no terminal.
    let lines: Vec<&str> = run.live.lines().collect();
    assert!((3..=5).contains(&lines.len()), "{}", run.live);
    for line in &lines {
        for part in ["/s", "in flight", "faults 0", "p50", "p99", "max", "s left"] {
            assert!(line.contains(part), "no {part}: {line}");
        }
        assert!(!line.contains(['\r', '\x1b']), "{line}");
    }

    for part in [&url, "3,000 sent, 3,000 correct responses", "all responses are correct"] {
        assert!(run.text.contains(part), "no {part}:\n{}", run.text);
    }
    let options = &run.json["options"];
    assert_eq!((&options["rate"], &options["zipf_exponent"]), (&json!(1000), &json!(1.0)));
    assert_eq!((&options["arrivals"], &options["only_ours"]), (&json!("even"), &json!(false)));
    assert_eq!(run.json["version"], env!("CARGO_PKG_VERSION"));

    let order = ["p50", "p90", "p99", "p99.9", "max"].map(|name| run.latency_ms(name));
    assert!(order.is_sorted() && order[0] > 0.0, "{order:?}");

    let series = run.json["series"].as_array().unwrap();
    assert!((2..=4).contains(&series.len()), "{series:?}");
    let rates: f64 = series.iter().map(|point| point["rate"].as_f64().unwrap()).sum();
    let mean = rates / series.len() as f64;
    assert!((800.0..1200.0).contains(&mean), "{series:?}");
}

fn one_line_on_a_terminal(engine: TestEngine) {
    let tracker = TestTracker::start(engine, "");
    let program = env!("CARGO_BIN_EXE_annulus-load");
    let command = format!(
        "stty cols 80; \
         {program} http://{}/announce --engine {} --duration 2 --rate 100 2>&1 >/dev/null",
        tracker.v4,
        engine.name()
    );
    let shown = Command::new("script").args(["-qec", &command, "/dev/null"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    // Each takes the place of the one before; only the last is left behind.
    assert!(shown.matches("\r\x1b[K").count() >= 2, "{shown:?}");
    assert_eq!(shown.matches('\n').count(), 1, "{shown:?}");
    // None is wrapped, which would leave its beginning behind.
    for line in shown.trim_end().split("\r\x1b[K").skip(1) {
        let line = line.strip_prefix("\x1b[?7l").and_then(|line| line.strip_suffix("\x1b[?7h"));
        assert!(line.is_some_and(|line| line.len() <= 80), "{shown:?}");
    }
}

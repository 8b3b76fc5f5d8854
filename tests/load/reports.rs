//! The reports of a run.

use std::process::Command;

use serde_json::json;

use super::{LoadRun, announce_url, load_program};
use crate::support::tracker::{Engine, Tracker, test_both_engines};

test_both_engines!(all_reports_agree, a_terminal_has_one_live_line);

fn all_reports_agree(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let url = announce_url(&tracker);
    let run = LoadRun::of(engine, &url, "--rate 1000 --duration 3 --arrivals even");
    run.assert_good(3000);

    // A line a second.
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

    let percentiles = ["p50", "p90", "p99", "p99.9", "max"].map(|name| run.latency_ms(name));
    assert!(percentiles.is_sorted() && percentiles[0] > 0.0, "{percentiles:?}");
    let series = run.json["series"].as_array().unwrap();
    assert!((2..=4).contains(&series.len()), "{series:?}");
    let rates: f64 = series.iter().map(|point| point["rate"].as_f64().unwrap()).sum();
    let mean = rates / series.len() as f64;
    assert!((800.0..1200.0).contains(&mean), "{series:?}");
}

fn a_terminal_has_one_live_line(engine: Engine) {
    let tracker = Tracker::start(engine, "");
    let (program, url) = (load_program().display(), announce_url(&tracker));
    let engine = engine.name();
    let command = format!(
        "stty cols 80; {program} {url} --engine {engine} --duration 2 --rate 100 2>&1 >/dev/null"
    );
    let shown = Command::new("script").args(["-qec", &command, "/dev/null"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    // Each line replaces the one before. None is wrapped, which would leave its beginning.
    assert!(shown.matches("\r\x1b[K").count() >= 2, "{shown:?}");
    assert_eq!(shown.matches('\n').count(), 1, "{shown:?}");
    for line in shown.trim_end().split("\r\x1b[K").skip(1) {
        let line = line.strip_prefix("\x1b[?7l").and_then(|line| line.strip_suffix("\x1b[?7h"));
        assert!(line.is_some_and(|line| line.len() <= 80), "{shown:?}");
    }
}

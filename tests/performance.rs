//! Does `docs/performance.md` say what was measured? Its tables and charts follow from the
//! committed results.

use std::fs;

use annulus_bench::charts::{self, Bar, Panel};
use annulus_bench::repository;
use annulus_bench::results::{LoadedRun, Results, Row};
use annulus_bench::tables;
use serde_json::{Value, json};

fn committed(name: &str) -> String {
    let file = repository("docs").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn results() -> Results {
    serde_json::from_str(&committed("performance/results.json")).unwrap()
}

#[test]
fn the_committed_tables_and_charts_follow_from_the_committed_results() {
    let results = results();
    let again = "cargo bench --bench compare -- --render makes it again";
    let document = committed("performance.md");
    assert!(tables::fill(&document, &results).unwrap() == document, "the tables: {again}");
    for (name, svg) in charts::all(&results) {
        assert!(svg == committed(&format!("performance/{name}")), "{name}: {again}");
    }
}

#[test]
fn results_are_written_as_they_are_read() {
    assert!(results().json().unwrap() == committed("performance/results.json"));
}

#[test]
fn every_row_was_measured_and_this_tracker_without_a_fault() {
    let results = results();
    for row in Row::FULL_SPEED.into_iter().chain(Row::AT_RATE).chain(Row::UDP) {
        for server in ["annulus", "annulus-epoll"] {
            let rounds = results.row(row);
            let rounds = rounds.iter().find(|rounds| rounds.server == server).unwrap();
            let runs = rounds.runs.as_ref().unwrap();
            assert_eq!(runs.len() as u64, results.rounds, "{row:?} {server}");
            assert!(runs.iter().all(|run| run.good() > 0.0 && run.good() == run.responses()));
            assert!(runs.iter().all(|run| !run.allowed.contains("own-address")));
        }
    }
    let ours = results.memory.iter().find(|filled| filled.server == "annulus").unwrap();
    assert!(ours.outcome.done().is_ok());
}

/// Results with these runs of one server in one row, without anything else.
fn measured(runs: Vec<Value>) -> Results {
    let mut results = json!({"command": "c", "facts": [], "rounds": 3, "seconds": 2});
    for list in ["handshakes", "memory", "workers"] {
        results[list] = json!([]);
    }
    results["runs"] = runs.into();
    serde_json::from_value(results).unwrap()
}

/// A run of ten responses, two of them with an allowed fault.
fn run(server_ns: f64) -> Value {
    json!({"row": "close", "server": "opentracker", "workers": 1, "server_ns": server_ns,
        "waited_ns": 0,
        "allowed": "own-address",
        "report": {"good": 8, "seconds": 2, "cpu_ns": 1_900_000_000, "offered_rate": 0,
            "faults": {"own-address": {"count": 2}, "never-sent": {"count": 3}},
            "latency_ms": {"p50": 1, "p99": 2, "p99.9": 30},
            "series": [{"at_s": 1, "latency_ms": {"p99.9": 40}},
                {"at_s": 2, "latency_ms": {"p99.9": 5}}, {"at_s": 3.1, "latency_ms": {"p99.9": 3}},
                {"at_s": 3.2, "latency_ms": {"p99.9": 50}}]}})
}

#[test]
fn figures_are_medians_over_responses_with_allowed_faults() {
    let results = measured([40_000.0, 10_000.0, 20_000.0].map(run).into());
    let rows = results.row(Row::Close);
    let [rounds] = rows.as_slice() else { panic!("one server") };
    let cpu = rounds.spread(LoadedRun::cpu_us).unwrap();
    assert_eq!((cpu.median, cpu.least, cpu.greatest), (2.0, 1.0, 4.0));
    assert_eq!(rounds.median(LoadedRun::rate).unwrap(), 5.0);
    // Of the whole seconds but the first, or of all responses if there is no such second.
    assert_eq!(rounds.median(|run| run.latency_ms("p99.9")).unwrap(), 4.0);
    assert_eq!(rounds.median(|run| run.latency_ms("p99")).unwrap(), 2.0);
    assert!(rounds.is_bound_by_load());
    let table = tables::of(&results, "close").unwrap();
    assert!(table.contains("| opentracker | **2.0** (1.0-4.0) | - | ≥ **5** (5-5) |"), "{table}");
    let even = measured([10_000.0, 20_000.0].map(run).into());
    assert_eq!(even.row(Row::Close)[0].median(LoadedRun::cpu_us).unwrap(), 1.5);
}

#[test]
fn ratios_are_taken_round_by_round() {
    let mut runs = Vec::new();
    for (server, row, server_ns) in [
        ("floor", "close", 10_000.0),
        ("annulus", "close", 15_000.0),
        ("annulus", "tls-close", 60_000.0),
        ("floor", "close", 20_000.0),
        ("annulus", "close", 20_000.0),
        ("annulus", "tls-close", 40_000.0),
    ] {
        let mut run = run(server_ns);
        (run["server"], run["row"]) = (server.into(), row.into());
        runs.push(run);
    }
    let results = measured(runs);
    let table = |name| tables::of(&results, name).unwrap();
    assert!(table("close").contains("| Annulus | 1.8 (1.5-2.0) | 1.25 (1.00-1.50) |"));
    assert!(table("tls-close").contains("| Annulus | **5.0** (4.0-6.0) | 3.00 (2.00-4.00) |"));
}

#[test]
fn two_workers_are_compared_with_one() {
    let mut results = measured(Vec::new());
    let shared = |workers: u64, seconds: f64, server_ns: f64| {
        json!({"row": "keep", "server": "annulus", "workers": workers, "server_ns": server_ns,
            "waited_ns": 0,
            "allowed": "", "report": {"good": 1000, "seconds": seconds}})
    };
    let workers = json!([shared(1, 2.0, 4e6), shared(2, 1.25, 5e6)]);
    results.workers = serde_json::from_value(workers).unwrap();
    let again: Results = serde_json::from_str(&results.json().unwrap()).unwrap();
    assert_eq!(again, results);
    let workers = tables::of(&results, "workers").unwrap();
    for line in [
        "| Plain, keep-alive | 1 | 500 (500-500) | 4.0 (4.0-4.0) | 0 % |  |  |",
        "| Plain, keep-alive | 2 | 800 (800-800) | 5.0 (5.0-5.0) | 0 % | **1.60** | 1.60 |",
    ] {
        assert!(workers.contains(line), "{line}:\n{workers}");
    }
}

#[test]
fn a_server_that_failed_once_has_no_figures() {
    let failed =
        json!({"row": "close", "server": "opentracker", "workers": 1, "failure": "it <died>"});
    let results = measured(vec![run(10_000.0), failed]);
    assert!(results.row(Row::Close)[0].runs.is_err());
    assert!(tables::of(&results, "close").unwrap().contains("| opentracker | it <died> |"));
    assert!(charts::all(&results).iter().all(|(_, svg)| !svg.contains("opentracker")));
}

#[test]
fn a_document_lacks_no_table_and_names_no_other() {
    let results = results();
    let document = committed("performance.md");
    assert!(tables::fill(&document.replace("<!-- table: keep -->", ""), &results).is_err());
    assert!(tables::fill(&format!("{document}<!-- table: other -->\n"), &results).is_err());
    let stale = document.replace("| Annulus |", "| Annulus! |");
    assert!(stale != document && tables::fill(&stale, &results).unwrap() == document);
}

#[test]
fn bars_are_as_long_as_their_values() {
    let bar = |value: f64| Bar {
        label: "a < b".to_owned(),
        value,
        figure: format!("{value} \"x\""),
        class: "ours",
    };
    let panel = Panel { title: "p & q".to_owned(), bars: vec![bar(1.0), bar(4.0)] };
    let svg = charts::draw("t", &[panel]);
    assert!(svg.contains("width=\"90.0\" height=\"15\"") && svg.contains("width=\"360.0\""));
    assert!(svg.contains("a &lt; b") && svg.contains("p &amp; q") && svg.contains("&quot;x&quot;"));
    assert!(svg.contains("prefers-color-scheme:dark"));
}

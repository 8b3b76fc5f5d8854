//! Does `docs/performance.md` say what was measured? The document and its charts follow from
//! the committed results.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../benches/compare/chart.rs"]
mod chart;
#[path = "../benches/compare/document.rs"]
mod document;
#[path = "../benches/compare/figures.rs"]
mod figures;
#[path = "../benches/compare/json.rs"]
mod json;
#[path = "../benches/compare/results.rs"]
mod results;
#[path = "../benches/compare/row.rs"]
mod row;
#[path = "../benches/compare/sharing.rs"]
mod sharing;
#[path = "../benches/compare/spread.rs"]
mod spread;

use figures::CHARTS;
use json::Value;
use results::{Measured, Results, Rounds};
use row::Row;

fn committed(name: &str) -> String {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn results() -> Results {
    Results::parse(&committed("performance/results.json")).unwrap()
}

#[test]
fn the_committed_document_and_charts_follow_from_the_committed_results() {
    let results = results();
    let again = "cargo bench --bench compare -- --render writes it again";
    assert!(document::write(&results) == committed("performance.md"), "the document: {again}");
    for chart in CHARTS {
        let drawn = committed(&format!("performance/{}", chart.file));
        assert!(chart.svg(&results) == drawn, "{}: {again}", chart.file);
    }
}

#[test]
fn results_are_written_as_they_are_read() {
    assert!(results().json() == committed("performance/results.json"));
}

#[test]
fn every_row_was_measured_and_this_tracker_without_a_fault() {
    let results = results();
    for row in Row::FULL_SPEED.into_iter().chain(Row::AT_RATE) {
        for server in ["annulus", "annulus-epoll"] {
            let rounds = results.row(row);
            let rounds = rounds.iter().find(|rounds| rounds.server == server).unwrap();
            let runs = rounds.runs.as_ref().unwrap();
            assert_eq!(runs.len() as u64, results.rounds, "{} {server}", row.name());
            assert!(runs.iter().all(|run| run.good() > 0.0 && run.good() == run.answers()));
            assert!(runs.iter().all(|run| !run.allowed.contains("own-address")));
        }
    }
    let ours = results.memory.iter().find(|filled| filled.server == "annulus").unwrap();
    assert!(ours.outcome.is_ok());
}

/// Results in which one server has these server times, nanoseconds, for ten answers each.
fn measured(server_ns: &[f64], failure: Option<&str>) -> Results {
    let report = r#"{"good":8,"faults":{"own-address":{"count":2,"allowed":true},
        "never-sent":{"count":3,"allowed":true}},"seconds":2,
        "cpu_ns":1900000000,"offered_rate":0,"latency_ms":{"p50":1,"p99":2,"p99.9":30},
        "series":[{"at_s":1,"latency_ms":{"p99.9":40}},{"at_s":2,"latency_ms":{"p99.9":5}},
        {"at_s":3.1,"latency_ms":{"p99.9":3}},{"at_s":3.2,"latency_ms":{"p99.9":50}}]}"#;
    let lines: Vec<String> = server_ns
        .iter()
        .map(|ns| {
            format!(r#""server_ns":{ns},"waited_ns":0,"allowed":"own-address","report":{report}"#)
        })
        .chain(failure.map(|why| format!(r#""failure":"{why}""#)))
        .map(|rest| format!(r#"{{"row":"close","server":"opentracker",{rest}}}"#))
        .collect();
    let runs = lines.join(",");
    let text = format!(r#"{{"command":"c","facts":{{}},"rounds":3,"seconds":2,"runs":[{runs}]}}"#);
    Results::parse(&text).unwrap()
}

#[test]
fn figures_are_medians_over_answers_with_allowed_faults() {
    let results = measured(&[40_000.0, 10_000.0, 20_000.0], None);
    let rows = results.row(Row::Close);
    let [rounds] = rows.as_slice() else { panic!("one server") };
    let cpu = rounds.spread(Measured::cpu_us).unwrap();
    assert_eq!((cpu.median, cpu.least, cpu.greatest), (2.0, 1.0, 4.0));
    assert_eq!(rounds.spread(Measured::rate).unwrap().median, 5.0);
    // Of the whole seconds but the first, or of all where there is no such second.
    assert_eq!(rounds.spread(|run| run.latency_ms("p99.9")).unwrap().median, 4.0);
    assert_eq!(rounds.spread(|run| run.latency_ms("p99")).unwrap().median, 2.0);
    assert!(rounds.is_bound_by_load());
    let document = document::write(&results);
    assert!(document.contains("| opentracker | **2.0** (1.0-4.0) | ≥ **5** (5-5) |"), "{document}");
    let allowed = "- opentracker: own-address in 20 % of its answers, 9 requests never-sent.";
    assert!(document.contains(allowed), "{document}");
    let even = measured(&[10_000.0, 20_000.0], None);
    let of = |rounds: &Rounds<'_>| rounds.spread(Measured::cpu_us).unwrap().median;
    assert_eq!(of(&even.row(Row::Close)[0]), 1.5);
}

#[test]
fn what_is_shared_is_told_where_it_was_measured() {
    let nothing = measured(&[10_000.0], None);
    for section in ["Two workers", "Threads at the tables"] {
        assert!(!document::write(&nothing).contains(section));
    }
    let report = r#"{"good":1000,"seconds":SECONDS,"cpu_ns":1,"offered_rate":0,
        "latency_ms":{"p50":1,"p99":2,"p99.9":3}}"#;
    let workers = [(1, "2", 4e6), (2, "1.25", 5e6)].map(|(workers, seconds, server_ns)| {
        let report = report.replace("SECONDS", seconds);
        let rest =
            format!(r#""server_ns":{server_ns},"waited_ns":0,"allowed":"","report":{report}"#);
        format!(r#"{{"row":"keep","workers":{workers},{rest}}}"#)
    });
    let table = |torrents, more| {
        let counts = r#""announces":2000,"waits":50,"sleeps":5,"preempted":1"#;
        format!(r#"{{"torrents":"{torrents}","threads":16,{counts}{more}}}"#)
    };
    let misses = r#","misses":{"by":"cachegrind","first":40.25,"last":1.5}"#;
    let text = format!(
        r#"{{"command":"c","facts":{{}},"rounds":1,"seconds":2,"workers":[{}],"tables":[{},{}]}}"#,
        workers.join(","),
        table("hot", misses),
        table("uniform", ""),
    );
    let results = Results::parse(&text).unwrap();
    assert_eq!(Results::parse(&results.json()).unwrap(), results);
    let document = document::write(&results);
    for line in [
        "| Plain, keep-alive | 1 | 500 (500-500) | 4.0 (4.0-4.0) | 0 % |  |  |",
        "| Plain, keep-alive | 2 | 800 (800-800) | 5.0 (5.0-5.0) | 0 % | **1.60** | 1.60 |",
        "| hot | 16 | 25.00 | 2.50 | 0.50 | 40.2 | 1.50 |",
        "| uniform | 16 | 25.00 | 2.50 | 0.50 | not counted | not counted |",
        "Misses are those of cachegrind's model",
    ] {
        assert!(document.contains(line), "{line}:\n{document}");
    }
}

#[test]
fn a_server_that_failed_once_has_no_figures() {
    let results = measured(&[10_000.0], Some("it <died>"));
    assert!(results.row(Row::Close)[0].runs.is_err());
    assert!(document::write(&results).contains("| opentracker | it <died> | | | |"));
    assert!(!figures::CPU.svg(&results).contains("opentracker"));
}

#[test]
fn bars_are_as_long_as_their_values() {
    let bar = |value: f64| chart::Bar {
        label: "a < b".to_owned(),
        value,
        figure: format!("{value} \"x\""),
        kind: chart::Kind::Ours,
    };
    let panel = chart::Panel { title: "p & q".to_owned(), bars: vec![bar(1.0), bar(4.0)] };
    let svg = chart::draw("t", &[panel]);
    assert!(svg.contains("width=\"90.0\" height=\"15\"") && svg.contains("width=\"360.0\""));
    assert!(svg.contains("a &lt; b") && svg.contains("p &amp; q") && svg.contains("&quot;x&quot;"));
    assert!(svg.contains("prefers-color-scheme:dark"));
}

#[test]
fn json_is_read_and_written() {
    let text = r#"{"a":[1,-2.5,true,null,{}],"b":"q\"\\\u0001é","c":{"d":[]}}"#;
    let value = Value::parse(&format!(" {text}\n")).unwrap();
    assert_eq!(value.to_string(), text);
    assert_eq!(value.list("a").len(), 5);
    assert_eq!(value.text("b").unwrap(), "q\"\\\u{1}é");
    assert_eq!(Value::parse(r#""\n\/""#).unwrap(), "\n/".into());
    for wrong in
        ["", "{", "[1,]", "{\"a\"}", "\"a", "tru", "1 2", "\"\\x\"", "\"\\u12", "nan", "[1}"]
    {
        assert!(Value::parse(wrong).is_err(), "{wrong}");
    }
    assert!(Value::parse(&"[".repeat(100_000)).is_err());
    let [missing, other] = ["d", "b"].map(|name| value.number(name));
    assert!(missing.is_err() && other.is_err());
}

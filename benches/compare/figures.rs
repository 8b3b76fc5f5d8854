//! The charts of the document: which figures each shows.

use crate::chart::{Bar, Kind, Panel, draw};
use crate::results::{Measured, Results, Rounds, is_tracker, title};
use crate::row::Row;

/// A chart of the document.
pub(crate) struct Chart {
    /// Its file, beside the results.
    pub(crate) file: &'static str,
    /// What it shows.
    pub(crate) title: &'static str,
    /// Its bars.
    panels: fn(&Results) -> Vec<Panel>,
}

/// All charts.
pub(crate) const CHARTS: [Chart; 4] = [CPU, THROUGHPUT, LATENCY, MEMORY];

/// What an answer costs the server.
pub(crate) const CPU: Chart = Chart {
    file: "cpu.svg",
    title: "Server CPU per answer, µs (less is better)",
    panels: |results| Row::FULL_SPEED.map(|row| cpu(results, row)).into(),
};

/// How many answers came a second.
pub(crate) const THROUGHPUT: Chart = Chart {
    file: "throughput.svg",
    title: "Answers a second, server on one core (more is better)",
    panels: |results| Row::FULL_SPEED.map(|row| throughput(results, row)).into(),
};

/// How long an answer took at a rate that all can keep.
pub(crate) const LATENCY: Chart = Chart {
    file: "latency.svg",
    title: "Latency at a given rate, bars are p99 (less is better)",
    panels: |results| Row::AT_RATE.map(|row| latency(results, row)).into(),
};

/// What a tracker keeps of an announce.
pub(crate) const MEMORY: Chart = Chart {
    file: "memory.svg",
    title: "Resident memory per peer, bytes (less is better)",
    panels: |results| vec![memory(results)],
};

impl Chart {
    /// The file's contents.
    pub(crate) fn svg(&self, results: &Results) -> String {
        draw(self.title, &(self.panels)(results))
    }
}

/// Whose bar a server's is.
fn kind(server: &str) -> Kind {
    match server {
        "annulus" | "annulus-epoll" => Kind::Ours,
        server if is_tracker(server) => Kind::Tracker,
        _ => Kind::Constant,
    }
}

fn cpu(results: &Results, row: Row) -> Panel {
    let figure = |rounds: &Rounds<'_>| {
        let cpu = rounds.spread(Measured::cpu_us)?.median;
        Some((cpu, format!("{cpu:.1} µs")))
    };
    panel(results, row, row.title().to_owned(), figure)
}

fn throughput(results: &Results, row: Row) -> Panel {
    let figure = |rounds: &Rounds<'_>| {
        let rate = rounds.spread(Measured::rate)?.median;
        let bound = if rounds.is_bound_by_load() { " (the load's limit)" } else { "" };
        Some((rate, format!("{rate:.0}{bound}")))
    };
    let mut panel = panel(results, row, row.title().to_owned(), figure);
    panel.bars.reverse();
    panel
}

fn latency(results: &Results, row: Row) -> Panel {
    let rate = results.offered_rate(row).unwrap_or_default();
    let figure = |rounds: &Rounds<'_>| {
        let of = |percentile| {
            rounds.spread(|run| run.latency_ms(percentile)).map(|latency| latency.median)
        };
        let (p50, p99, p999) = (of("p50")?, of("p99")?, of("p99.9")?);
        Some((p99, format!("p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2} ms")))
    };
    panel(results, row, format!("{}, {rate} requests a second", row.title()), figure)
}

fn memory(results: &Results) -> Panel {
    let bars = results.memory.iter().filter_map(|filled| {
        let bytes = filled.bytes_each()?;
        let label = title(&filled.server, false).to_owned();
        let figure = format!("{bytes:.1} bytes");
        Some(Bar { label, value: bytes, figure, kind: kind(&filled.server) })
    });
    Panel { title: "1.1 million announces over 500,000 torrents".to_owned(), bars: sorted(bars) }
}

/// The bars of a row, the least first: the best of what should be little.
fn panel(
    results: &Results,
    row: Row,
    heading: String,
    figure: impl Fn(&Rounds<'_>) -> Option<(f64, String)>,
) -> Panel {
    let rounds = results.row(row);
    let bars = rounds.iter().filter_map(|rounds| {
        let (value, figure) = figure(rounds)?;
        let label = title(rounds.server, row.is_tls()).to_owned();
        Some(Bar { label, value, figure, kind: kind(rounds.server) })
    });
    Panel { title: heading, bars: sorted(bars) }
}

fn sorted(bars: impl Iterator<Item = Bar>) -> Vec<Bar> {
    let mut bars: Vec<Bar> = bars.collect();
    bars.sort_by(|one, other| one.value.total_cmp(&other.value));
    bars
}

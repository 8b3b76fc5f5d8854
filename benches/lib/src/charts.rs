//! The charts of docs/performance.md: horizontal bars as SVG, legible on light and on dark pages.

use std::fmt::Write;

use crate::results::{self, LoadedRun, Results, Rounds, Row};

/// Widths: of a drawing, of its labels, of the longest bar.
const WIDTH: f64 = 820.0;
const LEFT: f64 = 200.0;
const BAR_MAX: f64 = 360.0;

/// Heights: a chart's title, a panel's title, a bar with its distance, a bar.
const TITLE: f64 = 34.0;
const PANEL_TITLE: f64 = 30.0;
const STEP: f64 = 22.0;
const BAR: f64 = 15.0;
const BASELINE: f64 = 12.0;

const STYLE: &str = "<style>\
.ground{fill:#ffffff}text{fill:#1f2328}.ours{fill:#0969da}.tracker{fill:#8c959f}\
.constant{fill:#d0d7de}\
@media(prefers-color-scheme:dark){\
.ground{fill:#0d1117}text{fill:#e6edf3}.ours{fill:#4493f8}.tracker{fill:#6e7681}\
.constant{fill:#3d444d}}\
</style>";

/// Bars with a scale of their own, from top to bottom.
pub struct Panel {
    pub title: String,
    pub bars: Vec<Bar>,
}

/// A label, a bar whose length is the value, and the value with its unit.
pub struct Bar {
    pub label: String,
    pub value: f64,
    pub figure: String,
    /// Class of [`STYLE`]: `ours`, `tracker` or `constant`.
    pub class: &'static str,
}

/// All charts, with the names of their files.
pub fn all(results: &Results) -> [(&'static str, String); 3] {
    let full_speed = |panel: fn(&Results, Row) -> Panel| Row::FULL_SPEED.map(|r| panel(results, r));
    let udp = Row::UDP.map(|row| cpu(results, row));
    let udp = udp.into_iter().filter(|panel| !panel.bars.is_empty());
    let cpu: Vec<Panel> = full_speed(cpu).into_iter().chain(udp).collect();
    let throughput = full_speed(throughput);
    let latency = Row::AT_RATE.map(|row| latency(results, row));
    [
        ("cpu.svg", draw("Server CPU per response, µs (less is better)", &cpu)),
        ("throughput.svg", draw("Responses a second, one core (more is better)", &throughput)),
        ("latency.svg", draw("Latency at a given rate, bars are p99 (less is better)", &latency)),
    ]
}

fn cpu(results: &Results, row: Row) -> Panel {
    panel(results, row, row.title().to_owned(), |rounds| {
        let cpu = rounds.median(LoadedRun::cpu_us)?;
        Some((cpu, format!("{cpu:.1} µs")))
    })
}

fn throughput(results: &Results, row: Row) -> Panel {
    let mut panel = panel(results, row, row.title().to_owned(), |rounds| {
        let rate = rounds.median(LoadedRun::rate)?;
        let bound = if rounds.is_bound_by_load() { " (the load's limit)" } else { "" };
        Some((rate, format!("{rate:.0}{bound}")))
    });
    panel.bars.reverse();
    panel
}

fn latency(results: &Results, row: Row) -> Panel {
    let rate = results.offered_rate(row).unwrap_or_default();
    panel(results, row, format!("{}, {rate} requests a second", row.title()), |rounds| {
        let of = |percentile| rounds.median(|run| run.latency_ms(percentile));
        let (p50, p99, p999) = (of("p50")?, of("p99")?, of("p99.9")?);
        Some((p99, format!("p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2} ms")))
    })
}

/// The bars of a row, the least first.
fn panel(
    results: &Results,
    row: Row,
    title: String,
    figure: impl Fn(&Rounds<'_>) -> Option<(f64, String)>,
) -> Panel {
    let rounds = results.row(row);
    let bars = rounds.iter().filter_map(|rounds| {
        let (value, figure) = figure(rounds)?;
        let label = results::title(rounds.server, row.is_tls()).to_owned();
        let class = match rounds.server {
            "annulus" | "annulus-epoll" => "ours",
            "floor" | "nginx" => "constant",
            _ => "tracker",
        };
        Some(Bar { label, value, figure, class })
    });
    let mut bars: Vec<Bar> = bars.collect();
    bars.sort_by(|one, other| one.value.total_cmp(&other.value));
    Panel { title, bars }
}

/// Draws panels one below the other, with `title` above and the meaning of the colours beside.
pub fn draw(title: &str, panels: &[Panel]) -> String {
    let heights = panels.iter().map(|panel| PANEL_TITLE + STEP * panel.bars.len() as f64);
    let height = TITLE + heights.sum::<f64>() + STEP / 2.0;
    let name = escaped(title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"{name}\">\n\
         {STYLE}\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{name}</text>\n"
    );
    for (class, what, x) in [
        ("ours", "Annulus", 590.0),
        ("tracker", "others", 665.0),
        ("constant", "no tracker", 730.0),
    ] {
        bar(&mut svg, class, (x - 16.0, 11.0), (11.0, 11.0));
        text(&mut svg, (x, 22.0), "start", what);
    }
    let mut top = TITLE;
    for panel in panels {
        let (title, y) = (escaped(&panel.title), top + PANEL_TITLE - 10.0);
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{y}\" font-weight=\"bold\">{title}</text>");
        top += PANEL_TITLE;
        let greatest = panel.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for Bar { label, value, figure, class } in &panel.bars {
            let length = (BAR_MAX * value / greatest).max(1.0);
            text(&mut svg, (LEFT - 8.0, top + BASELINE), "end", label);
            bar(&mut svg, class, (LEFT, top), (length, BAR));
            text(&mut svg, (LEFT + length + 6.0, top + BASELINE), "start", figure);
            top += STEP;
        }
    }
    svg + "</svg>\n"
}

fn bar(svg: &mut String, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, what: &str) {
    let what = escaped(what);
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

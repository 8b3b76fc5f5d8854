//! Rate and latency over time, drawn as SVG.

use std::fmt::Write;

use super::series::{PERCENTILE_NAMES, Point};

const WIDTH: f64 = 900.0;
/// Left and right of both charts, from the left edge.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 880.0;
/// Top and bottom of the chart of rates, and of that of latencies.
const RATES: (f64, f64) = (50.0, 230.0);
const LATENCIES: (f64, f64) = (290.0, 530.0);
const HEIGHT: f64 = 580.0;

/// Colours of the percentiles that are drawn, from the half to the largest.
const COLOURS: [&str; 5] = ["#1b7837", "#5aae61", "#dfa520", "#d95f02", "#b2182b"];

/// The drawing of a run. `title` stands above it.
pub fn draw(title: &str, points: &[Point]) -> String {
    let end_s = points.last().map_or(1.0, |point| point.at_s.max(0.001));
    let x = |at_s: f64| LEFT + (RIGHT - LEFT) * at_s / end_s;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let mut text = |x: f64, y: f64, anchor: &str, what: &str| {
        let what = escaped(what);
        let _ =
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>");
    };
    text(LEFT, 20.0, "start", title);
    text(LEFT, RATES.0 - 10.0, "start", "good answers a second");
    text(LEFT, LATENCIES.0 - 10.0, "start", "latency in milliseconds");
    text(RIGHT, HEIGHT - 15.0, "end", "seconds");
    for (at, name) in PERCENTILE_NAMES.iter().enumerate() {
        text(RIGHT - 60.0 * (4 - at) as f64, LATENCIES.0 - 10.0, "end", name);
    }
    let rate_max = round_up(points.iter().map(|point| point.rate).fold(1.0, f64::max));
    for part in [0.0, 0.5, 1.0] {
        let y = scaled(part, RATES);
        text(LEFT - 8.0, y + 4.0, "end", &format!("{:.0}", rate_max * part));
    }
    let decades = decades(points);
    let (low, high) = decades;
    for decade in low..=high {
        let y = scaled(f64::from(decade - low) / f64::from(high - low), LATENCIES);
        text(LEFT - 8.0, y + 4.0, "end", &format!("{}", 10_f64.powi(decade)));
    }
    for step in 0..=4 {
        let at_s = end_s * f64::from(step) / 4.0;
        text(x(at_s), LATENCIES.1 + 16.0, "middle", &format!("{at_s:.1}"));
    }
    for (top, bottom) in [RATES, LATENCIES] {
        let (width, height) = (RIGHT - LEFT, bottom - top);
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" \
             stroke=\"#999\"/>"
        );
    }
    for (at, colour) in COLOURS.iter().enumerate() {
        let at_x = RIGHT - 60.0 * (4 - at) as f64;
        let y = LATENCIES.0 - 6.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{y}\" width=\"30\" height=\"3\" fill=\"{colour}\"/>",
            at_x - 30.0
        );
    }
    let rate = |point: &Point| (x(point.at_s), scaled(point.rate / rate_max, RATES));
    line(&mut svg, "#2166ac", points.iter().map(rate));
    for (at, colour) in COLOURS.iter().enumerate() {
        let latency = |point: &Point| {
            let log = point.latency_ms[at].max(10_f64.powi(low)).log10();
            let part = (log - f64::from(low)) / f64::from(high - low);
            (x(point.at_s), scaled(part, LATENCIES))
        };
        line(&mut svg, colour, points.iter().map(latency));
    }
    for point in points.iter().filter(|point| point.faults > 0) {
        let (at_x, y) = (x(point.at_s), RATES.1 - 4.0);
        let _ = writeln!(svg, "<circle cx=\"{at_x:.1}\" cy=\"{y}\" r=\"4\" fill=\"#b2182b\"/>");
    }
    svg + "</svg>\n"
}

fn line(svg: &mut String, colour: &str, places: impl Iterator<Item = (f64, f64)>) {
    let mut places: Vec<String> = places.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    // Of a single interval a point would not be seen.
    if let [only] = &places[..]
        && let Some((_, y)) = only.split_once(',')
    {
        places.insert(0, format!("{LEFT:.1},{y}"));
    }
    let _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
        places.join(" ")
    );
}

/// The height of `part` (0 to 1) of a chart.
fn scaled(part: f64, (top, bottom): (f64, f64)) -> f64 {
    bottom - (bottom - top) * part.clamp(0.0, 1.0)
}

/// The powers of ten around all latencies in milliseconds, at least one apart.
fn decades(points: &[Point]) -> (i32, i32) {
    let all = || points.iter().flat_map(|point| point.latency_ms).filter(|ms| *ms > 0.0);
    let low = all().fold(1.0, f64::min).log10().floor() as i32;
    let high = all().fold(1.0, f64::max).log10().ceil() as i32;
    (low, high.max(low + 1))
}

/// 1, 2 or 5 times a power of ten.
fn round_up(number: f64) -> f64 {
    let power = 10_f64.powf(number.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= number).unwrap_or(number)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{draw, round_up};
    use crate::series::Point;

    #[test]
    fn scales_end_on_round_numbers() {
        for (number, round) in [(1.0, 1.0), (1.1, 2.0), (203_400.0, 500_000.0), (7.0, 10.0)] {
            assert_eq!(round_up(number), round);
        }
    }

    #[test]
    fn every_line_goes_through_every_point() {
        let point = |at_s: f64| Point {
            at_s,
            rate: 1000.0 * at_s,
            faults: u64::from(at_s == 2.0),
            in_flight: 3,
            latency_ms: [0.1, 0.2, 1.0, 2.0, 50.0],
        };
        let points: Vec<Point> = (1..=9).map(|at| point(f64::from(at))).collect();
        for (count, places) in [(0, 0), (1, 2), (9, 9)] {
            let svg = draw("a < b & c", &points[..count]);
            let lines: Vec<&str> =
                svg.lines().filter(|line| line.starts_with("<polyline")).collect();
            assert_eq!(lines.len(), 6);
            assert!(lines.iter().all(|line| line.matches(',').count() == places), "{svg}");
            assert!(svg.contains("a &lt; b &amp; c") && !svg.contains("NaN"), "{svg}");
            assert_eq!(svg.matches("<circle").count(), usize::from(count > 1));
        }
    }
}

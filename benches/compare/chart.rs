//! Horizontal bars as SVG, legible on light and on dark pages.

use std::fmt::Write;

const WIDTH: f64 = 820.0;

/// Where labels end and bars begin.
const LEFT: f64 = 200.0;

/// The longest bar; the figure stands behind it.
const BAR_MAX: f64 = 360.0;

/// Heights of the line of a chart's title, of a panel's title and of a bar with its distance.
const TITLE: f64 = 34.0;
const PANEL_TITLE: f64 = 30.0;
const STEP: f64 = 22.0;

/// Height of a bar.
const BAR: f64 = 15.0;

/// From a line's top to the foot of its letters.
const BASELINE: f64 = 12.0;

/// The drawing brings its own ground, so that it suits either way of reading.
const STYLE: &str = "<style>\
.ground{fill:#ffffff}text{fill:#1f2328}.ours{fill:#0969da}.tracker{fill:#8c959f}\
.constant{fill:#d0d7de}\
@media(prefers-color-scheme:dark){\
.ground{fill:#0d1117}text{fill:#e6edf3}.ours{fill:#4493f8}.tracker{fill:#6e7681}\
.constant{fill:#3d444d}}\
</style>";

/// Bars with a scale of their own.
pub(crate) struct Panel {
    /// Stands above them.
    pub(crate) title: String,
    /// From top to bottom.
    pub(crate) bars: Vec<Bar>,
}

/// One bar.
pub(crate) struct Bar {
    /// Stands before it.
    pub(crate) label: String,
    /// Its length, in any unit.
    pub(crate) value: f64,
    /// Stands behind it: the value with its unit.
    pub(crate) figure: String,
    /// Its colour.
    pub(crate) kind: Kind,
}

/// Whose bar it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This tracker's.
    Ours,
    /// Another tracker's.
    Tracker,
    /// That of a server with a constant answer.
    Constant,
}

impl Kind {
    fn class(self) -> &'static str {
        match self {
            Kind::Ours => "ours",
            Kind::Tracker => "tracker",
            Kind::Constant => "constant",
        }
    }
}

/// Draws panels one below the other, with `title` above and the meaning of the colours beside.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> String {
    let heights = panels.iter().map(|panel| PANEL_TITLE + STEP * panel.bars.len() as f64);
    let height = TITLE + heights.sum::<f64>() + STEP / 2.0;
    let name = escaped(title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"{name}\">\n\
         {STYLE}\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{name}</text>\n"
    );
    let legend =
        [(Kind::Ours, "Annulus"), (Kind::Tracker, "others"), (Kind::Constant, "no tracker")];
    for ((kind, what), x) in legend.into_iter().zip([590.0, 665.0, 730.0]) {
        bar(&mut svg, kind, (x - 16.0, 11.0), (11.0, 11.0));
        text(&mut svg, (x, 22.0), "start", what);
    }
    let mut top = TITLE;
    for panel in panels {
        let x = LEFT;
        let (title, y) = (escaped(&panel.title), top + PANEL_TITLE - 10.0);
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" font-weight=\"bold\">{title}</text>");
        top += PANEL_TITLE;
        let greatest = panel.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for Bar { label, value, figure, kind } in &panel.bars {
            let length = (BAR_MAX * value / greatest).max(1.0);
            text(&mut svg, (LEFT - 8.0, top + BASELINE), "end", label);
            bar(&mut svg, *kind, (LEFT, top), (length, BAR));
            text(&mut svg, (LEFT + length + 6.0, top + BASELINE), "start", figure);
            top += STEP;
        }
    }
    svg + "</svg>\n"
}

fn bar(svg: &mut String, kind: Kind, (x, y): (f64, f64), (width, height): (f64, f64)) {
    let class = kind.class();
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

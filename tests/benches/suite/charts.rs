//! Charts as plain SVG: bars on one scale, and lines over a logarithmic one. They read on light and on dark pages.

use std::fmt::Write;

use crate::section::number;

const WIDTH: f64 = 760.0;
const LABEL: f64 = 250.0;
const VALUE: f64 = 130.0;
const BAR: f64 = 24.0;
const GAP: f64 = 10.0;
const TOP: f64 = 44.0;

const STYLE: &str = "<style>text{font:13px system-ui,sans-serif;fill:#57606a}.t{font-size:15px;font-weight:600}.o{fill:#2f81f7}.l{fill:#8b949e}\
.g{stroke:#d29922;stroke-width:2;stroke-dasharray:4 3}.a{stroke:#8b949e;stroke-opacity:.4}@media(prefers-color-scheme:dark){text{fill:#adbac7}}</style>";

/// One bar.
pub(crate) struct Bar<'a> {
    pub(crate) label: &'a str,
    pub(crate) value: f64,
    /// Whether it is the engine, and not what it is compared with.
    pub(crate) ours: bool,
}

pub(crate) fn ours(label: &str, value: f64) -> Bar<'_> {
    Bar {
        label,
        value,
        ours: true,
    }
}

pub(crate) fn limit(label: &str, value: f64) -> Bar<'_> {
    Bar {
        label,
        value,
        ours: false,
    }
}

/// Bars below each other, and where there is a goal a line at it.
pub(crate) fn bars(title: &str, unit: &str, bars: &[Bar<'_>], goal: Option<f64>) -> String {
    let most = bars
        .iter()
        .map(|bar| bar.value)
        .chain(goal)
        .fold(0.0, f64::max);
    let scale = (WIDTH - LABEL - VALUE) / if most > 0.0 { most } else { 1.0 };
    let height = TOP + bars.len() as f64 * (BAR + GAP) + GAP;
    let mut svg = open(title, height);
    for (i, bar) in bars.iter().enumerate() {
        let y = TOP + i as f64 * (BAR + GAP);
        let (width, class) = (bar.value * scale, if bar.ours { "o" } else { "l" });
        let middle = y + BAR * 0.7;
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{middle:.0}\" text-anchor=\"end\">{}</text><rect class=\"{class}\" x=\"{LABEL}\" y=\"{y:.0}\" width=\"{:.1}\" \
             height=\"{BAR}\" rx=\"3\"/><text x=\"{:.1}\" y=\"{middle:.0}\">{} {}</text>",
            LABEL - 8.0,
            escaped(bar.label),
            width.max(1.0),
            LABEL + width + 8.0,
            number(bar.value),
            escaped(unit),
        );
    }
    if let Some(goal) = goal {
        let x = LABEL + goal * scale;
        let _ = write!(
            svg,
            "<line class=\"g\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{:.0}\"/>",
            TOP - 6.0,
            height - GAP,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line through points of which both coordinates are on logarithmic scales.
pub(crate) fn line(title: &str, (across, up): (&str, &str), points: &[(f64, f64)]) -> String {
    const HEIGHT: f64 = 300.0;
    const LEFT: f64 = 90.0;
    const BOTTOM: f64 = 50.0;
    let mut svg = open(title, HEIGHT);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let logs = points.iter().map(|point| of(point).log10());
        let (low, high) = logs.fold((f64::MAX, f64::MIN), |(low, high), log| {
            (low.min(log), high.max(log))
        });
        (low.floor(), high.ceil().max(low.floor() + 1.0))
    };
    let (xs, ys) = (range(|p| p.0), range(|p| p.1));
    let x = |value: f64| LEFT + (value.log10() - xs.0) / (xs.1 - xs.0) * (WIDTH - LEFT - 40.0);
    let y = |value: f64| {
        HEIGHT - BOTTOM - (value.log10() - ys.0) / (ys.1 - ys.0) * (HEIGHT - BOTTOM - TOP)
    };
    for power in ys.0 as i32..=ys.1 as i32 {
        let value = 10f64.powi(power);
        let _ = write!(
            svg,
            "<line class=\"a\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/><text x=\"{2:.0}\" y=\"{3:.1}\" text-anchor=\"end\">{4} {5}</text>",
            WIDTH - 40.0,
            y(value),
            LEFT - 8.0,
            y(value) + 4.0,
            number(value),
            escaped(up),
        );
    }
    let path: Vec<String> = points
        .iter()
        .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
        .collect();
    let _ = write!(
        svg,
        "<polyline fill=\"none\" stroke=\"#2f81f7\" stroke-width=\"2\" points=\"{}\"/>",
        path.join(" ")
    );
    for point in points {
        let _ = write!(
            svg,
            "<circle class=\"o\" cx=\"{0:.1}\" cy=\"{1:.1}\" r=\"4\"/><text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">{3}</text>\
             <text x=\"{0:.1}\" y=\"{4:.1}\" text-anchor=\"middle\">{5}</text>",
            x(point.0),
            y(point.1),
            y(point.1) - 10.0,
            number(point.1),
            HEIGHT - BOTTOM + 20.0,
            number(point.0),
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text></svg>",
        LEFT + (WIDTH - LEFT) / 2.0,
        HEIGHT - 8.0,
        escaped(across),
    );
    svg.push('\n');
    svg
}

fn open(title: &str, height: f64) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\" \
         aria-label=\"{title}\">{STYLE}<text class=\"t\" x=\"8\" y=\"22\">{title}</text>"
    )
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

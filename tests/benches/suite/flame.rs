//! A flame graph: where the samples of a profile were, by thread and by who called whom. A box is as wide as its part of all samples.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::charts::escaped;

const WIDTH: f64 = 1_200.0;
const ROW: f64 = 17.0;
const TOP: f64 = 34.0;

/// Boxes below this part of all samples are left out.
const LEAST: f64 = 0.003;

/// Calls that are shown above each other.
const DEEPEST: usize = 60;

/// Samples of a call and of those below it.
#[derive(Default)]
pub(crate) struct Calls {
    samples: u64,
    below: BTreeMap<String, Self>,
}

impl Calls {
    /// Reads what `perf script -F comm,ip,sym` says: samples with an empty line between them, each a thread and then its calls, the
    /// innermost first.
    pub(crate) fn of_script(script: &str) -> Self {
        let mut all = Self::default();
        for sample in script.split("\n\n") {
            let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
            let Some(thread) = lines.next() else { continue };
            // Workers are told apart by their numbers, which say nothing.
            let thread = thread
                .trim()
                .trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            let mut calls: Vec<String> = lines.filter_map(function).collect();
            calls.push(thread.to_owned());
            let mut place = &mut all;
            place.samples += 1;
            for call in calls.into_iter().rev().take(DEEPEST) {
                place = place.below.entry(call).or_default();
                place.samples += 1;
            }
        }
        all
    }

    fn depth(&self, least: u64) -> usize {
        let below = self.below.values().filter(|calls| calls.samples >= least);
        below.map(|calls| 1 + calls.depth(least)).max().unwrap_or(0)
    }

    /// The picture.
    pub(crate) fn svg(&self, title: &str) -> String {
        let least = ((self.samples as f64 * LEAST) as u64).max(1);
        let height = TOP + (self.depth(least) + 1) as f64 * ROW;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"ui-monospace,monospace\" font-size=\"11\">\
             <rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#fffdf7\"/><text x=\"8\" y=\"22\" font-size=\"15\" fill=\"#333\">{}</text>\n",
            escaped(title)
        );
        self.boxes(&mut svg, (0.0, height - ROW), self.samples, least);
        svg.push_str("</svg>\n");
        svg
    }

    fn boxes(&self, svg: &mut String, (left, y): (f64, f64), all: u64, least: u64) {
        let mut left = left;
        for (name, calls) in &self.below {
            let width = calls.samples as f64 / all as f64 * WIDTH;
            if calls.samples >= least {
                let fits = (width / 6.7) as usize;
                let short: String = match name.chars().count() {
                    length if length <= fits => name.clone(),
                    _ if fits > 3 => name.chars().take(fits - 1).chain(['…']).collect(),
                    _ => String::new(),
                };
                // The same name has the same colour in every picture.
                let shade = name
                    .bytes()
                    .fold(7_u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte));
                let _ = writeln!(
                    svg,
                    "<g><title>{} {:.1} %</title><rect x=\"{left:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"hsl({},75%,68%)\" \
                     rx=\"1\"/><text x=\"{:.1}\" y=\"{:.0}\" fill=\"#222\">{}</text></g>",
                    escaped(name),
                    calls.samples as f64 / all as f64 * 100.0,
                    y,
                    (width - 0.5).max(0.3),
                    ROW - 1.0,
                    20 + shade % 35,
                    left + 3.0,
                    y + 12.0,
                    escaped(&short),
                );
                calls.boxes(svg, (left, y - ROW), all, least);
            }
            left += width;
        }
    }
}

/// The name in a line of a call, without its arguments; `None` where the profiler knows none.
fn function(line: &str) -> Option<String> {
    let (_, name) = line.trim().split_once(' ')?;
    let name = name.trim();
    let is_noise = name.starts_with('[')
        || name.starts_with("0x")
        || name.contains("__rust_begin_short_backtrace");
    (!is_noise).then(|| name.to_owned())
}

//! Bars over time, as a picture that the server draws.

use maud::{Markup, html};
use perennial::{OverviewBucket, Timestamp};

use crate::show;

const WIDTH: u64 = 720;
const HEIGHT: u64 = 150;
/// What is left free for the labels below the bars.
const FOOT: u64 = 16;

/// Started and ended instances in each bucket: two bars beside each other, the second of ended ones stacked by how they ended. `span_ms` is
/// the length of a bucket.
pub(super) fn chart(buckets: &[OverviewBucket], span_ms: u64) -> Markup {
    let most = buckets.iter().map(|one| one.started.max(ended(one))).max();
    let most = most.unwrap_or_default().max(1);
    let scale = |count: u64| (count * (HEIGHT - FOOT)).div_ceil(most);
    let step = WIDTH / (buckets.len() as u64).max(1);
    let bar = (step.saturating_sub(2) / 2).max(1);
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label="Started and ended instances over time; the table below has the numbers" {
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - FOOT) y2=(HEIGHT - FOOT) {}
            @for (at, one) in buckets.iter().enumerate() {
                @let x = at as u64 * step;
                g {
                    title { (label(one, span_ms)) }
                    rect.all x=(x) y="0" width=(step) height=(HEIGHT - FOOT) {}
                    (rect("started", x, bar, 0, scale(one.started)))
                    @let failed = scale(one.failed);
                    @let terminated = scale(one.terminated);
                    (rect("failed", x + bar, bar, 0, failed))
                    (rect("terminated", x + bar, bar, failed, terminated))
                    (rect("completed", x + bar, bar, failed + terminated, scale(one.completed)))
                }
            }
            @for (x, anchor, at) in marks(buckets, span_ms) {
                text x=(x) y=(HEIGHT - 3) text-anchor=(anchor) { (clock(at, span_ms)) }
            }
        }
        p.legend.hint {
            span.key.started { "started" } span.key.completed { "completed" } span.key.failed { "failed" } span.key.terminated { "terminated" }
            "at most " (show::count(most)) " in " (show::span(span_ms))
        }
    }
}

/// A part of a bar that begins `from` above the axis. Rounding up may lift a stack of three by two pixels at most.
fn rect(class: &str, x: u64, width: u64, from: u64, height: u64) -> Markup {
    let top = (HEIGHT - FOOT).saturating_sub(from + height);
    html! { @if height > 0 { rect class=(class) x=(x) y=(top) width=(width) height=(height) {} } }
}

fn ended(one: &OverviewBucket) -> u64 {
    one.completed + one.failed + one.terminated
}

fn label(one: &OverviewBucket, span_ms: u64) -> String {
    let OverviewBucket {
        from,
        started,
        completed,
        failed,
        terminated,
        ..
    } = one;
    let least = if one.partial { " (at least)" } else { "" };
    format!(
        "{} and {} from then on: {started} started, {completed} completed, {failed} failed, {terminated} terminated{least}",
        show::utc(*from),
        show::span(span_ms)
    )
}

/// The first, the middle and the last bucket are labelled.
fn marks(buckets: &[OverviewBucket], span_ms: u64) -> Vec<(u64, &'static str, Timestamp)> {
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
        return Vec::new();
    };
    let middle = &buckets[buckets.len() / 2];
    let end = Timestamp(last.from.0 + span_ms);
    vec![
        (0, "start", first.from),
        (WIDTH / 2, "middle", middle.from),
        (WIDTH, "end", end),
    ]
}

/// The hour of a time in UTC, with the day where buckets are long.
fn clock(at: Timestamp, span_ms: u64) -> String {
    let text = show::utc(at);
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    let minute = time.get(..5).unwrap_or(time);
    if span_ms >= 3_600_000 {
        format!("{day} {minute} UTC")
    } else {
        format!("{minute} UTC")
    }
}

/// The same numbers as a table.
pub(super) fn table(buckets: &[OverviewBucket]) -> Markup {
    html! {
        details #numbers {
            summary { "The numbers" }
            div.scroll tabindex="0" role="group" aria-label="The numbers" { table {
                thead { tr {
                    th scope="col" { "From" } th.num scope="col" { "Started" } th.num scope="col" { "Completed" }
                    th.num scope="col" { "Failed" } th.num scope="col" { "Terminated" }
                } }
                tbody { @for one in buckets.iter().rev().filter(|one| one.started + ended(one) > 0) {
                    tr {
                        td { (show::time(one.from)) @if one.partial { " " span.chip { "at least" } } }
                        td.num { (show::count(one.started)) } td.num { (show::count(one.completed)) }
                        td.num { (show::count(one.failed)) } td.num { (show::count(one.terminated)) }
                    }
                } }
            } }
        }
    }
}

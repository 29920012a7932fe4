//! Progress on stderr: a line that is redrawn on a terminal, and an occasional plain line elsewhere.

use std::io::{self, IsTerminal};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use perennial::{InstanceStatus, Status};

use crate::output::{Output, plain, say};
use crate::screen::ON_SCREEN;

/// Time before the first plain line, and between two lines about the same instance with the same status.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Waits named in a line; the others are counted.
const WAITS_SHOWN: usize = 1;

/// Shows how one wait goes, until it is dropped.
pub(crate) struct Progress {
    way: Way,
    begun: Instant,
}

enum Way {
    Silent,
    Bar(ProgressBar),
    Lines {
        shown: Option<(Status, String)>,
        at: Instant,
    },
}

impl Progress {
    pub(crate) fn new(output: &Output, first: &str) -> Self {
        let begun = Instant::now();
        let way = if output.is_quiet() {
            Way::Silent
        } else if io::stderr().is_terminal() {
            Way::Bar(bar(first))
        } else {
            Way::Lines {
                shown: None,
                at: begun,
            }
        };
        Self { way, begun }
    }

    /// Shows the instance as it is now.
    pub(crate) fn show(&mut self, status: &InstanceStatus) {
        let text = match &self.way {
            Way::Silent => return,
            Way::Bar(_) | Way::Lines { .. } => describe(status),
        };
        match &mut self.way {
            Way::Silent => {}
            Way::Bar(bar) => tell(bar, &format!("{} {text}", status.runtime_status)),
            Way::Lines { shown, at } => {
                let now = (status.runtime_status, text);
                let is_news = shown.as_ref() != Some(&now);
                let status_changed = shown.as_ref().is_some_and(|(before, _)| *before != now.0);
                // What is quickly over is not worth a line, and the end is told by who waited for it.
                if is_news && (status_changed || at.elapsed() >= PLAIN_EVERY) && !status.is_ended()
                {
                    let line = format!("{}: {} {}", status.instance_id, now.0, now.1);
                    say(line.trim_end());
                    (*shown, *at) = (Some(now), Instant::now());
                }
            }
        }
    }

    /// Shows the progress of anything but an instance.
    pub(crate) fn tell(&mut self, text: &str) {
        match &mut self.way {
            Way::Silent => {}
            Way::Bar(bar) => tell(bar, text),
            Way::Lines { at, .. } => {
                if at.elapsed() >= PLAIN_EVERY {
                    say(text);
                    *at = Instant::now();
                }
            }
        }
    }

    /// How long it has been.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Way::Bar(bar) = &self.way {
            *ON_SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = None;
            bar.finish_and_clear();
        }
    }
}

/// Shows how much of a known amount is done, on a terminal, until it is dropped.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// `what` names the work with a participle, such as `copying`.
    pub(crate) fn new(output: &Output, what: &str) -> Self {
        if output.is_quiet() || !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} % {eta:>4}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        tell(&bar, what);
        Self(Some(bar))
    }

    /// Sets how much is done.
    pub(crate) fn show(&self, done: u64, total: u64) {
        if let Self(Some(bar)) = self {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Self(Some(bar)) = self {
            bar.finish_and_clear();
        }
    }
}

fn bar(first: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    tell(&bar, first);
    bar.enable_steady_tick(Duration::from_millis(100));
    *ON_SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
    bar
}

/// Sets the message of a bar, escaped: it contains texts of instances.
pub(crate) fn tell(bar: &ProgressBar, text: &str) {
    bar.set_message(plain(text));
}

/// The number of waits that are not shown, such as ` and 3 more`.
pub(crate) fn and_more(status: &InstanceStatus, shown: usize) -> String {
    match (status.waits_for.len() - shown) as u64 + status.waits_for_more {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

/// What the instance shows, and what it waits for.
fn describe(status: &InstanceStatus) -> String {
    let mut text = String::new();
    if let Some(shown) = &status.custom_status {
        text.push_str(shown.as_str());
        text.push_str("  ");
    }
    let shown: Vec<String> = status
        .waits_for
        .iter()
        .take(WAITS_SHOWN)
        .map(ToString::to_string)
        .collect();
    if !shown.is_empty() {
        text.push_str("waits for ");
        text.push_str(&shown.join(", "));
        text.push_str(&and_more(status, shown.len()));
    }
    plain(text.trim_end())
}

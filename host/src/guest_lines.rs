//! The newest log lines of the guests of a host, in memory.
//!
//! Invariants: all lines together take at most [`BYTES_MAX`], and an instance has at most [`LINES_MAX`]; the oldest go first. A guest that
//! logs nothing costs nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial_core::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::clock::Clock;
use crate::foreign::guarded;

/// Bytes of all lines.
const BYTES_MAX: usize = 4 << 20;

/// Lines of an instance.
pub(crate) const LINES_MAX: usize = 200;

/// Bytes that a line takes beside its text, with its places in the tables.
const LINE_BYTES: usize = 200;

/// The level of a line.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[non_exhaustive]
pub enum LogLevel {
    /// Very detailed.
    Trace,
    /// For those who look for a fault.
    Debug,
    /// What happens; also standard output.
    Info,
    /// Something is unusual; also standard error.
    Warn,
    /// Something failed.
    Error,
}

/// A line that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptLine {
    pub(crate) at: Timestamp,
    pub(crate) level: LogLevel,
    /// Escaped, without line breaks.
    pub(crate) text: Box<str>,
}

/// The lines of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptLines {
    /// Since when lines are kept.
    pub(crate) since: Timestamp,
    /// In order.
    pub(crate) lines: Vec<KeptLine>,
    /// Whether older lines of other instances or of this one were dropped, so that some of this one may be missing.
    pub(crate) is_partial: bool,
}

/// The lines of the guests of a host.
pub(crate) struct GuestLines {
    clock: Arc<dyn Clock>,
    since: Timestamp,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// All lines by their numbers, which increase.
    lines: BTreeMap<u64, (Arc<str>, KeptLine)>,
    /// The numbers of the lines of each instance, in order.
    instances: HashMap<Arc<str>, Of>,
    next: u64,
    bytes: usize,
    /// Whether lines were dropped for want of room.
    has_dropped: bool,
}

#[derive(Default)]
struct Of {
    numbers: VecDeque<u64>,
    has_dropped: bool,
}

impl std::fmt::Debug for GuestLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestLines").finish_non_exhaustive()
    }
}

fn now(clock: &Arc<dyn Clock>) -> Timestamp {
    // The clock may be code of the embedding program.
    guarded(|| clock.now()).unwrap_or_default()
}

impl GuestLines {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            since: now(&clock),
            clock,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a line.
    pub(crate) fn push(&self, instance: &Arc<str>, level: LogLevel, text: &str) {
        let at = now(&self.clock);
        let text = text.into();
        self.kept().push(instance, KeptLine { at, level, text });
    }

    /// The lines of an instance that came at this time or later.
    pub(crate) fn of(&self, instance: &str, from: Timestamp) -> KeptLines {
        let kept = self.kept();
        let of = kept.instances.get(instance);
        let numbers = of.into_iter().flat_map(|of| &of.numbers);
        let lines = numbers.filter_map(|number| kept.lines.get(number));
        let lines = lines.map(|(_, line)| line).filter(|line| line.at >= from);
        KeptLines {
            since: self.since,
            lines: lines.cloned().collect(),
            is_partial: kept.has_dropped || of.is_some_and(|of| of.has_dropped),
        }
    }
}

impl Kept {
    fn push(&mut self, instance: &Arc<str>, line: KeptLine) {
        let number = self.next;
        self.next += 1;
        self.bytes += cost(&line);
        let of = match self.instances.get_mut(instance) {
            Some(of) => of,
            None => self.instances.entry(Arc::clone(instance)).or_default(),
        };
        of.numbers.push_back(number);
        if of.numbers.len() > LINES_MAX {
            of.has_dropped = true;
            let oldest = of.numbers.pop_front();
            if let Some((_, line)) = oldest.and_then(|oldest| self.lines.remove(&oldest)) {
                self.bytes -= cost(&line);
            }
        }
        self.lines.insert(number, (Arc::clone(instance), line));
        while self.bytes > BYTES_MAX && self.drop_oldest() {}
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((_, (instance, line))) = self.lines.pop_first() else {
            return false;
        };
        self.has_dropped = true;
        self.bytes -= cost(&line);
        if let Some(of) = self.instances.get_mut(&instance) {
            // The oldest line of all is the oldest of its instance.
            of.numbers.pop_front();
            if of.numbers.is_empty() {
                self.instances.remove(&instance);
            }
        }
        true
    }
}

fn cost(line: &KeptLine) -> usize {
    line.text.len() + LINE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::SystemClock;

    fn lines() -> GuestLines {
        GuestLines::new(Arc::new(SystemClock))
    }

    fn texts(lines: &GuestLines, instance: &str) -> Vec<String> {
        let of = lines.of(instance, Timestamp(0)).lines;
        of.iter().map(|line| line.text.to_string()).collect()
    }

    #[test]
    fn an_instance_has_its_newest_lines() {
        let (all, a) = (lines(), Arc::from("a"));
        for number in 0..LINES_MAX + 3 {
            all.push(&a, LogLevel::Info, &number.to_string());
        }
        let kept = texts(&all, "a");
        assert_eq!((kept.len(), &*kept[0]), (LINES_MAX, "3"));
        assert!(all.of("a", Timestamp(0)).is_partial);
        assert!(!all.of("b", Timestamp(0)).is_partial && texts(&all, "b").is_empty());
        let later = all.of("a", Timestamp(u64::MAX)).lines;
        assert!(later.is_empty(), "of an instance that was made later");
    }

    #[test]
    fn all_lines_have_a_bound() {
        let all = lines();
        let text = "x".repeat(10_000);
        for number in 0..2_000 {
            all.push(&number.to_string().into(), LogLevel::Warn, &text);
        }
        let kept = all.kept();
        assert!(kept.bytes <= BYTES_MAX && kept.bytes > BYTES_MAX / 2);
        let bytes: usize = kept.lines.values().map(|(_, line)| cost(line)).sum();
        assert_eq!(kept.bytes, bytes);
        assert_eq!(kept.instances.len(), kept.lines.len());
        drop(kept);
        assert!(texts(&all, "0").is_empty() && texts(&all, "1999").len() == 1);
        assert!(all.of("0", Timestamp(0)).is_partial);
    }
}

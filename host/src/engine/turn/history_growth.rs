//! Warns when the history of an execution grows past certain sizes.

use std::fmt;

/// The number of events from which a warning is logged, and again at each doubling.
const EVENTS: u64 = 10_000;

/// The size in bytes from which a warning is logged, and again at each doubling.
const BYTES: u64 = 16 << 20;

/// A threshold that a history has crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Events(u64),
    Bytes(u64),
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events(events) => write!(f, "{events} events"),
            Self::Bytes(bytes) => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

/// The threshold that a history crossed in a turn, if any. It depends only on the turn, so that each is logged once despite evictions and
/// restarts.
pub(crate) fn crossed(before: (u64, u64), after: (u64, u64)) -> Option<Size> {
    let events = past(EVENTS, before.0, after.0).map(Size::Events);
    events.or_else(|| past(BYTES, before.1, after.1).map(Size::Bytes))
}

/// The largest of `first`, twice `first`, ... that is above `before` and at most `after`.
fn past(first: u64, before: u64, after: u64) -> Option<u64> {
    let doublings = (after / first).checked_ilog2()?;
    let size = first.checked_shl(doublings)?;
    (before < size).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_crossed_once() {
        let mut said = Vec::new();
        let mut events = 0;
        while events < 100_000 {
            said.extend(crossed((events, 0), (events + 7, 0)));
            events += 7;
        }
        assert_eq!(said, [10_000, 20_000, 40_000, 80_000].map(Size::Events));
    }

    #[test]
    fn bytes_count_too() {
        assert_eq!(crossed((5, 0), (9, BYTES - 1)), None);
        assert_eq!(
            crossed((5, BYTES - 1), (9, BYTES)),
            Some(Size::Bytes(BYTES))
        );
        assert_eq!(crossed((5, BYTES), (9, BYTES + 1)), None);
        assert_eq!(
            crossed((5, 0), (9, 5 * BYTES)),
            Some(Size::Bytes(4 * BYTES))
        );
        assert_eq!(Size::Bytes(BYTES).to_string(), "16 MiB");
    }
}

//! Warns when the history of an execution grows past certain sizes.

use std::fmt;

/// Events from which a history is long. At twice, four times, ... as many it is said again.
const EVENTS: u64 = 10_000;

/// Bytes from which a history is long, in the same way.
const BYTES: u64 = 16 << 20;

/// A size that a history has grown past.
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

/// The size that a history has grown past in a turn, if it has. It is a function of the turn alone, so that it is said once for each size,
/// whatever is evicted or restarted in between.
pub(crate) fn crossed(before: (u64, u64), after: (u64, u64)) -> Option<Size> {
    let events = past(EVENTS, before.0, after.0).map(Size::Events);
    events.or_else(|| past(BYTES, before.1, after.1).map(Size::Bytes))
}

/// The largest of `first`, twice `first`, ... that lies above `before` and not above `after`.
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

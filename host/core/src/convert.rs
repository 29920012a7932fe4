//! Conversions of times and spans from and to those of the standard library and, with the feature `jiff`, of jiff.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Millis, Timestamp};

/// The time is before 1970 or too far in the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time is before 1970-01-01T00:00:00Z or too far in the future")]
pub struct OutOfRange;

impl From<Timestamp> for SystemTime {
    /// Milliseconds in 64 bits are within what a system time can express.
    fn from(time: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_millis(time.0)
    }
}

impl TryFrom<SystemTime> for Timestamp {
    type Error = OutOfRange;

    /// Parts of a millisecond are cut off.
    fn try_from(time: SystemTime) -> Result<Self, OutOfRange> {
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| OutOfRange)?;
        u64::try_from(since.as_millis())
            .map(Self)
            .map_err(|_| OutOfRange)
    }
}

impl From<Millis> for Duration {
    fn from(span: Millis) -> Self {
        Self::from_millis(span.0)
    }
}

impl From<Duration> for Millis {
    /// Parts of a millisecond are cut off; what is longer than the longest span is the longest span.
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(feature = "jiff")]
impl TryFrom<Timestamp> for jiff::Timestamp {
    type Error = OutOfRange;

    fn try_from(time: Timestamp) -> Result<Self, OutOfRange> {
        let ms = i64::try_from(time.0).map_err(|_| OutOfRange)?;
        Self::from_millisecond(ms).map_err(|_| OutOfRange)
    }
}

#[cfg(feature = "jiff")]
impl TryFrom<jiff::Timestamp> for Timestamp {
    type Error = OutOfRange;

    /// Parts of a millisecond are cut off.
    fn try_from(time: jiff::Timestamp) -> Result<Self, OutOfRange> {
        let ms = time.as_millisecond();
        u64::try_from(ms).map(Self).map_err(|_| OutOfRange)
    }
}

/// As RFC 3339 with milliseconds, such as `2026-01-31T12:00:00.000Z`; `never` where the calendar has no such time.
#[cfg(feature = "jiff")]
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::try_from(*self) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(OutOfRange) => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_spans_come_back_as_they_were() {
        for ms in [0, 1, 1_700_000_000_000, u64::MAX] {
            let time = Timestamp(ms);
            assert_eq!(Timestamp::try_from(SystemTime::from(time)), Ok(time));
            assert_eq!(Millis::from(Duration::from(Millis(ms))), Millis(ms));
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::try_from(before), Err(OutOfRange));
        assert_eq!(Millis::from(Duration::MAX), Millis(u64::MAX));
        assert_eq!(Millis::from(Duration::from_micros(1_999)), Millis(1));
    }

    #[cfg(feature = "jiff")]
    #[test]
    fn a_time_beyond_the_calendar_is_never() {
        assert_eq!(Timestamp(1_500).to_string(), "1970-01-01T00:00:01.500Z");
        assert_eq!(Timestamp(u64::MAX).to_string(), "never");
        let early = jiff::Timestamp::from_second(-1).unwrap();
        assert_eq!(Timestamp::try_from(early), Err(OutOfRange));
        let last_second = jiff::Timestamp::from_second(jiff::Timestamp::MAX.as_second()).unwrap();
        let late = Timestamp::try_from(last_second).unwrap();
        assert_eq!(late.to_string(), "9999-12-30T22:00:00.000Z");
    }
}

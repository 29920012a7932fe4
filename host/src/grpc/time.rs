//! Times and spans of the protocol.

use std::time::Duration;

use perennial_core::Timestamp;
use tonic::Status;

/// The years 1 to 9999, which the type can hold by its definition; in seconds since 1970.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A second in nanoseconds, and a millisecond.
const SECOND_NS: i32 = 1_000_000_000;
const MS_NS: i32 = 1_000_000;

/// A time of the hub.
pub(crate) fn to_wire(at: Timestamp) -> prost_types::Timestamp {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    let ms = i32::try_from(at.0 % 1_000).unwrap_or_default();
    prost_types::Timestamp {
        seconds: seconds.min(*SECONDS.end()),
        nanos: ms * MS_NS,
    }
}

/// A time of a request, rounded up to milliseconds; a time before 1970 is 1970. `what` names its field.
///
/// # Errors
/// INVALID_ARGUMENT if it is not a time.
pub(crate) fn from_wire(what: &str, at: prost_types::Timestamp) -> Result<Timestamp, Status> {
    let prost_types::Timestamp { seconds, nanos } = at;
    if !SECONDS.contains(&seconds) || !(0..SECOND_NS).contains(&nanos) {
        return Err(Status::invalid_argument(format!(
            "{what} is no time: {seconds} seconds and {nanos} nanoseconds; the seconds since 1970 must lie in the years 1 to 9999, and the nanoseconds be 0 to 999999999"
        )));
    }
    let (Ok(seconds), Ok(ms)) = (
        u64::try_from(seconds),
        u64::try_from((nanos + MS_NS - 1) / MS_NS),
    ) else {
        return Ok(Timestamp(0));
    };
    Ok(Timestamp(seconds * 1_000 + ms))
}

/// As [`from_wire`], for a field that may be absent.
///
/// # Errors
/// As [`from_wire`].
pub(crate) fn optional(
    what: &str,
    at: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, Status> {
    at.map(|at| from_wire(what, at)).transpose()
}

/// A span of a request.
///
/// # Errors
/// INVALID_ARGUMENT if it is negative or not a span.
pub(crate) fn span(what: &str, span: prost_types::Duration) -> Result<Duration, Status> {
    let (seconds, nanos) = (u64::try_from(span.seconds), u32::try_from(span.nanos));
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Status::invalid_argument(format!(
            "{what} is no span of time: {} seconds and {} nanoseconds; it must not be negative",
            span.seconds, span.nanos
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(seconds: i64, nanos: i32) -> Option<u64> {
        let at = prost_types::Timestamp { seconds, nanos };
        from_wire("it", at).ok().map(|at| at.0)
    }

    #[test]
    fn times_come_in_and_go_out() {
        for ms in [0, 1, 999, 1_000, 1_753_000_000_123] {
            assert_eq!(from_wire("it", to_wire(Timestamp(ms))).unwrap().0, ms);
        }
        assert_eq!(to_wire(Timestamp(u64::MAX)).seconds, *SECONDS.end());
        assert_eq!(read(1, 1), Some(1_001), "never before what was asked for");
        assert_eq!(read(-1, 999_999_999), Some(0));
        assert_eq!(read(*SECONDS.start(), 0), Some(0));
    }

    #[test]
    fn absurd_times_are_refused() {
        for (seconds, nanos) in [
            (i64::MIN, 0),
            (i64::MAX, 0),
            (253_402_300_800, 0),
            (0, -1),
            (0, 1_000_000_000),
            (0, i32::MAX),
        ] {
            assert_eq!(read(seconds, nanos), None, "{seconds} {nanos}");
        }
        let span_of = |seconds, nanos| span("it", prost_types::Duration { seconds, nanos });
        assert_eq!(span_of(1, 5).unwrap(), Duration::new(1, 5));
        assert_eq!(span_of(i64::MAX, 0).unwrap().as_secs(), i64::MAX as u64);
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MIN, i32::MIN)] {
            assert!(span_of(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }
}

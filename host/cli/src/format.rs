//! Times, spans, sizes and counts as people read them.

use perennial::Timestamp;

/// A time for people: the second, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    match i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => "never".to_owned(),
    }
}

/// The time.
pub(crate) fn now() -> Timestamp {
    Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

/// How long ago something was, or how soon it will be: `12s ago`, `in 3h 5m`.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    match (now.since(at).0, at.since(now).0) {
        (0..1_000, 0..1_000) => "now".to_owned(),
        (ms @ 1_000..60_000, _) => format!("{}s ago", ms / 1_000),
        (0, ms @ 0..60_000) => format!("in {}s", ms / 1_000),
        (0, ms) => format!("in {}", span(ms)),
        (ms, _) => format!("{} ago", span(ms)),
    }
}

/// A span for people, to two places: `12ms`, `1.3s`, `2m 5s`, `3d 4h`.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A number of bytes for people.
pub(crate) use perennial_core::text::size as bytes;

/// `1 thing`, `2 things`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_are_short() {
        let spans = [0, 12, 1_300, 59_999, 125_000, 7_500_000, 273_600_000].map(span);
        assert_eq!(
            spans,
            ["0ms", "12ms", "1.3s", "59.9s", "2m 5s", "2h 5m", "3d 4h"]
        );
        assert_eq!(
            [0, 1_536, 3 << 20].map(bytes),
            ["0 B", "1.5 KiB", "3.0 MiB"]
        );
        assert_eq!(
            [0, 1, 2].map(|n| count(n, "event")),
            ["0 events", "1 event", "2 events"]
        );
    }

    #[test]
    fn what_was_is_ago_and_what_comes_is_in() {
        let at = |ms: u64| ago(Timestamp(1_000_000 + ms), Timestamp(1_000_000));
        assert_eq!(
            [0, 999, 5_000, 125_000].map(at),
            ["now", "now", "in 5s", "in 2m 5s"]
        );
        let before = |ms: u64| ago(Timestamp(1_000_000_000 - ms), Timestamp(1_000_000_000));
        assert_eq!(
            [999, 5_900, 273_600_000].map(before),
            ["now", "5s ago", "3d 4h ago"]
        );
    }

    #[test]
    fn times_are_utc_and_end() {
        assert_eq!(time(Timestamp(1_769_860_800_250)), "2026-01-31 12:00:00");
        assert_eq!(time(Timestamp(u64::MAX)), "never");
    }
}

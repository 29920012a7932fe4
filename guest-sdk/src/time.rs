//! Points in time, as the host counts them: whole milliseconds.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time, in whole milliseconds since 1970-01-01T00:00:00Z.
///
/// Displayed and serialised as an RFC 3339 text in UTC. Parsed and deserialised from an ISO 8601 text with any offset from UTC, `Z`, `+02:00`,
/// `+0200` or `+02`, with or without seconds. What is finer than a millisecond is cut off.
///
/// ```
/// use perennial_sdk::{Duration, Timestamp};
///
/// let start: Timestamp = "2024-02-29T12:00:00Z".parse()?;
/// assert_eq!((start + Duration::from_millis(1500)).to_string(), "2024-02-29T12:00:01.500Z");
/// assert_eq!("2024-02-29T14:00+02:00".parse(), Ok(start));
/// # Ok::<(), perennial_sdk::ParseTimestampError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// A text that is not an ISO 8601 time with an offset from UTC, between 1970 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseTimestampError(());

impl Timestamp {
    /// The point this many milliseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_unix_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this, or zero if that is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Rounds up to whole milliseconds, so that nothing happens before its time. Saturates.
impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

/// The time from the right one to the left one, or zero if that is negative.
impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Whole milliseconds, rounded up.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

const DAY_MS: u64 = 86_400_000;

/// The last millisecond of 9999.
const LAST: u64 = 253_402_300_799_999;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0 / DAY_MS);
        let ms = self.0 % DAY_MS;
        let (hour, minute, second, fraction) =
            (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z"
        )
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self).ok_or(ParseTimestampError(()))
    }
}

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a time between 1970 and 9999 with an offset from UTC, such as 2024-02-29T12:00:00Z or 2024-02-29T14:00+02:00",
        )
    }
}

impl std::error::Error for ParseTimestampError {}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The proleptic Gregorian date of a day, counted in eras of 400 years that start on the first of March.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`], also for dates before 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> i64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    days.cast_signed() - 719_468
}

fn days_in(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn parse(text: &str) -> Option<u64> {
    if !text.is_ascii() {
        return None;
    }
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let (time, minutes_ahead) = split_offset(time)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let is_date =
        year > 0 && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !is_date {
        return None;
    }
    let days = days_from_civil(year, month, day);
    let local = days * DAY_MS.cast_signed() + time_of_day(time)?.cast_signed();
    let millis = u64::try_from(local - minutes_ahead * 60_000).ok()?;
    (millis <= LAST).then_some(millis)
}

/// The milliseconds since midnight of `12:00`, `12:00:00` or `12:00:00.000`.
fn time_of_day(text: &str) -> Option<u64> {
    let (text, fraction) = match text.split_once(['.', ',']) {
        Some((text, fraction)) => (text, Some(fraction)),
        None => (text, None),
    };
    let ([hour, minute, second], has_seconds) = match numbers(text, ':', [2, 2, 2]) {
        Some(numbers) => (numbers, true),
        None => {
            let [hour, minute] = numbers(text, ':', [2, 2])?;
            ([hour, minute, 0], false)
        }
    };
    let fits = hour < 24 && minute < 60 && second < 60;
    let fraction = match fraction {
        Some(fraction) if has_seconds && is_digits(fraction) => fraction,
        None => "0",
        Some(_) => return None,
    };
    let millis: u64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    fits.then_some(hour * 3_600_000 + minute * 60_000 + second * 1000 + millis)
}

/// The time before an offset from UTC, and how many minutes a clock with that offset is ahead of UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let (time, offset) = text.split_at(text.rfind(['+', '-'])?);
    let (sign, offset) = offset.split_at(1);
    let [hours, minutes] = match offset.len() {
        2 => [numbers(offset, ':', [2])?[0], 0],
        4 => [
            numbers(&offset[..2], ':', [2])?[0],
            numbers(&offset[2..], ':', [2])?[0],
        ],
        _ => numbers(offset, ':', [2, 2])?,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let ahead = (hours * 60 + minutes).cast_signed();
    Some((time, if sign == "-" { -ahead } else { ahead }))
}

/// Numbers with exactly these many digits.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !is_digits(part) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_what_it_wrote() {
        for millis in [
            0,
            951_782_400_000,
            1_709_164_800_123,
            4_102_444_799_999,
            253_402_300_799_999,
        ] {
            let time = Timestamp::from_unix_millis(millis);
            assert_eq!(time.to_string().parse(), Ok(time), "{time}");
        }
        assert_eq!(
            Timestamp::from_unix_millis(951_782_400_000).to_string(),
            "2000-02-29T00:00:00.000Z"
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024-02-30T00:00:00Z",
            "2024-02-01",
            "2024-2-01T00:00:00Z",
            "2024-02-01T00:00:00",
            "2024-02-01T00:00:00.Z",
            "2024-02-01T00:00:00.5",
            "2024-02-01T00:00.5Z",
            "2024-02-01T00Z",
            "2024-02-01T24:00Z",
            "2024-02-01T00:60Z",
            "2024-02-01T00:00:60Z",
            "2024-13-01T00:00Z",
            "2024-00-01T00:00Z",
            "2024-02-00T00:00Z",
            "2023-02-29T00:00Z",
            "1900-02-29T00:00Z",
            "2024-02-01T00:00+24:00",
            "2024-02-01T00:00+02:60",
            "2024-02-01T00:00+2:00",
            "2024-02-01T00:00+2",
            "2024-02-01T00:00+02:00:00",
            "2024-02-01T00:00+",
            "2024-02-01T00:00+02:00Z",
            "2024-02-01T00:00+ä2",
            "2024-02-01T00:00+0ä0",
            "+2024-02-01T00:00Z",
            "2024-02-01TZ",
            "2024-02-01T+02:00",
            // Before 1970 and after 9999, by the clock of UTC.
            "0000-01-01T00:00Z",
            "1969-12-31T23:59:59.999Z",
            "1970-01-01T01:59:59+02:00",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(
                text.parse::<Timestamp>(),
                Err(ParseTimestampError(())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_time_is_read_with_any_offset_and_without_seconds() {
        for (text, utc) in [
            ("2026-01-01T00:00:00+02:00", "2025-12-31T22:00:00.000Z"),
            ("2026-01-01T00:00+02:00", "2025-12-31T22:00:00.000Z"),
            ("2026-01-01T00:00+0200", "2025-12-31T22:00:00.000Z"),
            ("2026-01-01T00:00+02", "2025-12-31T22:00:00.000Z"),
            ("2025-12-31t18:30:15.25-05:30", "2026-01-01T00:00:15.250Z"),
            ("2024-02-28T23:30:00-00:45", "2024-02-29T00:15:00.000Z"),
            ("2000-02-29 12:00Z", "2000-02-29T12:00:00.000Z"),
            ("2024-02-29T12:00:00-00:00", "2024-02-29T12:00:00.000Z"),
            ("2024-02-29T12:00:00z", "2024-02-29T12:00:00.000Z"),
            ("2024-02-29T12:00:00,5Z", "2024-02-29T12:00:00.500Z"),
            ("2024-02-29T12:00:00.1234567Z", "2024-02-29T12:00:00.123Z"),
            // The other year, by the clock of UTC.
            ("1969-12-31T20:00:00-04:00", "1970-01-01T00:00:00.000Z"),
            ("1970-01-01T02:00:00+02:00", "1970-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999+00:00", "9999-12-31T23:59:59.999Z"),
            ("2026-01-01T00:00+23:59", "2025-12-31T00:01:00.000Z"),
        ] {
            let time = text.parse::<Timestamp>();
            assert_eq!(
                time.map(|time| time.to_string()),
                Ok(utc.to_owned()),
                "{text}"
            );
            let read: Timestamp = serde_json::from_value(text.into()).unwrap();
            assert_eq!(Ok(read), time);
        }
    }

    #[test]
    fn every_day_is_read_as_what_is_written() {
        for day in 0..150_000 {
            let time = Timestamp::from_unix_millis(day * DAY_MS);
            assert_eq!(time.to_string().parse(), Ok(time), "{time}");
        }
    }

    #[test]
    fn a_part_of_a_millisecond_counts_as_one() {
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }
}

//! Parses times as clients write them.

use jiff::Timestamp as Jiff;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use perennial_core::Timestamp;

/// The calendar repeats itself after this many years; and their milliseconds.
const CYCLE: (i64, i64) = (400, 146_097 * 86_400_000);

/// A year in the middle of the range of the calendar library.
const MIDDLE: i64 = 2_000;

/// Parses a time in ISO 8601. Seconds, fraction and zone are optional: without a zone it is UTC, and a date alone is its first moment.
/// `None` if the text is not a time.
///
/// Times outside the range of the clock are clamped: to 1970, or to the last time that can be shown. So the minimum and maximum times of
/// other platforms keep their meaning. Years with more than four digits need a sign.
///
/// ```
/// use perennial::{Timestamp, parse_time};
///
/// assert_eq!(parse_time("1970-01-01T01:00:01+01:00"), Some(Timestamp(1_000)));
/// assert_eq!(parse_time("0001-01-01T00:00:00"), Some(Timestamp(0)));
/// assert!(parse_time("9999-12-31T23:59:59.9999999Z") > parse_time("9999-01-01"));
/// assert_eq!(parse_time("tomorrow"), None);
/// ```
pub fn parse_time(text: &str) -> Option<Timestamp> {
    // Replaces the year by one in the middle of the calendar, so that no time zone leads beyond its range, and shifts the result back.
    let (year, rest) = split_year(text.trim())?;
    let near = MIDDLE + year.rem_euclid(CYCLE.0);
    let near_text = format!("{near:04}{rest}");
    let near_ms = match near_text.parse::<Jiff>() {
        Ok(time) => time,
        Err(_) => {
            let local = near_text.parse::<DateTime>().ok()?;
            local.to_zoned(TimeZone::UTC).ok()?.timestamp()
        }
    }
    .as_millisecond();
    let ms = near_ms.saturating_add(((year - near) / CYCLE.0).saturating_mul(CYCLE.1));
    let ms = ms.clamp(0, Jiff::MAX.as_millisecond());
    Some(Timestamp(ms.unsigned_abs()))
}

/// Splits a time into its year and the rest.
fn split_year(text: &str) -> Option<(i64, &str)> {
    let (sign, unsigned) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => (0, text),
    };
    // Not all programs pad years before 1000, such as the minimum times of .NET and Python.
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let is_year = match sign {
        0 => (1..=4).contains(&digits),
        _ => (4..=9).contains(&digits),
    };
    let rest = &unsigned[digits..];
    if is_year && rest.starts_with('-') {
        let year: i64 = unsigned[..digits].parse().ok()?;
        return Some((if sign < 0 { -year } else { year }, rest));
    }
    // The form without separators: `20260131T120000Z`.
    let is_basic = sign == 0 && digits == 8 && unsigned.is_ascii();
    is_basic.then(|| Some((unsigned[..4].parse().ok()?, &unsigned[4..])))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<u64> {
        parse_time(text).map(|at| at.0)
    }

    #[test]
    fn times_come_in_the_forms_that_clients_write() {
        let new_year = Some(1_577_836_800_000);
        for text in [
            "2020-01-01T00:00:00.000000Z",
            "2020-01-01T00:00Z",
            "2020-01-01T01:00:00+01:00",
            "2020-01-01T00:00:00",
            "2020-01-01 00:00",
            "2020-01-01",
            "20200101T000000Z",
            "+002020-01-01T00:00:00Z",
        ] {
            assert_eq!(at(text), new_year, "{text}");
        }
        assert_eq!(at("2000-02-29"), Some(951_782_400_000));
        assert_eq!(at("2400-02-29T00:00:00.5Z"), Some(13_574_563_200_500));
    }

    #[test]
    fn beyond_the_range_is_its_end() {
        for text in [
            "0001-01-01T00:00:00Z",
            "1-01-01T00:00:00.000000Z",
            "0000-01-01",
            "1969-12-31T23:59:59.999Z",
            "1970-01-01T00:59:59+01:00",
            "-0001-12-31",
            "-271821-04-20T00:00:00Z",
            "-999999999-01-01",
        ] {
            assert_eq!(at(text), Some(0), "{text}");
        }
        let last = Some(253_402_207_200_999);
        for text in [
            "9999-12-31T23:59:59.9999999Z",
            "9999-12-31T23:59:59.999999+00:00",
            "9999-12-31T23:59:59-14:00",
            "9999-12-31",
            "9999-12-30T22:00:01Z",
            "+010000-01-01T00:00:00Z",
            "+275760-09-13T00:00:00.000Z",
            "+999999999-12-31T23:59:59Z",
        ] {
            assert_eq!(at(text), last, "{text}");
        }
        assert_eq!(at("9999-12-30T22:00:00.999Z"), last);
        assert_eq!(at("9999-12-30T22:00:00.998Z"), last.map(|ms| ms - 1));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "é-01",
            "yesterday",
            "2026-02-30",
            "1900-02-29",
            "2026-13-01",
            "9999-12-32",
            "10000-01-01",
            "999999999999-01-01",
            "+99999999999-01-01",
            "2026-01-31T25:00",
            "-",
            "+",
            "1-1-1",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}

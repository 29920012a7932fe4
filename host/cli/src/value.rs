//! Parsers for argument values: times, durations, sizes, grants, tags, statuses.

use std::ffi::OsStr;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};

use perennial::{DirGrant, Status, Timestamp, WaitFilter, WaitKind};

use crate::output::Columns;

/// A time limit; `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

/// The address to listen on; `None` for no HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Option<String>);

/// A granted environment variable; without a value, that of this process is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvGrant {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// A status in a filter; `None` for one that other engines know and no instance here ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusFilter(pub(crate) Option<Status>);

/// `127.0.0.1:7071`, `localhost:7071`, `[::1]:7071`, or `none`.
pub(crate) fn listen(text: &str) -> Result<Listen, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Listen(None));
    }
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(Listen(Some(text.to_owned()))),
        _ => Err("write it like 127.0.0.1:7071, or none".to_owned()),
    }
}

/// `120`, or `none`.
pub(crate) fn columns(text: &str) -> Result<Columns, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Columns::All);
    }
    match text.parse() {
        Ok(columns @ 20..) => Ok(Columns::At(columns)),
        _ => Err("write 20 or more columns, or none".to_owned()),
    }
}

/// `30s`, `1h30m`, `2 days`, `PT5M`, or `none`.
pub(crate) fn limit(text: &str) -> Result<Limit, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Limit(None));
    }
    duration(text).map(|duration| Limit(Some(duration)))
}

/// `30s`, `1h30m`, `2 days` or `PT5M`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const EXAMPLES: &str = "write it like 30s, 5m, 1h30m or 2d";
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text} of what? For seconds write {text}s"));
    }
    // As many digits, and then a unit, as no calendar has.
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let is_long = digits.len() > 7 && digits.bytes().all(|b| b.is_ascii_digit());
    let span: jiff::Span = text.parse().map_err(|_| match is_long {
        true => "too long: a duration has at most about 7 million days".to_owned(),
        false => format!("not a duration; {EXAMPLES}"),
    })?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let signed = span
        .to_duration(relative)
        .map_err(|_| format!("months and years differ in length; {EXAMPLES}"))?;
    Duration::try_from(signed).map_err(|_| "a duration must not be negative".to_owned())
}

/// `5000000`, `5M` or `20G`: thousands, millions, billions, trillions.
pub(crate) fn amount(text: &str) -> Result<u64, String> {
    let units = [
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    in_units(text, &units).ok_or_else(|| "write it like 5000000, 500M or 20G".to_owned())
}

/// `1048576`, `512KiB`, `256MiB` or `1GiB`; the unit may be its first letter alone.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (k, m, g) = (1 << 10, 1 << 20, 1 << 30);
    let units = [
        ("KiB", k),
        ("MiB", m),
        ("GiB", g),
        ("K", k),
        ("M", m),
        ("G", g),
    ];
    in_units(text, &units).ok_or_else(|| "write it like 67108864, 256MiB or 1GiB".to_owned())
}

fn in_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit = units.iter().find(|(name, _)| text.ends_with(name));
    let (digits, factor) = match unit {
        Some((name, factor)) => (&text[..text.len() - name.len()], *factor),
        None => (text, 1),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// ISO 8601 with or without seconds, fraction and zone; UTC where there is no zone; the first moment of a day that comes alone. Beyond the
/// range of the clock it is its end.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    let problem =
        "not a time; write it like 2026-01-31, 2026-01-31T12:00 or 2026-01-31T12:00:00+01:00";
    perennial::parse_time(text).ok_or_else(|| problem.to_owned())
}

/// `HOST[::GUEST][:rw]`.
pub(crate) fn dir_grant(text: &str) -> Result<DirGrant, String> {
    let (paths, writable) = match (text.strip_suffix(":rw"), text.strip_suffix(":ro")) {
        (Some(paths), _) => (paths, true),
        (None, Some(paths)) => (paths, false),
        (None, None) => (text, false),
    };
    let (host, guest) = paths.split_once("::").unwrap_or((paths, paths));
    if host.is_empty() {
        return Err(
            "no directory; write it like ./data, ./data::/data or ./data::/data:rw".to_owned(),
        );
    }
    if guest.is_empty() {
        return Err(format!(
            "no path for the guest after `::`; write it like {host}::/data"
        ));
    }
    let mut dir = DirGrant::new(host, guest);
    dir.writable = writable;
    Ok(dir)
}

/// `NAME[=VALUE]`.
pub(crate) fn env_grant(text: &str) -> Result<EnvGrant, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("no name; write it like NAME or NAME=VALUE".to_owned());
    }
    Ok(EnvGrant {
        name: name.to_owned(),
        value,
    })
}

/// `HOST[:PORT]`.
pub(crate) fn http_host(text: &str) -> Result<String, String> {
    perennial::executor::http_host_problem(text).map_or_else(|| Ok(text.to_owned()), Err)
}

/// `KEY=VALUE`.
pub(crate) fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a label like customer=acme".to_owned()),
    }
}

/// A status, in any case of letters.
pub(crate) fn status(text: &str) -> Result<StatusFilter, String> {
    let never = ["Canceled", "ContinuedAsNew"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(text));
    match Status::from_name(text) {
        Some(status) => Ok(StatusFilter(Some(status))),
        None if never => Ok(StatusFilter(None)),
        None => {
            let names: Vec<&str> = Status::ALL.iter().map(|status| status.name()).collect();
            Err(format!("not a status; there are {}", names.join(", ")))
        }
    }
}

/// [`status`], with the names for shells that complete them.
#[derive(Clone)]
pub(crate) struct StatusParser;

impl TypedValueParser for StatusParser {
    type Value = StatusFilter;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<StatusFilter, clap::Error> {
        status.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = Status::ALL.iter().map(|status| status.name());
        Some(Box::new(names.map(PossibleValue::new)))
    }
}

/// What an instance waits for: a kind of wait, some with a name.
pub(crate) fn wait(text: &str) -> Result<WaitFilter, String> {
    WaitFilter::parse(text).ok_or_else(|| {
        let kinds = WaitKind::ALL.map(WaitKind::name).join(", ");
        format!(
            "not a kind of wait; those are {kinds}, and event:NAME, request:NAME and answer:NAME"
        )
    })
}

/// As [`status`]; `None` for the empty text between two spaces.
pub(crate) fn status_or_blank(text: &str) -> Result<Option<StatusFilter>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    status(text).map(Some)
}

/// `true` or `false`, in any case of letters.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// A number that is at least 1.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a number from 1 on".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// As [`bytes`], but not 0.
pub(crate) fn some_bytes(text: &str) -> Result<usize, String> {
    match usize::try_from(bytes(text)?) {
        Ok(0) | Err(_) => Err("must be a number of bytes from 1 on, such as 256MiB".to_owned()),
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check<T: std::fmt::Debug>(
        parse: impl Fn(&str) -> Result<T, String>,
        texts: &[&str],
        expected: Expect,
    ) {
        let line = |text: &&str| match parse(text) {
            Ok(value) => format!("{text:?} => {value:?}\n"),
            Err(error) => format!("{text:?} => error: {error}\n"),
        };
        expected.assert_eq(&texts.iter().map(line).collect::<String>());
    }

    #[test]
    fn durations_have_units() {
        check(
            limit,
            &[
                "30s", "5m", "1h30m", "1.5s", "250ms", "2 days", "PT5M", "none", "0s", "30", "",
                "-5s", "1 month", "soon",
            ],
            expect![[r#"
                "30s" => Limit(Some(30s))
                "5m" => Limit(Some(300s))
                "1h30m" => Limit(Some(5400s))
                "1.5s" => Limit(Some(1.5s))
                "250ms" => Limit(Some(250ms))
                "2 days" => Limit(Some(172800s))
                "PT5M" => Limit(Some(300s))
                "none" => Limit(None)
                "0s" => Limit(Some(0ns))
                "30" => error: 30 of what? For seconds write 30s
                "" => error: not a duration; write it like 30s, 5m, 1h30m or 2d
                "-5s" => error: a duration must not be negative
                "1 month" => error: months and years differ in length; write it like 30s, 5m, 1h30m or 2d
                "soon" => error: not a duration; write it like 30s, 5m, 1h30m or 2d
            "#]],
        );
    }

    #[test]
    fn times_may_leave_out_seconds_and_zone() {
        check(
            time,
            &[
                "2026-01-31",
                "2026-01-31T12:00",
                "2026-01-31 12:00",
                "2026-01-31T12:00Z",
                "2026-01-31T12:00:00+01:00",
                "2026-01-31T12:00:00.250Z",
                "1960-01-01",
                "9999-12-31T23:59:59.9999999Z",
                "2026-02-30",
                "yesterday",
            ],
            expect![[r#"
                "2026-01-31" => Timestamp(1769817600000)
                "2026-01-31T12:00" => Timestamp(1769860800000)
                "2026-01-31 12:00" => Timestamp(1769860800000)
                "2026-01-31T12:00Z" => Timestamp(1769860800000)
                "2026-01-31T12:00:00+01:00" => Timestamp(1769857200000)
                "2026-01-31T12:00:00.250Z" => Timestamp(1769860800250)
                "1960-01-01" => Timestamp(0)
                "9999-12-31T23:59:59.9999999Z" => Timestamp(253402207200999)
                "2026-02-30" => error: not a time; write it like 2026-01-31, 2026-01-31T12:00 or 2026-01-31T12:00:00+01:00
                "yesterday" => error: not a time; write it like 2026-01-31, 2026-01-31T12:00 or 2026-01-31T12:00:00+01:00
            "#]],
        );
    }

    #[test]
    fn a_directory_is_granted_read_only_under_its_own_name_unless_said() {
        check(
            dir_grant,
            &[
                ".",
                ".::/data",
                "./out::/out:rw",
                "./out:rw",
                "/a:b::/c",
                "x::/y:ro",
                "",
                "::/data",
                "x::",
                ":rw",
            ],
            expect![[r#"
                "." => DirGrant { host: ".", guest: ".", writable: false }
                ".::/data" => DirGrant { host: ".", guest: "/data", writable: false }
                "./out::/out:rw" => DirGrant { host: "./out", guest: "/out", writable: true }
                "./out:rw" => DirGrant { host: "./out", guest: "./out", writable: true }
                "/a:b::/c" => DirGrant { host: "/a:b", guest: "/c", writable: false }
                "x::/y:ro" => DirGrant { host: "x", guest: "/y", writable: false }
                "" => error: no directory; write it like ./data, ./data::/data or ./data::/data:rw
                "::/data" => error: no directory; write it like ./data, ./data::/data or ./data::/data:rw
                "x::" => error: no path for the guest after `::`; write it like x::/data
                ":rw" => error: no directory; write it like ./data, ./data::/data or ./data::/data:rw
            "#]],
        );
    }

    #[test]
    fn variables_and_labels_are_split_at_the_first_equals_sign() {
        check(
            env_grant,
            &["HOME", "A=", "A=b=c", "=b"],
            expect![[r#"
                "HOME" => EnvGrant { name: "HOME", value: None }
                "A=" => EnvGrant { name: "A", value: Some("") }
                "A=b=c" => EnvGrant { name: "A", value: Some("b=c") }
                "=b" => error: no name; write it like NAME or NAME=VALUE
            "#]],
        );
        check(
            tag,
            &["a=b", "a=", "a=b=c", "a", "=b"],
            expect![[r#"
                "a=b" => ("a", "b")
                "a=" => ("a", "")
                "a=b=c" => ("a", "b=c")
                "a" => error: write a label like customer=acme
                "=b" => error: write a label like customer=acme
            "#]],
        );
    }

    #[test]
    fn statuses_are_known_in_any_case_and_two_never_occur() {
        check(
            status,
            &["running", "Failed", "CANCELED", "ContinuedAsNew", "done"],
            expect![[r#"
                "running" => StatusFilter(Some(Running))
                "Failed" => StatusFilter(Some(Failed))
                "CANCELED" => StatusFilter(None)
                "ContinuedAsNew" => StatusFilter(None)
                "done" => error: not a status; there are Pending, Running, Suspended, Completed, Failed, Terminated
            "#]],
        );
    }

    #[test]
    fn amounts_and_bytes_have_units() {
        check(
            amount,
            &["5000000", "20G", "1k", "1.5G", "G", "-1", "99999999999T"],
            expect![[r#"
                "5000000" => 5000000
                "20G" => 20000000000
                "1k" => 1000
                "1.5G" => error: write it like 5000000, 500M or 20G
                "G" => error: write it like 5000000, 500M or 20G
                "-1" => error: write it like 5000000, 500M or 20G
                "99999999999T" => error: write it like 5000000, 500M or 20G
            "#]],
        );
        check(
            bytes,
            &["67108864", "256MiB", "1GiB", "256MB", ""],
            expect![[r#"
                "67108864" => 67108864
                "256MiB" => 268435456
                "1GiB" => 1073741824
                "256MB" => error: write it like 67108864, 256MiB or 1GiB
                "" => error: write it like 67108864, 256MiB or 1GiB
            "#]],
        );
    }
}

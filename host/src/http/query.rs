//! Query parameters: names in any case, typed values, errors that name the parameter.

use std::time::Duration;

use axum::http::Uri;
use perennial_core::{Status, Timestamp};

use crate::client::parse_time;

/// The longest wait in seconds that a request can ask for; longer ones are shortened to it.
const SECONDS_MAX: f64 = 86_400.0;

/// The query parameters, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// An invalid parameter, described for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadParameter(pub(crate) String);

/// Parameters that clients of Durable Functions may send with every request: hub, key, and what to show.
const HARMLESS: [&str; 9] = [
    "taskHub",
    "connection",
    "code",
    "systemKey",
    "clientId",
    "showInput",
    "showHistory",
    "showHistoryOutput",
    "returnInternalServerErrorOnFailure",
];

/// A parameter that an operation accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known<'a> {
    pub(crate) name: &'a str,
    /// Whether it may be repeated.
    pub(crate) many: bool,
    /// Whether it may be empty. An empty filter is refused, because its caller meant to fill it in.
    pub(crate) empty: bool,
}

/// The reason of a command, which may be empty.
const REASON: Known<'_> = Known {
    name: "reason",
    many: false,
    empty: true,
};

/// Parameters that may occur once.
pub(crate) fn once<'a, const N: usize>(names: [&'a str; N]) -> [Known<'a>; N] {
    names.map(|name| Known {
        name,
        many: false,
        empty: false,
    })
}

impl Query {
    /// Parses the query of a URI. Bytes that are not UTF-8 are replaced, as browsers do.
    pub(crate) fn of(uri: &Uri) -> Self {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        Self(pairs.map(|query| query.0).unwrap_or_default())
    }

    /// The value of a parameter, unless it is absent or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// The reason, in a request that has no other parameter of its own.
    ///
    /// The published client for JavaScript does not escape `&` in a reason, so what looks like further parameters is part of the reason.
    pub(crate) fn reason(&self) -> Result<Option<String>, BadParameter> {
        let harmless = |name: &str| {
            HARMLESS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        };
        let mut own = self.0.iter().filter(|(name, _)| !harmless(name));
        let Some((first, value)) = own.next() else {
            return Ok(None);
        };
        let mut reason = value.clone();
        for (name, value) in own {
            // A parameter with a value is not part of a reason.
            if !value.is_empty() || name.eq_ignore_ascii_case(REASON.name) {
                self.only(&[REASON])?;
            }
            reason.push('&');
            reason.push_str(name);
        }
        if !first.eq_ignore_ascii_case(REASON.name) {
            self.only(&[REASON])?;
        }
        Ok((!reason.is_empty()).then_some(reason))
    }

    /// All values of a repeatable parameter.
    pub(crate) fn values<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let named = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        let values = self.0.iter().filter(named).map(|(_, value)| value.as_str());
        values.filter(|value| !value.is_empty())
    }

    /// Parses `true` or `false`, in any case of letters.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, BadParameter> {
        match self.text(name) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(bad(name, text, "must be true or false")),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, BadParameter> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| bad(name, text, "must be a number"))
            })
            .transpose()
    }

    /// A number of at least one.
    pub(crate) fn count(&self, name: &str) -> Result<Option<u32>, BadParameter> {
        match self.number(name)? {
            Some(0) => Err(bad(name, "0", "must be at least 1")),
            count => Ok(count),
        }
    }

    /// A number of seconds, which may have a fraction.
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<Duration>, BadParameter> {
        self.text(name)
            .map(|text| {
                let seconds = text.parse::<f64>().ok().filter(|s| *s >= 0.0);
                seconds
                    .map(|s| Duration::from_secs_f64(s.min(SECONDS_MAX)))
                    .ok_or_else(|| bad(name, text, "must be a number of seconds, such as 2 or 0.5"))
            })
            .transpose()
    }

    /// A time; one beyond the range of the clock is clamped.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, BadParameter> {
        self.text(name)
            .map(|text| {
                parse_time(text)
                    .ok_or_else(|| bad(name, text, "must be a time, such as 2026-01-31T12:00:00Z"))
            })
            .transpose()
    }

    /// The exclusive upper bound for a time that the caller means inclusively. Times are shown in whole seconds, truncated, so the whole
    /// second is included.
    pub(crate) fn time_through(&self, name: &str) -> Result<Option<Timestamp>, BadParameter> {
        Ok(self.time(name)?.map(Timestamp::end_of_second))
    }

    /// Refuses unknown and empty parameters: with them a command might change other instances than the caller meant.
    ///
    /// Parameters that clients send with every request are accepted and ignored.
    pub(crate) fn only(&self, known: &[Known<'_>]) -> Result<(), BadParameter> {
        let mut seen = Vec::new();
        for (name, value) in &self.0 {
            let is_it = |other: &str| name.eq_ignore_ascii_case(other);
            if HARMLESS.iter().any(|harmless| is_it(harmless)) {
                continue;
            }
            let Some(known) = known.iter().find(|known| is_it(known.name)) else {
                let names: Vec<_> = known.iter().map(|known| known.name).collect();
                let names = match &names[..] {
                    [] => "it has none".to_owned(),
                    names => format!("it has {}", names.join(", ")),
                };
                let message = format!("this request has no parameter {name:?}; {names}");
                return Err(BadParameter(message));
            };
            if value.is_empty() && !known.empty {
                let message = format!("the parameter '{}' says nothing", known.name);
                return Err(BadParameter(message));
            }
            if seen.contains(&known.name) && !known.many {
                let message = format!("the parameter '{}' is there twice", known.name);
                return Err(BadParameter(message));
            }
            if !known.many {
                seen.push(known.name);
            }
        }
        Ok(())
    }

    /// Statuses, separated by commas or repeated. `None` if the parameter is absent; an empty list if all given statuses exist only in
    /// other engines.
    pub(crate) fn statuses(&self, name: &str) -> Result<Option<Vec<Status>>, BadParameter> {
        let names = self.values(name).flat_map(|text| text.split(','));
        let mut found = None::<Vec<Status>>;
        for text in names.map(str::trim).filter(|text| !text.is_empty()) {
            let found = found.get_or_insert_default();
            match Status::from_name(text) {
                Some(status) if found.contains(&status) => {}
                Some(status) => found.push(status),
                None if is_foreign_status(text) => {}
                None => {
                    let names: Vec<_> = Status::ALL.iter().map(|status| status.name()).collect();
                    let rule = format!("must be one of {}", names.join(", "));
                    return Err(bad(name, text, &rule));
                }
            }
        }
        // Some clients send an empty value for "no filter". A list such as `,` is an error, and does not mean every status.
        let says_nothing = |text: &&str| !text.trim().is_empty();
        if found.is_none()
            && let Some(text) = self.values(name).find(says_nothing)
        {
            return Err(bad(name, text, "must name a status"));
        }
        Ok(found)
    }
}

/// Statuses of other engines that no instance here ever has.
fn is_foreign_status(text: &str) -> bool {
    ["Canceled", "ContinuedAsNew"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(text))
}

fn bad(name: &str, text: &str, rule: &str) -> BadParameter {
    BadParameter(format!("the parameter '{name}' {rule}, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("http://x/?{text}").parse().unwrap())
    }

    #[test]
    fn names_and_flags_are_known_in_any_case() {
        let query = query("ShowInput=False&showHistory=TRUE&empty=");
        assert_eq!(query.flag("showInput", true), Ok(false));
        assert_eq!(query.flag("showHistory", false), Ok(true));
        assert_eq!(query.flag("empty", true), Ok(true));
        assert_eq!(query.text("empty"), None);
    }

    #[test]
    fn a_reason_that_was_not_escaped_is_whole() {
        let reason = |text: &str| query(text).reason();
        assert_eq!(reason("taskHub=h&code=k"), Ok(None));
        assert_eq!(reason("reason="), Ok(None));
        let budget = Ok(Some("R&D budget".to_owned()));
        assert_eq!(reason("taskHub=h&reason=R&D%20budget&code=k"), budget);
        assert_eq!(reason("reason=a%26b&c"), Ok(Some("a&b&c".to_owned())));
        assert!(reason("reason=a&recursive=true").is_err());
        assert!(reason("reson=a").is_err());
        assert!(reason("reason=a&reason=b").is_err());
    }

    #[test]
    fn what_cannot_be_names_its_parameter() {
        let query = query("a=maybe&timeout=-1&nan=NaN&top=many&runtimeStatus=Done&from=yesterday");
        assert!(query.flag("a", true).unwrap_err().0.contains("'a'"));
        assert!(query.seconds("timeout").is_err());
        assert!(query.seconds("nan").is_err());
        assert!(query.number("top").is_err());
        assert!(query.time("from").is_err());
        let error = query.statuses("runtimeStatus").unwrap_err();
        assert!(error.0.contains("Completed"), "{}", error.0);
    }

    #[test]
    fn seconds_may_be_fractions_and_never_overflow() {
        let query = query("a=0.5&b=1e300&c=inf");
        assert_eq!(query.seconds("a"), Ok(Some(Duration::from_millis(500))));
        assert_eq!(query.seconds("b"), Ok(Some(Duration::from_secs(86_400))));
        assert_eq!(query.seconds("c"), Ok(Some(Duration::from_secs(86_400))));
    }

    #[test]
    fn a_time_that_was_shown_is_the_whole_second() {
        let through = |text: &str| query(text).time_through("to").unwrap().map(|at| at.0);
        assert_eq!(through("to=1970-01-01T00:00:05Z"), Some(6_000));
        assert_eq!(through("to=1970-01-01T00:00:05.999Z"), Some(6_000));
        assert_eq!(through("from=1970-01-01T00:00:05Z"), None);
        assert!(query("to=soon").time_through("to").is_err());
    }

    #[test]
    fn what_nobody_knows_or_says_nothing_is_refused() {
        let mut known = once(["createdTimeTo"]).to_vec();
        known.push(REASON);
        known.push(Known {
            name: "runtimeStatus",
            many: true,
            empty: false,
        });
        let refused = |text: &str| query(text).only(&known).err().map(|bad| bad.0);
        for fine in [
            "",
            "reason=a",
            "reason=",
            "REASON=a&runtimeStatus=Failed&runtimestatus=Completed",
            "taskHub=&connection=Storage&code=&systemKey=x&showInput=true",
        ] {
            assert_eq!(refused(fine), None, "{fine}");
        }
        let unknown = refused("instanceIdPrefix=a").unwrap();
        assert!(unknown.contains("instanceIdPrefix") && unknown.contains("createdTimeTo"));
        for bad in [
            "createdTimeTo",
            "reason=a&Reason=b",
            "reasn=a",
            "=a",
            "createdTimeTo=",
        ] {
            assert!(refused(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn statuses_of_other_engines_match_nothing() {
        for none in ["", "runtimeStatus=", "runtimeStatus=%20"] {
            assert_eq!(query(none).statuses("runtimeStatus"), Ok(None), "{none}");
        }
        for nothing in ["runtimeStatus=,", "runtimeStatus=%20,,"] {
            assert!(
                query(nothing).statuses("runtimeStatus").is_err(),
                "{nothing}"
            );
        }
        let both =
            query("runtimeStatus=completed,Running,ContinuedAsNew").statuses("runtimeStatus");
        assert_eq!(both, Ok(Some(vec![Status::Completed, Status::Running])));
        let none = query("runtimeStatus=Canceled").statuses("runtimeStatus");
        assert_eq!(none, Ok(Some(Vec::new())));
    }
}

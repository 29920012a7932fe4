//! What a visitor looks for: the query of the list's URL, which also says what an export contains and what a command applies to.
//!
//! Invariants: the query says all of it, so that a link to a list leads to the same list; a value that cannot be understood is a problem
//! that the visitor is told, and never widens what is selected.

use perennial::{
    Client, Error, Filter, List, Order, Status, Timestamp, WaitFilter, WaitKind, parse_time,
};

use crate::fields::Fields;
use crate::link;

/// The numbers of instances that a page may have.
pub(super) const SIZES: [u32; 4] = [25, 50, 100, 200];

/// The number of instances of a page, unless another one is chosen.
const SIZE: u32 = 50;

/// Values that one query may have, so that neither the form nor the database query grows without bound.
const VALUES_MAX: usize = 30;

/// The orders of a list: the value in the query, and what it is called.
pub(super) const ORDERS: [(&str, &str, Order); 3] = [
    ("newestFirst", "newest first", Order::NewestFirst),
    ("oldestFirst", "oldest first", Order::OldestFirst),
    ("endedFirst", "ended first", Order::EndedFirst),
];

/// How a condition is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Boxes, one for each status.
    Statuses,
    /// A text, for which the names of the deployed orchestrations are proposed.
    Names,
    /// A text.
    Text,
    /// A text that may be given several times.
    Tags,
    /// A text, for which the kinds of waits are proposed.
    Waits,
    /// A time in UTC.
    Time,
}

/// A condition: its name in the query, which is the one that the API uses, its label, and its effect on the filter.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) input: Input,
    /// An example or explanation of what can be entered.
    pub(super) hint: &'static str,
    add: fn(Filter, &str) -> Result<Filter, String>,
}

/// All conditions, in the order of the form. A new condition of [`Filter`] needs one more entry here and nothing else.
pub(super) const FIELDS: [Field; 13] = [
    field("status", "Status", Input::Statuses, "", |filter, text| {
        Ok(filter.status(status_of(text)?))
    }),
    field(
        "name",
        "Orchestration",
        Input::Names,
        "its exact name",
        |filter, text| Ok(filter.name(text)),
    ),
    field(
        "version",
        "Version",
        Input::Text,
        "such as 1.2",
        |filter, text| Ok(filter.version(text)),
    ),
    field(
        "idPrefix",
        "Id begins with",
        Input::Text,
        "such as order-",
        |filter, text| Ok(filter.id_prefix(text)),
    ),
    field("tag", "Tag", Input::Tags, "key=value", add_tag),
    field(
        "waitsFor",
        "Waits for",
        Input::Waits,
        "such as event:Approval",
        |filter, text| Ok(filter.waits_for(wait_of(text)?)),
    ),
    field(
        "failureKind",
        "Kind of failure",
        Input::Text,
        "its exact name",
        |filter, text| Ok(filter.failure_kind(text)),
    ),
    field(
        "createdFrom",
        "Created from",
        Input::Time,
        "",
        |filter, text| Ok(filter.created_from(time_of(text)?)),
    ),
    field(
        "createdTo",
        "Created before",
        Input::Time,
        "",
        |filter, text| Ok(filter.created_to(time_of(text)?)),
    ),
    field(
        "updatedFrom",
        "Updated from",
        Input::Time,
        "",
        |filter, text| Ok(filter.updated_from(time_of(text)?)),
    ),
    field(
        "updatedTo",
        "Updated before",
        Input::Time,
        "",
        |filter, text| Ok(filter.updated_to(time_of(text)?)),
    ),
    field(
        "endedFrom",
        "Ended from",
        Input::Time,
        "",
        |filter, text| Ok(filter.ended_from(time_of(text)?)),
    ),
    field(
        "endedTo",
        "Ended before",
        Input::Time,
        "",
        |filter, text| Ok(filter.ended_to(time_of(text)?)),
    ),
];

const fn field(
    name: &'static str,
    label: &'static str,
    input: Input,
    hint: &'static str,
    add: fn(Filter, &str) -> Result<Filter, String>,
) -> Field {
    Field {
        name,
        label,
        input,
        hint,
        add,
    }
}

fn status_of(text: &str) -> Result<Status, String> {
    Status::from_name(text).ok_or_else(|| format!("{text:?} is no status"))
}

fn wait_of(text: &str) -> Result<WaitFilter, String> {
    WaitFilter::parse(text).ok_or_else(|| {
        let kinds = WaitKind::ALL.map(WaitKind::name).join(", ");
        format!("{text:?} is no wait; it is one of {kinds}; event, request and answer may have a name, as in event:Approval")
    })
}

fn add_tag(filter: Filter, text: &str) -> Result<Filter, String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("must be key=value, not {text:?}"))?;
    Ok(filter.tag(key, value))
}

fn time_of(text: &str) -> Result<Timestamp, String> {
    parse_time(text).ok_or_else(|| format!("{text:?} is no time; write it as 2026-03-01T12:00"))
}

/// One value of a condition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub(super) field: &'static Field,
    /// Its place among all values.
    at: usize,
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What a visitor looks for, and how it is listed.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// The values, in the order of [`FIELDS`], with the place of their field there.
    values: Vec<(usize, String)>,
    pub(super) order: Order,
    pub(super) size: u32,
    /// The continuation token of the page before.
    pub(super) after: Option<String>,
    /// Why the query cannot be answered.
    pub(super) problems: Vec<String>,
}

impl Search {
    pub(super) fn parse(query: &Fields) -> Self {
        let (mut values, mut problems) = (Vec::new(), Vec::new());
        for (at, field) in FIELDS.iter().enumerate() {
            for text in query.all(field.name) {
                // The API takes several statuses in one value, too.
                let parts: Vec<&str> = match field.input {
                    Input::Statuses => text.split(',').map(str::trim).collect(),
                    _ => vec![text],
                };
                for part in parts.into_iter().filter(|part| !part.is_empty()) {
                    let value = (at, part.to_owned());
                    let is_full = !field.is_many() && values.iter().any(|(known, _)| *known == at);
                    if let Err(why) = (field.add)(Filter::new(), part) {
                        problems.push(format!("{}: {why}.", field.label));
                    } else if is_full && !values.contains(&value) {
                        problems.push(format!("{} is given more than once.", field.label));
                    }
                    if !is_full && !values.contains(&value) {
                        values.push(value);
                    }
                }
            }
        }
        if values.len() > VALUES_MAX {
            values.truncate(VALUES_MAX);
            problems.push(format!("There are more than {VALUES_MAX} conditions."));
        }
        let order = query.text("order").unwrap_or(ORDERS[0].0);
        let known = ORDERS.iter().find(|(name, ..)| *name == order);
        if known.is_none() {
            problems.push(format!("{order:?} is no order of a list."));
        }
        let size = query.text("limit").and_then(|size| size.parse().ok());
        let largest = SIZES[SIZES.len() - 1];
        Self {
            values,
            order: known.map_or(Order::NewestFirst, |(.., order)| *order),
            size: size.unwrap_or(SIZE).clamp(1, largest),
            after: query.text("after").map(str::to_owned),
            problems,
        }
    }

    /// Reads a query that a page sent as the value of a field.
    pub(super) fn parse_text(query: &str) -> Self {
        Self::parse(&Fields::parse(query.trim_start_matches('?').as_bytes()))
    }

    /// Whether there is no condition.
    pub(super) fn is_everything(&self) -> bool {
        self.values.is_empty() && self.order != Order::EndedFirst
    }

    /// Whether there is a condition that a visitor can remove.
    pub(super) fn has_values(&self) -> bool {
        !self.values.is_empty()
    }

    /// The values, in the order of the form.
    pub(super) fn values(&self) -> impl Iterator<Item = Value> {
        let places = self.values.iter().enumerate();
        places.map(|(at, (field, _))| Value {
            field: &FIELDS[*field],
            at,
        })
    }

    pub(super) fn text(&self, value: Value) -> &str {
        self.values.get(value.at).map_or("", |(_, text)| text)
    }

    /// The values of one condition.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self
            .values
            .iter()
            .filter(move |(at, _)| FIELDS[*at].name == name);
        named.map(|(_, text)| &**text)
    }

    /// The filter.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub(super) fn filter(&self) -> Result<Filter, String> {
        if !self.problems.is_empty() {
            return Err(self.problems.join(" "));
        }
        let mut filter = Filter::new();
        for (field, text) in &self.values {
            filter = (FIELDS[*field].add)(filter, text)?;
        }
        Ok(filter)
    }

    /// The filter, restricted to some statuses; `None` if no instance can match then.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub(super) fn among(&self, allowed: &[Status]) -> Result<Option<Filter>, String> {
        let mut rest = self.clone();
        rest.values
            .retain(|(at, _)| FIELDS[*at].input != Input::Statuses);
        let filter = rest.filter()?;
        let asked: Vec<&str> = self.of("status").collect();
        let statuses = Status::ALL.into_iter().filter(|status| {
            // This order lists ended instances only, so that a command that applies to the list must not apply to others.
            let is_listed = self.order != Order::EndedFirst || status.is_end();
            let is_asked = asked.is_empty()
                || asked
                    .iter()
                    .any(|name| Status::from_name(name) == Some(*status));
            is_listed && is_asked && allowed.contains(status)
        });
        let statuses: Vec<Status> = statuses.collect();
        Ok(match statuses.len() {
            0 => None,
            all if all == Status::ALL.len() => Some(filter),
            _ => Some(statuses.into_iter().fold(filter, Filter::status)),
        })
    }

    /// A filter of this search without what began to match after a moment, as far as instances show it: what was created after it, and, if
    /// they are to be unchanged, what has changed after it.
    pub(super) fn up_to(&self, filter: Filter, moment: Timestamp, unchanged: bool) -> Filter {
        let end = Timestamp(moment.0.saturating_add(1));
        let earlier = |name| {
            self.of(name)
                .filter_map(parse_time)
                .fold(end, Timestamp::min)
        };
        let filter = filter.created_to(earlier("createdTo"));
        match unchanged {
            true => filter.updated_to(earlier("updatedTo")),
            false => filter,
        }
    }

    /// The list, from its beginning.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub(super) fn list(&self, client: &Client) -> Result<List, String> {
        Ok(client.list().filter(self.filter()?).order(self.order))
    }

    /// The query of the first page.
    pub(super) fn query(&self) -> String {
        self.query_with(None, None)
    }

    /// The query of the page after a token.
    pub(super) fn query_after(&self, token: &str) -> String {
        self.query_with(None, Some(token))
    }

    /// The query of the first page without one of the values.
    pub(super) fn query_without(&self, value: Value) -> String {
        self.query_with(Some(value.at), None)
    }

    /// The query of the first page without any condition.
    pub(super) fn query_without_all(&self) -> String {
        let mut all = self.clone();
        all.values.clear();
        all.query()
    }

    /// The query of the first page with one status instead of those asked for; `None` for all.
    pub(super) fn query_of_status(&self, status: Option<Status>) -> String {
        let mut other = self.clone();
        other
            .values
            .retain(|(at, _)| FIELDS[*at].input != Input::Statuses);
        if let Some(status) = status {
            other.values.insert(0, (0, status.name().to_owned()));
        }
        other.query()
    }

    fn query_with(&self, without: Option<usize>, after: Option<&str>) -> String {
        let values = self.values.iter().enumerate();
        let kept = values.filter(|(at, _)| Some(*at) != without);
        let kept = kept.map(|(_, (field, text))| (FIELDS[*field].name, &**text));
        let order = if self.order == Order::NewestFirst {
            ""
        } else {
            self.order_name()
        };
        let size = if self.size == SIZE {
            String::new()
        } else {
            self.size.to_string()
        };
        let how = [
            ("order", order),
            ("limit", &*size),
            ("after", after.unwrap_or_default()),
        ];
        link::query(kept.chain(how))
    }

    pub(super) fn order_name(&self) -> &'static str {
        let known = ORDERS.iter().find(|(.., order)| *order == self.order);
        known.map_or("", |(name, ..)| *name)
    }
}

impl Field {
    /// Whether the condition may have several values.
    fn is_many(&self) -> bool {
        matches!(self.input, Input::Statuses | Input::Tags)
    }
}

/// Whether an error says that the continuation token is none of this list, for example because the link is old.
pub(super) fn is_stale_token(search: &Search, error: &Error) -> bool {
    search.after.is_some() && error.is_invalid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(query: &str) -> Search {
        Search::parse_text(query)
    }

    #[test]
    fn a_query_becomes_a_filter_and_the_same_query() {
        let query = "?status=Failed&status=Running&name=Order&version=1.2&idPrefix=a%26b&tag=k%3D1&tag=l%3D%3D\
                     &createdFrom=2026-03-01T12%3A00&createdTo=2026-03-02&endedFrom=2026-03-01&endedTo=2026-03-03\
                     &order=oldestFirst&limit=25";
        let found = search(query);
        let at = |text| parse_time(text).unwrap();
        let expected = Filter::new()
            .status(Status::Failed)
            .status(Status::Running)
            .name("Order")
            .version("1.2")
            .id_prefix("a&b")
            .tag("k", "1")
            .tag("l", "=")
            .created_from(at("2026-03-01T12:00Z"))
            .created_to(at("2026-03-02T00:00Z"))
            .ended_from(at("2026-03-01T00:00Z"))
            .ended_to(at("2026-03-03T00:00Z"));
        assert_eq!(found.filter().unwrap(), expected);
        assert_eq!(found.query(), query);
        assert_eq!(found.query_after("t.1"), format!("{query}&after=t.1"));
        assert_eq!(search(&found.query()).filter().unwrap(), expected);
    }

    #[test]
    fn each_chip_removes_one_value() {
        let found = search("?tag=a%3D1&status=Failed,Running&after=x");
        let without = found.values().map(|value| found.query_without(value));
        let without: Vec<String> = without.collect();
        assert_eq!(
            without,
            [
                "?status=Running&tag=a%3D1",
                "?status=Failed&tag=a%3D1",
                "?status=Failed&status=Running"
            ]
        );
        assert_eq!(found.query_without_all(), "");
        assert_eq!(
            found.query_of_status(Some(Status::Pending)),
            "?status=Pending&tag=a%3D1"
        );
        assert_eq!(found.query_of_status(None), "?tag=a%3D1");
    }

    #[test]
    fn what_is_not_understood_selects_nothing() {
        for query in [
            "status=Done",
            "tag=novalue",
            "createdFrom=tomorrow",
            "order=random",
            "name=a&name=b",
        ] {
            let found = search(query);
            assert!(!found.problems.is_empty(), "{query}");
            assert!(
                found.filter().is_err() && found.among(&Status::ALL).is_err(),
                "{query}"
            );
        }
        let many: Vec<String> = (0..40).map(|at| format!("tag=a%3D{at}")).collect();
        assert!(search(&many.join("&")).filter().is_err());
        assert!(search("limit=x&other=1").problems.is_empty());
    }

    #[test]
    fn a_command_applies_to_no_status_that_is_not_asked_for() {
        let live = [Status::Pending, Status::Running, Status::Suspended];
        assert_eq!(search("status=Failed").among(&live).unwrap(), None);
        assert_eq!(search("").among(&Status::ALL).unwrap(), Some(Filter::new()));
        let running = Filter::new().status(Status::Running);
        assert_eq!(
            search("status=Running,Failed").among(&live).unwrap(),
            Some(running)
        );
        assert_eq!(search("order=endedFirst").among(&live).unwrap(), None);
    }

    #[test]
    fn what_began_to_match_later_is_left_out() {
        let five = Timestamp(5);
        let at = Timestamp(6);
        let none = Filter::new;
        assert_eq!(search("").up_to(none(), five, false), none().created_to(at));
        let both = none().created_to(at).updated_to(at);
        assert_eq!(search("").up_to(none(), five, true), both);
        let early = search("createdTo=1970-01-01T00:00:00.002");
        let both = none().created_to(Timestamp(2)).updated_to(at);
        assert_eq!(early.up_to(none(), five, true), both);
    }
}

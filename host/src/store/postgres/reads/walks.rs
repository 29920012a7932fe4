//! The queries of lists and counts: which index each walks.
//!
//! Invariant: each walk names its index, and is in the order of it, so that PostgreSQL can only choose that one. An index that begins with
//! a status is walked once per requested status, and these walks are merged as they go. A condition that the index does not answer becomes a
//! column of each entry, so that whoever reads them sees how far a walk has come and can end it.

use perennial_core::{Status, Timestamp};

use crate::store::codec::int;
use crate::store::numbers::status_number;
use crate::store::postgres::indexes::by;
use crate::store::postgres::session::Param;
use crate::store::queries::filter::{InstanceFilter, ListQuery, Order};
use crate::store::sqlite::rows::walks::{Few, Looked, Walk, prefix_end, statuses};

/// A value of a query.
#[derive(Clone, Debug)]
enum Value {
    Number(i64),
    Text(String),
}

/// The values of a query, in the order of their parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Values(Vec<Value>);

impl Values {
    /// Binds a number, and returns its parameter.
    pub(super) fn number(&mut self, number: i64) -> String {
        self.0.push(Value::Number(number));
        format!("${}::bigint", self.0.len())
    }

    fn text(&mut self, text: &str) -> String {
        self.0.push(Value::Text(text.to_owned()));
        format!("${}::text", self.0.len())
    }

    fn status(&mut self, status: Status) -> String {
        format!(
            "{}::smallint",
            self.number(i64::from(status_number(status)))
        )
    }

    /// The parameters for a query.
    pub(super) fn params(&self) -> Vec<Param<'_>> {
        fn param(value: &Value) -> Param<'_> {
            match value {
                Value::Number(number) => number,
                Value::Text(text) => text,
            }
        }
        self.0.iter().map(param).collect()
    }
}

/// Places, exclusive at both ends.
#[derive(Clone, Copy, Debug)]
struct Range {
    after: (i64, i64),
    before: (i64, i64),
}

impl Range {
    const ALL: Self = Self {
        after: (-1, i64::MAX),
        before: (i64::MAX, i64::MAX),
    };

    /// From a time on, and before another one.
    fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        let mut range = Self::ALL;
        if let Some(from) = from {
            range.after = (int(from.0) - 1, i64::MAX);
        }
        if let Some(to) = to {
            range.before = (int(to.0), i64::MIN);
        }
        range
    }

    /// Only places after that of the last page, in this order.
    fn narrow(mut self, query: &ListQuery) -> Self {
        if let Some((at, key)) = query.after {
            let place = (int(at.0), key);
            match query.order {
                Order::NewestFirst => self.before = self.before.min(place),
                Order::OldestFirst | Order::EndedFirst => self.after = self.after.max(place),
            }
        }
        self
    }

    /// The conditions on the columns of a place.
    fn sql(self, values: &mut Values, (at, key): (&str, &str)) -> String {
        let [a, b] = [self.after.0, self.after.1].map(|number| values.number(number));
        let [c, d] = [self.before.0, self.before.1].map(|number| values.number(number));
        format!("({at}, {key}) > ({a}, {b}) AND ({at}, {key}) < ({c}, {d})")
    }
}

/// A walk over entries, as time, key, and whether the instance there matches, in the order of a page.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) text: String,
    pub(super) values: Values,
    /// The most entries; the query returns one more where more may follow.
    pub(super) most: u32,
}

/// What all walks of a query have in common.
struct Walks<'a> {
    filter: &'a InstanceFilter,
    values: Values,
    /// The order of places.
    direction: &'static str,
    /// The maximum of entries, as a clause.
    limit: String,
    /// What is selected beside place and match.
    beside: &'static str,
}

impl Entries {
    /// The entries of a page, at most as many as `limit` says for whether an entry may not match, and one more. `None` if no instance can
    /// fulfil the filter.
    pub(super) fn page(
        query: &ListQuery,
        few: Few,
        limit: impl FnOnce(bool) -> u32,
    ) -> Option<Self> {
        let filter = &query.filter;
        let walk = match query.order {
            Order::EndedFirst => Walk::Ended,
            Order::NewestFirst | Order::OldestFirst => Walk::of(filter, few),
        };
        let mut walks = Walks {
            filter,
            values: Values::default(),
            direction: match query.order {
                Order::NewestFirst => "DESC",
                Order::OldestFirst | Order::EndedFirst => "ASC",
            },
            limit: String::new(),
            beside: "",
        };
        let others = walks.others(walk, Looked::Afterwards);
        let most = limit(!others.is_empty());
        walks.limit = format!("LIMIT {}", walks.values.number(i64::from(most) + 1));
        let range = walks.range(walk).narrow(query);
        let text = match (walk, statuses(filter, walk)) {
            (Walk::EndedFew, statuses) => {
                let source = walks.ended_few(&statuses.unwrap_or_default())?;
                walks.sorted(&source, Range::ALL.narrow(query), &others)
            }
            (Walk::Prefix, _) => {
                let source = walks.with_prefix();
                walks.sorted(&source, Range::ALL.narrow(query), &others)
            }
            (_, None) => walks.one(walk, None, range, &others),
            (_, Some(statuses)) => walks.merged(walk, &statuses, range, &others)?,
        };
        Some(Self {
            text,
            values: walks.values,
            most,
        })
    }

    /// Counts as rows of status and number; a status may occur several times or with zero. `None` if no instance can fulfil the filter.
    pub(super) fn counts(filter: &InstanceFilter) -> Option<(String, Values)> {
        let mut walks = Walks {
            filter,
            values: Values::default(),
            direction: "ASC",
            limit: String::new(),
            beside: ", i.status AS status",
        };
        let few = match filter.prefix() {
            Some(_) => Few::Prefix,
            None => Few::None,
        };
        let walk = match Walk::of(filter, few) {
            // The index by time alone does not contain the status; the one by status and time does.
            Walk::Created => Walk::Status,
            other => other,
        };
        let Some(statuses) = statuses(filter, walk) else {
            let others = walks.others(walk, Looked::No);
            let entries = if walk == Walk::Prefix {
                let source = walks.with_prefix();
                walks.unsorted(&source, &others)
            } else {
                let range = walks.range(walk);
                walks.one(walk, None, range, &others)
            };
            let text =
                format!("SELECT status, count(*) FROM ({entries}) AS e WHERE fits GROUP BY status");
            return Some((text, walks.values));
        };
        let mut counts = Vec::new();
        for status in statuses {
            let walk = match walk {
                // The index of ended instances has the times.
                Walk::Status if status.is_end() && filter.is_timed() => Walk::Ended,
                other => other,
            };
            let others = walks.others(walk, Looked::No);
            let range = walks.range(walk);
            let entries = walks.one(walk, Some(status), range, &others);
            let status = walks.values.status(status);
            counts.push(format!(
                "SELECT {status} AS status, count(*) FROM ({entries}) AS e WHERE fits"
            ));
        }
        (!counts.is_empty()).then(|| (counts.join(" UNION ALL "), walks.values))
    }
}

impl Walks<'_> {
    /// Where an index is walked, as far as the filter says.
    fn range(&self, walk: Walk) -> Range {
        let filter = self.filter;
        if walk.by_end() {
            let to = [filter.ended_to, filter.updated_to];
            return Range::between(
                filter.ended_from.max(filter.updated_from),
                to.into_iter().flatten().min(),
            );
        }
        Range::between(filter.created_from, filter.created_to)
    }

    /// The conditions that each entry may fulfil or not.
    fn others(&mut self, walk: Walk, looked: Looked) -> Vec<String> {
        let (filter, values) = (self.filter, &mut self.values);
        let mut others = Vec::new();
        if !walk.by_end() {
            if filter.is_of_ended() && !walk.by_status() {
                others.push("i.status >= 3".to_owned());
            }
            let (mut from, mut to) = (vec![filter.ended_from], vec![filter.ended_to]);
            if looked == Looked::No {
                from.push(filter.updated_from);
                to.push(filter.updated_to);
            }
            for (times, beside) in [(from, ">="), (to, "<")] {
                for time in times.into_iter().flatten() {
                    others.push(format!(
                        "i.updated_at {beside} {}",
                        values.number(int(time.0))
                    ));
                }
            }
        }
        if let Some(prefix) = filter.prefix().filter(|_| walk != Walk::Prefix) {
            others.extend(prefix_range(values, prefix));
        }
        if let Some(name) = filter.name.as_ref().filter(|_| walk != Walk::Name) {
            others.push(format!("i.name = {}", values.text(name)));
        }
        if let Some(version) = filter.version.as_ref().filter(|_| walk != Walk::Version) {
            others.push(format!("i.version = {}", values.text(version)));
        }
        for (tag, value) in filter.tags.iter().skip(usize::from(walk == Walk::Tag)) {
            let (tag, value) = (values.text(tag), values.text(value));
            // Not EXISTS, for which PostgreSQL may read all instances with the tag first.
            others.push(format!(
                "(SELECT true FROM instance_tag AS o WHERE o.tag = {tag} AND o.value = {value}
                     AND o.created_at = i.created_at AND o.instance = i.key LIMIT 1)"
            ));
        }
        if walk == Walk::Prefix || walk.by_end() {
            for (time, beside) in [(filter.created_from, ">="), (filter.created_to, "<")] {
                if let Some(time) = time {
                    others.push(format!(
                        "i.created_at {beside} {}",
                        values.number(int(time.0))
                    ));
                }
            }
        }
        if !walk.by_status() && !filter.statuses.is_empty() {
            let wanted = filter
                .statuses
                .iter()
                .map(|status| status_number(*status).to_string());
            others.push(format!(
                "i.status IN ({})",
                wanted.collect::<Vec<_>>().join(", ")
            ));
        }
        others
    }

    /// The entries of one index, where it has one status if one is given.
    fn one(
        &mut self,
        walk: Walk,
        status: Option<Status>,
        range: Range,
        others: &[String],
    ) -> String {
        let values = &mut self.values;
        let of_tags = format!(
            "instance_tag AS t CROSS JOIN LATERAL (SELECT {COLUMNS} FROM instance WHERE key = t.instance OFFSET 0) AS i"
        );
        let (source, place) = match walk {
            Walk::Tag => (&*of_tags, ("t.created_at", "t.instance")),
            Walk::Ended => ("instance AS i", ("i.ended_at", "i.key")),
            _ => ("instance AS i", ("i.created_at", "i.key")),
        };
        let mut clauses = Vec::new();
        match (
            walk,
            &self.filter.name,
            &self.filter.version,
            self.filter.tags.first(),
        ) {
            (Walk::Tag, _, _, Some((tag, value))) => {
                let (tag, value) = (values.text(tag), values.text(value));
                clauses.push(format!("t.tag = {tag} AND t.value = {value}"));
            }
            (Walk::Name, Some(name), ..) => clauses.push(format!("i.name = {}", values.text(name))),
            (Walk::Version, _, Some(version), _) => {
                clauses.push(format!("i.version = {}", values.text(version)));
            }
            (Walk::Ended, ..) => clauses.push("i.ended_at IS NOT NULL".to_owned()),
            _ => {}
        }
        clauses.extend(status.map(|status| format!("i.status = {}", values.status(status))));
        clauses.extend(index(walk).map(str::to_owned));
        clauses.push(range.sql(values, place));
        let (at, key) = place;
        let (beside, direction, limit) = (self.beside, self.direction, &self.limit);
        format!(
            "SELECT {at} AS at, {key} AS key, {} AS fits{beside} FROM {source} WHERE {} ORDER BY {at} {direction}, {key} {direction} {limit}",
            fits(others),
            clauses.join(" AND "),
        )
    }

    /// The entries of several statuses, merged as they are walked. `None` if there is no status.
    fn merged(
        &mut self,
        walk: Walk,
        statuses: &[Status],
        range: Range,
        others: &[String],
    ) -> Option<String> {
        let mut selects: Vec<String> = statuses
            .iter()
            .map(|status| self.one(walk, Some(*status), range, others))
            .collect();
        if selects.len() < 2 {
            return selects.pop();
        }
        let (direction, limit) = (self.direction, &self.limit);
        Some(format!(
            "({}) ORDER BY at {direction}, key {direction} {limit}",
            selects.join(") UNION ALL (")
        ))
    }

    /// All instances that ended in a span. `None` if there is no status.
    fn ended_few(&mut self, statuses: &[Status]) -> Option<String> {
        let range = self.range(Walk::EndedFew);
        let selects: Vec<String> = statuses
            .iter()
            .map(|status| {
                let status = self.values.status(*status);
                let range = range.sql(&mut self.values, ("ended_at", "key"));
                format!(
                    "SELECT {COLUMNS} FROM instance WHERE status = {status} AND ended_at IS NOT NULL AND {} AND {range}
                         ORDER BY ended_at, key OFFSET 0",
                    by!(ended),
                )
            })
            .collect();
        (!selects.is_empty()).then(|| format!("({})", selects.join(") UNION ALL (")))
    }

    /// All instances whose ids have the prefix.
    fn with_prefix(&mut self) -> String {
        let range = prefix_range(&mut self.values, self.filter.prefix().unwrap_or_default());
        format!(
            "SELECT {COLUMNS} FROM instance AS i WHERE {} ORDER BY id OFFSET 0",
            range.join(" AND ")
        )
    }

    /// The entries of a source of few instances, which are sorted.
    fn sorted(&mut self, source: &str, range: Range, others: &[String]) -> String {
        let range = range.sql(&mut self.values, ("i.created_at", "i.key"));
        let (direction, limit) = (self.direction, &self.limit);
        format!(
            "{} WHERE {range} ORDER BY i.created_at {direction}, i.key {direction} {limit}",
            self.unsorted(source, others)
        )
    }

    fn unsorted(&self, source: &str, others: &[String]) -> String {
        format!(
            "SELECT i.created_at AS at, i.key AS key, {} AS fits{} FROM ({source}) AS i",
            fits(others),
            self.beside
        )
    }
}

/// The condition of the index of a walk over instances, unless it is found by ids or through their tags.
fn index(walk: Walk) -> Option<&'static str> {
    match walk {
        Walk::Created => Some(by!(created)),
        Walk::Status => Some(by!(status)),
        Walk::Name => Some(by!(name)),
        Walk::Version => Some(by!(version)),
        Walk::Ended | Walk::EndedFew => Some(by!(ended)),
        Walk::Tag | Walk::Prefix => None,
    }
}

/// The columns that conditions are about.
const COLUMNS: &str = "key, id, name, version, status, created_at, updated_at";

fn fits(others: &[String]) -> String {
    if others.is_empty() {
        "true".to_owned()
    } else {
        format!("({}) IS TRUE", others.join(" AND "))
    }
}

/// The conditions of a prefix.
pub(super) fn prefix_range(values: &mut Values, prefix: &str) -> Vec<String> {
    let mut range = vec![format!("i.id >= {}", values.text(prefix))];
    range.extend(prefix_end(prefix).map(|end| format!("i.id < {}", values.text(&end))));
    range
}

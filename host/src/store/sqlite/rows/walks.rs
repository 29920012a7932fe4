//! The queries of lists and counts: which index each walks.
//!
//! Invariant: each query names its index, chosen here, so that no list walks all instances because SQLite guessed wrong. An index that
//! begins with a status is walked once per requested status, and the pages are merged.

use perennial_core::Status;
use rusqlite::types::Value;

use crate::store::codec::int;
use crate::store::sqlite::rows::filter::{InstanceFilter, ListQuery, Order};
use crate::store::sqlite::rows::instances;

/// The index that a query walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    /// Every instance, by time.
    Created,
    /// By status and time.
    Status,
    /// By name, status and time.
    Name,
    /// By version, status and time.
    Version,
    /// By tag and time.
    Tag,
    /// By id.
    Prefix,
    /// By status and time of the end; only ended instances.
    Ended,
}

impl Walk {
    fn of(filter: &InstanceFilter, by_prefix: bool) -> Self {
        if by_prefix {
            Self::Prefix
        } else if !filter.tags.is_empty() {
            Self::Tag
        } else if filter.name.is_some() {
            Self::Name
        } else if filter.version.is_some() {
            Self::Version
        } else if !filter.statuses.is_empty() {
            Self::Status
        } else {
            Self::Created
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::Created => "instance AS i INDEXED BY instance_created",
            Self::Status => "instance AS i INDEXED BY instance_status",
            Self::Name => "instance AS i INDEXED BY instance_name",
            Self::Version => "instance AS i INDEXED BY instance_version",
            Self::Tag => "instance_tag AS t CROSS JOIN instance AS i ON i.key = t.instance",
            Self::Prefix => "instance AS i INDEXED BY instance_id",
            Self::Ended => "instance AS i INDEXED BY instance_ended",
        }
    }

    /// The columns that order the list.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Tag => ("t.created_at", "t.instance"),
            Self::Ended => ("i.updated_at", "i.key"),
            _ => ("i.created_at", "i.key"),
        }
    }

    /// Whether the index has the status before the time, so that each status is walked separately.
    fn by_status(self) -> bool {
        matches!(
            self,
            Self::Status | Self::Name | Self::Version | Self::Ended
        )
    }
}

/// Whether the found rows are looked at afterwards, so that conditions that no index contains are left to that: SQLite would walk any number
/// of rows to find those that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    No,
    Afterwards,
}

/// A query and its values.
#[derive(Debug, Default)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Sql {
    /// A page of places, as time and key.
    pub(super) fn page(query: &ListQuery, limit: u32, few: bool) -> Self {
        let (mut sql, filter) = (Self::default(), &query.filter);
        let walk = match query.order {
            Order::EndedFirst => Walk::Ended,
            Order::NewestFirst | Order::OldestFirst => Walk::of(filter, few),
        };
        let (at, key) = walk.place();
        let mut clauses = sql.clauses(filter, walk, Looked::Afterwards);
        let (direction, beyond) = match query.order {
            Order::NewestFirst => ("DESC", "<"),
            Order::OldestFirst | Order::EndedFirst => ("ASC", ">"),
        };
        if let Some((after, after_key)) = query.after {
            let (after, after_key) = (sql.value(int(after.0)), sql.value(after_key));
            clauses.push(format!("({at}, {key}) {beyond} ({after}, {after_key})"));
        }
        let select = |status: Option<Status>| {
            let mut clauses = clauses.clone();
            clauses.extend(status.map(|s| format!("i.status = {}", instances::status_number(s))));
            format!(
                "SELECT {at} AS at, {key} AS key FROM {} WHERE {} ORDER BY {at} {direction}, {key} {direction} LIMIT {limit}",
                walk.source(),
                all(&clauses)
            )
        };
        sql.text = match statuses(filter, walk) {
            None => select(None),
            // Only live ones are wanted, in the order of their ends.
            Some(statuses) if statuses.is_empty() => {
                sql.values.clear();
                "SELECT 0 AS at, 0 AS key WHERE 0".to_owned()
            }
            Some(statuses) if statuses.len() == 1 => select(statuses.first().copied()),
            Some(statuses) => {
                let pages = statuses
                    .into_iter()
                    .map(|status| format!("SELECT * FROM ({})", select(Some(status))));
                let pages = pages.collect::<Vec<_>>().join(" UNION ALL ");
                format!("{pages} ORDER BY at {direction}, key {direction} LIMIT {limit}")
            }
        };
        sql
    }

    /// Counts as rows of status and number; a status may occur several times or with zero.
    pub(super) fn counts(filter: &InstanceFilter) -> Self {
        let mut sql = Self::default();
        let walk = match Walk::of(filter, filter.prefix().is_some()) {
            // The index by time alone does not contain the status; the one by status and time does, and is as small.
            Walk::Created => Walk::Status,
            other => other,
        };
        let clauses = sql.clauses(filter, walk, Looked::No);
        sql.text = match statuses(filter, walk) {
            None => format!(
                "SELECT i.status, count(*) FROM {} WHERE {} GROUP BY i.status",
                walk.source(),
                all(&clauses)
            ),
            Some(statuses) => {
                let counts = statuses.into_iter().map(|status| {
                    let mut clauses = clauses.clone();
                    let walk = match walk {
                        // The index of ended instances has the times.
                        Walk::Status if status.is_end() && filter.is_timed() => {
                            clauses.push("i.status >= 3".to_owned());
                            Walk::Ended
                        }
                        other => other,
                    };
                    let status = instances::status_number(status);
                    format!(
                        "SELECT {status}, count(*) FROM {} WHERE {} AND i.status = {status}",
                        walk.source(),
                        all(&clauses)
                    )
                });
                counts.collect::<Vec<_>>().join(" UNION ALL ")
            }
        };
        sql
    }

    /// The conditions of the filter, except statuses that are walked separately.
    fn clauses(&mut self, filter: &InstanceFilter, walk: Walk, looks: Looked) -> Vec<String> {
        let at = match walk {
            Walk::Tag => "t.created_at",
            _ => "i.created_at",
        };
        let mut clauses = Vec::new();
        if walk == Walk::Ended || filter.is_of_ended() {
            // As in the index of ended instances, so that it can be used.
            clauses.push("i.status >= 3".to_owned());
        }
        if let Some(from) = filter.ended_from {
            clauses.push(format!("i.updated_at >= {}", self.value(int(from.0))));
        }
        if let Some(to) = filter.ended_to {
            clauses.push(format!("i.updated_at < {}", self.value(int(to.0))));
        }
        if looks == Looked::No || walk == Walk::Ended {
            if let Some(from) = filter.updated_from {
                clauses.push(format!("i.updated_at >= {}", self.value(int(from.0))));
            }
            if let Some(to) = filter.updated_to {
                clauses.push(format!("i.updated_at < {}", self.value(int(to.0))));
            }
        }
        if let Some(prefix) = filter.prefix() {
            clauses.extend(self.prefix(prefix));
        }
        if let Some(name) = &filter.name {
            clauses.push(format!("i.name = {}", self.value(name.clone())));
        }
        if let Some(version) = &filter.version {
            clauses.push(format!("i.version = {}", self.value(version.clone())));
        }
        for (i, (tag, value)) in filter.tags.iter().enumerate() {
            let (tag, value) = (self.value(tag.clone()), self.value(value.clone()));
            clauses.push(if i == 0 && walk == Walk::Tag {
                format!("t.tag = {tag} AND t.value = {value}")
            } else {
                format!(
                    "EXISTS (SELECT 1 FROM instance_tag WHERE tag = {tag} AND value = {value} AND created_at = i.created_at AND instance = i.key)"
                )
            });
        }
        if let Some(from) = filter.created_from {
            clauses.push(format!("{at} >= {}", self.value(int(from.0))));
        }
        if let Some(to) = filter.created_to {
            clauses.push(format!("{at} < {}", self.value(int(to.0))));
        }
        if !walk.by_status() && !filter.statuses.is_empty() {
            let numbers = filter
                .statuses
                .iter()
                .map(|s| instances::status_number(*s).to_string());
            clauses.push(format!(
                "i.status IN ({})",
                numbers.collect::<Vec<_>>().join(", ")
            ));
        }
        clauses
    }

    /// The conditions of a prefix.
    pub(super) fn prefix(&mut self, prefix: &str) -> Vec<String> {
        let mut range = vec![format!("i.id >= {}", self.value(prefix.to_owned()))];
        range.extend(prefix_end(prefix).map(|end| format!("i.id < {}", self.value(end))));
        range
    }

    /// Binds a value, and returns its parameter.
    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }
}

/// The statuses that are walked separately: all if the index begins with the status and the filter names none.
fn statuses(filter: &InstanceFilter, walk: Walk) -> Option<Vec<Status>> {
    walk.by_status().then(|| {
        let asked =
            |status: &Status| filter.statuses.is_empty() || filter.statuses.contains(status);
        let can_be = |status: &Status| walk != Walk::Ended || status.is_end();
        Status::ALL
            .into_iter()
            .filter(can_be)
            .filter(asked)
            .collect()
    })
}

fn all(clauses: &[String]) -> String {
    if clauses.is_empty() {
        "1".to_owned()
    } else {
        clauses.join(" AND ")
    }
}

/// The smallest text, in the order of bytes, that is greater than every text with this prefix.
fn prefix_end(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

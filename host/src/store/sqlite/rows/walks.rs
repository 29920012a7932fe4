//! The queries of lists and counts: which index each walks.
//!
//! Invariant: each query names its index, chosen here, so that no list walks all instances because SQLite guessed wrong. An index that
//! begins with a status is walked once per requested status, and these walks are merged as they go. A condition that the index does not
//! answer becomes a column of each entry, so that whoever reads them sees how far a walk has come and can end it.

use perennial_core::Status;
use rusqlite::types::Value;

use crate::store::codec::int;
use crate::store::numbers::status_number;
use crate::store::queries::filter::{InstanceFilter, ListQuery, Order};

/// The index that a query walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Walk {
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
    /// As by the end, where few ended in the wanted time; sorted by the time of their creation afterwards.
    EndedFew,
}

/// A condition that so few instances fulfil that all of them are looked up and sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Few {
    None,
    /// The prefix of the id.
    Prefix,
    /// The time of the end.
    Ended,
}

impl Walk {
    /// The index for a filter, in the order of creation.
    pub(in crate::store) fn of(filter: &InstanceFilter, few: Few) -> Self {
        match few {
            Few::Prefix => return Self::Prefix,
            Few::Ended => return Self::EndedFew,
            Few::None => {}
        }
        if !filter.tags.is_empty() {
            Self::Tag
        } else if filter.name.is_some() {
            Self::Name
        } else if filter.version.is_some() {
            Self::Version
        } else if !filter.statuses.is_empty() || filter.is_of_ended() {
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
            Self::Ended | Self::EndedFew => "instance AS i INDEXED BY instance_ended",
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
    pub(in crate::store) fn by_status(self) -> bool {
        matches!(
            self,
            Self::Status | Self::Name | Self::Version | Self::Ended | Self::EndedFew
        )
    }

    /// Whether only ended instances are walked, by the time of the end.
    pub(in crate::store) fn by_end(self) -> bool {
        matches!(self, Self::Ended | Self::EndedFew)
    }
}

/// Whether the found rows are looked at afterwards, so that conditions that no index contains are left to that: SQLite would walk any number
/// of rows to find those that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Looked {
    No,
    Afterwards,
}

/// A query and its values.
#[derive(Debug, Default)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
    /// Entries of a page; the query returns one more where more may follow.
    pub(super) most: u32,
}

impl Sql {
    /// Places in the order of a page, as time, key, and whether the instance there matches. At most `most`, or `walked_max` where an entry
    /// of the index may not match, and one more.
    pub(super) fn page(query: &ListQuery, most: u32, walked_max: u32, few: Few) -> Self {
        let (mut sql, filter) = (Self::default(), &query.filter);
        let walk = match query.order {
            Order::EndedFirst => Walk::Ended,
            Order::NewestFirst | Order::OldestFirst => Walk::of(filter, few),
        };
        let (at, key) = walk.place();
        let Clauses {
            mut indexed,
            others,
        } = sql.clauses(filter, walk, Looked::Afterwards);
        let (direction, beyond) = match query.order {
            Order::NewestFirst => ("DESC", "<"),
            Order::OldestFirst | Order::EndedFirst => ("ASC", ">"),
        };
        if let Some((after, after_key)) = query.after {
            let (after, after_key) = (sql.value(int(after.0)), sql.value(after_key));
            indexed.push(format!("({at}, {key}) {beyond} ({after}, {after_key})"));
        }
        sql.most = if others.is_empty() { most } else { walked_max };
        let limit = sql.most.saturating_add(1);
        let select = |status: Option<Status>| {
            let mut clauses = indexed.clone();
            clauses.extend(status.map(|s| format!("i.status = {}", status_number(s))));
            format!(
                "SELECT {at} AS at, {key} AS key, ({}) IS TRUE AS fits FROM {} WHERE {}",
                all(&others),
                walk.source(),
                all(&clauses)
            )
        };
        let selects: Vec<String> = match statuses(filter, walk) {
            None => vec![select(None)],
            Some(statuses) => statuses.into_iter().map(|s| select(Some(s))).collect(),
        };
        if selects.is_empty() {
            return Self::no_rows("0 AS at, 0 AS key, 0 AS fits");
        }
        sql.text = format!(
            "{} ORDER BY at {direction}, key {direction} LIMIT {limit}",
            selects.join(" UNION ALL ")
        );
        sql
    }

    /// The query of a filter that no instance can fulfil: only live ones, by their ends.
    fn no_rows(columns: &str) -> Self {
        Self {
            text: format!("SELECT {columns} WHERE 0"),
            ..Self::default()
        }
    }

    /// Counts as rows of status and number; a status may occur several times or with zero.
    pub(super) fn counts(filter: &InstanceFilter) -> Self {
        let mut sql = Self::default();
        let few = match filter.prefix() {
            Some(_) => Few::Prefix,
            None => Few::None,
        };
        let walk = match Walk::of(filter, few) {
            // The index by time alone does not contain the status; the one by status and time does, and is as small.
            Walk::Created => Walk::Status,
            other => other,
        };
        let Clauses {
            indexed: mut clauses,
            others,
        } = sql.clauses(filter, walk, Looked::No);
        clauses.extend(others);
        sql.text = match statuses(filter, walk) {
            None => format!(
                "SELECT i.status, count(*) FROM {} WHERE {} GROUP BY i.status",
                walk.source(),
                all(&clauses)
            ),
            Some(statuses) if statuses.is_empty() => return Self::no_rows("0, 0"),
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
                    let status = status_number(status);
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
    fn clauses(&mut self, filter: &InstanceFilter, walk: Walk, looks: Looked) -> Clauses {
        let mut clauses = Clauses::default();
        self.ends(filter, walk, looks, &mut clauses);
        if let Some(prefix) = filter.prefix() {
            let range = self.prefix(prefix);
            clauses.of(walk == Walk::Prefix).extend(range);
        }
        if let Some(name) = &filter.name {
            let is_name = format!("i.name = {}", self.value(name.clone()));
            clauses.of(walk == Walk::Name).push(is_name);
        }
        if let Some(version) = &filter.version {
            let is_version = format!("i.version = {}", self.value(version.clone()));
            clauses.of(walk == Walk::Version).push(is_version);
        }
        for (i, (tag, value)) in filter.tags.iter().enumerate() {
            let (tag, value) = (self.value(tag.clone()), self.value(value.clone()));
            if i == 0 && walk == Walk::Tag {
                clauses
                    .indexed
                    .push(format!("t.tag = {tag} AND t.value = {value}"));
            } else {
                clauses.others.push(format!(
                    "EXISTS (SELECT 1 FROM instance_tag WHERE tag = {tag} AND value = {value} AND created_at = i.created_at AND instance = i.key)"
                ));
            }
        }
        let at = match walk {
            Walk::Tag => "t.created_at",
            _ => "i.created_at",
        };
        let by_creation = walk != Walk::Prefix && !walk.by_end();
        for (time, beside) in [(filter.created_from, ">="), (filter.created_to, "<")] {
            if let Some(time) = time {
                let bound = format!("{at} {beside} {}", self.value(int(time.0)));
                clauses.of(by_creation).push(bound);
            }
        }
        if !walk.by_status() && !filter.statuses.is_empty() {
            let numbers = filter
                .statuses
                .iter()
                .map(|s| status_number(*s).to_string());
            let numbers = numbers.collect::<Vec<_>>().join(", ");
            clauses.others.push(format!("i.status IN ({numbers})"));
        }
        clauses
    }

    /// The conditions about the time of the end and of the last update.
    fn ends(&mut self, filter: &InstanceFilter, walk: Walk, looks: Looked, clauses: &mut Clauses) {
        if walk.by_end() {
            // As in the index of ended instances, so that it can be used.
            clauses.indexed.push("i.status >= 3".to_owned());
        } else if filter.is_of_ended() && !walk.by_status() {
            clauses.others.push("i.status >= 3".to_owned());
        }
        let (mut from, mut to) = (vec![filter.ended_from], vec![filter.ended_to]);
        if looks == Looked::No || walk.by_end() {
            from.push(filter.updated_from);
            to.push(filter.updated_to);
        }
        for (times, beside) in [(from, ">="), (to, "<")] {
            for time in times.into_iter().flatten() {
                let bound = format!("i.updated_at {beside} {}", self.value(int(time.0)));
                clauses.of(walk.by_end()).push(bound);
            }
        }
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

/// The conditions of a query.
#[derive(Debug, Default)]
struct Clauses {
    /// Those that say where in the index a walk begins and ends.
    indexed: Vec<String>,
    /// Those that each entry in between may fulfil or not.
    others: Vec<String>,
}

impl Clauses {
    fn of(&mut self, is_indexed: bool) -> &mut Vec<String> {
        if is_indexed {
            &mut self.indexed
        } else {
            &mut self.others
        }
    }
}

/// The statuses that are walked separately: all if the index begins with the status and the filter names none.
pub(in crate::store) fn statuses(filter: &InstanceFilter, walk: Walk) -> Option<Vec<Status>> {
    walk.by_status().then(|| {
        let asked =
            |status: &Status| filter.statuses.is_empty() || filter.statuses.contains(status);
        let can_be = |status: &Status| status.is_end() || !(walk.by_end() || filter.is_of_ended());
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
pub(in crate::store) fn prefix_end(prefix: &str) -> Option<String> {
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

//! Lists and counts of instances, under filters.
//!
//! Invariant: each query names its index, chosen here, so that no list walks all instances because SQLite guessed wrong. An index that
//! begins with a status is walked once per requested status, and the pages are merged.

use std::collections::BTreeMap;

use perennial_core::{Status, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::store::codec::{int, uint};
use crate::store::rows::instances;
use crate::store::rows::looks::{LOOKED_MAX, Looks};
use crate::store::rows::queries::{COLUMNS, instance_of};
use crate::store::rows::waits::WaitFilter;
use crate::store::{InstanceKey, InstanceRow, Reader, StoreError};

/// Up to this many ids with a prefix are looked up and sorted. With more, a walk in the order of time soon fills a page.
const FEW: u32 = 1_000;

/// A page ends early once its rows have this many bytes.
pub(crate) const PAGE_BYTES_MAX: usize = 2 << 20;

/// A filter of instances; all its conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstanceFilter {
    /// Any of these; empty means all.
    pub(crate) statuses: Vec<Status>,
    pub(crate) id_prefix: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    /// The instance has all of these.
    pub(crate) tags: Vec<(String, String)>,
    /// Created at this time or later.
    pub(crate) created_from: Option<Timestamp>,
    /// Created before this time.
    pub(crate) created_to: Option<Timestamp>,
    /// Ended at this time or later.
    pub(crate) ended_from: Option<Timestamp>,
    /// Ended before this time.
    pub(crate) ended_to: Option<Timestamp>,
    /// Last updated at this time or later.
    pub(crate) updated_from: Option<Timestamp>,
    /// Last updated before this time.
    pub(crate) updated_to: Option<Timestamp>,
    /// Failed with a failure of this kind.
    pub(crate) failure_kind: Option<String>,
    /// Live, and waits for this.
    pub(crate) waits_for: Option<WaitFilter>,
}

/// The order of a list: by the time at which the start was accepted, or by the time of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The newest first.
    #[default]
    NewestFirst,
    /// The oldest first.
    OldestFirst,
    /// Only ended instances, those that ended first come first.
    EndedFirst,
}

/// A place in the order of a list.
pub(crate) type ListPlace = (Timestamp, i64);

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListQuery {
    pub(crate) filter: InstanceFilter,
    pub(crate) order: Order,
    /// Only instances after this place.
    pub(crate) after: Option<ListPlace>,
    pub(crate) limit: u32,
    /// Whether the rows include the output.
    pub(crate) output: bool,
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListPage {
    pub(crate) rows: Vec<InstanceRow>,
    /// Whether more instances may follow.
    pub(crate) more: bool,
    /// The place up to which instances were looked at, if that is further than the last row.
    pub(crate) looked_to: Option<ListPlace>,
}

/// A page of what bulk operations need.
#[derive(Clone, Debug, Default)]
pub(crate) struct BriefPage {
    pub(crate) found: Vec<Brief>,
    /// The place after which the next page begins; `None` on the last one. A page before the last one may have no instances.
    pub(crate) next: Option<ListPlace>,
}

/// The columns that bulk operations need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Brief {
    pub(crate) place: ListPlace,
    pub(crate) key: InstanceKey,
    pub(crate) id: String,
}

impl Reader {
    /// A page of instances.
    pub(crate) fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        let columns = if query.output {
            COLUMNS.to_owned()
        } else {
            COLUMNS.replace(" output,", " NULL AS output,")
        };
        let sql = format!("SELECT {columns} FROM instance WHERE key = ?1");
        self.with(|db| {
            // One snapshot for keys and rows.
            let tx = db.unchecked_transaction()?;
            let Stretch { keys, next } = stretch(&tx, query)?;
            let mut page = ListPage {
                more: next.is_some(),
                rows: Vec::with_capacity(keys.len()),
                looked_to: next,
            };
            let (mut select, mut bytes) = (tx.prepare_cached(&sql)?, 0);
            for (i, (_, key)) in keys.iter().enumerate() {
                let mut rows = select.query([key])?;
                let Some(row) = rows.next()? else { continue };
                let row = instance_of(row)?;
                bytes += row.size();
                page.rows.push(row);
                if bytes > PAGE_BYTES_MAX {
                    if i + 1 < keys.len() {
                        (page.more, page.looked_to) = (true, None);
                    }
                    break;
                }
            }
            Ok(page)
        })
    }

    /// As [`list`](Self::list), but only the columns that bulk operations need.
    pub(crate) fn brief(&self, query: &ListQuery) -> Result<BriefPage, StoreError> {
        self.with(|db| {
            let tx = db.unchecked_transaction()?;
            let Stretch { keys, next } = stretch(&tx, query)?;
            let mut select = tx.prepare_cached("SELECT id FROM instance WHERE key = ?1")?;
            let mut found = Vec::with_capacity(keys.len());
            for (at, key) in keys {
                found.push(Brief {
                    place: (at, key),
                    key: InstanceKey(key),
                    id: select.query_row([key], |row| row.get(0))?,
                });
            }
            Ok(BriefPage { found, next })
        })
    }

    /// The number of instances in each status; statuses without any are left out.
    ///
    /// A condition that no index contains takes several reads, so that no connection is held for long. They are no snapshot.
    pub(crate) fn counts(&self, filter: &InstanceFilter) -> Result<Vec<(Status, u64)>, StoreError> {
        if filter.needs_contents() {
            return self.counts_of_looks(filter);
        }
        let Sql { text, values } = Sql::counts(filter);
        self.with(|db| {
            let mut query = db.prepare_cached(&text)?;
            let mut rows = query.query(params_from_iter(values))?;
            let mut counts = Vec::new();
            while let Some(row) = rows.next()? {
                let count = uint(row.get(1)?);
                if count > 0 {
                    counts.push((instances::status_of(row.get(0)?)?, count));
                }
            }
            counts.sort_unstable();
            Ok(counts)
        })
    }

    fn counts_of_looks(&self, filter: &InstanceFilter) -> Result<Vec<(Status, u64)>, StoreError> {
        let mut query = ListQuery {
            filter: filter.clone(),
            order: Order::OldestFirst,
            limit: u32::MAX,
            ..ListQuery::default()
        };
        let mut counts = BTreeMap::new();
        loop {
            query.after = self.with(|db| {
                let tx = db.unchecked_transaction()?;
                walk(&tx, &query, |_, status| {
                    *counts.entry(status).or_insert(0) += u64::from(status.is_some());
                })
            })?;
            if query.after.is_none() {
                let known =
                    |(status, count)| Option::<Status>::map(status, |status| (status, count));
                return Ok(counts.into_iter().filter_map(known).collect());
            }
        }
    }

    /// The key with which the hub signs continuation tokens.
    pub(crate) fn secret(&self) -> Result<Vec<u8>, StoreError> {
        self.with(|db| Ok(db.query_row("SELECT secret FROM hub", [], |row| row.get(0))?))
    }

    /// SQLite's query plans for a page and for a count.
    #[cfg(test)]
    pub(crate) fn plans(&self, query: &ListQuery) -> Result<Vec<String>, StoreError> {
        self.with(|db| {
            let mut plans = Vec::new();
            let narrowed = query.filter.narrowed().unwrap();
            let query = &ListQuery {
                filter: narrowed,
                ..query.clone()
            };
            let page = Sql::page(query, query.limit, few(db, &query.filter)?);
            for sql in [page, Sql::counts(&query.filter)] {
                let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.text))?;
                let detail = |row: &rusqlite::Row<'_>| row.get::<_, String>(3);
                let rows = explain.query_map(params_from_iter(sql.values), detail)?;
                plans.extend(rows.collect::<Result<Vec<_>, _>>()?);
            }
            Ok(plans)
        })
    }
}

/// The keys of a page, in its order.
struct Stretch {
    keys: Vec<ListPlace>,
    /// The place after which the next page begins, if there may be one.
    next: Option<ListPlace>,
}

fn stretch(db: &Connection, query: &ListQuery) -> Result<Stretch, StoreError> {
    let mut keys = Vec::new();
    let next = walk(db, query, |place, _| keys.push(place))?;
    Ok(Stretch { keys, next })
}

/// Calls `found` with the places of a page, in its order, and with the statuses of those that had to be looked at. Returns the place after
/// which the next page begins, if there may be one.
fn walk(
    db: &Connection,
    query: &ListQuery,
    mut found: impl FnMut(ListPlace, Option<Status>),
) -> Result<Option<ListPlace>, StoreError> {
    let Some(filter) = query.filter.narrowed() else {
        return Ok(None);
    };
    let query = &ListQuery {
        filter,
        ..query.clone()
    };
    let filter = &query.filter;
    let mut looks = filter.needs_looks().then(|| Looks::new(db, filter));
    // One more candidate tells whether more follow.
    let candidates = if looks.is_some() {
        LOOKED_MAX
    } else {
        query.limit
    };
    let Sql { text, values } = Sql::page(query, candidates.saturating_add(1), few(db, filter)?);
    let mut statement = db.prepare_cached(&text)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut count, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        if count == query.limit || looks.as_ref().is_some_and(Looks::are_over) {
            return Ok(last);
        }
        let place = (Timestamp(uint(row.get(0)?)), row.get(1)?);
        last = Some(place);
        let status = match &mut looks {
            Some(looks) => match looks.look(place.1)? {
                None => continue,
                status => status,
            },
            None => None,
        };
        count += 1;
        found(place, status);
    }
    Ok(None)
}

/// Whether at most [`FEW`] ids have the prefix, so that looking them up is best.
fn few(db: &Connection, filter: &InstanceFilter) -> Result<bool, StoreError> {
    let Some(prefix) = filter.prefix() else {
        return Ok(false);
    };
    let mut sql = Sql::default();
    let range = sql.prefix(prefix).join(" AND ");
    let text = format!(
        "SELECT count(*) FROM (SELECT 1 FROM instance AS i INDEXED BY instance_id WHERE {range} LIMIT {})",
        FEW + 1
    );
    let mut count = db.prepare_cached(&text)?;
    let found: u32 = count.query_row(params_from_iter(sql.values), |row| row.get(0))?;
    Ok(found <= FEW)
}

impl InstanceFilter {
    fn prefix(&self) -> Option<&str> {
        self.id_prefix
            .as_deref()
            .filter(|prefix| !prefix.is_empty())
    }

    /// Whether a condition is about the time of the end or of the last update.
    fn is_timed(&self) -> bool {
        self.is_of_ended() || self.updated_from.is_some() || self.updated_to.is_some()
    }

    /// Whether a condition holds only for ended instances.
    fn is_of_ended(&self) -> bool {
        self.ended_from.is_some() || self.ended_to.is_some()
    }
}

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
struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    /// A page of places, as time and key.
    fn page(query: &ListQuery, limit: u32, few: bool) -> Self {
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
    fn counts(filter: &InstanceFilter) -> Self {
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

    fn prefix(&mut self, prefix: &str) -> Vec<String> {
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

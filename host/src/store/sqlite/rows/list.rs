//! Lists and counts of instances, under filters.

use std::collections::BTreeMap;

use perennial_core::{Status, Timestamp};
use rusqlite::{Connection, params_from_iter};

use crate::store::codec::uint;
use crate::store::numbers::status_of;
use crate::store::queries::filter::{InstanceFilter, ListPlace, ListQuery, Order};
use crate::store::queries::found::BriefPage;
use crate::store::queries::found::{Brief, ListPage};
use crate::store::queries::looks::{LOOKED_MAX, Looks};
use crate::store::sqlite::rows::looks::looks as looks_of;
use crate::store::sqlite::rows::overview::count_between;
use crate::store::sqlite::rows::queries::{COLUMNS, instance_of};
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::sqlite::rows::walks::{Few, Sql};
use crate::store::{InstanceKey, StoreError};

/// Up to this many ids with a prefix are looked up and sorted. With more, a walk in the order of time soon fills a page.
pub(in crate::store) const FEW: u32 = 1_000;

/// The same for instances that ended in a span of time, because a walk in the order of creation may pass most of a hub before it comes to
/// one of them.
pub(in crate::store) const FEW_ENDED: u64 = if cfg!(test) { 2_000 } else { 50_000 };

/// Entries of an index that a page walks: some 50 ms. Few in the tests of this crate, so that they cover it.
pub(in crate::store) const WALKED_MAX: u32 = if cfg!(test) { 2_000 } else { 100_000 };

/// A page ends early once its rows have this many bytes.
pub(crate) const PAGE_BYTES_MAX: usize = 2 << 20;

impl FileReader {
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
        let Sql { text, values, .. } = Sql::counts(filter);
        self.with(|db| {
            let mut query = db.prepare_cached(&text)?;
            let mut rows = query.query(params_from_iter(values))?;
            let mut counts = Vec::new();
            while let Some(row) = rows.next()? {
                let count = uint(row.get(1)?);
                if count > 0 {
                    counts.push((status_of(row.get(0)?)?, count));
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
            let few = few(db, &query.filter)?;
            let page = Sql::page(query, query.limit, WALKED_MAX, few);
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
    let mut looks = filter.needs_looks().then(|| looks_of(db, filter));
    let candidates = if looks.is_some() {
        LOOKED_MAX
    } else {
        query.limit
    };
    let few = few(db, filter)?;
    let Sql { text, values, most } = Sql::page(query, candidates, WALKED_MAX, few);
    let mut statement = db.prepare_cached(&text)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut count, mut walked, mut last) = (0, 0, None);
    while let Some(row) = rows.next()? {
        let is_over = walked == most || looks.as_ref().is_some_and(Looks::are_over);
        if count == query.limit || is_over {
            return Ok(last);
        }
        walked += 1;
        let place = (Timestamp(uint(row.get(0)?)), row.get(1)?);
        last = Some(place);
        if !row.get::<_, bool>(2)? {
            continue;
        }
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

/// The condition that few instances fulfil, if there is one.
fn few(db: &Connection, filter: &InstanceFilter) -> Result<Few, StoreError> {
    Ok(if is_prefix_of_few(db, filter)? {
        Few::Prefix
    } else if have_few_ended(db, filter)? {
        Few::Ended
    } else {
        Few::None
    })
}

/// Whether at most [`FEW`] ids have the prefix.
fn is_prefix_of_few(db: &Connection, filter: &InstanceFilter) -> Result<bool, StoreError> {
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

/// Whether only ended instances are wanted, and at most [`FEW_ENDED`] of them ended in the wanted time.
fn have_few_ended(db: &Connection, filter: &InstanceFilter) -> Result<bool, StoreError> {
    let Some((statuses, span)) = ended_span(filter) else {
        return Ok(false);
    };
    let mut left = FEW_ENDED;
    for status in statuses {
        let found = count_between(db, Some(status), span, left)?;
        match left.checked_sub(found) {
            Some(rest) => left = rest,
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// If only ended instances are wanted: in which statuses, and the span of time, without its end, in which they ended.
pub(in crate::store) fn ended_span(
    filter: &InstanceFilter,
) -> Option<(Vec<Status>, (Timestamp, Timestamp))> {
    let is_end = |status: &Status| status.is_end();
    let only_ended = !filter.statuses.is_empty() && filter.statuses.iter().all(is_end);
    let is_bounded = filter.is_of_ended() || only_ended && filter.is_timed();
    if !is_bounded {
        return None;
    }
    let from = filter.ended_from.max(filter.updated_from);
    let ends = [filter.ended_to, filter.updated_to].into_iter().flatten();
    let span = (
        from.unwrap_or_default(),
        ends.min().unwrap_or(Timestamp(u64::MAX)),
    );
    let is_wanted =
        |status: &Status| filter.statuses.is_empty() || filter.statuses.contains(status);
    let statuses = Status::ALL.into_iter().filter(is_end).filter(is_wanted);
    Some((statuses.collect(), span))
}

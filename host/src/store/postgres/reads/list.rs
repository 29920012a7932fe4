//! Lists and counts of instances, under filters.

use std::collections::BTreeMap;

use perennial_core::{Status, Timestamp};
use tokio_postgres::Row;

use crate::store::codec::uint;
use crate::store::numbers::status_of;
use crate::store::postgres::pool::Conn;
use crate::store::postgres::reads::instances::{COLUMNS, instance_of};
use crate::store::postgres::reads::looks::{Chunk, OF_ENTRIES, looked};
use crate::store::postgres::reads::overview::count_ended;
use crate::store::postgres::reads::walks::{Entries, Values, prefix_range};
use crate::store::postgres::reads::{PostgresReader, has_nul};
use crate::store::postgres::source::state;
use crate::store::queries::filter::{InstanceFilter, ListPlace, ListQuery, Order};
use crate::store::queries::found::{Brief, BriefPage, ListPage};
use crate::store::queries::looks::LOOKED_MAX;
use crate::store::sqlite::rows::list::{FEW, FEW_ENDED, PAGE_BYTES_MAX, WALKED_MAX};
use crate::store::sqlite::rows::walks::Few;
use crate::store::{InstanceKey, StoreError};

/// Instances of the first of several queries that look at candidates, and of the largest one.
const CHUNK_MIN: u32 = 100;
const CHUNK_MAX: u32 = 2_000;

impl PostgresReader {
    pub(in crate::store) fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        let Some(query) = possible(query) else {
            return Ok(ListPage::default());
        };
        if query.filter.needs_looks() {
            return self.pool.snapshot(|conn| {
                let (places, next) = walk(conn, &query)?;
                let (ats, keys) = columns(&places);
                let source = "SELECT u.at, u.key, true AS fits, u.n FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u(at, key, n)";
                let rows = conn.query(&rows_sql(source, query.output), &[&ats, &keys])?;
                page(&rows, next, places.len())
            });
        }
        self.pool.read(|conn| {
            let Some(entries) = entries(conn, &query)? else {
                return Ok(ListPage::default());
            };
            let Entries {
                text,
                mut values,
                most,
            } = entries;
            let source = filtered(&text, &mut values, query.limit, most);
            let rows = conn.query(&rows_sql(&source, query.output), &values.params())?;
            let (places, next) = matches(&rows, 34, query.limit, most)?;
            page(&rows, next, places.len())
        })
    }

    pub(in crate::store) fn brief(&self, query: &ListQuery) -> Result<BriefPage, StoreError> {
        let Some(query) = possible(query) else {
            return Ok(BriefPage::default());
        };
        let with_ids = |source: &str| {
            format!(
                "SELECT (SELECT id FROM instance WHERE key = e.key AND e.fits), e.at, e.key, e.fits, e.n FROM ({source}) AS e ORDER BY e.n"
            )
        };
        let brief = |row: &Row| -> Result<Brief, StoreError> {
            let (_, place, _) = entry(row, 1)?;
            Ok(Brief {
                place,
                key: InstanceKey(place.1),
                id: row.try_get(0)?,
            })
        };
        let found = |rows: &[Row], count: usize| -> Result<Vec<Brief>, StoreError> {
            let fits = rows.iter().filter(|row| row.try_get(3).unwrap_or(false));
            fits.take(count).map(brief).collect()
        };
        if query.filter.needs_looks() {
            return self.pool.snapshot(|conn| {
                let (places, next) = walk(conn, &query)?;
                let (ats, keys) = columns(&places);
                let source = "SELECT u.at, u.key, true AS fits, u.n FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u(at, key, n)";
                let rows = conn.query(&with_ids(source), &[&ats, &keys])?;
                Ok(BriefPage {
                    found: found(&rows, places.len())?,
                    next,
                })
            });
        }
        self.pool.read(|conn| {
            let Some(entries) = entries(conn, &query)? else {
                return Ok(BriefPage::default());
            };
            let Entries {
                text,
                mut values,
                most,
            } = entries;
            let source = filtered(&text, &mut values, query.limit, most);
            let rows = conn.query(&with_ids(&source), &values.params())?;
            let (places, next) = matches(&rows, 1, query.limit, most)?;
            Ok(BriefPage {
                found: found(&rows, places.len())?,
                next,
            })
        })
    }

    pub(in crate::store) fn counts(
        &self,
        filter: &InstanceFilter,
    ) -> Result<Vec<(Status, u64)>, StoreError> {
        if filter.needs_contents() {
            return self.counts_of_looks(filter);
        }
        let sql = if is_possible(filter) {
            Entries::counts(filter)
        } else {
            None
        };
        let Some((text, values)) = sql else {
            return Ok(Vec::new());
        };
        let mut counts = Vec::new();
        for row in &self.query(&text, &values.params())? {
            let count = uint(row.try_get(1)?);
            if count > 0 {
                counts.push((status_of(state(row, 0)?)?, count));
            }
        }
        counts.sort_unstable();
        Ok(counts)
    }

    fn counts_of_looks(&self, filter: &InstanceFilter) -> Result<Vec<(Status, u64)>, StoreError> {
        let query = ListQuery {
            filter: filter.clone(),
            order: Order::OldestFirst,
            limit: u32::MAX,
            ..ListQuery::default()
        };
        let mut counts = BTreeMap::new();
        let Some(mut query) = possible(&query) else {
            return Ok(Vec::new());
        };
        loop {
            let (found, next) = self.pool.snapshot(|conn| {
                let mut found = Vec::new();
                let next = walk_each(conn, &query, |_, status| found.push(status))?;
                Ok((found, next))
            })?;
            for status in found {
                *counts.entry(status).or_insert(0) += 1;
            }
            query.after = next;
            if query.after.is_none() {
                return Ok(counts.into_iter().collect());
            }
        }
    }
}

/// Whether instances can fulfil the filter: no text in the hub has a NUL, and asking for one would be an error.
fn is_possible(filter: &InstanceFilter) -> bool {
    let texts = [&filter.id_prefix, &filter.name, &filter.version];
    let tags = filter.tags.iter().flat_map(|(tag, value)| [tag, value]);
    !texts
        .into_iter()
        .flatten()
        .chain(tags)
        .any(|text| has_nul(text))
}

/// The query with only those statuses in which an instance can match; `None` if none can.
fn possible(query: &ListQuery) -> Option<ListQuery> {
    if !is_possible(&query.filter) {
        return None;
    }
    Some(ListQuery {
        filter: query.filter.narrowed()?,
        ..query.clone()
    })
}

/// The places of a page, and the one after which the next page begins.
type Stretch = (Vec<ListPlace>, Option<ListPlace>);

fn columns(places: &[ListPlace]) -> (Vec<i64>, Vec<i64>) {
    places
        .iter()
        .map(|(at, key)| (crate::store::codec::int(at.0), *key))
        .unzip()
}

/// The entries of a page.
fn entries(conn: &Conn<'_>, query: &ListQuery) -> Result<Option<Entries>, StoreError> {
    let few = few(conn, &query.filter)?;
    let limit = |may_differ| if may_differ { WALKED_MAX } else { query.limit };
    Ok(Entries::page(query, few, limit))
}

/// The entries that match, at most `limit`, and those that say where the next page begins: the first one after the last of these, or the last
/// one and the first one beyond the bound. The walk ends there.
fn filtered(entries: &str, values: &mut Values, limit: u32, most: u32) -> String {
    let [limit, most] = [limit, most].map(|number| values.number(i64::from(number)));
    format!(
        "SELECT at, key, fits, n FROM
             (SELECT at, key, fits, row_number() OVER () AS n,
                  count(*) FILTER (WHERE fits) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM ({entries}) AS w) AS c
         WHERE (fits AND before < {limit}) OR before = {limit} OR n >= {most} LIMIT {limit} + 1"
    )
}

/// The instances of entries, in their order. Contents that would not be on a page any more, because of its bytes, are left out, and the last
/// column says so.
fn rows_sql(source: &str, output: bool) -> String {
    let is_cut = format!("coalesce(i.e_before, 0) > {PAGE_BYTES_MAX}");
    let mut columns = COLUMNS.to_owned();
    for column in ["custom_status", "output", "failure", "waiting"] {
        let only = format!(" CASE WHEN {is_cut} THEN NULL ELSE i.{column} END,");
        columns = columns.replace(&format!(" i.{column},"), &only);
    }
    let mut bytes = "coalesce(octet_length(i.output), 0) + ";
    if !output {
        let shown = format!(" CASE WHEN {is_cut} THEN NULL ELSE i.output END,");
        columns = columns.replace(&shown, " NULL::text,");
        bytes = "";
    }
    // An encoded failure has less than twice the bytes of its texts, beside what a row has anyway.
    format!(
        "SELECT {columns}, i.e_at, i.e_key, i.e_fits, i.e_n, {is_cut} FROM
             (SELECT i.*, e.at AS e_at, e.key AS e_key, e.fits AS e_fits, e.n AS e_n,
                  sum({bytes}coalesce(octet_length(i.custom_status), 0) + coalesce(octet_length(i.failure), 0) / 2) OVER
                      (ORDER BY e.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS e_before
              FROM ({source}) AS e {OF_ENTRIES}) AS i
         ORDER BY i.e_n"
    )
}

/// Reads an entry whose columns from this one on are time, key, match, and number: the number, the place, and the match.
fn entry(row: &Row, first: usize) -> Result<(i64, ListPlace, bool), StoreError> {
    let at: i64 = row.try_get(first)?;
    Ok((
        row.try_get(first + 3)?,
        (Timestamp(uint(at)), row.try_get(first + 1)?),
        row.try_get(first + 2)?,
    ))
}

/// The places of a page among [`filtered`] entries.
fn matches(rows: &[Row], first: usize, limit: u32, most: u32) -> Result<Stretch, StoreError> {
    let (mut places, mut last) = (Vec::new(), None);
    for row in rows {
        let (number, place, fits) = entry(row, first)?;
        if places.len() == limit as usize || number > i64::from(most) {
            return Ok((places, last));
        }
        last = Some(place);
        if fits {
            places.push(place);
        }
    }
    Ok((places, None))
}

/// The page with the rows of so many places, up to its bytes.
fn page(rows: &[Row], next: Option<ListPlace>, count: usize) -> Result<ListPage, StoreError> {
    let mut page = ListPage {
        more: next.is_some(),
        rows: Vec::with_capacity(count),
        looked_to: next,
    };
    let (mut bytes, mut taken) = (0, 0);
    for row in rows {
        if taken == count {
            break;
        }
        if !row.try_get::<_, bool>(36)? {
            continue;
        }
        taken += 1;
        if row.try_get::<_, Option<i64>>(0)?.is_none() {
            continue;
        }
        if row.try_get(38)? {
            (page.more, page.looked_to) = (true, None);
            break;
        }
        let row = instance_of(row)?;
        bytes += row.size();
        page.rows.push(row);
        if bytes > PAGE_BYTES_MAX {
            if taken < count {
                (page.more, page.looked_to) = (true, None);
            }
            break;
        }
    }
    Ok(page)
}

/// The places of a page whose candidates are looked at.
fn walk(conn: &Conn<'_>, query: &ListQuery) -> Result<Stretch, StoreError> {
    let mut places = Vec::new();
    let next = walk_each(conn, query, |place, _| places.push(place))?;
    Ok((places, next))
}

/// Calls `found` with the places and statuses of a page, in its order. Returns the place after which the next page begins, if there may be
/// one.
fn walk_each(
    conn: &Conn<'_>,
    query: &ListQuery,
    mut found: impl FnMut(ListPlace, Status),
) -> Result<Option<ListPlace>, StoreError> {
    let mut query = query.clone();
    let few = few(conn, &query.filter)?;
    let filter = query.filter.clone();
    let mut looks = looked(&filter);
    let (mut count, mut walked, mut last) = (0, 0, None);
    let mut size = CHUNK_MIN;
    loop {
        let mut most = LOOKED_MAX;
        let entries = Entries::page(&query, few, |may_differ| {
            most = if may_differ { WALKED_MAX } else { LOOKED_MAX };
            size
        });
        let Some(entries) = entries else {
            return Ok(None);
        };
        let chunk = Chunk::read(conn, &entries, &filter)?;
        // The entry beyond the chunk is the first of the next one: only that it is there matters here.
        let more = chunk.places.len() > size as usize;
        looks.sight.show(chunk.seen);
        for (number, (place, fits)) in (0..).zip(chunk.places) {
            if count == query.limit || walked == most || looks.are_over() {
                return Ok(last);
            }
            if number == size {
                break;
            }
            walked += 1;
            last = Some(place);
            let status = if fits { looks.look(place.1)? } else { None };
            if let Some(status) = status {
                count += 1;
                found(place, status);
            }
        }
        if !more {
            return Ok(None);
        }
        query.after = last;
        size = (size * 2).min(CHUNK_MAX);
    }
}

/// The condition that few instances fulfil, if there is one.
fn few(conn: &Conn<'_>, filter: &InstanceFilter) -> Result<Few, StoreError> {
    Ok(if is_prefix_of_few(conn, filter)? {
        Few::Prefix
    } else if have_few_ended(conn, filter)? {
        Few::Ended
    } else {
        Few::None
    })
}

/// Whether at most [`FEW`] ids have the prefix.
fn is_prefix_of_few(conn: &Conn<'_>, filter: &InstanceFilter) -> Result<bool, StoreError> {
    let Some(prefix) = filter.prefix() else {
        return Ok(false);
    };
    let mut values = Values::default();
    let range = prefix_range(&mut values, prefix).join(" AND ");
    let limit = values.number(i64::from(FEW) + 1);
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM instance AS i WHERE {range} ORDER BY i.id LIMIT {limit}) AS f"
    );
    let row = conn.query_opt(&sql, &values.params())?;
    let found = row.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
    Ok(found <= i64::from(FEW))
}

/// Whether only ended instances are wanted, and at most [`FEW_ENDED`] of them ended in the wanted time.
fn have_few_ended(conn: &Conn<'_>, filter: &InstanceFilter) -> Result<bool, StoreError> {
    let is_end = |status: &Status| status.is_end();
    let only_ended = !filter.statuses.is_empty() && filter.statuses.iter().all(is_end);
    if !(filter.is_of_ended() || only_ended && filter.is_timed()) {
        return Ok(false);
    }
    let from = filter.ended_from.max(filter.updated_from);
    let ends = [filter.ended_to, filter.updated_to].into_iter().flatten();
    let span = (
        from.unwrap_or_default(),
        ends.min().unwrap_or(Timestamp(u64::MAX)),
    );
    let mut left = FEW_ENDED;
    for status in Status::ALL.into_iter().filter(is_end) {
        if filter.statuses.is_empty() || filter.statuses.contains(&status) {
            let found = count_ended(conn, status, span, left)?;
            match left.checked_sub(found) {
                Some(rest) => left = rest,
                None => return Ok(false),
            }
        }
    }
    Ok(true)
}

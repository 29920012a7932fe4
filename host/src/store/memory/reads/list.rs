//! Lists and counts.
//!
//! Where a page ends depends on which instances the walk passes, so they are those that SQLite's index has between its bounds.

use std::collections::BTreeMap;

use perennial_core::{Status, Timestamp};

use crate::store::memory::Memory;
use crate::store::memory::reads::is_in;
use crate::store::memory::reads::looks::Looks;
use crate::store::queries::found::{Brief, BriefPage, ListPage};
use crate::store::queries::looks::LOOKED_MAX;
use crate::store::sqlite::rows::list::{FEW, FEW_ENDED, PAGE_BYTES_MAX, WALKED_MAX, ended_span};
use crate::store::sqlite::rows::walks::{Few, Walk, statuses};
use crate::store::types::InstanceRow;
use crate::store::{InstanceFilter, ListPlace, ListQuery, Order, StoreError};

/// How an instance stands to the conditions of a filter.
struct Seen {
    /// Whether the walk passes it.
    is_passed: bool,
    /// Whether the conditions hold that the index does not answer.
    fits: bool,
    /// Whether there are such conditions.
    has_others: bool,
}

impl Seen {
    fn of(row: &InstanceRow, filter: &InstanceFilter, walk: Walk) -> Self {
        let mut seen = Self {
            is_passed: true,
            fits: true,
            has_others: false,
        };
        match statuses(filter, walk) {
            Some(walked) => seen.check(true, Some(walked.contains(&row.status))),
            None => {
                let is_wanted = filter.statuses.contains(&row.status);
                seen.check(false, (!filter.statuses.is_empty()).then_some(is_wanted));
                let is_end = row.status.is_end();
                seen.check(false, filter.is_of_ended().then_some(is_end));
            }
        }
        let prefix = filter.prefix().map(|prefix| row.id.starts_with(prefix));
        seen.check(walk == Walk::Prefix, prefix);
        let name = filter.name.as_ref().map(|name| *name == row.name);
        seen.check(walk == Walk::Name, name);
        let version = filter.version.as_ref();
        let version = version.map(|version| row.version.as_ref() == Some(version));
        seen.check(walk == Walk::Version, version);
        for (i, tag) in filter.tags.iter().enumerate() {
            seen.check(i == 0 && walk == Walk::Tag, Some(row.tags.contains(tag)));
        }
        let by_creation = walk != Walk::Prefix && !walk.by_end();
        let created = within(row.created_at, filter.created_from, filter.created_to);
        seen.check(by_creation, created);
        let ended = within(row.updated_at, filter.ended_from, filter.ended_to);
        seen.check(walk.by_end(), ended);
        if walk.by_end() {
            let updated = within(row.updated_at, filter.updated_from, filter.updated_to);
            seen.check(true, updated);
        }
        seen
    }

    /// Notes whether a condition holds; `None` if the filter has none.
    fn check(&mut self, is_indexed: bool, holds: Option<bool>) {
        let Some(holds) = holds else { return };
        if is_indexed {
            self.is_passed &= holds;
        } else {
            self.fits &= holds;
            self.has_others = true;
        }
    }
}

/// Whether a time is in a span; `None` if it has no bounds.
fn within(at: Timestamp, from: Option<Timestamp>, to: Option<Timestamp>) -> Option<bool> {
    let is_bounded = from.is_some() || to.is_some();
    let is_in = from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to);
    is_bounded.then_some(is_in)
}

impl Memory {
    pub(crate) fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        let mut places = Vec::new();
        let next = self.walk(query, |place, _| places.push(place));
        let mut page = ListPage {
            more: next.is_some(),
            rows: Vec::new(),
            looked_to: next,
        };
        let mut bytes = 0;
        for (i, (_, key)) in places.iter().enumerate() {
            let Some(of) = self.instances.get(&crate::store::InstanceKey(*key)) else {
                continue;
            };
            let mut row = of.shown();
            row.output = row.output.filter(|_| query.output);
            bytes += row.size();
            page.rows.push(row);
            if bytes > PAGE_BYTES_MAX {
                if i + 1 < places.len() {
                    (page.more, page.looked_to) = (true, None);
                }
                break;
            }
        }
        Ok(page)
    }

    pub(crate) fn brief(&self, query: &ListQuery) -> Result<BriefPage, StoreError> {
        let mut found = Vec::new();
        let next = self.walk(query, |place, row| {
            found.push(Brief {
                place,
                key: row.key,
                id: row.id.clone(),
            });
        });
        Ok(BriefPage { found, next })
    }

    pub(crate) fn counts(&self, filter: &InstanceFilter) -> Result<Vec<(Status, u64)>, StoreError> {
        let Some(filter) = filter.narrowed() else {
            return Ok(Vec::new());
        };
        let mut looks = Looks::new(self, &filter);
        let mut counts = BTreeMap::new();
        for of in self.all() {
            let seen = Seen::of(&of.row, &filter, Walk::Created);
            if seen.is_passed && seen.fits && looks.look(of) {
                *counts.entry(of.row.status).or_insert(0) += 1;
            }
        }
        Ok(counts.into_iter().collect())
    }

    /// Calls `found` with the instances of a page, in its order. Returns the place after which the next page begins, if there may be one.
    fn walk(
        &self,
        query: &ListQuery,
        mut found: impl FnMut(ListPlace, &InstanceRow),
    ) -> Option<ListPlace> {
        let filter = query.filter.narrowed()?;
        let walk = match query.order {
            Order::EndedFirst => Walk::Ended,
            Order::NewestFirst | Order::OldestFirst => Walk::of(&filter, self.few(&filter)),
        };
        let mut passed = Vec::new();
        let mut has_others = false;
        for of in self.all() {
            let seen = Seen::of(&of.row, &filter, walk);
            has_others |= seen.has_others;
            let at = match walk {
                Walk::Ended => of.row.updated_at,
                _ => of.row.created_at,
            };
            let place = (at, of.row.key.0);
            let is_beyond = query.after.is_none_or(|after| match query.order {
                Order::NewestFirst => place < after,
                Order::OldestFirst | Order::EndedFirst => place > after,
            });
            if seen.is_passed && is_beyond {
                passed.push((place, seen.fits, of));
            }
        }
        passed.sort_by_key(|(place, ..)| *place);
        if query.order == Order::NewestFirst {
            passed.reverse();
        }
        let mut looks = filter.needs_looks().then(|| Looks::new(self, &filter));
        let most = match (&looks, has_others) {
            (_, true) => WALKED_MAX,
            (Some(_), false) => LOOKED_MAX,
            (None, false) => query.limit,
        };
        let (mut count, mut walked, mut last) = (0, 0, None);
        for (place, fits, of) in passed {
            let is_over = walked == most || looks.as_ref().is_some_and(Looks::are_over);
            if count == query.limit || is_over {
                return last;
            }
            walked += 1;
            last = Some(place);
            if fits && looks.as_mut().is_none_or(|looks| looks.look(of)) {
                count += 1;
                found(place, &of.row);
            }
        }
        None
    }

    /// The condition that few instances fulfil, if there is one.
    fn few(&self, filter: &InstanceFilter) -> Few {
        let rows = || self.all().map(|of| &of.row);
        if let Some(prefix) = filter.prefix() {
            let with_prefix = rows().filter(|row| row.id.starts_with(prefix));
            if with_prefix.count() <= FEW as usize {
                return Few::Prefix;
            }
        }
        if let Some((statuses, span)) = ended_span(filter) {
            let ended = rows().filter(|row| statuses.contains(&row.status));
            let ended = ended.filter(|row| is_in(row.updated_at, span));
            if ended.count() as u64 <= FEW_ENDED {
                return Few::Ended;
            }
        }
        Few::None
    }
}

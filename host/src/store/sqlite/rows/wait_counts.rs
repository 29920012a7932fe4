//! How many live instances wait for what.
//!
//! Invariant: it looks at a bounded number of rows, those of suspended instances first, because quarantined ones are among them, and then the
//! oldest of each status.

use perennial_core::Status;
use rusqlite::params;

use crate::store::StoreError;
use crate::store::numbers::status_number;
use crate::store::queries::filter::InstanceFilter;
use crate::store::queries::found::WaitCounts;
use crate::store::queries::waits::WaitKind;
use crate::store::sqlite::rows::looks::looks as looks_of;
use crate::store::sqlite::rows::reader::FileReader;

/// Live instances that are looked at. Few in the tests of this crate, so that they cover it.
pub(in crate::store) const LIVE_LOOKED_MAX: u32 = if cfg!(test) { 100 } else { 5_000 };

impl FileReader {
    /// Counts what live instances wait for. Each number is that of a list with this condition, unless it is partial.
    pub(crate) fn wait_counts(&self) -> Result<WaitCounts, StoreError> {
        let filter = InstanceFilter {
            waits_for: Some(WaitKind::Event.into()),
            ..InstanceFilter::default()
        };
        self.with(|db| {
            let tx = db.unchecked_transaction()?;
            let mut select = tx.prepare_cached(
                "SELECT key FROM instance INDEXED BY instance_status WHERE status = ?1 ORDER BY created_at, key LIMIT ?2",
            )?;
            let mut looks = looks_of(&tx, &filter);
            let (mut found, mut left) = (WaitCounts::default(), LIVE_LOOKED_MAX);
            let mut counts = WaitKind::ALL.map(|kind| (kind, 0));
            for status in [Status::Suspended, Status::Pending, Status::Running] {
                let mut rows = select.query(params![status_number(status), left + 1])?;
                while let Some(row) = rows.next()? {
                    let Some(after) = left.checked_sub(1) else {
                        found.is_partial = true;
                        break;
                    };
                    left = after;
                    let waits = looks.kinds(row.get(0)?)?;
                    for (_, count) in counts.iter_mut().filter(|(kind, _)| waits.contains(kind)) {
                        *count += 1;
                    }
                }
            }
            found.counts = counts.into_iter().filter(|(_, count)| *count > 0).collect();
            Ok(found)
        })
    }
}

//! Settings, keys, and commands of other processes.

use perennial_core::Timestamp;
use serde::Serialize;

use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::types::{LastHost, Setting};

/// How long answers to commands are kept that nobody reads.
const ANSWER_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// The last host; `None` if the hub is new, or no version ran it that records this.
pub(super) fn last_host(rows: &mut impl Rows) -> Result<Option<LastHost>, StoreError> {
    let text = rows.setting(Setting::LastHost)?;
    text.map(|text| Setting::LastHost.read(&text)).transpose()
}

/// Writes a setting.
pub(super) fn set(
    rows: &mut impl Rows,
    which: Setting,
    value: &impl Serialize,
) -> Result<(), StoreError> {
    let value = serde_json::to_string(value)
        .map_err(|e| StoreError::Corrupt(format!("a setting could not be written: {e}")))?;
    rows.put_setting(which, &value)
}

/// Deletes answers to commands that are old.
pub(super) fn forget_old_answers(rows: &mut impl Rows, now: Timestamp) -> Result<(), StoreError> {
    rows.delete_old_answers(Timestamp(now.0.saturating_sub(ANSWER_KEPT_MS)))
}

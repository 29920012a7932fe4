//! Changes tags of instances.

use perennial_core::{Tags, set_tag};

use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::types::InstanceKey;

/// The tags of an instance before and after a change.
pub(super) struct Changed {
    pub(super) before: Tags,
    pub(super) after: Tags,
}

/// Sets and removes tags, unless `allows`, which gets the change, refuses that. Returns the change, also if it was refused.
///
/// # Errors
/// [`StoreError::Conflict`] if there is no such instance.
pub(super) fn change(
    rows: &mut impl Rows,
    key: InstanceKey,
    changes: &[(String, Option<String>)],
    allows: impl FnOnce(&Changed) -> bool,
) -> Result<Result<Changed, Changed>, StoreError> {
    let before = rows.tags(key)?.ok_or(StoreError::Conflict)?;
    let mut after = before.clone();
    for (tag, value) in changes {
        set_tag(&mut after, tag, value.as_deref());
    }
    after.sort();
    let changed = Changed { before, after };
    if changed.after == changed.before {
        return Ok(Ok(changed));
    }
    if !allows(&changed) {
        return Ok(Err(changed));
    }
    rows.set_tags(key, &changed.before, &changed.after)?;
    Ok(Ok(changed))
}

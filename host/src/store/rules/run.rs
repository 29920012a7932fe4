//! Changes that are meant for one run of an instance, and must not reach the run that took its place.
//!
//! A run begins when its id is started or restarted. It stays the same when it continues as new or is rewound.

use std::fmt;

use perennial_core::{Rejection, Timestamp};
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::reply::Reply;
use crate::store::rows::Rows;
use crate::store::types::{InstanceKey, InstanceRow};

/// A run of an instance: another start under its id has another key, and a restart in place another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    key: i64,
    created_at: Timestamp,
}

impl Run {
    pub(crate) fn new(key: InstanceKey, created_at: Timestamp) -> Self {
        let key = key.0;
        Self { key, created_at }
    }

    pub(crate) fn of(row: &InstanceRow) -> Self {
        Self::new(row.key, row.created_at)
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (created_at, key) = text
            .split_at_checked(16)
            .filter(|_| text.len() == 32 && is_hex)?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some(Self {
            key: i64::try_from(hex(key)?).ok()?,
            created_at: Timestamp(hex(created_at)?),
        })
    }

    /// The refusal of a change that is meant for this run, if the instance has another one now.
    pub(crate) fn refusal(self, now: Self) -> Option<Reply> {
        (self != now).then_some(Reply::OtherRun(now.created_at))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.created_at.0, self.key)
    }
}

/// Why a change that is meant for one run of an instance must not be made; `None` if the instance still has that run.
pub(super) fn refusal(
    rows: &mut impl Rows,
    id: &str,
    run: Run,
) -> Result<Option<Reply>, StoreError> {
    let now = match rows.find(id)? {
        Some((key, _)) => rows.head(key)?.map(|head| Run::new(key, head.created_at)),
        None => None,
    };
    Ok(match now {
        Some(now) => run.refusal(now),
        None => Some(Reply::Rejected(Rejection::NotFound)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_as_it_is_written() {
        let run = Run::new(InstanceKey(0x1f), Timestamp(1_764_410_000_123));
        assert_eq!(Run::parse(&run.to_string()), Some(run));
        let text = run.to_string();
        let negative = format!("{:016x}ffffffffffffffff", 1);
        for bad in [
            "",
            "1",
            &text[1..],
            &format!("{text}0"),
            &text.replace('f', "g"),
            &negative,
        ] {
            assert_eq!(Run::parse(bad), None, "{bad}");
        }
    }
}

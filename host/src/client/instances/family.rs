//! The tree of an instance and its descendants.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::{Client, InstanceStatus, Result};
use crate::store::{Reader, StoreError};

/// The most instances in one family.
const FAMILY_MAX: usize = 10_000;

/// The size in bytes after which no more instances are added.
pub(crate) const FAMILY_BYTES_MAX: usize = 4 << 20;

/// An instance with its descendants. Children are in the order in which they were started.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Family")]
#[non_exhaustive]
pub struct InstanceFamily {
    /// The instance. Its waits are not included.
    pub instance: InstanceStatus,
    /// Its children. A child that was retried under another id appears once for each attempt.
    pub children: Vec<Self>,
    /// Live children of an earlier instance with this id, which this instance replaced. They do not report to it. Only at the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<Self>,
    /// Whether children are missing because the limit, or 4 MiB of outputs, was reached.
    pub more: bool,
}

impl Client {
    /// An instance with its descendants, at most `limit` instances (and at most 10,000); `None` if it does not exist.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// if let Some(family) = client.family("order-17", 100).await? {
    ///     println!("{} has {} children", family.instance.instance_id, family.children.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the hub cannot be read.
    pub async fn family(&self, id: &str, limit: usize) -> Result<Option<InstanceFamily>> {
        if let Some(remote) = self.remote() {
            return remote.family(id, limit).await;
        }
        let id = id.to_owned();
        self.read(move |reader| {
            let mut left = Left {
                instances: limit.clamp(1, FAMILY_MAX),
                bytes: FAMILY_BYTES_MAX,
            };
            let Some(mut family) = read(reader, &id, &mut left)? else {
                return Ok(None);
            };
            let key = reader.instance(&id)?.map(|row| row.key);
            let page = u32::try_from(left.instances.saturating_add(1)).unwrap_or(u32::MAX);
            for (_, stray) in reader.left_behind(&id, key, true, page)? {
                if left.instances == 0 || left.bytes == 0 {
                    family.more = true;
                    break;
                }
                family.left_behind.extend(read(reader, &stray, &mut left)?);
            }
            Ok(Some(family))
        })
        .await
    }
}

/// The remaining allowance of a family.
struct Left {
    instances: usize,
    bytes: usize,
}

/// The recursion ends, because each row has at most one parent.
fn read(reader: &Reader, id: &str, left: &mut Left) -> Result<Option<InstanceFamily>, StoreError> {
    let Some(row) = reader.instance(id)? else {
        return Ok(None);
    };
    left.instances = left.instances.saturating_sub(1);
    left.bytes = left.bytes.saturating_sub(row.size());
    // One more than there is room for, to detect that some are missing.
    let page = u32::try_from(left.instances.saturating_add(1)).unwrap_or(u32::MAX);
    let children = reader.child_ids(row.key, page)?;
    let mut family = InstanceFamily {
        instance: row.into(),
        children: Vec::new(),
        left_behind: Vec::new(),
        more: false,
    };
    for child in children {
        if left.instances == 0 || left.bytes == 0 {
            family.more = true;
            break;
        }
        family.children.extend(read(reader, &child, left)?);
    }
    Ok(Some(family))
}

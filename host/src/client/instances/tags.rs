//! Changes of the tags of an instance from outside.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use perennial_core::Tags;

use crate::client::{Client, Result};
use crate::engine::Request;
use crate::store::Reply;

/// A change of the tags of an instance. Set what it changes, then await it.
#[derive(Clone, Debug)]
#[must_use = "tags are changed when this is awaited"]
pub struct TagChange {
    client: Client,
    id: String,
    /// The last change of each key.
    changes: BTreeMap<String, Option<String>>,
}

impl Client {
    /// Changes tags of an instance, live or ended: sets some, removes some, and leaves all others as they are. Await the returned value, which
    /// gives the tags after the change; from then on, lists filter by them.
    ///
    /// The orchestration is not told: `ctx.tags()` shows what it began with and what it has set itself, until it continues as new or is
    /// restarted. If both change the same tag, the later change counts. Continue-as-new, rewind and restart keep tags that clients have set.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let tags = client.set_tags("order-17").set("owner", "alice").remove("triage").await?;
    /// println!("{tags:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_tags(&self, id: impl Into<String>) -> TagChange {
        TagChange {
            client: self.clone(),
            id: id.into(),
            changes: BTreeMap::new(),
        }
    }
}

impl TagChange {
    /// Sets a tag.
    pub fn set(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.change(key.into(), Some(value.into()))
    }

    /// Removes a tag, if there is one with this key.
    pub fn remove(self, key: impl Into<String>) -> Self {
        self.change(key.into(), None)
    }

    fn change(mut self, key: String, value: Option<String>) -> Self {
        self.changes.insert(key, value);
        self
    }
}

impl IntoFuture for TagChange {
    /// The tags after the change, in the order of their keys. Fails with [`Error::is_not_found`](crate::Error::is_not_found) if the instance
    /// does not exist, and [`Error::is_invalid`](crate::Error::is_invalid) if a key or a value is invalid, or there would be too many.
    type Output = Result<Tags>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                client,
                id,
                changes,
            } = self;
            let about = id.clone();
            let changes = changes.into_iter().collect();
            let reply = client.submit(&about, Request::SetTags { id, changes });
            match reply.await? {
                Reply::Tagged(tags) => Ok(tags),
                _ => Ok(Tags::new()),
            }
        })
    }
}

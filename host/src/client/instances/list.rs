//! Lists of instances.

use std::collections::VecDeque;
use std::fmt::Write;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use futures::Stream;
use perennial_core::{Status, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::client::instances::filter::Filter;
use crate::client::instances::status::input;
use crate::client::{Client, Error, InstanceStatus, Result};
use crate::store::{ListPlace, ListQuery, Order, Reader, StoreError, WaitFilter};

/// Instances per page by default.
const PAGE_SIZE: u32 = 100;

/// The most instances per page.
const PAGE_SIZE_MAX: u32 = 1_000;

/// The bytes of inputs after which a page ends early.
const INPUT_BYTES_MAX: usize = 2 << 20;

/// The most bytes of the instances in a page, unless it is a single larger one.
#[cfg(feature = "http")]
pub(crate) const PAGE_BYTES_MAX: usize = INPUT_BYTES_MAX + crate::store::LIST_BYTES_MAX;

/// A list of instances. Await it for its first page, or for the page after a token; or read it as a [`stream`](Self::stream).
#[derive(Clone, Debug)]
#[must_use = "a list is read when it is awaited"]
pub struct List {
    client: Client,
    filter: Filter,
    order: Order,
    limit: u32,
    after: Option<String>,
    show_input: bool,
    show_output: bool,
}

/// A page of a list of instances.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Page {
    /// The instances, in the order of the list. Fewer than the limit if their payloads are large; perhaps none if few of those that had to be
    /// looked at match the filter.
    pub instances: Vec<InstanceStatus>,
    /// The token of the next page; absent on the last one, and only there. It stays valid for this filter and order while instances come and go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuation_token: Option<String>,
}

impl List {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            filter: Filter::default(),
            order: Order::default(),
            limit: PAGE_SIZE,
            after: None,
            show_input: false,
            show_output: false,
        }
    }

    /// Sets the filter, in place of earlier conditions.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Selects a status. If called again, any of the given statuses matches.
    pub fn status(mut self, status: Status) -> Self {
        self.filter = self.filter.status(status);
        self
    }

    /// Selects ids that begin with this prefix.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.filter = self.filter.id_prefix(prefix);
        self
    }

    /// Selects an orchestration.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.filter = self.filter.name(name);
        self
    }

    /// Selects a version of the orchestration.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.filter = self.filter.version(version);
        self
    }

    /// Selects instances with this label. If called again, all given labels must match.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.filter = self.filter.tag(key, value);
        self
    }

    /// Selects instances created at this time or later.
    pub fn created_from(mut self, from: Timestamp) -> Self {
        self.filter = self.filter.created_from(from);
        self
    }

    /// Selects instances created before this time.
    pub fn created_to(mut self, to: Timestamp) -> Self {
        self.filter = self.filter.created_to(to);
        self
    }

    /// Selects instances that ended at this time or later.
    pub fn ended_from(mut self, from: Timestamp) -> Self {
        self.filter = self.filter.ended_from(from);
        self
    }

    /// Selects instances that ended before this time.
    pub fn ended_to(mut self, to: Timestamp) -> Self {
        self.filter = self.filter.ended_to(to);
        self
    }

    /// Selects instances that were last updated at this time or later.
    pub fn updated_from(mut self, from: Timestamp) -> Self {
        self.filter = self.filter.updated_from(from);
        self
    }

    /// Selects instances that were last updated before this time.
    pub fn updated_to(mut self, to: Timestamp) -> Self {
        self.filter = self.filter.updated_to(to);
        self
    }

    /// Selects failed instances whose failure has this kind; case matters.
    pub fn failure_kind(mut self, kind: impl Into<String>) -> Self {
        self.filter = self.filter.failure_kind(kind);
        self
    }

    /// Selects live instances that wait for this, perhaps among other things: see [`Filter::waits_for`].
    pub fn waits_for(mut self, wait: impl Into<WaitFilter>) -> Self {
        self.filter = self.filter.waits_for(wait);
        self
    }

    /// Sets the order; the default is newest first.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Sets the page size, from 1 to 1,000; the default is 100.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit.clamp(1, PAGE_SIZE_MAX);
        self
    }

    /// Continues after the page that returned this token, for the same filter and order.
    pub fn continuation_token(mut self, token: impl Into<String>) -> Self {
        self.after = Some(token.into());
        self
    }

    /// Includes the inputs.
    pub fn show_input(mut self) -> Self {
        self.show_input = true;
        self
    }

    /// Includes the outputs.
    pub fn show_output(mut self) -> Self {
        self.show_output = true;
        self
    }

    /// Streams all instances, in order. Memory holds one page at a time. Instances that come or go meanwhile do not shift the others.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use futures::TryStreamExt;
    /// use perennial::Status;
    ///
    /// let mut failed = client.list().status(Status::Failed).stream();
    /// while let Some(instance) = failed.try_next().await? {
    ///     println!("{}: {:?}", instance.instance_id, instance.failure);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The stream ends after an error.
    pub fn stream(self) -> impl Stream<Item = Result<InstanceStatus>> + Send + Unpin {
        let state = (Some(self), VecDeque::<InstanceStatus>::new());
        Box::pin(futures::stream::try_unfold(
            state,
            |(mut list, mut page)| async move {
                while page.is_empty() {
                    let Some(next) = list.take() else {
                        return Ok(None);
                    };
                    let read = next.clone().await?;
                    page.extend(read.instances);
                    list = read
                        .continuation_token
                        .map(|token| next.continuation_token(token));
                }
                Ok(page.pop_front().map(|instance| (instance, (list, page))))
            },
        ))
    }

    /// The number of matching instances in each status; statuses without instances are left out.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// for (status, count) in client.list().name("Order").counts().await? {
    ///     println!("{status}: {count}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the hub cannot be read.
    pub async fn counts(self) -> Result<Vec<(Status, u64)>> {
        let filter = self.filter.0;
        if let Some(remote) = self.client.remote() {
            return remote.counts(&filter).await;
        }
        let counts = move |reader: &Reader| reader.recent(|reader| reader.counts(&filter));
        self.client.read(counts).await
    }

    fn query(&self, after: Option<ListPlace>) -> ListQuery {
        ListQuery {
            filter: self.filter.0.clone(),
            order: self.order,
            after,
            limit: self.limit,
            output: self.show_output,
        }
    }

    fn read(&self, reader: &Reader, after: Option<ListPlace>) -> Result<Page, StoreError> {
        let page = reader.list(&self.query(after))?;
        let (mut more, mut looked_to) = (page.more, page.looked_to);
        let (mut bytes, all) = (0, page.rows.len());
        let (mut instances, mut last) = (Vec::with_capacity(all), None);
        for row in page.rows {
            let input = if self.show_input {
                input(reader, &row)?
            } else {
                None
            };
            bytes += input.as_ref().map_or(0, perennial_core::Json::size);
            let at = match self.order {
                Order::EndedFirst => row.updated_at,
                Order::NewestFirst | Order::OldestFirst => row.created_at,
            };
            last = Some((at, row.key.0));
            instances.push(InstanceStatus {
                input,
                ..row.into()
            });
            if bytes > INPUT_BYTES_MAX {
                if instances.len() < all {
                    (more, looked_to) = (true, None);
                }
                break;
            }
        }
        let last = looked_to.or(last).filter(|_| more);
        Ok(Page {
            instances,
            continuation_token: match last {
                Some(place) => Some(self.seal(&reader.secret()?, place)),
                None => None,
            },
        })
    }

    /// Encodes a token: the position in the list's order, so that the host keeps no state, and a seal, so that a token cannot be used for
    /// another list.
    fn seal(&self, secret: &[u8], (at, key): ListPlace) -> String {
        format!("{:x}.{key:x}.{}", at.0, self.seal_of(secret, (at, key)))
    }

    fn unseal(&self, secret: &[u8], token: &str) -> Option<ListPlace> {
        let mut parts = token.splitn(3, '.');
        let at = Timestamp(u64::from_str_radix(parts.next()?, 16).ok()?);
        let place = (at, i64::from_str_radix(parts.next()?, 16).ok()?);
        (parts.next()? == self.seal_of(secret, place)).then_some(place)
    }

    fn seal_of(&self, secret: &[u8], place: ListPlace) -> String {
        let mut statuses = self.filter.0.statuses.clone();
        statuses.sort_unstable();
        statuses.dedup();
        let filter = Filter(crate::store::InstanceFilter {
            statuses,
            ..self.filter.0.clone()
        });
        let mut hash = Sha256::new();
        hash.update(secret);
        // Debug formatting quotes texts, so that different filters never give the same text.
        hash.update(format!("{filter:?} {:?} {place:?}", self.order));
        let mut seal = String::with_capacity(20);
        for byte in hash.finalize().iter().take(10) {
            // Writing to a string cannot fail.
            let _ = write!(seal, "{byte:02x}");
        }
        seal
    }
}

impl IntoFuture for List {
    /// Fails with [`Error::is_invalid`] if the token is invalid or belongs to another list.
    type Output = Result<Page>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let client = self.client.clone();
            if let Some(remote) = client.remote() {
                let after = self.after.as_deref();
                return remote.list(&self.query(None), after, self.show_input).await;
            }
            let read = move |reader: &Reader| {
                let after = match &self.after {
                    None => None,
                    Some(token) => match self.unseal(&reader.secret()?, token) {
                        None => return Ok(None),
                        place => place,
                    },
                };
                self.read(reader, after).map(Some)
            };
            let page = client.read(move |reader| reader.recent(read));
            page.await?.ok_or_else(Error::token)
        })
    }
}

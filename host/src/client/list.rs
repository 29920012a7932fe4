//! Lists of instances.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use perennial_core::{Status, Timestamp};
use serde::Serialize;

use crate::client::status::input;
use crate::client::{Client, Error, InstanceStatus, Result};
use crate::store::ListQuery;

/// Instances in a page where nothing else is asked for.
const PAGE_SIZE: u32 = 100;

/// The most that one page has.
const PAGE_SIZE_MAX: u32 = 1_000;

/// A list of instances. Await it for its first page, or for the one after a token.
#[derive(Clone, Debug)]
#[must_use = "a list is read when it is awaited"]
pub struct List {
    client: Client,
    query: ListQuery,
    after: Option<String>,
    show_input: bool,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Page {
    /// Newest first.
    pub instances: Vec<InstanceStatus>,
    /// Where the next page begins; `None` after the last one. It stays valid while instances come and go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuation_token: Option<String>,
}

impl List {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            query: ListQuery {
                limit: PAGE_SIZE,
                ..ListQuery::default()
            },
            after: None,
            show_input: false,
        }
    }

    /// Only instances in this status, or in one of several if called again.
    pub fn status(mut self, status: Status) -> Self {
        self.query.statuses.push(status);
        self
    }

    /// Only instances whose id begins so.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.query.id_prefix = Some(prefix.into());
        self
    }

    /// Only instances of this orchestration.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.query.name = Some(name.into());
        self
    }

    /// Only instances created at this time or later.
    pub fn created_from(mut self, from: Timestamp) -> Self {
        self.query.created_from = Some(from);
        self
    }

    /// Only instances created before this time.
    pub fn created_to(mut self, to: Timestamp) -> Self {
        self.query.created_to = Some(to);
        self
    }

    /// At most so many in a page: 1 to 1,000, and 100 where it is not said.
    pub fn limit(mut self, limit: u32) -> Self {
        self.query.limit = limit.clamp(1, PAGE_SIZE_MAX);
        self
    }

    /// The page after the one that gave this token.
    pub fn continuation_token(mut self, token: impl Into<String>) -> Self {
        self.after = Some(token.into());
        self
    }

    /// Each with its input.
    pub fn show_input(mut self) -> Self {
        self.show_input = true;
        self
    }
}

impl IntoFuture for List {
    type Output = Result<Page>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                client,
                mut query,
                after,
                show_input,
            } = self;
            query.after = after.as_deref().map(parse_token).transpose()?;
            client
                .read(move |reader| {
                    let limit = query.limit;
                    query.limit += 1;
                    let mut rows = reader.list(&query)?;
                    let more = rows.len() > limit as usize;
                    rows.truncate(limit as usize);
                    let last = rows
                        .last()
                        .filter(|_| more)
                        .map(|row| token(row.created_at, row.key.0));
                    let mut instances = Vec::with_capacity(rows.len());
                    for row in rows {
                        let input = if show_input {
                            input(reader, &row)?
                        } else {
                            None
                        };
                        instances.push(InstanceStatus {
                            input,
                            ..row.into()
                        });
                    }
                    Ok(Page {
                        instances,
                        continuation_token: last,
                    })
                })
                .await
        })
    }
}

/// A token is a place in the order of the list, so it needs no memory of the list.
fn token(at: Timestamp, key: i64) -> String {
    format!("{:x}-{key:x}", at.0)
}

fn parse_token(token: &str) -> Result<(Timestamp, i64)> {
    let parse = || {
        let (at, key) = token.split_once('-')?;
        Some((
            Timestamp(u64::from_str_radix(at, 16).ok()?),
            i64::from_str_radix(key, 16).ok()?,
        ))
    };
    parse().ok_or_else(Error::token)
}

//! Reads a history from an event on, each event with what it is about.
//!
//! Invariant: what is read does not depend on how long the history before the event is.

use std::future::ready;

use futures::{Stream, TryStreamExt};
use perennial::{Client, Error, HistoryEvent};

use super::event::{About, Named};

/// Events before the first one that are read for the names of its task: a result is named after its call, but only numbers it. A result
/// that is further from its call shows only the number.
const LEAD: u64 = 5_000;

/// The events from a number on, in order, and what each is about.
pub(super) fn from(
    client: &Client,
    id: &str,
    number: u64,
) -> impl Stream<Item = Result<(HistoryEvent, About), Error>> + Send + Unpin + use<> {
    let mut named = Named::default();
    let history = client.history(id).from(number.saturating_sub(LEAD));
    history.stream().try_filter_map(move |event| {
        named.tell(&event.event);
        let is_asked = event.number >= number;
        ready(Ok(is_asked.then(|| {
            let about = named.about(&event.event);
            (event, about)
        })))
    })
}

/// One event, and what it is about; `None` if the history has no such event.
pub(super) async fn one(
    client: &Client,
    id: &str,
    number: u64,
) -> Result<Option<(HistoryEvent, About)>, Error> {
    let first = from(client, id, number).try_next().await?;
    Ok(first.filter(|(event, _)| event.number == number))
}

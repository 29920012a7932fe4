//! Histories in pages, and families.

use crate::client::{FAMILY_BYTES_MAX, HISTORY_BYTES_MAX, HistoryPage, InstanceFamily};
use crate::http::body;
use crate::http::native::doc::{Operation, flag, get, number, text};
use crate::http::native::extract::{Ask, Failed, Segments};
use crate::http::native::reply::Reply;

/// The default limit of instances in a family.
const FAMILY: u32 = 1_000;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get(
            "/instances/{id}/history",
            history,
            "readHistory",
            "The history of an instance, some MiB at a time",
        )
        .query(
            "after",
            text(),
            "What follows the page that gave this token",
        )
        .query(
            "input",
            flag(),
            "With what calls were given: true where nothing is said",
        )
        .query(
            "output",
            flag(),
            "With what calls returned: true where nothing is said",
        )
        .answer(
            200,
            "Events; without a token where nothing more has happened",
        )
        .fails(&[(409, "The instance began another history meanwhile")]),
        get(
            "/instances/{id}/family",
            family,
            "showFamily",
            "An instance with its children, and theirs",
        )
        .query(
            "limit",
            number(),
            "At most so many instances: 1000 where nothing is said, 10000 at most",
        )
        .answer(200, "The instance, and what is below it"),
    ]
}

async fn history(ask: Ask, Segments(id): Segments<String>) -> Result<Reply<HistoryPage>, Failed> {
    let mut query = ask.client.history(id);
    if !ask.query.flag("input", true)? {
        query = query.hide_inputs();
    }
    if !ask.query.flag("output", true)? {
        query = query.hide_outputs();
    }
    let room = body::room_for(&ask.api, HISTORY_BYTES_MAX).await?;
    let page = query.page(ask.query.text("after")).await?;
    Reply::ok_in(room, &page)
}

async fn family(ask: Ask, Segments(id): Segments<String>) -> Result<Reply<InstanceFamily>, Failed> {
    let limit = ask.query.count("limit")?.unwrap_or(FAMILY);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let room = body::room_for(&ask.api, FAMILY_BYTES_MAX).await?;
    let family = ask.client.family(&id, limit).await?;
    let family = family.ok_or_else(|| Failed::no_instance(&id))?;
    Reply::ok_in(room, &family)
}

//! Histories in pages, and families.

use serde_json::json;

use crate::client::{
    FAMILY_BYTES_MAX, HISTORY_BYTES_MAX, HistoryPage, InstanceFamily, RecordedHistory,
};
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
            "The history of an instance, in pages of up to 4 MiB",
        )
        .query("after", text(), "The token of the page before")
        .query(
            "from",
            number(),
            "The number of the first event; 0 by default",
        )
        .query(
            "input",
            flag(),
            "Includes the inputs of calls; true by default",
        )
        .query(
            "output",
            flag(),
            "Includes the results of calls; true by default",
        )
        .query(
            "beforeRewind",
            json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            "Reads the history as it was before this rewind, counted from 0 in the order of the instance's `rewinds`",
        )
        .answer(200, "Events, and a token if there are more")
        .fails(&[(
            409,
            "The instance was restarted or replaced meanwhile, and its history is another one",
        )]),
        get(
            "/instances/{id}/export",
            export,
            "exportHistory",
            "The recorded turns of an instance, for a replay elsewhere, in pages of up to 2 MiB of stored bytes",
        )
        .query("after", text(), "The token of the page before")
        .answer(
            200,
            "What `perennial export` writes: the turns of all pages make one file",
        )
        .fails(&[(
            409,
            "The instance was restarted or replaced meanwhile, and its history is another one",
        )]),
        get(
            "/instances/{id}/family",
            family,
            "showFamily",
            "An instance and its descendants",
        )
        .query(
            "limit",
            number(),
            "The most instances to return: 1000 by default, 10000 at most",
        )
        .answer(200, "The instance and its descendants"),
    ]
}

async fn history(ask: Ask, Segments(id): Segments<String>) -> Result<Reply<HistoryPage>, Failed> {
    let mut query = ask.client.history(id);
    if let Some(from) = ask.query.number("from")? {
        query = query.from(from.into());
    }
    if !ask.query.flag("input", true)? {
        query = query.hide_inputs();
    }
    if !ask.query.flag("output", true)? {
        query = query.hide_outputs();
    }
    if let Some(rewind) = ask.query.number("beforeRewind")? {
        query = query.before_rewind(rewind);
    }
    let room = body::room_for(&ask.api, HISTORY_BYTES_MAX).await?;
    let page = query.page(ask.query.text("after")).await?;
    Reply::ok_in(room, &page)
}

async fn export(
    ask: Ask,
    Segments(id): Segments<String>,
) -> Result<Reply<RecordedHistory>, Failed> {
    let room = body::room_for(&ask.api, HISTORY_BYTES_MAX).await?;
    let page = ask.client.export_page(&id, ask.query.text("after")).await?;
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

//! Histories in pages, and families.

use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;

use crate::client::{FAMILY_BYTES_MAX, HISTORY_BYTES_MAX};
use crate::http::body;
use crate::http::native::Operation;
use crate::http::native::doc::{doc, flag, number, schema, text};
use crate::http::native::extract::{Ask, Failed, Segments};

/// Instances of a family where nothing else is said.
const FAMILY: u32 = 1_000;

type Answer = Result<Response, Failed>;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation {
            method: "GET",
            path: "/instances/{id}/history",
            doc: doc(
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
                schema("HistoryPage"),
            )
            .fails(&[(409, "The instance began another history meanwhile")]),
            handler: get(history),
        },
        Operation {
            method: "GET",
            path: "/instances/{id}/family",
            doc: doc("showFamily", "An instance with its children, and theirs")
                .query(
                    "limit",
                    number(),
                    "At most so many instances: 1000 where nothing is said, 10000 at most",
                )
                .answer(200, "The instance, and what is below it", schema("Family")),
            handler: get(family),
        },
    ]
}

async fn history(ask: Ask, Segments(id): Segments<String>) -> Answer {
    let mut query = ask.client.history(id);
    if !ask.query.flag("input", true)? {
        query = query.hide_inputs();
    }
    if !ask.query.flag("output", true)? {
        query = query.hide_outputs();
    }
    let room = body::room_for(&ask.api, HISTORY_BYTES_MAX).await?;
    let page = query.page(ask.query.text("after")).await?;
    Ok(body::json_in(room, StatusCode::OK, &page)?)
}

async fn family(ask: Ask, Segments(id): Segments<String>) -> Answer {
    let limit = ask.query.count("limit")?.unwrap_or(FAMILY);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let room = body::room_for(&ask.api, FAMILY_BYTES_MAX).await?;
    let family = ask.client.family(&id, limit).await?;
    let family = family.ok_or_else(|| Failed::no_instance(&id))?;
    Ok(body::json_in(room, StatusCode::OK, &family)?)
}

//! Exports of all instances that match: as CSV and as JSON lines.
//!
//! Invariants: memory holds one page of the list; a read that fails breaks the download off, so that half a file does not look whole; no
//! cell of a CSV file is a formula.

use std::fmt::Write as _;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use perennial::{Error, InstanceStatus, Timestamp};

use crate::instances::search::Search;
use crate::page::Page;
use crate::refused::{OnPage, Refused, Shown};
use crate::show;

/// Instances per read.
const PAGE: u32 = 500;

/// Instances per piece of the answer, at most.
const PIECE: usize = 100;

const COLUMNS: [&str; 15] = [
    "instanceId",
    "name",
    "version",
    "runtimeStatus",
    "createdTime",
    "startedTime",
    "lastUpdatedTime",
    "executionId",
    "parentInstanceId",
    "tags",
    "customStatus",
    "failureKind",
    "failureMessage",
    "historyEvents",
    "historyBytes",
];

pub(super) async fn csv(page: Page) -> Shown {
    let list = Search::parse(&page.query).list(&page.client);
    let list = list.map_err(Refused::invalid).on(&page)?.limit(PAGE);
    let head = COLUMNS.join(",") + "\r\n";
    let rows = pieces(list.stream(), csv_row);
    let first = stream::once(async { Ok(Bytes::from(head)) });
    Ok(file(
        &page,
        "csv",
        "text/csv; charset=utf-8",
        Body::from_stream(first.chain(rows)),
    ))
}

pub(super) async fn lines(page: Page) -> Shown {
    let list = Search::parse(&page.query).list(&page.client);
    let mut list = list.map_err(Refused::invalid).on(&page)?.limit(PAGE);
    if page.query.is_set("payloads") {
        list = list.show_input().show_output();
    }
    let rows = pieces(list.stream(), |text, instance| {
        // Every instance can be written as JSON: the API does so, too.
        if let Ok(json) = serde_json::to_string(instance) {
            text.push_str(&json);
            text.push('\n');
        }
    });
    Ok(file(
        &page,
        "jsonl",
        "application/x-ndjson",
        Body::from_stream(rows),
    ))
}

/// Writes as many instances into one piece as were read at once.
fn pieces(
    instances: impl Stream<Item = Result<InstanceStatus, Error>> + Send + Unpin,
    write: impl Fn(&mut String, &InstanceStatus) + Send,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    instances.ready_chunks(PIECE).map(move |some| {
        let mut text = String::new();
        for instance in some {
            write(&mut text, &instance?);
        }
        Ok(Bytes::from(text))
    })
}

fn file(page: &Page, end: &str, kind: &'static str, body: Body) -> Response {
    let hub = page.hub().chars();
    let hub: String = hub
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{hub}-instances.{end}\""),
        ),
    ];
    (headers, body).into_response()
}

fn csv_row(text: &mut String, instance: &InstanceStatus) {
    let time = |at: Option<Timestamp>| at.map(show::utc).unwrap_or_default();
    let tags = instance
        .tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let tags: Vec<String> = tags.collect();
    let failure = instance.failure.as_ref();
    let cells = [
        instance.instance_id.clone(),
        instance.name.clone(),
        instance.version.clone().unwrap_or_default(),
        instance.runtime_status.to_string(),
        show::utc(instance.created_at),
        time(instance.started_at),
        show::utc(instance.last_updated_at),
        instance.execution_id.clone(),
        instance.parent_instance_id.clone().unwrap_or_default(),
        tags.join("; "),
        instance
            .custom_status
            .as_ref()
            .map_or_else(String::new, |custom| custom.as_str().to_owned()),
        failure
            .map(|failure| failure.kind.to_string())
            .unwrap_or_default(),
        failure
            .map(|failure| failure.message.clone())
            .unwrap_or_default(),
        instance.history_events.to_string(),
        instance.history_bytes.to_string(),
    ];
    for (at, value) in cells.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        cell(text, value);
    }
    text.push_str("\r\n");
}

/// Writes a cell. A spreadsheet takes what begins with one of these signs for a formula, which may read other cells or call programs; an
/// apostrophe before it makes it a text.
fn cell(text: &mut String, value: &str) {
    let is_formula = value.trim_start().starts_with(['=', '+', '-', '@'])
        || value.starts_with(['\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    let is_plain = !value.contains(['"', ',', '\r', '\n', ';']) && value.trim() == value;
    // Writing to a string cannot fail.
    let _ = if is_plain {
        write!(text, "{guard}{value}")
    } else {
        write!(text, "\"{guard}{}\"", value.replace('"', "\"\""))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &str) -> String {
        let mut text = String::new();
        cell(&mut text, value);
        text
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(written("order-1"), "order-1");
        assert_eq!(written(""), "");
        assert_eq!(written("a,b"), "\"a,b\"");
        assert_eq!(written("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(written("two\r\nlines"), "\"two\r\nlines\"");
        assert_eq!(written(" a"), "\" a\"");
    }

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(written("=1+1"), "'=1+1");
        assert_eq!(written("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(written("-2"), "'-2");
        assert_eq!(written("+2,\""), "\"'+2,\"\"\"");
        assert_eq!(written(" =x"), "\"' =x\"");
        assert_eq!(written("\t=x"), "\"'\t=x\"");
    }
}

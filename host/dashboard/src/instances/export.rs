//! Exports of all instances that match.

use axum::response::Response;
use perennial::{InstanceStatus, Timestamp};

use crate::export::{self, Exported, Format};
use crate::instances::search::Search;
use crate::page::Page;
use crate::refused::{OnPage, Refused, Shown};
use crate::show;

/// Instances per read.
const PAGE: u32 = 500;

pub(super) async fn csv(page: Page) -> Shown {
    all(&page, Format::Csv)
}

pub(super) async fn json(page: Page) -> Shown {
    all(&page, Format::Json)
}

pub(super) async fn lines(page: Page) -> Shown {
    all(&page, Format::Lines)
}

fn all(page: &Page, format: Format) -> Result<Response, Response> {
    let list = Search::parse(&page.query).list(&page.client);
    let mut list = list.map_err(Refused::invalid).on(page)?.limit(PAGE);
    if format != Format::Csv && page.query.is_set("payloads") {
        list = list.show_input().show_output();
    }
    let name = format!("{}-instances", page.hub());
    Ok(export::download(&name, format, list.stream()))
}

impl Exported for InstanceStatus {
    const COLUMNS: &'static [&'static str] = &[
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

    fn cells(&self) -> Vec<String> {
        let time = |at: Option<Timestamp>| at.map(show::utc).unwrap_or_default();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let tags = self
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let custom = self.custom_status.as_ref();
        let failure = self.failure.as_ref();
        vec![
            self.instance_id.clone(),
            self.name.clone(),
            text(&self.version),
            self.runtime_status.to_string(),
            show::utc(self.created_at),
            time(self.started_at),
            show::utc(self.last_updated_at),
            self.execution_id.clone(),
            text(&self.parent_instance_id),
            tags.collect::<Vec<_>>().join("; "),
            custom.map_or_else(String::new, |custom| custom.as_str().to_owned()),
            failure.map_or_else(String::new, |failure| failure.kind.to_string()),
            failure.map_or_else(String::new, |failure| failure.message.clone()),
            self.history_events.to_string(),
            self.history_bytes.to_string(),
        ]
    }
}

//! What the guests of an instance logged, as far as the host keeps it.

use maud::{Markup, html};
use perennial::{InstanceLogs, LogLevel, LogLine};

use super::{Tab, found, frame};
use crate::admit::Path;
use crate::page::Page;
use crate::refused::{OnPage, Shown};
use crate::show;

pub(super) async fn page(page: Page, Path((_, id)): Path<(String, String)>) -> Shown {
    let status = found(&page, &id).await?;
    let logs = page.client.logs(&id).await.on(&page)?;
    let body = html! { div data-part="logs" { (lines(&logs)) } };
    Ok(frame(&page, &status, Tab::Logs, &body))
}

fn lines(logs: &InstanceLogs) -> Markup {
    let Some(since) = logs.since else {
        return html! {
            div.card.empty {
                strong { "No lines to show" }
                "The host that runs this hub keeps them in its memory, and it is another process."
            }
        };
    };
    html! {
        p.hint {
            "Lines since the host started " (show::ago(since)) ", the newest 200 of this instance. They are only in the memory of the host."
            @if logs.partial { " Some older ones were dropped to make room." }
        }
        @if logs.lines.is_empty() {
            div.card.empty {
                strong { "Nothing was logged" }
                "Lines appear here when the orchestration or one of its activities logs something or writes to its standard output. \
                 A line of an orchestration appears when its turn is recorded."
            }
        } @else {
            div.card.scroll { table.log {
                caption { (show::plural(logs.lines.len() as u64, "line")) ", the oldest first" }
                thead { tr { th scope="col" { "Time" } th scope="col" { "Level" } th scope="col" { "Line" } } }
                tbody { @for one in &logs.lines { (line(one)) } }
            } }
        }
    }
}

fn line(line: &LogLine) -> Markup {
    let (level, is_bad) = match line.level {
        LogLevel::Trace => ("trace", false),
        LogLevel::Debug => ("debug", false),
        LogLevel::Info => ("info", false),
        LogLevel::Warn => ("warn", true),
        LogLevel::Error => ("error", true),
        _ => ("other", false),
    };
    html! {
        tr {
            td.tight { (show::time(line.at)) }
            td.tight { span.bad[is_bad] { (level) } }
            td { code { (line.message) } }
        }
    }
}

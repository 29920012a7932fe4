//! The log lines of an instance's guests, as far as the host keeps them.

use std::sync::Arc;

use perennial_core::{Rejection, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};

use crate::client::json::TimeText;
use crate::client::{Client, Error, Result};
use crate::engine::{Engine, Request};
use crate::guest_lines::{KeptLine, KeptLines, LINES_MAX, LogLevel};
use crate::store::Reply;

/// The newest log lines of an instance.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct InstanceLogs {
    /// When the host started, the last one of those that share the hub: it keeps no older lines. `None` if no host in the process that
    /// answers runs the hub: then there are no lines.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "sinceTime")]
    pub since: Option<Timestamp>,
    /// The lines of the orchestration and of its activities, the oldest first, at most 200.
    pub lines: Vec<LogLine>,
    /// Whether the host has dropped lines since then, so that older ones may be missing.
    pub partial: bool,
}

/// A line that a guest logged.
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LogLine {
    /// When it was logged; for an orchestration, when its turn was committed.
    #[serde_as(as = "TimeText")]
    #[serde(rename = "time")]
    pub at: Timestamp,
    /// Its level. Standard output has `info`, standard error `warn`.
    pub level: LogLevel,
    /// The text, in which line breaks and control characters are escaped.
    pub message: String,
}

impl Client {
    /// The newest log lines of an instance: what its orchestration and its activities logged since the host started, at level `info` and
    /// above, and below that what the log of the host records. They are only in the memory of the host, which keeps at most 200 lines of an
    /// instance and 4 MiB of all.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// for line in client.logs("order-17").await?.lines {
    ///     println!("{} {:?} {}", line.at, line.level, line.message);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such instance.
    pub async fn logs(&self, id: &str) -> Result<InstanceLogs> {
        let missing = || Error::rejected(id, Rejection::NotFound);
        if let Some(remote) = self.remote() {
            return remote.logs(id).await?.ok_or_else(missing);
        }
        let asked = id.to_owned();
        let row = self.read(move |reader| reader.instance(&asked)).await?;
        let created_at = row.ok_or_else(missing)?.created_at;
        let Some(kept) = self.engine().and_then(|engine| engine.lines.as_ref()) else {
            return Ok(InstanceLogs::default());
        };
        // Lines of an earlier instance of this id are not its own.
        let kept = match self.engine().filter(|engine| engine.is_shared()) {
            Some(engine) => of_all(engine, id, created_at).await,
            None => kept.of(id, created_at),
        };
        Ok(InstanceLogs {
            since: Some(kept.since),
            lines: kept.lines.into_iter().map(LogLine::from).collect(),
            partial: kept.is_partial,
        })
    }
}

/// The lines that the hosts of a hub keep: an instance may have run on several.
async fn of_all(engine: &Arc<Engine>, id: &str, from: Timestamp) -> KeptLines {
    let id = id.to_owned();
    let (replies, is_all) = engine.ask_hosts(Request::Lines { id, from }).await;
    let mut all = KeptLines {
        since: Timestamp(0),
        lines: Vec::new(),
        is_partial: !is_all,
    };
    for reply in replies {
        let Reply::Lines(text) = reply else { continue };
        let Ok(of_one) = serde_json::from_str::<KeptLines>(&text) else {
            all.is_partial = true;
            continue;
        };
        all.since = all.since.max(of_one.since);
        all.lines.extend(of_one.lines);
        all.is_partial |= of_one.is_partial;
    }
    all.lines.sort_by_key(|line| line.at);
    let beyond = all.lines.len().saturating_sub(LINES_MAX);
    all.lines.drain(..beyond);
    all
}

impl From<KeptLine> for LogLine {
    fn from(line: KeptLine) -> Self {
        Self {
            at: line.at,
            level: line.level,
            message: line.text.into(),
        }
    }
}

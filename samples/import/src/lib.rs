//! An activity that lasts: it says with heartbeats how far it is, and its next attempt goes on from there.

use perennial_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Batch {
    rows: u64,
    /// The connection breaks after so many rows of an attempt.
    breaks_after: Option<u64>,
}

#[derive(FailureKind)]
enum ImportError {
    #[failure("the connection broke after row {0}")]
    ConnectionBroke(u64),
}

/// Imports a batch. The activity is tried again when it fails or sends no heartbeat for a minute.
#[orchestration]
async fn import(ctx: Context, batch: Batch) -> Result<u64, Failure> {
    ctx.call(import_rows, batch)
        .heartbeat_timeout(Duration::from_secs(60))
        .retry(RetryPolicy::new(10, Duration::from_secs(1)))
        .await
}

#[activity]
fn import_rows(ctx: ActivityContext, batch: Batch) -> Result<u64, Failure> {
    // What attempts before this one have done; also one that was cut off by a crash of the host.
    let done: u64 = ctx.last_heartbeat().unwrap_or(0);
    for row in done..batch.rows {
        if batch.breaks_after.is_some_and(|rows| row == done + rows) {
            return Err(ImportError::ConnectionBroke(row).into());
        }
        // Here it would write the row. A heartbeat after it says that it need not be written again; `?` stops an attempt that was cancelled, or
        // whose host is about to stop.
        ctx.heartbeat(row + 1)?;
    }
    Ok(batch.rows)
}

perennial_sdk::export! {
    orchestrations: [import],
    activities: [import_rows],
}

#[cfg(test)]
mod tests {
    use perennial_sdk::testing::Environment;

    use super::*;

    #[test]
    fn each_attempt_goes_on_where_the_last_one_stopped() {
        let environment = Environment::of(perennial_sdk::exported!());
        let batch = Batch {
            rows: 10,
            breaks_after: Some(4),
        };
        let report = environment.start("Import", batch).finish();
        assert_eq!(report.output::<u64>(), 10);
        // Four rows, four more, and then the last two.
        let failures = report.calls("ImportRows")[0].failures();
        let failures: Vec<&str> = failures.iter().map(Failure::message).collect();
        assert_eq!(
            failures,
            [
                "the connection broke after row 4",
                "the connection broke after row 8"
            ]
        );
    }

    #[test]
    fn it_gives_up_in_the_end() {
        let environment = Environment::of(perennial_sdk::exported!());
        let batch = Batch {
            rows: 10,
            breaks_after: Some(0),
        };
        let report = environment.start("Import", batch).finish();
        assert_eq!(report.failure().kind(), "ConnectionBroke");
    }
}

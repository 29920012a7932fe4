//! Human interaction: a request waits for a manager's decision; when the time is up it goes to the director, and in the end nowhere.

use perennial_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Request {
    purpose: String,
    /// How long each of them has.
    #[serde(default = "three_days")]
    patience_secs: u64,
}

/// The event `Decision`.
#[derive(Deserialize)]
struct Decision {
    approved: bool,
    by: String,
}

#[derive(Serialize)]
struct Outcome {
    approved: bool,
    by: Option<String>,
    escalated: bool,
}

#[derive(Serialize)]
struct Notice {
    to: String,
    text: String,
}

/// How people are told is up to the program that runs this: an activity of its own, which no module defines.
const NOTIFY: ActivityName<Notice, ()> = ActivityName::new("Notify");

#[orchestration]
async fn approve(ctx: Context, request: Request) -> Result<Outcome, Failure> {
    let patience = Duration::from_secs(request.patience_secs);
    for (to, escalated) in [("manager", false), ("director", true)] {
        notify(&ctx, to, &request.purpose).await;
        ctx.set_custom_status(format!("waits for the {to}"))?;
        if let Some(decision) = ctx.event::<Decision>("Decision").within(patience).await? {
            return Ok(Outcome {
                approved: decision.approved,
                by: Some(decision.by),
                escalated,
            });
        }
    }
    Ok(Outcome {
        approved: false,
        by: None,
        escalated: true,
    })
}

/// Nobody hears of it where there is no such activity, but a decision is taken all the same.
async fn notify(ctx: &Context, to: &str, purpose: &str) {
    let notice = Notice {
        to: to.to_owned(),
        text: format!("please decide on {purpose}"),
    };
    if let Err(failure) = ctx.call(NOTIFY, notice).await {
        warn!("the {to} was not told: {failure}");
    }
}

fn three_days() -> u64 {
    3 * 24 * 60 * 60
}

perennial_sdk::export! {
    orchestrations: [approve],
}

#[cfg(test)]
mod tests {
    use perennial_sdk::serde_json::{Value, json};
    use perennial_sdk::testing::{Environment, Report, Run};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn request() -> Run {
        let environment = Environment::of(perennial_sdk::exported!())
            .activity("Notify", |_: Value| Ok::<_, Failure>(()));
        environment.start("Approve", json!({ "purpose": "a chair" }))
    }

    fn told(report: &Report) -> Vec<String> {
        let notices = report.calls("Notify");
        let mut notices = notices.iter().map(perennial_sdk::testing::Call::input);
        notices
            .by_ref()
            .map(|notice: Value| notice["to"].to_string())
            .collect()
    }

    #[test]
    fn the_manager_decides() {
        let decision = json!({ "approved": true, "by": "Ann" });
        let report = request()
            .raise_after(2 * DAY, "Decision", decision)
            .finish();
        let outcome: Value = report.output();
        assert_eq!(
            outcome,
            json!({ "approved": true, "by": "Ann", "escalated": false })
        );
        assert_eq!(told(&report), [r#""manager""#]);
    }

    #[test]
    fn after_three_days_the_director_decides_and_after_six_nobody() {
        let decision = json!({ "approved": false, "by": "Bea" });
        let report = request()
            .raise_after(4 * DAY, "Decision", decision)
            .finish();
        assert_eq!(report.output::<Value>()["escalated"], true);
        let report = request().finish();
        assert_eq!(report.output::<Value>()["by"], Value::Null);
        assert_eq!((report.elapsed(), told(&report).len()), (6 * DAY, 2));
        let statuses = report.custom_statuses::<String>();
        assert_eq!(statuses.len(), 2, "{report}");
    }

    #[test]
    fn without_somebody_who_notifies_a_decision_is_taken_all_the_same() {
        let environment = Environment::of(perennial_sdk::exported!());
        let run = environment.start("Approve", json!({ "purpose": "a chair" }));
        let decision = json!({ "approved": true, "by": "Ann" });
        let report = run.raise_when_waiting("Decision", decision).finish();
        assert_eq!(report.output::<Value>()["approved"], true);
        assert_eq!(report.log().len(), 1, "the warning that nobody was told");
    }
}

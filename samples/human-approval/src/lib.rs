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
    orchestrations: { "Approve" => approve },
}

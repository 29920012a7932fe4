//! A monitor: it looks at a job again and again, with durable timers in between, until the job is done or the time is up.

use perennial_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Job {
    name: String,
    /// It is done at this look.
    done_at_look: u32,
    #[serde(default = "half_a_minute")]
    every_secs: u64,
    #[serde(default = "an_hour")]
    give_up_after_secs: u64,
}

#[derive(Serialize, Deserialize)]
struct Progress {
    looks: u32,
    done: bool,
}

#[orchestration]
async fn monitor(ctx: Context, job: Job) -> Result<Progress, Failure> {
    let deadline = ctx.now() + Duration::from_secs(job.give_up_after_secs);
    let mut looks = 0;
    loop {
        looks += 1;
        let done = ctx.call(look, (job.clone(), looks)).await?;
        ctx.set_custom_status(Progress { looks, done })?;
        if done {
            return Ok(Progress { looks, done });
        }
        let next = ctx.now() + Duration::from_secs(job.every_secs);
        if next > deadline {
            let message = format!("{} is not done after {looks} looks", job.name);
            return Err(Failure::new("GaveUp", message));
        }
        // It costs nothing while it waits, and goes on wherever the host is then.
        ctx.timer_at(next).await?;
    }
}

/// Stands for a request to where the job runs.
#[activity]
fn look((job, number): (Job, u32)) -> Result<bool, Failure> {
    Ok(number >= job.done_at_look)
}

fn half_a_minute() -> u64 {
    30
}

fn an_hour() -> u64 {
    60 * 60
}

perennial_sdk::export! {
    orchestrations: [monitor],
    activities: [look],
}

#[cfg(test)]
mod tests {
    use perennial_sdk::testing::Environment;

    use super::*;

    fn job(done_at_look: u32) -> Job {
        Job {
            name: "a build".to_owned(),
            done_at_look,
            every_secs: 30,
            give_up_after_secs: 3_600,
        }
    }

    #[test]
    fn it_looks_every_half_minute_until_the_job_is_done() {
        let environment = Environment::of(perennial_sdk::exported!());
        let report = environment.start("Monitor", job(4)).finish();
        assert_eq!(report.output::<Progress>().looks, 4);
        assert_eq!(report.elapsed(), Duration::from_secs(90));
        let seen = report.custom_statuses::<Progress>();
        let done: Vec<bool> = seen.into_iter().flatten().map(|one| one.done).collect();
        assert_eq!(done, [false, false, false, true]);
    }

    #[test]
    fn it_gives_up_after_an_hour() {
        let environment = Environment::of(perennial_sdk::exported!());
        let report = environment.start("Monitor", job(1_000)).finish();
        assert_eq!(report.failure().kind(), "GaveUp");
        report.assert_calls("Look", 121);
        assert_eq!(report.elapsed(), Duration::from_secs(3_600));
    }

    #[test]
    fn a_look_that_takes_long_moves_the_next_one() {
        let environment =
            Environment::of(perennial_sdk::exported!()).takes("Look", Duration::from_secs(10));
        let report = environment.start("Monitor", job(2)).finish();
        assert_eq!(report.elapsed(), Duration::from_secs(10 + 30 + 10));
    }
}

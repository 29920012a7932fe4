//! How programs are put together: the ordinary combinators work, and replay.

use serde_json::json;

use super::*;

#[tokio::test]
async fn join_waits_for_all_in_any_order() {
    for between in ALL {
        let mut stage = Stage::probe().await;
        stage.start("Joins", Value::Null).await;
        stage.awaits("Left").await;
        stage.raise("right", json!(2)).await;
        stage.disturb(between).await;
        stage.raise("LEFT", json!(1)).await;
        stage.awaits("Third").await;
        stage.disturb(between).await;
        stage.raise("Third", json!(3)).await;
        assert_eq!(output(&stage.end(ID).await), json!([1, 2, 3]));
        stage.close().await;
    }
}

#[tokio::test]
async fn select_takes_what_comes_until_the_time_is_up() {
    for between in ALL {
        let mut stage = Stage::probe().await;
        stage.start("Selects", Value::Null).await;
        for item in 0..3 {
            stage.awaits("Item").await;
            stage.disturb(between).await;
            stage.advance(10);
            stage.raise("Item", json!(item)).await;
        }
        // The last one is taken before the time is up.
        stage.until(ID, |status| status.history_events >= 9).await;
        stage.advance(30);
        assert_eq!(output(&stage.end(ID).await), json!([0, 1, 2]));
        stage.close().await;
    }
}

#[tokio::test]
async fn a_select_that_shuffles_draws_the_same_in_a_replay() {
    for between in ALL {
        let mut stage = Stage::probe().await;
        stage.start("SelectsAtRandom", json!(32)).await;
        for _ in 0..4 {
            stage.awaits("Go").await;
            stage.disturb(between).await;
            stage.raise("Go", Value::Null).await;
        }
        let order: Vec<u8> = serde_json::from_value(output(&stage.end(ID).await)).unwrap();
        assert_eq!(order.len(), 32);
        assert!((0..3).all(|n| order.contains(&n)), "{order:?}");
        stage.close().await;
    }
}

#[tokio::test]
async fn what_comes_first_is_given_first() {
    for between in ALL {
        let mut stage = Stage::probe().await;
        let names = ["A", "B", "C", "D"];
        stage.start("AsTheyCome", json!(names)).await;
        let order = ["C", "A", "D", "B"];
        for (n, name) in order.into_iter().enumerate() {
            stage.awaits(name).await;
            stage.disturb(between).await;
            stage.raise(name, json!(name)).await;
            let taken = |status: &InstanceStatus| {
                status.waits_for.len() < names.len() - n || status.is_ended()
            };
            stage.until(ID, taken).await;
        }
        assert_eq!(output(&stage.end(ID).await), json!(order));
        stage.close().await;
    }
}

#[tokio::test]
async fn a_status_says_everything_that_it_waits_for() {
    for between in ALL {
        let mut stage = Stage::probe().await;
        let begun = stage.clock.now();
        stage.start("Waits", Value::Null).await;
        let failed_once = |wait: &Wait| matches!(wait, Wait::Activity { attempt: 2, .. });
        let running = |wait: &Wait| {
            matches!(
                wait,
                Wait::Child {
                    status: Status::Running,
                    ..
                }
            )
        };
        let all = |status: &InstanceStatus| {
            status.waits_for.iter().any(failed_once) && status.waits_for.iter().any(running)
        };
        stage.until(ID, all).await;
        stage.disturb(between).await;
        let waits = stage.until(ID, all).await.waits_for;
        let has = |is_it: &dyn Fn(&Wait) -> bool| assert!(waits.iter().any(is_it), "{waits:?}");
        let tried = if between == Between::Restart { 2 } else { 1 };
        has(&|wait| matches!(wait, Wait::ExternalEvent { name } if name == "Approval"));
        has(&|wait| matches!(wait, Wait::Note(note) if note == "waits for one of everything"));
        has(
            &|wait| matches!(wait, Wait::Timer { due, .. } if *due == begun.after(Millis(3_600_000))),
        );
        has(&|wait| matches!(wait, Wait::Child { instance_id, .. } if instance_id == "the-child"));
        has(
            // A host that stops cuts the attempt off, which counts.
            &|wait| matches!(wait, Wait::Activity { name, attempt, last_failure: None, next_attempt_at: None, .. } if name == "Hold" && *attempt == tried),
        );
        has(&|wait| match wait {
            Wait::Activity {
                name,
                last_failure: Some(failure),
                next_attempt_at: Some(next),
                ..
            } => {
                name == "Flaky"
                    && failure.message == "not yet"
                    && *next == begun.after(Millis(60_000))
            }
            _ => false,
        });
        assert_eq!(waits.len(), 6, "{waits:?}");
        stage.raise("approval", json!("yes")).await;
        assert_eq!(output(&stage.end(ID).await), json!(["yes"]));
        stage.close().await;
    }
}

#[tokio::test]
async fn timers_may_take_a_century_or_for_ever() {
    for between in ALL {
        let mut stage = Stage::probe().await;
        let begun = stage.clock.now();
        stage.start("Far", json!(100)).await;
        let timers = |status: &InstanceStatus| status.waits_for.len() == 2;
        stage.until(ID, timers).await;
        stage.disturb(between).await;
        stage.advance(50 * 365 * 86_400);
        stage.disturb(between).await;
        let waits = stage.until(ID, timers).await;
        assert!(!waits.is_ended());
        stage.advance(50 * 365 * 86_400);
        let times: [String; 2] = serde_json::from_value(output(&stage.end(ID).await)).unwrap();
        let year = |time: &str| time[..4].parse::<u32>().unwrap();
        assert!(
            (99..=100).contains(&(year(&times[1]) - year(&times[0]))),
            "{times:?}"
        );
        assert!(stage.clock.now() >= begun.after(Millis(100 * 365 * 86_400_000)));
        stage.close().await;
    }
}

#[tokio::test]
async fn an_execution_knows_who_it_is() {
    let mut stage = Stage::probe().await;
    let client = stage.client();
    client
        .start("Knows")
        .id(ID)
        .input(&false)
        .tag("team", "blue")
        .await
        .unwrap();
    let known = output(&stage.end(ID).await);
    let expected = json!({
        "id": ID, "name": "Knows", "version": null, "parent": null, "tags": [["team", "blue"]], "historyGrows": true,
        "draws": [true, true], "uuidVersion": 5, "execution": 32,
    });
    assert_eq!(known, expected);
    client
        .start("Knows")
        .id("family")
        .input(&true)
        .await
        .unwrap();
    let known = output(&stage.end("family").await);
    assert_eq!(known["id"], "family-child");
    assert_eq!(known["parent"], json!(["family", "Knows", 0]));
    assert_eq!(known["tags"], json!([["colour", "green"]]));
    stage.close().await;
}

#[tokio::test]
async fn instances_start_and_message_each_other() {
    let mut stage = Stage::probe().await;
    stage.start("Messages", json!("the-other")).await;
    assert_eq!(output(&stage.end(ID).await), Value::Null);
    let other = stage.end("the-other").await;
    assert_eq!(output(&other), json!([1, 2]));
    assert_eq!(other.tags, [("from".to_owned(), ID.to_owned())]);
    assert_eq!(other.parent_instance_id, None);
    stage.close().await;
}

#[tokio::test]
async fn what_is_called_by_its_type_is_called_by_its_name() {
    let mut stage = Stage::probe().await;
    stage.start("Typed", json!("launched")).await;
    assert_eq!(output(&stage.end(ID).await), json!("native 7 \"Knows\""));
    stage
        .client()
        .raise_event("launched", "go", &5)
        .await
        .unwrap();
    assert_eq!(output(&stage.end("launched").await), json!([5]));
    stage.close().await;
}

#[tokio::test]
async fn a_limit_may_be_put_around_anything() {
    for between in ALL {
        let mut stage = Stage::probe().await;
        stage.start("Limited", Value::Null).await;
        let mut fired = 0;
        for _ in 0..3 {
            let next = |status: &InstanceStatus| {
                let due = status.waits_for.iter().find_map(|wait| match wait {
                    Wait::Timer { due, .. } => Some(due.0),
                    _ => None,
                });
                due.is_some_and(|due| due > fired)
            };
            stage.until(ID, next).await;
            stage.disturb(between).await;
            stage.advance(30);
            fired = stage.clock.now().0;
        }
        let ends: Vec<String> = serde_json::from_value(output(&stage.end(ID).await)).unwrap();
        let late = "Timeout: it was not done after 30s";
        assert_eq!(ends, [late, late, late, "null"]);
        stage.close().await;
    }
}

#[tokio::test]
async fn the_whole_chain_of_causes_reaches_the_client() {
    let mut stage = Stage::probe().await;
    let ended = stage.run("FailsThrough", json!(3)).await;
    let failure = failure(&ended);
    let mut chain = vec![(failure.kind.as_str(), failure.message.as_str())];
    chain.extend(
        failure
            .causes
            .iter()
            .map(|cause| (cause.kind.as_str(), cause.message.as_str())),
    );
    assert_eq!(
        chain,
        [
            ("StepFailed", "generation 3 of FailsThrough"),
            ("StepFailed", "generation 2 of FailsThrough"),
            ("StepFailed", "generation 1 of FailsThrough"),
            ("CardDeclined", "declined: no money"),
            ("ParseIntError", "invalid digit found in string"),
        ]
    );
    // Let through with `?`, a failure arrives as it was, with its details.
    let ended = stage.run("FailsBelow", Value::Null).await;
    let failure = super::failure(&ended);
    assert_eq!(failure.kind, "CardDeclined");
    assert_eq!(failure.details.as_ref().unwrap().as_str(), "1");
    assert!(!failure.retryable);
    stage.close().await;
}

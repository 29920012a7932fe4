//! Random programs as components: each ends as the model says, and so as the same source does natively on the engine.

use super::*;

#[path = "../../guests/interpreter/src/program.rs"]
mod program;

use program::{Dice, FIRST_EVENT, Input};

const PROGRAMS: u64 = 4;

async fn check(seed: u64) {
    let mut dice = Dice(seed);
    let mut stage = Stage::with("interpreter", Limits::default()).await;
    let client = stage.client();
    let mut values = Vec::new();
    for n in 0..PROGRAMS {
        let (input, value, events) = Input::random(&mut dice, 3);
        values.push(value);
        let id = format!("p{n}");
        client.start("Program").id(&id).input(&input).await.unwrap();
        for event in 0..events {
            // One that has ended already needs no event.
            let data = FIRST_EVENT + event;
            let _ = client.raise_event(&id, &format!("E{event}"), &data).await;
        }
    }
    for round in 0.. {
        stage
            .clock
            .advance(Millis(dice.roll(if round < 20 { 30 } else { 2_000 })));
        match dice.roll(12) {
            0 if round < 20 => stage.disturb(Between::Restart).await,
            1..=4 => drop(stage.host.as_ref().unwrap().evict_all()),
            _ => tokio::task::yield_now().await,
        }
        if all_ended(&stage.client()).await {
            break;
        }
    }
    for (n, value) in values.iter().enumerate() {
        let id = format!("p{n}");
        let ended = stage.end(&id).await;
        assert_eq!(output(&ended), Value::from(*value), "seed {seed}, {id}");
    }
    stage.close().await;
}

async fn all_ended(client: &Client) -> bool {
    for n in 0..PROGRAMS {
        let status = client.status(format!("p{n}")).await.unwrap().unwrap();
        if !status.is_ended() {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn random_programs_end_as_the_model_says_whatever_happens() {
    let seeds = match std::env::var_os("PERENNIAL_LONG") {
        Some(_) => 200,
        None => 8,
    };
    for seed in 0..seeds {
        check(seed).await;
    }
}

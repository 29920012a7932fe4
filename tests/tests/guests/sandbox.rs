//! What an orchestration can observe is the same in every replay. Each turn's sight is the input of an activity, so a replay that saw
//! something else would ask for something else, and the instance would be quarantined and never end.

use super::*;

/// What an orchestration of the probe saw in each of its turns.
async fn sights(name: &str, between: Between) -> Vec<Value> {
    let mut stage = Stage::probe().await;
    stage.start(name, Value::Null).await;
    for _ in 0..3 {
        stage.awaits("Go").await;
        stage.disturb(between).await;
        stage.advance(1);
        stage.raise("go", Value::Null).await;
    }
    let seen = output(&stage.end(ID).await);
    stage.close().await;
    assert_eq!(stage.replays > 0, between != Between::Nothing);
    seen.as_array().unwrap().clone()
}

async fn each(name: &str, check: impl Fn(Vec<Value>)) {
    for between in ALL {
        check(sights(name, between).await);
    }
}

#[tokio::test]
async fn both_clocks_stand_at_the_time_of_the_turn() {
    // Without a system the library has no clocks; the context has.
    if !Way::here().has_system() {
        return;
    }
    each("Clocks", |sights| {
        let sights: Vec<[u64; 4]> = sights
            .into_iter()
            .map(|sight| serde_json::from_value(sight).unwrap())
            .collect();
        for (turn, [now, wall, span, elapsed]) in sights.iter().enumerate() {
            assert_eq!((now, span), (wall, elapsed));
            assert_eq!(*now, sights[0][0] + 1_000 * turn as u64);
            assert_eq!(*span, 1_000_000_000 * turn as u64);
        }
    })
    .await;
}

#[tokio::test]
async fn the_order_of_a_hash_map_is_repeated() {
    each("Hashes", |sights| {
        for (turn, sight) in sights.iter().enumerate() {
            let mut numbers: Vec<u32> = serde_json::from_value(sight[0].clone()).unwrap();
            let sorted: Vec<u32> = (0..40).collect();
            assert_ne!(numbers, sorted, "the order is no secret order");
            numbers.sort_unstable();
            assert_eq!(numbers, sorted);
            assert_eq!(sight[1].as_array().unwrap().len(), 21 + turn);
        }
    })
    .await;
}

#[tokio::test]
async fn random_numbers_are_repeated_and_do_not_repeat() {
    each("Randoms", |sights| {
        let mut drawn: Vec<&str> = sights
            .iter()
            .flat_map(|sight| sight.as_array().unwrap())
            .map(|value| value.as_str().unwrap())
            .collect();
        assert!(
            drawn.iter().all(|value| !value.contains("Err")),
            "{drawn:?}"
        );
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 3 * 5);
    })
    .await;
    // Another execution draws others.
    let (one, other) = (
        sights("Randoms", Between::Nothing).await,
        sights("Randoms", Between::Nothing).await,
    );
    assert_ne!(one, other);
}

#[tokio::test]
async fn what_is_no_number_has_the_same_bits_on_every_machine() {
    each("Floats", |sights| {
        for sight in sights {
            let bits: Vec<String> = serde_json::from_value(sight).unwrap();
            let (doubles, singles) = bits.split_at(8);
            assert_eq!(doubles, ["7ff8000000000000"; 8]);
            assert_eq!(singles, ["7fc00000"; 2]);
        }
    })
    .await;
}

#[tokio::test]
async fn there_is_nothing_around_it() {
    // Without a system the library does not even look.
    if !Way::here().has_system() {
        return;
    }
    each("Surroundings", |sights| {
        for sight in sights {
            let seen: Vec<String> = serde_json::from_value(sight).unwrap();
            assert_eq!(seen[..2], ["variables: 0", "arguments: 0"]);
            for attempt in &seen[2..] {
                assert!(
                    !attempt.contains("it worked") && !attempt.contains("Ok("),
                    "{attempt}"
                );
            }
        }
    })
    .await;
}

/// Runs one of the probes that take more in each turn, under limits that change after its first turn.
async fn under(name: &str, input: u64, before: Limits, after: Limits) -> InstanceStatus {
    let mut stage = Stage::with("probe", before).await;
    stage.limits = after;
    stage.start(name, input.into()).await;
    for _ in 0..3 {
        // One that has failed waits for nothing.
        let waits = stage
            .until(ID, |status| {
                status.is_ended() || !status.waits_for.is_empty()
            })
            .await;
        if waits.is_ended() {
            break;
        }
        stage.disturb(Between::Restart).await;
        // One that has failed meanwhile takes no more.
        let _ = stage.client().raise_event(ID, "Go", &()).await;
    }
    let ended = stage.end(ID).await;
    stage.disturb(Between::Restart).await;
    let again = stage.client().status(ID).await.unwrap().unwrap();
    assert_eq!(
        (&again.failure, &again.output),
        (&ended.failure, &ended.output)
    );
    stage.close().await;
    ended
}

#[tokio::test]
async fn an_execution_keeps_the_limits_that_it_began_with() {
    let (plenty, little) = (
        Limits::default(),
        Limits {
            fuel_base: 1_000,
            fuel_per_event: 1_000,
            memory_bytes: 4 << 20,
            ..Limits::default()
        },
    );
    // Millions of instructions a turn, and 30 MiB in the end: more than a host would give today, which nobody asks it for.
    for (name, input) in [("BurnsEachTurn", 1_000_000), ("HoldsMemory", 10 << 20)] {
        output(&under(name, input, plenty, little).await);
    }
}

#[tokio::test]
async fn a_verdict_is_recorded_and_never_derived_again() {
    let little_fuel = Limits {
        fuel_base: 3_000_000,
        fuel_per_event: 0,
        ..Limits::default()
    };
    let ended = under("BurnsEachTurn", 1_000_000, little_fuel, Limits::default()).await;
    assert_eq!(failure(&ended).kind, "OutOfFuel");
    // Its third piece does not fit, so the verdict comes after two turns that are replayed under other limits.
    let little_memory = Limits {
        memory_bytes: 30 << 20,
        ..Limits::default()
    };
    let ended = under("HoldsMemory", 12 << 20, little_memory, Limits::default()).await;
    assert_eq!(failure(&ended).kind, "OutOfMemory");
    assert_eq!(
        failure(&ended).message,
        "more than the limit of 31457280 bytes of memory"
    );
    let roomy = Limits {
        memory_bytes: 1 << 30,
        ..Limits::default()
    };
    output(&under("HoldsMemory", 12 << 20, roomy, Limits::default()).await);
}

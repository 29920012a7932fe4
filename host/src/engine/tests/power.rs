//! Power losses. Whichever parts of unsynced writes reached the disk, the hub opens, is intact, and has everything that was acknowledged.

use std::collections::BTreeSet;

use super::random::{Dice, Input, Op, world};
use super::seeds::{Named, each_of, seeds};
use super::world::*;
use crate::engine::Request;
use crate::store::Reply;
use crate::store::disk::{Disk, Entry};
use perennial_core::{Event, Failure, Message};

/// Number of seeds in a usual run, and in a long one.
const SEEDS: (u64, u64) = (6, 200);

/// Number of programs per seed.
const PROGRAMS: u64 = 10;

/// Number of power losses per seed after which the hub also runs to its end.
const GO_ON_FROM: u64 = 3;

/// An acknowledgement to a client, as text.
fn told(what: &str, id: &str, more: &str) -> String {
    format!("{what} {id} {more}")
}

/// Makes the activities record on the disk that they began.
fn marking(disk: &Disk, world: &World) {
    for name in ["Echo", "FailsFirst", "Broken"] {
        let disk = disk.clone();
        world.activities.add(name, move |attempt| {
            disk.mark(told("began", &attempt.idempotency_key(), ""));
            let text = attempt.input.as_ref().map_or("", |input| input.as_str());
            match attempt.name.as_str() {
                "Broken" => Err(Failure::permanent("Broken", "")),
                "FailsFirst" => {
                    let (value, fails): (u64, u32) = serde_json::from_str(text).unwrap();
                    if attempt.attempt <= fails {
                        return Err(Failure::retryable("Flaky", ""));
                    }
                    Ok(Some(json(value)))
                }
                _ => Ok(Some(json(text))),
            }
        });
    }
}

/// Runs random programs to their ends on a recorded disk, and returns their expected results.
fn record(world: &World, disk: &Disk, dice: &mut Dice) -> Vec<u64> {
    let host = world.open();
    let mut values = Vec::new();
    for n in 0..PROGRAMS {
        let (id, mut events) = (format!("p{n}"), 0);
        let op = Op::random(dice, 3, &mut events);
        values.push(op.value());
        let input = Input {
            sum: 0,
            rounds: vec![op],
        };
        host.start_with("Program", &id, serde_json::to_string(&input).unwrap());
        disk.mark(told("started", &id, ""));
        for event in 0..events {
            let name = format!("e{event}");
            let raised = host.submit(Request::RaiseEvent {
                id: id.clone(),
                name: name.clone(),
                data: Some(json(10_000 + event)),
            });
            if raised.unwrap() == Reply::Done {
                disk.mark(told("raised", &id, &name));
            }
        }
        host.advance(dice.roll(30));
    }
    for (n, value) in values.iter().enumerate() {
        let id = format!("p{n}");
        while !host.row(&id).unwrap().status.is_end() {
            host.advance(10);
            std::thread::yield_now();
        }
        assert_eq!(host.end(&id), value.to_string());
        disk.mark(told("ended", &id, &value.to_string()));
    }
    values
}

/// Everything in a hub that a client could be told.
fn known(world: &World) -> BTreeSet<String> {
    let db = rusqlite::Connection::open(world.path()).unwrap();
    let found: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, "ok");
    let reader = world.reader();
    let mut known = BTreeSet::new();
    let all = crate::store::ListQuery {
        limit: 100_000,
        ..Default::default()
    };
    for row in reader.list(&all).unwrap().rows {
        known.insert(told("started", &row.id, ""));
        if row.status.is_end() {
            let row = reader.instance_by_key(row.key).unwrap().unwrap();
            let output = row.output.map(|output| output.to_string());
            known.insert(told("ended", &row.id, &output.unwrap_or_default()));
            // Events that arrived after the end are not kept.
            known.extend((0..100).map(|n| told("raised", &row.id, &format!("e{n}"))));
        }
        let turns = reader.turns(row.key, row.execution, 0, u32::MAX).unwrap();
        for event in turns.iter().flat_map(|turn| turn.events()) {
            if let Event::ActivityScheduled { task, .. } = event {
                known.insert(told("began", &format!("{}:{task}", row.execution_id), ""));
            } else if let Event::ExternalEventRaised { name, .. } = event {
                known.insert(told("raised", &row.id, name));
            }
        }
        for envelope in reader.inbox(row.key, 0, 10_000).unwrap().envelopes {
            if let Message::ExternalEvent { name, .. } = envelope.message {
                known.insert(told("raised", &row.id, &name));
            }
        }
    }
    world.check_histories(&reader);
    known
}

/// The disk after a power loss at this point, which loses `lost` in eight of the unsynced sectors.
fn after(world: &World, disk: &Disk, so_far: &[Entry], dice: &mut Dice, lost: u64) -> World {
    let image = world.another();
    disk.image(so_far, image.dir(), || dice.roll(8) >= lost);
    let known = known(&image);
    for entry in so_far {
        if let Entry::Mark(told) = entry {
            assert!(known.contains(told), "lost: {told:?}");
        }
    }
    image
}

/// Runs a seed, and returns the number of simulated power losses.
fn check(seed: u64) -> u64 {
    let _named = Named(seed);
    let mut dice = Dice(seed);
    let mut world = world().in_file();
    // Every second world has the programs of a worker.
    let remote = !seed.is_multiple_of(2);
    (world.remote, world.with_worker) = (remote, remote);
    drop(world.open());
    let disk = Disk::under(world.dir());
    marking(&disk, &world);
    let values = record(&world, &disk, &mut dice);
    let entries = disk.entries();
    let of = |is: fn(&Entry) -> bool| entries.iter().filter(|entry| is(entry)).count();
    let folded = of(|entry| matches!(entry, Entry::Sync { file } if file == "hub.db"));
    assert!(folded > 0, "the log was never folded into the file");
    let moments = (0..entries.len())
        .filter(|place| !matches!(entries[*place], Entry::Write { .. }))
        // Right before and right after each.
        .flat_map(|place| [place, place + 1]);
    let (mut losses, mut images) = (0, Vec::new());
    for moment in moments {
        let lost = [8, 1, 4, 7][dice.roll(4) as usize];
        images.push(after(&world, &disk, &entries[..moment], &mut dice, lost));
        losses += 1;
        if images.len() > 8 {
            images.swap_remove(dice.roll(8) as usize);
        }
    }
    drop(disk);
    for image in images.into_iter().take(GO_ON_FROM as usize) {
        go_on(&image, &values);
    }
    losses
}

/// Continues after the power loss until every program has ended.
fn go_on(image: &World, values: &[u64]) {
    let recorded = image.recorded();
    let host = image.open();
    for (n, value) in values.iter().enumerate() {
        let id = format!("p{n}");
        if host.row(&id).is_none() {
            continue;
        }
        // Send unacknowledged events again. A second event of the same name has no effect.
        for event in 0..20 {
            let (name, data) = (format!("e{event}"), Some(json(10_000 + event)));
            let raise = Request::RaiseEvent {
                id: id.clone(),
                name,
                data,
            };
            host.submit(raise).unwrap();
        }
        while !host.row(&id).unwrap().status.is_end() {
            host.advance(10);
            std::thread::yield_now();
        }
        assert_eq!(host.end(&id), value.to_string());
    }
    host.check_histories();
    let began = image.activities.began();
    let again = began.iter().find(|(key, _)| recorded.contains(key));
    assert_eq!(again, None, "its result was in the hub");
}

#[test]
fn whatever_a_power_loss_leaves_the_hub_is_whole_and_has_what_was_acknowledged() {
    each_of("power losses", seeds(SEEDS), check);
}

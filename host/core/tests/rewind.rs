//! Going back to before a failure.

mod common;

use std::collections::BTreeSet;

use common::random::Manners;
use common::simulation::{Step, World, replay_in, step};
use common::words::*;
use perennial_core::{
    Cut, CutFinder, DroppedKind, Event, FailedKind, Failure, Message, Phase, Rewind, Rewinder,
    Scope, Status, TaskId, TaskRef, Timestamp, Turn,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

// --- Of single histories

/// Rewinds what an instance did.
fn rewind(world: &common::World) -> Rewind {
    rewind_with(world, [])
}

fn cut_of(world: &common::World, scope: Scope) -> Option<Cut> {
    let mut finder = CutFinder::default();
    world.turns.iter().for_each(|turn| finder.see(turn));
    finder.cut(scope)
}

fn rewind_with(world: &common::World, unread: impl IntoIterator<Item = Message>) -> Rewind {
    let cut = cut_of(world, Scope::Together).expect("it failed");
    let mut rewinder = Rewinder::new(&cut, 1);
    for turn in &world.turns {
        rewinder.see(turn).expect("it can be read");
    }
    rewinder
        .finish(unread, Timestamp(9_000))
        .expect("it can be cut")
}

fn armed(rewind: &Rewind) -> Vec<u32> {
    rewind.activities.iter().map(|armed| armed.task.0).collect()
}

/// The same task in the generation that begins.
fn again(task: u32) -> TaskRef {
    TaskRef {
        execution: 0,
        generation: 1,
        task: TaskId(task),
    }
}

#[test]
fn the_cut_is_at_the_named_cause_else_the_last_failure_else_the_last_turn() {
    let history = |cause| {
        common::World::new([
            waits([activity(0, "A", "1")]),
            waits([activity(1, "B", "2"), activity(2, "Undo", "3")]),
            waits([]),
            waits([]),
            fails("Gone", cause),
        ])
        .runs_at(1_000)
        .gets([activity_failed(0, "Card")])
        .runs_at(1_100)
        .gets([activity_done(2, "4")])
        .runs_at(1_200)
        .gets([activity_failed(1, "Hotel")])
        .runs_at(1_300)
        .gets([raised("go", "1")])
        .runs_at(1_400)
    };
    let by_cause = rewind(&history(Some(0)));
    assert_eq!(by_cause.cut, 1);
    assert_eq!(armed(&by_cause), [0]);
    assert_eq!(by_cause.dropped.len(), 2);
    assert_eq!(by_cause.dropped[1].task, TaskId(2));
    assert!(
        by_cause.dropped[1].completed,
        "its success is forgotten, and that is said"
    );
    let by_last_failure = rewind(&history(None));
    assert_eq!((by_last_failure.cut, armed(&by_last_failure)), (3, vec![1]));
    assert_eq!(by_last_failure.inbox, [raised("go", "1")]);
    // A cause that never failed is no cause.
    assert_eq!(rewind(&history(Some(2))).cut, 3);
    let nothing_failed = common::World::new([waits([activity(0, "A", "1")]), fails("Gone", None)])
        .runs_at(1_000)
        .gets([raised("go", "1")])
        .runs_at(1_100);
    let last_turn = rewind(&nothing_failed);
    assert_eq!((last_turn.cut, armed(&last_turn)), (1, vec![0]));
}

#[test]
fn values_and_tags_are_again_what_they_were_before_the_cut() {
    let history = |first: Vec<perennial_core::Action>, start| {
        common::World::with_start(
            start,
            [
                Ok(waits(first)),
                Ok(waits([
                    value("stage", Some("2")),
                    value("late", Some("1")),
                    value("early", None),
                    tag("team", Some("blue")),
                    tag("late", Some("1")),
                    tag("born", None),
                ])),
                Ok(fails("Gone", None)),
            ],
        )
    };
    let mut tagged = common::start();
    tagged.tags = vec![("born".to_owned(), "yes".to_owned())];
    let first = vec![
        activity(0, "A", "1"),
        value("stage", Some("1")),
        value("early", Some("3")),
        tag("team", Some("red")),
    ];
    let world = history(first, tagged.clone())
        .runs_at(1_000)
        .gets([activity_failed(0, "Card")])
        .runs_at(1_100)
        .gets([raised("go", "1")])
        .runs_at(1_200);
    let cut = rewind(&world);
    assert_eq!(cut.cut, 1);
    let (early, stage) = (json("3"), json("1"));
    assert_eq!(cut.values(), [("early", &early), ("stage", &stage)]);
    let text = |text: &str| Some(text.to_owned());
    let tags = [("born", text("yes")), ("late", None), ("team", text("red"))];
    assert_eq!(cut.tags, tags.map(|(key, value)| (key.to_owned(), value)));

    // From its beginning on, it has what the execution before left.
    tagged.execution = 1;
    let left = vec![("stage".to_owned(), json("0"))];
    let world = common::World::with_start(
        tagged,
        [Ok(ends(
            [value("stage", Some("1")), tag("born", None)],
            perennial_core::Ending::Failed {
                failure: Failure::permanent("Gone", ""),
                cause: None,
            },
        ))],
    )
    .gets([Message::Values { values: left }])
    .runs_at(1_000);
    let again = rewind(&world);
    assert!(again.begins_again());
    assert_eq!(again.values(), [("stage", &json("0"))]);
    assert_eq!(again.tags, [("born".to_owned(), text("yes"))]);
}

#[test]
fn an_event_that_is_blamed_is_the_cut_and_does_not_come_in_again() {
    let world = common::World::new([
        waits([activity(0, "A", "1"), activity(1, "Slow", "1")]),
        waits([]),
        waits([]),
        waits([]),
        fails("InvalidInput", None),
    ])
    .runs_at(1_000)
    .gets([activity_failed(0, "Card")])
    .runs_at(1_100)
    // It is read two turns after it came in.
    .gets([raised("Go", "1")])
    .runs_at(1_200)
    .gets([raised("Other", "2")])
    .runs_at(1_300)
    .gets([activity_done(1, "4")])
    .runs_at(1_400);
    let mut finder = CutFinder::blaming(Some(0));
    world.turns.iter().for_each(|turn| finder.see(turn));
    let cut = finder.cut(Scope::Together).expect("it failed");
    assert_eq!((cut.turn, cut.event), (2, Some(0)));
    let mut rewinder = Rewinder::new(&cut, 1);
    for turn in &world.turns {
        rewinder.see(turn).expect("it can be read");
    }
    let rewind = rewinder
        .finish([], Timestamp(9_000))
        .expect("it can be cut");
    let event = rewind.dropped_event.clone().expect("it is put aside");
    assert_eq!((event.number, event.name.as_str()), (0, "Go"));
    assert_eq!(rewind.inbox.len(), 2, "{:?}", rewind.inbox);
    assert_eq!(rewind.inbox[0], raised("Other", "2"));
    assert!(armed(&rewind).is_empty());
}

/// Two activities and a child of one turn fail at different times, and the guest ends on the last of them.
fn siblings(cause: Option<u32>) -> common::World {
    common::World::new([
        waits([activity(0, "Before", "0")]),
        waits([
            activity(1, "A", "1"),
            activity(2, "B", "2"),
            child(3, "Kid"),
        ]),
        waits([]),
        waits([activity(4, "Between", "4")]),
        waits([]),
        fails("Gone", cause),
    ])
    .runs_at(1_000)
    .gets([activity_failed(0, "Early")])
    .runs_at(1_100)
    .gets([activity_failed(1, "Card")])
    .runs_at(1_200)
    .gets([child_failed(3, 1)])
    .runs_at(1_300)
    .gets([activity_done(4, "4")])
    .runs_at(1_400)
    .gets([activity_failed(2, "Hotel")])
    .runs_at(1_500)
}

#[test]
fn what_failed_together_runs_again_together_and_the_failures_that_stay_are_said() {
    for cause in [Some(2), Some(1), Some(3), None] {
        let world = siblings(cause);
        let cut = cut_of(&world, Scope::Together).expect("it failed");
        assert_eq!(cut.turn, 2, "{cause:?}");
        let [stays] = &cut.remaining[..] else {
            panic!("{:?}", cut.remaining);
        };
        assert_eq!(
            (stays.task, stays.kind, &*stays.name, &*stays.failure),
            (TaskId(0), FailedKind::Activity, "Before", "Early")
        );
        assert!(stays.why.starts_with("turn 1 took it in"), "{}", stays.why);
        let rewind = rewind(&world);
        assert_eq!(armed(&rewind), [1, 2]);
        let children: Vec<TaskId> = rewind.children.iter().map(|(task, _)| *task).collect();
        assert_eq!(children, [TaskId(3)]);
        assert_eq!(rewind.dropped.len(), 1, "what was asked for in between");
    }
}

#[test]
fn all_failures_of_an_execution_run_again_where_that_is_asked_for() {
    let cut = cut_of(&siblings(Some(2)), Scope::AllFailures).expect("it failed");
    assert_eq!((cut.turn, cut.remaining.len()), (1, 0));
}

#[test]
fn failures_that_stay_are_listed_up_to_a_bound() {
    let calls = |n: u32| waits((n * 10..(n + 1) * 10).map(|task| activity(task, "A", "1")));
    let script = (0..31).map(calls).chain([fails("Gone", Some(300))]);
    let mut world = common::World::new(script).runs_at(1_000);
    for n in 0..31 {
        world = world
            .gets((n * 10..(n + 1) * 10).map(|task| activity_failed(task, "Down")))
            .runs_at(1_000 + u64::from(n));
    }
    let cut = cut_of(&world, Scope::Together).expect("it failed");
    assert_eq!(
        (cut.turn, cut.remaining.len(), cut.more_remaining),
        (31, 100, 200)
    );
    assert_eq!(cut.remaining[0].task, TaskId(200));
}

/// A time limit of an hour around an activity and an event; a failure was dealt with meanwhile.
fn over_time(cause: Option<u32>) -> common::World {
    common::World::new([
        waits([activity(0, "A", "0"), timer(1, 4_600), timer(2, 1_500)]),
        waits([activity(3, "Instead", "3")]),
        waits([]),
        waits([]),
        fails("Timeout", cause),
    ])
    .runs_at(1_000)
    .gets([activity_done(0, "7")])
    .runs_at(1_100)
    .gets([activity_done(3, "8")])
    .runs_at(1_200)
    .gets([timer_fired(2)])
    .runs_at(1_500)
    .gets([timer_fired(1)])
    .runs_at(4_600)
}

#[test]
fn a_time_limit_that_was_over_has_its_whole_span_again() {
    for cause in [Some(1), None] {
        let rewind = rewind_with(&over_time(cause), [raised("late", "1")]);
        assert_eq!(rewind.cut, 4);
        // At 9,000, and as long as it was when it was set.
        let [limit] = rewind.timers[..] else {
            panic!("{:?}", rewind.timers);
        };
        assert_eq!((limit.task, limit.due), (TaskId(1), Timestamp(12_600)));
        assert_eq!(rewind.inbox, [raised("late", "1")]);
    }
}

#[test]
fn limits_around_each_other_are_not_over_at_once_after_the_inner_one() {
    let world = common::World::new([
        waits([timer(0, 2_000), timer(1, 3_000), timer(2, 20_000)]),
        fails("Timeout", Some(0)),
    ])
    .runs_at(1_000)
    .gets([timer_fired(0)])
    .runs_at(2_000);
    // The outer one came due while it had failed, and the third has time left.
    let again = rewind_with(&world, [timer_fired(1)]);
    assert_eq!(again.inbox, []);
    let due: Vec<u64> = again.timers.iter().map(|timer| timer.due.0).collect();
    assert_eq!(due, [10_000, 11_000, 20_000]);
}

#[test]
fn a_timer_that_fired_is_no_limit_where_a_task_failed() {
    let world = common::World::new([
        waits([activity(0, "A", "0"), timer(1, 1_500)]),
        fails("Gone", Some(0)),
    ])
    .runs_at(1_000)
    .gets([activity_failed(0, "Down"), timer_fired(1)])
    .runs_at(1_500);
    let rewind = rewind(&world);
    assert_eq!(rewind.inbox, [Message::TimerFired { task: again(1) }]);
    assert_eq!((armed(&rewind), rewind.timers.len()), (vec![0], 0));
}

#[test]
fn what_came_in_about_tasks_of_before_the_cut_comes_in_again_in_order() {
    let world = common::World::new([
        waits([
            activity(0, "A", "0"),
            activity(1, "B", "1"),
            timer(2, 1_100),
            child(3, "Kid"),
            activity(4, "Slow", "4"),
            timer(5, 5_000),
        ]),
        waits([activity(6, "Undo", "6")]),
        waits([]),
        fails("Gone", Some(0)),
    ])
    .runs_at(1_000)
    .gets([raised("first", "1"), activity_failed(0, "Card")])
    .runs_at(1_050)
    .gets([activity_done(1, "7"), timer_fired(2), raised("second", "2")])
    .runs_at(1_200)
    .gets([child_done(3, 1, "8"), activity_done(6, "9")])
    .runs_at(1_300);
    let late = [raised("third", "3"), activity_done(4, "10"), suspend()];
    let rewind = rewind_with(&world, late);
    assert_eq!(rewind.cut, 1);
    let expected = [
        raised("first", "1"),
        Message::ActivityEnded {
            task: again(1),
            outcome: Ok(Some(json("7"))),
            run: run(1),
        },
        Message::TimerFired { task: again(2) },
        raised("second", "2"),
        Message::ChildEnded {
            task: again(3),
            attempt: 1,
            outcome: Ok(Some(json("8"))),
        },
        raised("third", "3"),
        Message::ActivityEnded {
            task: again(4),
            outcome: Ok(Some(json("10"))),
            run: run(1),
        },
    ];
    assert_eq!(rewind.inbox, expected);
    assert_eq!(armed(&rewind), [0]);
    assert_eq!(rewind.timers.len(), 1);
    assert_eq!(
        (rewind.timers[0].task, rewind.timers[0].due),
        (TaskId(5), Timestamp(5_000))
    );
    assert_eq!(rewind.children, []);
    let is_undo =
        |kind: &DroppedKind| matches!(kind, DroppedKind::Activity { name } if name == "Undo");
    assert!(rewind.dropped.len() == 1 && is_undo(&rewind.dropped[0].kind));
}

#[test]
fn tries_of_a_child_that_happened_after_the_cut_have_happened() {
    let script = || {
        [
            waits([activity(0, "A", "0"), retried_child(1, "Kid", 3)]),
            waits([]),
            fails("Gone", Some(0)),
        ]
    };
    let failed = common::World::new(script())
        .runs_at(1_000)
        .gets([activity_failed(0, "Card")])
        .runs_at(1_050)
        .gets([child_failed(1, 1)])
        .runs_at(1_100)
        .gets([child_due(1, 2)])
        .runs_at(1_200);
    let running = failed.gets([raised("go", "1")]).runs_at(1_300);
    let rewind = rewind(&running);
    assert_eq!(rewind.cut, 1);
    let carried: Vec<&str> = rewind
        .carried
        .iter()
        .flat_map(Turn::events)
        .map(Event::name)
        .collect();
    assert_eq!(carried, ["ChildRetryScheduled", "ChildRetried"]);
    assert_eq!(rewind.children.len(), 1);
    assert_eq!(rewind.children[0].1.attempt, 2);
}

#[test]
fn a_failure_in_the_first_turn_begins_again_with_the_same_start() {
    let world = common::World::new([fails("Early", None)])
        .gets([raised("go", "1")])
        .runs_at(1_000);
    let rewind = rewind(&world);
    assert!(rewind.begins_again());
    assert_eq!(*rewind.state.phase(), Phase::NotStarted(None));
    let start = Message::Start(Box::new(common::start()));
    assert_eq!(rewind.inbox, [start, raised("go", "1")]);
}

#[test]
fn what_has_not_failed_is_not_cut() {
    let world = common::World::new([completes([], "1")]).runs_at(1_000);
    assert_eq!(cut_of(&world, Scope::Together), None);
    assert!(Status::ALL.into_iter().all(|status| {
        let decided = perennial_core::decide(Some(status), perennial_core::Command::Rewind);
        decided.is_ok() == (status == Status::Failed)
    }));
}

// --- Laws

/// Lives before and after several rewinds.
fn lives() -> impl Strategy<Value = (u64, Manners, Vec<Vec<Step>>)> {
    let manners = prop_oneof![3 => Just(Manners::Polite), 1 => Just(Manners::Hostile)];
    let steps = prop::collection::vec(step(), 20..150);
    (any::<u64>(), manners, prop::collection::vec(steps, 2..5))
}

/// The activities that completed, in what is kept and in what comes in again.
fn kept_successes<'a>(
    turns: impl Iterator<Item = &'a Turn>,
    inbox: &[Message],
) -> BTreeSet<TaskId> {
    let recorded = turns.flat_map(Turn::events).filter_map(|event| {
        let Event::ActivityCompleted { task, .. } = event else {
            return None;
        };
        Some(*task)
    });
    let waiting = inbox.iter().filter_map(|message| match message {
        Message::ActivityEnded {
            task,
            outcome: Ok(_),
            ..
        } => Some(task.task),
        _ => None,
    });
    recorded.chain(waiting).collect()
}

/// Checks a rewind of the world, of which `before` are the turns as they were.
fn check(world: &World, before: &[Turn], rewind: &Rewind) {
    let current = world.executions.last().expect("there is one");
    let kept: Vec<Turn> = current.turns().cloned().collect();
    let cut = rewind.cut as usize;
    assert_eq!(
        kept[..cut],
        before[..cut],
        "what is before the cut is as it was"
    );
    let successes = kept_successes(kept.iter(), &rewind.inbox);
    for armed in &rewind.activities {
        assert!(!successes.contains(&armed.task), "{armed:?} has completed");
        assert!(rewind.state.tasks().contains_key(&armed.task));
    }
    let raised = |turns: &[Turn]| -> Vec<Event> {
        let raised = |event: &&Event| Message::carried_over(event).is_some();
        turns
            .iter()
            .flat_map(Turn::events)
            .filter(raised)
            .cloned()
            .collect()
    };
    let comes_again = rewind
        .inbox
        .iter()
        .filter(|message| is_from_outside(message))
        .count();
    assert!(
        comes_again >= raised(&before[cut..]).len(),
        "no external event is lost"
    );
    let next_task = rewind.state.running().map_or(TaskId(0), |it| it.next_task);
    for dropped in &rewind.dropped {
        assert!(
            dropped.task >= next_task,
            "{dropped:?} is of before the cut"
        );
    }
}

/// Lives through everything; how often it was rewound.
fn live(seed: u64, manners: Manners, lives: &[Vec<Step>]) -> u32 {
    let mut world = World::play(seed, manners, &lives[0]);
    let mut rewinds = 0;
    for steps in &lives[1..] {
        let before: Vec<Turn> = world
            .executions
            .last()
            .expect("one")
            .turns()
            .cloned()
            .collect();
        let scope = [Scope::Together, Scope::AllFailures][rewinds as usize % 2];
        if let Some(rewind) = world.rewind(scope) {
            check(&world, &before, &rewind);
            rewinds += 1;
        }
        steps.iter().for_each(|step| world.take(*step));
        for (number, execution) in world.executions.iter().enumerate() {
            let mut guest = world.fresh_guest(number);
            let state = replay_in(execution.state.generation, execution.turns(), &mut *guest);
            assert_eq!(state, execution.state, "kept and new turns repeat together");
        }
    }
    rewinds
}

proptest! {
    #![proptest_config(common::tried(3_000))]

    #[test]
    fn a_rewound_execution_goes_on_lawfully_and_repeats_no_success_that_is_kept((seed, manners, steps) in lives()) {
        live(seed, manners, &steps);
    }
}

#[test]
fn the_laws_are_tried_on_rewound_executions() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let rewinds: u32 = (0..500)
        .map(|_| {
            let (seed, manners, steps) = lives().new_tree(&mut runner).expect("lives").current();
            live(seed, manners, &steps)
        })
        .sum();
    assert!(rewinds > 100, "{rewinds}");
}

#[test]
fn a_failed_task_that_is_armed_again_ends_once_more() {
    let world = common::World::new([waits([activity(0, "A", "0")]), fails("Gone", Some(0))])
        .runs_at(1_000)
        .gets([activity_failed(0, "Card")])
        .runs_at(1_100);
    let rewind = rewind(&world);
    let old = Message::ActivityEnded {
        task: task(0),
        outcome: Err(Failure::permanent("Late", "")),
        run: run(9),
    };
    let new = Message::ActivityEnded {
        task: again(0),
        outcome: Ok(None),
        run: run(1),
    };
    let mut state = rewind.state;
    let mut context = perennial_core::TurnContext {
        now: Timestamp(2_000),
        names: &common::Deployed,
        fresh: &mut || ("e1".to_owned(), 8),
    };
    let mut guest = common::Script::new(&[Ok(completes([], "5"))]);
    let turn = perennial_core::run_turn(&mut state, vec![old, new], &mut context, &mut guest);
    let turn = turn.expect("it runs").expect("it changes something");
    let names: Vec<&str> = turn.events().map(Event::name).collect();
    assert_eq!(
        names,
        ["TurnStarted", "ActivityCompleted", "ExecutionCompleted"]
    );
}

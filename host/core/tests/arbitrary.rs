//! Answers that no program would give, in any order, among messages that nobody sent: what comes of them is a history that repeats.

mod common;

use std::collections::VecDeque;

use common::words::*;
use common::{Deployed, Script, start};
use perennial_core::{
    Action, ActivityCall, Answer, CallOptions, ChildCall, ChildCommand, Ending, Envelope, Failure,
    InstanceOptions, Json, Message, Millis, OutgoingEvent, OutgoingRequest, RetryPolicy, State,
    TaskId, TimerDue, Timestamp, TurnContext, Waiting, replay_turn, run_turn, take_batch,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Task ids that a guest may have, and some that it may not.
fn task() -> impl Strategy<Value = TaskId> {
    prop_oneof![8 => 0..6_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)].prop_map(TaskId)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_000_u64, any::<u64>(), Just(u64::MAX)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["Pay", "Ship", "MissingName", "NativePay", "order", "a/b", "@x", ""]).prop_map(str::to_owned),
        1 => ".{0,12}",
        1 => "[a-z]{250,300}",
    ]
}

fn payload() -> impl Strategy<Value = Option<Json>> {
    let long = (0..70_usize).prop_map(|n| format!("\"{}\"", "x".repeat(n)));
    let short = prop::sample::select(vec!["null", "0", "{}", "[1,2]"]).prop_map(str::to_owned);
    option::of(prop_oneof![short, long].prop_map(Json::from_text))
}

fn retry() -> impl Strategy<Value = Option<RetryPolicy>> {
    let float = || {
        prop_oneof![
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(-1.0),
            Just(0.0),
            0.5..4.0_f64
        ]
    };
    let spans = (number(), option::of(number()), option::of(number()));
    let policy = (0..4_u32, spans, float(), option::of(float()));
    option::of(
        policy.prop_map(
            |(max_attempts, (first, most, give_up), backoff, jitter)| RetryPolicy {
                max_attempts,
                first_delay: Millis(first),
                backoff,
                max_delay: most.map(Millis),
                jitter,
                give_up_after: give_up.map(Millis),
            },
        ),
    )
}

fn tags() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((text(), text()), 0..3)
}

fn action() -> impl Strategy<Value = Action> {
    let options =
        (option::of(number()), any::<bool>()).prop_map(|(heartbeat, at_most_once)| CallOptions {
            heartbeat_timeout: heartbeat.map(Millis),
            at_most_once,
        });
    let activity = (
        task(),
        text(),
        payload(),
        retry(),
        option::of(number()),
        options,
    )
        .prop_map(|(task, name, input, retry, timeout, options)| {
            Action::CallActivity(ActivityCall {
                task,
                name,
                input,
                retry,
                attempt_timeout: timeout.map(Millis),
                options,
            })
        });
    let child = (
        (task(), text(), option::of(text())),
        (option::of(text()), payload(), tags(), retry()),
    )
        .prop_map(
            |((task, name, version), (instance_id, input, tags, retry))| {
                Action::CallChild(ChildCall {
                    task,
                    name,
                    version,
                    instance_id,
                    input,
                    tags,
                    retry,
                    options: InstanceOptions::default(),
                })
            },
        );
    let start = (text(), text(), option::of(text()), payload(), tags()).prop_map(
        |(instance_id, name, version, input, tags)| Action::StartInstance {
            instance_id,
            name,
            version,
            input,
            tags,
            options: InstanceOptions::default(),
        },
    );
    let send = (text(), text(), payload()).prop_map(|(instance_id, name, data)| {
        Action::SendEvent(OutgoingEvent {
            instance_id,
            name,
            data,
        })
    });
    prop_oneof![
        4 => activity,
        3 => child,
        1 => (task(), number()).prop_map(|(task, at)| Action::SetTimer { task, due: TimerDue::GuestTime(Timestamp(at)) }),
        1 => (task(), number()).prop_map(|(task, span)| Action::SetTimer { task, due: TimerDue::After(Millis(span)) }),
        1 => (task(), number()).prop_map(|(task, at)| Action::SetTimer { task, due: TimerDue::At(Timestamp(at)) }),
        1 => (task(), option::of(text())).prop_map(|(task, reason)| Action::CommandChild { task, command: ChildCommand::Cancel, reason }),
        2 => task().prop_map(Action::CancelTask),
        1 => send,
        1 => start,
        1 => payload().prop_map(Action::SetCustomStatus),
        1 => (text(), payload()).prop_map(|(name, value)| Action::SetValue { name, value }),
        1 => (text(), option::of(text())).prop_map(|(key, value)| Action::SetTag { key, value }),
        1 => (task(), text(), text(), payload()).prop_map(|(task, instance_id, name, input)| {
            Action::SendRequest(OutgoingRequest { task, instance_id, name, input })
        }),
        2 => (0..4_u32, payload()).prop_map(|(number, output)| Action::Respond { number, outcome: Ok(output) }),
        1 => (any::<u32>(), text()).prop_map(|(number, kind)| {
            Action::Respond { number, outcome: Err(Failure::permanent(kind, "no")) }
        }),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    let failed = (text(), option::of(task())).prop_map(|(kind, cause)| Ending::Failed {
        failure: Failure::permanent(kind, "no more"),
        cause,
    });
    let anew = (
        payload(),
        option::of(text()),
        vec(prop_oneof![0..4_u32, any::<u32>()], 0..4),
    )
        .prop_map(|(input, version, carry_over)| Ending::ContinuedAsNew {
            input,
            version,
            carry_over,
        });
    prop_oneof![
        6 => Just(Ending::Waiting(Waiting::default())),
        1 => payload().prop_map(Ending::Completed),
        1 => failed,
        1 => anew,
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let actions = prop_oneof![6 => vec(action(), 0..4), 1 => vec(action(), 4..20)];
    (actions, ending()).prop_map(|(actions, ending)| Answer { actions, ending })
}

/// What may come in between, whether somebody waits for it or not.
fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => (0..6_u32).prop_map(|task| activity_done(task, "1")),
        2 => (0..6_u32).prop_map(|task| activity_failed(task, "Broken")),
        1 => any::<u32>().prop_map(|task| activity_done(task, "1")),
        2 => (text(), payload()).prop_map(|(name, data)| Message::ExternalEvent { number: None, name, data }),
        3 => (text(), text(), payload()).prop_map(|(id, name, input)| Message::Request { number: None, id, name, input }),
        1 => Just(Message::Suspend { reason: None, recursive: false }),
        1 => Just(Message::Resume { reason: None, module: None, recursive: false }),
        1 => Just(Message::Terminate { reason: None, recursive: false }),
    ]
}

proptest! {
    #![proptest_config(common::tried(2_000))]

    #[test]
    fn whatever_a_guest_answers_the_history_repeats(
        answers in vec(answer(), 12),
        batches in vec(vec(message(), 0..3), 0..8),
    ) {
        let script: Vec<_> = answers.into_iter().map(Ok).collect();
        let mut first = start();
        first.limits = common::random::LIMITS;
        let (mut state, mut guest, mut turns) = (State::new(0), Script::new(&script), Vec::new());
        let mut mail = VecDeque::from([Envelope::in_memory(Message::Start(Box::new(first)))]);
        for (at, messages) in std::iter::once(Vec::new()).chain(batches).enumerate() {
            mail.extend(messages.into_iter().map(Envelope::in_memory));
            let now = Timestamp(1_000 * (at as u64 + 1));
            loop {
                let batch = take_batch(&state, &mut mail, now).envelopes;
                if batch.is_empty() || turns.len() == script.len() {
                    break;
                }
                let messages = batch.into_iter().map(|envelope| envelope.message).collect();
                let mut context = TurnContext { now, names: &Deployed, fresh: &mut || ("e1".to_owned(), 8) };
                let turn = run_turn(&mut state, messages, &mut context, &mut guest);
                turns.extend(turn.expect("the host goes on"));
            }
        }
        let (mut again, mut guest) = (State::new(0), Script::new(&script));
        for turn in &turns {
            prop_assert!(replay_turn(&mut again, turn, &mut guest).is_ok(), "{turn:?}");
        }
        // In words: a number that is none is not equal to itself.
        prop_assert_eq!(format!("{again:?}"), format!("{state:?}"));
    }
}

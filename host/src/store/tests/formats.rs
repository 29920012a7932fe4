//! The stored format: every later version reads the bytes that are written now.

use super::kinds::{kind_of, message_kind_of};
use super::*;
use crate::store::{decode, encode};
use expect_test::{Expect, expect};
use perennial_core::{
    AttemptRun, Cancellation, Cause, ChildCommand, ChildPolicy, FailedAttempt, Failure, IdReuse,
    InstanceOptions, Limits, Millis, RetryPolicy, Target,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// What the samples are made of.
#[derive(Clone, Debug)]
struct Parts {
    number: u32,
    long: u64,
    text: String,
    maybe: Option<String>,
}

impl Parts {
    fn json(&self) -> Option<Json> {
        self.maybe.clone().map(Json::from_text)
    }

    fn failure(&self) -> Failure {
        let cause = Cause {
            kind: self.text.clone(),
            message: String::new(),
            trace: self.maybe.clone(),
        };
        Failure {
            kind: self.text.clone(),
            message: self.text.clone(),
            details: self.json(),
            retryable: self.number % 2 == 1,
            trace: None,
            causes: vec![cause],
        }
    }

    fn retry(&self) -> Option<RetryPolicy> {
        self.maybe.as_ref().map(|_| RetryPolicy {
            max_attempts: self.number,
            first_delay: Millis(self.long),
            backoff: 1.5,
            max_delay: Some(Millis(self.long)),
            jitter: None,
            give_up_after: None,
        })
    }

    fn target(&self) -> Target {
        match self.number % 6 {
            0 => Target::Module(Digest([2; 32])),
            1 => Target::Native,
            2 => Target::Unknown,
            3 => Target::Oversized {
                bytes: self.long,
                limit: 5,
            },
            4 => Target::Invalid(self.text.clone()),
            _ => Target::Remote,
        }
    }

    fn start(&self) -> Box<Start> {
        let start = start_of(&self.text);
        Box::new(Start {
            input: self.json(),
            execution: self.number,
            module: Some(Digest([1; 32])),
            seed: self.long,
            // Explicit, because the default may change.
            limits: Limits {
                fuel_base: 50_000_000,
                ..start.limits
            },
            semantics: 2,
            ..start
        })
    }

    fn tags(&self) -> Vec<(String, String)> {
        vec![(self.text.clone(), String::new())]
    }

    fn run(&self) -> AttemptRun {
        AttemptRun {
            attempt: self.number,
            started_at: Timestamp(self.long),
            ended_at: Timestamp(self.long),
        }
    }

    /// One event of each kind.
    fn events(&self) -> Vec<Event> {
        [self.received(), self.produced(), self.of_status_and_tries()].concat()
    }

    fn received(&self) -> Vec<Event> {
        let (task, data) = (TaskId(self.number), self.json());
        vec![
            Event::TurnStarted {
                now: Timestamp(self.long),
                history_events: self.number,
                history_bytes: self.long,
            },
            Event::ExecutionStarted(self.start()),
            Event::ActivityCompleted {
                task,
                output: data.clone(),
                run: self.run(),
            },
            Event::ActivityFailed {
                task,
                failure: self.failure(),
                run: self.run(),
            },
            Event::ChildCompleted {
                task,
                output: data.clone(),
            },
            Event::ChildFailed {
                task,
                failure: self.failure(),
            },
            Event::TimerFired { task },
            Event::ExternalEventRaised {
                number: self.number,
                name: self.text.clone(),
                data,
            },
        ]
    }

    fn produced(&self) -> Vec<Event> {
        let (task, data, at) = (TaskId(self.number), self.json(), Timestamp(self.long));
        let (name, instance_id) = (self.text.clone(), self.text.clone());
        let version = self.maybe.clone();
        vec![
            Event::ActivityScheduled {
                task,
                name: name.clone(),
                input: data.clone(),
                retry: self.retry(),
                attempt_timeout: Some(Millis(self.long)),
                target: self.target(),
            },
            Event::ChildScheduled {
                task,
                name: name.clone(),
                version: version.clone(),
                instance_id: instance_id.clone(),
                input: data.clone(),
                tags: self.tags(),
                retry: self.retry(),
                target: self.target(),
            },
            Event::TimerSet { task, fire_at: at },
            Event::TaskCanceled { task },
            Event::EventSent {
                instance_id: instance_id.clone(),
                name: name.clone(),
                data: data.clone(),
            },
            Event::InstanceStarted {
                instance_id,
                name,
                version: version.clone(),
                input: data.clone(),
                tags: self.tags(),
                target: self.target(),
            },
            Event::CustomStatusSet {
                value: data.clone(),
            },
            Event::ExecutionReturned {
                output: data.clone(),
            },
            Event::ExecutionCompleted {
                output: data.clone(),
            },
            Event::ExecutionFailed {
                failure: self.failure(),
                cause: Some(task),
            },
        ]
    }

    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with one of each event"
    )]
    fn of_status_and_tries(&self) -> Vec<Event> {
        let (task, reason) = (TaskId(self.number), self.maybe.clone());
        vec![
            Event::ExecutionTerminated {
                reason: reason.clone(),
            },
            Event::ContinuedAsNew {
                input: self.json(),
                version: self.maybe.clone(),
                carry_over: vec![self.number],
                execution_id: self.text.clone(),
            },
            Event::ExecutionSuspended {
                reason: reason.clone(),
            },
            Event::ExecutionResumed { reason },
            Event::InstanceStartSkipped {
                instance_id: self.text.clone(),
                reason: self.text.clone(),
            },
            Event::ChildRetryScheduled {
                task,
                attempt: self.number,
                at: Timestamp(self.long),
                failure: self.failure(),
            },
            Event::ChildRetried {
                task,
                attempt: self.number,
                instance_id: self.text.clone(),
            },
            Event::AttemptFailed {
                task,
                failure: self.failure(),
                run: self.run(),
            },
            Event::CallDetails {
                task,
                version: self.maybe.clone(),
                tags: vec![(self.text.clone(), self.text.clone())],
            },
            Event::ValueSet {
                name: self.text.clone(),
                value: self.json(),
            },
            Event::TagSet {
                key: self.text.clone(),
                value: self.maybe.clone(),
            },
            Event::ActivityOptions {
                task,
                heartbeat_timeout: Some(Millis(self.long)),
                at_most_once: true,
            },
            Event::TimerSetAt {
                task,
                at: Timestamp(self.long),
            },
            Event::InstanceOptions {
                task: Some(task),
                options: InstanceOptions {
                    reuse: IdReuse::Never,
                    when_dropped: ChildPolicy::Terminate,
                    execution_timeout: Some(Millis(self.long)),
                },
            },
            Event::ChildCommanded {
                task,
                instance_id: self.text.clone(),
                command: ChildCommand::Terminate,
                reason: self.maybe.clone(),
            },
            Event::CancellationRequested(Cancellation {
                reason: self.maybe.clone(),
                timed_out: true,
                deadline: Timestamp(self.long),
            }),
            Event::ExecutionTimedOut {
                failure: self.failure(),
            },
            Event::RequestReceived {
                number: self.number,
                id: self.text.clone(),
                name: self.text.clone(),
                input: self.json(),
            },
            Event::RequestAnswered {
                number: Some(self.number),
                id: self.text.clone(),
                outcome: Ok(self.json()),
            },
            Event::RequestSent {
                task,
                instance_id: self.text.clone(),
                id: self.text.clone(),
                name: self.text.clone(),
                input: self.json(),
                refused: Some(self.failure()),
            },
            Event::RequestCompleted {
                task,
                output: self.json(),
            },
            Event::RequestFailed {
                task,
                failure: self.failure(),
            },
        ]
    }

    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with one of each message"
    )]
    /// One message of each kind.
    fn messages(&self) -> Vec<Message> {
        let task = TaskRef {
            execution: self.number,
            generation: 0,
            task: TaskId(self.number),
        };
        let reason = self.maybe.clone();
        vec![
            Message::Start(self.start()),
            Message::ExternalEvent {
                number: Some(self.number),
                name: self.text.clone(),
                data: self.json(),
            },
            Message::ActivityEnded {
                task,
                outcome: Ok(self.json()),
                run: self.run(),
            },
            Message::ChildEnded {
                task,
                attempt: self.number,
                outcome: Err(self.failure()),
            },
            Message::TimerFired { task },
            Message::ChildDue {
                task,
                attempt: self.number,
            },
            Message::StartSkipped {
                instance_id: self.text.clone(),
                reason: self.text.clone(),
            },
            Message::Suspend {
                reason: reason.clone(),
                recursive: false,
            },
            Message::Resume {
                reason: reason.clone(),
                module: None,
                recursive: false,
            },
            Message::Terminate {
                reason,
                recursive: true,
            },
            Message::AttemptsFailed {
                task,
                attempts: vec![FailedAttempt {
                    run: self.run(),
                    failure: self.failure(),
                }],
            },
            Message::CustomStatus {
                value: Json::from_text(self.text.clone()),
            },
            Message::Values {
                values: vec![(self.text.clone(), Json::from_text(self.text.clone()))],
            },
            Message::Cancel {
                reason: self.maybe.clone(),
                grace: Millis(self.long),
                recursive: true,
            },
            Message::TimeLimit {
                grace: Millis(self.long),
            },
            Message::GraceOver {
                execution: self.number,
                generation: self.number,
            },
            Message::Request {
                number: Some(self.number),
                id: self.text.clone(),
                name: self.text.clone(),
                input: self.json(),
            },
            Message::RequestEnded {
                task,
                outcome: Err(self.failure()),
            },
        ]
    }
}

fn sample() -> Parts {
    Parts {
        number: 300,
        long: 1_000_000,
        text: "Pay".to_owned(),
        maybe: Some("7".to_owned()),
    }
}

fn check<T: serde::Serialize>(values: &[T], name: impl Fn(&T) -> String, bytes: Expect) {
    let mut lines = String::new();
    for value in values {
        let hex: String = encode(value)
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        lines += &format!("{} {hex}\n", name(value));
    }
    bytes.assert_eq(&lines);
}

#[test]
fn the_bytes_of_each_kind_of_event_never_change() {
    let events = sample().events();
    assert!(
        events.iter().map(kind_of).eq(0..40),
        "one of each, in the order of their numbers"
    );
    check(
        &events,
        |event| event.name().to_owned(),
        expect![[r#"
            TurnStarted 0100c0843dac02c0843d
            ExecutionStarted 01010350617905652d506179ac02054f7264657200010137000000c0843d01010101010101010101010101010101010101010101010101010101010101010180808020808040808001904e80808008a08d0680e1eb17c096b102140002d00f00
            ActivityCompleted 0102ac02010137ac02c0843dc0843d
            ActivityFailed 0103ac0203506179035061790101370000010350617900010137ac02c0843dc0843d
            ChildCompleted 0104ac02010137
            ChildFailed 0105ac0203506179035061790101370000010350617900010137
            TimerFired 0106ac02
            ExternalEventRaised 0107ac0203506179010137
            ActivityScheduled 0108ac020350617901013701ac02c0843d000000000000f83f01c0843d000001c0843d000202020202020202020202020202020202020202020202020202020202020202
            ChildScheduled 0109ac02035061790101370350617901013701035061790001ac02c0843d000000000000f83f01c0843d0000000202020202020202020202020202020202020202020202020202020202020202
            TimerSet 010aac02c0843d
            TaskCanceled 010bac02
            EventSent 010c0350617903506179010137
            InstanceStarted 010d0350617903506179010137010137010350617900000202020202020202020202020202020202020202020202020202020202020202
            CustomStatusSet 010e010137
            ExecutionReturned 010f010137
            ExecutionCompleted 0110010137
            ExecutionFailed 01110350617903506179010137000001035061790001013701ac02
            ExecutionTerminated 0112010137
            ContinuedAsNew 011301013701013701ac0203506179
            ExecutionSuspended 0114010137
            ExecutionResumed 0115010137
            InstanceStartSkipped 01160350617903506179
            ChildRetryScheduled 0117ac02ac02c0843d03506179035061790101370000010350617900010137
            ChildRetried 0118ac02ac0203506179
            AttemptFailed 0119ac0203506179035061790101370000010350617900010137ac02c0843dc0843d
            CallDetails 011aac02010137010350617903506179
            ValueSet 011b03506179010137
            TagSet 011c03506179010137
            ActivityOptions 011dac0201c0843d01
            TimerSetAt 011eac02c0843d
            InstanceOptions 011f01ac02010201c0843d
            ChildCommanded 0120ac020350617901010137
            CancellationRequested 012101013701c0843d
            ExecutionTimedOut 012203506179035061790101370000010350617900010137
            RequestReceived 0123ac020350617903506179010137
            RequestAnswered 012401ac020350617900010137
            RequestSent 0125ac020350617903506179035061790101370103506179035061790101370000010350617900010137
            RequestCompleted 0126ac02010137
            RequestFailed 0127ac0203506179035061790101370000010350617900010137
        "#]],
    );
}

#[test]
fn the_bytes_of_each_kind_of_message_never_change() {
    let messages = sample().messages();
    assert!(
        messages.iter().map(message_kind_of).eq(0..18),
        "one of each, in the order of their numbers"
    );
    let name = |message: &Message| {
        format!("{message:?}")
            .split(['(', ' '])
            .next()
            .unwrap()
            .to_owned()
    };
    check(
        &messages,
        name,
        expect![[r#"
            Start 01000350617905652d506179ac02054f7264657200010137000000c0843d01010101010101010101010101010101010101010101010101010101010101010180808020808040808001904e80808008a08d0680e1eb17c096b102140002d00f00
            ExternalEvent 010101ac0203506179010137
            ActivityEnded 0102ac0200ac0200010137ac02c0843dc0843d
            ChildEnded 0103ac0200ac02ac020103506179035061790101370000010350617900010137
            TimerFired 0104ac0200ac02
            ChildDue 0105ac0200ac02ac02
            StartSkipped 01060350617903506179
            Suspend 010701013700
            Resume 01080101370000
            Terminate 010901013701
            AttemptsFailed 010aac0200ac0201ac02c0843dc0843d03506179035061790101370000010350617900010137
            CustomStatus 010b03506179
            Values 010c010350617903506179
            Cancel 010d010137c0843d01
            TimeLimit 010ec0843d
            GraceOver 010fac02ac02
            Request 011001ac020350617903506179010137
            RequestEnded 0111ac0200ac020103506179035061790101370000010350617900010137
        "#]],
    );
}

fn parts() -> impl Strategy<Value = Parts> {
    let text = || prop_oneof![Just(String::new()), any::<String>()];
    (any::<u32>(), any::<u64>(), text(), prop::option::of(text())).prop_map(
        |(number, long, text, maybe)| Parts {
            number,
            long,
            text,
            maybe,
        },
    )
}

proptest! {
    // The same cases each time.
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_is_what_is_read(parts in parts()) {
        let (events, messages) = (parts.events(), parts.messages());
        prop_assert_eq!(decode::<Vec<Event>>(&encode(&events).unwrap(), "events").unwrap(), events);
        for message in messages {
            prop_assert_eq!(decode::<Message>(&encode(&message).unwrap(), "a message").unwrap(), message);
        }
    }

    #[test]
    fn damage_is_an_error_and_no_panic(parts in parts(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&parts.events()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        drop(decode::<Vec<Event>>(&bytes, "events"));
        bytes.truncate(at);
        prop_assert!(decode::<Vec<Event>>(&bytes, "events").is_err());
    }
}

//! The numbers that the stored format gives to kinds of events and messages.

use perennial_core::{Event, Message};

/// The number of an event's kind. A new kind does not compile until it is added here and to the samples.
pub(super) fn kind_of(event: &Event) -> usize {
    match event {
        Event::TurnStarted { .. } => 0,
        Event::ExecutionStarted(_) => 1,
        Event::ActivityCompleted { .. } => 2,
        Event::ActivityFailed { .. } => 3,
        Event::ChildCompleted { .. } => 4,
        Event::ChildFailed { .. } => 5,
        Event::TimerFired { .. } => 6,
        Event::ExternalEventRaised { .. } => 7,
        Event::ActivityScheduled { .. } => 8,
        Event::ChildScheduled { .. } => 9,
        Event::TimerSet { .. } => 10,
        Event::TaskCanceled { .. } => 11,
        Event::EventSent { .. } => 12,
        Event::InstanceStarted { .. } => 13,
        Event::CustomStatusSet { .. } => 14,
        Event::ExecutionReturned { .. } => 15,
        Event::ExecutionCompleted { .. } => 16,
        Event::ExecutionFailed { .. } => 17,
        Event::ExecutionTerminated { .. } => 18,
        Event::ContinuedAsNew { .. } => 19,
        Event::ExecutionSuspended { .. } => 20,
        Event::ExecutionResumed { .. } => 21,
        Event::InstanceStartSkipped { .. } => 22,
        Event::ChildRetryScheduled { .. } => 23,
        Event::ChildRetried { .. } => 24,
        Event::AttemptFailed { .. } => 25,
        Event::CallDetails { .. } => 26,
        Event::ValueSet { .. } => 27,
        Event::TagSet { .. } => 28,
        Event::ActivityOptions { .. } => 29,
        Event::TimerSetAt { .. } => 30,
        Event::InstanceOptions { .. } => 31,
        Event::ChildCommanded { .. } => 32,
        Event::CancellationRequested(_) => 33,
        Event::ExecutionTimedOut { .. } => 34,
        Event::RequestReceived { .. } => 35,
        Event::RequestAnswered { .. } => 36,
        Event::RequestSent { .. } => 37,
        Event::RequestCompleted { .. } => 38,
        Event::RequestFailed { .. } => 39,
    }
}

pub(super) fn message_kind_of(message: &Message) -> usize {
    match message {
        Message::Start(_) => 0,
        Message::ExternalEvent { .. } => 1,
        Message::ActivityEnded { .. } => 2,
        Message::ChildEnded { .. } => 3,
        Message::TimerFired { .. } => 4,
        Message::ChildDue { .. } => 5,
        Message::StartSkipped { .. } => 6,
        Message::Suspend { .. } => 7,
        Message::Resume { .. } => 8,
        Message::Terminate { .. } => 9,
        Message::AttemptsFailed { .. } => 10,
        Message::CustomStatus { .. } => 11,
        Message::Values { .. } => 12,
        Message::Cancel { .. } => 13,
        Message::TimeLimit { .. } => 14,
        Message::GraceOver { .. } => 15,
        Message::Request { .. } => 16,
        Message::RequestEnded { .. } => 17,
    }
}

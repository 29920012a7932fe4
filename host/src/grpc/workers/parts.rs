//! The items that are out, and the parts of answers that have arrived for them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use perennial_core::{Callee, Failure, kind};
use prost::Message as _;

use crate::grpc::generated::OrchestratorAction;
use crate::limits::http::MESSAGE_BYTES;

/// A stream of work items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId(u64);

/// The items that are out on the streams of a server.
#[derive(Debug, Default)]
pub(crate) struct Workers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    streams: u64,
    out: HashMap<String, Out>,
}

#[derive(Debug)]
struct Out {
    stream: StreamId,
    of: Callee,
    /// The parts of the answer so far, in order.
    actions: Vec<OrchestratorAction>,
    bytes: usize,
}

/// What has arrived of an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    /// No such item is out.
    NotOut,
    Actions(Vec<OrchestratorAction>),
    /// More than a message may have.
    TooLarge,
}

impl Workers {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stream(&self) -> StreamId {
        let mut state = self.state();
        state.streams += 1;
        StreamId(state.streams)
    }

    /// An item goes out.
    pub(super) fn is_out(&self, stream: StreamId, of: Callee, token: String) {
        let out = Out {
            stream,
            of,
            actions: Vec::new(),
            bytes: 0,
        };
        self.state().out.insert(token, out);
    }

    /// Forgets the items of a stream, and returns their tokens.
    pub(super) fn forget(&self, stream: StreamId) -> Vec<String> {
        let mut state = self.state();
        let of_stream = state.out.extract_if(|_, out| out.stream == stream);
        of_stream.map(|(token, _)| token).collect()
    }

    /// Forgets the items of a stream that are not out any more.
    pub(super) fn retain(&self, stream: StreamId, is_out: impl Fn(&str) -> bool) {
        let mut state = self.state();
        state
            .out
            .retain(|token, out| out.stream != stream || is_out(token));
    }

    /// Keeps a part of an answer until the rest comes, if its item is out.
    pub(super) fn keep(&self, token: &str, actions: Vec<OrchestratorAction>) {
        let mut state = self.state();
        let Some(out) = state.out.get_mut(token) else {
            return;
        };
        let bytes: usize = actions.iter().map(|action| action.encoded_len()).sum();
        out.bytes = out.bytes.saturating_add(bytes);
        if out.bytes > MESSAGE_BYTES {
            out.actions = Vec::new();
        } else {
            out.actions.extend(actions);
        }
    }

    /// The item of a token is answered: takes the parts of the answer so far.
    pub(super) fn take(&self, of: Callee, token: &str) -> Part {
        let mut state = self.state();
        let is_of = state.out.get(token).is_some_and(|out| out.of == of);
        match is_of.then(|| state.out.remove(token)).flatten() {
            None => Part::NotOut,
            Some(out) if out.bytes > MESSAGE_BYTES => Part::TooLarge,
            Some(out) => Part::Actions(out.actions),
        }
    }
}

/// The failure of an orchestration whose worker answers more than a message may have.
pub(super) fn too_large() -> Failure {
    let message = format!(
        "the parts of the worker's answer have more than {MESSAGE_BYTES} bytes together; ask for less in one turn"
    );
    Failure::permanent(kind::LIMIT_EXCEEDED, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::generated::orchestrator_action::OrchestratorActionType;
    use crate::grpc::generated::{CreateTimerAction, ScheduleTaskAction};

    const TURN: Callee = Callee::Orchestration;

    fn timer(id: i32) -> OrchestratorAction {
        let timer = CreateTimerAction { fire_at: None };
        OrchestratorAction {
            id,
            orchestrator_action_type: Some(OrchestratorActionType::CreateTimer(timer)),
        }
    }

    #[test]
    fn parts_come_together_in_order_and_only_while_their_item_is_out() {
        let workers = Workers::default();
        let stream = workers.stream();
        workers.keep("a", vec![timer(0)]);
        assert_eq!(workers.take(TURN, "a"), Part::NotOut);
        workers.is_out(stream, TURN, "a".to_owned());
        workers.keep("a", vec![timer(1)]);
        workers.keep("a", vec![timer(2)]);
        assert_eq!(workers.take(Callee::Activity, "a"), Part::NotOut);
        assert_eq!(
            workers.take(TURN, "a"),
            Part::Actions(vec![timer(1), timer(2)])
        );
        assert_eq!(workers.take(TURN, "a"), Part::NotOut);
    }

    #[test]
    fn parts_are_bounded_and_go_with_their_stream() {
        let workers = Workers::default();
        let (stream, other) = (workers.stream(), workers.stream());
        workers.is_out(stream, TURN, "a".to_owned());
        workers.is_out(other, TURN, "b".to_owned());
        let large = || {
            let call = ScheduleTaskAction {
                input: Some("x".repeat(MESSAGE_BYTES / 2)),
                ..ScheduleTaskAction::default()
            };
            vec![OrchestratorAction {
                id: 1,
                orchestrator_action_type: Some(OrchestratorActionType::ScheduleTask(call)),
            }]
        };
        workers.keep("a", large());
        workers.keep("a", large());
        workers.keep("a", vec![timer(2)]);
        assert_eq!(workers.take(TURN, "a"), Part::TooLarge);
        workers.is_out(stream, TURN, "c".to_owned());
        assert_eq!(workers.forget(stream), ["c"]);
        assert_eq!(workers.take(TURN, "b"), Part::Actions(Vec::new()));
    }
}

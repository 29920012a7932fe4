//! `perennial:workflow/activities@0.2`, and its mapping to the core's types.

use perennial_core::{Cause, Failure, Json};
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{AsContextMut, Store};

use super::bindings::activities as bindings;
use crate::engine::executor::Attempt;
use crate::wasm::definition::Definition;
use bindings::exports::perennial::workflow::activities as wit;

/// A component with activities, ready to be instantiated.
pub(in crate::wasm) struct ActivitiesPre<T: 'static>(bindings::WithActivitiesPre<T>);

impl<T: Send + 'static> ActivitiesPre<T> {
    /// Looks up the exports of the contract.
    pub(in crate::wasm) fn new(component: InstancePre<T>) -> wasmtime::Result<Self> {
        Ok(Self(bindings::WithActivitiesPre::new(component)?))
    }

    /// Creates a fresh instance.
    pub(in crate::wasm) async fn instantiate(
        &self,
        store: &mut Store<T>,
    ) -> wasmtime::Result<Activities> {
        Ok(Activities(self.0.instantiate_async(store).await?))
    }
}

/// The activities of one component instance.
pub(in crate::wasm) struct Activities(bindings::WithActivities);

impl Activities {
    /// The activities of an existing instance.
    pub(in crate::wasm) fn of(
        store: impl AsContextMut,
        instance: &Instance,
    ) -> wasmtime::Result<Self> {
        Ok(Self(bindings::WithActivities::new(store, instance)?))
    }

    /// The activities that the component defines.
    pub(in crate::wasm) fn definitions(
        &self,
        store: impl AsContextMut,
    ) -> wasmtime::Result<Vec<Definition>> {
        let definitions = self
            .0
            .perennial_workflow_activities()
            .call_definitions(store)?;
        Ok(definitions
            .into_iter()
            .map(|definition| Definition {
                name: definition.name,
                version: None,
                description: definition.description,
                input_schema: definition.input_schema,
            })
            .collect())
    }

    /// Runs an attempt. The outer result is the host's, the inner one the guest's.
    pub(in crate::wasm) async fn run<T: Send>(
        &self,
        store: &mut Store<T>,
        attempt: &Attempt,
    ) -> wasmtime::Result<Result<Option<Json>, Failure>> {
        let idempotency_key = attempt.idempotency_key();
        let invocation = wit::Invocation {
            name: &attempt.name,
            input: attempt.input.as_ref().map(Json::as_str),
            instance_id: &attempt.instance_id,
            execution_id: &attempt.execution_id,
            task: attempt.task.task.0,
            orchestration: &attempt.orchestration,
            idempotency_key: &idempotency_key,
            attempt: attempt.attempt,
            deadline: attempt.deadline.map(|deadline| deadline.0),
            trace_parent: attempt.trace_parent.as_deref(),
            management_urls: attempt.management_urls.as_ref().map(Json::as_str),
            last_heartbeat: attempt.heart.before().map(Json::as_str),
        };
        let outcome = self
            .0
            .perennial_workflow_activities()
            .call_run(store, invocation)
            .await?;
        Ok(outcome
            .map(|result| result.map(Json::from_text))
            .map_err(failure))
    }
}

fn failure(failure: wit::Failure) -> Failure {
    Failure {
        kind: failure.kind,
        message: failure.message,
        details: failure.details.map(Json::from_text),
        retryable: failure.retryable,
        trace: failure.trace,
        causes: failure
            .causes
            .into_iter()
            .map(|cause| Cause {
                kind: cause.kind,
                message: cause.message,
                trace: cause.trace,
            })
            .collect(),
    }
}

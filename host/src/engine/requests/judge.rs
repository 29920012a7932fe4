//! Asks the module of an instance about a request before anything is recorded of it.

use std::sync::Arc;

use perennial_core::{Digest, Names as _, Resolved};

use crate::engine::Engine;
use crate::engine::executor::{Fault, Proposal};
use crate::engine::requests::request::{AskRequest, Request, StartRequest};
use crate::store::{Reader, Reply, StoreError, not_answered};

/// What a module that is built for contract 0.1 and a remote worker have in common.
const CANNOT_ANSWER: &str = "the orchestration cannot answer requests: it runs on a remote worker, or its module is built for contract 0.1";

impl Engine {
    /// The refusal of a request that the module of its instance declines; `None` for all other requests, and where the module cannot be
    /// asked now, since the instance then judges by itself.
    ///
    /// # Errors
    /// If the hub cannot be read, or the host lacks what a guest needs.
    pub(in crate::engine) async fn judge(
        self: &Arc<Self>,
        request: &Request,
    ) -> Result<Option<Reply>, StoreError> {
        let request = match request {
            Request::IfRun { then, .. } => then,
            other => other,
        };
        let (ask, start) = match request {
            Request::Ask(ask) => (ask.clone(), None),
            Request::StartFor { start, then, .. } => match &**then {
                Request::Ask(ask) => (ask.clone(), Some(start.clone())),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let engine = Arc::clone(self);
        let judged = move || engine.judged(&engine.hub.reader, &ask, start.as_ref());
        self.blocking(&self.requests.judges, judged).await
    }

    fn judged(
        &self,
        reader: &Reader,
        ask: &AskRequest,
        start: Option<&StartRequest>,
    ) -> Result<Option<Reply>, StoreError> {
        let limits = self.config.limits;
        // A payload over a limit, or that nobody could read, is refused without the guest.
        let bytes = ask.input.as_ref().map_or(0, perennial_core::Json::size) as u64;
        let is_readable = |input: &perennial_core::Json| input.check_readable().is_ok();
        if bytes > limits.payload_bytes || !ask.input.as_ref().is_none_or(is_readable) {
            return Ok(None);
        }
        if let Some((_, Some(_))) = reader.request(&ask.instance, &ask.id)? {
            // It was accepted before.
            return Ok(None);
        }
        let Some((module, orchestration)) = self.asked(reader, ask, start)? else {
            return Ok(None);
        };
        let names = self.names();
        let Some(module) = module.filter(|module| names.can_cancel(Some(*module))) else {
            let failure = not_answered(CANNOT_ANSWER);
            return Ok(Some(Reply::Declined(Box::new(failure))));
        };
        let proposal = Proposal {
            orchestration: &orchestration,
            name: &ask.name,
            input: ask.input.as_ref(),
        };
        let limits = names.limits_of(Some(module));
        match self.code.executor.validate(module, &limits, &proposal) {
            Ok(Ok(())) => Ok(None),
            Ok(Err(failure)) => Ok(Some(Reply::Declined(Box::new(failure)))),
            Err(Fault::Host(shortage)) => Err(StoreError::Lacks(shortage)),
            Err(Fault::Instance(_) | Fault::Module(_)) => Ok(None),
        }
    }

    /// The module and the orchestration that would get a request. `None` if no live instance would.
    fn asked(
        &self,
        reader: &Reader,
        ask: &AskRequest,
        start: Option<&StartRequest>,
    ) -> Result<Option<(Option<Digest>, String)>, StoreError> {
        if let Some(row) = reader.instance(&ask.instance)?
            && !row.status.is_end()
        {
            return Ok(Some((row.module, row.name)));
        }
        let Some(start) = start else {
            return Ok(None);
        };
        let names = self.names();
        Ok(
            match names.orchestration(None, &start.name, start.version.as_deref()) {
                Resolved::Module(module, _) => Some((Some(module), start.name.clone())),
                Resolved::Remote => Some((None, start.name.clone())),
                // The start is refused.
                Resolved::Native | Resolved::Unknown => None,
            },
        )
    }
}

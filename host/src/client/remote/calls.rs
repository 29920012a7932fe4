//! Queries sent to a remote host.

use std::time::Duration;

use perennial_core::{Json, Rejection, Status, Timestamp};

use super::{ANSWER_EVERY, ANSWER_TIMEOUT, Call, Remote, instance};
use crate::client::body::{
    BulkStep, CollectedModules, ErrorBody, EventBody, NewKeyBody, ReasonBody, RequestBody,
    StartBody,
};
use crate::client::instances::start::StartFor;
use crate::client::instances::status::Show;
use crate::client::json::{Counts, NEVER};
use crate::client::{
    AccessKey, BulkProgress, Error, HistoryPage, HubHosts, HubStats, InstanceFamily, InstanceLogs,
    InstanceStatus, ModuleInfo, NamedValue, NewAccessKey, Overview, OverviewQuery, Page,
    PendingEvent, RecordedHistory, RequestStatus, Result, Retention, Role, StoredModule, Wait,
    Workers,
};
use crate::engine::AskRequest;
use crate::store::{CollectedModule, InstanceFilter, ListQuery, Order};

impl Call {
    /// Adds the conditions of a filter.
    /// Adds a time, if there is one.
    fn moment(self, name: &'static str, time: Option<Timestamp>) -> Self {
        match time {
            Some(time) => self.query(name, moment(time)),
            None => self,
        }
    }

    fn filter(mut self, filter: &InstanceFilter) -> Self {
        for status in &filter.statuses {
            self = self.query("status", status.name());
        }
        for (key, value) in &filter.tags {
            self = self.query("tag", format!("{key}={value}"));
        }
        let texts = [
            ("name", &filter.name),
            ("version", &filter.version),
            ("idPrefix", &filter.id_prefix),
            ("failureKind", &filter.failure_kind),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                self = self.query(name, text);
            }
        }
        let times = [
            ("createdFrom", filter.created_from),
            ("createdTo", filter.created_to),
            ("endedFrom", filter.ended_from),
            ("endedTo", filter.ended_to),
            ("updatedFrom", filter.updated_from),
            ("updatedTo", filter.updated_to),
        ];
        for (name, time) in times {
            self = self.moment(name, time);
        }
        if let Some(wait) = &filter.waits_for {
            self = self.query("waitsFor", wait.to_string());
        }
        self
    }
}

/// A time that the host can parse: times beyond the calendar become its last.
fn moment(at: Timestamp) -> String {
    match at.to_string() {
        text if text == NEVER => "9999-12-31T00:00:00Z".to_owned(),
        text => text,
    }
}

impl Remote {
    pub(crate) async fn status(&self, id: &str, show: Show) -> Result<Option<InstanceStatus>> {
        // No instance has an invalid id.
        let Ok(path) = instance(id, &[]) else {
            return Ok(None);
        };
        let call = Call::get(&path)
            .flag("input", show.input)
            .flag("history", show.history)
            .query("historyOutput", show.history_output.to_string());
        self.instance(call).await
    }

    /// The instance as soon as it differs from a known state, or its state at the end of the wait.
    pub(crate) async fn changed(
        &self,
        id: &str,
        seen: &InstanceStatus,
        limit: Duration,
    ) -> Result<Option<InstanceStatus>> {
        let call = Call::get(&instance(id, &["wait"])?)
            .query("for", "change")
            .query("since", seen.stamp())
            .query("timeout", limit.as_secs_f64().to_string())
            .within(Some(limit + ANSWER_TIMEOUT));
        self.instance(call).await
    }

    /// A named value; with `unlike` the value as soon as its version is not this one, or as it is at the end of the wait.
    pub(crate) async fn value(
        &self,
        id: &str,
        name: &str,
        unlike: Option<(u64, Duration)>,
    ) -> Result<Option<NamedValue>> {
        // No instance has an invalid id.
        let Ok(path) = instance(id, &["values", name]) else {
            return Ok(None);
        };
        let mut call = Call::get(&path);
        if let Some((version, limit)) = unlike {
            let limit = limit.min(ANSWER_EVERY);
            call = call
                .query("since", version.to_string())
                .query("timeout", limit.as_secs_f64().to_string())
                .within(Some(limit + ANSWER_TIMEOUT));
        }
        self.find(call).await
    }

    pub(crate) async fn values(&self, id: &str) -> Result<Option<Vec<NamedValue>>> {
        let Ok(path) = instance(id, &["values"]) else {
            return Ok(None);
        };
        self.find(Call::get(&path)).await
    }

    /// A request to an instance; with a limit as soon as it has an answer, or as it is at the end of the wait.
    pub(crate) async fn request(
        &self,
        id: &str,
        request_id: &str,
        limit: Option<Duration>,
    ) -> Result<RequestStatus> {
        // No instance has an invalid id.
        let Ok(path) = instance(id, &["requests", request_id]) else {
            return Err(Error::rejected(id, Rejection::NotFound));
        };
        let limit = limit.unwrap_or_default().min(ANSWER_EVERY);
        let call = Call::get(&path)
            .query("timeout", limit.as_secs_f64().to_string())
            .within(Some(limit + ANSWER_TIMEOUT));
        self.ask(call).await
    }

    pub(crate) async fn requests(&self, id: &str) -> Result<Option<Vec<RequestStatus>>> {
        let Ok(path) = instance(id, &["requests"]) else {
            return Ok(None);
        };
        self.find(Call::get(&path)).await
    }

    pub(crate) async fn logs(&self, id: &str) -> Result<Option<InstanceLogs>> {
        let Ok(path) = instance(id, &["logs"]) else {
            return Ok(None);
        };
        self.find(Call::get(&path)).await
    }

    pub(crate) async fn pending_events(&self, id: &str) -> Result<Option<Vec<PendingEvent>>> {
        let Ok(path) = instance(id, &["pending-events"]) else {
            return Ok(None);
        };
        self.find(Call::get(&path)).await
    }

    /// Sends a request to an instance, which is started before if there is none. Waits for the answer as a request may.
    pub(crate) async fn ask_instance(
        &self,
        ask: &AskRequest,
        start: Option<StartFor>,
        limit: Duration,
    ) -> Result<RequestStatus> {
        let limit = limit.min(ANSWER_EVERY);
        let body = RequestBody {
            name: ask.name.clone(),
            request_id: Some(ask.id.clone()),
            input: ask.input.clone(),
            start: start.map(StartBody::from),
        };
        let call = Call::post(&instance(&ask.instance, &["requests"])?)
            .query("timeout", limit.as_secs_f64().to_string())
            .within(Some(limit + ANSWER_TIMEOUT));
        self.ask(call.json(&body)?).await
    }

    /// Starts an instance if there is none, and raises an event for it. Returns whether it was started.
    pub(crate) async fn start_with_event(
        &self,
        start: StartFor,
        name: &str,
        data: Option<Json>,
    ) -> Result<bool> {
        let body = StartBody {
            event: Some(EventBody {
                name: name.to_owned(),
                data,
            }),
            ..StartBody::from(start)
        };
        let (status, _) = self.send(Call::post(&["instances"]).json(&body)?).await?;
        Ok(status == reqwest::StatusCode::CREATED)
    }

    pub(crate) async fn history(
        &self,
        id: &str,
        from: u64,
        hide: (bool, bool),
        before_rewind: Option<u32>,
        after: Option<&str>,
    ) -> Result<Option<HistoryPage>> {
        let Ok(path) = instance(id, &["history"]) else {
            return Ok(None);
        };
        let mut call = Call::get(&path)
            .query("input", (!hide.0).to_string())
            .query("output", (!hide.1).to_string());
        if let Some(rewind) = before_rewind {
            call = call.query("beforeRewind", rewind.to_string());
        }
        if from > 0 {
            call = call.query("from", from.to_string());
        }
        if let Some(after) = after {
            call = call.query("after", after);
        }
        self.find(call).await
    }

    /// A page of a recorded history.
    pub(crate) async fn recorded(
        &self,
        id: &str,
        after: Option<&str>,
    ) -> Result<Option<RecordedHistory>> {
        let Ok(path) = instance(id, &["export"]) else {
            return Ok(None);
        };
        let mut call = Call::get(&path);
        if let Some(after) = after {
            call = call.query("after", after);
        }
        self.find(call).await
    }

    pub(crate) async fn family(&self, id: &str, limit: usize) -> Result<Option<InstanceFamily>> {
        let Ok(path) = instance(id, &["family"]) else {
            return Ok(None);
        };
        let call = Call::get(&path).query("limit", limit.to_string());
        self.find(call).await
    }

    pub(crate) async fn list(
        &self,
        query: &ListQuery,
        after: Option<&str>,
        show_input: bool,
    ) -> Result<Page> {
        let mut call = Call::get(&["instances"])
            .filter(&query.filter)
            .query("limit", query.limit.to_string())
            .flag("input", show_input)
            .flag("output", query.output);
        call = match query.order {
            Order::NewestFirst => call,
            Order::OldestFirst => call.query("order", "oldestFirst"),
            Order::EndedFirst => call.query("order", "endedFirst"),
        };
        if let Some(after) = after {
            call = call.query("after", after);
        }
        self.ask(call).await
    }

    pub(crate) async fn counts(&self, filter: &InstanceFilter) -> Result<Vec<(Status, u64)>> {
        let call = Call::get(&["counts"]).filter(filter);
        Ok(self.ask::<Counts>(call).await?.into())
    }

    /// Changes many instances, without a time limit. `options` are dry run and recursive. `told` receives each progress line of the host;
    /// older hosts send none.
    pub(crate) async fn bulk(
        &self,
        action: &str,
        filter: &InstanceFilter,
        (dry_run, recursive, as_of): (bool, bool, Option<Timestamp>),
        reason: Option<String>,
        told: Option<&mut (dyn FnMut(BulkProgress) + Send)>,
    ) -> Result<BulkProgress> {
        let call = Call::post(&["bulk", action])
            .filter(filter)
            .query("all", "true")
            .flag("dryRun", dry_run)
            .flag("recursive", recursive)
            .moment("asOf", as_of)
            .within(None)
            .json(&ReasonBody { reason })?;
        let Some(told) = told else {
            return self.ask(call).await;
        };
        let mut lines = self.lines(call).await?;
        loop {
            let line = lines.next(self).await?;
            let Some(line) = line else {
                return Err(self.strange("its answer ended before the operation did"));
            };
            let step: BulkStep = serde_json::from_slice(&line)
                .map_err(|error| self.strange(format!("a step cannot be read: {error}")))?;
            match step {
                BulkStep::Step(step) if lines.are_lines => told(step),
                BulkStep::Over { over } | BulkStep::Step(over) => return Ok(over),
                BulkStep::Error(ErrorBody { error }) => {
                    return Err(Error::answered(error.code, error.message));
                }
            }
        }
    }

    pub(crate) async fn modules(&self) -> Result<Vec<ModuleInfo>> {
        self.ask(Call::get(&["modules"])).await
    }

    pub(crate) async fn stored_modules(&self) -> Result<Vec<StoredModule>> {
        self.ask(Call::get(&["stored-modules"])).await
    }

    pub(crate) async fn stored_module(&self, name_or_digest: &str) -> Result<StoredModule> {
        self.ask(Call::get(&["stored-modules", name_or_digest]))
            .await
    }

    /// The component of a stored module.
    pub(crate) async fn component(&self, name_or_digest: &str) -> Result<Vec<u8>> {
        let call = Call::get(&["modules", name_or_digest, "component"]);
        let (_, component) = self.send(call.within(None)).await?;
        Ok(component)
    }

    pub(crate) async fn collectable(&self, old_versions: bool) -> Result<Vec<CollectedModule>> {
        self.collect(old_versions, true).await
    }

    /// Deletes unreferenced modules, or only lists them.
    pub(super) async fn collect(
        &self,
        old_versions: bool,
        dry_run: bool,
    ) -> Result<Vec<CollectedModule>> {
        let call = Call::post(&["collect"])
            .flag("oldVersions", old_versions)
            .flag("dryRun", dry_run);
        Ok(self.ask::<CollectedModules>(call).await?.0)
    }

    pub(crate) async fn create_key(&self, name: &str, role: Role) -> Result<NewAccessKey> {
        let name = name.to_owned();
        let call = Call::post(&["keys"]).json(&NewKeyBody { name, role })?;
        self.ask(call).await
    }

    pub(crate) async fn keys(&self) -> Result<Vec<AccessKey>> {
        self.ask(Call::get(&["keys"])).await
    }

    pub(crate) async fn retention(&self) -> Result<Retention> {
        self.ask(Call::get(&["hub", "retention"])).await
    }

    pub(crate) async fn stats(&self) -> Result<HubStats> {
        self.ask(Call::get(&["hub", "stats"])).await
    }

    pub(crate) async fn overview(&self, query: &OverviewQuery) -> Result<Overview> {
        let call = Call::get(&["overview"]);
        let parameters = query.parameters().into_iter();
        self.ask(parameters.fold(call, |call, (name, value)| call.query(name, value)))
            .await
    }

    pub(crate) async fn hosts(&self) -> Result<HubHosts> {
        self.ask(Call::get(&["hosts"])).await
    }

    /// Of its hosts, only the one that runs an instance.
    pub(crate) async fn hosts_of(&self, id: &str) -> Result<HubHosts> {
        self.ask(Call::get(&["hosts"]).query("instance", id)).await
    }

    pub(crate) async fn workers(&self) -> Result<Workers> {
        self.ask(Call::get(&["workers"])).await
    }

    /// Reads one instance. Its JSON has the quarantine outside the waits, which contain only its reason.
    async fn instance(&self, call: Call) -> Result<Option<InstanceStatus>> {
        let mut found: Option<InstanceStatus> = self.find(call).await?;
        if let Some(status) = &mut found
            && let Some(quarantine) = &status.quarantine
        {
            for wait in &mut status.waits_for {
                if let Wait::Quarantine(why) = wait {
                    why.as_mut().clone_from(quarantine);
                }
            }
        }
        Ok(found)
    }
}

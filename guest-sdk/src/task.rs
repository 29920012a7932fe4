//! Activities, children and requests as tasks: scheduled, awaited, cancelled.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::bindings::orchestrations::{self as wit, Action};
use crate::execution::{Execution, Outcome};
use crate::payload::Payload;
use crate::time::millis;
use crate::{Context, Failure, RetryPolicy, TaskId};

impl Context {
    /// Calls an activity by a name that is known only when it runs. [`call`](Self::call) checks the types, where they are known.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn both(ctx: Context, order: u32) -> Result<(String, u32), Failure> {
    ///     let label = ctx.activity("PrintLabel", order).start();
    ///     let weight = ctx.activity("Weigh", order).retry(RetryPolicy::new(3, Duration::from_secs(1))).start();
    ///     Ok((label.await?, weight.await?))
    /// }
    /// ```
    pub fn activity<T>(&self, name: impl Into<String>, input: impl Serialize) -> ActivityCall<T> {
        let name = name.into();
        let input = Payload::Input {
            of: "activity",
            name: &name,
        }
        .encode(&input);
        ActivityCall::new(self.execution(), name, input)
    }

    /// Runs an orchestration as a child, by a name that is known only when it runs. [`call_child`](Self::call_child) checks the types,
    /// where they are known.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn ship_all(ctx: Context, orders: Vec<u32>) -> Result<Vec<String>, Failure> {
    ///     let children = orders.iter().map(|order| ctx.child("Ship", order).instance_id(format!("ship-{order}")).tag("kind", "shipping"));
    ///     try_join_all(children).await
    /// }
    /// ```
    pub fn child<T>(
        &self,
        orchestration: impl Into<String>,
        input: impl Serialize,
    ) -> ChildCall<T> {
        let name = orchestration.into();
        let input = Payload::Input {
            of: "orchestration",
            name: &name,
        }
        .encode(&input);
        ChildCall::new(self.execution(), name, input)
    }
}

/// A task that was started: a future of its result. Dropping it cancels the task; see [`detach`](Self::detach).
///
/// To cancel an activity is to have no further attempt, and the running one interrupted. To cancel a child orchestration is to wait for it
/// no longer, and its outcome is ignored: by default it runs on by itself, with its activities; with
/// [`when_dropped`](ChildCall::when_dropped) it is asked to cancel, or terminated. To end a child and wait for it, use
/// [`cancel_child`](Self::cancel_child) or [`terminate_child`](Self::terminate_child). To cancel a request is to ignore its answer; the
/// other instance may act on it all the same.
///
/// Its outcome is `Err` with the task's failure once no retry is left, or with `InvalidOutput` if the result is not a `T`.
#[must_use = "dropping a task cancels it: await it, or `.detach()` it"]
pub struct Task<T> {
    state: TaskState,
    of: &'static str,
    name: String,
    result: PhantomData<fn() -> T>,
}

enum TaskState {
    /// Never scheduled, since its input could not be written.
    Unsent(Option<Failure>),
    Open(OpenTask),
    Over,
}

impl<T> Task<T> {
    /// Its id. None once it is over, or if it could not be scheduled.
    pub fn id(&self) -> Option<TaskId> {
        match &self.state {
            TaskState::Open(task) => task.id,
            TaskState::Unsent(_) | TaskState::Over => None,
        }
    }

    /// Lets the task run without anybody waiting for it. The instance completes only when it has ended, unless it is a request; its outcome
    /// is ignored.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it could not be scheduled.
    pub fn detach(mut self) -> Result<(), Failure> {
        match std::mem::replace(&mut self.state, TaskState::Over) {
            TaskState::Unsent(Some(failure)) => return Err(failure),
            TaskState::Open(task) => task.detach(),
            TaskState::Unsent(None) | TaskState::Over => {}
        }
        Ok(())
    }
}

impl<T> Task<T> {
    /// Asks a child to end in good order. It still has to be awaited, and fails with [`Canceled`](crate::kind::CANCELED) if it ends for
    /// that. Means nothing for an activity, nor for a child that has ended.
    pub fn cancel_child(&self, reason: impl Into<String>) {
        self.command(wit::ChildCommandKind::Cancel, reason.into());
    }

    /// Terminates a child. It still has to be awaited, and fails with [`Terminated`](crate::kind::TERMINATED). Means nothing for an
    /// activity, nor for a child that has ended.
    pub fn terminate_child(&self, reason: impl Into<String>) {
        self.command(wit::ChildCommandKind::Terminate, reason.into());
    }

    fn command(&self, command: wit::ChildCommandKind, reason: String) {
        if let TaskState::Open(task) = &self.state
            && self.of == <wit::ChildCall as Plan>::OF
        {
            task.command(command, Some(reason));
        }
    }

    /// The same task, whatever its result is.
    pub(crate) fn ignore_output(self) -> Task<IgnoredAny> {
        Task {
            state: self.state,
            of: self.of,
            name: self.name,
            result: PhantomData,
        }
    }

    /// A name for messages: `activity "SayHello"`.
    pub(crate) fn describe(&self) -> String {
        format!("{} {:?}", self.of, self.name)
    }
}

impl<T: DeserializeOwned> Future for Task<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (outcome, id) = match &mut this.state {
            TaskState::Unsent(failure) => {
                return Poll::Ready(Err(failure.take().unwrap_or_else(|| over())));
            }
            TaskState::Open(task) => (task::ready!(task.poll(cx)), task.id),
            TaskState::Over => over(),
        };
        this.state = TaskState::Over;
        Poll::Ready(match outcome {
            Ok(output) => Payload::Output {
                of: this.of,
                name: &this.name,
            }
            .decode(output.as_deref()),
            Err(failure) => Err(Failure::from_wit(failure, id)),
        })
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("of", &self.of)
            .field("name", &self.name)
            .field("id", &self.id())
            .finish()
    }
}

fn over() -> ! {
    panic!("a task was polled after it had given its result")
}

/// A task whose outcome was not taken yet. Dropping it cancels the task.
pub(crate) struct OpenTask {
    execution: Rc<Execution>,
    /// None if it was to begin when the execution was cancelled, and did not.
    id: Option<TaskId>,
    taken: bool,
}

impl OpenTask {
    pub(crate) fn schedule(
        execution: Rc<Execution>,
        action: impl FnOnce(TaskId) -> Action,
    ) -> Self {
        let id = execution.schedule(action);
        Self {
            execution,
            id,
            taken: false,
        }
    }

    pub(crate) fn id(&self) -> Option<TaskId> {
        self.id
    }

    pub(crate) fn poll(&mut self, cx: &task::Context<'_>) -> Poll<Outcome> {
        let outcome = match self.id {
            Some(id) => task::ready!(self.execution.poll_task(id, cx)),
            None => Err(self.execution.never_began()),
        };
        self.taken = true;
        Poll::Ready(outcome)
    }

    fn detach(mut self) {
        if let Some(id) = self.id {
            self.execution.detach_task(id);
        }
        self.taken = true;
    }

    /// Tells the child that it is to end.
    fn command(&self, command: wit::ChildCommandKind, reason: Option<String>) {
        if let Some(task) = self.id {
            let command = wit::ChildCommand {
                task,
                command,
                reason,
            };
            self.execution.act(Action::CommandChild(command));
        }
    }
}

impl Drop for OpenTask {
    fn drop(&mut self) {
        if let Some(id) = self.id.filter(|_| !self.taken) {
            self.execution.abandon_task(id);
        }
    }
}

/// A call, before and after it is scheduled.
pub(crate) enum Call<P, T> {
    Planned {
        execution: Rc<Execution>,
        plan: Result<P, Failure>,
    },
    Started(Task<T>),
    /// A placeholder while one becomes the other.
    Between,
}

/// A planned call, which becomes an action when it is scheduled.
pub(crate) trait Plan: Sized {
    const OF: &'static str;
    fn name(&self) -> &str;
    fn action(self, task: TaskId) -> Action;
}

impl Plan for wit::ActivityCall {
    const OF: &'static str = "activity";

    fn name(&self) -> &str {
        &self.name
    }

    fn action(self, task: TaskId) -> Action {
        Action::CallActivity(Self { task, ..self })
    }
}

impl Plan for wit::ChildCall {
    const OF: &'static str = "orchestration";

    fn name(&self) -> &str {
        &self.name
    }

    fn action(self, task: TaskId) -> Action {
        Action::CallChild(Self { task, ..self })
    }
}

impl<P: Plan, T> Call<P, T> {
    pub(crate) fn new(execution: Rc<Execution>, plan: Result<P, Failure>) -> Self {
        Self::Planned { execution, plan }
    }

    /// Changes the plan, while it is one.
    fn adjust(mut self, change: impl FnOnce(&mut P)) -> Self {
        match &mut self {
            Self::Planned { plan: Ok(plan), .. } => change(plan),
            Self::Planned { plan: Err(_), .. } => {}
            Self::Started(_) | Self::Between => {
                panic!("a call was changed after it had been scheduled")
            }
        }
        self
    }

    pub(crate) fn start(self) -> Task<T> {
        let (execution, plan) = match self {
            Self::Planned { execution, plan } => (execution, plan),
            Self::Started(task) => return task,
            Self::Between => unreachable!("no call stays between its states"),
        };
        let (name, state) = match plan {
            Ok(plan) => {
                let name = plan.name().to_owned();
                (
                    name,
                    TaskState::Open(OpenTask::schedule(execution, |task| plan.action(task))),
                )
            }
            Err(failure) => (String::new(), TaskState::Unsent(Some(failure))),
        };
        Task {
            state,
            of: P::OF,
            name,
            result: PhantomData,
        }
    }
}

impl<P: Plan, T: DeserializeOwned> Call<P, T> {
    pub(crate) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<T, Failure>> {
        if let Self::Planned { .. } = self {
            *self = Self::Started(std::mem::replace(self, Self::Between).start());
        }
        match self {
            Self::Started(task) => Pin::new(task).poll(cx),
            Self::Planned { .. } | Self::Between => unreachable!("it was just started"),
        }
    }
}

/// A call of an activity, made by [`Context::activity`](crate::Context::activity).
///
/// It is a future: the activity is scheduled when that is first polled, or at once by [`start`](Self::start).
#[must_use = "a call is scheduled when it is awaited or started"]
pub struct ActivityCall<T>(Call<wit::ActivityCall, T>);

impl<T> ActivityCall<T> {
    pub(crate) fn new(
        execution: Rc<Execution>,
        name: String,
        input: Result<String, Failure>,
    ) -> Self {
        let plan = input.map(|input| wit::ActivityCall {
            task: 0,
            name,
            input: Some(input),
            retry: None,
            attempt_timeout: None,
            heartbeat_timeout: None,
            at_most_once: false,
        });
        Self(Call::new(execution, plan))
    }

    /// Has the host try again what fails.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        Self(self.0.adjust(|plan| plan.retry = Some(policy.to_wit())))
    }

    /// Has the host fail an attempt with `Timeout` after this long.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        Self(
            self.0
                .adjust(|plan| plan.attempt_timeout = Some(millis(timeout))),
        )
    }

    /// Has the host fail an attempt with [`HeartbeatTimeout`](crate::kind::HEARTBEAT_TIMEOUT) that has sent no
    /// [heartbeat](crate::ActivityContext::heartbeat) for so long. The retry policy applies to it.
    ///
    /// An activity that a remote worker runs sends none: it fails after this long.
    pub fn heartbeat_timeout(self, timeout: Duration) -> Self {
        Self(
            self.0
                .adjust(|plan| plan.heartbeat_timeout = Some(millis(timeout))),
        )
    }

    /// Has the host start no attempt after one whose outcome is unknown: because the host died or stopped while it ran, its worker was lost, or it
    /// took too long. The call fails with [`OutcomeUnknown`](crate::kind::OUTCOME_UNKNOWN) then. What an attempt returns as its failure is known,
    /// and the retry policy applies to it.
    ///
    /// Each attempt costs one more commit. Without it, an activity runs at least once.
    pub fn at_most_once(self) -> Self {
        Self(self.0.adjust(|plan| plan.at_most_once = true))
    }

    /// Has the host try again what fails, unless it was told how before.
    pub(crate) fn retry_unless_set(self, policy: &RetryPolicy) -> Self {
        Self(self.0.adjust(|plan| {
            plan.retry.get_or_insert_with(|| policy.to_wit());
        }))
    }

    /// Schedules it now, and returns the future of its result.
    pub fn start(self) -> Task<T> {
        self.0.start()
    }
}

impl<T: DeserializeOwned> Future for ActivityCall<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

/// A call of a child orchestration, made by [`Context::child`](crate::Context::child).
///
/// It is a future: the child is scheduled when that is first polled, or at once by [`start`](Self::start). Dropped after that, the child
/// runs on by itself; see [`Task`].
#[must_use = "a call is scheduled when it is awaited or started"]
pub struct ChildCall<T>(Call<wit::ChildCall, T>);

impl<T> ChildCall<T> {
    pub(crate) fn new(
        execution: Rc<Execution>,
        name: String,
        input: Result<String, Failure>,
    ) -> Self {
        let plan = input.map(|input| wit::ChildCall {
            task: 0,
            name,
            version: None,
            instance_id: None,
            input: Some(input),
            tags: Vec::new(),
            retry: None,
            reuse: wit::IdReuse::Ended,
            when_dropped: wit::ChildPolicy::Abandon,
            execution_timeout: None,
        });
        Self(Call::new(execution, plan))
    }

    /// Names the child's instance. Without this the host derives an id from this execution's and the task's.
    ///
    /// While an instance with this id lives the call fails with [`InstanceExists`](crate::kind::INSTANCE_EXISTS). That of one that has ended
    /// is used again, so that the next round of an eternal orchestration, or a restart, may call its children by the same names; what
    /// that one left is replaced. [`never_reuse`](Self::never_reuse) forbids it.
    pub fn instance_id(self, id: impl Into<String>) -> Self {
        Self(self.0.adjust(|plan| plan.instance_id = Some(id.into())))
    }

    /// Fails with [`InstanceExists`](crate::kind::INSTANCE_EXISTS) also where the instance that has the id has ended.
    pub fn never_reuse(self) -> Self {
        Self(self.0.adjust(|plan| plan.reuse = wit::IdReuse::Never))
    }

    /// Says what becomes of the child when nobody waits for it any more: because the future was dropped, as by a [`race`](crate::race)
    /// that it loses, or because this instance ended or continued as new. By default it runs on by itself.
    pub fn when_dropped(self, policy: wit::ChildPolicy) -> Self {
        Self(self.0.adjust(|plan| plan.when_dropped = policy))
    }

    /// Asks the child to cancel after this long, each attempt anew; it then fails with [`Timeout`](crate::kind::TIMEOUT).
    pub fn execution_timeout(self, limit: Duration) -> Self {
        Self(
            self.0
                .adjust(|plan| plan.execution_timeout = Some(millis(limit))),
        )
    }

    /// Runs this version, not the newest deployed one.
    pub fn version(self, version: impl Into<String>) -> Self {
        Self(self.0.adjust(|plan| plan.version = Some(version.into())))
    }

    /// Adds a tag to the child's instance.
    pub fn tag(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self(
            self.0
                .adjust(|plan| plan.tags.push((key.into(), value.into()))),
        )
    }

    /// Has the host try again what fails, each time as a new instance.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        Self(self.0.adjust(|plan| plan.retry = Some(policy.to_wit())))
    }

    /// Has the host try again what fails, unless it was told how before.
    pub(crate) fn retry_unless_set(self, policy: &RetryPolicy) -> Self {
        Self(self.0.adjust(|plan| {
            plan.retry.get_or_insert_with(|| policy.to_wit());
        }))
    }

    /// Schedules it now, and returns the future of its result.
    pub fn start(self) -> Task<T> {
        self.0.start()
    }
}

impl<T: DeserializeOwned> Future for ChildCall<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

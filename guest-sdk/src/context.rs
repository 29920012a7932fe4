//! What an orchestration works with.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use crate::bindings::orchestrations::{Action, OutgoingEvent};
use crate::combine;
use crate::execution::Execution;
use crate::failure::Continued;
use crate::payload::Payload;
use crate::typed::Exported;
use crate::{
    ActivityCall, ChildCall, EventStream, EventWait, Failure, HttpCall, HttpRequest, Saga, Timer,
    Timestamp, TypedActivity, TypedOrchestration,
};

pub use crate::bindings::orchestrations::Parent;

/// What an orchestration works with: everything it asks of the world, and everything it may know of it.
///
/// An orchestration must do the same each time it is given the same events. What is here does; and nothing else can be reached from
/// an orchestration's sandbox, where time stands still and randomness is fixed. Clones share one execution.
#[derive(Clone)]
pub struct Context(Rc<Execution>);

impl Context {
    pub(crate) fn new(execution: Rc<Execution>) -> Self {
        Self(execution)
    }

    pub(crate) fn execution(&self) -> Rc<Execution> {
        Rc::clone(&self.0)
    }

    pub(crate) fn exported(&self) -> Exported {
        Exported(self.0.component)
    }

    // Tasks.

    /// Calls an activity with its types checked: a function that [`export!`](crate::export!) lists, or an
    /// [`ActivityName`](crate::ActivityName).
    ///
    /// Await the result, or [`start`](ActivityCall::start) several and then await them. The function does not run here: it is what tells
    /// the compiler the types, and the SDK the name, which is the first one that `export!` gives it. One that is not listed there fails
    /// with `NotExported`.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// fn say_hello(city: String) -> Result<String, Failure> {
    ///     Ok(format!("Hello {city}!"))
    /// }
    ///
    /// async fn hello(ctx: Context, city: String) -> Result<usize, Failure> {
    ///     let greeting = ctx.call(say_hello, city).retry(RetryPolicy::new(3, Duration::from_secs(1))).await?;
    ///     Ok(greeting.len())
    /// }
    ///
    /// perennial_sdk::export! { orchestrations: { "Hello" => hello }, activities: { "SayHello" => say_hello } }
    /// # fn main() {}
    /// ```
    ///
    /// A misspelt name, an input or an output of another type, and an orchestration in an activity's place do not compile:
    ///
    /// ```compile_fail,E0425
    /// # use perennial_sdk::prelude::*;
    /// # fn say_hello(city: String) -> Result<String, Failure> { Ok(city) }
    /// # async fn hello(ctx: Context) -> Result<(), Failure> {
    /// ctx.call(say_helo, "Tokyo".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0308
    /// # use perennial_sdk::prelude::*;
    /// # fn say_hello(city: String) -> Result<String, Failure> { Ok(city) }
    /// # async fn hello(ctx: Context) -> Result<(), Failure> {
    /// ctx.call(say_hello, 42_u32).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0308
    /// # use perennial_sdk::prelude::*;
    /// # fn say_hello(city: String) -> Result<String, Failure> { Ok(city) }
    /// # async fn hello(ctx: Context) -> Result<(), Failure> {
    /// let greeting: u32 = ctx.call(say_hello, "Tokyo".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0277
    /// # use perennial_sdk::prelude::*;
    /// # async fn greet(ctx: Context, city: String) -> Result<String, Failure> { Ok(city) }
    /// # async fn hello(ctx: Context) -> Result<(), Failure> {
    /// ctx.call(greet, "Tokyo".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<A, Args>(&self, activity: A, input: A::Input) -> ActivityCall<A::Output>
    where
        A: TypedActivity<Args>,
        A::Input: Serialize,
    {
        match activity.resolve(self.exported()) {
            Ok(name) => self.activity(name, input),
            Err(failure) => ActivityCall::new(self.execution(), String::new(), Err(failure)),
        }
    }

    /// Runs an orchestration as a child with its types checked: a function that [`export!`](crate::export!) lists, in the version that is
    /// given there, or an [`OrchestrationName`](crate::OrchestrationName). As [`call`](Self::call) otherwise.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn ship(_: Context, order: u32) -> Result<String, Failure> {
    ///     Ok(format!("{order} is on its way"))
    /// }
    ///
    /// async fn ship_all(ctx: Context, orders: Vec<u32>) -> Result<Vec<String>, Failure> {
    ///     try_join_all(orders.into_iter().map(|order| ctx.call_child(ship, order))).await
    /// }
    ///
    /// perennial_sdk::export! { orchestrations: { "Ship" => ship, "ShipAll" => ship_all } }
    /// # fn main() {}
    /// ```
    ///
    /// ```compile_fail,E0308
    /// # use perennial_sdk::prelude::*;
    /// # async fn ship(_: Context, order: u32) -> Result<String, Failure> { Ok(String::new()) }
    /// # async fn ship_all(ctx: Context) -> Result<String, Failure> {
    /// ctx.call_child(ship, "seven").await
    /// # }
    /// ```
    pub fn call_child<C, Args>(&self, orchestration: C, input: C::Input) -> ChildCall<C::Output>
    where
        C: TypedOrchestration<Args>,
        C::Input: Serialize,
    {
        match orchestration.resolve(self.exported()) {
            Ok((name, Some(version))) => self.child(name, input).version(version),
            Ok((name, None)) => self.child(name, input),
            Err(failure) => ChildCall::new(self.execution(), String::new(), Err(failure)),
        }
    }

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

    /// Sends an HTTP request, as an activity that comes with the host. The deployment has to grant the host that it goes to:
    /// `perennial deploy --allow-http api.example.com`.
    ///
    /// What comes out is the response, whatever its status, or a failure where there is none: `HttpFailed`, `HttpNotGranted`, `Timeout` or
    /// `LimitExceeded`. Redirects are followed, to hosts that are granted. A request may be sent more than once, like any activity.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn weather(ctx: Context, city: String) -> Result<String, Failure> {
    ///     let request = HttpRequest::get(format!("https://api.example.com/weather/{city}")).header_from_env("authorization", "API_TOKEN");
    ///     let response = ctx.http(request).retry(RetryPolicy::new(5, Duration::from_secs(1)).backoff(2.0)).await?;
    ///     Ok(response.error_for_status()?.text())
    /// }
    /// ```
    pub fn http(&self, request: HttpRequest) -> HttpCall {
        HttpCall::new(self.execution(), &request)
    }

    /// A durable timer that fires this long after [`now`](Self::now), counted in whole milliseconds, rounded up.
    pub fn timer(&self, duration: Duration) -> Timer {
        self.timer_at(self.now() + duration)
    }

    /// A durable timer that fires at this time, or at once if that is past.
    pub fn timer_at(&self, time: Timestamp) -> Timer {
        Timer::new(self.execution(), time)
    }

    /// Makes a future of each item and runs at most `max_parallel` at once. The results are in the order of the items.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn resize_all(ctx: Context, pictures: Vec<String>) -> Result<Vec<u64>, Failure> {
    ///     ctx.map(pictures, 8, |picture| ctx.activity("Resize", picture)).await.into_iter().collect()
    /// }
    /// ```
    pub async fn map<I, F: Future>(
        &self,
        items: impl IntoIterator<Item = I>,
        max_parallel: usize,
        make: impl FnMut(I) -> F,
    ) -> Vec<F::Output> {
        combine::map(items, max_parallel, make).await
    }

    /// Runs steps that are undone if a later one fails. The body registers with [`on_failure`](Saga::on_failure) what undoes a step. If it
    /// returns a failure, by `?` or otherwise, what was registered is called in reverse, one after the other, and each is
    /// [tried again](crate::Compensation) if it fails. What comes out is the failure of the body; for each compensation that could not be
    /// carried out it has a cause of the kind `CompensationFailed`, and the others run all the same.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn order(ctx: Context, item: String) -> Result<String, Failure> {
    ///     ctx.saga(async |saga| {
    ///         let reservation = ctx.call(reserve, item).await?;
    ///         saga.on_failure(ctx.call(release, reservation));
    ///         let receipt = ctx.call(charge, reservation).retry(RetryPolicy::new(3, Duration::from_secs(5))).await?;
    ///         Ok(receipt)
    ///     })
    ///     .await
    /// }
    /// # fn reserve(_: String) -> Result<u32, Failure> { Ok(1) }
    /// # fn release(_: u32) -> Result<(), Failure> { Ok(()) }
    /// # fn charge(_: u32) -> Result<String, Failure> { Ok(String::new()) }
    /// # perennial_sdk::export! {
    /// #     orchestrations: { "Order" => order },
    /// #     activities: { "Reserve" => reserve, "Release" => release, "Charge" => charge },
    /// # }
    /// # fn main() {}
    /// ```
    ///
    /// Nothing is undone if the body succeeds or continues as new, if the saga is dropped, as by a [`race`](crate::race) that it loses, or
    /// if the instance is terminated. To limit the time of a saga, race inside it and return a failure. A client that rewinds the instance
    /// afterwards goes back to the step that failed, and not to before what was undone: restart it instead.
    ///
    /// # Errors
    ///
    /// Those of the body.
    pub async fn saga<T, F>(&self, body: F) -> Result<T, Failure>
    where
        F: AsyncFnOnce(&Saga) -> Result<T, Failure>,
    {
        let saga = Saga::new();
        match body(&saga).await {
            Err(failure) if !failure.is_continuation() => Err(saga.compensate(failure).await),
            result => result,
        }
    }

    // Events and other instances.

    /// Waits for the next external event of this name, in any case. Events are kept until somebody waits for them.
    pub fn event<T>(&self, name: impl AsRef<str>) -> EventWait<T> {
        EventWait::new(self.execution(), name.as_ref())
    }

    /// The external events of this name, in any case, as a stream that does not end.
    pub fn events<T>(&self, name: impl AsRef<str>) -> EventStream<T> {
        EventStream::new(self.execution(), name.as_ref())
    }

    /// Sends an external event to an instance. Nobody is told if that does not exist or has ended.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if serde cannot write the data.
    pub fn send_event(
        &self,
        instance_id: impl Into<String>,
        name: impl Into<String>,
        data: impl Serialize,
    ) -> Result<(), Failure> {
        let name = name.into();
        let data = Payload::EventData { name: &name }.encode(&data)?;
        self.0.act(Action::SendEvent(OutgoingEvent {
            instance_id: instance_id.into(),
            name,
            data: Some(data),
        }));
        Ok(())
    }

    /// Shows a value to clients until it is replaced, also when the orchestration continues as new.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if serde cannot write it.
    pub fn set_custom_status(&self, status: impl Serialize) -> Result<(), Failure> {
        let status = Payload::CustomStatus.encode(&status)?;
        self.0.act(Action::SetCustomStatus(Some(status)));
        Ok(())
    }

    /// Takes the custom status away.
    pub fn clear_custom_status(&self) {
        self.0.act(Action::SetCustomStatus(None));
    }

    /// Tells people why the instance waits, until the note is replaced. An empty one takes it away.
    pub fn note(&self, note: impl Into<String>) {
        self.0.note(note.into());
    }

    // Ending.

    /// Ends this execution and starts the next one of the same instance with this input and a fresh history. Return the value:
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn counter(ctx: Context, count: u64) -> Result<(), Failure> {
    ///     ctx.event::<()>("Increment").await?;
    ///     ctx.continue_as_new(count + 1)
    /// }
    /// ```
    ///
    /// Open tasks are dropped; external events that were not consumed move over. [`continuation`](Self::continuation) has options.
    ///
    /// # Errors
    ///
    /// Always: an execution that ends so has no result. It counts as continued, not as failed, when the orchestration returns this.
    pub fn continue_as_new<O>(&self, input: impl Serialize) -> Result<O, Failure> {
        self.continuation(input).end()
    }

    /// Like [`continue_as_new`](Self::continue_as_new), with options: return the value of [`end`](Continuation::end).
    pub fn continuation(&self, input: impl Serialize) -> Continuation {
        let input = Payload::Input {
            of: "orchestration",
            name: &self.0.start.name,
        }
        .encode(&input);
        Continuation {
            input,
            version: None,
            keep_events: true,
        }
    }

    // Knowing.

    /// The time. It stands still during a turn, and a replay sees the times that were seen first.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.turn().now)
    }

    /// A new identifier: a version 5 UUID of the instance, the execution and a counter.
    #[must_use]
    pub fn new_uuid(&self) -> Uuid {
        self.0.uuid()
    }

    /// A random number: SplitMix64, seeded by the host when the execution starts. Not for secrets.
    #[must_use]
    #[doc(alias = "random")]
    pub fn random_u64(&self) -> u64 {
        self.0.random_u64()
    }

    /// A random number in `0.0..1.0`: the upper 53 bits of [`random_u64`](Self::random_u64).
    #[must_use]
    pub fn random_f64(&self) -> f64 {
        self.0.random_f64()
    }

    /// The id that clients manage this instance by.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.0.start.instance_id
    }

    /// The id of this execution; continue-as-new and restart start the next.
    #[must_use]
    pub fn execution_id(&self) -> &str {
        &self.0.start.execution_id
    }

    /// The name of this orchestration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.start.name
    }

    /// The version of the definition that runs.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.0.start.version.as_deref()
    }

    /// Who called this as a child.
    #[must_use]
    pub fn parent(&self) -> Option<&Parent> {
        self.0.start.parent.as_ref()
    }

    /// The tags of this instance.
    #[must_use]
    pub fn tags(&self) -> &[(String, String)] {
        &self.0.start.tags
    }

    /// The W3C trace context of who started this.
    #[must_use]
    pub fn trace_parent(&self) -> Option<&str> {
        self.0.start.trace_parent.as_deref()
    }

    /// The number of events recorded for this execution before this turn: when it grows large, [`continue_as_new`](Self::continue_as_new).
    #[must_use]
    pub fn history_events(&self) -> u32 {
        self.0.turn().history_events
    }

    /// The size of what was recorded for this execution before this turn.
    #[must_use]
    pub fn history_bytes(&self) -> u64 {
        self.0.turn().history_bytes
    }
}

/// How an execution continues as new, made by [`Context::continuation`].
#[must_use = "nothing happens before `.end()` is returned"]
pub struct Continuation {
    input: Result<String, Failure>,
    version: Option<String>,
    keep_events: bool,
}

impl Continuation {
    /// Goes on with this version, not the newest deployed one.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Drops the external events that were received and not consumed.
    pub fn discard_events(mut self) -> Self {
        self.keep_events = false;
        self
    }

    /// The value to return.
    ///
    /// # Errors
    ///
    /// Always, like [`Context::continue_as_new`].
    pub fn end<O>(self) -> Result<O, Failure> {
        Err(Failure::continued(Continued {
            input: Some(self.input?),
            version: self.version,
            keep_events: self.keep_events,
        }))
    }
}

//! Starting instances without waiting for them.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::bindings::orchestrations::{Action, IdReuse, InstanceStart as WitInstanceStart};
use crate::execution::Execution;
use crate::payload::Payload;
use crate::time::millis;
use crate::typed::Exported;
use crate::{Context, Failure, TypedOrchestration};

impl Context {
    /// Starts an instance that this one does not wait for, by a name that is known only when it runs. [`launch`](Self::launch) checks the
    /// types, where they are known.
    ///
    /// The host skips it if an instance with this id lives, if the name is unknown or if there is no room, and says so in the history and in
    /// its log; nobody else is told. The id of an instance that has ended is used again: what that one left is replaced.
    ///
    /// ```
    /// # use perennial_sdk::prelude::*;
    /// # fn audit(ctx: &Context) -> Result<(), Failure> {
    /// ctx.start_instance("audit-7", "Audit", 7).tag("kind", "audit").start()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_instance(
        &self,
        instance_id: impl Into<String>,
        orchestration: impl Into<String>,
        input: impl Serialize,
    ) -> InstanceStart {
        let name = orchestration.into();
        let input = Payload::Input {
            of: "orchestration",
            name: &name,
        }
        .encode(&input);
        let start = input.map(|input| WitInstanceStart {
            instance_id: instance_id.into(),
            name,
            version: None,
            input: Some(input),
            tags: Vec::new(),
            reuse: IdReuse::Ended,
            execution_timeout: None,
        });
        InstanceStart {
            execution: self.execution(),
            start,
        }
    }

    /// Starts an instance that this one does not wait for, with its types checked: of a function that [`export!`](crate::export!) lists,
    /// in the version that is given there, or of an [`OrchestrationName`](crate::OrchestrationName).
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn audit(_: Context, order: u32) -> Result<(), Failure> {
    ///     info!("order {order} was looked at");
    ///     Ok(())
    /// }
    ///
    /// async fn ship(ctx: Context, order: u32) -> Result<(), Failure> {
    ///     ctx.launch(audit, format!("audit-{order}"), order).start()
    /// }
    ///
    /// perennial_sdk::export! { orchestrations: { "Audit" => audit, "Ship" => ship } }
    /// # fn main() {}
    /// ```
    ///
    /// ```compile_fail,E0308
    /// # use perennial_sdk::prelude::*;
    /// # async fn audit(_: Context, order: u32) -> Result<(), Failure> { Ok(()) }
    /// # fn ship(ctx: &Context) -> Result<(), Failure> {
    /// ctx.launch(audit, "audit-7", "seven").start()
    /// # }
    /// ```
    pub fn launch<C, Args>(
        &self,
        orchestration: C,
        instance_id: impl Into<String>,
        input: C::Input,
    ) -> InstanceStart
    where
        C: TypedOrchestration<Args>,
        C::Input: Serialize,
    {
        let execution = self.execution();
        match orchestration.resolve(Exported(&*execution.names)) {
            Ok((name, Some(version))) => self
                .start_instance(instance_id, name, input)
                .version(version),
            Ok((name, None)) => self.start_instance(instance_id, name, input),
            Err(failure) => InstanceStart {
                execution,
                start: Err(failure),
            },
        }
    }
}

/// An instance to start, made by [`Context::start_instance`] or [`Context::launch`].
#[must_use = "nothing starts before `.start()`"]
pub struct InstanceStart {
    execution: Rc<Execution>,
    start: Result<WitInstanceStart, Failure>,
}

impl InstanceStart {
    /// Runs this version, not the newest deployed one.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        if let Ok(start) = &mut self.start {
            start.version = Some(version.into());
        }
        self
    }

    /// Adds a tag to the instance.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        if let Ok(start) = &mut self.start {
            start.tags.push((key.into(), value.into()));
        }
        self
    }

    /// Does not start it also where the instance that has the id has ended.
    pub fn never_reuse(mut self) -> Self {
        if let Ok(start) = &mut self.start {
            start.reuse = IdReuse::Never;
        }
        self
    }

    /// Asks it to cancel after this long; it then fails with [`Timeout`](crate::kind::TIMEOUT).
    pub fn execution_timeout(mut self, limit: Duration) -> Self {
        if let Ok(start) = &mut self.start {
            start.execution_timeout = Some(millis(limit));
        }
        self
    }

    /// Asks the host to start it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if serde cannot write the input, `NotExported` for a function that [`export!`](crate::export!) does not list.
    pub fn start(self) -> Result<(), Failure> {
        self.execution.act(Action::StartInstance(self.start?));
        Ok(())
    }
}

//! Cancel, terminate, suspend and resume.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use perennial_core::{CANCELLATION_GRACE, Millis};

use crate::client::{Client, Error, Result};
use crate::engine::Request;
use crate::store::Reply;

/// The most children of earlier instances that one termination reaches.
const STRAYS_MAX: u32 = 10_000;

/// A command to an instance. Await it: it returns when the command is durable.
#[derive(Clone, Debug)]
#[must_use = "a command is sent when it is awaited"]
pub struct InstanceCommand {
    client: Client,
    id: String,
    reason: Option<String>,
    kind: Kind,
    recursive: bool,
    grace: Millis,
}

/// What a command to an instance did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The command is durable. It takes effect soon, or has done so already.
    Accepted,
    /// The instance was already in the state that the command leads to: suspended, or not suspended. Nothing was changed, except that a
    /// [recursive](InstanceCommand::recursive) command also goes to the descendants.
    Unchanged,
}

impl CommandOutcome {
    /// Whether the command applied to the instance itself.
    pub fn is_changed(self) -> bool {
        self == Self::Accepted
    }

    fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Nothing => Self::Unchanged,
            _ => Self::Accepted,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Cancel,
    Terminate,
    Suspend,
    Resume,
}

/// What a cancellation does, for the texts of the command line and of the dashboard.
#[doc(hidden)]
#[macro_export]
macro_rules! cancel_explained {
    () => {
        "The orchestration is told: what it awaits ends with the failure Canceled, sagas compensate, and the instance ends as Terminated \
         with the reason, unless its author wrote otherwise. What has not ended after the grace period, a minute by default, is terminated. \
         An instance that has not begun ends at once, and so does one that cannot be told: of a module for contract 0.1, or of a remote \
         worker. A suspended instance is told when it is resumed, and its grace period begins then; until then it does not end."
    };
}

/// What becomes of the children of an instance that is terminated, for the texts of the command line and of the dashboard.
#[doc(hidden)]
#[macro_export]
macro_rules! terminated_children_explained {
    () => {
        "Its running activities go on, and so do its children, but for those whose start says that they are cancelled or terminated when \
         their parent ends"
    };
}

impl Client {
    fn instance_command(&self, kind: Kind, id: &str, reason: Option<&str>) -> InstanceCommand {
        InstanceCommand {
            client: self.clone(),
            id: id.to_owned(),
            reason: reason.map(str::to_owned),
            kind,
            recursive: false,
            grace: CANCELLATION_GRACE,
        }
    }

    /// Asks an instance to end in good order. Await the returned value.
    ///
    /// The orchestration is told: what it awaits ends with the failure `Canceled`, sagas compensate, and the instance ends as `Terminated`
    /// with this reason, unless its author wrote otherwise. What has not ended after the [grace](InstanceCommand::grace) period is terminated.
    /// An instance that has not begun ends at once, and so does one that cannot be told: of a module for contract 0.1, of a remote worker, or
    /// whose orchestration has returned. A suspended instance is told when it is resumed, and its grace period begins then; until then its
    /// status has a [`pending_cancellation`](crate::InstanceStatus::pending_cancellation). The first request counts.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use std::time::Duration;
    ///
    /// client.cancel("order-17", Some("ordered twice")).grace(Duration::from_secs(600)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self, id: &str, reason: Option<&str>) -> InstanceCommand {
        self.instance_command(Kind::Cancel, id, reason)
    }

    /// Terminates an instance. Await the returned value.
    ///
    /// An instance that has not started ends at once. Any other ends soon after: wait for completion to be sure. Running activities
    /// are not affected, and of its children only those whose start says so are cancelled or terminated, unless the command is
    /// [recursive](InstanceCommand::recursive): then it also stops what still runs below an instance that has ended. The first reason is kept.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// client.terminate("order-17", Some("ordered twice")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate(&self, id: &str, reason: Option<&str>) -> InstanceCommand {
        self.instance_command(Kind::Terminate, id, reason)
    }

    /// Suspends an instance until it is resumed. Running activities finish, and their results are kept. Await the returned value.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// client.suspend("order-17", Some("the warehouse is closed")).recursive().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn suspend(&self, id: &str, reason: Option<&str>) -> InstanceCommand {
        self.instance_command(Kind::Suspend, id, reason)
    }

    /// Resumes a suspended instance. Everything that arrived meanwhile is delivered in order. Await the returned value.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// client.resume("order-17", None).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn resume(&self, id: &str, reason: Option<&str>) -> InstanceCommand {
        self.instance_command(Kind::Resume, id, reason)
    }

    /// Continues a quarantined instance on another module, given by its name or the first digits of its digest, such as a corrected version
    /// of its own module. If the module does not replay the history, the instance stays quarantined, and its status shows the difference.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if the instance or module does not exist, [`Error::is_wrong_state`] if the instance has ended or is not
    /// quarantined.
    pub async fn resume_on(&self, id: &str, module: &str, reason: Option<&str>) -> Result<()> {
        if let Some(remote) = self.remote() {
            let (module, reason) = (module.to_owned(), reason.map(str::to_owned));
            return remote.resume_on(id, module, reason).await;
        }
        let digest = self.find_module(module).await?;
        let instance = id.to_owned();
        let name = self
            .read(move |reader| {
                let Some(row) = reader.instance(&instance)? else {
                    return Ok(None);
                };
                let defines = reader.defines(digest, &row.name)?;
                Ok((!defines).then_some(row.name))
            })
            .await?;
        if let Some(name) = name {
            return Err(Error::invalid(format!(
                "module {module} defines no orchestration {name:?}, which is what instance {id:?} runs"
            )));
        }
        self.submit(
            id,
            Request::Resume {
                id: id.to_owned(),
                reason: reason.map(str::to_owned),
                module: Some(digest),
                recursive: false,
            },
        )
        .await
        .map(|_| ())
    }
}

impl InstanceCommand {
    /// Includes all descendants of the instance. A recursive termination also interrupts running activities of modules. It is the only
    /// command that reaches live children of an earlier instance with this id that was purged or replaced.
    pub fn recursive(self) -> Self {
        self.recursive_if(true)
    }

    /// How long a cancelled instance has to clean up before it is terminated; a minute by default. Means nothing for other commands.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Millis(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// As [`recursive`](Self::recursive), if the argument is true.
    pub fn recursive_if(mut self, recursive: bool) -> Self {
        self.recursive = recursive;
        self
    }
}

impl IntoFuture for InstanceCommand {
    /// Fails with [`Error::is_not_found`] if the instance does not exist, and [`Error::is_wrong_state`] if it has ended.
    type Output = Result<CommandOutcome>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                client,
                id,
                reason,
                kind,
                recursive,
                grace,
            } = self;
            let about = id.clone();
            let strays = match kind {
                Kind::Terminate if recursive && client.remote().is_none() => {
                    client.strays(&id).await?
                }
                Kind::Cancel | Kind::Terminate | Kind::Suspend | Kind::Resume => Vec::new(),
            };
            let why = reason.clone();
            let request = match kind {
                Kind::Cancel => Request::Cancel {
                    id,
                    reason,
                    grace,
                    recursive,
                },
                Kind::Terminate => Request::Terminate {
                    id,
                    reason,
                    recursive,
                },
                Kind::Suspend => Request::Suspend {
                    id,
                    reason,
                    recursive,
                },
                Kind::Resume => Request::Resume {
                    id,
                    reason,
                    module: None,
                    recursive,
                },
            };
            let done = client.submit(&about, request).await;
            if done.as_ref().is_err_and(Error::is_other_run) {
                return done.map(|reply| CommandOutcome::of(&reply));
            }
            // They are children of other runs.
            let client = client.for_any_run();
            let mut ended = 0;
            for id in strays {
                let stray = Request::Terminate {
                    id: id.clone(),
                    reason: why.clone(),
                    recursive: true,
                };
                match client.submit(&id, stray).await {
                    Ok(_) => ended += 1,
                    // The child ended or was deleted meanwhile.
                    Err(error) if error.is_wrong_state() || error.is_not_found_instance() => {}
                    Err(error) => return Err(error),
                }
            }
            match done {
                Err(error)
                    if ended > 0 && (error.is_wrong_state() || error.is_not_found_instance()) =>
                {
                    Ok(CommandOutcome::Accepted)
                }
                done => done.map(|reply| CommandOutcome::of(&reply)),
            }
        })
    }
}

impl Client {
    /// The live children of an earlier instance with this id.
    async fn strays(&self, id: &str) -> Result<Vec<String>> {
        let id = id.to_owned();
        let found = self
            .read(move |reader| {
                let key = reader.instance(&id)?.map(|row| row.key);
                reader.left_behind(&id, key, true, STRAYS_MAX)
            })
            .await?;
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }
}

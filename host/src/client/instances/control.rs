//! Terminate, suspend and resume.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use crate::client::{Client, Error, Result};
use crate::engine::Request;

/// Children of earlier instances that one termination reaches.
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
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Terminate,
    Suspend,
    Resume,
}

impl Client {
    fn instance_command(&self, kind: Kind, id: &str, reason: Option<&str>) -> InstanceCommand {
        InstanceCommand {
            client: self.clone(),
            id: id.to_owned(),
            reason: reason.map(str::to_owned),
            kind,
            recursive: false,
        }
    }

    /// Ends an instance from outside. Await what it returns.
    ///
    /// One that has not begun ends at once. Any other ends soon after: wait for the end to be sure. Its children and the activities that run
    /// are not touched, unless it is [recursive](InstanceCommand::recursive): that also stops what is left of an instance that has ended, at
    /// any depth below it. The first reason wins.
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

    /// Holds everything that an instance would do, until it is resumed. Activities that run finish, and their results are kept. Await what it
    /// returns.
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

    /// Lets a suspended instance go on. Everything that arrived meanwhile is delivered in order. Await what it returns.
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

    /// Lets a quarantined instance go on with another module, given by its name or by the first digits of its digest: with one that mends
    /// what is wrong with its own, say. It does where the module repeats its history; otherwise it stays as it is, and its status says what
    /// differs.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such instance or module, [`Error::is_wrong_state`] if it has ended or is not quarantined.
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
    /// For the children of the instance too, and theirs. A termination then also interrupts the activities of modules that run, and
    /// reaches the live children of an earlier instance with this id that was purged or replaced: nothing else does.
    pub fn recursive(self) -> Self {
        self.recursive_if(true)
    }

    /// As [`recursive`](Self::recursive), where `recursive` says so.
    pub fn recursive_if(mut self, recursive: bool) -> Self {
        self.recursive = recursive;
        self
    }
}

impl IntoFuture for InstanceCommand {
    /// The error says with [`Error::is_not_found`] that there is no such instance, with
    /// [`Error::is_wrong_state`] that it has ended.
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                client,
                id,
                reason,
                kind,
                recursive,
            } = self;
            let about = id.clone();
            let strays = match kind {
                Kind::Terminate if recursive && client.remote().is_none() => {
                    client.strays(&id).await?
                }
                Kind::Terminate | Kind::Suspend | Kind::Resume => Vec::new(),
            };
            let why = reason.clone();
            let request = match kind {
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
            let done = client.submit(&about, request).await.map(|_| ());
            let mut ended = 0;
            for id in strays {
                let stray = Request::Terminate {
                    id: id.clone(),
                    reason: why.clone(),
                    recursive: true,
                };
                match client.submit(&id, stray).await {
                    Ok(_) => ended += 1,
                    // It ended by itself meanwhile.
                    Err(error) if error.is_wrong_state() || error.is_not_found_instance() => {}
                    Err(error) => return Err(error),
                }
            }
            match done {
                Err(error)
                    if ended > 0 && (error.is_wrong_state() || error.is_not_found_instance()) =>
                {
                    Ok(())
                }
                done => done,
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

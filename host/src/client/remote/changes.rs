//! Changes sent to a remote host.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use perennial_core::Millis;
use reqwest::Method;

use super::{Call, Remote, instance};
use crate::client::body::{
    CommandAnswer, CommandBody, Deleted, GrantsBody, Inspected, RestartBody, RetentionBody,
    RewindBody, StartBody, TagsAnswer, TagsBody, UploadBody,
};
use crate::client::instances::start::StartFor;
use crate::client::{Deployment, Error, Module, Result, Rewound};
use crate::engine::executor::Grants;
use crate::engine::{Request, StartRequest};
use crate::store::{NewModule, OldVersions, Purged, Reply};

impl Remote {
    pub(crate) async fn submit(&self, request: Request) -> Result<Reply> {
        match request {
            Request::Start(start) => self.start(start).await,
            Request::RaiseEvent { id, name, data } => {
                let call = Call::post(&instance(&id, &["events", &name])?);
                let data = data.map(|data| data.as_str().as_bytes().to_vec());
                self.done(call.bytes("application/json", data.unwrap_or_default()))
                    .await
            }
            Request::Terminate {
                id,
                reason,
                recursive,
            } => {
                self.command(&id, "terminate", reason, recursive, None)
                    .await
            }
            Request::Cancel {
                id,
                reason,
                grace,
                recursive,
            } => {
                self.command(&id, "cancel", reason, recursive, Some(grace))
                    .await
            }
            Request::StartLimited {
                start,
                execution_timeout,
            } => self.start_when(start, None, Some(execution_timeout)).await,
            Request::Suspend {
                id,
                reason,
                recursive,
            } => self.command(&id, "suspend", reason, recursive, None).await,
            Request::Resume {
                id,
                reason,
                recursive,
                ..
            } => self.command(&id, "resume", reason, recursive, None).await,
            Request::Restart(restart) => {
                let call = Call::post(&instance(&restart.id, &["restart"])?);
                let id = Some(restart.new_id.unwrap_or(restart.id));
                self.done(call.json(&RestartBody { id })?).await
            }
            Request::SetTags { id, changes } => {
                let call = Call::new(Method::PATCH, &instance(&id, &["tags"])?);
                let tags = self.ask(call.json(&TagsBody(changes))?).await?;
                let TagsAnswer(tags) = tags;
                Ok(Reply::Tagged(tags))
            }
            Request::PurgeId(id) => self.purge(&id, false).await,
            other => self.submit_of_hub(other).await,
        }
    }

    pub(crate) async fn rewind(&self, id: &str, body: &RewindBody) -> Result<Rewound> {
        let call = Call::post(&instance(id, &["rewind"])?).within(None);
        self.ask(call.json(body)?).await
    }

    /// Requests that do not concern one instance.
    async fn submit_of_hub(&self, request: Request) -> Result<Reply> {
        match request {
            Request::Deploy(module) => self.deploy(*module).await,
            Request::Grant { module, grants } => self.grant(&module, "PUT", grants).await,
            Request::Retain(ages) => {
                let call = Call::new(Method::PUT, &["hub", "retention"]);
                self.done(call.json(&RetentionBody::from(ages))?).await
            }
            Request::RevokeKey { id } => {
                let call = Call::new(Method::DELETE, &["keys", &id]);
                self.done_if_there(call).await
            }
            Request::CollectModules { old } => {
                let old_versions = matches!(old, OldVersions::Forget);
                let modules = self.collect(old_versions, false).await?;
                Ok(Reply::Collected(modules))
            }
            Request::RemoveModule { name, in_use_too } => {
                let call = Call::new(Method::DELETE, &["modules", &name]);
                self.done_if_there(call.flag("inUseToo", in_use_too)).await
            }
            _ => Err(Error::needs_file("this")),
        }
    }

    async fn done(&self, call: Call) -> Result<Reply> {
        self.send(call).await.map(|_| Reply::Done)
    }

    async fn done_if_there(&self, call: Call) -> Result<Reply> {
        match self.done(call).await {
            Err(error) if error.is_absent_there() => Ok(Reply::Nothing),
            done => done,
        }
    }

    async fn start(&self, start: StartRequest) -> Result<Reply> {
        self.start_when(start, None, None).await
    }

    /// Starts an instance after a delay on the host's clock.
    pub(crate) async fn start_after(
        &self,
        start: StartRequest,
        delay: Millis,
        limit: Option<Millis>,
    ) -> Result<()> {
        self.start_when(start, Some(delay), limit).await.map(drop)
    }

    async fn start_when(
        &self,
        start: StartRequest,
        delay: Option<Millis>,
        limit: Option<Millis>,
    ) -> Result<Reply> {
        let body = StartBody::from(StartFor {
            start,
            delay,
            execution_timeout: limit,
        });
        self.done(Call::post(&["instances"]).json(&body)?).await
    }

    async fn command(
        &self,
        id: &str,
        verb: &str,
        reason: Option<String>,
        recursive: bool,
        grace: Option<Millis>,
    ) -> Result<Reply> {
        let call = Call::post(&instance(id, &[verb])?);
        let body = CommandBody {
            reason,
            recursive,
            module: None,
            grace_ms: grace.map(|grace| grace.0),
        };
        let (_, answer) = self.send(call.json(&body)?.within(None)).await?;
        // Hosts before 0.2 answer without a body.
        let answer = serde_json::from_slice::<CommandAnswer>(&answer).ok();
        Ok(match answer {
            Some(CommandAnswer { changed: false }) => Reply::Nothing,
            Some(CommandAnswer { changed: true }) | None => Reply::Done,
        })
    }

    /// Continues a quarantined instance on another module, which the host looks up.
    pub(crate) async fn resume_on(
        &self,
        id: &str,
        module: String,
        reason: Option<String>,
    ) -> Result<()> {
        let call = Call::post(&instance(id, &["resume"])?);
        let body = CommandBody {
            reason,
            recursive: false,
            module: Some(module),
            grace_ms: None,
        };
        self.send(call.json(&body)?).await.map(drop)
    }

    /// Deletes an instance, and its descendants if `recursive`.
    pub(crate) async fn purge(&self, id: &str, recursive: bool) -> Result<Reply> {
        let Ok(path) = instance(id, &[]) else {
            return Ok(Reply::Nothing);
        };
        let call = Call::new(Method::DELETE, &path).flag("recursive", recursive);
        let found = self.find::<Deleted>(call.within(None)).await?;
        Ok(Reply::Purged(Purged {
            deleted: found.map_or(0, |purged| {
                u32::try_from(purged.deleted).unwrap_or(u32::MAX)
            }),
            live: 0,
        }))
    }

    async fn deploy(&self, module: NewModule) -> Result<Reply> {
        let call = Call::new(Method::PUT, &["modules", &module.name])
            .flag("replace", module.replace)
            .within(None);
        let call = if module.grants.is_none() && module.limits.is_none() {
            call.bytes("application/wasm", module.component)
        } else {
            call.json(&UploadBody {
                component: Some(BASE64_STANDARD.encode(module.component)),
                stored: None,
                grants: parsed::<Grants>(module.grants)?.map(GrantsBody::from),
                limits: parsed(module.limits)?,
            })?
        };
        let done: Deployment = self.ask(call).await?;
        Ok(Reply::Deployed(done.names))
    }

    /// Lets the host deploy a module that it has stored.
    pub(crate) async fn deploy_stored(
        &self,
        name: &str,
        stored: String,
        grants: Option<String>,
        limits: Option<String>,
        replace: bool,
    ) -> Result<Deployment> {
        let call = Call::new(Method::PUT, &["modules", name])
            .flag("replace", replace)
            .within(None);
        self.ask(call.json(&UploadBody {
            component: None,
            stored: Some(stored),
            grants: parsed::<Grants>(grants)?.map(GrantsBody::from),
            limits: parsed(limits)?,
        })?)
        .await
    }

    /// Lets the host inspect a module.
    pub(crate) async fn inspect(&self, name: String, component: Vec<u8>) -> Result<Module> {
        let call = Call::post(&["inspect"])
            .within(None)
            .bytes("application/wasm", component.clone());
        let found: Inspected = self.ask(call).await?;
        Ok(Module {
            name,
            digest: found.digest,
            component,
            contract: found.contract,
            definitions: found.definitions,
            imports: found.imports,
        })
    }

    /// Replaces the grants of a module (`PUT`) or adds to them (`POST`).
    pub(crate) async fn grant(&self, module: &str, verb: &str, grants: String) -> Result<Reply> {
        let method = if verb == "PUT" {
            Method::PUT
        } else {
            Method::POST
        };
        let call = Call::new(method, &["modules", module, "grants"]);
        let grants: Grants = serde_json::from_str(&grants)
            .map_err(|error| Error::json("what comes with a module", &error))?;
        self.done_if_there(call.json(&GrantsBody::from(grants))?)
            .await
    }
}

/// Parses the JSON that accompanies a module, such as grants.
fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>> {
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    parsed.map_err(|error| Error::json("what comes with a module", &error))
}
